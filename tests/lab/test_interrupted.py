"""A study that is killed again and again, and taken up again, leaves the files of one that was left alone."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from softmaxes.lab.comparison import processes
from softmaxes.lab.comparison.compare import run_study
from softmaxes.lab.records import Study, Tuning
from softmaxes.lab.training import train as training
from toy import toy_data, toy_run

DATA = toy_data(train_per_class=60)
HEADS = ("softmax", "hierarchical-grown")
STOPS = 10


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_stopped_ten_times_at_random_it_leaves_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(processes, "fresh_processes", lambda: context)
    monkeypatch.setattr(training, "now", lambda device: 0.0)  # times are all that may differ
    monkeypatch.setattr(training, "peak_memory", lambda device: 0.0)
    runs = tuple(
        toy_run(DATA, head, seed=seed, epochs=6, batch_size=8, validation=0.2) for seed in range(2) for head in HEADS
    )
    given = Study(name="toy", title="Toy", description="Toys.", runs=runs, tuning=Tuning(trials=2))

    def compare(folder: Path) -> None:
        os.setpgrp()
        run_study(given, DATA, folder, jobs=1, device="cpu")
        os._exit(0)

    def files(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    start = time.monotonic()
    alone = context.Process(target=compare, args=(tmp_path / "alone",))
    alone.start()
    alone.join()
    assert alone.exitcode == 0
    took = time.monotonic() - start
    generator = random.Random(0)
    held: list[int] = []
    for longest in (0.2, 0.15, 0.1, 0.05):  # of the time; where it was done before the tenth stop, again
        shutil.rmtree(tmp_path / "stopped", ignore_errors=True)
        held = []
        while len(held) < STOPS:
            process = context.Process(target=compare, args=(tmp_path / "stopped",))
            process.start()
            process.join(generator.uniform(0.25 * longest, longest) * took)
            if process.exitcode is not None:
                break
            os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            held.append(len(list((tmp_path / "stopped").rglob("runs/*.json"))))
        if len(held) == STOPS:
            break
    assert len(held) == STOPS
    assert held == sorted(held)
    assert len(set(held)) > 2  # it was stopped in the middle
    last = context.Process(target=compare, args=(tmp_path / "stopped",))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "alone")
