"""The power that fits, the table as a file, and what is foretold from it."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from softmaxes.lab import InputError
from softmaxes.lab.cost.forecast import Forecast, Measured, forecast, read_csv
from softmaxes.lab.cost.records import Cell, Cost, Failure, Limits, Timing, cells, exponent, write_csv

LIMITS = Limits(seconds=60, memory=4)


def timing(seconds: float) -> Timing:
    return Timing(median=seconds, low=0.9 * seconds, high=1.2 * seconds, rounds=5)


def cost(head: str, classes: int, seconds: float | None, features: int = 128) -> Cost:
    cell = Cell(head=head, classes=classes, features=features)
    if seconds is None:
        failures = (Failure(phase="step", reason="took more than 60 s"),)
        return Cost(cell=cell, parameters=classes * features, failures=failures, limits=LIMITS)
    step, part = timing(seconds), timing(seconds / 3)
    memory = classes / 1000
    return Cost(
        cell=cell,
        parameters=classes * features,
        forward=part,
        backward=part,
        update=part,
        step=step,
        step_memory=memory,
        limits=LIMITS,
    )


def power_law(head: str, power: float, sizes: tuple[int, ...], features: tuple[int, ...] = (128,)) -> list[Cost]:
    return [
        cost(head, size, 1e-3 * (size / 1000) ** power * width / 128, width) for width in features for size in sizes
    ]


def table(tmp_path: Path, costs: list[Cost]) -> list[Measured]:
    path = tmp_path / "table.csv"
    path.write_text(write_csv(costs))
    return read_csv(path)


@pytest.mark.parametrize("power", [0.0, 0.14, 1.0, 1.2])
def test_the_exponent_is_the_power_of_a_power_law(power: float) -> None:
    costs = power_law("x", power, (1000, 10_000, 100_000, 10**6))
    assert exponent(costs, "step") == pytest.approx(power)
    few = cost("x", 100, 10.0)  # below the sizes that are fitted
    assert exponent([few, *costs], "step") == pytest.approx(power)
    assert exponent([*costs, cost("x", 10**7, None)], "step") == pytest.approx(power)
    assert exponent(costs[:2], "step") is None
    assert exponent(costs, "topk") is None


def test_cells_go_from_few_classes_to_many_for_all_heads_in_turn() -> None:
    made = list(cells(["a", "b"], [1000, 10], [4], Cell(head="a", classes=10, batch_size=7)))
    assert [(cell.head, cell.classes) for cell in made] == [("a", 10), ("b", 10), ("a", 1000), ("b", 1000)]
    assert {cell.batch_size for cell in made} == {7}
    assert len({cell.key for cell in made}) == 4


def test_the_table_keeps_every_digit_and_what_did_not_fit(tmp_path: Path) -> None:
    costs = [cost("a", 1000, 1 / 3), cost("a", 10**7, None)]
    path = tmp_path / "table.csv"
    path.write_text(write_csv(costs))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert float(rows[0]["step_seconds"]) == 1 / 3
    assert rows[1]["step_seconds"] == ""
    assert rows[1]["failures"] == "step: took more than 60 s"
    measured = read_csv(path)
    assert [row.step_seconds for row in measured] == [1 / 3, None]
    assert measured[1].reason == "took more than 60 s"


def test_a_name_in_the_table_is_no_formula_and_a_stranger_s_table_writes_no_commands(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(write_csv([cost("=1+1", 1000, 0.1)]), encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["head"] == "'=1+1"
    assert read_csv(path)[0].head == "=1+1"
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n") + "\x1b[31m" * 100 + "\n", encoding="utf-8")
    machine = read_csv(path)[0].machine
    assert machine.isprintable()
    assert len(machine) <= 200


def test_a_forecast_lies_on_the_power_law(tmp_path: Path) -> None:
    rows = table(
        tmp_path,
        [*power_law("slow", 1.0, (1000, 10_000, 10**6), (64, 256)), *power_law("quick", 0.1, (1000, 10_000, 10**6))],
    )
    quick, slow = forecast(rows, 200_000, 128, 256)
    assert (quick.head, slow.head) == ("quick", "slow")  # the quickest first
    assert slow.seconds == pytest.approx(1e-3 * 200)
    assert slow.parameters == pytest.approx(200_000 * 128)
    assert slow.memory == pytest.approx(200)
    assert quick.seconds == pytest.approx(1e-3 * 200**0.1)
    assert (slow.error, quick.error) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (slow.basis, quick.basis) == ("between", "between")
    (beyond,) = [one for one in forecast(rows, 10**7, 256, 256) if one.head == "slow"]
    assert beyond.basis == "beyond"
    assert beyond.seconds == pytest.approx(1e-3 * 10**4 * 2)
    (wider,) = [one for one in forecast(rows, 1000, 512, 256) if one.head == "quick"]  # one size alone was measured
    assert wider.basis == "beyond"
    assert wider.seconds == pytest.approx(4e-3)


def test_what_was_measured_is_told_as_it_was(tmp_path: Path) -> None:
    rows = table(tmp_path, [cost("a", 1000, 0.5), cost("a", 10_000, 0.1), cost("a", 10**6, 3.0), cost("b", 1000, None)])
    (found,) = forecast(rows, 10_000, 128, 256)  # of b nothing is known
    assert found[:2] == ("a", 0.1)
    assert found.basis == "measured"
    between = math.exp(math.log(0.5) + (math.log(3.0) - math.log(0.5)) / 3)
    assert found.error == pytest.approx(between / 0.1)


def test_what_is_done_before_an_epoch_lies_on_its_own_line(tmp_path: Path) -> None:
    costs = [
        one.model_copy(update={"refresh": 1e-6 * one.cell.classes**1.5})
        for one in power_law("a", 0.5, (1000, 10_000, 10**6))
    ]
    rows = table(tmp_path, [*costs, *power_law("b", 1.0, (1000, 10**6))])
    a, b = forecast(rows, 100_000, 128, 1024)  # the examples of a step change nothing of it
    assert (a.head, a.refresh) == ("a", pytest.approx(1e-6 * 100_000**1.5))
    assert (b.head, b.refresh) == ("b", 0.0)
    old = tmp_path / "old.csv"  # a table from before
    with (tmp_path / "table.csv").open(newline="") as file, old.open("w", newline="") as copy:
        lines = [
            {name: cell for name, cell in row.items() if name != "refresh_seconds"} for row in csv.DictReader(file)
        ]
        writer = csv.DictWriter(copy, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    assert {one.refresh for one in forecast(read_csv(old), 100_000, 128, 256)} == {0.0}


def test_one_size_gives_no_error_and_grows_with_nothing(tmp_path: Path) -> None:
    (found,) = forecast(table(tmp_path, [cost("a", 1000, 0.5)]), 2000, 128, 256)
    assert found == Forecast("a", 0.5, 0.0, 128_000, 1.0, None, "beyond")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the table.csv of `softmaxes scale`, got no rows"),
        (b"\xff\xfe", "expected the table.csv of `softmaxes scale`, got"),
        (b"head,classes\na,1\n", r"line 2: expected a row of `softmaxes scale`'s table, got one without 'features'"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_csv(path)
    assert str(path) in str(raised.value)


def changed(tmp_path: Path, costs: list[Cost], place: int, column: str, value: str) -> Path:
    """A table with another value in one place."""
    path = tmp_path / "table.csv"
    rows = list(csv.DictReader(write_csv(costs).splitlines()))
    rows[place][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(("column", "value"), [("classes", "-5"), ("step_seconds", "nan"), ("step_seconds", "soon")])
def test_a_row_with_a_bad_number_is_refused(tmp_path: Path, column: str, value: str) -> None:
    path = changed(tmp_path, [cost("a", 1000, 0.5)], 0, column, value)
    with pytest.raises(InputError, match="line 2: expected a row of `softmaxes scale`'s table, got one without"):
        read_csv(path)


@pytest.mark.parametrize("column", ["parameters", "step_seconds", "step_memory_mib", "classes", "features"])
@pytest.mark.parametrize("value", ["1e308", "-1", "nan", "inf", "1" + "0" * 400, "1" * 5000])
def test_a_number_of_the_table_is_within_what_is_made_of_it(tmp_path: Path, column: str, value: str) -> None:
    path = changed(tmp_path, [cost("a", 1000, 0.5)], 0, column, value)
    with pytest.raises(
        InputError, match=r"line 2: expected a row of .* without (numbers from 0 to 1e\+18|a fit)"
    ) as told:
        read_csv(path)
    assert len(str(told.value)) < len(str(path)) + 200


@pytest.mark.parametrize("value", ["1e18", "1e-300", "5e-324", "0"])
def test_a_line_between_numbers_far_apart_ends_somewhere(tmp_path: Path, value: str) -> None:
    """Sizes that hardly differ and times that do: a power of hundreds of thousands."""
    for column in ("step_seconds", "step_memory_mib", "parameters"):
        costs = [cost("a", size, 0.5) for size in (1000, 1001, 1002)]
        rows = read_csv(changed(tmp_path, costs, 1, column, value))
        for classes, features in ((4, 1), (1001, 128), (10**8, 10**6)):
            for found in forecast(rows, classes, features, 256):
                assert all(0 <= number <= 1e25 for number in (found.seconds, found.memory, found.parameters))
                assert found.error is None or found.error >= 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large", "wide"])
def test_a_table_is_a_regular_file_of_bounded_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**24 + 1)
    else:
        path.write_text("head,classes\n" + "a" * 200_000)
    message = {"large": "expected a file of at most 16,777,216 bytes, got 16,777,217", "wide": "got field larger than"}
    with pytest.raises(InputError, match=f"{path}: .*{message.get(kind, f'expected a regular file, got a {kind}')}"):
        read_csv(path)


@pytest.mark.parametrize(
    "fields", [{"median": 0}, {"low": 2.0}, {"high": 0.1}, {"high": 1e308}, {"low": 5e-324}, {"median": math.nan}]
)
def test_a_timing_is_of_a_clock(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Timing.model_validate({"median": 1.0, "low": 0.9, "high": 1.2, "rounds": 5} | fields)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.csv: expected the table.csv of `softmaxes scale`, got No such file"):
        read_csv(tmp_path / "nowhere.csv")


def test_it_imports_no_torch() -> None:
    script = "import sys, softmaxes.lab.cost.records, softmaxes.lab.cli.cost; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout == b"False\n"


def test_a_forecast_between_numbers_of_examples(tmp_path: Path) -> None:
    """On a line where two were measured, in proportion where one was; parameters are the same for all."""
    few, many = cost("a", 1000, 0.1), cost("a", 1000, 0.4)
    few = few.model_copy(update={"cell": few.cell.model_copy(update={"batch_size": 16})})
    (found,) = forecast(table(tmp_path, [few, many]), 1000, 128, 64)
    assert found.seconds == pytest.approx(0.2)
    assert found.basis == "between"
    (alone,) = forecast(table(tmp_path, [many]), 1000, 128, 64)
    assert (alone.seconds, alone.basis) == (pytest.approx(0.1), "beyond")
    assert alone.parameters == pytest.approx(found.parameters) == pytest.approx(many.parameters)


def test_cells_of_sgd_keep_their_names() -> None:
    """They were stored before there was another optimiser."""
    cell = Cell(head="softmax", classes=100)
    assert cell.key == "58ab6f82ea75f21c"
    assert cell.model_copy(update={"optimizer": "adamw"}).key != cell.key
