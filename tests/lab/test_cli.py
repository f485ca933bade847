"""The command line as a stranger meets it: real processes, killed and started again, and what it says of bad input."""

import io
import json
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from softmaxes.lab import Comparison, InputError
from softmaxes.lab.cli.main import _one_line, app, main
from softmaxes.lab.comparison.compare import compare
from softmaxes.lab.data.dataset import Data, encode_png
from softmaxes.lab.heads.registry import HEADS, by_kind
from softmaxes.lab.records import Run, Source, Study, seed_by_seed
from softmaxes.lab.store import Store
from softmaxes.names import printable
from toy import FINISHED_DATA, FINISHED_TRAINING, numbers, toy_data

EPOCHS = 12
RESULTS = Path(__file__).parents[2] / "results"
COMMAND = [sys.executable, "-m", "softmaxes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a user's own, one folder a class: the toy data as PNG files."""
    data: Data = toy_data(train_per_class=40)
    root = tmp_path_factory.mktemp("own") / "colours"
    for part in ("train", "test"):
        images, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
        for index, label in enumerate(labels.tolist()):
            path = root / part / data.class_names[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(images[index]))
    return root


def options(folder: Path, out: Path, epochs: int) -> list[str]:
    return [
        *("compare", "--data", str(folder), "--image-size", "16", "--heads", "softmax", "gumbel", "--seeds", "2"),
        *("--epochs", str(epochs), "--momentum", "0.9", "--jobs", "2", "--out", str(out)),
    ]


def alive(group: int) -> bool:
    """Whether a process of the group still runs: what has ended but was not waited for does not."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert main(options(folder, out, EPOCHS)) == 0
    return out


def begun(folder: Path, out: Path) -> "subprocess.Popen[str]":
    """A comparison that can be stopped, as one that was typed at a terminal."""
    return subprocess.Popen(
        [*COMMAND, *options(folder, out, EPOCHS)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(how: signal.Signals, folder: Path, whole: Path, tmp_path: Path) -> None:
    """The final numbers and weights of a comparison that was killed equal those of one that was not, bit for bit."""
    cut = tmp_path / "cut"
    process = begun(folder, cut)
    deadline = time.monotonic() + 120
    while not list(cut.glob("runs/*.checkpoint")):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    if how is signal.SIGINT:  # as Ctrl-C does, to every process of the terminal
        os.killpg(process.pid, how)
    else:
        os.kill(process.pid, how)  # the parent alone: its children must notice
    _, errors = process.communicate(timeout=60)
    if how is signal.SIGINT:
        assert process.returncode == 130, errors
        assert "the same command goes on" in errors
        assert "Traceback" not in errors
    while alive(process.pid):
        assert time.monotonic() < deadline, "its processes went on"
        time.sleep(0.05)
    study = Store(cut).study()
    assert len(Store(cut).results(study)) < 4

    assert main(options(folder, cut, EPOCHS)) == 0
    results = Store(cut).results(study)
    assert [numbers(result) for result in results] == [numbers(result) for result in Store(whole).results(study)]
    for result in results:
        weights, reference = (load_file(Store(out).weights(result.run)) for out in (cut, whole))
        assert all(weights[name].equal(reference[name]) for name in reference)
    left = sorted(path.suffix for path in (cut / "runs").iterdir() if path.suffix != ".part")
    assert left == [".json"] * 4 + [".safetensors"] * 4
    assert not (cut / "data.safetensors").exists()


@pytest.mark.slow
def test_compare_then_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(options(folder, out, 3)) == 0
    printed = capsys.readouterr()
    assert "softmax" in printed.out
    assert f"report: {out / 'report.html'}" in printed.out
    results = Store(out).results(Store(out).study())
    assert [(result.run.head, result.run.seed) for result in results] == [
        (head, seed) for seed in (0, 1) for head in ("softmax", "gumbel")
    ]
    assert {result.machine.jobs for result in results} == {2}
    written = {path: path.stat().st_mtime_ns for path in out.glob("runs/*")}

    # Again: nothing is trained, the same table.
    assert main(options(folder, out, 3)) == 0
    repeated = capsys.readouterr()
    assert repeated.out == printed.out
    assert "epoch" not in repeated.err
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*")} == written

    # From the stored results alone: the images may be gone.
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert main(["report", str(out), "--figures", "pdf"]) == 0
    assert (out / "report.html").read_text() == page
    assert (out / "figures" / "accuracy.pdf").read_bytes().startswith(b"%PDF")
    assert main(["report", str(out), str(out), "--figures", "pdf"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_train_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "one"
    command = ["train", "--head", "hierarchical", "--seed", "7", "--data", str(folder), "--image-size", "16"]
    assert main([*command, "--epochs", "1", "--out", str(out)]) == 0
    (run,) = Store(out).study().runs
    assert (run.head, run.seed, run.epochs, run.data) == ("hierarchical", 7, 1, "colours")
    assert "hierarchical" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_seed_study(folder: Path, tmp_path: Path) -> None:
    """Its heads, its layer of 100 units before the tree alone, its setting; and what is said otherwise counts."""
    out = tmp_path / "study"
    command = ["compare", "--study", "seed", "--data", str(folder), "--image-size", "16", "--seeds", "1"]
    assert main([*command, "--epochs", "1", "--out", str(out)]) == 0
    study = Store(out).study()
    assert [(run.head, run.hidden_units) for run in study.runs] == [
        ("softmax", None),
        ("gumbel-normal", None),
        ("hierarchical", 100),
    ]
    assert {(run.batch_size, run.lr, run.momentum, run.epochs) for run in study.runs} == {(32, 0.1, 0.0, 1)}
    assert [line.accuracy for line in study.published] == [0.2314, 0.1671, 0.1183]
    page = (out / "report.html").read_text()
    assert "61.13" in page
    assert "23.7" in page


def test_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["data", str(folder), "--image-size", "16", "--out", str(sheet)]) == 0
    printed = capsys.readouterr().out
    assert "train: 240 images, 40 to 40 a class" in printed
    assert "test: 30 images, 5 to 5 a class" in printed
    with Image.open(sheet) as image:
        assert image.width > 100


def test_heads_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["heads"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in HEADS)
    lines = printed.splitlines()
    kinds = {line.strip(): number for number, line in enumerate(lines) if line[:1].isalpha()}
    assert list(kinds) == [lines[0].strip(), *by_kind()]
    assert [name for heads in by_kind().values() for name in heads] == sorted(HEADS, key=[*HEADS].index)
    for head, kind in (("arcface", "cosine"), ("tree-sampled-grown", "sampled"), ("entmax", "sparse")):
        place = next(at for at, line in enumerate(lines) if f"  {head} " in line)
        above = [number for number in kinds.values() if number < place]
        assert lines[max(above)].strip() == kind


def test_what_a_head_is_can_be_read_alone() -> None:
    """A reader who looks for one head does not read the line above it."""
    for name, entry in HEADS.items():
        assert not entry.summary.startswith(("The same", "Over ")), name
        if entry.summary.startswith("As "):
            assert entry.summary.split()[1].rstrip(",") in HEADS, name


def test_the_list_of_many_heads_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and costs stand whole, each on one line; only what a head is goes on below, bracketed words and all."""
    summary = "Weights of [support] in [0, 1], as the sparsest of several distributions that a reader may choose among."
    many = {f"hierarchical:arity={number}": HEADS["softmax"]._replace(summary=summary) for number in range(10, 34)}
    monkeypatch.setattr("softmaxes.lab.heads.registry.HEADS", many)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["heads"]) == 0
    header, kind, *lines = capsys.readouterr().out.splitlines()
    assert kind.strip() == "trees"
    assert max(map(len, lines)) <= 80
    begins = [line for line in lines if line[2] != " "]
    assert [(line.split()[0], line.rstrip()[-6:]) for line in begins] == [(name, "O(D C)") for name in many]
    column = slice(header.index("what"), header.index("cost"))
    assert " ".join(" ".join(line[column] for line in lines).split()) == " ".join([summary] * 24)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_long_tail_is_one_for_all_heads(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = [*options(folder, out, 1), "--long-tail", "20"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Accuracy by class frequency" in printed
    card = Store(out).card()
    assert (card.name, sorted(card.train_counts), set(card.test_counts)) == (
        "colours:tail-20",
        [2, 3, 6, 12, 21, 40],
        {5},
    )
    results = Store(out).results(Store(out).study())
    assert {(result.run.data, result.run.fingerprint) for result in results} == {(card.name, card.fingerprint)}
    assert len(results) == 4
    written = {path: path.stat().st_mtime_ns for path in out.glob("runs/*")}
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*")} == written
    assert main(["data", str(folder), "--image-size", "16", "--long-tail", "20", "--out", str(tmp_path / "a.png")]) == 0
    assert "train: 84 images, 2 to 40 a class" in capsys.readouterr().out


THREE = ("softmax", "gumbel", "hierarchical-groups")  # the last wants groups, which images in folders do not have


def all_options(folder: Path, out: Path) -> list[str]:
    return [
        *("compare", "--data", str(folder), "--image-size", "16", "--heads", "all", "--seeds", "2"),
        *("--epochs", "2", "--jobs", "2", "--out", str(out)),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_all_heads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the data cannot serve is named with the reason before training, in the store, the table and the page."""
    monkeypatch.setattr("softmaxes.lab.heads.registry.HEADS", {name: HEADS[name] for name in THREE})
    out = tmp_path / "out"
    assert main(all_options(folder, out)) == 0
    printed = capsys.readouterr()
    reason = "expected data with groups of classes, got colours, which has none."
    note = f"hierarchical-groups is left out: {reason}"
    first, *rest = printed.err.splitlines()
    assert first == note
    assert sum("epoch" in line for line in rest) == 8
    assert note in " ".join(printed.out.split())
    assert note in (out / "report.html").read_text()
    study = Store(out).study()
    assert [(run.head, run.seed) for run in study.runs] == [(head, seed) for seed in (0, 1) for head in THREE[:2]]
    assert [(left.head, left.reason) for left in study.left_out] == [("hierarchical-groups", reason)]

    # Stopped and typed again: what is missing is trained, and no more.
    Store(out).weights(study.runs[1]).with_suffix(".json").unlink()
    written = {path: path.stat().st_mtime_ns for path in out.glob("runs/*.json")}
    assert len(written) == 3
    assert main(all_options(folder, out)) == 0
    repeated = capsys.readouterr()
    assert "softmax" in repeated.out
    assert sum("epoch" in line for line in repeated.err.splitlines()) == 2
    assert Store(out).study() == study
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/*.json")}
    assert len(after) == 4
    assert after.items() >= written.items()

    # From the stored results alone, and from a study stored before any head could be left out.
    assert main(["report", str(out)]) == 0
    assert note in " ".join(capsys.readouterr().out.split())
    fields = json.loads((out / "study.json").read_text())
    assert fields.pop("left_out")
    (out / "study.json").write_text(json.dumps(fields))
    assert main(["report", str(out)]) == 0
    assert "left out" not in capsys.readouterr().out


@pytest.mark.slow
def test_all_means_every_head_in_order(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a data set that has no groups: whatever is left out would be refused by its name."""
    seen: list[Study] = []

    def watch(study: Study, *_: object, **__: object) -> None:
        seen.append(study)
        raise InputError("enough")

    monkeypatch.setattr("softmaxes.lab.comparison.compare.run_study", watch)
    assert main(all_options(folder, tmp_path)) == 2
    (study,) = seen
    left = [left.head for left in study.left_out]
    assert "hierarchical-groups" in left
    assert [run.head for run in study.runs if run.seed == 0] == [head for head in HEADS if head not in left]
    assert study.title == f"{len(HEADS) - len(left)} heads on colours"
    monkeypatch.undo()
    for head in left:
        command = ["compare", "--data", str(folder), "--image-size", "16", "--heads", "softmax", head]
        assert main([*command, "--epochs", "2", "--out", str(tmp_path)]) == 2
    assert not (tmp_path / "study.json").exists()


def test_where_no_head_fits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = HEADS["hierarchical-groups"]
    monkeypatch.setattr("softmaxes.lab.heads.registry.HEADS", {"hierarchical-groups": groups})
    assert main(all_options(folder, tmp_path / "out")) == 2
    assert capsys.readouterr().err == (
        "softmaxes: --heads: expected data that at least one head can serve, got colours "
        "(expected data with groups of classes, got colours, which has none).\n"
    )
    assert not (tmp_path / "out").exists()


BAD: list[tuple[list[str], str]] = [
    (["compare", "--epochs", "0"], "--epochs: expected greater than 0, got 0."),
    (["compare", "--epochs", "ten"], "softmaxes: --epochs: expected a valid integer, got ten.\n"),
    (["compare", "--lr", "nan"], "--lr: expected a finite number, got nan."),
    (["compare", "--initial-accumulator", "1"], "--initial-accumulator: expected 0 with sgd, which has none, got 1"),
    (["compare", "--momentum", "1"], "--momentum: expected less than 1, got 1."),
    (["compare", "--heads", "sofmax"], "got sofmax; did you mean softmax? There are all, softmax, "),
    (["compare", "--heads", "softmax,gumbel"], "got softmax,gumbel; separate names by spaces: softmax gumbel."),
    (["compare", "--heads", "softmax", "softmax"], "--heads: expected each head once, got softmax softmax."),
    (["compare", "--heads", "all", "softmax"], "--heads: expected all alone, or names of heads, got all softmax."),
    (["compare", "--heads", "zzzz"], "--heads: expected one of all, softmax, "),
    (["compare", "--study", "seed", "--heads", "all"], "--heads: expected none with --study seed"),
    (
        ["compare", "--study", "sed"],
        "--study: expected a name that is known, got sed; did you mean seed? There are seed, forensics, fair, many, "
        "trees, or FILE.py, or module:function.",
    ),
    (["compare", "--study", "seed", "--heads", "softmax"], "--heads: expected none with --study seed"),
    (["compare", "--seeds", "0"], "--seeds: expected 1 or more, got 0."),
    (
        ["compare", "--data", "glyfs"],
        "--data: expected glyphs, glyphs:CLASSES, glyphs:all, geonames, cifar10, cifar100, features, text, next-word, "
        "a folder",
    ),
    (
        ["compare", "--data", "./nowhere"],
        "--data: expected a folder or file that exists, got ./nowhere, which does not.",
    ),
    (
        ["compare", "--data", "/dev/null"],
        "--data: expected a folder, vectors in a file .npz, or texts in a file .txt, .csv, .tsv, .parquet, got "
        "/dev/null.",
    ),
    (
        ["compare", "--data", "glyphs:many"],
        "expected glyphs or glyphs:CLASSES, e.g. glyphs:1000 or glyphs:all, got glyphs:many.",
    ),
    (["compare", "--data", "glyphs:1"], "glyphs: expected 2 classes or more, got 1."),
    (["compare", "--data", "folder"], "--data folder: expected --data-dir with the folder of images, got none."),
    (["compare", "--data", "glyphs", "--data-dir", "x"], "--data-dir: expected none with --data glyphs"),
    (["compare", "--data", "cifar100", "--data-dir", "/nowhere"], "/nowhere"),
    (["compare", "--data", "glyphs:all", "--fonts", "/nowhere"], "/nowhere: expected a font file or a folder with"),
    (
        ["compare", "--data", "cifar10", "--fonts", "x"],
        "--fonts: expected none with --data cifar10, which is not drawn",
    ),
    (["train", "--data", "folder", "--train-per-class", "3"], "--train-per-class: expected none with --data folder"),
    (["data", "cifar100", "--test-per-class", "3"], "--test-per-class: expected none with --data cifar100, which is"),
    (["data", "glyphs", "--train-per-class", "0"], "--train-per-class: expected greater than 0, got 0."),
    (["train", "--seed", "-1"], "--seed: expected 0 or more, got -1."),
    (["train", "--head", "x"], "--head: expected one of softmax"),
    (["train", "--head", "all"], "--head: expected one of softmax"),
    (["data", "glyphs", "--image-size", "8"], "--image-size: expected 16 to 1024 pixels, got 8."),
    (["data", "glyphs", "--long-tail", "1"], "--long-tail: expected a number above 1, got 1."),
    (["report", "/nowhere"], "/nowhere/study.json: expected the folder of a comparison"),
    (["compare", "--epoch", "3"], "Did you mean --epochs?"),
    (["train", "--datadir", "x"], "Did you mean --data-dir?"),
    (["data", "--imagesize", "32"], "Did you mean --image-size?"),
    (["heads", "x"], "NAME: expected one of softmax, softmax-hidden, "),
    (["heads", "softmax", "x"], "softmaxes: heads: expected options, see softmaxes heads --help, got 'x'."),
    (["train", "--seed", "1", *"abc"], "train: expected options, see softmaxes train --help, got 'a' and 2 more."),
    (["compare", "--heads"], "--heads: expected a value or more, got none."),
    (["compare", "--heads", "--epochs", "3"], "--heads: expected a value or more, got none."),
    (["compare", "--log"], "--log: expected a value or more, got none."),
    (["train", "--log", "--epochs", "3"], "--log: expected a value or more, got none."),
    (["scale", "--heads"], "--heads: expected a value or more, got none."),
    (["scale", "--heads", "--classes", "10"], "--heads: expected a value or more, got none."),
    (["scale", "--classes"], "--classes: expected a value or more, got none."),
    (["scale", "--features", "--classes", "10"], "--features: expected a value or more, got none."),
    (["train", "--head"], "--head requires an argument."),
    (["compare", "--epochs", "3", "--epochs", "4"], "--epochs specified multiple times."),
    (["compare", "--seeds", "1", "--seeds", "1"], "--seeds specified multiple times."),
    (["compare", "--log", "mlflow", "mlflow"], "--log: expected each tracker once, got mlflow mlflow."),
    (
        ["compare", "--seeds", "1000000"],
        "--seeds: expected a study of at most 10,000 runs, got 1 head at 1,000,000 seeds.",
    ),
    (["compare", "--seeds", "4000"], "of at most 10,000 runs, got 3 heads at 4,000 seeds."),
    (
        ["compare", "--study", "fair", "--seeds", "1" * 4000],
        "--seeds: expected a whole number, got ",
    ),
    (["compare", "--seeds", "9" * 5000], "--seeds: expected a whole number, got "),
    (["compare", "--tune", "1000000000"], "--tune: expected 1,000 or less, got 1,000,000,000."),
    (["data", ""], "--data: expected glyphs, "),
    (["compare", "--jobs", "1000000000"], "--jobs: expected 1,000 or less, got 1,000,000,000."),
    (["compare", "--jobs", "0"], "--jobs: expected 1 or more, got 0."),
    (
        ["train", "--seed", f"{2**63}"],
        "--seed: expected 9,223,372,036,854,775,807 or less, got 9,223,3",
    ),
    (["copare"], "compare"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments)[:60] for arguments, _ in BAD])
def test_bad_input(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line that says what was expected and what came, exit code 2, and nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("softmaxes: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--heads", "softmax", "hierarchical-groups"], "hierarchical-groups: expected data with groups of classes"),
        (["--channels", "300000"], "expected less than or equal to 100000, got 300000"),
        (["--padding", "2000"], "expected less than or equal to 1000, got 2000"),
        (["--hidden-units", "0"], "expected greater than 0, got 0"),
        (["--backbone", "resnet", "--padding", "1"], "padding 1: expected backbone tinyvgg, got resnet"),
        (["--crops", "16"], "expected crops of less than the 16 pixels of an image's side, got 16"),
        (["--label-smoothing", "1"], "expected less than 1, got 1"),
        (["--batch-size", "9" * 20], "expected less than or equal to 1000000000, got"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused_before_anything_is(
    more: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", "--data", str(folder), "--image-size", "16", "--out", str(out), *more]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not out.exists()


def test_a_file_where_a_folder_should_be(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["report", __file__],
        ["train", "--data", str(folder), "--image-size", "16", "--out", __file__],
        ["data", str(folder), "--image-size", "16", "--out", str(tmp_path)],
        ["data", str(folder), "--image-size", "16", "--out", str(Path(__file__) / "sheet.png")],
    ):
        capsys.readouterr()
        assert main(command) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("softmaxes: ")
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("disk full"), "softmaxes: disk full.\n"),
        (PermissionError(13, "Permission denied", "/some/file"), "softmaxes: /some/file: Permission denied.\n"),
        (MemoryError(), "softmaxes: expected enough memory for these data, got too little.\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses_is_said_as_it_is(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Data:
        raise error

    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", refuse)
    assert main(["data", "glyphs"]) == 2
    assert capsys.readouterr().err == said


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_comparison_that_fails_leaves_the_one_before(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same folder, while another process writes to it, then with a run that cannot go on."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    command = ["train", *FINISHED_DATA, *FINISHED_TRAINING, "--out", str(out)]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    with Store(out).lock():
        assert main([*command, "--seed", "2"]) == 2
    assert "got one that is being written" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"} == before
    run, _ = Store(out).study().runs
    broken = Store(out).checkpoint(run.model_copy(update={"seed": 2}))
    broken.write_bytes(b"not a checkpoint")
    assert main([*command, "--seed", "2"]) == 2
    assert "expected a whole checkpoint" in capsys.readouterr().err
    broken.unlink()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"} == before


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "verb",
    [["compare", "--heads", "softmax"], ["compare", "--tune", "2"], ["train"], ["repeat"], ["scale"], ["report"]],
    ids=" ".join,
)
def test_a_folder_of_the_users_is_refused(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line before anything is loaded, and every file as it was: also those that have names of ours."""
    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", lambda *_: pytest.fail("loaded"))
    monkeypatch.chdir(tmp_path)
    stored = next((RESULTS / "glyphs" / "runs").glob("*.json"))
    names = ("data.safetensors", "models/bert.checkpoint", "models/bert.json", "downloads/.movie.mkv.part")
    for name in (*names, "table.csv", "report.html", "differences.csv", ".table.csv.12.part"):
        path = tmp_path / "proj" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"my {name}")
    before = everything(tmp_path)
    command = {"repeat": ["repeat", str(stored), "--out", "proj"], "report": ["report", "proj"]}
    assert main(command.get(verb[0], [*verb, "--out", "proj"])) == 2
    printed = capsys.readouterr()
    assert re.match(r"softmaxes: proj(/study.json)?: expected (an empty folder or|the folder of a comp)", printed.err)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert everything(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("link", [False, True])
def test_a_picture_of_the_users_is_not_replaced(
    link: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither one that is named nor one that has the name of the sheet by chance; a sheet is, by the next one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.png").write_bytes(b"\x89PNG of mine")
    if link:
        (tmp_path / "colours.png").symlink_to("mine.png")
    else:
        (tmp_path / "colours.png").write_bytes(b"\x89PNG of mine")
    command = ["data", str(folder), "--image-size", "16"]
    for words in (command, [*command, "--out", "colours.png"]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("softmaxes: colours.png: expected no file, or one that this command wrote, got")
        assert printed.out == ""
        assert (tmp_path / "colours.png").read_bytes() == b"\x89PNG of mine"
    (tmp_path / "mine.png").unlink()
    (tmp_path / "colours.png").unlink(missing_ok=True)
    for size in ("16", "32"):
        assert main(["data", str(folder), "--image-size", size]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_the_page_of_another_comparison_is_not_replaced_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "softmaxes.lab.comparison.processes.fresh_processes", lambda: multiprocessing.get_context("fork")
    )
    data, out = toy_data(), tmp_path / "out"

    def told(*heads: str, seeds: int = 1) -> str:
        capsys.readouterr()
        compare(data, heads=heads, seeds=seeds, epochs=1, out=out, jobs=1, device="cpu")
        return "".join(line for line in capsys.readouterr().err.splitlines(keepends=True) if "epoch 1/1" not in line)

    said = f"{out}: the page here shows another comparison, {{}} on toy. It will be kept in {out}/earlier/"
    assert told("softmax") == ""
    assert told("softmax", "sampled") == ""  # more heads, more seeds: nothing is lost
    assert told("softmax", "sampled", seeds=2) == ""
    runs = set(out.glob("runs/*.json"))
    assert told("softmax").startswith(said.format("softmax · sampled"))
    assert set(out.glob("runs/*.json")) == runs
    (aside,) = (out / "earlier").iterdir()
    shown = (aside / "report.html").read_text("utf-8")
    assert "<h1>softmax · sampled on toy</h1>" in shown
    assert '<a href="../../report.html">the latest comparison in this folder</a>.' in shown
    assert f'<a href="earlier/{aside.name}/report.html">softmax · sampled on toy (1 epoch, 2 seeds)</a>.' in (
        out / "report.html"
    ).read_text("utf-8")
    assert {row["head"] for row in Comparison.read(aside).rows} == {
        "softmax",
        "sampled",
    }  # its runs lie with the others
    assert main(["report", str(aside)]) == 0
    assert (aside / "report.html").read_text("utf-8") == shown
    with pytest.raises(InputError, match="expected a folder of one's own, got one that keeps an earlier page"):
        compare(data, heads=["softmax"], seeds=1, epochs=1, out=aside, jobs=1, device="cpu")
    assert told("sampled").startswith(said.format("softmax"))
    assert len(list((out / "earlier").iterdir())) == 2
    (aside / "notes.txt").write_text("mine")
    told("softmax", "sampled", seeds=2)  # it is back, and holds all that the two others do
    assert {path.name for path in (out / "earlier").rglob("*.*")} == {"notes.txt"}
    assert "Also here" not in (out / "report.html").read_text("utf-8")

    def refuse(*_: object) -> None:
        raise InputError("no")

    kept = everything(out)
    monkeypatch.setattr("softmaxes.lab.comparison.execute.check", refuse)
    with pytest.raises(InputError, match=r"^no$"):
        told("softmax", "one-vs-rest")  # refused: nothing is written anew, though a run of it is there
    assert everything(out) == kept


@pytest.mark.slow
def test_a_run_that_overflows_has_diverged(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One batch, one step: the loss before it is finite, what the head says after it is not."""
    out = tmp_path / "out"
    command = ["train", "--data", str(folder), "--image-size", "16", "--epochs", "1", "--out", str(out)]
    main([*command, "--lr", "1e30", "--lr-schedule", "constant", "--batch-size", "1000"])
    (result,) = Store(out).results(Store(out).study())
    assert result.diverged == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("after", [0.2, 1.5])
def test_stopped_while_starting(after: float, folder: Path, tmp_path: Path) -> None:
    """Ctrl-C at any moment: no traceback, no process left behind."""
    process = begun(folder, tmp_path / "out")
    while not (tmp_path / "out" / "data.safetensors").exists():  # the data are read, processes are about to start
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors
    deadline = time.monotonic() + 30
    while alive(process.pid):
        assert time.monotonic() < deadline, "its processes went on"
        time.sleep(0.05)


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_broken_results_are_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path, _ = out.glob("runs/*.json")
    good = path.read_text()
    for spoil, message in (
        (lambda: path.write_text(good[:100]), "expected Result as JSON"),
        (lambda: edit(path, surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda: edit(path, run=json.loads(good)["run"] | {"seed": 5}), "expected the result of run"),
        (lambda: edit(path, epochs=[]), "epochs: Tuple should have at least 1 item"),
        (lambda: edit(path, confusion=[[0, -1, 3]]), "confusion.0.1: Input should be greater than or equal to 0"),
        (lambda: edit(path, guesses=[{"classes": [0], "probabilities": []}]), "expected 1 probabilities, got 0"),
        (lambda: edit(path, **{"\x1b[31m": 1}), "Extra inputs are not permitted"),
        (lambda: edit(path, machine=json.loads(good)["machine"] | {"processor": "\x1b[31m"}), "expected printable"),
    ):
        path.write_text(good)
        spoil()
        capsys.readouterr()
        assert main(["report", str(out)]) == 2
        errors = capsys.readouterr().err
        assert str(path) in errors
        assert message in errors
        assert "\x1b" not in errors
        assert errors.count("\n") == 1


@pytest.mark.slow
def test_help_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "softmaxes compare --heads all" in printed
    assert "or all: every head that the data can serve" in " ".join(printed.replace("│", " ").split())


@pytest.mark.slow
def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("compare", "train", "report", "data"):
        assert main([verb, "--help"]) == 0
        assert f"softmaxes {verb}" in capsys.readouterr().out.partition("Parameters")[0].replace("Usage: ", "", 1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was stored before."""
    out = tmp_path_factory.mktemp("stored") / "glyphs"
    shutil.copytree(Path(__file__).parents[2] / "results" / "glyphs", out)
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
@pytest.mark.parametrize("handler", ["strict", "surrogateescape"])
def test_what_standard_output_cannot_show_is_replaced(
    encoding: str, handler: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is written all the same, before anything is printed."""
    (stored / "report.html").unlink(missing_ok=True)
    for arguments in (["report", str(stored)], ["heads"], ["--help"], ["compare", "--help"]):
        content = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding, errors=handler))
        assert main(arguments) == 0
        sys.stdout.flush()
        assert content.getvalue().decode(encoding).strip()
    assert "± is half" in (stored / "report.html").read_text(encoding="utf-8").replace("\n", " ")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_page_is_there_where_printing_fails(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("softmaxes.lab.report.terminal.print_summary", gone)
    (stored / "report.html").unlink(missing_ok=True)
    assert main(["report", str(stored)]) == 2
    assert capsys.readouterr().err == "softmaxes: Broken pipe.\n"
    assert (stored / "report.html").read_text(encoding="utf-8").endswith("</html>")


ODD = ["a\nb", "\x1b[31mred", os.fsdecode(b"by\xff"), "\u202egnp", "[red]x[/]", "{x}", ":warning:", "a" * 200]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_folder_s_name_is_shown_as_it_is_or_replaced(
    name: str, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stored, name)
    assert main(["report", name]) == 0
    assert f"report: {printable(name)}/report.html\n" in capsys.readouterr().out
    assert main(["tree", "build", "balanced", "--classes", "4", "--out", f"{name}/tree.json"]) == 0
    assert f": {printable(name)}/tree.json\n" in capsys.readouterr().out
    assert main(["tree", "compare", f"{name}/tree.json"]) == 0
    assert main(["tree", "show", f"{name}/tree.json", "--out", f"{name}/tree.html"]) == 0
    assert f"page: {printable(name)}/tree.html\n" in capsys.readouterr().out
    for arguments in (["report", f"{name}/none"], ["compare", "--data", f"{name}/none"], ["tree", "show", f"{name}/x"]):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1
        assert printed.err.strip().isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD[:4], ids=ascii)
def test_a_name_of_data_that_cannot_be_shown_is_refused_in_a_short_line(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the folder and of a class in it, by every verb that reads it; an archive's, a file's and a font's as well."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "test", name)
    shutil.copytree(folder / "test", "classes")
    next(Path("classes").iterdir()).rename(Path("classes", name))
    Path(f"{name}.npz").touch()
    before = {path.name for path in tmp_path.iterdir()}
    for words in (["data"], ["compare", "--data"], ["train", "--data"]):
        for rest in ([name], ["classes"], ["folder", "--data-dir", name], ["features", "--data-dir", f"{name}.npz"]):
            if words == ["data"] or rest != ["glyphs"]:
                assert main([*words, *rest, "--image-size", "16"]) == 2
                printed = capsys.readouterr()
                assert printed.out == ""
                assert "printable characters, got '" in printed.err
                assert printed.err.count("\n") == 1
                assert len(printed.err) < 200
        assert main([*words, "glyphs", "--fonts", name]) == 2
        assert "--fonts: expected a name of printable characters, got '" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_data_s_own_name_is_looked_at_where_a_dot_stands_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "test", tmp_path / "a\nb")
    monkeypatch.chdir(tmp_path / "a\nb")
    assert main(["data", ".", "--image-size", "16"]) == 2
    assert capsys.readouterr().err == "softmaxes: .: expected a name of printable characters, got 'a\\nb'.\n"


def test_what_is_no_record_is_said_in_a_short_line() -> None:
    """Whatever it holds: its fields are not printed."""
    for fields in ({"title": "\x1b[31m", "description": "x" * 10**5}, {"title": "x", "description": 10**4 * ["y"]}):
        with pytest.raises(ValidationError) as raised:
            Study.model_validate({"name": "a", "runs": (), **fields})
        said = _one_line(raised.value)
        assert "expected printable characters in title" in said or said.startswith("--description: expected a valid")
        assert len(said) < 150
        assert said.isprintable()


def test_words_that_name_the_data_again_are_no_options() -> None:
    source = Source(data="./-x", data_dir=Path("y/--heads"), image_size=16, fonts=Path("-f"), long_tail=20.0)
    words = source.words()
    arguments = ["--data=-x", "--data-dir=--heads", "--image-size", "16", "--long-tail", "20", "--fonts=-f"]
    assert list(words) == arguments
    _, bound, _ = app.parse_args(["train", *words], exit_on_error=False, print_error=False)
    assert (bound.arguments["source"].data, bound.arguments["source"].data_dir) == ("-x", Path("--heads"))


@pytest.mark.slow
def test_too_many_runs_are_refused_before_they_are_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the data say how many heads there are, or a study does."""
    made: list[int] = []

    def counted(heads: Sequence[str], seeds: Sequence[int], **setting: Any) -> tuple[Run, ...]:
        made.append(len(seeds))
        return seed_by_seed(heads, seeds, **setting)

    for place in ("comparison.plan", "studies.fair", "studies.trees"):
        monkeypatch.setattr(f"softmaxes.lab.{place}.seed_by_seed", counted)
    for words in (["--heads", "all"], ["--study", "fair"], ["--study", "trees"], ["--study", "seed"]):
        given = ["compare", "--data", str(folder), "--image-size", "16", *words, "--out", str(tmp_path / "out")]
        assert main([*given, "--seeds", "5000"]) == 2
        assert "--seeds: expected a study of at most 10,000 runs, got " in capsys.readouterr().err
    assert max(made, default=0) <= 1
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked")
@pytest.mark.parametrize("lab", [True, False], ids=["with the lab", "without it"])
def test_python_m_softmaxes_is_the_command(
    lab: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["softmaxes", "report", "/nowhere"])
    if not lab:
        monkeypatch.setitem(sys.modules, "cyclopts", None)
        monkeypatch.delitem(sys.modules, "softmaxes.lab.cli.main")
    with pytest.raises(SystemExit) as left:
        runpy.run_module("softmaxes", run_name="__main__")
    assert left.value.code == 2
    said = capsys.readouterr().err
    if lab:
        assert said.startswith("softmaxes: /nowhere/study.json: expected the folder of a comparison")
    else:
        assert said.startswith("softmaxes: expected the lab's packages, got no cyclopts; install them: ")
    assert said.count("\n") == 1
    runpy.run_module("softmaxes.__main__", run_name="imported")  # runs nothing
