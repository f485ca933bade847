"""A stored run trained once more, by the command that the page prints."""

import re
import shlex
from pathlib import Path

import pytest

from softmaxes.lab import Comparison
from softmaxes.lab.cli.main import main
from softmaxes.lab.records import Epoch, Result, Source
from softmaxes.lab.report import table
from softmaxes.lab.report.sections import differences, frequency, nearest, tuning
from softmaxes.lab.report.summary import next_one
from softmaxes.lab.store import Store, read_record, write_record
from toy import FINISHED_DATA

pytestmark = pytest.mark.slow


def test_the_command_on_the_page_gives_the_stored_number(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(finished)
    page = Path("report.html").read_text("utf-8")
    commands = re.findall(r"<code>(softmaxes repeat [^<]*)</code>", page)
    assert len(commands) == 2
    words = shlex.split(commands[0])
    assert words[3:] == FINISHED_DATA
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    now, stored = re.search(r"accuracy: ([\d.]+) % now, ([\d.]+) % stored; inside .* \(2 seeds\)", said).groups()  # type: ignore[union-attr]
    assert now == stored


def test_other_data_are_refused_before_anything_is_trained(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    (name, *_) = sorted(str(path) for path in Path("runs").glob("*.json"))
    assert main(["repeat", name, "--train-per-class", "11", "--out", "other"]) == 2
    assert re.search(
        r"expected the data of runs/\w+\.json, glyphs:3 with fingerprint \w{16}, got glyphs:3 with",
        capsys.readouterr().err,
    )
    assert not Path("other").exists()
    assert main(["repeat", "runs/none.json"]) == 2
    assert "runs/none.json: expected a file runs/KEY.json of `softmaxes compare`, got none." in capsys.readouterr().err
    assert main(["repeat", "study.json"]) == 2
    assert "study.json: expected Result as JSON" in capsys.readouterr().err


def test_a_run_that_diverged_is_not_repeated(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(finished)
    result = store.results(store.study())[0]
    lost = Epoch(epoch=1, train_loss=float("inf"), scores=None, train_seconds=1, test_seconds=1)
    nothing = {"confusion": (), "guesses": (), "correct": None, "calibration": None}
    write_record(tmp_path / "lost.json", result.model_copy(update={"epochs": (lost,)} | nothing))
    assert read_record(tmp_path / "lost.json", Result).diverged == 1
    assert main(["repeat", str(tmp_path / "lost.json")]) == 2
    assert "expected a run that finished, got one that diverged in epoch 1." in capsys.readouterr().err


def test_where_one_more_seed_lies() -> None:
    assert next_one([0.5]) is None
    low, high = next_one([0.4, 0.6]) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert (high - low) / 2 == pytest.approx(12.7062 * 0.141421 * 1.5**0.5, rel=1e-4)  # t s sqrt(1 + 1/n)


@pytest.mark.parametrize(
    "words", [["--data-dir", "some/where/mine.npz"], ["--image-size", "48"], ["--long-tail", "20"]]
)
def test_of_a_path_its_name_alone_is_kept(words: list[str]) -> None:
    source = Source.model_validate({"data": "/home/me/photos", words[0].removeprefix("--").replace("-", "_"): words[1]})
    expected = ("--data-dir", "mine.npz") if words[0] == "--data-dir" else tuple(words)
    assert source.words() == ("--data", "photos", *expected)


STORED = sorted(path.parent for path in (Path(__file__).parents[2] / "results").glob("*/study.json"))


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: folder.name)
def test_the_tables_of_stored_results_are_made_again_byte_for_byte(folder: Path) -> None:
    """Results of earlier versions stay readable, and give what they gave."""
    comparison = Comparison.read(folder)
    summary = comparison.summary
    compared, parts = differences.differences(summary), frequency.table(summary)
    grids = {"table": table.comparison(summary), "frequency": parts}
    grids["differences"] = compared and differences.table(compared)
    made = {f"{name}.md": grid.markdown() for name, grid in grids.items() if grid is not None}
    made |= {f"{name}.csv": grid.csv() for name, grid in grids.items() if grid is not None}
    if parts is not None:
        made["frequency.csv"] = frequency.csv(parts)
    if comparison.study.tuning:
        made["tuning.csv"] = tuning.csv(comparison.study)
    if near := nearest.nearest(summary):
        made["nearest.md"] = nearest.table(near).markdown()
        made["nearest.csv"] = nearest.every(nearest.fits(summary)).csv()
    stored = {
        path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix in (".csv", ".md")
    }
    assert made == stored
