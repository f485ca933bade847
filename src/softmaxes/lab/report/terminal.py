"""The comparison as tables in the terminal."""

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softmaxes.lab.report.grid import SIGNS, Grid
from softmaxes.lab.report.sections import differences, frequency
from softmaxes.lab.report.summary import Summary
from softmaxes.lab.report.table import comparison
from softmaxes.lab.report.wording import LOSS_CAUTION, cautions, differences_explained, finding, marks_explained


def table_of(grid: Grid, title: str, names: Sequence[str] = (), narrow: bool = False) -> Table:
    """The columns that have a name in the terminal; the lines under other names, if they are given."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title=Text(title, style="bold"))
    table.add_column("Head", overflow="fold")
    shown = [column for column in grid.columns if column.terminal]
    for column in shown:
        table.add_column((narrow and column.narrow) or column.terminal, justify="right", no_wrap=True)
    names = names or [head.text for head in grid.heads]
    for name, *cells in zip(names, *(column.cells for column in shown), strict=True):
        table.add_row(Text(name), *(Text(cell.in_terminal, style="bold" if cell.strong else "") for cell in cells))
    return table


def print_summary(summary: Summary, console: Console) -> None:
    """Print the table and the notes a reader needs with it, in about 80 columns; long names are broken at hyphens."""

    def width(table: Table) -> int:
        return console.measure(table, options=console.options.update(width=1000)).maximum

    grid, title, names = comparison(summary), summary.study.title, [head.text for head in comparison(summary).heads]
    table = table_of(grid, title)
    if width(table) > console.width:
        table = table_of(grid, title, narrow=True)
    if (over := width(table) - console.width) > 0:
        room = max(max(map(len, names)) - over, 8)
        table = table_of(grid, title, ["\n".join(textwrap.wrap(name, room)) for name in names], narrow=True)
    console.print(table)
    console.print()
    marks = marks_explained(summary, SIGNS["best"].terminal, SIGNS["level"].terminal)
    for note in filter(None, (finding(summary), marks, *cautions(summary), LOSS_CAUTION)):
        console.print(Text(note))

    def print_part(grid: Grid, title: str, explained: str) -> None:
        for part in (table_of(grid, title), Text(explained)):
            console.print()
            console.print(part)

    if (found := differences.differences(summary)) is not None:
        explained = differences_explained(len(found.heads), summary.card.example)
        compared = differences.table(found)
        explained = " ".join(filter(None, (compared.caution, explained)))
        print_part(compared, f"Differences to {found.reference.label}", explained)
    if (parts := frequency.table(summary)) is not None and summary.finished:
        print_part(parts, "Accuracy by class frequency, %", frequency.explained(summary.card))
