"""Parts of the user's own: a package outside the checkout, objects in Python, and what is refused."""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from softmaxes import Softmax
from softmaxes.lab import Comparison, Data, DataCard, Entry, InputError, compare, repeat, starting, tune
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison import processes
from softmaxes.lab.records import Run
from softmaxes.lab.resolve import give, own, source_files
from softmaxes.lab.starting import without_script
from softmaxes.lab.store import Store
from softmaxes.lab.training import train as training
from toy import toy_data

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_parts"
HEAD, BACKBONE, DATA, STUDY = (
    f"own_parts.{name}" for name in ("heads:tempered", "backbones:pooled", "data:rings", "studies:study")
)
QUIET = Console(quiet=True)
TOY = toy_data()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example package is installed."""
    target = tmp_path_factory.mktemp("site")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    copy = tmp_path_factory.mktemp("source") / "own_parts"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(copy)], check=True)
    subprocess.run([*uv, "--python", sys.executable, "--target", str(target), str(copy)], check=True)
    return target


def run(words: list[str], installed: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(
        [sys.executable, "-m", "softmaxes", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


WORDS = ["compare", "--data", DATA, "--backbone", BACKBONE, "--heads", "softmax", HEAD, "--seeds", "1"]


@pytest.mark.slow
def test_a_package_outside_brings_its_parts(installed: Path, tmp_path: Path) -> None:
    """In worker processes; the page names them; another line of the head is another run, and only of the head."""
    words = [*WORDS, "--epochs", "2", "--out", "out"]
    done = run(words, installed, tmp_path)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "out")
    first = {result.run.head: result.run for result in store.results(store.study())}
    assert [part.name for part in first[HEAD].own] == [HEAD, BACKBONE]
    assert [part.name for part in first["softmax"].own] == [BACKBONE]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for part in (HEAD, BACKBONE, DATA):
        assert part in page
    assert "epoch" not in run(words, installed, tmp_path).stderr  # nothing is trained again
    source = installed / "own_parts" / "heads.py"
    text = source.read_text()
    try:
        source.write_text(text.replace("TEMPERATURE = 0.5", "TEMPERATURE = 0.25"))
        again = run(words, installed, tmp_path)
        repeated = run(
            ["repeat", f"out/runs/{first[HEAD].key}.json", "--data", DATA, "--out", "r"], installed, tmp_path
        )
    finally:
        source.write_text(text)
    assert again.returncode == 0, again.stderr
    assert f"{HEAD}, seed 0: epoch 2/2" in again.stderr
    assert "softmax, seed 0" not in again.stderr
    second = {result.run.head: result.run for result in store.results(store.study())}
    assert second["softmax"] == first["softmax"]
    assert second[HEAD].key != first[HEAD].key
    assert repeated.returncode == 2
    assert "as it was, got another source" in repeated.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("forked", "undrawn")
def test_a_study_of_one_s_own(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(installed)
    words = ["compare", "--data", DATA, "--seeds", "1", "--epochs", "1"]
    assert main([*words, "--study", STUDY, "--out", "named"]) == 0
    study = Store(tmp_path / "named").study()
    assert [(one.head, one.lr, one.epochs) for one in study.runs] == [
        (head, rate, 1) for head in ("softmax", HEAD) for rate in (0.05, 0.2)
    ]
    assert [part.name for part in study.own] == [STUDY, DATA]
    (tmp_path / "mine.py").write_text((EXAMPLE / "src/own_parts/studies.py").read_text())
    assert main([*words, "--study", "mine.py", "--out", "file"]) == 0
    assert Store(tmp_path / "file").study().runs == study.runs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kills a group")
def test_it_goes_on_after_a_kill(installed: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "softmaxes", *WORDS, "--epochs", "150", "--jobs", "1", "--out", "cut"]
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("runs/*.checkpoint")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "seed 0: epoch 1/150" not in done.stderr.partition(HEAD)[0]  # the first run went on
    assert len(Comparison.read(tmp_path / "cut").results) == 2


@pytest.mark.slow
def test_on_a_cluster(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = run([*WORDS, "--epochs", "1", "--cluster", "local", "--jobs", "2", "--out", "out"], installed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {result.run.head for result in Comparison.read(tmp_path / "out").results} == {"softmax", HEAD}


# Objects in Python


class Quarter(Softmax):  # type: ignore[misc]
    """A softmax of a quarter of the logits."""

    def _log_prob(self, input: Tensor) -> Tensor:
        return (functional.linear(input, self.weight, self.bias) / 4).log_softmax(1)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        return self._log_prob(input).gather(1, target.unsqueeze(1)).squeeze(1)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)


def network(card: DataCard) -> nn.Module:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8))
    flat.out_features = 8  # type: ignore[assignment]
    return flat


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are forked, and clocks that stand still: times are all that differs between two runs."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork")
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(processes, "fresh_processes", lambda: context)
    monkeypatch.setattr(training, "now", lambda device: 0.0)
    monkeypatch.setattr(training, "peak_memory", lambda device: 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("forked", "undrawn")
def test_objects_are_parts(tmp_path: Path) -> None:
    """A class, a lambda with a name, data as they are; and what came of it for a notebook."""
    heads: dict[str, Any] = {
        "softmax": "softmax",
        "quarter": Quarter,
        "mine": lambda features, classes: Softmax(features, len(classes.class_names)),
    }
    made = compare(TOY, heads=heads, seeds=2, backbone=network, epochs=2, lr=0.05, out=tmp_path, console=QUIET)
    assert [row["head"] for row in made.rows] == ["softmax", "quarter", "mine"]
    assert [row["head"] for row in made.differences] == ["quarter", "mine"]
    assert made.differences[1]["difference"] == 0  # the same head under another name
    assert len(made.records) == 3 * 2 * 2
    assert {record["epoch"] for record in made.records} == {1, 2}
    assert made.page.exists()
    assert "| `quarter` |" in made._repr_markdown_()
    assert Comparison.read(tmp_path) == made


SCRIPT = """
import torch
from softmaxes import Softmax
from softmaxes.lab import Data, compare
from softmaxes.lab.data import glyphs

