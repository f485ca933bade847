"""A table of facts, made in one place and printed by every format: CSV, Markdown, LaTeX, the terminal, the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

from softmaxes.lab.report.summary import Row
from softmaxes.lab.report.wording import NBSP
from softmaxes.lab.tables import as_csv, as_latex, as_markdown, in_latex
from softmaxes.names import in_code

NOTHING = "–"  # what a reader sees where nothing is known


class Sign(NamedTuple):
    """What tells a marked cell from the others."""

    words: str  # read aloud
    page: str
    terminal: str
    markdown: str  # around the text


SIGNS = {
    "best": Sign("best", "★", "*", "**{}**"),
    "level": Sign("level with the best", "≈", "~", "≈ {}"),
    "higher": Sign("higher", "▲", "▲ ", "**▲ {}**"),
    "lower": Sign("lower", "▼", "▼ ", "**▼ {}**"),
}


@dataclass(frozen=True)
class Cell:
    """A fact: in words for a reader, and with every digit for a program."""

    text: str = NOTHING
    interval: str = ""  # beside the text, on the page in smaller print
    note: str = ""  # after both, in Markdown
    brief: str = ""  # in the terminal, in place of text and interval
    mark: Literal["best", "level", "higher", "lower", ""] = ""
    facts: Mapping[str, object] = field(default_factory=dict)  # by the names of their columns in CSV
    row: Row | None = None  # the setting that is named here, whose colour the page shows
    group: str = ""  # of lines, on the page: it stands above the first of them

    @property
    def strong(self) -> bool:
        """Whether it is in bold."""
        return self.mark not in ("", "level")

    @property
    def whole(self) -> str:
        """All of it."""
        return f"{self.text}{NBSP}{self.interval}".strip() + f" {self.note}".rstrip()

    @property
    def in_markdown(self) -> str:
        """All of it, as Markdown marks it."""
        return SIGNS[self.mark].markdown.format(self.whole) if self.mark else self.whole

    @property
    def in_latex(self) -> str:
        """All of it, as LaTeX marks it."""
        shown = in_latex(self.in_markdown.replace("**", ""))
        return rf"\textbf{{{shown}}}" if self.strong else shown

    @property
    def in_terminal(self) -> str:
        """What there is room for."""
        return (SIGNS[self.mark].terminal if self.mark else "") + (self.brief or self.text)


@dataclass(frozen=True)
class Column:
    """Cells of one kind, a cell a line. A format in which the column has no name leaves it out."""

    cells: Sequence[Cell]
    page: str = ""
    markdown: str = ""
    terminal: str = ""
    narrow: str = ""  # in a narrow terminal, if its name there is another
    over: str = ""  # a name above that of this column and of its neighbours, on the page
    note: str = ""  # below its name on the page, in smaller print
    look: Literal["words", "seeds", "published", ""] = ""  # on the page; numbers, where not given


@dataclass(frozen=True)
class Grid:
    """A table: what each line is of, and what is known of it."""

    heads: Sequence[Cell]
    columns: Sequence[Column]
    corner: str = "head"  # what stands above the heads of the lines
    caution: str = ""  # what a reader has to know of all of it

    @property
    def facts(self) -> list[dict[str, object]]:
        """Every fact of a line, by its name: a line of CSV, or of a data frame."""
        lines = zip(self.heads, *(column.cells for column in self.columns), strict=True)
        return [{name: fact for cell in line for name, fact in cell.facts.items()} for line in lines]

    def csv(self) -> str:
        """The facts, every digit kept."""
        return as_lines(self.facts)

    def markdown(self) -> str:
        """The table as Markdown."""
        names = [self.corner, *(column.markdown for column in self._for_papers)]
        lines = [[in_code(head.text), *(cell.in_markdown for cell in cells)] for head, *cells in self._lines]
        return as_markdown([names, ["---"] * len(names), *lines]) + (f"\n{self.caution}\n" if self.caution else "")

    def latex(self) -> str:
        """The columns of the Markdown table as LaTeX, for the package booktabs."""
        names = [self.corner, *(in_latex(column.markdown.replace("`", "")) for column in self._for_papers)]
        lines = (
            [rf"\texttt{{{in_latex(head.text)}}}", *(cell.in_latex for cell in cells)] for head, *cells in self._lines
        )
        said = [r"\usepackage{booktabs}", *([self.caution] if self.caution else [])]
        return "".join(f"% {line}\n" for line in said) + as_latex([names, *lines])

    @property
    def _for_papers(self) -> list[Column]:
        """The columns of Markdown and LaTeX."""
        return [column for column in self.columns if column.markdown]

    @property
    def _lines(self) -> list[tuple[Cell, ...]]:
        """The head of each line, and its cells in those columns."""
        return list(zip(self.heads, *(column.cells for column in self._for_papers), strict=True))

    @property
    def on_page(self) -> list[tuple[str, list[Column]]]:
        """The columns of the page: neighbours under one name, each with that name, and the others without one."""
        shown = (column for column in self.columns if column.page)
        return [(over, list(below)) for over, below in groupby(shown, lambda column: column.over)]


def named(row: Row, **facts: object) -> Cell:
    """The head of a setting's line."""
    return Cell(row.label, row=row, facts={"label": row.label, "head": row.setting.head, **facts})


def as_lines(lines: Sequence[Mapping[str, object]]) -> str:
    """Lines of facts as CSV; a fact that is not known is an empty cell."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    return as_csv(names, [[line.get(name) for name in names] for line in lines])
