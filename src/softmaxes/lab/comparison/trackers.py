"""What is heard of runs, told to trackers too: TensorBoard's event files, and MLflow on a database without a server.

The process that watches over the runs tells them, never a run itself: they decide nothing, and a run's log is here
wherever it is trained. What a log holds is asked of the log itself, so nothing is told twice and nothing is left out,
wherever a run was cut off and whenever ``--log`` was first given.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console

from softmaxes.files import write_whole
from softmaxes.lab.extras import not_installed
from softmaxes.lab.records import Epoch, LossPoint, Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress as Step
from softmaxes.names import file_name


class Entry(NamedTuple):
    """A number of a run: what it is, and when."""

    tag: str
    step: int  # batches of a training loss, epochs of all else
    value: float


class Tracker(Protocol):
    """Somebody else's log of runs."""

    def held(self, run: Run) -> set[tuple[str, int]]:
        """The tags and steps that the log has of a run."""

    def write(self, run: Run, entries: Sequence[Entry]) -> None:
        """Add numbers of a run."""

    def end(self, run: Run, finished: bool) -> None:
        """Nothing more is to come for now."""


def entries(epochs: Sequence[Epoch] = (), losses: Sequence[LossPoint] = ()) -> Iterator[Entry]:
    """The numbers of epochs and losses; what is not finite is left to the report, which tells of it in words."""
    for point in losses:
        if isfinite(point.loss):
            yield Entry("train/loss", point.step, point.loss)
    for epoch in epochs:
        numbers: dict[str, object] = {"train/epoch_loss": epoch.train_loss, "train/epoch_seconds": epoch.train_seconds}
        if epoch.scores is not None:
            tree = epoch.scores.tree
            numbers |= {f"test/{name}": value for name, value in epoch.scores if name != "tree"}
            numbers |= {f"test/tree/{name}": value for name, value in tree or ()}
        for tag, value in numbers.items():
            if isinstance(value, float | int) and isfinite(value):
                yield Entry(tag, epoch.epoch, float(value))


class TensorBoard:
    """Event files, ``tensorboard/HEAD-SEED-KEY`` for each run; the start of its key tells settings of a head apart."""

    def __init__(self, study: Study, store: Store) -> None:
        self._root = store.directory.absolute() / "tensorboard"  # or s3:/a would be an address
        self._writers: dict[Run, Any] = {}

    def held(self, run: Run) -> set[tuple[str, int]]:
        """The tags and steps in a run's event files, but for a last event that was cut off."""
        from tensorboardX.proto.event_pb2 import Event

        found = set()
        for file in (self._root / _folder(run)).glob("events.*"):
            content, place = file.read_bytes(), 0
            while place + 16 <= len(content):  # length, its checksum, the event, its checksum
                end = place + 12 + int.from_bytes(content[place : place + 8], "little")
                if end + 4 > len(content):
                    break
                event = Event.FromString(content[place + 12 : end])
                found |= {(value.tag, event.step) for value in event.summary.value}
                place = end + 4
        return found

    def write(self, run: Run, entries: Sequence[Entry]) -> None:
        """Add numbers of a run."""
        from tensorboardX import SummaryWriter  # Lightning's would expand $NAME, ~ and A::B in a path

        if run not in self._writers:
            suffix = f".{time.time_ns()}"  # a name by the second alone would be taken again, and the file emptied
            self._writers[run] = SummaryWriter(str(self._root / _folder(run)), filename_suffix=suffix)
        for entry in entries:
            self._writers[run].add_scalar(entry.tag, entry.value, entry.step)
        self._writers[run].flush()

    def end(self, run: Run, finished: bool) -> None:
        """Close a run's file."""
        if (writer := self._writers.pop(run, None)) is not None:
            writer.close()


