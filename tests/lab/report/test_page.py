import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browsing import cells
from reports import ALERT, hostile, make_card, make_result, make_run, make_study, picture, strangers, whole_study
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report.summary import final_scores, summarise


@pytest.mark.slow
def test_vectors_have_no_pictures_and_are_called_examples(tmp_path: Path) -> None:
    """Of few classes with a matrix, of many without, and then the page says so."""
    for num_classes, said in ((20, ""), (300, "A matrix of 300 classes could not be read, so there is none.")):
        card = make_card(num_classes, group_size=None, samples=0, image_shape=None, vector_size=64)
        results = [make_result(make_run(seed=seed), card) for seed in (0, 1)]
        summary = summarise(make_study([result.run for result in results]), card, results)
        page = html_page.render(summary)
        words = page[page.index("<body>") : page.index("<script")]
        assert "image" not in words
        assert "vectors of 64 numbers" in words
        assert "The vectors themselves, standardised; SGD" in words
        assert "TinyVGG" not in words
        assert 'id="samples"' not in words
        assert ("could not be read" in words) == (said != "")
        assert said in words
        assert ("examples, %{customdata[3]} of the true class" in page) == (num_classes == 20)
        assert {plot.name: plot.y_title for plot in summary.curve_plots}["nll_per_epoch"] == "nats an example"


def test_the_page_shows_the_summarys_numbers(report: Path, open_page) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    page = open_page(report)
    shown = cells(page, "#comparison-table")
    assert len(shown) == len(summary.rows)
    signs = {"best": "★ best: ", "level": "≈ level with the best: ", "": ""}
    for line, row in zip(shown, summary.rows, strict=True):
        expected = [row.label]
        for measure in summary.measures:
            found, scale, digits = row.scores[measure.key], *((100, 1) if measure.percent else (1, 3))
            assert found.half_width is not None
            sign = signs[row.marks[measure.key]]
            expected.append(f"{sign}{scale * found.mean:.{digits}f} ± {scale * found.half_width:.{digits}f}")
        assert line == [*expected, "3 seeds"]
    best = page.locator("#comparison-table td.best").first
    assert int(best.evaluate("element => getComputedStyle(element).fontWeight")) >= 600
    published = cells(page, "#published-table")
    assert [line[:2] for line in published] == [
        ["softmax", "23.14"],
        ["gumbel", "16.71"],
        ["absent (not run here)", "11.83"],
    ]
    assert published[0][2] == f"{100 * summary.rows[0].scores['accuracy'].mean:.1f}" + shown[0][1][-6:]
    assert len(cells(page, "#runs-table")) == 9
    accuracies = [f"{100 * final_scores(result).accuracy:.1f}" for result in summary.results]
    assert [line[2] for line in cells(page, "#runs-table")] == accuracies


def test_the_page_draws_every_figure(report: Path, open_page) -> None:
    page = open_page(report)
    drawn = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.plot')].map("
        "plot => [plot.id, plot.querySelectorAll('.scatterlayer .trace, .heatmaplayer image').length]))"
    )
    curves = ("accuracy_per_epoch", "accuracy_against_seconds", "nll_per_epoch", "train_loss_per_epoch")
    lines = dict.fromkeys((*curves, "accuracy"), 6)
    matrices = {f"confusion-{position}": 1 for position in range(3)}
    curves_of_confidence = dict.fromkeys(("reliability", "reliability_scaled"), 4)  # and the diagonal
    assert drawn == lines | {"train_loss_per_500_batches": 6, "time": 3} | matrices | curves_of_confidence
    for plot in page.locator(".plot").all():
        assert len(plot.get_attribute("aria-label") or "") > 40
    page.locator('button[data-head="head-1"]').click()
    shown = "document.querySelectorAll('#accuracy_per_epoch .scatterlayer .trace').length"
    assert page.evaluate(shown) == 4
    assert page.evaluate(shown.replace("accuracy_per_epoch", "reliability")) == 3
    page.locator('button[data-head="head-1"]').click()
    assert page.evaluate(shown) == 6


def test_hovering_over_a_matrix_gives_names_and_counts(report: Path, open_page) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    matrix = summary.matrix(summary.rows[0])
    assert matrix is not None
    page = open_page(report)
    names = hostile(card).class_names
    page.locator("#confusion-0").scroll_into_view_if_needed()
    box = page.locator("#confusion-0 .heatmaplayer image").bounding_box()
    for target, predicted in ((0, 0), (50, 51), (99, 98)):
        x = box["x"] + (predicted + 0.5) / 100 * box["width"]
        y = box["y"] + (target + 0.5) / 100 * box["height"]
        page.mouse.move(x - 1, y)
        page.mouse.move(x, y)
        said = f"true: {names[target]}predicted: {names[predicted]}{matrix.counts[target, predicted]} images, "
        said += f"{100 * matrix.shares[target, predicted]:.1f} % of the true class"
        expect(page.locator("#confusion-0 .hoverlayer")).to_have_text(said)


def test_strangers_names_stay_text(report: Path, open_page) -> None:
    page = open_page(report)
    assert ALERT not in report.read_text(encoding="utf-8")
    assert "<" not in html_page.embedded({"<!--": "</script>"})
    assert page.locator("script").count() == 3
    assert page.locator(".sample .shown bdi").first.inner_text() == ALERT
    assert page.locator("#setting + p").inner_text().startswith(f"glyphs: {ALERT}")
    ticks = page.locator("#confusion-0 .ytick text").all_text_contents()
    assert ticks[:2] == [ALERT[:17] + "…", "--ink"]


