"""A list of runs, executed: each in a process of its own, side by side, with progress that can be watched."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import torch
from rich.console import Console

from softmaxes import Head
from softmaxes.files import InputError
from softmaxes.heads.hierarchical import compiled
from softmaxes.lab.comparison.display import Display, named
from softmaxes.lab.comparison.executor import Executor
from softmaxes.lab.comparison.processes import Processes
from softmaxes.lab.comparison.trackers import Logs
from softmaxes.lab.data.batches import Examples, channels_last, lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import ONE, Devices, under_torchrun
from softmaxes.lab.heads.registry import entry_of, entry_of_ours
from softmaxes.lab.machine import TOO_LITTLE, free_memory, too_little
from softmaxes.lab.records import DataCard, Result, Run, Study
from softmaxes.lab.resolve import is_own, made_by
from softmaxes.lab.store import Store
from softmaxes.lab.training.backbones import least_numbers
from softmaxes.lab.training.classifier import build
from softmaxes.lab.training.places import check_shared
from softmaxes.lab.training.train import Progress as Step
from softmaxes.testing import check_head


def execute(
    study: Study,
    data: Data,
    store: Store,
    jobs: int | None,
    devices: Devices,
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
        devices: what each run is trained on.
        console: shows a bar for each running run and one for all; lines where it is not a terminal.
        cluster: ``local`` or the address of a Ray cluster to train on; processes of this machine if not given.
        log: the names of trackers that are told of every epoch, of `softmaxes.lab.comparison.trackers.TRACKERS`.

    Returns:
        The results of all runs, in the study's order.

    Raises:
        InputError: a head or the network does not fit the data; or a run failed: the message has the runs and why,
            the others are stored.
        KeyboardInterrupt: stopped by the user; nothing is lost but the epochs in hand, on a cluster the runs in hand.
    """
    card = data.card()
    for setting in dict.fromkeys(run.setting for run in study.runs):
        check(setting, data, card, devices)
    if cluster is not None:
        data.check_in_memory("--cluster")
    for left in study.left_out:
        console.print(f"{left.head} is left out: {left.reason}", highlight=False, markup=False, soft_wrap=True)
    new = not store.has_study()
    if new:
        store.save_study(study, card)
    waiting = deque(run for run in study.runs if store.result(run) is None)
    here = devices.kind == "cpu" and cluster is None
    if compiled.MISSING and here and any(entry_of(run.head).tree or entry_of(run.head).growth for run in waiting):
        console.print(compiled.MISSING, highlight=False, markup=False, soft_wrap=True)
    logs = Logs(log, study, store, console)
    try:
        if waiting:
            lay_out(data, store)
            try:
                executor = _executor(cluster, card, store, jobs, devices, len(waiting))
            except InputError:  # no such cluster: nothing was begun
                if new:
                    store.forget_study()
                raise
            with Display(study, waiting, card, console) as display:
                run_all(waiting, executor, display, logs.hear)
    finally:
        logs.close()
        store.tensors().unlink(missing_ok=True)
        if store.results(study):  # until then the folder keeps what was there before
            store.save_study(study, card)
    return store.results(study)


def _executor(
    cluster: str | None, card: DataCard, store: Store, jobs: int | None, devices: Devices, runs: int
) -> Executor:
    if under_torchrun():
        from softmaxes.lab.comparison.torchrun import Torchrun

        return Torchrun(card, store, devices)
    if cluster is None:
        return Processes(card, store, min(jobs or 1, runs), devices)
    from softmaxes.lab.comparison.cluster import Cluster

    return Cluster(cluster, card, store, jobs, devices, runs)


def check(run: Run, data: Data, card: DataCard, devices: Devices = ONE) -> None:
    """Build what a run would train, and let it go.

    Raises:
        UnfitError: the data cannot serve the head.
        InputError: the network does not fit the data, or the machine.
    """
    if run.validation and not any(card.held_out(run)):
        raise InputError(
            "--validation: expected a share that holds out an example of some class, got "
            f"{run.validation:g} of at most {max(card.example_counts or card.train_counts):,}."
        )
    try:
        needed, free = 4 * least_numbers(run, card), free_memory()
        if free is not None and needed > free:
            raise InputError(
                f"{run.head}: expected a network that is trained in {_gibibytes(free)} of memory, as are free, got one "
                f"that needs {_gibibytes(needed)} or more."
            )
        classifier = build(run, card, channels_last(data.train_inputs[:1]))
        if devices.number > 1:
            check_shared(run, classifier, devices)
        if is_own(run.backbone):
            with torch.no_grad():
                some = Examples.of(data.train_inputs[:2], data.train_labels[:2])
                made_by("--backbone", run.backbone, classifier.eval().features, some.batch(some.rows))
        if entry_of_ours(run.head) is None:
            _check_laws(run.head, classifier.head.in_features, card)
    except InputError:  # an UnfitError, too
        raise
    except (ValueError, RuntimeError, MemoryError) as error:  # images too small, no memory
        raise InputError(f"{run.head}: {TOO_LITTLE}" if too_little(error) else str(error)) from None


def _check_laws(head: str, in_features: int, card: DataCard) -> None:
    """Refuse a head of the user's own that breaks a law which takes a moment to check, at the sizes of the data."""
    entry = entry_of(head)

    def make(in_features: int, *, device: object = None, dtype: torch.dtype | None = None) -> Head:
        return entry.build(in_features, card).to(dtype=dtype)

    try:
        check_head(make, in_features, quick=True)
    except InputError:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split()).removeprefix("AssertionError: ")
        raise InputError(f"{head}: expected a head that keeps the laws of softmaxes.testing, got: {told}") from None


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
                said = f"{named(run)}: {news.failure}"
                if news.lost and begun[run.key] < executor.attempts:
                    display.console.print(f"{said}; it is begun again", highlight=False, markup=False, soft_wrap=True)
                    waiting.appendleft(run)
                elif news.failure is not None:
                    failures.append(said)
    finally:
        executor.close()
    if failures:
        raise InputError("expected every run to end, got " + "; ".join(failures))
