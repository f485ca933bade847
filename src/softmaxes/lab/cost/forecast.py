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
    optimizer: str
    device: str
    parameters: float | None
    step_seconds: float | None
    refresh_seconds: float | None
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
            named = {name: from_cell(row[name]) for name in ("head", "classes", "features", "batch_size", "device")}
            sizes = Cell.model_validate(named | {"optimizer": row.get("optimizer", "sgd")})  # older tables are of SGD
            measured.append(
                Measured(
                    head=sizes.head,
                    classes=sizes.classes,
                    features=sizes.features,
                    batch_size=sizes.batch_size,
                    optimizer=sizes.optimizer,
                    device=sizes.device,
                    parameters=_positive(row["parameters"]),
                    step_seconds=_positive(row["step_seconds"]),
                    refresh_seconds=_positive(row.get("refresh_seconds") or ""),  # older tables have none
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
    refresh: float  # seconds of what the head does before an epoch
    parameters: float
    memory: float  # MiB above the parameters while training
    error: float | None  # a factor: the worst when measured points are told from the others; none if that cannot be
    basis: Literal["measured", "between", "beyond"]  # of the sizes that were measured

    @property
    def total(self) -> float:
        """MiB of the parameters, in float32, and of what training takes above them."""
        return 4 * self.parameters / 2**20 + self.memory


MARGIN = 0.8  # of the memory: what takes more may or may not fit
Size = tuple[int, int, int]  # classes, features, examples of a step


def forecast(rows: Sequence[Measured], classes: int, features: int, batch_size: int) -> list[Forecast]:
    """What each head of a table should cost, the quickest first.

    Times and memory are taken to lie on straight lines between the measured sizes, on logarithmic scales of classes,
    features and examples, and beyond the last on the line through the last two; so are parameters. Where one number of
    features or of examples was measured alone, all are taken to grow in proportion to it: for larger ones an upper
    bound of the times.
    """
    forecasts = []
    size = (classes, features, batch_size)
    for head in dict.fromkeys(row.head for row in rows):
        known = {
            (row.classes, row.features, row.batch_size): row for row in rows if row.head == head and row.step_seconds
        }
        if not known:
            continue
        seconds = {at: row.step_seconds or 0.0 for at, row in known.items()}
        parameters = {at: row.parameters or 0.0 for at, row in known.items()}
        refresh = {at: row.refresh_seconds or 0.0 for at, row in known.items()}
        memory = {at: row.step_memory or 0.0 for at, row in known.items()}
        within = all(min(one) <= at <= max(one) for one, at in zip(zip(*known, strict=True), size, strict=True))
        basis: Literal["measured", "between", "beyond"] = "between" if within else "beyond"
        if size in known:
            basis = "measured"
        forecasts.append(
            Forecast(
                head,
                _read_off(seconds, size),
                _read_off(refresh, size, of_batch=0.0),
                _read_off(parameters, size, of_batch=0.0),
                _read_off(memory, size),
                _worst(seconds),
                basis,
            )
        )
    return sorted(forecasts, key=lambda one: one.seconds)


def _read_off(points: dict[Size, float], size: Size, of_batch: float = 1.0) -> float:
    """The value at a size, by straight lines between logarithms: along the classes, the features, then the examples.

    Args:
        points: the values that are known.
        size: where it is wanted.
        of_batch: the power of the number of examples with which it grows, where one of them alone is known.
    """
    classes, features, examples = size
    lines: dict[int, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for (number, width, batch), value in points.items():
        lines[batch][width][number] = value
    by_batch = {
        batch: _along({width: _along(line, classes) for width, line in of_width.items()}, features, alone=1.0)
        for batch, of_width in lines.items()
    }
    return _along(by_batch, examples, alone=of_batch)


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


def _worst(points: dict[Size, float]) -> float | None:
    """The largest factor by which a point within the others is missed when they alone are known."""
    factors = []
    for at, value in points.items():
        line = {other[0]: found for other, found in points.items() if other[1:] == at[1:] and other[0] != at[0]}
        if len(line) >= 2 and min(line) < at[0] < max(line):
            told = _along(line, at[0])
            factors.append(max(told / value, value / told))
    return max(factors, default=None)
