"""Runs on a Ray cluster give what processes of this machine give, also where a worker dies."""

import dataclasses
import io
import os
import signal
import sys
import threading
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from softmaxes import __version__
from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison import cluster
from softmaxes.lab.comparison.cluster import _work
from softmaxes.lab.comparison.execute import execute
from softmaxes.lab.comparison.executor import Parcel
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.devices import Devices
from softmaxes.lab.records import Study
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress
from toy import numbers, toy_data, toy_run

DATA = toy_data()
EPOCHS = 60


def workers() -> list[int]:
    """Processes that train a run, of a Ray cluster that this process has started."""
    parents: dict[int, int] = {}
    training = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            title = (status.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        process = int(status.parent.name)
        parents[process] = int(fields[1])
        if title.startswith(b"ray::_work"):
            training.append(process)
    return [process for process in training if parents.get(parents[process]) == os.getpid()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_cluster_gives_the_same_numbers_and_begins_a_lost_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is killed while both train: its run ends as the other does, and as in processes of this machine."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise it writes a token to the user's folder
    runs = tuple(toy_run(DATA, head, epochs=EPOCHS) for head in ("softmax", "gumbel"))
    study = Study(name="toy", title="toy", description="", runs=runs)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    expected = execute(study, DATA, here, 2, Devices("cpu"), Console(file=io.StringIO()))

    said = io.StringIO()
    killed: list[int] = []
    ended = Event()

    def kill() -> None:
        while "epoch 3/" not in said.getvalue() and not ended.wait(0.01):
            pass
        killed.extend(workers()[:1])
        for process in killed:
            os.kill(process, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    try:
        found = execute(study, DATA, there, 2, Devices("auto"), Console(file=said), cluster="local")
    finally:
        ended.set()
        killer.join()

    assert len(killed) == 1
    assert said.getvalue().count("its worker was lost (WorkerCrashedError); it is begun again") == 1
    assert [numbers(result) for result in found] == [numbers(result) for result in expected]
    for run in runs:
        weights, reference = (load_file(store.weights(run)) for store in (there, here))
        assert all(weights[name].equal(reference[name]) for name in reference)
    assert {result.machine.jobs for result in found} == {2}
    left = sorted(path.suffix for path in (tmp_path / "there" / "runs").iterdir())
    assert left == [".json"] * 2 + [".safetensors"] * 2
    assert not there.tensors().exists()


@pytest.mark.slow
def test_a_run_on_a_cluster_may_have_several_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many cores of one machine as the run has devices; more than a machine has are refused."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    study = Study(name="toy", title="toy", description="toy", runs=(toy_run(DATA, epochs=2, precision="64-true"),))
    quiet = Console(file=io.StringIO())
    (expected,) = execute(study, DATA, Store(tmp_path / "here"), 1, Devices("cpu"), quiet)
    monkeypatch.setattr(cluster, "usable_cores", lambda: 2)
    (found,) = execute(study, DATA, Store(tmp_path / "there"), None, Devices("cpu", 2), quiet, cluster="local")
    assert found.machine.devices == 2
    losses = [[epoch.train_loss for epoch in result.epochs] for result in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    weights, others = (
        load_file(store.weights(found.run)) for store in map(Store, (tmp_path / "there", tmp_path / "here"))
    )
    assert all(torch.allclose(weights[name], others[name], rtol=1e-9) for name in others)
    with pytest.raises(
        InputError, match="--devices: expected at most 2, as many CPUs as a machine of the cluster has, got 3"
    ):
        execute(study, DATA, Store(tmp_path / "more"), None, Devices("cpu", 3), quiet, cluster="local")
    assert list((tmp_path / "more").iterdir()) == []


def test_a_worker_that_is_stopped_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "data")
    lay_out(DATA, store)
    content = np.fromfile(store.tensors(), dtype=np.uint8)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    threads = threading.active_count()
    run = _work(toy_run(DATA, epochs=10**6), Parcel(b"", []), DATA.card(), content, Devices("cpu"), 1, __version__)
    assert isinstance(next(run), Progress)
    assert threading.active_count() == threads + 1
    run.close()
    assert threading.active_count() == threads
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_ray_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["compare", "--cluster", "local"]) == 2
    assert capsys.readouterr().err == (
        "softmaxes: --cluster: expected the package ray, got none; install it: pip install 'softmaxes[cluster]'.\n"
    )
    assert main(["compare", "--cluster", "local", "--seconds", "5"]) == 2
    assert "--seconds: expected none with --cluster, whose machines may differ, got 5." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"expected local or the address of a Ray cluster, got 127.0.0.1:1 \(.*Connection refused\)"),
        ("here:there", r"expected local or the address of a Ray cluster, got here:there \(invalid literal"),
        ("ray://127.0.0.1:10001", "expected local or HOST:PORT of a machine's own cluster, got ray://127.0.0.1:10001"),
    ],
)
def test_a_cluster_that_does_not_answer(address: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = Study(name="toy", title="toy", description="", runs=(toy_run(DATA),))
    with pytest.raises(InputError, match=f"--cluster: {said}"):
        execute(study, DATA, Store(tmp_path), None, Devices("cpu"), Console(file=io.StringIO()), cluster=address)
    assert list(tmp_path.iterdir()) == []


def test_mapped_files_are_not_sent(tmp_path: Path) -> None:
    files = {"train": Path("a.npy"), "test": Path("b.npy")}
    data = dataclasses.replace(DATA, files=files)
    study = Study(name="toy", title="toy", description="", runs=(toy_run(DATA),))
    with pytest.raises(InputError, match=r"--cluster: expected data that are read into memory, got a\.npy, which"):
        execute(study, data, Store(tmp_path), None, Devices("cpu"), Console(file=io.StringIO()), cluster="local")
