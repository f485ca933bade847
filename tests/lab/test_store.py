"""The store: whole files, one writer, and only what fits is read."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softmaxes.files import write_whole
from softmaxes.lab import InputError
from softmaxes.lab.cost.records import Table
from softmaxes.lab.records import Run, Study
from softmaxes.lab.store import COMPARISON, FILES, Store
from toy import toy_data, toy_run

DATA = toy_data()
RESULTS = Path(__file__).parents[2] / "results"
OTHERS = (
    "bounds",
    "exact_search",
    "gap",
    "gap-cifar100",
    "many-61117",
    "many-81694",
    "many-fasttext",
    "next-word",
    "peers",
    "scaling_out",
    "search",
    "sharded",
    "step",
    "tasks",
)  # of the benchmarks


def study() -> Study:
    return Study(name="toy", title="Toy", description="Toys.", runs=(toy_run(DATA), toy_run(DATA, seed=1)))


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "folder")
    store.save_study(study(), DATA.card())
    assert store.study() == study()
    assert store.card() == DATA.card()
    assert store.results(study()) == []


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("*/runs")), ids=lambda folder: folder.parent.name)
def test_the_stored_results_have_the_names_of_their_runs(folder: Path) -> None:
    """Also after a field was added to what a run is."""
    store = Store(folder.parent)
    named = {f"{run.key}.json" for run in store.study().runs}
    assert {path.name for path in folder.glob("*.json")} == named


def test_what_a_run_needs_to_go_on_goes_with_its_result(finished: Path, tmp_path: Path) -> None:
    store, trained = Store(tmp_path / "mine"), Store(finished)
    done, begun = trained.study().runs
    result = trained.result(done)
    assert result is not None
    store.save_study(trained.study(), trained.card())
    for run in (done, begun):
        store.checkpoint(run).parent.mkdir(exist_ok=True)
        store.checkpoint(run).write_bytes(b"")
    store.save_result(result)
    assert not store.checkpoint(done).exists()
    store.checkpoint(done).write_bytes(b"")  # killed before it was gone
    with store.lock():
        assert not store.checkpoint(done).exists()
        assert store.checkpoint(begun).exists()


def test_a_run_is_named_by_all_of_its_fields() -> None:
    run = toy_run(DATA)
    changed = [
        toy_run(DATA, seed=1),
        toy_run(DATA, "gumbel"),
        toy_run(DATA, lr=0.06),
        toy_run(DATA, lr_schedule="constant"),
        toy_run(DATA, hidden_units=7),
        toy_run(DATA, backbone="resnet"),
        toy_run(DATA, flips=True),
        toy_run(toy_data(seed=1)),
    ]
    assert len({run.key, *(other.key for other in changed)}) == 9
    assert run.key == toy_run(DATA).key
    assert Run(head="softmax", data="toy", fingerprint="f").key == "e2ef6a95b5ca67f2"
    assert toy_run(DATA, seed=1).setting == run.setting


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_writer(tmp_path: Path) -> None:
    with (
        Store(tmp_path).lock(),
        pytest.raises(InputError, match=r"expected a folder of one's own, got one that is being written"),
        Store(tmp_path).lock(),
    ):
        pass
    with Store(tmp_path).lock():  # let go
        pass


def test_of_a_lock_nothing_stays(tmp_path: Path) -> None:
    """Of one under which nothing was written, because the command was refused or stopped, not even the folder."""
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "folder", tmp_path / "empty"):
        for error in (InputError, KeyboardInterrupt):

            def stop() -> None:
                assert (folder / ".lock").exists()  # noqa: B023
                raise error  # noqa: B023

            with pytest.raises(error), Store(folder).lock():
                stop()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []
    store = Store(tmp_path / "new" / "folder")
    with store.lock():
        store.save_study(study(), DATA.card())
    assert sorted(path.name for path in store.directory.iterdir()) == ["data.json", "study.json"]


def tree(folder: Path) -> dict[str, object]:
    """Everything in a folder: what links say, what files hold."""
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def lock(store: Store) -> None:
    with store.lock():
        pass


STRANGERS: dict[str, Callable[[Path], object]] = {
    "a project": lambda folder: (folder / "data.safetensors").write_bytes(b"mine"),
    "a project with a folder": lambda folder: (folder / "src").mkdir(),
    "a lock of another program": lambda folder: (folder / ".lock").write_text("pid 7"),
    "a study of another kind": lambda folder: (folder / "study.json").write_text('{"title": "a thesis"}'),
    "data of another kind": lambda folder: (folder / "data.json").write_text("[1, 2, 3]"),
    "a study that is cut": lambda folder: (folder / "study.json").write_text('{"name": "toy", '),
    "parts of others": lambda folder: (folder / ".movie.mkv.12.part").touch(),
    "tuning of others": lambda folder: ((folder / "tuning").mkdir(), (folder / "tuning" / "guitar.txt").touch()),
    "runs of others": lambda folder: ((folder / "runs").mkdir(), (folder / "runs" / "marathon.json").touch()),
    "what scale writes": lambda folder: (folder / "scale.json").write_text('{"cells": []}'),
}


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"expected (an empty folder or|Study as JSON|DataCard as JSON)"):
        lock(Store(tmp_path))
    assert tree(tmp_path) == before
    if not any(name in before for name in ("study.json", "data.json")):
        (tmp_path / "study.json").write_text('{"title": "a thesis"}')
    (tmp_path / "scale.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="expected an empty folder or"):
        Store(tmp_path, {"scale.json": Table}).check()


@pytest.mark.skipif(sys.platform != "linux", reason="names are of letters")
def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(InputError, match="expected a name in UTF-8, got other bytes"):
        lock(Store(folder))
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["runs", "figures", "cells", "tuning", "earlier", "tensorboard", "mlflow.db", "mlflow-artifacts"]
)
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "away").mkdir()
    store = Store(tmp_path / "mine")
    store.save_study(study(), DATA.card())
    (store.directory / name).symlink_to(tmp_path / "away")
    with pytest.raises(InputError, match=f"mine/{name}: expected a place in this folder, got a link to another"):
        lock(store)
    assert not (store.directory / ".lock").exists()


def test_what_was_cut_off_before_its_first_record_goes_on(tmp_path: Path) -> None:
    tuning = Store(tmp_path / "tuning")
    tuning.save_study(study(), DATA.card())
    for name in (".lock", ".data.json.12.part", "tuning/.lock"):
        (tmp_path / name).touch()
    with Store(tmp_path).lock():
        assert not (tmp_path / ".data.json.12.part").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuning"]


def test_in_a_folder_of_ours_nothing_of_others_is_touched(tmp_path: Path) -> None:
    store, run = Store(tmp_path), study().runs[0]
    store.save_study(study(), DATA.card())
    own = [
        f"runs/{run.key}.checkpoint",
        f"runs/.{run.key}.checkpoint.12.part",
        f"runs/.{run.key}.safetensors.12.part",
        f"cells/.{run.key}.json.12.part",
        "figures/.accuracy.png.12.part",
        ".report.html.12.part",
        ".data.safetensors.12.part",
    ]
    others = [
        f"runs/{run.key}.json",
        "runs/bert.checkpoint",
        "runs/bert.json",
        f"{run.key}.checkpoint",
        f"{run.key}.json",
        f"models/{run.key}.checkpoint",
        f"models/{run.key}.json",
        "models/.report.html.12.part",
        "downloads/.movie.mkv.part",
        "runs/.movie.mkv.12.part",
        ".report.html.part",
        "notes.txt",
    ]
    for name in own + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with store.lock():
        pass
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*others, "study.json", "data.json"}


def test_the_stored_results_are_ours() -> None:
    """Folders of earlier versions, and every file in them that is written whole has its place."""
    for folder in RESULTS.iterdir():
        marks = {"scale.json": Table} if folder.name == "scale" else COMPARISON
        if any((folder / name).exists() for name in marks):
            Store(folder, marks).check()
    for path in RESULTS.glob("*/**/*.*"):
        folder = path.parent.relative_to(RESULTS / path.relative_to(RESULTS).parts[0])
        if path.is_file() and path.suffix != ".txt" and path.stem not in OTHERS:
            place = "." if folder.name == "tuning" else folder.as_posix().removeprefix("tuning/")
            assert re.fullmatch(FILES[place], path.name), path


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(InputError, match="file: expected a folder to write to, got File exists"), Store(path).lock():
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected Study as JSON, got the file: Invalid JSON"),
        ("[]", "expected Study as JSON"),
        ('{"name": "x"}', "expected Study as JSON, got no title."),
        ("\x00\xff", "expected Study as JSON"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Store(tmp_path).study()
