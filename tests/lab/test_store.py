"""The store: whole files, one writer, and only what fits is read."""

from pathlib import Path

import pytest

from softmaxes.files import write_whole
from softmaxes.lab import InputError
from softmaxes.lab.run import Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.train import lay_out, train
from toy import toy_data, toy_run

DATA = toy_data()
RESULTS = Path(__file__).parents[2] / "results"


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


def test_what_a_run_needs_to_go_on_goes_with_its_result(tmp_path: Path) -> None:
    store, (done, begun) = Store(tmp_path), study().runs
    trained = Store(tmp_path / "trained")
    lay_out(DATA, trained)
    result = train(done, DATA.card(), trained)
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
        ('{"name": "x"}', "expected Study as JSON, got title: Field required"),
        ("\x00\xff", "expected Study as JSON"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Store(tmp_path).study()