print("begins")

class Sharp(Softmax):
    def _log_prob(self, input):
        return (2 * torch.nn.functional.linear(input, self.weight, self.bias)).log_softmax(1)
    def _target_log_prob(self, input, target):
        return self._log_prob(input).gather(1, target.unsqueeze(1)).squeeze(1)
    def _loss(self, input, target):
        return -self._target_log_prob(input, target)

glyphs.load_glyphs(7, train_per_class=300, test_per_class=20, jobs=2)
labels = torch.arange(4).repeat(20)
vectors = torch.randn(80, 8)
mine = Data("mine", "Four clouds.", "made here", vectors, labels, vectors, labels, class_names=list("abcd"))
made = compare(mine, heads=["softmax", Sharp], seeds=1, epochs=1, jobs=2, out="out")
print("heads", *(row["head"] for row in made.rows))
"""


@pytest.mark.slow
def test_a_script_need_not_be_guarded(tmp_path: Path) -> None:
    """The processes that draw and train do not run it anew."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["begins", "heads softmax Sharp"]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_python_and_the_command_line_give_the_same_files(tmp_path: Path) -> None:
    words = ["--heads", "softmax", "hierarchical-grown", "--seeds", "2", "--epochs", "4", "--optimizer", "adamw"]
    data = ["--data", "glyphs:10", "--train-per-class", "12", "--test-per-class", "4"]
    assert main(["compare", *data, *words, "--tune", "2", "--jobs", "1", "--out", str(tmp_path / "typed")]) == 0
    compare(
        "glyphs:10",
        train_per_class=12,
        test_per_class=4,
        heads=["softmax", "hierarchical-grown"],
        seeds=2,
        epochs=4,
        optimizer="adamw",
        tune=2,
        jobs=1,
        out=tmp_path / "called",
        console=QUIET,
    )

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    typed, called = files(tmp_path / "typed"), files(tmp_path / "called")
    assert typed.keys() == called.keys()
    assert [name for name in typed if typed[name] != called[name]] == []
    assert "report.html" in typed


