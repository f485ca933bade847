import csv
import html
import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from reports import partial_study, print_table, scored, sparse_study, whole_study, write_report
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report import table, wording
from softmaxes.lab.report.sections import differences, frequency, tuning
from softmaxes.lab.report.summary import MEASURES, summarise
from softmaxes.lab.store import Store


@pytest.mark.slow
def test_an_infinite_nll_is_shown_with_the_share_behind_it(tmp_path: Path) -> None:
    study, card, results = sparse_study()
    summary = summarise(study, card, results)
    assert [row.marks["nll"] for row in summary.rows] == ["best", "", ""]
    assert [row.scores["nll"].half_width is None for row in summary.rows] == [False, True, True]
    assert "Every other head is distinguishably lower" in wording.finding(summary)

    page = write_report(study, card, results, tmp_path).read_text(encoding="utf-8")
    assert "a head gave a true class probability zero; the share of targets outside its support stands beside" in page
    shown = page[page.index('id="comparison-table"') :].partition("</table>")[0]
    rows = [html.unescape(re.sub(r"<[^>]*>", "", row)).split() for row in re.findall(r"<td.*</td>", shown)]
    nll, outside = ([rows[9 * line + column] for line in range(3)] for column in (5, 6))
    assert [row[0] for row in nll] == ["★best:", "∞", "∞"]
    assert outside == [["0", "±", "0"], ["3.0", "±", "2.5"], ["<0.1", "±", "<0.1"]]
    assert page.count("<td>∞ (2.0\xa0% outside the support)</td>") == 1  # seed 0 of sparsemax in the list of every run
    assert page.count("<td>∞ (&lt;0.1\xa0% outside the support)</td>") == 1
    assert "<figcaption>Infinite after every epoch: sparsemax (3.0\xa0% outside the support).</figcaption>" in page

    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {9}
    assert [row[4] for row in cells[3:]] == ["∞ (3.0\xa0% outside the support)", "∞ (<0.1\xa0% outside the support)"]

    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert [line.count("∞ 3.0%") for line in printed.splitlines() if line.startswith("sparsemax")] == [1]
    assert [line.count("∞ <0.1%") for line in printed.splitlines() if line.startswith("entmax")] == [1]

    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        softmax, sparsemax, entmax = csv.DictReader(file)
    assert (sparsemax["nll"], sparsemax["nll_low"], sparsemax["nll_high"], sparsemax["nll_mark"]) == ("inf", "", "", "")
    assert float(sparsemax["outside_support"]) == pytest.approx(0.03)
    assert (softmax["outside_support"], entmax["nll"]) == ("0.0", "inf")


def test_where_nothing_is_outside_the_support_nothing_is_said_of_it() -> None:
    study, card, results = whole_study()
    page = html_page.render(summarise(study, card, results))
    sections = re.findall(r'<section aria-labelledby="(\w+)">(.*?)</section>', page, re.DOTALL)
    assert [name for name, text in sections if "support" in text] == ["reading"]  # which says what is said elsewhere
    assert "support" not in table.comparison(summarise(study, card, results)).markdown()
    console = Console(file=io.StringIO(), record=True)
    print_table(study, card, results, console)
    assert "support" not in console.export_text()


def test_an_infinite_nll_from_before_the_share_was_known_is_shown() -> None:
    summary = summarise(*scored({"a": [math.inf, 1.0], "b": [2.0, 2.1]}, "nll"))
    page = html_page.render(summary)
    assert "<td>∞</td>" in page
    assert "a head gave a true class probability zero; curves leave such epochs out." in page
    assert "| ∞ |" in table.comparison(summary).markdown()


def test_the_table_as_csv_has_every_digit(report: Path) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    with (report.parent / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines] == [row.label for row in summary.rows]
    for line, row in zip(lines, summary.rows, strict=True):
        for measure in summary.known:
            found = row.scores[measure.key]
            assert float(line[measure.key]) == found.mean
            assert float(line[f"{measure.key}_low"]) == found.low
            assert float(line[f"{measure.key}_high"]) == found.high
            assert line[f"{measure.key}_mark"] == row.marks[measure.key]
        assert row.epoch_seconds is not None
        assert float(line["epoch_seconds"]) == row.epoch_seconds.median
        assert int(line["parameters"]) == row.parameters


def test_the_table_as_markdown_says_what_the_terminal_says(report: Path) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    lines = (report.parent / "table.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {9}
    for found, row in zip(cells[2:], summary.rows, strict=True):
        accuracy = wording.with_interval(row.scores["accuracy"], MEASURES[0])
        marked = {"best": f"**{accuracy}**", "level": f"≈ {accuracy}", "": accuracy}
        assert found[:2] == [f"`{row.label}`", marked[row.marks["accuracy"]]]
        assert found[-1] == "3 seeds"


def test_the_table_of_a_partial_study_leaves_cells_empty() -> None:
    text = table.comparison(summarise(*partial_study())).csv()
    softmax, gumbel, hierarchical = csv.DictReader(io.StringIO(text))
    assert (softmax["seeds_planned"], softmax["seeds_finished"]) == ("3", "2")
    assert gumbel["seeds_diverged"] == "2"
    assert hierarchical["accuracy"] == hierarchical["epoch_seconds"] == hierarchical["parameters"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glyphs", "fair-tail-standin-100", "fair-cifar100"])
def test_the_stored_tables_are_made_again_to_the_last_letter(name: str) -> None:
    store = Store(Path(__file__).parents[3] / "results" / name)
    study, card = store.study(), store.card()
    summary = summarise(study, card, store.results(study))
    found, parts = differences.differences(summary), frequency.table(summary)
    assert found is not None
    made = {
        "table.csv": table.comparison(summary).csv(),
        "table.md": table.comparison(summary).markdown(),
        "differences.csv": differences.table(found).csv(),
        "differences.md": differences.table(found).markdown(),
    }
    if study.tuning is not None:
        made["tuning.csv"] = tuning.csv(study)
    if parts is not None:
        made |= {"frequency.csv": frequency.csv(parts), "frequency.md": parts.markdown()}
    for file, text in made.items():
        assert (store.directory / file).read_bytes() == text.encode(), file