def test_the_contents_lead_to_every_section(report: Path, open_page) -> None:
    """In the page's order, by the keyboard alone; what is read at first comes first."""
    page = open_page(report)
    links = page.locator(".contents a").evaluate_all("links => links.map(link => link.hash)")
    heads = page.locator("main > section > h2").evaluate_all("heads => heads.map(head => `#${head.id}`)")
    assert links == heads
    assert links[:4] == ["#comparison", "#samples", "#reading", "#setting"]
    assert page.locator("section > .samples .sample").count() == 3  # the others are folded
    assert page.locator(".more .sample").count() == 9
    page.locator(".contents a").nth(4).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".contents a[aria-current]")).to_have_attribute("href", links[4])
    bar, head = page.locator(".contents").bounding_box(), page.locator(links[4]).bounding_box()
    assert bar["y"] == 0  # it stays
    assert head["y"] >= bar["height"]  # and hides nothing
    page.evaluate("scrollTo(0, 0)")


def test_what_goes_on_beyond_the_edge_of_a_phone_fades(report: Path, open_page) -> None:
    parts = "document.querySelectorAll('.scroll, .contents ul')"
    told = f"[...{parts}].map(part => [part.scrollWidth > part.clientWidth + 2, part.classList.contains('beyond')])"
    page = open_page(report, width=390, scheme="light", is_mobile=True, has_touch=True)
    found = [*page.evaluate(told), *open_page(report).evaluate(told)]
    assert {(over, fades) for over, fades in found} == {(True, True), (False, False)}
    page.locator(".contents ul").evaluate("part => part.scrollTo(10000, 0)")
    page.locator(".contents ul:not(.beyond)").wait_for()  # the page's policy forbids a function to wait for
    page.locator(".contents ul").evaluate("part => part.scrollTo(0, 0)")


def test_a_character_that_a_font_may_lack_is_shown_as_its_picture(tmp_path: Path) -> None:
    card = make_card(num_classes=10, samples=2)
    names = tuple(f"\N{LATIN LETTER SMALL CAPITAL H} letter {index}" for index in range(10))
    pictures = tuple(picture("h", index) for index in range(10))
    drawn = make_card(num_classes=10, samples=2, class_names=names, class_pictures=pictures)
    study, results = make_study([make_run()]), [make_result(make_run(), card)]
    page = html_page.render(summarise(study, drawn, results))
    named = {sample.target for sample in card.samples}
    named |= {index for guess in results[0].guesses for index in guess.classes}
    named |= {index for true, predicted, _ in results[0].confusion if true != predicted for index in (true, predicted)}
    for index in range(10):
        assert (f".drawn-{index} {{ --picture: url(data:image/png;base64,{pictures[index]}); }}" in page) == (
            index in named
        )
    assert f'<span class="drawn drawn-0"><span class="unseen">{names[0][0]}</span></span> letter 0' in page
    matrix = summarise(study, drawn, results).matrix(summarise(study, drawn, results).rows[0])
    assert matrix is not None
    assert matrix.names[0] == "letter 0"  # where there is no room for a picture
    assert ".drawn-" not in html_page.render(summarise(study, card, results)).partition("</style>")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_on_a_phone(report: Path, open_page, scheme: str) -> None:
    page = open_page(report, width=390, scheme=scheme, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    outside = page.evaluate(
        "[...document.querySelectorAll('main > section *')].filter("
        "element => !element.closest('.scroll, .plot, .guess') && element.getBoundingClientRect().right > 391).length"
    )
    assert outside == 0
    heights = [row.bounding_box()["height"] for row in page.locator("#comparison-table tbody tr").all()]
    assert max(heights) < 50  # a row is a line: no name is broken to pieces


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(report: Path, open_page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    violations = axe.Axe().run(open_page(report, scheme=scheme)).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:120]) for v in violations] == []


def test_the_button_changes_the_colours_of_page_and_figures(report: Path, open_page) -> None:
    colours = """() => [
        getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector("#accuracy_per_epoch .scatterlayer .point")).fill,
        document.getElementById("scheme").textContent,
    ]"""
    light, dark = (open_page(report, scheme=scheme) for scheme in ("light", "dark"))
    expected = {"light": light.evaluate(colours), "dark": dark.evaluate(colours)}
    assert expected["light"][2] == "Dark colours"
    assert not set(expected["light"]) & set(expected["dark"])
    light.locator("#scheme").click()
    assert light.evaluate(colours) == expected["dark"]
    light.locator("#scheme").click()
    assert light.evaluate(colours) == expected["light"]


def test_the_page_is_small_enough_to_send(report: Path) -> None:
    assert report.stat().st_size < 2_500_000


def test_a_name_is_no_place_for_a_number_in_a_figure_of_the_page(tmp_path: Path, open_page) -> None:
    study, card, results = strangers("%{y} <b>&", "softmax")
    path = tmp_path / "report.html"
    path.write_text(html_page.render(summarise(study, card, results)), encoding="utf-8")
    page = open_page(path)
    page.locator("#time").scroll_into_view_if_needed()
    box = page.locator("#time .scatterlayer .trace:nth-child(1) .points path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 1, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#time .hoverlayer")).to_have_text(re.compile(r"^%\{y\} <b>&"))
