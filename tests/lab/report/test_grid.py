import csv
import io
import re
from typing import Annotated

import pytest
from rich.console import Console

from reports import HEADS_OF_STRANGERS, many_study, print_table, scored, strangers, whole_study
from softmaxes.lab.records import (
    Scores,
    Shown,
    Tried,
    Tuning,
)
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report import summary as summaries
from softmaxes.lab.report import table
from softmaxes.lab.report.grid import Cell, Column, Grid, named
from softmaxes.lab.report.sections import differences, frequency, tuning
from softmaxes.lab.report.summary import MEASURES, Measure, summarise
from softmaxes.lab.report.terminal import table_of
from softmaxes.names import from_cell


@pytest.mark.parametrize("many", [False, True], ids=["few heads", "many heads"])
def test_a_measure_more_is_in_every_format(monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    """A field of the scores that says how it is shown is all that it needs."""

    class More(Scores):
        made_up: Annotated[float, Shown("Made-up score", "nats", False, "Made")]

    *others, made_up = summaries._measures(More, above="parts.")
    assert [measure.name for measure in others] == [measure.name for measure in MEASURES]
    known = Measure.of
    monkeypatch.setattr(Measure, "of", lambda measure, scores: 7.5 if measure == made_up else known(measure, scores))
    for module in (summaries, table):
        monkeypatch.setattr(module, "MEASURES", (*MEASURES, made_up))
    study, card, results = many_study(samples=0) if many else whole_study()
    summary = summarise(study, card, results)
    grid = table.comparison(summary)
    for line in csv.DictReader(io.StringIO(grid.csv())):
        assert [line[f"parts_made_up{end}"] for end in ("", "_low", "_high", "_mark")] == ["7.5", "7.5", "7.5", "best"]
        assert line["calibration_error"] not in ("", "7.5")  # what stood last before
    titles, _, *lines = grid.markdown().splitlines()
    place = titles.split("|").index(" Made-up score ")
    assert {line.split("|")[place] for line in lines} == {" **7.500\xa0±\xa00.000** "}
    titles, *lines = (line.split(" & ") for line in grid.latex().splitlines() if " & " in line)
    assert {line[titles.index("Made-up score")] for line in lines} == {r"\textbf{7.500~$\pm$~0.000}"}
    console = Console(width=200, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert " Made " in printed
    assert printed.count("*7.500") == len(summary.rows)
    shown = html_page.render(summary)
    shown = shown[shown.index('id="comparison-table"') :].partition("</table>")[0]
    assert "Made-up score,\xa0nats" in shown
    assert shown.count("7.500 ") == len(summary.rows)


def test_a_format_leaves_out_a_column_without_a_name_there() -> None:
    row = summarise(*scored({"softmax": [0.5]})).rows[0]
    cell = Cell("1.2", "± 3", "(so)", "1", "level", {"one": 1.25, "one_low": None})
    grid = Grid([named(row, seeds=1)], [Column([cell], "Page", "markdown"), Column([Cell("4")], "", "", "Terminal")])
    assert grid.facts == [{"label": "softmax", "head": "softmax", "seeds": 1, "one": 1.25, "one_low": None}]
    assert grid.csv() == "label,head,seeds,one,one_low\nsoftmax,softmax,1,1.25,\n"
    assert grid.markdown() == "| head | markdown |\n| --- | --- |\n| `softmax` | ≈ 1.2\xa0± 3 (so) |\n"
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    console.print(table_of(grid, "Title"))
    assert console.export_text().split() == ["Title", "Head", "Terminal", "─" * 18, "softmax", "4"]
    assert [(over, [column.page for column in below]) for over, below in grid.on_page] == [("", ["Page"])]


@pytest.mark.parametrize(
    ("mark", "markdown", "latex", "terminal", "strong"),
    [
        ("best", "**5 ± 1**", r"\textbf{5~$\pm$ 1}", "*5", True),
        ("level", "≈ 5 ± 1", r"$\approx$ 5~$\pm$ 1", "~5", False),
        ("higher", "**▲ 5 ± 1**", r"\textbf{$\uparrow$ 5~$\pm$ 1}", "▲ 5", True),
        ("lower", "**▼ 5 ± 1**", r"\textbf{$\downarrow$ 5~$\pm$ 1}", "▼ 5", True),
        ("", "5 ± 1", r"5~$\pm$ 1", "5", False),
    ],
)
def test_a_mark_in_each_format(mark: str, markdown: str, latex: str, terminal: str, strong: bool) -> None:
    cell = Cell("5", "± 1", mark=mark)
    assert (cell.in_markdown.replace("\xa0", " "), cell.in_terminal, cell.strong) == (markdown, terminal, strong)
    assert cell.in_latex == latex


def test_columns_under_one_name_stand_together_on_the_page() -> None:
    names = ((" a", ""), ("b", "over"), ("", "over"), ("c", "over"), ("d", ""), ("e", ""), ("f", "another"))
    grid = Grid([], [Column([], page, over=over) for page, over in names])
    assert [(over, [column.page for column in below]) for over, below in grid.on_page] == [
        ("", [" a"]),
        ("over", ["b", "c"]),
        ("", ["d", "e"]),
        ("another", ["f"]),
    ]


def test_a_name_is_no_formula_in_any_table() -> None:
    """Of a spreadsheet that opens it; numbers stay numbers, and every name is what it was when it is read back."""
    study, card, results = strangers(*HEADS_OF_STRANGERS)
    tried = tuple(Tried(head=head, lr=0.1, epochs=1, accuracy=0.5) for head in HEADS_OF_STRANGERS)
    study = study.model_copy(update={"tuning": Tuning(trials=2, tried=tried)})
    summary = summarise(study, card, results)
    found, parts = differences.differences(summary), frequency.table(summary)
    assert found is not None
    assert parts is not None
    tables = {
        "label": (table.comparison(summary).csv(), HEADS_OF_STRANGERS),
        "reference": (differences.table(found).csv(), ["softmax"] * (len(HEADS_OF_STRANGERS) - 1)),
        "head": (tuning.csv(study), HEADS_OF_STRANGERS),
        "classes": (frequency.csv(parts), ["frequent", "middle", "rare"] * len(HEADS_OF_STRANGERS)),
    }
    for column, (text, expected) in tables.items():
        lines = list(csv.DictReader(io.StringIO(text)))
        for cell in (cell for line in lines for cell in line.values()):
            assert not cell.startswith(("=", "@", "+", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) < 0
        assert [from_cell(line[column]) for line in lines] == list(expected)


def test_a_name_ends_neither_a_code_span_nor_a_cell_in_any_markdown() -> None:
    study, card, results = strangers(*HEADS_OF_STRANGERS)
    summary = summarise(study, card, results)
    found, parts = differences.differences(summary), frequency.table(summary)
    assert found is not None
    assert parts is not None
    named = {row.label for row in summary.rows}
    for text in (table.comparison(summary).markdown(), differences.table(found).markdown(), parts.markdown()):
        first, _, *lines = text.splitlines()
        columns = len(re.split(r"(?<!\\)\|", first))
        for line in lines:
            assert len(re.split(r"(?<!\\)\|", line)) == columns
            (span,) = re.findall(r"^\| (`+)(?!`)(.+?)(?<!`)\1(?!`) \|", line)
            inner = span[1].replace("\\|", "|")
            assert (inner[1:-1] if inner[0] == inner[-1] == " " else inner) in named


def test_a_name_is_no_command_and_no_column_in_latex() -> None:
    study, card, results = strangers(*HEADS_OF_STRANGERS, r"a_b&c%d$e#f{g}h\i~j^k")
    found = differences.differences(summary := summarise(study, card, results))
    assert found is not None
    for text in (table.comparison(summary).latex(), differences.table(found).latex()):
        columns = text.splitlines()[1].partition("}{")[2].rstrip("}")
        assert text.splitlines()[0] == r"% \usepackage{booktabs}"
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
        for row in rows[1:]:
            plain = re.sub(
                r"\\(textbf|texttt|textbackslash|textasciitilde|textasciicircum)\b|\$[^$]*\$|\\[&%$#_{}]", "", row
            )
            assert not re.search(r"[%$#_^]|\\(?!\\$|$)", plain.removesuffix(r"\\"))
    assert r"\texttt{a\_b\&c\%d\$e\#f\{g\}h\textbackslash{}i\textasciitilde{}j\textasciicircum{}k}" in text
