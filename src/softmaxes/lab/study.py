"""A list of runs, executed: each in a process of its own, side by side, with progress that can be watched."""

import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol, cast

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softmaxes.files import said
from softmaxes.heads.hierarchical import compiled
from softmaxes.lab import InputError
from softmaxes.lab.backbones import least_numbers
from softmaxes.lab.data import Data, free_memory
from softmaxes.lab.heads import HEADS
from softmaxes.lab.memory import TOO_LITTLE, too_little
from softmaxes.lab.run import DataCard, Result, Run, Study
from softmaxes.lab.stopping import follow_parent, held_back, uninterrupted
from softmaxes.lab.store import Store
from softmaxes.lab.trackers import Logs
from softmaxes.lab.train import Progress as Step
from softmaxes.lab.train import build, lay_out, train


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


def execute(
    study: Study,
    data: Data,
    store: Store,
    jobs: int | None,
    device: str,
    console: Console,
    cluster: str | None = None,
    log: Sequence[str] = (),
) -> list[Result]:
    """Train every run of a study that the store does not hold, and go on with those that were cut off.

    Args:
        study: the runs.
        data: what they are trained on.
        store: holds and takes the results; the caller has its lock.
        jobs: how many runs at a time, each with one thread; on a cluster as many as it has room for, if not given.
        device: ``cpu`` or ``cuda``; on a cluster ``auto`` too.
        console: shows a bar for each running run and one for all; lines where it is not a terminal.
        cluster: ``local`` or the address of a Ray cluster to train on; processes of this machine if not given.
        log: the names of trackers that are told of every epoch, of `softmaxes.lab.trackers.TRACKERS`.

    Returns:
        The results of all runs, in the study's order.

    Raises:
        InputError: a head or the network does not fit the data; or a run failed: the message has the runs and why,
            the others are stored.
        KeyboardInterrupt: stopped by the user; nothing is lost but the epochs in hand, on a cluster the runs in hand.
    """
    card = data.card()
    for setting in dict.fromkeys(run.setting for run in study.runs):
        check(setting, data, card)
    if cluster is not None and data.files is not None:
        raise InputError(
            f"--cluster: expected data that are read into memory, got {data.files['train']}, which is mapped; "
            "save the vectors as .npz."
        )
    for left in study.left_out:
        console.print(f"{left.head} is left out: {left.reason}", highlight=False, markup=False, soft_wrap=True)
    new = not store.has_study()
    if new:
        store.save_study(study, card)
    waiting = deque(run for run in study.runs if store.result(run) is None)
    here = device == "cpu" and cluster is None
    if compiled.MISSING and here and any(HEADS[run.head].tree or HEADS[run.head].learned for run in waiting):
        console.print(compiled.MISSING, highlight=False, markup=False, soft_wrap=True)
    logs = Logs(log, study, store, console)
    try:
        if waiting:
            lay_out(data, store)
            try:
                executor = _executor(cluster, card, store, jobs, device, len(waiting))
            except InputError:  # no such cluster: nothing was begun
                if new:
                    store.forget_study()
                raise
            with Display(study, waiting, card.train_counts, console) as display:
                run_all(waiting, executor, display, logs.hear)
    finally:
        logs.close()
        store.tensors().unlink(missing_ok=True)
        if store.results(study):  # until then the folder keeps what was there before
            store.save_study(study, card)
    return store.results(study)


def _executor(cluster: str | None, card: DataCard, store: Store, jobs: int | None, device: str, runs: int) -> Executor:
    if cluster is None:
        return Processes(card, store, min(jobs or 1, runs), device)
    from softmaxes.lab.cluster import Cluster

    return Cluster(cluster, card, store, jobs, device, runs)


