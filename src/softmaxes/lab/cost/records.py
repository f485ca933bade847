"""What a head costs against the number of classes: the records, their table, and the power that fits them.

This module imports no torch. `softmaxes.lab.cost.measure` measures.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from softmaxes.lab.fields import NonNegativeInt, PositiveInt, Record
from softmaxes.lab.records import Machine
from softmaxes.lab.tables import as_csv

TIMES = ("forward", "backward", "update", "step", "log_prob", "topk")
TOPK = 5  # classes that the search is for
FIT_FROM = 1000  # classes; below, a step is mostly the cost of calling functions
FIT_POINTS = 3

Mebibytes = Annotated[float, Field(ge=0, le=10**9)]
CLOCK = 1e-9  # the fewest seconds that count: a clock may stand still
Measure = Annotated[float, Field(ge=CLOCK, le=10**9)]
Optimizer = Literal["sgd", "adagrad", "adam", "adamw"]
Phase = Literal["build", "refresh", "step", "log_prob", "topk"]


class Cell(Record):
    """What is measured: one head at one size."""

    head: str
    classes: PositiveInt
    features: PositiveInt = 128
    batch_size: PositiveInt = 256  # examples of a training step
    test_batch: PositiveInt = 32  # examples of log_prob and of topk
    labels: Literal["zipf", "uniform"] = "zipf"
    device: Literal["cpu", "cuda"] = "cpu"
    optimizer: Optimizer = "sgd"

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits: a hash of every field, of the optimiser if it is not SGD."""
        fields = self.model_dump(mode="json", exclude={"optimizer"} if self.optimizer == "sgd" else None)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Timing(Record):
    """Seconds: the median of some rounds and its 20 % and 80 % quantiles."""

    median: Measure
    low: Measure
    high: Measure
    rounds: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.median <= self.high:
            raise ValueError(f"expected low, median and high to rise, got {self.low}, {self.median}, {self.high}")
        return self


class Failure(Record):
    """What could not be measured, and why."""

    phase: Phase
    reason: str


class Limits(Record):
    """What a cell may take."""

    seconds: Annotated[float, Field(gt=0, le=10**9)]
    memory: Annotated[float, Field(gt=0, le=2**20)]  # GiB

    def beyond(self, others: "Limits") -> bool:
        """Whether these allow a tenth more than others do."""
        return self.seconds > 1.1 * others.seconds or self.memory > 1.1 * others.memory


class Cost(Record):
    """What a cell costs. What could not be measured is none, and `failures` say why."""

    cell: Cell
    parameters: NonNegativeInt | None = None
    refresh: Measure | None = None  # seconds of what a head does before an epoch, if it does something
    forward: Timing | None = None  # of a training step, as the next two
    backward: Timing | None = None
    update: Timing | None = None
    step: Timing | None = None  # the three together
    step_memory: Mebibytes | None = None  # MiB of peak above the parameters, the gradients included
    log_prob: Timing | None = None
    log_prob_memory: Mebibytes | None = None
    topk: Timing | None = None
    failures: tuple[Failure, ...] = ()
    limits: Limits
    machine: Machine | None = None

    @property
    def unfit(self) -> str:
        """Why there is no step, or nothing."""
        return next((failure.reason for failure in self.failures if failure.phase in ("build", "refresh", "step")), "")


class Table(Record):
    """The cells that one command asks for, in order. Stored as ``scale.json``."""

    cells: tuple[Cell, ...]


def exponent(costs: Iterable[Cost], what: str) -> float | None:
    """The power of the number of classes that fits a head's times best, on logarithms; none of too few points."""
    points = [
        (math.log(cost.cell.classes), math.log(timing.median))
        for cost in costs
        if (timing := getattr(cost, what)) is not None and timing.median > 0 and cost.cell.classes >= FIT_FROM
    ]
    return _slope(points) if len(points) >= FIT_POINTS else None


def _slope(points: Sequence[tuple[float, float]]) -> float:
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


# The table as a file


def _flat(cost: Cost) -> dict[str, object]:
    cells: dict[str, object] = dict(cost.cell)
    cells["parameters"] = cost.parameters
    cells["refresh_seconds"] = cost.refresh
    for name in TIMES:
        timing: Timing | None = getattr(cost, name)
        cells[f"{name}_seconds"] = timing and timing.median
        cells[f"{name}_q20"] = timing and timing.low
        cells[f"{name}_q80"] = timing and timing.high
        cells[f"{name}_rounds"] = timing and timing.rounds
    cells["step_memory_mib"] = cost.step_memory
    cells["log_prob_memory_mib"] = cost.log_prob_memory
    cells["failures"] = "; ".join(f"{failure.phase}: {failure.reason}" for failure in cost.failures)
    machine = cost.machine
    cells["machine"] = machine and f"{machine.processor}, {machine.device}, torch {machine.torch}"
    return cells


def write_csv(costs: Sequence[Cost]) -> str:
    """The costs as CSV: a row a cell, every digit, seconds and MiB; what was not measured is empty."""
    rows = [_flat(cost) for cost in costs]
    return as_csv(list(rows[0]), [row.values() for row in rows])


def cells(heads: Iterable[str], classes: Sequence[int], features: Sequence[int], setting: Cell) -> Iterator[Cell]:
    """Every head at every size; sizes from small to large, so that what does not fit is known before it is tried."""
    for width, size, head in product(features, sorted(classes), heads):
        yield setting.model_copy(update={"head": head, "classes": size, "features": width})
