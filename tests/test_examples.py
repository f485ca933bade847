"""Each file of `examples/` at a small size: what it prints is a result, and better than chance."""

import importlib.util
import math
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
SMALL = ["--classes", "8", "--per-class", "30"]
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example in an empty folder, in this process, and gives what it prints."""
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)

    def ran(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return ran


def run_with(packages: tuple[str, ...], folder: Path, name: str, *words: str) -> str:
    """The same in a Python of its own: other packages set up warnings, logs and seeds of the whole process."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'softmaxes[examples]'")
    environment = os.environ | {"SOFTMAXES_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern: str, printed: str) -> float:
    """The number that a pattern finds once."""
    (found,) = re.findall(pattern, printed)
    return float(found.replace(",", ""))


def accuracy(printed: str) -> float:
    return number(r"test accuracy: ([\d.]+) %", printed)


def test_every_example_has_a_test_a_line_in_the_table_and_says_what_to_type() -> None:
    tests, table = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    folders = {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")}
    assert set(re.findall(r"^\| \[`(\w+(?:\.py)?)`\]", table, re.M)) == {path.name for path in FILES} | folders
    for path in FILES:
        assert f'"{path.name}"' in tests, path.name
        assert re.search(rf"^    (python|torchrun .*) examples/{path.name}\b.*$", path.read_text(), re.M), path.name


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "hierarchical"])
def test_plain_pytorch(run: Run, head: str) -> None:
    printed = run("plain_pytorch.py", *SMALL, "--epochs", "4", "--head", head)
    losses = [float(loss) for loss in re.findall(r"epoch \d: loss ([\d.]+)", printed)]
    assert len(losses) == 4
    assert losses[-1] < losses[0] < math.log(8) + 0.5
    assert accuracy(printed) > 30  # of eight classes
    assert len(re.findall(r"^.+: .+ \d+ %, .+ \d+ %, .+ \d+ %$", printed, re.M)) == 3


@pytest.mark.slow
def test_lightning_module(tmp_path: Path) -> None:
    printed = run_with(("lightning",), tmp_path, "lightning_module.py", *SMALL, "--epochs", "4")
    assert accuracy(printed) > 30
    assert number(r"training loss in the last epoch: ([\d.]+)", printed) < math.log(8)
    assert number(r"test NLL: ([\d.]+)", printed) < math.log(8)


@pytest.mark.slow
def test_hugging_face_trainer(tmp_path: Path) -> None:
    sizes = ["--classes", "10", "--examples", "1000", "--epochs", "4"]
    printed = run_with(("transformers", "accelerate"), tmp_path, "hugging_face_trainer.py", *sizes)
    assert accuracy(printed) > 50  # of ten classes
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_timm_features(run: Run, tmp_path: Path) -> None:
    """With a network of torch: timm does not import where torchvision is of another build than torch."""
    printed = run("timm_features.py", *SMALL, "--heads", "softmax", "--seeds", "1", "--jobs", "1", "--epochs", "10")
    assert "240 vectors of 512 numbers" in printed
    assert number(r"softmax: ([\d.]+) %", printed) > 30
    vectors = tmp_path / "runs" / "features-small" / "vectors"
    assert sorted(path.name for path in vectors.iterdir()) == ["class_names.npy", "features.npy", "labels.npy"]
    assert Path(printed.split()[-1]).exists()


@pytest.mark.slow
def test_a_network_that_timm_cannot_give_is_said_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SystemExit, match=r"^--network: expected timm, got .*pip install timm$"):
        run("timm_features.py", *SMALL, "--network", "resnet18")


@pytest.mark.slow
def test_products(run: Run) -> None:
    printed = run("products.py", "--products", "10000", "--features", "128", "--steps", "7")
    times = dict(re.findall(r"^(\S+): ([\d.]+) ms a step", printed, re.M))
    assert list(times) == ["softmax", "neighbor-sampled", "hierarchical"]
    assert 0 < 4 * float(times["hierarchical"]) < float(times["softmax"])


