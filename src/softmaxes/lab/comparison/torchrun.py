"""Runs in the processes that `torchrun` started: the first one plans, shows and writes, and all train.

Several machines need a folder of results that all of them see: the data set and the checkpoints go through it.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread

import torch
import torch.distributed as dist

from softmaxes.files import InputError
from softmaxes.lab.comparison.display import named
from softmaxes.lab.comparison.executor import End, Parcel, Task, work
from softmaxes.lab.devices import Devices
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.stopping import STOPPING
from softmaxes.lab.store import Store
from softmaxes.lab.training.places import join_torchrun
from softmaxes.lab.training.train import Progress as Step

GRACE_SECONDS = 10.0  # that the first process has to say what went wrong, before the others end


class Torchrun:
    """The processes that `torchrun` started, this one the first of them. They train one run after the other.

    Args:
        card: what is known of the data.
        store: holds the data's tensors, and takes checkpoints and results.
        devices: what each run is trained on: a device for each process.
    """

    attempts = 1
    slots = 1

    def __init__(self, card: DataCard, store: Store, devices: Devices) -> None:
        self._given = card, Store(store.directory.absolute()), devices, 1
        self._messages: SimpleQueue[Step | str | None] = SimpleQueue()
        self._run: Run | None = None
        _join()

    @property
    def running(self) -> int:
        """How many there are."""
        return int(self._run is not None)

    def start(self, run: Run) -> None:
        """Begin a run in all processes."""
        self._run = run
        task = Task(run, *self._given, Parcel.of(run))
        _tell(task)

        def train() -> None:
            try:
                work(task, self._messages.put)
            finally:
                self._messages.put(None)

        Thread(target=train, daemon=True).start()

    def news(self) -> Iterator[tuple[Run, Step | End]]:
        """Wait until something is heard of the run. If it fails nothing more can be trained: the others are stuck."""
        run, message = self._run, self._messages.get()
        if run is None:
            return
        if isinstance(message, str):
            raise InputError(f"{named(run)}: {message}")
        if message is None:
            self._run = None
            yield run, End()
        else:
            yield run, message

    def close(self) -> None:
        """Nothing: `dismiss` does, when the command is done."""


def follow() -> int:
    """In all processes but the first: train what that one says, until it says that all is done."""
    for number in STOPPING:  # a handler of ours would wait while this process waits for others
        signal.signal(number, signal.SIG_DFL)
    _join()
    failures: list[str] = []

    def tell(message: Step | str) -> None:
        if isinstance(message, str):
            failures.append(message)

    while (task := _told()) is not None:
        work(task, tell)
        if failures:
            time.sleep(GRACE_SECONDS)
            print(f"softmaxes: process {os.environ['RANK']}: {failures[0]}", file=sys.stderr)
            return 2
    _leave()
    return 0


def dismiss() -> None:
    """In the first process: let the others end."""
    _join()
    _tell(None)
    _leave()


def _join() -> None:
    if not dist.is_initialized():
        join_torchrun()


def _leave() -> None:
    dist.destroy_process_group()


def _tell(task: Task | None) -> None:
    dist.broadcast_object_list([task], src=0, device=torch.device("cpu"))


def _told() -> Task | None:
    said: list[Task | None] = [None]
    dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    return said[0]
