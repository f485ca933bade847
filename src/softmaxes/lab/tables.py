"""Tables as text: CSV, Markdown and LaTeX, in which names stay names."""

import csv
import io
from collections.abc import Iterable, Sequence

from softmaxes.names import in_cell

LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "×": r"$\times$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
}


def as_csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV: numbers with every digit, nothing where there is none.

    Example:
        >>> from softmaxes.lab.tables import as_csv
        >>> print(as_csv(["head", "loss"], [["softmax", -0.5], ["=1+1", None]]), end="")
        head,loss
        softmax,-0.5
        '=1+1,
    """
    return csv_lines((columns, *rows))


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows as lines of a CSV file, as `as_csv` has them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(map(in_cell, row) for row in rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, its head first; cells stand as they are."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def as_latex(rows: Sequence[Sequence[str]]) -> str:
    r"""A table as LaTeX, its head first, for the package booktabs; cells stand as they are.

    Example:
        >>> from softmaxes.lab.tables import as_latex, in_latex
        >>> print(as_latex([["head", "loss"], [in_latex("top_k"), in_latex("1.5 ± 0.5")]]), end="")
        \begin{tabular}{lr}
        \toprule
        head & loss \\
        \midrule
        top\_k & 1.5 $\pm$ 0.5 \\
        \bottomrule
        \end{tabular}
    """
    first, *others = (rf"{' & '.join(row)} \\" for row in rows)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}", r"\toprule", first, r"\midrule", *others]
    return "".join(f"{line}\n" for line in (*lines, r"\bottomrule", r"\end{tabular}"))


def in_latex(text: str) -> str:
    """Text as LaTeX shows it; a letter that LaTeX has no command for here stands as it is, in UTF-8."""
    return "".join(LATEX.get(letter, letter) for letter in text)
