"""Runs in processes of this machine, a new one for each."""

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from softmaxes.files import InputError
from softmaxes.lab.comparison.executor import End, Parcel, work
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.starting import without_script
from softmaxes.lab.stopping import follow_parent, held_back, uninterrupted
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress as Step


class Processes:
    """Processes of this machine, a new one for each run.

    Args:
        card: what is known of the data.
        store: holds the data's tensors, and takes checkpoints and results.
        jobs: how many at a time.
        device: ``cpu`` or ``cuda``.
    """

    attempts = 1  # what kills a process here kills the next one

    def __init__(self, card: DataCard, store: Store, jobs: int, device: str) -> None:
        self.slots = jobs
        self._given = card, store, device, jobs
        self._context = fresh_processes()
        self._running: dict[Connection, tuple[BaseProcess, Run]] = {}
        self._failures: dict[Connection, str] = {}

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self._running)

    def start(self, run: Run) -> None:
        """Begin a run."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_in_process, args=(run, *self._given, Parcel.of(run), sender), daemon=True
        )
        with uninterrupted(), without_script():
            process.start()
            self._running[receiver] = process, run
        sender.close()

    def news(self) -> Iterator[tuple[Run, Step | End]]:
        """Wait until something is heard of some run."""
        for receiver in cast(list[Connection], wait(list(self._running))):
            process, run = self._running[receiver]
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                del self._running[receiver]
                failure = self._failures.pop(receiver, None)
                lost = failure is None and process.exitcode != 0
                yield run, End(f"its process ended with code {process.exitcode}" if lost else failure, lost)
            else:
                if isinstance(message, str):
                    self._failures[receiver] = message
                else:
                    yield run, message

    def close(self) -> None:
        """Stop what still runs."""
        with uninterrupted():
            for process, _ in self._running.values():
                process.kill()
            for process, _ in self._running.values():
                process.join()


def fresh_processes() -> Any:
    """What makes processes that have torch imported already, each a new one, so that their peak memory is their own."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["softmaxes.lab.quiet", "softmaxes.lab.comparison.executor"])
        with held_back():
            forkserver.ensure_running()
        first = context.Process(target=int, daemon=True)
        try:
            with without_script():
                first.start()  # waits until the server has imported torch, and can be stopped; the others cannot
        except EOFError:
            raise InputError("softmaxes: expected processes that can be started, got one that died at once.") from None
        first.join()
    return context


def _in_process(
    run: Run, card: DataCard, store: Store, device: str, jobs: int, parcel: Parcel, sender: Connection
) -> None:
    """One run, in a process of its own. When nobody listens any more it ends."""
    follow_parent()

    def tell(message: Step | str) -> None:
        try:
            sender.send(message)
        except BrokenPipeError:
            os._exit(1)

    work(run, card, store, device, jobs, parcel, tell)
