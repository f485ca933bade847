"""Accuracy by class frequency: how well a head does on classes of many, of some and of few training examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from softmaxes.lab.records import DataCard, Result
from softmaxes.lab.report.grid import Cell, Column, Grid, as_lines, named
from softmaxes.lab.report.summary import ACCURACY, Estimate, Row, Summary, estimate
from softmaxes.lab.report.wording import NBSP, known, listed
from softmaxes.names import plural

UNEVEN = 10  # times as many training examples as the rarest class the most frequent one has, at least
MANY, FEW = 100, 20  # training examples: above and below, in the words of Liu et al., 2019


@dataclass(frozen=True)
class Part:
    """Classes with about as many training examples."""

    name: str
    classes: frozenset[int]
    least: int  # training examples of a class
    most: int


@dataclass(frozen=True)
class Parts:
    """The classes by how many training examples they have."""

    found: tuple[Part, ...]
    by_count: bool  # or by rank


def parts(counts: Sequence[int]) -> Parts | None:
    """Frequent, middle and rare classes; none where the classes have about as many training examples.

    Frequent are those of more than 100 training examples, rare those of fewer than 20. Where that leaves a part empty,
    they are the first and the last third by rank, of equals the one of lower number first; of two classes one each.
    """
    if max(counts) < UNEVEN * max(1, min(counts)):
        return None
    order = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    first, last = sum(count > MANY for count in counts), sum(count >= FEW for count in counts)
    by_count = 0 < first < last < len(counts)
    if not by_count:
        first = max(1, len(counts) // 3)
        last = len(counts) - first
    named = {"Frequent": order[:first], "Middle": order[first:last], "Rare": order[last:]}
    found = (
        Part(name, frozenset(classes), counts[classes[-1]], counts[classes[0]])
        for name, classes in named.items()
        if classes
    )
    return Parts(tuple(found), by_count)


def accuracy(row: Row, part: Part) -> Estimate | None:
    """The mean over a part's classes of each one's accuracy, and its interval over the seeds that finished.

    Of the stored confusions alone. A class without test examples does not count; none where no class has any.
    """
    found = [_accuracy(result, part) for result in row.finished]
    shares = [share for share in found if share is not None]
    return estimate(shares) if shares and len(shares) == len(found) else None


def _accuracy(result: Result, part: Part) -> float | None:
    examples, right = dict.fromkeys(part.classes, 0), dict.fromkeys(part.classes, 0)
    for target, predicted, count in result.confusion:
        if target in part.classes:
            examples[target] += count
            right[target] += count * (target == predicted)
    shares = [right[index] / number for index, number in examples.items() if number]
    return fmean(shares) if shares else None


def explained(card: DataCard) -> str:
    """Which classes the parts have, and by what rule; nothing where there are none."""
    if (parted := parts(card.train_counts)) is None:
        return ""
    named = listed(
        f"{part.name.lower()}, {plural(len(part.classes), 'class', 'classes')} of {_range(part, card.example)}"
        for part in parted.found
    )
    rule = f"the borders of Liu et al., 2019, more than {MANY} and fewer than {FEW}"
    rule = f"These are {rule}." if parted.by_count else f"These are thirds by rank, as {rule}, leave a part empty."
    return f"Classes by their training {card.example}s: {named}. {rule} Means over the classes of a part."


def _range(part: Part, example: str) -> str:
    if part.least == part.most:
        return plural(part.most, example)
    return f"{part.least:,} to {part.most:,} {example}s"


@lru_cache(maxsize=1)  # every format prints it
def table(summary: Summary) -> Grid | None:
    """A line for each head, a column for each part; none where the classes are not parted."""
    if (parted := parts(summary.card.train_counts)) is None:
        return None
    columns = []
    for part in parted.found:
        cells, name = [_cell(row, part) for row in summary.rows], part.name.lower()
        columns.append(Column(cells, f"{part.name},{NBSP}%", f"{name}, %", part.name, note=ACCURACY.direction))
    return Grid([named(row) for row in summary.rows], columns)


def _cell(row: Row, part: Part) -> Cell:
    share = accuracy(row, part)
    facts = {
        "classes": part.name.lower(),
        "number_of_classes": len(part.classes),
        "train_examples_least": part.least,
        "train_examples_most": part.most,
        "seeds_finished": len(row.finished),
        "accuracy": share and share.mean,
        "accuracy_low": share and share.low,
        "accuracy_high": share and share.high,
    }
    return Cell(known(share, ACCURACY), facts=facts)


def csv(grid: Grid) -> str:
    """The table as CSV: a line for each head and part."""
    parted = zip(*(column.cells for column in grid.columns), strict=True)
    return as_lines(
        [{**head.facts, **one.facts} for head, cells in zip(grid.heads, parted, strict=True) for one in cells]
    )
