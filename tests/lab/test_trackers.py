"""What is heard of runs goes to TensorBoard and MLflow once, and changes no number."""

import io
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import create_engine, text

from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison.execute import execute
from softmaxes.lab.comparison.trackers import TRACKERS, Entry, Logs, TensorBoard, _address, entries
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.devices import Devices
from softmaxes.lab.records import Epoch, LossPoint, Result, Run, Scores, Study
from softmaxes.lab.store import Store
from softmaxes.lab.training import train as training
from softmaxes.lab.training.train import Progress, train
from toy import numbers, toy_data, toy_run

DATA = toy_data()
RUN = toy_run(DATA, "gumbel", epochs=4)
BOTH = ("tensorboard", "mlflow")


def study_of(*runs: Run) -> Study:
    return Study(name="toy", title="toy", description="", runs=runs)


def events(store: Store) -> dict[str, list[Entry]]:
    """What TensorBoard's files hold, by folder, by the reader of the package that wrote them."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # what guards each record

    found: dict[str, list[Entry]] = {}
    for file in sorted((store.directory / "tensorboard").glob("*/events.*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 8], "little")
            record = content[place + 12 : place + 12 + length]
            assert int.from_bytes(content[place + 12 + length : place + 16 + length], "little") == masked_crc32c(record)
            event = Event.FromString(record)
            found.setdefault(file.parent.name, []).extend(
                Entry(value.tag, event.step, value.simple_value) for value in event.summary.value
            )
            place += 16 + length
    return found


def database(store: Store) -> dict[str, list[Entry]]:
    """What MLflow's database holds, by run, asked without MLflow."""
    found: dict[str, list[Entry]] = {}
    connection = sqlite3.connect(store.directory / "mlflow.db")
    query = (
        "select runs.name, key, step, value, status from metrics join runs on runs.run_uuid = metrics.run_uuid "
        "order by step"
    )
    for name, key, step, value, _ in connection.execute(query):
        found.setdefault(name, []).append(Entry(key, step, value))
    connection.close()
    return found


def statuses(store: Store) -> list[str]:
    connection = sqlite3.connect(store.directory / "mlflow.db")
    (found,) = zip(*connection.execute("select status from runs"), strict=True)
    connection.close()
    return list(found)


def expected(result: Result) -> list[Entry]:
    return sorted(entries(result.epochs, result.losses))


def close_to(found: list[Entry], wanted: list[Entry]) -> bool:
    """The same numbers, each once; TensorBoard keeps them in 32 bits."""
    pairs = zip(sorted(found), wanted, strict=True)
    return all(one[:2] == other[:2] and one.value == pytest.approx(other.value, rel=1e-6) for one, other in pairs)


@pytest.mark.slow
def test_the_same_numbers_with_and_without_and_every_one_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = (RUN, toy_run(DATA, "softmax"))
    stores = Store(tmp_path / "without"), Store(tmp_path / "with")
    quiet = Console(file=io.StringIO())
    without, logged = (
        execute(study_of(*runs), DATA, store, 2, Devices("cpu"), quiet, log=log)
        for store, log in zip(stores, ((), BOTH), strict=True)
    )
    assert [numbers(result) for result in logged] == [numbers(result) for result in without]
    assert not {"tensorboard", "mlflow.db"} & {path.name for path in stores[0].directory.iterdir()}
    for _ in range(2):  # the second time there is nothing to train and nothing new to log
        found = events(stores[1])
        assert set(found) == {f"{run.head}-0-{run.key[:8]}" for run in runs}
        for result in logged:
            run = result.run
            assert close_to(found[f"{run.head}-0-{run.key[:8]}"], expected(result))
            assert close_to(database(stores[1])[f"{run.head}, seed 0"], expected(result))
        assert statuses(stores[1]) == ["FINISHED"] * 2
        execute(study_of(*runs), DATA, stores[1], 2, Devices("cpu"), quiet, log=BOTH)
    assert {path.name for path in tmp_path.iterdir()} == {"without", "with"}  # nothing where the command was typed


