import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from browsing import cells
from reports import TAIL, long_tailed, make_card, make_result, make_run, make_study, print_table, scored, write_report
from softmaxes.lab.report import wording
from softmaxes.lab.report.sections import frequency
from softmaxes.lab.report.summary import MEASURES, estimate, summarise


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((101, 100, 20, 19, 300), [("Frequent", {0, 4}, 101, 300), ("Middle", {1, 2}, 20, 100), ("Rare", {3}, 19, 19)]),
        ((100, 5, 90, 9, 9, 8), [("Frequent", {0, 2}, 90, 100), ("Middle", {3, 4}, 9, 9), ("Rare", {1, 5}, 5, 8)]),
        ((7, 200, 700), [("Frequent", {2}, 700, 700), ("Middle", {1}, 200, 200), ("Rare", {0}, 7, 7)]),
        ((3, 30), [("Frequent", {1}, 30, 30), ("Rare", {0}, 3, 3)]),
        ((0, 10, 0), [("Frequent", {1}, 10, 10), ("Middle", {0}, 0, 0), ("Rare", {2}, 0, 0)]),
        ((0, 9), None),
        ((100, 11), None),
        ((5, 5, 5), None),
    ],
)
def test_classes_are_parted_by_their_training_examples(
    counts: tuple[int, ...], expected: list[tuple[str, set[int], int, int]] | None
) -> None:
    """By more than 100 and fewer than 20, or by thirds where that leaves a part empty; not at all if they are even."""
    parts = frequency.parts(counts)
    found = parts and [(part.name, set(part.classes), part.least, part.most) for part in parts.found]
    assert found == expected
    assert parts is None or parts.by_count == (counts[0] == 101)


def test_accuracy_by_class_frequency_is_the_mean_of_the_classes_own() -> None:
    study, card, results = long_tailed(TAIL)
    summary = summarise(study, card, results)
    parts = frequency.parts(TAIL)
    assert parts is not None
    assert parts.by_count
    for row in summary.rows:
        mine = [result for result in results if result.run.head == row.label]
        for part in parts.found:
            of_seeds = []
            for result in mine:
                matrix = np.zeros((20, 20))
                for target, predicted, count in result.confusion:
                    matrix[target, predicted] = count
                recalls = matrix.diagonal() / matrix.sum(1)
                of_seeds.append(recalls[sorted(part.classes)].mean())
            found, expected = frequency.accuracy(row, part), estimate(of_seeds)
            assert found is not None
            assert (found.mean, found.half_width) == pytest.approx((expected.mean, expected.half_width), rel=1e-12)


def test_a_class_without_test_examples_does_not_count() -> None:
    card = make_card(num_classes=3, group_size=None, samples=0, train_counts=(50, 5, 5), test_counts=(4, 4, 0))
    run = make_run("a")
    result = make_result(run, card).model_copy(update={"confusion": ((0, 0, 4), (1, 0, 3), (1, 1, 1))})
    summary = summarise(make_study([run], published=()), card, [result])
    parts = frequency.table(summary)
    assert parts is not None
    assert [column.cells[0].text for column in parts.columns] == ["100.0", "25.0", "–"]
    assert [line["accuracy"] for line in csv.DictReader(io.StringIO(frequency.csv(parts)))] == [
        "1.0",
        "0.25",
        "",
    ]


def test_the_tables_by_class_frequency_say_the_same(tmp_path: Path, open_page) -> None:
    study, card, results = long_tailed(TAIL)
    page = write_report(study, card, results, tmp_path)
    summary, parts = summarise(study, card, results), frequency.parts(TAIL)
    assert parts is not None
    expected = [
        [row.label, *(wording.known(frequency.accuracy(row, part), MEASURES[0]) for part in parts.found)]
        for row in summary.rows
    ]
    lines = (tmp_path / "frequency.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| head | frequent, % | middle, % | rare, % |"
    assert [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]] == expected
    with (tmp_path / "frequency.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [f"{100 * float(line['accuracy']):.1f}" for line in found] == [
        cell.split("\xa0")[0] for row in expected for cell in row[1:]
    ]
    assert [line["classes"] for line in found[:3]] == ["frequent", "middle", "rare"]
    assert sum(int(line["number_of_classes"]) for line in found[:3]) == 20
    assert cells(open_page(page), "#frequency-table") == [
        [cell.replace("\xa0", " ") for cell in row] for row in expected
    ]
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    for row in expected:
        assert f"{'  '.join(row)}".split() in [line.split() for line in printed.splitlines()]
    assert "frequent, 5 classes of 105 to 300 images" in " ".join(printed.split())


@pytest.mark.slow
def test_of_even_classes_nothing_is_said_by_frequency(tmp_path: Path) -> None:
    """And what an earlier report said of other data is taken away."""
    study, card, results = scored({"a": [0.5], "b": [0.6]})
    for name in ("frequency.md", "frequency.csv"):
        (tmp_path / name).write_text("old")
    page = write_report(study, card, results, tmp_path)
    assert not list(tmp_path.glob("frequency.*"))
    assert "class frequency" not in page.read_text()