@pytest.mark.slow
def test_next_word(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("\n\n".join(f"The {one} cat sees {one} dogs, and no bird." for one in map(str, range(300))))
    printed = run("next_word.py", str(mine), "--words", "30", "--epochs", "3")
    alone = number(r"frequencies alone: (\d+)", printed)
    after = [float(one) for one in re.findall(r"epoch \d: perplexity (\d+)", printed)]
    assert len(after) == 3
    assert after[-1] <= after[0] < alone
    assert "vocabulary of 30" in printed
    with pytest.raises(SystemExit, match=r"mine\.txt: expected ten paragraphs or more, .* got 1\.$"):
        run("next_word.py", str(mine), "--most", "1")


@pytest.mark.slow
def test_next_word_of_the_documentation_of_python(run: Run) -> None:
    printed = run("next_word.py", "--words", "500", "--epochs", "2", "--most", "1500", "--features", "32")
    alone = number(r"frequencies alone: (\d+)", printed)
    assert 1 < number(r"epoch 2: perplexity (\d+)", printed) < 0.9 * alone
    assert number(r"([\d,]+) words, vocabulary of 500", printed) > 10_000


@pytest.mark.slow
def test_arcface_retrieval(run: Run) -> None:
    printed = run("arcface_retrieval.py", "--classes", "80", "--per-class", "16", "--epochs", "12")
    recall = {name: float(share) for name, share in re.findall(r"^(\w+): recall@1 ([\d.]+) %$", printed, re.M)}
    assert list(recall) == ["untrained", "softmax", "arcface"]
    assert min(recall["softmax"], recall["arcface"]) > recall["untrained"] + 4
    assert recall["untrained"] > 5 * number(r"chance: ([\d.]+) %", printed)
    assert "40 characters to learn, 40 others to find" in printed


@pytest.mark.slow
def test_own_head_and_backbone(run: Run) -> None:
    printed = run("own_head_and_backbone.py", "--epochs", "6", "--seeds", "2", "--jobs", "1")
    right = {name: float(share) for name, share in re.findall(r"^(\w+): ([\d.]+) %, NLL", printed, re.M)}
    assert list(right) == ["softmax", "mine"]
    assert right["mine"] > 25  # of eight classes
    assert re.search(r"^mine less softmax: [+-][\d.]+ ± [\d.]+ points$", printed, re.M)
    assert Path(printed.split()[-1]).exists()


@pytest.mark.slow
def test_load_and_serve(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'softmaxes[onnx]'")
    printed = run("load_and_serve.py", *SMALL, "--epochs", "20", "--jobs", "1")
    assert max(float(share) for share in re.findall(r"^\w+: ([\d.]+) %; chance", printed, re.M)) > 30
    assert "the same class for 200 of 200 images" in printed
    assert len(re.findall(r"^  \d+ % ", printed, re.M)) == 3
    assert (tmp_path / "runs" / "served" / "classifier.onnx").exists()


def started(processes: int, folder: Path, *options: str) -> "subprocess.Popen[str]":
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = ["--folder", str(folder), "--classes=300", "--batch-size=50", "--every=4", *options]
    return subprocess.Popen(
        [*launcher, str(EXAMPLES / "sharded.py"), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def losses_in(lines: str) -> dict[int, float]:
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+), \d processes: loss ([\d.]+)", lines)}


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in listed.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the processes in /proc")
@pytest.mark.parametrize("head", ["flat", "tree"])
def test_a_killed_rank_ends_the_run_and_another_number_of_ranks_goes_on(head: str, tmp_path: Path) -> None:
    whole, _ = started(1, tmp_path / "whole", f"--head={head}", "--steps=24").communicate(timeout=200)
    expected = losses_in(whole)
    assert sorted(expected) == list(range(1, 25))
    killed = started(2, tmp_path / "killed", f"--head={head}", "--steps=100000")
    before = {}
    assert killed.stdout is not None
    for line in killed.stdout:
        before |= losses_in(line)
        if max(before, default=0) >= 6:  # after a checkpoint, before the next is sure
            os.kill(children_of(killed.pid)[1], signal.SIGKILL)
            break
    killed.communicate(timeout=200)
    assert killed.returncode != 0
    kept = sorted(path for path in (tmp_path / "killed").glob("step-*") if path.suffix != ".part")
    assert kept
    last = int(kept[-1].name[5:])
    again = started(3, tmp_path / "killed", f"--head={head}", f"--steps={last + 4}")
    lines, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    found = losses_in(lines)
    assert sorted(found) == list(range(last + 1, last + 5))  # it goes on where the last checkpoint is
    assert last < 20, "expected the run to end soon after the signal"
    for step, loss in (before | found).items():
        assert loss == pytest.approx(expected[step], abs=2e-5)
