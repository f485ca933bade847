"""A list of runs, executed: each in a process of its own, side by side, with progress that can be watched."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softmaxes.lab import InputError
from softmaxes.lab.data import Data
from softmaxes.lab.heads import HEADS
from softmaxes.lab.run import DataCard, Epoch, Result, Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.train import Progress as Step
from softmaxes.lab.train import UnfitError, build, lay_out, train
from softmaxes.trees import paths


def execute(study: Study, data: Data, store: Store, jobs: int, device: str, console: Console) -> list[Result]:
    """Train every run of a study that the store does not hold, and go on with those that were cut off.

    Args:
        study: the runs.
        data: what they are trained on.
        store: holds and takes the results; the caller has its lock.
        jobs: how many runs at a time, each with one thread.
        device: ``cpu`` or ``cuda``.
        console: shows a bar for each running run and one for all; lines where it is not a terminal.

    Returns:
        The results of all runs, in the study's order.

    Raises:
        InputError: a head or the network does not fit the data; or a run failed: the message has the runs and why,
            the others are stored.
        KeyboardInterrupt: stopped by the user; nothing is lost but the epochs in hand.
    """
    card = data.card()
    for setting in dict.fromkeys(run.setting for run in study.runs):
        check(setting, data, card)
    for left in study.left_out:
        console.print(f"{left.head} is left out: {left.reason}", highlight=False, markup=False, soft_wrap=True)
    if not store.has_study():
        store.save_study(study, card)
    waiting = deque(run for run in study.runs if store.result(run) is None)
    if paths.MISSING and device == "cpu" and any(HEADS[run.head].tree or HEADS[run.head].learned for run in waiting):
        console.print(paths.MISSING, highlight=False, markup=False, soft_wrap=True)
    try:
        if waiting:
            lay_out(data, store)
            with _Display(study, waiting, card.train_counts, console) as display:
                _run_all(waiting, card, store, min(jobs, len(waiting)), device, display)
    finally:
        store.tensors().unlink(missing_ok=True)
        if store.results(study):  # until then the folder keeps what was there before
            store.save_study(study, card)
    return store.results(study)


def check(run: Run, data: Data, card: DataCard) -> None:
    """Build what a run would train, and let it go.

    Raises:
        UnfitError: the data cannot serve the head.
        InputError: the network does not fit the data, or the machine.
    """
    try:
        build(run, card, data.train_inputs[:1])
    except UnfitError:
        raise
    except (ValueError, RuntimeError) as error:  # images too small, no memory
        raise InputError(str(error)) from None


def _run_all(waiting: deque[Run], card: DataCard, store: Store, jobs: int, device: str, display: "_Display") -> None:
    context = fresh_processes()
    running: dict[Connection, tuple[BaseProcess, Run]] = {}
    failures: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(run, card, store, device, jobs, sender), daemon=True)
                with uninterrupted():
                    process.start()
                    running[receiver] = process, run
                sender.close()
                display.start(run)
            for receiver in cast(list[Connection], wait(list(running))):
                process, run = running[receiver]
                try:
                    message = receiver.recv()
                except EOFError:
                    process.join()
                    del running[receiver]
                    if process.exitcode != 0:
                        failures.append(f"{run.head}, seed {run.seed}: its process ended with code {process.exitcode}")
                    display.end(run)
                else:
                    if isinstance(message, str):
                        failures.append(f"{run.head}, seed {run.seed}: {message}")
                    else:
                        display.show(run, *message)
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()
    if failures:
        raise InputError("expected every run to end, got " + "; ".join(failures))


def fresh_processes() -> Any:
    """What makes processes that have torch imported already, each a new one, so that their peak memory is their own."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["softmaxes.lab.study"])
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the server inherits: Ctrl-C is for the parent
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)
    return context


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until a process is started and known, so that none is left behind."""
    pressed = []
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


def _work(run: Run, card: DataCard, store: Store, device: str, jobs: int, sender: Connection) -> None:
    """One run, in a process of its own. When nobody listens any more it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    told = 0.0

    def tell(message: str | tuple[int, Epoch | None]) -> None:
        try:
            sender.send(message)
        except BrokenPipeError:
            os._exit(1)

    def watch(progress: Step) -> None:
        nonlocal told
        now = time.monotonic()
        if progress.epoch is not None or now - told > 0.2:
            told = now
            tell((progress.step, progress.epoch))

    try:
        train(run, card, store, device, jobs, watch)
    except InputError as error:
        tell(str(error))
    except Exception as error:  # what went wrong in one run must not take the others along
        traceback.print_exc(file=sys.stderr)
        tell(f"{type(error).__name__}: {error}")


class _Display:
    """Bars on a terminal: one a running run, one for all with the time left. Elsewhere a line an epoch."""

    def __init__(self, study: Study, waiting: Collection[Run], train_counts: Sequence[int], console: Console) -> None:
        self.console = console
        self.steps = {run.key: run.epochs * run.steps_per_epoch(train_counts) for run in waiting}
        self.done = dict.fromkeys(self.steps, 0)
        self.bars: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        held = len(study.runs) - len(waiting)
        note = f"{len(waiting)} runs" + (f", {held} done before" if held else "")
        self.overall = self.progress.add_task("[bold]all runs", total=sum(self.steps.values()), note=note)

    def __enter__(self) -> "_Display":
        if not self.progress.disable:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.progress.disable:
            self.progress.stop()

    def start(self, run: Run) -> None:
        """A run begins."""
        name = f"{run.head}, seed {run.seed}"
        self.bars[run.key] = self.progress.add_task(name, total=self.steps[run.key], note="")

    def show(self, run: Run, step: int, epoch: Epoch | None) -> None:
        """A run has come to a step, and perhaps through an epoch."""
        self.done[run.key] = step
        self.progress.update(self.bars[run.key], completed=step)
        self.progress.update(self.overall, completed=sum(self.done.values()))
        if epoch is not None:
            scores = epoch.scores
            note = "diverged" if scores is None else f"{100 * scores.accuracy:.1f} %"
            self.progress.update(self.bars[run.key], note=f"epoch {epoch.epoch}/{run.epochs}, {note}")
            if not self.console.is_terminal:
                self.console.print(
                    f"{run.head}, seed {run.seed}: epoch {epoch.epoch}/{run.epochs}, test accuracy {note}, "
                    f"{epoch.train_seconds:.1f} s",
                    highlight=False,
                )

    def end(self, run: Run) -> None:
        """A run is over."""
        self.done[run.key] = self.steps[run.key]
        self.progress.update(self.overall, completed=sum(self.done.values()))
        self.progress.remove_task(self.bars.pop(run.key))
