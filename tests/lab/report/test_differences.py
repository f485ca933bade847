import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from browsing import cells
from reports import constant, make_result, make_run, print_table, whole_study
from softmaxes.lab.bits import unpacked
from softmaxes.lab.records import (
    Result,
)
from softmaxes.lab.report import wording
from softmaxes.lab.report.grid import SIGNS
from softmaxes.lab.report.sections import differences
from softmaxes.lab.report.significance import holm, mcnemar_over_seeds, paired
from softmaxes.lab.report.summary import final_scores, summarise


def test_differences_are_paired_tested_and_corrected() -> None:
    """The numbers are those of the tests themselves, of the seeds that both heads have; the marks follow from them."""
    study, card, results = whole_study()
    results = [result for result in results if (result.run.head, result.run.seed) != ("gumbel", 1)]
    found = differences.differences(summarise(study, card, results[::-1]))
    assert found is not None
    assert found.reference.label == "softmax"
    assert [one.row.label for one in found.heads] == ["gumbel", "hierarchical"]
    by_run = {(result.run.head, result.run.seed): result for result in results}
    expected = []
    for one, seeds in zip(found.heads, ((0, 2), (0, 1, 2)), strict=True):
        pairs = [(by_run[one.row.label, seed], by_run["softmax", seed]) for seed in seeds]
        values = [final_scores(mine).accuracy - final_scores(its).accuracy for mine, its in pairs]
        assert one.accuracy == paired(values)
        flags = [[unpacked(result.correct or "", 2000) for result in pair] for pair in pairs]
        assert one.p_examples == mcnemar_over_seeds(*zip(*flags, strict=True))
        expected.append(max(one.accuracy.p, one.p_examples))
    assert [one.p_adjusted for one in found.heads] == holm(expected)
    assert [one.mark for one in found.heads] == ["", "lower"]


@pytest.mark.parametrize(
    ("other", "right", "mark"),
    [
        pytest.param([0.60, 0.61, 0.62], 120, "higher", id="both hold"),
        pytest.param([0.40, 0.41, 0.42], 80, "lower", id="both hold, the other way"),
        pytest.param([0.60, 0.61, 0.62], 105, "", id="five examples of 200 say nothing of others"),
        pytest.param([0.60, 0.40, 0.72], 120, "", id="the seeds disagree"),
    ],
)
def test_a_difference_holds_for_other_seeds_and_other_examples(other: list[float], right: int, mark: str) -> None:
    study, card, results = constant({"softmax": [0.50, 0.512, 0.521], "a": other}, {"softmax": 100, "a": right})
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    assert [one.mark for one in found.heads] == [mark]


def test_many_comparisons_take_marks_away() -> None:
    """Three seeds whose paired t gives p = 0.02: a mark alone, none among five heads."""
    heads = {"softmax": [0.5, 0.5, 0.5], "a": [0.55, 0.56, 0.58]} | {
        f"b{place}": [0.5, 0.52, 0.49] for place in range(4)
    }
    marks = []
    for kept in (2, 6):
        some = {head: heads[head] for head in list(heads)[:kept]}
        study, card, results = constant(some, {head: 150 if head == "a" else 100 for head in some})
        found = differences.differences(summarise(study, card, results))
        assert found is not None
        marks.append([one.mark for one in found.heads])
    assert marks == [["higher"], [""] * 5]


def test_no_difference_to_a_head_that_guesses_is_marked() -> None:
    """At one seed is enough: its mean is then no measure of what it can do. The files say so, too."""
    heads = {"softmax": [0.01, 0.5, 0.5], "a": [0.8, 0.81, 0.82], "b": [0.01, 0.01, 0.01]}
    right = {"softmax": 100, "a": 160, "b": 10}
    study, card, results = constant(heads, right)
    summary = summarise(study, card, results)
    found = differences.differences(summary)
    assert found is not None
    assert [one.mark for one in found.heads] == ["", ""]
    told = "softmax is no better than guessing at seed 0. So the differences to it say nothing of the heads"
    grid = differences.table(found)
    assert told in grid.markdown()
    assert f"\n% {told}" in grid.latex()
    assert "1 of 3" not in wording.status(summary.rows[0])
    assert wording.status(summary.rows[0]) == "3 seeds; seed 0 no better than guessing"
    assert wording.cautions(summary)[0].startswith(
        "No better than guessing after training: softmax, seed 0; b, seeds 0"
    )
    assert set(summary.rows[2].marks.values()) == {""}  # which may be the best calibrated

    learned = constant(heads | {"softmax": [0.5, 0.51, 0.52]}, right)
    found = differences.differences(summarise(*learned))
    assert found is not None
    assert [one.mark for one in found.heads] == ["higher", "lower"]
    assert differences.table(found).caution == ""


