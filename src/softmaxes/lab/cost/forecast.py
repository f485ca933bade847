"""What a measured table says of other sizes."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from softmaxes.files import InputError, read_whole
from softmaxes.lab.cost.records import Cell
from softmaxes.names import from_cell, printable

MACHINE_LIMIT = 200  # characters

MOST_BYTES = 2**24  # of a table: some 50,000 rows
MOST_FORETOLD = (
    1e18  # seconds, parameters or MiB; where a line between measured sizes leads beyond, or below one over it
)


class Measured(NamedTuple):
    """What `advise` needs of a row of the table."""

    head: str
    classes: int
    features: int
    batch_size: int
    parameters: float | None
    step_seconds: float | None
    step_memory: float | None  # MiB
    reason: str  # why there is no step
    machine: str


def read_csv(path: Path) -> list[Measured]:
    """The rows of a table that `write_csv` wrote.

    Raises:
        InputError: the file is not one; the message says where.
    """
    measured = []
    for number, row in _rows(path):
        try:
            sizes = Cell.model_validate(
                {name: from_cell(row[name]) for name in ("head", "classes", "features", "batch_size")}
            )
            measured.append(
                Measured(
                    head=sizes.head,
                    classes=sizes.classes,
                    features=sizes.features,
                    batch_size=sizes.batch_size,
                    parameters=_positive(row["parameters"]),
                    step_seconds=_positive(row["step_seconds"]),
                    step_memory=_positive(row["step_memory_mib"]),
                    reason=row["failures"].partition("; ")[0].partition(": ")[2],
                    machine=printable(from_cell(row["machine"]), MACHINE_LIMIT),
                )
            )
        except (KeyError, ValueError, ValidationError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: expected a row of `softmaxes scale`'s table, got one without {_told(error)}."
            ) from None
    if not measured:
        raise InputError(f"{path}: expected the table.csv of `softmaxes scale`, got no rows.")
    return measured


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with their places in it; each is seen before the next is read."""
    try:
        text = read_whole(path, MOST_BYTES).decode("utf-8-sig")
        yield from enumerate(csv.DictReader(io.StringIO(text, newline="")), 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected the table.csv of `softmaxes scale`, got {_told(error)}.") from None


def _told(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"a fit {error.errors()[0]['loc'][0]}"
    return (error.strerror or "") if isinstance(error, OSError) else " ".join(str(error).split())


def _positive(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not 0 <= value <= MOST_FORETOLD:
        raise ValueError(f"numbers from 0 to {MOST_FORETOLD:g} ({text[:40]})")
    return value


# What the table foretells


class Forecast(NamedTuple):
    """What a head should cost at a size that was perhaps not measured."""

    head: str
    seconds: float  # of a training step
    parameters: float
    memory: float  # MiB above the parameters while training
    error: float | None  # a factor: the worst when measured points are told from the others; none if that cannot be
    basis: Literal["measured", "between", "beyond"]  # of the sizes that were measured


def forecast(rows: Sequence[Measured], classes: int, features: int) -> list[Forecast]:
    """What each head of a table should cost, the quickest first.

    Times and memory are taken to lie on straight lines between the measured sizes, on logarithmic scales of classes and
    features, and beyond the last on the line through the last two; so are parameters. Where one size of features was
    measured alone, all are taken to grow in proportion to it: for times an upper bound.
    """
    forecasts = []
    for head in dict.fromkeys(row.head for row in rows):
        known = {(row.classes, row.features): row for row in rows if row.head == head and row.step_seconds}
        if not known:
            continue
        seconds = {at: row.step_seconds or 0.0 for at, row in known.items()}
        parameters = {at: row.parameters or 0.0 for at, row in known.items()}
        memory = {at: row.step_memory or 0.0 for at, row in known.items()}
        sizes = ({size for size, _ in known}, {size for _, size in known})
        within = all(min(own) <= size <= max(own) for own, size in zip(sizes, (classes, features), strict=True))
        basis: Literal["measured", "between", "beyond"] = "between" if within else "beyond"
        if (classes, features) in known:
            basis = "measured"
        forecasts.append(
            Forecast(
                head,
                _read_off(seconds, classes, features),
                _read_off(parameters, classes, features),
                _read_off(memory, classes, features),
                _worst(seconds),
                basis,
            )
        )
    return sorted(forecasts, key=lambda one: one.seconds)


def _read_off(points: dict[tuple[int, int], float], classes: int, features: int) -> float:
    """The value at a size, by straight lines between logarithms: first along the classes, then along the features."""
    lines: dict[int, dict[int, float]] = defaultdict(dict)
    for (size, width), value in points.items():
        lines[width][size] = value
    return _along({width: _along(line, classes) for width, line in lines.items()}, features, alone=1.0)


def _along(line: dict[int, float], size: int, alone: float = 0.0) -> float:
    """The value at a size; where one point alone is known, along the power `alone`."""
    known = sorted(line)
    if size in line or len(known) == 1:
        return line[size] if size in line else line[known[0]] * (size / known[0]) ** alone
    place = min(max(sum(one < size for one in known), 1), len(known) - 1)
    low, high = known[place - 1], known[place]
    if min(line[low], line[high]) <= 0:
        return max(line[low], line[high])
    start = math.log(line[low])
    power = (math.log(line[high]) - start) / math.log(high / low)
    most = math.log(MOST_FORETOLD)
    return math.exp(min(max(start + power * math.log(size / low), -most), most))


def _worst(points: dict[tuple[int, int], float]) -> float | None:
    """The largest factor by which a point within the others is missed when they alone are known."""
    factors = []
    for at, value in points.items():
        line = {size: other for (size, width), other in points.items() if width == at[1] and size != at[0]}
        if len(line) >= 2 and min(line) < at[0] < max(line):
            told = _along(line, at[0])
            factors.append(max(told / value, value / told))
    return max(factors, default=None)
