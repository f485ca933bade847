"""Tables as text: CSV and Markdown, in which names stay names."""

import csv
import io
from collections.abc import Iterable, Sequence

from softmaxes.names import in_cell


def as_csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV: numbers with every digit, nothing where there is none.

    Example:
        >>> from softmaxes.lab.tables import as_csv
        >>> print(as_csv(["head", "loss"], [["softmax", -0.5], ["=1+1", None]]), end="")
        head,loss
        softmax,-0.5
        '=1+1,
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(in_cell, row) for row in (columns, *rows))
    return text.getvalue()


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, its head first; cells stand as they are."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
