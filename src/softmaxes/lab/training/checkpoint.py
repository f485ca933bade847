"""Checkpoints: what a run that was cut off needs to go on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # the name alone: nothing is unpickled here
from typing import Any

import torch

from softmaxes.files import InputError


@contextmanager
def opened_checkpoint(device: torch.device, path: Path) -> Iterator[dict[str, Any]]:
    """What a checkpoint holds; whatever does not fit while it is put to use is an error that names the file."""
    with whatever_does_not_fit(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of a file that is refused below
            saved = torch.load(path, map_location=device, weights_only=True)
        check_device(path, saved["device"], device)
        yield saved


@contextmanager
def whatever_does_not_fit(path: Path) -> Iterator[None]:
    """Make of whatever a broken checkpoint leads to an error that names the file."""
    try:
        yield
    except (
        RuntimeError,
        OSError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        UnpicklingError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected a whole checkpoint of tensors and numbers, got a file that does not load as one "
            f"({type(error).__name__}); delete it to start the run anew."
        ) from None


def check_device(path: Path, began: str, device: torch.device) -> None:
    """Refuse to go on elsewhere than where a run began: its numbers would be others."""
    if began != device.type:
        raise InputError(
            f"{path}: expected to go on with --device {began}, on which the run began, got {device.type}; "
            "delete it to start the run anew."
        )
