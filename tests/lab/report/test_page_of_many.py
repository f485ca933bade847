import math
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browsing import cells, shown
from reports import many_study
from softmaxes.lab.report.summary import summarise


def test_of_many_heads_the_page_shows_a_few_at_first(many_report: Path, open_page) -> None:
    summary = summarise(*many_study())
    page = open_page(many_report)
    best = sorted(summary.rows, key=lambda row: -row.scores["accuracy"].mean)[:5]
    in_order = [row.label for row in summary.rows if row in best]
    every = [row.label for row in summary.rows]
    curves = (
        "Object.fromEntries(['accuracy_per_epoch', 'nll_per_epoch', 'accuracy', 'time'].map(name => [name, "
        "document.getElementById(name).querySelectorAll('.scatterlayer .trace').length]))"
    )
    pressed = ".heads button[aria-pressed=true]"
    guesses = "section > .samples .sample:first-of-type .guesses h3"
    finite = sum(math.isfinite(row.scores["nll"].mean) for row in best)
    whole = {"accuracy": 48, "time": 24}
    assert len(cells(page, "#comparison-table")) == 24
    assert page.evaluate(curves) == whole | {"accuracy_per_epoch": 10, "nll_per_epoch": 2 * finite}
    assert shown(page, pressed) == in_order * 2  # above the curves and above the samples
    assert shown(page, guesses) == in_order

    page.locator("button[data-show=all]").last.click()
    assert page.evaluate(curves) == whole | {"accuracy_per_epoch": 48, "nll_per_epoch": 44}
    assert shown(page, pressed) == every * 2
    assert shown(page, guesses) == every
    hover = "document.getElementById('accuracy_per_epoch').layout.hovermode"
    assert page.evaluate(hover) == "closest"  # a box with 24 lines would cover the figure
    page.locator("button[data-show=none]").first.click()
    assert page.evaluate(curves) == whole | {"accuracy_per_epoch": 0, "nll_per_epoch": 0}
    assert shown(page, guesses) == []
    page.locator("button[data-head=head-3]").first.click()
    assert shown(page, guesses) == [every[3]]
    assert page.evaluate(curves)["accuracy_per_epoch"] == 2
    page.locator("button[data-show=first]").first.click()
    assert shown(page, pressed) == in_order * 2
    assert page.evaluate(hover) == "x unified"


def test_of_many_heads_one_confusion_matrix_is_shown(many_report: Path, open_page) -> None:
    summary = summarise(*many_study())
    page = open_page(many_report)
    assert shown(page, ".confusion h3") == [summary.ranked[0].label]
    assert page.locator(".heatmaplayer image").count() == 1
    for position in (17, 4):
        row = summary.rows[position]
        page.locator("#confused").select_option(label=row.label)
        assert shown(page, ".confusion h3") == [row.label]
        expect(page.locator(f"#confusion-{position} .heatmaplayer image")).to_have_count(1)
        box = page.locator(f"#confusion-{position} .heatmaplayer image").bounding_box()
        assert box["width"] > 250
    page.locator("#confused").select_option(label=summary.ranked[0].label)


def test_the_page_of_many_heads_is_whole_without_scripts(many_report: Path, browser) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(many_report.as_uri())
    # Playwright evaluates in the page even where its own scripts are off.
    assert len(shown(page, ".confusion h3")) == 24
    assert len(shown(page, "section > .samples .sample:first-of-type .guesses h3")) == 24
    assert len(shown(page, "#comparison-table tbody tr")) == 10
    page.locator(".folding:has(#comparison-table) summary").click()
    assert len(shown(page, "#comparison-table tbody tr")) == 24
    assert shown(page, "#confused") == []
    assert page.locator(".heads button:enabled").count() == 0
    context.close()


def test_long_tables_are_folded_and_say_how_long_they_are(many_report: Path, browser) -> None:
    """The first rows are on show, and of many heads they are the best."""
    summary = summarise(*many_study())
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(many_report.as_uri())
    best = [row.label for row in summary.ranked[:10]]
    assert shown(page, "#comparison-table tbody th") == best
    folds = page.locator(".fold summary").all_inner_texts()
    assert folds[0] == "All 24 rows (14 more)"
    page.locator(".fold summary").first.press("Enter")
    every = shown(page, "#comparison-table tbody th")
    assert every[:10] == best
    assert len(every) == 24
    assert page.locator(".fold summary").first.inner_text() == "Only the first 10 of 24 rows"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_many_heads_on_a_phone(many_report: Path, open_page, scheme: str) -> None:
    page = open_page(many_report, width=390, scheme=scheme, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.documentElement.scrollHeight") < 24_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_many_heads_is_accessible(many_report: Path, open_page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(many_report, scheme=scheme)
    violations = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:120]) for v in violations] == []


def test_the_table_of_many_heads_needs_no_scrolling(many_report: Path, open_page) -> None:
    page = open_page(many_report)
    sizes = page.evaluate(
        "['comparison', 'cost'].map(name => document.getElementById(`${name}-table`).parentElement)"
        ".map(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)"
    )
    assert sizes == [0, 0]
