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
    return min(found, key=lambda one: _distance(one, classes), default=None)


def nearest_study(classes: int) -> int:
    """The number of classes of the study that is nearest."""
    return min(known(), key=lambda one: _distance(one, classes)).classes


def _distance(one: Known, classes: int) -> float:
    return abs(math.log(one.classes / classes))


def best_first(forecasts: list[Forecast], classes: int, within: float | None) -> list[tuple[Forecast, Known | None]]:
    """Heads with what is known of their accuracy, the most accurate of the nearest study first.

    Heads that another study alone has come next, for data cannot be compared by their points; then those of which
    nothing is known.

    Args:
        forecasts: what the heads cost.
        classes: the number of classes.
        within: seconds that a step may take; slower heads come last.
    """
    beside = [(one, nearest(one.head, classes)) for one in forecasts]
    study = nearest_study(classes)

    def place(pair: tuple[Forecast, Known | None]) -> tuple[bool, int, float, float]:
        one, told = pair
        slow = within is not None and one.seconds > within
        if one.head == REFERENCE:
            return slow, 0, 0.0, one.seconds
        if told is None:
            return slow, 2, 0.0, one.seconds
        return slow, int(told.classes != study), -told.points, one.seconds

    return sorted(beside, key=place)
