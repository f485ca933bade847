"""A stored result that was changed, by a disk or by hand, is not what it was: what it says twice gives it away."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from softmaxes.lab import InputError
from softmaxes.lab.agreement import check_on
from softmaxes.lab.cli.main import main
from softmaxes.lab.records import Result
from softmaxes.lab.store import Store, read_record

RESULTS = Path(__file__).parents[2] / "results"
FAIR = RESULTS / "fair-cifar100"
TREES = RESULTS / "trees-standin-100"  # which has trees, and kept nothing of confidences


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A comparison of one run: flat, tuned, calibrated, judged by groups."""
    return kept(FAIR, "softmax", tmp_path)


def kept(source: Path, head: str, folder: Path) -> Store:
    found = Store(source).study()
    run = next(run for run in found.runs if run.head == head)
    (folder / "runs").mkdir()
    name = f"runs/{run.key}.json"
    shutil.copy(source / name, folder / name)
    store = Store(folder)
    store.save_study(found.model_copy(update={"runs": (run,)}), Store(source).card())
    (folder / "report.html").write_text("what was there")
    return store


def changed(path: Path, *change: Any) -> None:
    """Put another value where the keys lead to, or what a function makes of the value."""
    *keys, last, value = change
    content = json.loads(path.read_text())
    inner = content
    for key in keys:
        inner = inner[key]
    inner[last] = value(inner[last]) if callable(value) else value
    path.write_text(json.dumps(content))


