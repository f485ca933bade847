"""Shared libraries that were built when the package was installed, which takes a C++ compiler."""

import ctypes
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch

DTYPES = {torch.float32: "float32", torch.float64: "float64"}  # that the libraries know
ADDRESS, SIZE, NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


def load(module: str, functions: Mapping[str, tuple[Sequence[Any], Any]]) -> tuple[ctypes.CDLL | None, str | None]:
    """A library, or why there is none.

    Args:
        module: where it lies, as a module's name.
        functions: the types of arguments and result of each of its functions, which it has for each of `DTYPES`.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None, "it was not built: no C++ compiler was found when softmaxes was installed"
    try:
        library = ctypes.CDLL(spec.origin)
        for dtype in DTYPES.values():
            for name, (arguments, returned) in functions.items():
                function = getattr(library, f"softmaxes_{name}_{dtype}")
                function.argtypes, function.restype = list(arguments), returned
    except (OSError, AttributeError) as error:
        return None, f"{spec.origin} does not load: {error}"
    return library, None
