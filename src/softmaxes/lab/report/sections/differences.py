"""How the heads differ from one of them, seed by seed, and which differences hold."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softmaxes.lab.bits import unpacked
from softmaxes.lab.records import Result
from softmaxes.lab.report.grid import Cell, Column, Grid, named
from softmaxes.lab.report.significance import Paired, holm, mcnemar_over_seeds, paired
from softmaxes.lab.report.summary import ACCURACY, Row, Summary
from softmaxes.lab.report.wording import NBSP, p_value, points, points_interval, reference_by_chance
from softmaxes.names import in_code

REFERENCE = "softmax"
HOLDS = 0.05  # a corrected p-value of as much at most


@dataclass(frozen=True)
class Difference:
    """A head's test accuracy less the reference's."""

    row: Row
    accuracy: Paired  # over the seeds that both have; its p is that of other seeds
    p_examples: float  # of other test examples: McNemar's
    p_adjusted: float  # the larger of the two, corrected for the number of heads
    of_chance: bool  # whether the reference is no better than guessing at some seed

    @property
    def mark(self) -> Literal["higher", "lower", ""]:
        """Which way a difference goes that holds."""
        if self.p_adjusted > HOLDS or self.of_chance:
            return ""
        return "higher" if self.accuracy.mean > 0 else "lower"


@dataclass(frozen=True)
class Differences:
    """The differences of all heads to one."""

    reference: Row
    heads: tuple[Difference, ...]
    example: str  # what the test examples are called


@lru_cache(maxsize=1)  # every format prints them
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
    of_chance = bool(reference.by_chance)
    heads = tuple(Difference(*one, p, of_chance) for one, p in zip(found, adjusted, strict=True))
    return Differences(reference, heads, summary.card.example)


def _same_examples(one: Result, other: Result) -> bool:
    """Whether two results are of the same test examples: of a held-out part there may be several."""
    parts = {(run.scored_on, run.scored_on == "validation" and run.validation) for run in (one.run, other.run)}
    return len(parts) == 1 and one.examples == other.examples


def _right(result: Result) -> NDArray[np.bool_]:
    return unpacked(result.correct or "", result.examples)


def table(found: Differences) -> Grid:
    """A line for each head; in bold those that hold."""
    heads, means, intervals, seeds, p_seeds, p_examples, p_both = [], [], [], [], [], [], []
    for one in found.heads:
        mean, low, high, p, *bootstrap, count = one.accuracy
        heads.append(named(one.row, reference=found.reference.label, seeds=count))
        facts = {"difference": mean, "low": low, "high": high}
        means.append(Cell(points_interval(one.accuracy), mark=one.mark, facts=facts))
        facts = dict(zip(("bootstrap_low", "bootstrap_high"), bootstrap, strict=True))
        intervals.append(Cell(" to ".join(map(points, bootstrap)), facts=facts))
        seeds.append(Cell(str(count)))
        p_seeds.append(Cell(p_value(p), facts={"p_seeds": p}))
        p_examples.append(Cell(p_value(one.p_examples), facts={"p_examples": one.p_examples}))
        p_both.append(Cell(p_value(one.p_adjusted), facts={"p_adjusted": one.p_adjusted, "mark": one.mark}))
    less, over = f"accuracy less {in_code(found.reference.label)}'s, points", "p, if there were no difference"
    others = f"for other {found.example}s"
    columns = [
        Column(means, "Mean difference, points", less, "Acc., points", note=f"± 95{NBSP}%, Student's t"),
        Column(intervals, f"95{NBSP}% interval", "bootstrap, 95 %", note="bootstrap"),
        Column(seeds, "Seeds, n", "n", "n"),
        Column(p_seeds, "for other seeds", "p, seeds", "p seeds", over=over, note="paired t"),
        Column(p_examples, others, "p, examples (McNemar)", "p McNemar", over=over, note="McNemar"),
        Column(p_both, "both, corrected", "p, both (Holm)", "p Holm", over=over, note="Holm"),
    ]
    return Grid(heads, columns, caution=reference_by_chance(found.reference))
