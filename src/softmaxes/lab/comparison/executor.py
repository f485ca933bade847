"""Where runs are trained: what processes of this machine and a cluster have in common."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch

from softmaxes.files import InputError, said
from softmaxes.lab.devices import Devices
from softmaxes.lab.machine import TOO_LITTLE, too_little
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.resolve import check_unchanged, packed, receive
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress as Step
from softmaxes.lab.training.train import train

LEFT_ALONE = "another of its processes was lost"
OF_OTHERS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


class End(NamedTuple):
    """The last that is heard of a running run."""

    failure: str | None = None  # why it has no result
    lost: bool = False  # whether its process is gone, so that another one may do better


class Executor(Protocol):
    """Where runs are trained: processes of this machine, or a cluster."""

    attempts: int  # how often a run is begun at most, as long as its process is lost

    @property
    def slots(self) -> int:
        """How many runs it takes at a time."""

    @property
    def running(self) -> int:
        """How many it has."""

    def start(self, run: Run) -> None:
        """Begin a run."""

    def news(self) -> Iterator[tuple[Run, Step | End]]:
        """Wait until something is heard of some run; a result has been stored before its end is told."""

    def close(self) -> None:
        """Stop what still runs."""


class Parcel(NamedTuple):
    """What a process that trains needs of the user's own parts."""

    objects: bytes  # that have no importable name
    path: list[str]  # where modules are found

    @classmethod
    def of(cls, run: Run) -> "Parcel":
        """What a run needs."""
        return cls(*packed(part.name for part in run.own)) if run.own else cls(b"", [])


class Task(NamedTuple):
    """What a process is to train."""

    run: Run
    card: DataCard
    store: Store  # holds the data's tensors, and takes checkpoints and results
    devices: Devices
    jobs: int  # how many runs share the machine
    parcel: Parcel


def work(task: Task, tell: Callable[[Step | str], None]) -> None:
    """One run in one thread, wherever: it tells of steps some times a second, of epochs, and of what went wrong.

    Of several devices each has a process that calls this.
    """
    run, card, store, devices, jobs, parcel = task
    torch.set_num_threads(1)
    told = 0.0

    def watch(progress: Step) -> None:
        nonlocal told
        now = time.monotonic()
        if progress.epoch is not None or progress.loss is not None or now - told > 0.2:
            told = now
            tell(progress)

    try:
        if run.own:
            receive(*parcel)
            check_unchanged(run.own)
        train(run, card, store, devices, jobs, watch)
    except InputError as error:
        tell(str(error))
    except OSError as error:
        tell(said(error))
    except (MemoryError, RuntimeError) as error:
        if devices.number > 1 and any(word in str(error) for word in OF_OTHERS):
            tell(LEFT_ALONE)
            return
        if not too_little(error):
            traceback.print_exc(file=sys.stderr)
        tell(TOO_LITTLE if too_little(error) else f"{type(error).__name__}: {error}")
    except Exception as error:  # what went wrong in one run must not take the others along
        traceback.print_exc(file=sys.stderr)
        tell(f"{type(error).__name__}: {error}")