@pytest.mark.slow
@pytest.mark.usefixtures("forked", "undrawn")
def test_tuning_alone_is_what_a_comparison_goes_on_from(tmp_path: Path) -> None:
    setting: dict[str, Any] = {"heads": ["softmax", "gumbel"], "epochs": 2, "jobs": 1, "out": tmp_path}
    chosen = tune(TOY, trials=2, console=QUIET, **setting)
    tried = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tuning" / "runs").glob("*.json")}
    made = compare(TOY, seeds=1, tune=2, console=QUIET, **setting)
    assert {run.head: run.lr for run in made.study.runs} == {head: one.lr for head, one in chosen.items()}
    assert tried == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tuning" / "runs").glob("*.json")}
    (result,) = (result for result in made.results if result.run.head == "softmax")
    repeated = repeat(tmp_path / "runs" / f"{result.run.key}.json", TOY, out=tmp_path / "again", console=QUIET)
    assert repeated.again == result


# What is refused


HINT = "run it in the folder of nowhere.py, or add that folder to PYTHONPATH."
BAD: dict[str, tuple[str, str]] = {
    "no module": ("--heads nowhere:make", f"No module named 'nowhere'); {HINT}"),
    "no object": ("--heads parts:nothing", "has no attribute 'nothing'"),
    "no function": ("--heads parts:number", "expected parts:number to be a function that makes a head, got int"),
    "no head": ("--heads parts:no_head", "parts:no_head: expected a softmaxes.Head, got str"),
    "of other sizes": ("--heads parts:other", "expected a head with num_classes 6, got 7"),
    "with settings": (
        "--heads parts:other:a=2",
        "--heads: expected parts:other alone, as heads of one's own have no settings on the command line, "
        "got parts:other:a=2.",
    ),
    "broken": ("--heads parts:broken", "to give something, got RuntimeError: oh no (parts.py, line 7)."),
    "against a law": ("--heads parts:Liar", "parts:Liar: expected a head that keeps the laws of softmaxes.testing"),
    "raises at import": ("--heads raising:make", "(ValueError: at import)"),
    "exits at import": ("--heads exiting:make", "(SystemExit: 3)"),
    "no syntax": ("--heads unreadable:make", "(SyntaxError: "),
    "backbone without size": ("--backbone parts:sizeless", "expected a network of parts:sizeless with out_features"),
    "backbone of another size": ("--backbone parts:wrong", "expected features of shape (2, 5), as the network's out_f"),
    "backbone that gives a pair": ("--backbone parts:pair", "as the network's out_features says, got tuple."),
    "backbone that fails": ("--backbone parts:failing", "expected parts:failing to give something, got RuntimeError:"),
    "no object of a file": ("--backbone parts:nothing", "has no attribute 'nothing'"),
    "no backbone": ("--backbone parts:no_head", "expected parts:no_head to make an nn.Module, got str"),
    "unknown backbone": ("--backbone vgg", "got vgg; did you mean tinyvgg? There are tinyvgg, resnet, or"),
    "an option of another": ("--backbone parts:network --width 8", "width 8: expected backbone resnet, got parts:netw"),
    "no data": ("--data parts:no_data", "expected parts:no_data to give a softmaxes.lab.Data, got int"),
    "data without a module": ("--data nowhere:make", f"No module named 'nowhere'); {HINT}"),
    "backbone without a module": ("--backbone nowhere:make", f"No module named 'nowhere'); {HINT}"),
    "data that fail": ("--data parts:crash", "got ZeroDivisionError: division by zero (parts.py, line 22)."),
    "data that fail in torch": ("--data parts:deep", "(parts.py, line 23)."),
    "data that end all": (
        "--data parts:leave",
        "expected parts:leave to give something, got SystemExit: 3 (parts.py, ",
    ),
    "arrays": ("--data parts:arrays", "mine: expected train_inputs as a tensor, got ndarray."),
    "lists": ("--data parts:lists", "mine: expected test_labels as a tensor, got list."),
    "names twice": ("--data parts:twice", "mine: expected class names that differ, got 'a' for classes 0 and 2."),
    "no study": ("--study parts:no_data", "expected parts:no_data to give something, got TypeError"),
    "no runs": ("--study parts:no_runs", "expected parts:no_runs to give a Study, or Runs, got list"),
    "no file": ("--study none.py", "expected a Python file with a function study, got no file none.py"),
    "no function in it": ("--study raising.py", "expected a Python file that runs, got raising.py (ValueError"),
    "optimizer": ("--optimizer adamw --momentum 0.9", "--momentum: expected 0 with adamw, which has none, got 0.9"),
}
PARTS = """
import torch
from softmaxes import Softmax
number = 3
def no_head(*_): return "a head"
def other(features, classes): return Softmax(features, 7)
def broken(features, classes): raise RuntimeError("oh no")
class Liar(Softmax):
    def _log_prob(self, input): return 2 * super()._log_prob(input)
def sizeless(card): return torch.nn.Flatten()
def network(card):
    flat = torch.nn.Flatten(); flat.out_features = 768; return flat
class Fixed(torch.nn.Module):
    out_features = 5
    def __init__(self, found): super().__init__(); self.found = found
    def forward(self, x): return self.found(x)
def wrong(card): return Fixed(lambda x: x.flatten(1))
def pair(card): return Fixed(lambda x: (x, x))
def failing(card): return Fixed(lambda x: x @ torch.zeros(1, 1))
def no_data(): return 3
def no_runs(card, seeds, changes): return []
def crash(): return 1 / 0
def deep(): return torch.nn.functional.linear(torch.zeros(2, 2), torch.zeros(3, 3))
def leave(): raise SystemExit(3)
def mine(inputs, labels, names="abc"):
    from softmaxes.lab import Data
    rows = torch.zeros(3, 2)
    return Data("mine", "Mine.", "memory", rows if inputs is None else inputs, torch.arange(3), rows, labels, [*names])
def arrays(): return mine(torch.zeros(3, 2).numpy(), torch.arange(3))
def lists(): return mine(None, [0, 1, 2])
def twice(): return mine(None, torch.arange(3), "aba")
"""


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_a_part_that_cannot_be_is_one_line(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])  # the command finds what is beside it
    for name in ("parts", "raising", "exiting", "unreadable"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    Path("parts.py").write_text(PARTS)
    Path("raising.py").write_text("raise ValueError('at import')\n")
    Path("exiting.py").write_text("raise SystemExit(3)\n")
    Path("unreadable.py").write_text("def make(:\n")
    data = toy_data()
    wide = (
        functional.interpolate(data.train_inputs, size=32),
        functional.interpolate(data.test_inputs, size=32),
    )
    toy = Data(**{**data.__dict__, "train_inputs": wide[0], "test_inputs": wide[1]})
    if "--data" not in words:
        monkeypatch.setattr("softmaxes.lab.data.sources.load_source", lambda source: toy)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["compare", *words.split(), "--epochs", "2"]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before


@pytest.mark.slow
@pytest.mark.usefixtures("forked", "undrawn")
def test_data_may_have_any_name(tmp_path: Path) -> None:
    """A name with a colon is not taken for a function of the user's own."""
    for number, name in enumerate(("words:en", "glyphs:all", "a b")):
        data = dataclasses.replace(TOY, name=name)
        made = compare(data, heads=["softmax"], seeds=1, epochs=1, out=tmp_path / str(number), console=QUIET)
        assert (made.study.own, made.card.name) == ((), name)


def test_a_part_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="expected a part with a name"):
        compare(TOY, heads=[lambda features, classes: Softmax(features, 6)], console=QUIET)
    with pytest.raises(TypeError, match="expected options that are fields of Source or Training, got epoch"):
        compare(TOY, epoch=3, console=QUIET)