class Cut(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("last", [2, 6, 11, 15])
def test_a_run_that_goes_on_is_logged_once(last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off between two losses of an epoch that is trained again, or after an epoch and before its checkpoint."""
    monkeypatch.setattr(training, "LOSS_EVERY", 3)
    store, console = Store(tmp_path), Console(file=io.StringIO())
    lay_out(DATA, store)
    logs = Logs(["tensorboard"], study_of(RUN), store, console)

    def watch(progress: Progress) -> None:
        logs.hear(RUN, progress)
        if progress.step == last + 1 and (progress.epoch is not None or last % 4 != 3):
            raise Cut

    with pytest.raises(Cut):
        train(RUN, DATA.card(), store, watch=watch)
    logs.close()
    logs = Logs(["tensorboard"], study_of(RUN), store, console)
    result = train(RUN, DATA.card(), store, watch=lambda progress: logs.hear(RUN, progress))
    logs.close()
    assert len(result.losses) == 5
    (found,) = events(store).values()
    assert max(Counter((entry.tag, entry.step) for entry in found).values()) == 1
    assert sorted(entry[:2] for entry in found) == [entry[:2] for entry in expected(result)]


def test_an_event_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    board = TensorBoard(study_of(RUN), store)
    board.write(RUN, [Entry("a", 1, 0.5), Entry("a", 2, 0.25)])
    board.end(RUN, finished=False)
    (file,) = tmp_path.rglob("events.*")
    assert board.held(RUN) == {("a", 1), ("a", 2)}
    file.write_bytes(file.read_bytes()[:-1])
    assert board.held(RUN) == {("a", 1)}


def test_what_is_not_finite_is_left_out() -> None:
    scores = Scores(accuracy=0.5, top5=1, precision=0, recall=0, f1=0, nll=float("inf"), calibration_error=0)
    good = Epoch(epoch=1, train_loss=2.0, scores=scores, train_seconds=1, test_seconds=1)
    bad = Epoch(epoch=2, train_loss=float("nan"), scores=None, train_seconds=1, test_seconds=1)
    found = {entry[:2]: entry.value for entry in entries([good, bad], [LossPoint(step=500, loss=float("inf"))])}
    assert ("test/nll", 1) not in found
    assert found["test/accuracy", 1] == 0.5
    assert {tag for tag, step in found if step == 2} == {"train/epoch_seconds"}


@pytest.mark.slow
def test_a_tracker_that_fails_is_named_once_and_the_runs_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(TensorBoard):
        def write(self, *_: object) -> None:
            raise OSError("disk full")

    monkeypatch.setitem(TRACKERS, "tensorboard", TRACKERS["tensorboard"]._replace(make=Full))  # type: ignore[arg-type]
    said = io.StringIO()
    (result,) = execute(
        study_of(RUN), DATA, Store(tmp_path), 1, Devices("cpu"), Console(file=said), log=["tensorboard"]
    )
    assert result.diverged is None
    assert said.getvalue().count("--log tensorboard: given up after OSError: disk full") == 1


@pytest.mark.slow
def test_a_database_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of its tables it could never be used again."""
    from mlflow.tracking import MlflowClient

    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MlflowClient, "search_experiments", fill)
    said = io.StringIO()
    Logs(["mlflow"], study_of(RUN), Store(tmp_path), Console(file=said, width=500))
    assert "--log mlflow: given up after OSError: [Errno 28] No space left on device" in said.getvalue()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("mlflow", "alembic")])
@pytest.mark.parametrize("verb", ["compare", "train"])
def test_without_its_packages_a_line_says_what_to_install(
    verb: str,
    name: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main([verb, "--log", name]) == 2
    said = f"--log {name}: expected the package {package}, got none; install it: pip install 'softmaxes[{name}]'."
    assert capsys.readouterr().err == f"softmaxes: {said}\n"
    assert list(tmp_path.iterdir()) == []


ODD = ("exp?1", "a#b", "50%41", "a;b=c", "two words", 'it\'s "q"', "é漢字", "a\nb", "a::b", "[a]*", "$HOME", "~")
NAMES = pytest.mark.parametrize("name", [*ODD, "s3:x", pytest.param(os.fsdecode(b"by\xff"), id="bytes")])


@NAMES
def test_a_database_s_path_may_have_any_letters(name: str, tmp_path: Path) -> None:
    """None of them is a part of the URL that it is told by."""
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    engine = create_engine(_address(path))
    with engine.begin() as connection:
        connection.execute(text("create table seen (number)"))
    engine.dispose()
    assert path.stat().st_size > 0
    assert [file.name for file in tmp_path.iterdir()] == [name]


@NAMES
def test_an_event_file_s_path_may_have_any_letters(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is a part of an address, a pattern or a variable; the folder may be told from where one stands."""
    monkeypatch.chdir(tmp_path)
    board = TensorBoard(study_of(RUN), Store(Path(name)))
    board.write(RUN, [Entry("a", 1, 0.5)])
    board.end(RUN, finished=True)
    assert board.held(RUN) == {("a", 1)}
    assert len(list((tmp_path / name / "tensorboard").iterdir())) == 1
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_what_mlflow_writes_lies_in_the_folder_that_was_named(tmp_path: Path) -> None:
    store, said = Store(tmp_path / "".join(ODD)), io.StringIO()
    store.directory.mkdir()
    logs = Logs(["mlflow"], study_of(RUN), store, Console(file=said))
    logs.hear(RUN, Progress(1, loss=LossPoint(step=1, loss=0.5)))
    logs.close()
    assert said.getvalue() == ""
    assert list(database(store).values()) == [[Entry("train/loss", 1, 0.5)]]
    assert [path.name for path in store.directory.iterdir()] == ["mlflow.db"]
    assert list(tmp_path.iterdir()) == [store.directory]


def test_a_head_s_name_is_no_path(tmp_path: Path) -> None:
    board = TensorBoard(study_of(RUN), Store(tmp_path))
    for head in ("../../up", "a/b", "x" * 300, ".."):
        run = RUN.model_copy(update={"head": head})
        board.write(run, [Entry("a", 1, 0.5)])
        board.end(run, finished=True)
        assert board.held(run) == {("a", 1)}
    assert len(list((tmp_path / "tensorboard").iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
