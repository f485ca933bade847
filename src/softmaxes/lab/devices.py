"""What each run is trained on: a device, or several that share every batch."""

from __future__ import annotations

import os
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from softmaxes.files import InputError
from softmaxes.lab.bounds import check_between
from softmaxes.lab.fields import PositiveInt, Record

Strategy = Literal["ddp", "fsdp", "sharded-head"]
MOST_DEVICES = 10**4


def under_torchrun() -> bool:
    """Whether `torchrun` started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Whether this process does what the first one of `torchrun` says."""
    return under_torchrun() and os.environ.get("RANK", "0") != "0"


def number_of_devices(number: int | None) -> int:
    """How many devices a run has.

    Args:
        number: what was asked for; all processes of `torchrun`, or 1, if nothing was.

    Raises:
        InputError: it is not the number of `torchrun`'s processes.
    """
    if not under_torchrun():
        check_between("--devices", number, 1, MOST_DEVICES)
        return number or 1
    if follows():
        raise RuntimeError("expected the command line under torchrun, as in torchrun -m softmaxes compare.")
    started = int(os.environ["WORLD_SIZE"])
    if number not in (None, started):
        raise InputError(f"--devices: expected {started}, as many as torchrun started processes, got {number}.")
    return started


class Devices(NamedTuple):
    """What each run is trained on."""

    kind: str = "cpu"  # or ``cuda``; on a cluster ``auto`` too
    number: int = 1
    strategy: Strategy = "ddp"  # how several share the work


ONE = Devices()


class Where(Record):
    """Where to train. Each field is an option of the command line."""

    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="Where to train; *auto* takes a GPU if there is one.")
    ] = "auto"
    devices: Annotated[
        PositiveInt | None,
        Field(
            le=MOST_DEVICES,
            description="Devices of each run: GPUs, or with --device cpu processes. They share every batch, so the run "
            "takes the same steps as on one, and its scores differ by rounding alone. Under `torchrun` all of its "
            "processes; else 1 if not given.",
        ),
    ] = None
    strategy: Annotated[
        Strategy,
        Field(
            description="How several devices share a run. *ddp*: each holds the whole network. *fsdp*: each holds a "
            "part of every tensor. *sharded-head*: each holds the rows of a part of the classes, and the rest of the "
            "network whole."
        ),
    ] = "ddp"
