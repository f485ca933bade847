"""What is counted on the CPU, whatever the default device."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def on_cpu(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make tensors on the CPU in a function, also where ``torch.set_default_device`` names another device."""

    @wraps(function)
    def on_cpu(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return on_cpu