def test_which_heads_have_differences() -> None:
    """Those with two seeds to pair, of the same examples, that diverged at none.

    Where there is no softmax, or it diverged, the first head is the reference.
    """
    heads = {"a": [0.5, 0.6, 0.7], "softmax": [0.5, 0.61, 0.7], "b": [0.6, 0.7, 0.8]}
    study, card, results = constant(heads, dict.fromkeys(heads, 100))

    def compared(results: list[Result]) -> tuple[str, list[str]] | None:
        found = differences.differences(summarise(study, card, results))
        return found and (found.reference.label, [one.row.label for one in found.heads])

    assert compared(results) == ("softmax", ["a", "b"])
    assert compared([result for result in results if result.run.head != "softmax"]) == ("a", ["b"])
    assert compared([result for result in results if result.run.head == "b"]) is None
    assert compared([result for result in results if result.run.head != "b" or result.run.seed == 1]) == (
        "softmax",
        ["a"],
    )
    assert compared([result for result in results if result.run.seed == 1]) is None
    diverged = make_result(make_run("softmax", 2), card, diverged=3)
    assert compared([diverged if result.run == diverged.run else result for result in results]) == ("a", ["b"])
    diverged = make_result(make_run("b", 2), card, diverged=3)
    assert compared([diverged if result.run == diverged.run else result for result in results]) == ("softmax", ["a"])
    old = [result.model_copy(update={"correct": None}) if result.run.head == "a" else result for result in results]
    assert compared(old) == ("softmax", ["b"])

    held_out = {"a": 0.2, "softmax": 0.2, "b": 0.1}
    results = [
        result.model_copy(
            update={
                "run": result.run.model_copy(
                    update={"scored_on": "validation", "validation": held_out[result.run.head]}
                )
            }
        )
        for result in results
    ]
    study = study.model_copy(update={"runs": tuple(result.run for result in results)})
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    assert [one.row.setting.head for one in found.heads] == ["a"]  # of 0.1 others are held out


def test_the_differences_as_files_say_what_the_terminal_says(report: Path) -> None:
    study, card, results = whole_study()
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    with (report.parent / "differences.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, one in zip(lines, found.heads, strict=True):
        assert (line["label"], line["reference"], line["seeds"]) == (one.row.label, "softmax", "3")
        numbers = [float(line[name]) for name in ("difference", "low", "high", "p_seeds")]
        assert numbers == list(one.accuracy[:4])
        assert [float(line[f"bootstrap_{end}"]) for end in ("low", "high")] == list(one.accuracy[4:6])
        assert [float(line["p_examples"]), float(line["p_adjusted"])] == [one.p_examples, one.p_adjusted]
        assert line["mark"] == one.mark
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    below = printed.partition("Differences to softmax")[2]
    assert "corrected for 2 comparisons (Holm)" in re.sub(r"\s+", " ", below)
    rows = (report.parent / "differences.md").read_text(encoding="utf-8").splitlines()[2:]
    for row, one in zip(rows, found.heads, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        shown = f"{100 * one.accuracy.mean:+.2f}".replace("-", "−")
        assert cells[0] == f"`{one.row.label}`"
        assert f"{shown} ± " in cells[1].replace("\xa0", " ")
        assert cells[1].startswith("**▼") == (one.mark == "lower")
        (line,) = (line for line in below.splitlines() if line.startswith(one.row.label))
        assert re.sub(r"\s+", " ", line).split()[-4:] == cells[3:]
    assert below.count("▼ −") == sum(one.mark == "lower" for one in found.heads) > 0


def test_the_page_shows_the_differences(report: Path, open_page) -> None:
    found = differences.differences(summarise(*whole_study()))
    assert found is not None
    lines = cells(open_page(report), "#differences-table")
    for line, one in zip(lines, found.heads, strict=True):
        mark = f"{SIGNS[one.mark].page} {one.mark}: " if one.mark else ""
        assert line[:2] == [one.row.label, mark + wording.points_interval(one.accuracy).replace("\xa0", " ")]
        assert line[3:] == ["3", *map(wording.p_value, (one.accuracy.p, one.p_examples, one.p_adjusted))]


def test_a_p_value_of_a_twentieth_still_holds() -> None:
    found = differences.differences(summarise(*whole_study()))
    assert found is not None
    at_bound = replace(found.heads[0], p_adjusted=0.05)
    assert at_bound.mark == ("higher" if at_bound.accuracy.mean > 0 else "lower")
    assert replace(at_bound, p_adjusted=0.0501).mark == ""
