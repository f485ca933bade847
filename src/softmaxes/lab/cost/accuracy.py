"""What stored studies say of the accuracy of heads, to stand beside what they cost."""

import csv
import io
import math
from functools import cache
from importlib import resources
from typing import NamedTuple

from softmaxes.lab.cost.forecast import Forecast

REFERENCE = "softmax"


class Known(NamedTuple):
    """How far a head was from a flat softmax in a study in which both were tuned."""

    head: str
    classes: int
    data: str
    seeds: int
    points: float  # of test accuracy, less softmax's
    half: float  # of the 95 % interval over the seeds


@cache
def known() -> tuple[Known, ...]:
    """What the studies say that come with softmaxes; `docs/tables.py` takes it from ``results``."""
    text = (resources.files("softmaxes.lab.cost") / "accuracy.csv").read_text(encoding="utf-8")
    return tuple(
        Known(
            row["head"], int(row["classes"]), row["data"], int(row["seeds"]), float(row["points"]), float(row["half"])
        )
        for row in csv.DictReader(io.StringIO(text))
    )


def nearest(head: str, classes: int) -> Known | None:
    """What is known of a head at the nearest number of classes, on a logarithmic scale; nothing if it was in no study.

    Example:
        >>> from softmaxes.lab.cost.accuracy import nearest
        >>> nearest("hierarchical", 120).classes
        100
    """
    found = [one for one in known() if one.head == head]
    return min(found, key=lambda one: abs(math.log(one.classes / classes)), default=None)


def best_first(forecasts: list[Forecast], classes: int, within: float | None) -> list[tuple[Forecast, Known | None]]:
    """Heads with what is known of their accuracy: the most accurate first, then those of which nothing is known.

    Args:
        forecasts: what the heads cost.
        classes: the number of classes.
        within: seconds that a step may take; slower heads come last.
    """
    beside = [(one, nearest(one.head, classes)) for one in forecasts]

    def place(pair: tuple[Forecast, Known | None]) -> tuple[bool, bool, float, float]:
        one, told = pair
        points = 0.0 if one.head == REFERENCE else None if told is None else told.points
        slow = within is not None and one.seconds > within
        return slow, points is None, 0.0 if points is None else -points, one.seconds

    return sorted(beside, key=place)
