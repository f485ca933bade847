"""The comparison as a table in the terminal."""

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softmaxes.lab.report.sections import frequency
from softmaxes.lab.report.sections.differences import SIGNS as DIRECTIONS
from softmaxes.lab.report.sections.differences import Differences, differences
from softmaxes.lab.report.summary import ACCURACY, MEASURES, NLL, OUTSIDE, Mark, Measure, Row, Summary
from softmaxes.lab.report.wording import (
    LOSS_CAUTION,
    cautions,
    compact,
    differences_explained,
    finding,
    marks_explained,
    number,
    p_value,
    points_interval,
    seconds,
    with_interval,
)

SIGNS: dict[Mark, str] = {"best": "*", "level": "~", "": " "}
COST = ("s/epoch", "Param.", "Seeds")
NARROW_COST = ("s/ep.", "Par.", "Runs")
SHOWN = {"accuracy": "Acc. %", "top5": "Top-5", "f1": "F1 %", "nll": "NLL", "calibration_error": "ECE %"}


def score(row: Row, measure: Measure) -> Text:
    """A score with its mark; the accuracy with its interval too, for which the others have no room."""
    if not row.finished:
        return Text("-")
    estimate = row.scores[measure.key]
    shown = with_interval(estimate, measure) if measure == ACCURACY else number(estimate.mean, measure)
    if measure == NLL and (share := row.scores[OUTSIDE.key].mean):
        shown += f" {number(share, OUTSIDE)}%"
    mark = row.marks[measure.key]
    return Text(f"{SIGNS[mark]}{shown}", style="bold" if mark == "best" else "")


def table_of(summary: Summary, names: Sequence[str], cost: Sequence[str]) -> Table:
    """The table, its rows and its last columns named as given."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title=Text(summary.study.title, style="bold"))
    table.add_column("Head", overflow="fold")
    for header in (*SHOWN.values(), *cost):
        table.add_column(header, justify="right", no_wrap=True)
    for row, name in zip(summary.rows, names, strict=True):
        table.add_row(
            Text(name),
            *(score(row, measure) for measure in MEASURES if measure.key in SHOWN),
            "-" if row.epoch_seconds is None else seconds(row.epoch_seconds.median),
            "-" if row.parameters is None else compact(row.parameters),
            f"{len(row.finished)}/{len(row.planned)}",
        )
    return table


def table_of_differences(found: Differences) -> Table:
    """How far each head's accuracy lies from the reference's."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.title = Text(f"Differences to {found.reference.label}", style="bold")
    table.add_column("Head", overflow="fold")
    for header in ("Acc., points", "n", "p seeds", "p McNemar", "p Holm"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in found.heads:
        shown = f"{DIRECTIONS[one.mark]} {points_interval(one.accuracy)}".strip()
        table.add_row(
            Text(one.row.label),
            Text(shown, style="bold" if one.mark else ""),
            str(one.accuracy.seeds),
            *map(p_value, (one.accuracy.p, one.p_examples, one.p_adjusted)),
        )
    return table


def print_summary(summary: Summary, console: Console) -> None:
    """Print the table and the notes a reader needs with it, in about 80 columns; long names are broken at hyphens."""

    def width(table: Table) -> int:
        return console.measure(table, options=console.options.update(width=1000)).maximum

    names = [row.label for row in summary.rows]
    table = table_of(summary, names, COST)
    if width(table) > console.width:
        table = table_of(summary, names, NARROW_COST)
    if (over := width(table) - console.width) > 0:
        room = max(max(map(len, names)) - over, 8)
        table = table_of(summary, ["\n".join(textwrap.wrap(name, room)) for name in names], NARROW_COST)
    console.print(table)
    console.print()
    notes = [finding(summary), marks_explained(summary, "*", "~"), *cautions(summary), LOSS_CAUTION]
    for note in filter(None, notes):
        console.print(Text(note))
    if (found := differences(summary)) is not None:
        console.print()
        console.print(table_of_differences(found))
        console.print()
        console.print(Text(differences_explained(len(found.heads), summary.card.example)))
    if (parts := frequency.parts(summary.card.train_counts)) is not None and summary.finished:
        console.print()
        console.print(frequency.table(summary, parts))
        console.print()
        console.print(Text(frequency.explained(parts, summary.card)))
