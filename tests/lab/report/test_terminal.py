import io
import re

from rich.console import Console

from reports import ACCURACY, many_study, partial_study, print_table, strangers, whole_study
from softmaxes.lab.records import (
    LeftOut,
)
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report import wording
from softmaxes.lab.report.summary import MEASURES, summarise


def test_a_partial_study_says_so() -> None:
    study, card, results = partial_study()
    summary = summarise(study, card, results)
    softmax, gumbel, hierarchical = summary.rows
    assert (softmax.missing, len(softmax.finished)) == ((2,), 2)
    assert [result.diverged for result in gumbel.diverged] == [3]
    assert hierarchical.missing == (0, 1, 2)
    page = html_page.render(summary)
    console = Console(width=100, file=io.StringIO(), record=True)
    print_table(study, card, results, console)
    terminal = re.sub(r"\s+", " ", console.export_text())
    for said in (
        "softmax: 2 of 3 seeds; no result yet for seed 2.",
        "gumbel: 2 of 3 seeds; seed 2 diverged in epoch 3.",
        "hierarchical: 0 of 3 seeds; no result yet for seeds 0, 1 and 2.",
        "takes no part in the marks",
    ):
        assert said in page
        assert said in terminal


def test_heads_left_out_are_named_with_the_reason() -> None:
    study, card, results = whole_study()
    left = LeftOut(head="groups", reason="expected data with <groups> of classes, got [none].")
    study = study.model_copy(update={"left_out": (left,)})
    summary = summarise(study, card, results)
    console = Console(width=200, file=io.StringIO(), record=True)
    print_table(study, card, results, console)
    assert "groups is left out: expected data with <groups> of classes, got [none]." in console.export_text()
    page = html_page.render(summary)
    assert "<li>groups is left out: expected data with &lt;groups&gt; of classes, got [none].</li>" in page


def test_the_terminal_table_of_many_heads_fits_80_columns() -> None:
    """Every number stands whole; a name that has no room is broken at a hyphen."""
    study, card, results = many_study(kind="hierarchical-huffman")
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for row in summarise(study, card, results).rows:
        accuracy = wording.with_interval(row.scores["accuracy"], MEASURES[0])
        (place,) = (index for index, line in enumerate(lines) if accuracy in line and line.startswith(row.label[:4]))
        above, below = lines[place].split()[0], lines[place + 1].split()[0]
        assert row.label in (above, above + below)
        assert row.label == above or above.endswith("-")


def test_the_terminal_table_fits_80_columns() -> None:
    study, card, results = whole_study()
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line for line in lines if line.startswith(tuple(ACCURACY))]
    assert len(shown) == 3 + 2  # and the differences to the first
    row = summarise(study, card, results).rows[0]
    accuracy = row.scores["accuracy"]
    assert accuracy.half_width is not None
    assert f"*{100 * accuracy.mean:.1f} ± {100 * accuracy.half_width:.1f}" in shown[0].replace("\xa0", " ")


def test_a_name_is_no_markup_in_the_terminal() -> None:
    study, card, results = strangers("[red]x[/]", ":warning:", "softmax")
    console = Console(width=100, file=io.StringIO(), record=True, color_system="truecolor")
    print_table(study, card, results, console)
    printed = console.export_text()
    assert printed.count("[red]x[/]") >= 3
    assert printed.count(":warning:") >= 3
