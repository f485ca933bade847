"""Runs in processes of this machine, new ones for each."""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast
from uuid import uuid4

from softmaxes.files import InputError
from softmaxes.lab.comparison.executor import LEFT_ALONE, End, Parcel, Task, work
from softmaxes.lab.devices import Devices
from softmaxes.lab.records import DataCard, Run
from softmaxes.lab.starting import without_script
from softmaxes.lab.stopping import follow_parent, held_back, uninterrupted
from softmaxes.lab.store import Store
from softmaxes.lab.training.places import meet
from softmaxes.lab.training.train import Progress as Step

END_SECONDS = 2.0  # that the other processes of a run have to say what went wrong


class _Group(NamedTuple):
    """The processes of a run, one for each device."""

    run: Run
    processes: list[BaseProcess]
    failures: list[str]  # that were told


class Processes:
    """Processes of this machine, new ones for each run: as many as it has devices.

    Args:
        card: what is known of the data.
        store: holds the data's tensors, and takes checkpoints and results.
        jobs: how many runs at a time.
        devices: what each run is trained on.
    """

    attempts = 1  # what kills a process here kills the next one

    def __init__(self, card: DataCard, store: Store, jobs: int, devices: Devices) -> None:
        self.slots = jobs
        self._given = card, store, devices, jobs
        self._number = devices.number
        self._context = fresh_processes()
        self._running: dict[Connection, tuple[BaseProcess, _Group]] = {}
        self._meetings = TemporaryDirectory(prefix="softmaxes-")

    @property
    def running(self) -> int:
        """How many runs there are."""
        return len({id(group) for _, group in self._running.values()})

    def start(self, run: Run) -> None:
        """Begin a run."""
        task, group = Task(run, *self._given, Parcel.of(run)), _Group(run, [], [])
        meeting = (Path(self._meetings.name) / uuid4().hex).as_uri()
        with uninterrupted(), without_script():
            for rank in range(self._number):
                receiver, sender = self._context.Pipe(duplex=False)
                process = self._context.Process(target=_in_process, args=(task, sender, rank, meeting), daemon=True)
                process.start()
                group.processes.append(process)
                self._running[receiver] = process, group
                sender.close()

    def news(self) -> Iterator[tuple[Run, Step | End]]:
        """Wait until something is heard of some run."""
        for receiver in cast(list[Connection], wait(list(self._running))):
            if receiver not in self._running:  # of a run that has just ended
                continue
            process, group = self._running[receiver]
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                del self._running[receiver]
                if process.exitcode != 0 or group.failures:
                    yield group.run, self._ended(group)
                elif not any(other is group for _, other in self._running.values()):
                    yield group.run, End()
            else:
                if isinstance(message, str):
                    group.failures.append(message)
                else:
                    yield group.run, message

    def _ended(self, group: _Group) -> End:
        """Why a run has no result, after its other processes were stopped."""
        own = [receiver for receiver, (_, other) in self._running.items() if other is group]
        deadline = time.monotonic() + END_SECONDS  # for what they have to say
        while own and (ready := wait(own, max(0.0, deadline - time.monotonic()))):
            for receiver in cast(list[Connection], ready):
                try:
                    if isinstance(message := receiver.recv(), str):
                        group.failures.append(message)
                except EOFError:
                    own.remove(receiver)
        for process in group.processes:  # those that ended are not waited for
            process.join(0 if process.is_alive() else None)
        codes = [process.exitcode for process in group.processes]
        for process in group.processes:
            process.kill()
            process.join()
        self._running = {one: known for one, known in self._running.items() if known[1] is not group}
        told = [failure for failure in group.failures if failure != LEFT_ALONE]
        if told:
            return End(told[0])
        rank, code = next(((rank, code) for rank, code in enumerate(codes) if code not in (0, None)), (0, None))
        which = "its process" if self._number == 1 else f"process {rank + 1} of its {self._number}"
        return End(f"{which} ended with code {code}" if code is not None else LEFT_ALONE, lost=True)

    def close(self) -> None:
        """Stop what still runs."""
        with uninterrupted():
            for process, _ in self._running.values():
                process.kill()
            for process, _ in self._running.values():
                process.join()
            self._meetings.cleanup()


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


def _in_process(task: Task, sender: Connection, rank: int, meeting: str) -> None:
    """One run, or what one of its devices does of it, in a process of its own. When nobody listens any more it ends."""
    follow_parent()

    def tell(message: Step | str) -> None:
        if rank > 0 and not isinstance(message, str):
            return
        try:
            sender.send(message)
        except BrokenPipeError:
            os._exit(1)

    meet(task.devices, rank, meeting)
    work(task, tell)
    if task.devices.number > 1:
        sys.stdout.flush()
        os._exit(0)  # the process group's threads would be waited for
