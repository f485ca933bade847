"""Several devices that share a run: the same run as on one, to rounding; and what is said where one is lost."""

import io
import multiprocessing
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from rich.console import Console
from shared import CASES, DATA, folder_of, laid, of_size, process, same
from torch.multiprocessing.spawn import spawn

from softmaxes.files import InputError
from softmaxes.lab.comparison import processes
from softmaxes.lab.comparison.compare import compare, run_study
from softmaxes.lab.comparison.finished import Comparison
from softmaxes.lab.comparison.plan import heads_side_by_side
from softmaxes.lab.devices import Devices, Strategy
from softmaxes.lab.records import Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.training.classifier import UnfitError
from softmaxes.lab.training.train import train
from toy import numbers, toy_data, toy_run

TOY = toy_data()

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, trained on one device."""
    made = tmp_path_factory.mktemp("runs")
    for case in CASES:
        train(case.run(), DATA[case.data]().card(), laid(folder_of(made, case, 1), case))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_a_run_is_the_same_on_several_devices(size: int, folder: Path) -> None:
    meeting = (folder / f"meeting-{size}").as_uri()
    spawn(process, args=(size, str(folder), meeting), nprocs=size)
    for case in of_size(size):
        same(folder_of(folder, case, size), folder_of(folder, case, 1), case)


def shared(out: Path, runs: tuple[Run, ...], number: int = 2, strategy: Strategy = "ddp") -> Comparison:
    """A comparison of which each run has several processes."""
    study = Study(name="toy", title="Toy", description="Toys.", runs=runs)
    quiet = Console(file=io.StringIO())
    return run_study(study, TOY, out, jobs=1, device="cpu", devices=number, strategy=strategy, console=quiet)


@pytest.mark.slow
def test_a_lost_process_ends_its_run_with_a_line_and_the_run_goes_on_with_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(TOY, epochs=3, channels=4)
    started: list[BaseProcess] = []
    context = multiprocessing.get_context("spawn")

    class Watched:
        """Processes of a context, of which the second is killed when the first epoch is stored."""

        Pipe = staticmethod(context.Pipe)

        @staticmethod
        def Process(**arguments: Any) -> BaseProcess:  # noqa: N802
            process = context.Process(**arguments)
            started.append(process)
            return process

    monkeypatch.setattr(processes, "fresh_processes", lambda: Watched)
    checkpoint = Store(tmp_path / "out").checkpoint(run)

    def kill() -> None:
        while not checkpoint.exists():
            time.sleep(0.001)
        started[1].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(InputError, match="softmax, seed 0: process 2 of its 2 ended with code -9"):
        shared(tmp_path / "out", (run,))
    killer.join()
    assert all(process.exitcode is not None for process in started)
    assert checkpoint.exists()

    monkeypatch.undo()
    (result,) = shared(tmp_path / "out", (run,), number=3).results
    (expected,) = shared(tmp_path / "alone", (run,), number=1).results
    assert result.machine.devices == 3
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3]
    found, other = ([epoch.train_loss for epoch in one.epochs] for one in (result, expected))
    assert found == pytest.approx(other, rel=1e-4)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "3 devices a run, ddp" in page
    assert "devices a run" not in (tmp_path / "alone" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_checkpoint_in_parts_that_was_cut_off_is_not_taken_for_a_whole_one(
    tmp_path: Path,
) -> None:
    run = toy_run(TOY, epochs=2)
    expected = numbers(shared(tmp_path / "whole", (run,), strategy="sharded-head").results[0])
    checkpoint = Store(tmp_path / "cut").checkpoint(run)
    (checkpoint / "epoch-1.part").mkdir(parents=True)
    (checkpoint / "epoch-1.json").write_text("{")
    Store(tmp_path / "cut").save_study(Study(name="toy", title="Toy", description="Toys.", runs=(run,)), TOY.card())
    found = shared(tmp_path / "cut", (run,), strategy="sharded-head").results[0]
    assert numbers(found) == expected
    assert not checkpoint.exists()

    checkpoint = Store(tmp_path / "other").checkpoint(run)
    (checkpoint / "epoch-1").mkdir(parents=True)
    Store(tmp_path / "other").save_study(Study(name="toy", title="Toy", description="Toys.", runs=(run,)), TOY.card())
    with pytest.raises(InputError, match="expected to go on with --strategy sharded-head, as the run began, got"):
        shared(tmp_path / "other", (run,))
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        shared(tmp_path / "other", (run,), strategy="sharded-head")
    assert (checkpoint / "epoch-1").exists()


@pytest.mark.parametrize(
    ("head", "strategy", "changes", "said"),
    [
        ("softmax", "ddp", {"backbone": "resnet", "width": 4, "channels": 10}, "without batch normalisation"),
        ("mixture", "sharded-head", {}, "expected one of Softmax, .* got mixture, a MixtureOfSoftmaxes"),
        ("hierarchical-grown", "sharded-head", {"epochs": 4}, "which learns its tree in training"),
        ("hierarchical-grown", "fsdp", {"epochs": 4}, "got a head that learns its tree in training"),
        ("cosine", "fsdp", {}, "got a parameter that is a single number"),
    ],
)
def test_what_several_devices_cannot_share_is_refused_beforehand(
    head: str, strategy: Strategy, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UnfitError, match=said):
        shared(tmp_path / "out", (toy_run(TOY, head, **changes),), strategy=strategy)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": 0}, "--devices: expected 1 or more, got 0"),
        ({"devices": 2, "seconds": 9.0}, "--seconds: expected none with several devices a run, got 9"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        compare(TOY, heads=["softmax"], device="cpu", out=tmp_path / "out", **options)


@pytest.mark.slow
def test_torchrun_trains_one_run_in_all_of_its_processes(tmp_path: Path) -> None:
    words = "compare --data glyphs:20 --train-per-class 20 --test-per-class 5 --heads gumbel --seeds 1 --epochs 2"
    alone = [sys.executable, "-m", "softmaxes", *words.split(), "--device", "cpu", "--out"]
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *alone[1:]]
    done = subprocess.run([*starter, str(tmp_path / "shared")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    (result,) = Comparison.read(tmp_path / "shared").results
    assert result.machine.devices == 2
    subprocess.run([*alone, str(tmp_path / "alone")], capture_output=True, check=True)
    (expected,) = Comparison.read(tmp_path / "alone").results
    found, other = ([epoch.train_loss for epoch in one.epochs] for one in (result, expected))
    assert found == pytest.approx(other, rel=1e-4)

    refused = subprocess.run([*starter[:-1], "--devices", "3"], capture_output=True, text=True, check=False)
    assert "--devices: expected 2, as many as torchrun started processes, got 3." in refused.stderr


def test_of_all_heads_those_are_left_out_that_several_devices_cannot_share() -> None:
    """With the reason, as those that the data cannot serve."""
    study = heads_side_by_side(TOY, ["all"], range(1), {"epochs": 4}, Devices("cpu", 2, "sharded-head"))
    heads, left_out = {run.head for run in study.runs}, {one.head: one.reason for one in study.left_out}
    assert {"softmax", "hierarchical", "adaptive", "gumbel", "cosface"} <= heads
    assert "which learns its tree in training" in left_out["hierarchical-grown"]
    assert "a MixtureOfSoftmaxes" in left_out["mixture"]
    assert not heads & left_out.keys()
