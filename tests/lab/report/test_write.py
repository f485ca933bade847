import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from reports import make_card, make_result, make_run, make_study, print_table, scored, whole_study, write_report
from softmaxes.lab.report import figures
from softmaxes.lab.report.summary import summarise


@pytest.mark.slow
def test_a_matrix_of_too_many_classes_is_by_group_or_not_drawn(tmp_path: Path) -> None:
    for group_size, unit in ((5, "group"), (None, None)):
        card = make_card(num_classes=300, group_size=group_size, samples=1, test_counts=(2,) * 300)
        result = make_result(make_run(), card)
        study = make_study([result.run])
        summary = summarise(study, card, [result])
        matrix = summary.matrix(summary.rows[0])
        assert (matrix and matrix.unit) == unit
        if matrix is not None:
            assert matrix.counts.sum() == 600
            assert matrix.ticks == (list(range(0, 60, 2)), list(matrix.names[::2]))  # 60 names would overlap
        page = write_report(study, card, [result], tmp_path / str(unit)).read_text(encoding="utf-8")
        assert "Most confused pairs" in page
        assert (tmp_path / str(unit) / "figures" / "confusion_softmax.png").exists() == (matrix is not None)


@pytest.mark.slow
def test_a_study_of_which_every_run_diverged(tmp_path: Path) -> None:
    card = make_card(num_classes=10, samples=2)
    results = [make_result(make_run("softmax", seed), card, diverged=1 + seed) for seed in range(2)]
    study = make_study([result.run for result in results])
    page = write_report(study, card, results, tmp_path).read_text(encoding="utf-8")
    assert "softmax: 0 of 2 seeds; seed 0 diverged in epoch 1; seed 1 diverged in epoch 2." in page
    assert "Most confused pairs" not in page
    assert set(re.findall(r'class="plot \w+" id="(\w+)"', page)) == {
        "accuracy_per_epoch",
        "accuracy_against_seconds",
        "nll_per_epoch",
        "train_loss_per_epoch",
        "train_loss_per_500_batches",
    }
    assert 'id="confusions"' not in page
    print_table(study, card, results, Console(file=io.StringIO()))


def test_a_report_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, card, results = scored({"a": [0.5], "b": [0.6]})
    monkeypatch.setattr(figures, "draw", lambda summary, forms: {"accuracy.png": str(summary.rows).encode()})
    write_report(study, card, results, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert {file.name for file in before} == {"report.html", "table.csv", "table.md", "table.tex", "accuracy.png"}

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(study, card, results[:1], tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


@pytest.mark.slow
def test_the_report_imports_no_torch(finished: Path, tmp_path: Path) -> None:
    """But where a head has a tree, whose page shows it."""
    code = f"""
import sys
from softmaxes.lab.cli.main import main
assert main(["report", {str(shutil.copytree(finished, tmp_path / "kept"))!r}]) == 0
sys.exit("torch" in sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_results_from_before_statistics_have_no_such_sections(tmp_path: Path) -> None:
    """And what an earlier report left of them is taken away."""
    study, card, results = whole_study()
    (tmp_path / "differences.csv").write_text("old")
    old = [result.model_copy(update={"correct": None, "calibration": None}) for result in results]
    page = write_report(study, card, old, tmp_path).read_text(encoding="utf-8")
    for name in ("differences", "calibration", "reliability"):
        assert f'id="{name}' not in page
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"report.html", "table.csv", "table.md", "table.tex", "figures"}
    assert not (tmp_path / "figures" / "reliability.png").exists()
    console = Console(file=io.StringIO(), record=True)
    print_table(study, card, old, console)
    assert "Differences" not in console.export_text()
