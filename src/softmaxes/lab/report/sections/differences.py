"""How the heads differ from one of them, seed by seed, and which differences hold; as CSV and as Markdown, too."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softmaxes.lab.bits import unpacked
from softmaxes.lab.records import Result
from softmaxes.lab.report.significance import Paired, holm, mcnemar_over_seeds, paired
from softmaxes.lab.report.summary import ACCURACY, Row, Summary
from softmaxes.lab.report.wording import p_value, points, points_interval
from softmaxes.lab.tables import as_csv, as_markdown
from softmaxes.names import in_code

REFERENCE = "softmax"
HOLDS = 0.05  # a corrected p-value of as much at most
SIGNS = {"higher": "▲", "lower": "▼", "": ""}


@dataclass(frozen=True)
class Difference:
    """A head's test accuracy less the reference's."""

    row: Row
    accuracy: Paired  # over the seeds that both have; its p is that of other seeds
    p_examples: float  # of other test examples: McNemar's
    p_adjusted: float  # the larger of the two, corrected for the number of heads

    @property
    def mark(self) -> Literal["higher", "lower", ""]:
        """Which way a difference goes that holds."""
        if self.p_adjusted > HOLDS:
            return ""
        return "higher" if self.accuracy.mean > 0 else "lower"


@dataclass(frozen=True)
class Differences:
    """The differences of all heads to one."""

    reference: Row
    heads: tuple[Difference, ...]


def differences(summary: Summary) -> Differences | None:
    """The differences to `softmax`, or to the first head where that is not there.

    A head takes part that diverged at no seed, and has two seeds or more in common with the reference for which both
    kept which examples they had right.

    Returns:
        The differences in the study's order, or none where there is none to tell of.
    """
    rows = [row for row in summary.finished if not row.diverged]
    reference = next((row for row in rows if row.setting.head == REFERENCE), rows[0] if rows else None)
    if reference is None:
        return None
    known = {result.run.seed: result for result in reference.finished if result.correct is not None}
    found = []
    for row in rows:
        pairs = [
            (result, known[result.run.seed])
            for result in row.finished
            if result.run.seed in known and result.correct is not None and _same_examples(result, reference.finished[0])
        ]
        if row is not reference and len(pairs) > 1:
            mine, its = zip(*pairs, strict=True)
            values, reference_values = row.values(ACCURACY), reference.values(ACCURACY)
            seeds = paired([values[one.run.seed] - reference_values[one.run.seed] for one in mine])
            examples = mcnemar_over_seeds(*([_right(result) for result in results] for results in (mine, its)))
            found.append((row, seeds, examples))
    adjusted = holm([max(seeds.p, examples) for _, seeds, examples in found])
    if not found:
        return None
    return Differences(reference, tuple(Difference(*one, p) for one, p in zip(found, adjusted, strict=True)))


def _same_examples(one: Result, other: Result) -> bool:
    """Whether two results are of the same test examples: of a held-out part there may be several."""
    parts = {(run.scored_on, run.scored_on == "validation" and run.validation) for run in (one.run, other.run)}
    return len(parts) == 1 and one.examples == other.examples


def _right(result: Result) -> NDArray[np.bool_]:
    return unpacked(result.correct or "", result.examples)


def rows(found: Differences) -> list[dict[str, object]]:
    """The differences, a row for each head; every digit kept."""
    return [
        {
            "label": one.row.label,
            "head": one.row.setting.head,
            "reference": found.reference.label,
            "seeds": one.accuracy.seeds,
            "difference": one.accuracy.mean,
            "low": one.accuracy.low,
            "high": one.accuracy.high,
            "bootstrap_low": one.accuracy.bootstrap_low,
            "bootstrap_high": one.accuracy.bootstrap_high,
            "p_seeds": one.accuracy.p,
            "p_examples": one.p_examples,
            "p_adjusted": one.p_adjusted,
            "mark": one.mark,
        }
        for one in found.heads
    ]


def render(found: Differences) -> str:
    """The differences as CSV."""
    lines = rows(found)
    return as_csv(list(lines[0]), [line.values() for line in lines])


def markdown(found: Differences) -> str:
    """The differences as Markdown; in bold those that hold."""
    rows = [
        ["head", f"accuracy less {in_code(found.reference.label)}'s, points", "bootstrap, 95 %", "n", "p, seeds"],
        ["---"] * 7,
    ]
    rows[0] += ["p, examples (McNemar)", "p, both (Holm)"]
    for one in found.heads:
        shown = points_interval(one.accuracy)
        between = f"{points(one.accuracy.bootstrap_low)} to {points(one.accuracy.bootstrap_high)}"
        shares = map(p_value, (one.accuracy.p, one.p_examples, one.p_adjusted))
        marked = f"**{SIGNS[one.mark]} {shown}**" if one.mark else shown
        rows.append([in_code(one.row.label), marked, between, str(one.accuracy.seeds), *shares])
    return as_markdown(rows)
