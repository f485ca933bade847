"""Checkpoints: what a run that was cut off needs to go on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # the name alone: nothing is unpickled here
from typing import Any

from softmaxes.files import InputError
from softmaxes.lab.training.fabric import Fabric


@contextmanager
def opened_checkpoint(fabric: Fabric, path: Path) -> Iterator[dict[str, Any]]:
    """What a checkpoint holds; whatever does not fit while it is put to use is an error that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of a file that is refused below
            saved = fabric.load(path, weights_only=True)
        device = saved["device"]
        if device == fabric.device.type:
            yield saved
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
        raise InputError(
            f"{path}: expected a whole checkpoint of tensors and numbers, got a file that does not load as one "
            f"({type(error).__name__}); delete it to start the run anew."
        ) from None
    if device != fabric.device.type:
        raise InputError(
            f"{path}: expected to go on with --device {device}, on which the run began, got {fabric.device.type}; "
            "delete it to start the run anew."
        )
