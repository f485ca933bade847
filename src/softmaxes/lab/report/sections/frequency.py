"""Accuracy by class frequency: how well a head does on classes of many, of some and of few training examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from softmaxes.lab.records import DataCard, Result
from softmaxes.lab.report.summary import ACCURACY, Estimate, Row, Summary, estimate
from softmaxes.lab.report.wording import known, listed, plural
from softmaxes.lab.tables import as_csv, as_markdown
from softmaxes.names import in_code

UNEVEN = 10  # times as many training examples as the rarest class the most frequent one has, at least
MANY, FEW = 100, 20  # training examples: above and below, in the words of Liu et al., 2019
TITLE = "Accuracy by class frequency, %"


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


def explained(parts: Parts, card: DataCard) -> str:
    """Which classes the parts have, and by what rule."""
    named = listed(
        f"{part.name.lower()}, {plural(len(part.classes), 'class', 'classes')} of {_range(part, card.example)}"
        for part in parts.found
    )
    rule = f"the borders of Liu et al., 2019, more than {MANY} and fewer than {FEW}"
    rule = f"These are {rule}." if parts.by_count else f"These are thirds by rank, as {rule}, leave a part empty."
    return f"Classes by their training {card.example}s: {named}. {rule} Means over the classes of a part."


def _range(part: Part, example: str) -> str:
    if part.least == part.most:
        return plural(part.most, example)
    return f"{part.least:,} to {part.most:,} {example}s"


def columns(row: Row, parts: Parts) -> list[str]:
    """A row's accuracies, in percent."""
    return [known(accuracy(row, part), ACCURACY) for part in parts.found]


def table(summary: Summary, parts: Parts) -> Table:
    """For the terminal."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title=Text(TITLE, style="bold"))
    shown.add_column("Head", overflow="fold")
    for part in parts.found:
        shown.add_column(part.name, justify="right", no_wrap=True)
    for row in summary.rows:
        shown.add_row(Text(row.label), *columns(row, parts))
    return shown


def markdown(summary: Summary, parts: Parts) -> str:
    """The table as Markdown: means, half a 95 % interval over seeds."""
    rows = [["head", *(f"{part.name.lower()}, %" for part in parts.found)]]
    rows += [["---"] * len(rows[0])]
    rows += [[in_code(row.label), *columns(row, parts)] for row in summary.rows]
    return as_markdown(rows)


def render(summary: Summary, parts: Parts) -> str:
    """The table as CSV: a line for each head and part, every digit kept."""
    lines: list[Mapping[str, object]] = []
    for row in summary.rows:
        for part in parts.found:
            share = accuracy(row, part)
            lines.append(
                {
                    "label": row.label,
                    "head": row.setting.head,
                    "classes": part.name.lower(),
                    "number_of_classes": len(part.classes),
                    "train_examples_least": part.least,
                    "train_examples_most": part.most,
                    "seeds_finished": len(row.finished),
                    "accuracy": share and share.mean,
                    "accuracy_low": share and share.low,
                    "accuracy_high": share and share.high,
                }
            )
    return as_csv(list(lines[0]), [line.values() for line in lines])