def test_the_source_of_a_part_is_its_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module imports of its own package counts, also by a relative name; what is installed does not."""
    package = tmp_path / "project_of_mine"
    (package / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "heads.py": "import torch\nfrom . import layers\nfrom .deep.far import x\nfrom softmaxes import Softmax\n"
        "def make(features, classes): return Softmax(features, 2)\n",
        "layers.py": "",
        "deep/__init__.py": "",
        "deep/far.py": "x = 1\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = source_files("--heads", "project_of_mine.heads:make")
    names = {name.removeprefix("project_of_mine").removeprefix(".") for name in found}
    assert names == {"", "heads", "layers", "deep", "deep.far"}
    first = own("--heads", "project_of_mine.heads:make")
    (package / "unused.py").write_text("y = 2\n")
    assert own("--heads", "project_of_mine.heads:make") == first
    (package / "deep" / "far.py").write_text("x = 2\n")
    assert own("--heads", "project_of_mine.heads:make") != first


def test_runs_without_parts_of_one_s_own_keep_their_names() -> None:
    """The key of a stored run does not hang on fields that came later."""
    stored = json.loads(next((Path(__file__).parents[2] / "results/glyphs/runs").glob("*.json")).read_text())["run"]
    run = Run.model_validate(stored)
    assert (Path(__file__).parents[2] / f"results/glyphs/runs/{run.key}.json").exists()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_every_optimizer_learns(optimizer: str) -> None:
    from softmaxes.lab.recipe import make_optimizer

    rate = Run(head="softmax", data="x", fingerprint="x", optimizer=optimizer).lr
    assert rate == (0.1 if optimizer in ("sgd", "adagrad") else 0.001)
    run = Run(head="softmax", data="x", fingerprint="x", optimizer=optimizer, lr=0.1)
    weight = nn.Parameter(torch.ones(3))
    step: Callable[[], None] = make_optimizer(run, [weight]).step  # type: ignore[assignment]
    weight.grad = torch.tensor([1.0, 0.0, -1.0])
    step()
    assert weight[0] < 1 == weight[1] < weight[2]


def test_what_an_object_is_made_of_counts() -> None:
    """A function that another one has closed over, in a field of an entry: of no file, as in a notebook."""

    def made(number: int) -> str:
        space: dict[str, Any] = {"__name__": "of_no_file", "Softmax": Softmax}
        exec(f"def make(features, classes): return Softmax(features, {number})", space)  # noqa: S102
        inner = space["make"]
        give("--heads", Entry(lambda features, card: inner(features, card)), "entry")
        found = source_files("--heads", "entry")
        assert "of_no_file:make" in found
        return own("--heads", "entry").source

    assert made(2) == made(2) != made(3)


SCALE = 1.0


def scaled(features: int, classes: Any, scale: float = 1.0) -> nn.Module:
    return Softmax(features, round(scale * SCALE))


class Scaled:
    """A factory with a field."""

    table = (1, 2)

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, features: int, classes: Any) -> nn.Module:
        return scaled(features, classes, self.scale)


def closed_over(value: object) -> Callable[..., Any]:
    def make(features: int, classes: Any) -> object:
        return value

    return make


def test_values_that_a_part_has_make_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of a partial, fields of an object, what a function closes over, its defaults, globals that it uses."""

    def known(part: object) -> Any:
        return own("--heads", give("--heads", part, "part")).source

    pairs: list[tuple[object, object]] = [
        (functools.partial(scaled, scale=1.0), functools.partial(scaled, scale=5.0)),
        (functools.partial(scaled, 1), functools.partial(scaled, 2)),
        (Scaled(1.0), Scaled(2.0)),
        (closed_over(1), closed_over(2)),
        (closed_over(torch.zeros(3)), closed_over(torch.ones(3))),
        (closed_over(torch.zeros(())), closed_over(torch.ones((), dtype=torch.bfloat16))),
        (closed_over([1, {"a": 2}]), closed_over([1, {"a": 3}])),
        (closed_over(np.zeros(2)), closed_over(np.zeros(3))),
        (Entry(closed_over("x")), Entry(closed_over("y"))),
    ]
    for one, other in pairs:
        assert known(one) == known(one) != known(other)
    parts = (functools.partial(scaled), Scaled(1.0), closed_over(scaled))
    before = [known(part) for part in parts]
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    after = [known(part) for part in parts]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False] * 3
    monkeypatch.setattr(Scaled, "table", (1, 3))
    assert known(Scaled(1.0)) != before[1]
    assert known(closed_over(sys)) == known(closed_over(json))  # modules are no values


def test_a_part_that_cannot_be_sent_is_named() -> None:
    name = give("--heads", functools.partial(scaled, threading.Lock()), "locked")
    run = Run(head=name, data="x", fingerprint="x", own=(own("--heads", name),))
    with pytest.raises(InputError, match=r"^locked: expected a part that can be sent to another process, got Type"):
        processes.Parcel.of(run)


def test_two_threads_may_start_processes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither runs the script, and each other thread still finds what it pickles."""
    monkeypatch.setattr(starting, "_prepared", lambda name: {"name": name, "init_main_from_path": "script.py"})
    seen: dict[int, bool] = {}
    barrier = threading.Barrier(3)

    def start(number: int) -> None:
        with without_script() if number < 2 else contextlib.nullcontext():
            barrier.wait()
            seen[number] = any(key.startswith("init_main_from") for key in spawn.get_preparation_data("x"))
            barrier.wait()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(3)]
    script = sys.modules["__main__"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: False, 1: False, 2: True}
    assert sys.modules["__main__"] is script