def check(run: Run, data: Data, card: DataCard) -> None:
    """Build what a run would train, and let it go.

    Raises:
        UnfitError: the data cannot serve the head.
        InputError: the network does not fit the data, or the machine.
    """
    if run.validation and not any(map(run.held_out, card.train_counts)):
        raise InputError(
            "--validation: expected a share that holds out an example of some class, got "
            f"{run.validation:g} of at most {max(card.train_counts):,}."
        )
    try:
        needed, free = 4 * least_numbers(run, card), free_memory()
        if free is not None and needed > free:
            raise InputError(
                f"{run.head}: expected a network that is trained in {_gibibytes(free)} of memory, as are free, got one "
                f"that needs {_gibibytes(needed)} or more."
            )
        build(run, card, data.train_inputs[:1])
    except InputError:  # an UnfitError, too
        raise
    except (ValueError, RuntimeError, MemoryError) as error:  # images too small, no memory
        raise InputError(f"{run.head}: {TOO_LITTLE}" if too_little(error) else str(error)) from None


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def run_all(
    waiting: deque[Run],
    executor: Executor,
    display: "Display",
    hear: Callable[[Run, Step], None] = lambda run, step: None,
) -> None:
    """Train runs, as many at a time as there is room for. What fails does not take the others along.

    Args:
        waiting: the runs; none are left of them.
        executor: where they are trained; it is closed at the end.
        display: shows them.
        hear: is told of every run's steps.

    Raises:
        InputError: a run failed, or its process was lost as often as the executor attempts it: the message has them.
    """
    begun: Counter[str] = Counter()
    failures: list[str] = []
    try:
        while waiting or executor.running:
            while waiting and executor.running < executor.slots:
                run = waiting.popleft()
                begun[run.key] += 1
                executor.start(run)
                display.start(run)
            for run, news in executor.news():
                if isinstance(news, Step):
                    display.show(run, news)
                    hear(run, news)
                    continue
                display.end(run)
                said = f"{run.head}, seed {run.seed}: {news.failure}"
                if news.lost and begun[run.key] < executor.attempts:
                    display.console.print(f"{said}; it is begun again", highlight=False, markup=False, soft_wrap=True)
                    waiting.appendleft(run)
                elif news.failure is not None:
                    failures.append(said)
    finally:
        executor.close()
    if failures:
        raise InputError("expected every run to end, got " + "; ".join(failures))


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
        process = self._context.Process(target=_work, args=(run, *self._given, sender), daemon=True)
        with uninterrupted():
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
        context.set_forkserver_preload(["softmaxes.lab.quiet", "softmaxes.lab.study"])
        with held_back():
            forkserver.ensure_running()
        first = context.Process(target=int, daemon=True)
        first.start()  # waits until the server has imported torch, and can be stopped, as the others' start cannot
        first.join()
    return context


def _work(run: Run, card: DataCard, store: Store, device: str, jobs: int, sender: Connection) -> None:
    """One run, in a process of its own. When nobody listens any more it ends."""
    follow_parent()

    def tell(message: Step | str) -> None:
        try:
            sender.send(message)
        except BrokenPipeError:
            os._exit(1)

    work(run, card, store, device, jobs, tell)


def work(run: Run, card: DataCard, store: Store, device: str, jobs: int, tell: Callable[[Step | str], None]) -> None:
    """One run in one thread, wherever: it tells of steps some times a second, of epochs, and of what went wrong."""
    torch.set_num_threads(1)
    told = 0.0

    def watch(progress: Step) -> None:
        nonlocal told
        now = time.monotonic()
        if progress.epoch is not None or progress.loss is not None or now - told > 0.2:
            told = now
            tell(progress)

    try:
        train(run, card, store, device, jobs, watch)
    except InputError as error:
        tell(str(error))
    except OSError as error:
        tell(said(error))
    except (MemoryError, RuntimeError) as error:
        if not too_little(error):
            traceback.print_exc(file=sys.stderr)
        tell(TOO_LITTLE if too_little(error) else f"{type(error).__name__}: {error}")
    except Exception as error:  # what went wrong in one run must not take the others along
        traceback.print_exc(file=sys.stderr)
        tell(f"{type(error).__name__}: {error}")


class Display:
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

    def __enter__(self) -> "Display":
        if not self.progress.disable:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.progress.disable:
            self.progress.stop()

    def start(self, run: Run) -> None:
        """A run begins."""
        self.done[run.key] = 0
        name = f"{run.head}, seed {run.seed}"
        self.bars[run.key] = self.progress.add_task(name, total=self.steps[run.key], note="")

    def show(self, run: Run, step: Step) -> None:
        """A run has come to a step, and perhaps through an epoch."""
        self.done[run.key] = step.step
        epoch = step.epoch
        self.progress.update(self.bars[run.key], completed=step.step)
        self.progress.update(self.overall, completed=sum(self.done.values()))
        if epoch is not None:
            scores = epoch.scores
            note = "diverged" if scores is None else f"{100 * scores.accuracy:.1f} %"
            self.progress.update(self.bars[run.key], note=f"epoch {epoch.epoch}/{run.epochs}, {note}")
            if not self.console.is_terminal:
                part = "test" if run.scored_on == "test" else "held-out"
                self.console.print(
                    f"{run.head}, seed {run.seed}: epoch {epoch.epoch}/{run.epochs}, {part} accuracy {note}, "
                    f"{epoch.train_seconds:.1f} s",
                    highlight=False,
                )

    def end(self, run: Run) -> None:
        """A run is over."""
        self.done[run.key] = self.steps[run.key]
        self.progress.update(self.overall, completed=sum(self.done.values()))
        self.progress.remove_task(self.bars.pop(run.key))