class MLflow:
    """A database, ``mlflow.db``: an experiment for the study, a run for each run, found again by its key."""

    def __init__(self, study: Study, store: Store) -> None:
        with _quiet():
            from mlflow.tracking import MlflowClient

            folder = store.directory.absolute()
            if not (folder / "mlflow.db").exists():  # one whose tables were not all made can never be used again
                write_whole(
                    folder / "mlflow.db",
                    lambda part: MlflowClient(_address(part)).search_experiments(max_results=1),
                )
            self._client: Any = MlflowClient(_address(folder / "mlflow.db"))
            known = self._client.get_experiment_by_name(study.name)
            artifacts = (folder / "mlflow-artifacts").as_uri()
            self._experiment = (
                known.experiment_id
                if known
                else self._client.create_experiment(study.name, artifact_location=artifacts)
            )
        self._ids: dict[Run, str] = {}

    def held(self, run: Run) -> set[tuple[str, int]]:
        """The tags and steps in the database; a run that it does not know is made there."""
        with _quiet():
            known = self._client.search_runs([self._experiment], f"tags.`softmaxes.key` = '{run.key}'")
            if not known:
                from mlflow.entities import Param

                name, tags = f"{run.head}, seed {run.seed}", {"softmaxes.key": run.key}
                made = self._client.create_run(self._experiment, run_name=name, tags=tags)
                fields = [Param(field, str(value)) for field, value in run]
                self._client.log_batch(made.info.run_id, params=fields)
                self._ids[run] = made.info.run_id
                return set()
            self._ids[run] = known[0].info.run_id
            histories = [self._client.get_metric_history(self._ids[run], tag) for tag in known[0].data.metrics]
            return {(metric.key, metric.step) for history in histories for metric in history}

    def write(self, run: Run, entries: Sequence[Entry]) -> None:
        """Add numbers of a run."""
        with _quiet():
            from mlflow.entities import Metric

            now = int(1000 * time.time())
            for start in range(0, len(entries), 1000):  # more are refused
                numbers = [Metric(entry.tag, entry.value, now, entry.step) for entry in entries[start : start + 1000]]
                self._client.log_batch(self._ids[run], metrics=numbers)

    def end(self, run: Run, finished: bool) -> None:
        """Say whether a run came to its end."""
        with _quiet():
            self._client.set_terminated(self._ids[run], "FINISHED" if finished else "KILLED")


class Known(NamedTuple):
    """How a tracker is made, and what it needs."""

    make: Callable[[Study, Store], Tracker]
    packages: tuple[str, ...]  # as they are imported


TRACKERS: Mapping[str, Known] = {
    "tensorboard": Known(TensorBoard, ("tensorboardX",)),
    "mlflow": Known(MLflow, ("mlflow", "sqlalchemy", "alembic")),
}


def require(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed.

    Raises:
        InputError: a package is missing; the message says what to install.
    """
    from importlib import import_module

    for name in names:
        for package in TRACKERS[name].packages:
            try:
                with _quiet():
                    import_module(package)
            except ModuleNotFoundError:
                raise not_installed(f"--log {name}", package, name) from None


class Logs:
    """The trackers of a study. One that fails is named once and left alone: the runs go on.

    Args:
        names: of trackers, of `TRACKERS`.
        study: what is logged.
        store: holds the results; the logs lie beside them.
        console: told what failed.
    """

    def __init__(self, names: Sequence[str], study: Study, store: Store, console: Console) -> None:
        self._study, self._store, self._console = study, store, console
        self._trackers: dict[str, Tracker] = {}
        self._held: dict[tuple[str, Run], set[tuple[str, int]]] = {}
        require(names)
        for name in names:
            with self._forgiven(name):
                self._trackers[name] = TRACKERS[name].make(study, store)

    def hear(self, run: Run, step: Step) -> None:
        """Log what a step brings, if it brings an epoch or a loss."""
        if self._trackers:
            new = entries([step.epoch] if step.epoch else (), [step.loss] if step.loss else ())
            self._write(run, list(new))

    def close(self) -> None:
        """Log what the stored results have and the logs do not, and end every run that was begun."""
        for run in self._study.runs if self._trackers else ():
            result = self._store.result(run)
            if result is not None:
                self._write(run, list(entries(result.epochs, result.losses)))
            for name in [name for name in self._trackers if (name, run) in self._held]:
                with self._forgiven(name):
                    self._trackers[name].end(run, finished=result is not None)

    def _write(self, run: Run, found: Sequence[Entry]) -> None:
        for name in list(self._trackers) if found else ():
            with self._forgiven(name):
                tracker = self._trackers[name]
                if (name, run) not in self._held:
                    self._held[name, run] = tracker.held(run)
                held = self._held[name, run]
                new = [entry for entry in found if (entry.tag, entry.step) not in held]
                if new:
                    tracker.write(run, new)
                    held |= {(entry.tag, entry.step) for entry in new}

    @contextmanager
    def _forgiven(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of somebody else's package: whatever it is, it does not end the runs
            self._trackers.pop(name, None)
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self._console.print(f"--log {name}: given up after {said}", highlight=False, markup=False, soft_wrap=True)


def _folder(run: Run) -> str:
    return f"{file_name(run.head)}-{run.seed}-{run.key[:8]}"


def _address(path: Path) -> str:
    """The URL of a database whose path may have any letters.

    They are quoted twice: SQLite takes the path as a URL of its own, for not every SQLAlchemy unquotes its part. And
    the driver is named, for MLflow makes the folder of what it takes for a path behind ``sqlite:///``.
    """
    from sqlalchemy.engine import URL

    return URL.create("sqlite+pysqlite", database=path.as_uri(), query={"uri": "true"}).render_as_string()


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow says nothing, neither here nor to its makers."""
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
