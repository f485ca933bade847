"""Nearest to the published figures: how far each setting is from them, and which setting of all heads comes nearest.

A distance is the root mean square of the differences in accuracy, macro precision and macro F1, in points. A published
study may have told the last epoch or its best one, and averages over all classes or over those that it predicted at
least once: each of these readings is tried.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from softmaxes.lab.records import Published, Result, Training
from softmaxes.lab.report.grid import Cell, Column, Grid, named
from softmaxes.lab.report.summary import Row, Summary, final_scores
from softmaxes.lab.report.wording import NBSP
from softmaxes.names import typed

TOLD = ("accuracy", "precision", "f1")  # the recall is the accuracy, where classes have equally many test examples
NEAREST = 10  # combinations that the page shows


@dataclass(frozen=True)
class Fit:
    """A setting, read in one way, beside the published line of its head."""

    row: Row
    line: Published
    reading: str
    ours: Mapping[str, float]
    distance: float  # in shares


@dataclass(frozen=True)
class Combination:
    """A setting that all heads share, read in one way, with the nearest setting of each published head."""

    shared: Mapping[str, object]
    fits: tuple[Fit, ...]  # one for each published line

    @property
    def distance(self) -> float:
        """Root mean square over the heads."""
        return math.sqrt(fmean(fit.distance**2 for fit in self.fits))


def readings(result: Result) -> dict[str, dict[str, float]]:
    """The scores of a finished run, as each reading has them."""
    last = final_scores(result)
    best = max((epoch.scores for epoch in result.epochs if epoch.scores), key=lambda scores: scores.accuracy)
    precision, f1 = _of_predicted(result)
    return {
        "last epoch": {name: getattr(last, name) for name in TOLD},
        "best epoch": {name: getattr(best, name) for name in TOLD},
        "last epoch, predicted classes": {"accuracy": last.accuracy, "precision": precision, "f1": f1},
    }


def _of_predicted(result: Result) -> tuple[float, float]:
    """Macro precision and F1 after the last epoch, over the classes that were predicted at least once."""
    of_class: dict[int, int] = {}
    predicted_as: dict[int, int] = {}
    right: dict[int, int] = {}
    for target, predicted, count in result.confusion:
        of_class[target] = of_class.get(target, 0) + count
        predicted_as[predicted] = predicted_as.get(predicted, 0) + count
        if target == predicted:
            right[target] = count
    precision = fmean(right.get(each, 0) / number for each, number in predicted_as.items())
    f1 = fmean(2 * right.get(each, 0) / (of_class.get(each, 0) + number) for each, number in predicted_as.items())
    return precision, f1


@lru_cache(maxsize=1)  # the page and the tables show them
def fits(summary: Summary) -> list[Fit]:
    """Every finished setting of a published head in every reading; the mean over its seeds."""
    if not summary.study.published:
        return []
    from softmaxes.lab.heads.registry import family_of

    lines = {family_of(line.head): line for line in summary.study.published}
    found = []
    for row in summary.finished:
        line = lines.get(family_of(row.setting.head))
        if line is None:
            continue
        read = [readings(result) for result in row.finished]
        for reading in read[0]:
            ours = {name: fmean(one[reading][name] for one in read) for name in TOLD}
            known = [(ours[name], theirs) for name in TOLD if (theirs := getattr(line, name)) is not None]
            if known:
                distance = math.sqrt(fmean((mine - theirs) ** 2 for mine, theirs in known))
                found.append(Fit(row, line, reading, ours, distance))
    return found


def combinations(found: Sequence[Fit]) -> list[Combination]:
    """Every setting that all published heads share, in every reading, the nearest first.

    Shared are the options that vary for each of the heads; in the others each head may have its own.
    """
    lines = list(dict.fromkeys(fit.line for fit in found))
    shared = [
        name
        for name in Training.model_fields
        if all(len({getattr(fit.row.setting, name) for fit in found if fit.line == line}) > 1 for line in lines)
    ]
    groups: dict[tuple[object, ...], dict[Published, Fit]] = {}
    for fit in found:
        key = (fit.reading, *(getattr(fit.row.setting, name) for name in shared))
        nearest = groups.setdefault(key, {}).setdefault(fit.line, fit)
        if fit.distance < nearest.distance:
            groups[key][fit.line] = fit
    whole = [
        Combination(dict(zip(shared, key[1:], strict=True)), tuple(nearest[line] for line in lines))
        for key, nearest in groups.items()
        if len(nearest) == len(lines)
    ]
    return sorted(whole, key=lambda one: one.distance)


@lru_cache(maxsize=1)
def nearest(summary: Summary) -> list[Combination]:
    """The combinations, where a study tries several settings of each published head; else none."""
    found = fits(summary)
    lines = {fit.line for fit in found}
    several = all(len({fit.row.label for fit in found if fit.line == line}) > 1 for line in lines)
    return combinations(found) if several and len(lines) == len(summary.study.published) else []


def table(found: Sequence[Combination]) -> Grid:
    """A line for each combination: its distance, and the setting of each head that comes nearest."""
    distances = [Cell(_points(one.distance), facts={"distance": one.distance}) for one in found]
    name = f"Distance,{NBSP}points"
    columns = [Column(distances, name, name)]
    for place, line in enumerate(fit.line for fit in found[0].fits):
        cells = [Cell(_head(one.fits[place], one.shared)) for one in found]
        columns.append(Column(cells, f"{line.head}, the nearest", f"{line.head}, the nearest", look="words"))
        cells = [
            Cell(_points(one.fits[place].distance), facts={f"{line.head}_distance": one.fits[place].distance})
            for one in found
        ]
        columns.append(Column(cells, name, name))
    return Grid([Cell(_shared(one), facts={"setting": _shared(one)}) for one in found], columns, corner="setting")


def every(found: Sequence[Fit]) -> Grid:
    """A line for each setting and reading, in CSV alone."""
    heads = [named(fit.row, reading=fit.reading, published=fit.line.head) for fit in found]
    cells = [Cell(facts={**fit.ours, "distance": fit.distance}) for fit in found]
    return Grid(heads, [Column(cells)])


def _shared(one: Combination) -> str:
    said = [f"{name.replace('_', ' ')} {typed(value)}" for name, value in one.shared.items()]
    return ", ".join([*said, one.fits[0].reading])


def _head(fit: Fit, shared: Mapping[str, object]) -> str:
    """The head and what it alone has."""
    setting = fit.row.setting
    own = "" if setting.hidden_units is None or "hidden_units" in shared else f" behind {setting.hidden_units} units"
    return f"{setting.head}{own}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