def flipped(bit: int) -> Callable[[str], str]:
    def flip(text: str) -> str:
        content = bytearray(base64.b64decode(text))
        content[bit // 8] ^= 128 >> bit % 8
        return base64.b64encode(content).decode()

    return flip


def one_more(pairs: list[list[int]]) -> list[list[int]]:
    return [[*pairs[0][:2], pairs[0][2] + 1], *pairs[1:]]


def moved(pairs: list[list[int]]) -> list[list[int]]:
    """An example of the first pair's class is taken for the class of another pair."""
    target, predicted, count = pairs[0]
    other = next(pair for pair in pairs[1:] if pair[0] == target)
    return [[target, predicted, count - 1] if pair == pairs[0] else pair for pair in pairs if pair != other] + [
        [*other[:2], other[2] + 1]
    ]


def precisions(*values: float) -> dict[str, float]:
    return dict(zip(("precision_at_1", "precision_at_3", "precision_at_5"), values, strict=True))


SCORES = ("epochs", -1, "scores")
CONTRADICTIONS: list[tuple[Sequence[Any], str]] = [
    *(((*SCORES, name, lambda value: value + 1e-6), f"expected {name} ") for name in ("precision", "recall", "f1")),
    ((*SCORES, "accuracy", lambda value: value - 1e-6), "expected tree.level_accuracy in epoch 10"),
    ((*SCORES, lambda scores: scores | {"accuracy": 0.25, "tree": None}), "expected accuracy 0"),
    ((*SCORES, "top5", 0.0), "expected top5 of at least"),
    (
        (*SCORES, lambda scores: scores | {"precision_at_1": 1.0}),
        "expected precision at 1, 3 and 5 or none in epoch 10",
    ),
    ((*SCORES, lambda scores: scores | precisions(0.0, 0.5, 0.5)), "expected precision_at_1 of .* to 1 in epoch 10"),
    ((*SCORES, lambda scores: scores | precisions(0.9, 0.29, 0.5)), "expected precision_at_3 of 0.3 to 0.966667"),
    ((*SCORES, lambda scores: scores | precisions(0.9, 0.5, 0.71)), "expected precision_at_5 of 0.3 to 0.7 in"),
    ((*SCORES, lambda scores: scores | {"perplexity": 1.5}), "expected perplexity in epoch 10 "),
    ((*SCORES, "outside_support", 0.5), "expected an infinite nll"),
    ((*SCORES, "calibration_error", 0.5), "expected calibration: calibration_error 0"),
    (("epochs", 2, "scores", None), "expected scores of every epoch but the last"),
    (("epochs", lambda epochs: epochs[::-1]), "expected epochs 1 to 10 in order, got 10, 9, 8"),
    (("epochs", lambda epochs: epochs[:4] + epochs[5:]), "expected epochs 1 to 9 in order, got 1, 2, 3, 4, 6"),
    (("epochs", lambda epochs: epochs[:4] + epochs[3:]), "expected epochs 1 to 11 in order, got 1, 2, 3, 4, 4"),
    (("epochs", lambda epochs: epochs[:-1]), "expected 10 epochs, got 9"),
    (("losses", lambda losses: losses[::-1]), "expected losses at steps that rise"),
    (("correct", flipped(17)), "bits in correct, as predictions are right, got"),
    (("correct", lambda text: text[:-4]), "expected a bit for each of"),
    (("confusion", one_more), "expected accuracy|expected a bit for each"),
    (("confusion", moved), "expected (accuracy|precision|recall|f1) "),
    (("confusion", lambda pairs: pairs + pairs[-1:]), "expected each pair of classes once|expected a bit for each"),
    (("confusion", []), "expected a bit for each of 0|expected each pair"),
    (("head_parameters", 10**9), "expected at most [0-9]+ head_parameters, got 1000000000"),
    (("calibration", "reliability", "examples", lambda counts: [*counts[1:], counts[0]]), "expected (accuracy|calib)"),
    (("calibration", "reliability", "examples", lambda counts: [count + 1 for count in counts]), "expected 10000 exam"),
    (("calibration", "reliability", "accuracy", lambda shares: shares[::-1]), "expected accuracy 0"),
    (("calibration", "scaled", "calibration_error", 0.5), "expected calibration.scaled: calibration_error 0"),
]


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_a_result_that_contradicts_itself_is_refused(
    store: Store, change: Sequence[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (store.directory / "runs").glob("*.json")
    changed(path, *change)
    with pytest.raises(InputError, match=f"^{path}: expected .*{message}"):
        read_record(path, Result)
    refused(store, path, capsys)


def refused(store: Store, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report says so in one line, and leaves the report that is there."""
    assert main(["report", str(store.directory)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert len(said.err) < len(str(path)) + 250
    assert str(path) in said.err
    assert (store.directory / "report.html").read_text() == "what was there"
    assert not (store.directory / "table.csv").exists()
    assert not (store.directory / "figures").exists()


MISFITS: list[tuple[Path, str, str, Sequence[Any], str]] = [
    (FAIR, "softmax", "data", ("test_counts", 3, lambda count: count - 1), "expected 99 examples of class 3 in confus"),
    (
        FAIR,
        "softmax",
        "data",
        ("train_counts", lambda counts: [2 * count for count in counts]),
        "expected a loss every",
    ),
    (FAIR, "softmax", "data", ("samples", lambda samples: samples[1:]), "expected a guess for each of 11 samples"),
    (FAIR, "softmax", "data", ("group_of_class", lambda groups: groups[::-1]), "expected tree.level_accuracy"),
    (
        FAIR,
        "softmax",
        "data",
        (lambda card: card | {"group_of_class": None, "group_names": None},),
        "expected no scores by a tree, for the data have no groups",
    ),
    (FAIR, "softmax", "run", ("guesses", 0, "classes", 0, 100), r"expected classes in 0\.\.99, got 100"),
    (FAIR, "softmax", "run", ("losses", -1, "step", 10**9), "expected losses at steps of at most"),
    (FAIR, "softmax", "run", ("guesses", lambda guesses: guesses[1:]), "expected a guess for each of 12 samples"),
    (
        FAIR,
        "softmax",
        "run",
        ("calibration", "scaled", "fitted_on", 10**6),
        "expected a temperature fitted on at most 5000 examples, got 1000000",
    ),
    (FAIR, "softmax", "run", (*SCORES, "tree", "precision", 0.5), "expected tree.precision 0"),
    (FAIR, "softmax", "run", (*SCORES, "tree", "lca_height", None), "expected tree.lca_height where there are mist"),
    (TREES, "hierarchical", "run", ("tree", "parent", [2, 2, -1]), "expected a tree over 100 classes, got 2 leaves"),
]


@pytest.mark.parametrize(("source", "head", "file", "change", "message"), MISFITS, ids=range(len(MISFITS)))
def test_a_result_that_does_not_fit_its_data_is_refused(
    source: Path,
    head: str,
    file: str,
    change: Sequence[Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = kept(source, head, tmp_path)
    (path,) = (store.directory / "runs").glob("*.json")
    changed_file = path if file == "run" else store.directory / "data.json"
    if len(change) == 1:
        changed_file.write_text(json.dumps(change[0](json.loads(changed_file.read_text()))))
    else:
        changed(changed_file, *change)
    with pytest.raises(ValueError, match=message):
        check_on(read_record(path, Result), store.card())
    refused(store, path, capsys)


@pytest.mark.slow
def test_a_bad_tree_is_found_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many leaves as classes, but no tree; and the tables that are there no longer are not taken away."""
    store = kept(TREES, "hierarchical", tmp_path)
    (path,) = (store.directory / "runs").glob("*.json")
    (tmp_path / "differences.csv").write_text("what was there")

    def in_a_cycle(parent: list[int]) -> list[int]:
        root = parent.index(-1)
        first = next(node for node in range(100, len(parent)) if parent[node] == root)
        return [first if node == first else above for node, above in enumerate(parent)]

    changed(path, "tree", "parent", in_a_cycle)
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "expected a tree over 100 classes in run" in said.err
    assert (tmp_path / "report.html").read_text() == "what was there"
    assert (tmp_path / "differences.csv").read_text() == "what was there"
    assert not (tmp_path / "figures").exists()


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(RESULTS.glob("*/runs")), ids=lambda folder: folder.parent.name)
def test_what_is_stored_agrees(folder: Path) -> None:
    store = Store(folder.parent)
    for result in store.results(store.study()):
        check_on(result, store.card())


NUMBERS = [
    ("run", ("epochs", 0, "train_seconds")),
    ("run", ("epochs", 0, "test_seconds")),
    ("run", ("epochs", 0, "train_loss")),
    ("run", ("epochs", 0, "scores", "nll")),
    ("run", ("losses", 0, "loss")),
    ("run", ("losses", 0, "step")),
    ("run", ("parameters",)),
    ("run", ("head_parameters",)),
    ("run", ("peak_memory_mib",)),
    ("run", ("machine", "cores")),
    ("run", ("machine", "jobs")),
    ("run", ("run", "lr")),
    ("run", ("run", "weight_decay")),
    ("run", ("run", "epochs")),
    ("run", ("run", "knob")),
    ("run", ("calibration", "scaled", "temperature")),
    ("run", ("calibration", "scaled", "nll")),
    ("run", ("calibration", "reliability", "examples", 0)),
    ("data", ("train_counts", 0)),
    ("data", ("test_counts", 0)),
    ("data", ("image_shape", 1)),
    ("data", ("group_of_class", 0)),
    ("study", ("tuning", "trials")),
    ("study", ("tuning", "tried", 0, "lr")),
    ("study", ("tuning", "tried", 0, "knob")),
    ("study", ("runs", 0, "lr")),
]


@pytest.mark.parametrize(("file", "path"), NUMBERS, ids=str)
def test_no_number_is_beyond_what_is_made_of_it(store: Store, file: str, path: Sequence[Any]) -> None:
    """Sums over seeds, squares, differences in percent: a record has numbers for which these are numbers too."""
    (run,) = (store.directory / "runs").glob("*.json")
    name = run if file == "run" else store.directory / f"{file}.json"
    whole = name.read_text()
    values = [1e308, -1e308]
    if path[-1] not in ("train_loss", "loss", "nll"):  # of which one may be infinite
        values += [10**400]
    if path[-1] not in ("train_loss", "loss", "nll", "lr", "weight_decay"):  # which may be as large as float32 has them
        values += [10**20]
    if path[-1] not in ("train_loss", "loss", "knob"):
        values += [-1]
    for value in values:
        changed(name, *path, value)
        with pytest.raises(InputError, match=r"expected (Result|DataCard|Study) as JSON, got "):
            read_record(run, Result), store.card(), store.study()
        name.write_text(whole)


@pytest.mark.parametrize("name", ["test_counts", "train_counts"])
def test_data_have_an_example(store: Store, name: str) -> None:
    changed(store.directory / "data.json", name, lambda counts: [0] * len(counts))
    with pytest.raises(
        InputError, match=f"data.json: expected DataCard as JSON, .*expected at least one example in {name}"
    ):
        store.card()


@pytest.mark.parametrize("png", ["", "AAAA", "not base64", "iVBORw0KGgo"])
def test_a_sample_is_a_picture(store: Store, png: str) -> None:
    changed(store.directory / "data.json", "samples", 0, "png", png)
    with pytest.raises(InputError, match=r"data\.json: expected DataCard as JSON, got samples"):
        store.card()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large", "values", "lists", "deep"])
def test_a_record_is_a_regular_file_of_bounded_size(
    kind: str, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (store.directory / "runs").glob("*.json")
    bounds = {"large": ("MOST_BYTES", "file of at most"), "values": ("MOST_VALUES", "JSON of at most 10 values")}
    bounds["lists"] = ("MOST_LISTS", "JSON of at most 10 lists and dictionaries")
    if kind in bounds:
        monkeypatch.setattr(f"softmaxes.lab.store.{bounds[kind][0]}", 10)
        monkeypatch.setattr("softmaxes.lab.store.MOST_BYTES", 10 if kind == "large" else 10**8)
        message = bounds[kind][1]
        with pytest.raises(InputError, match=f"^{path}: expected (a )?{message}"):
            read_record(path, Result)
        return
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text('{"confusion": ' + "[" * 100_000)
    assert main(["report", str(store.directory)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path) in said
    assert ("expected a regular file" if kind != "deep" else "expected Result as JSON") in said
