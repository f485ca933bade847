"""What the heads' confidences are worth: brought together over seeds, before and after temperature scaling."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from softmaxes.lab.records import Reliability
from softmaxes.lab.report.grid import Cell, Column, Grid, named
from softmaxes.lab.report.summary import CALIBRATION_ERROR, NLL, Estimate, Measure, Row, Summary, estimate, final_scores
from softmaxes.lab.report.wording import known
from softmaxes.names import plural


@dataclass(frozen=True)
class Bin:
    """Test examples of about the same confidence, of all seeds."""

    confidence: float  # their mean
    accuracy: float
    examples: int
    share: float  # of all


@dataclass(frozen=True)
class Scaled:
    """What temperature scaling made of a head."""

    temperature: Estimate
    nll: Estimate
    calibration_error: Estimate
    bins: tuple[Bin, ...]
    fitted_on: int  # held-out examples


@dataclass(frozen=True)
class Calibrated:
    """A head whose every finished run kept its reliability."""

    row: Row
    bins: tuple[Bin, ...]
    nll: Estimate
    calibration_error: Estimate
    scaled: Scaled | None  # none unless every finished run was scaled


@lru_cache(maxsize=1)  # the page and the figures show them
def calibrated(summary: Summary) -> tuple[Calibrated, ...]:
    """The heads of which something is known, in the study's order."""
    found = []
    for row in summary.finished:
        known = [result.calibration for result in row.finished if result.calibration is not None]
        scaled = [one.scaled for one in known if one.scaled is not None]
        if len(known) < len(row.finished):
            continue
        scores = [final_scores(result) for result in row.finished]
        after = None
        if len(scaled) == len(known):
            after = Scaled(
                temperature=estimate([one.temperature for one in scaled]),
                nll=estimate([one.nll for one in scaled]),
                calibration_error=estimate([one.calibration_error for one in scaled]),
                bins=pooled(one.reliability for one in scaled),
                fitted_on=scaled[0].fitted_on,
            )
        found.append(
            Calibrated(
                row=row,
                bins=pooled(one.reliability for one in known),
                nll=estimate([one.nll for one in scores]),
                calibration_error=estimate([one.calibration_error for one in scores]),
                scaled=after,
            )
        )
    return tuple(found)


def table(found: Sequence[Calibrated], example: str) -> Grid:
    """What temperature scaling changed; dashes where a head was not scaled."""
    scaled = [one.scaled for one in found]

    def told(heads: Sequence[Calibrated | Scaled | None], field: str, measure: Measure) -> list[Cell]:
        return [Cell(known(getattr(head, field, None), measure)) for head in heads]

    columns = [
        Column(told(heads, measure.key, measure), page, over=measure.with_unit)
        for measure in (CALIBRATION_ERROR, NLL)
        for page, heads in (("before", found), ("after", scaled))
    ]
    temperatures = told(scaled, "temperature", NLL)
    columns.append(Column(temperatures, "Temperature", note="above 1: was too sure"))
    columns.append(Column([Cell(plural(one.fitted_on, example)) if one else Cell() for one in scaled], "Fitted on"))
    return Grid([named(one.row) for one in found], columns)


def pooled(curves: Iterable[Reliability]) -> tuple[Bin, ...]:
    """The curves of several seeds as one, without the bins that are empty at every seed."""
    columns = list(zip(*(zip(*dict(curve).values(), strict=True) for curve in curves), strict=True))
    total = sum(examples for column in columns for examples, _, _ in column)
    bins = []
    for column in columns:
        examples = sum(count for count, _, _ in column)
        if examples:
            confidence, accuracy = (sum(one[0] * one[place] for one in column) / examples for place in (1, 2))
            bins.append(Bin(confidence, accuracy, examples, examples / total))
    return tuple(bins)
