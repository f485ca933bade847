import re
from pathlib import Path

import pytest
from PIL import Image

from reports import (
    HEADS_OF_STRANGERS,
    make_card,
    make_result,
    make_run,
    make_scores,
    make_study,
    many_study,
    strangers,
    whole_study,
)
from softmaxes.lab.report import charts, figures, wording
from softmaxes.lab.report.palette import style
from softmaxes.lab.report.sections.calibration import calibrated
from softmaxes.lab.report.summary import summarise


@pytest.mark.slow
def test_the_figures_of_many_heads_are_panels() -> None:
    for heads, said in (
        (24, "(grey: the other heads)"),
        (40, "(grey: the other heads; the 30 of highest accuracy of 40)"),
    ):
        summary = summarise(*many_study(heads, samples=0))
        drawn = {plot.name: figures.panels_figure(plot, summary) for plot in summary.curve_plots}
        best = {row.label for row in summary.ranked[:30]}
        expected = [row.label for row in summary.rows if row.label in best]
        for figure in drawn.values():
            figure.draw_without_rendering()
            shown = [axes for axes in figure.axes if axes.get_visible()]
            assert [axes.get_title(loc="left") or axes.get_title() for axes in shown] == expected
            assert min(axes.get_window_extent().width / figure.dpi for axes in shown) > 1.4
            assert min(axes.get_window_extent().height / figure.dpi for axes in shown) > 1
        accuracy, _, nll, loss, _ = drawn.values()
        assert accuracy.get_suptitle() == f"Test accuracy {said}"
        assert len({axes.get_ylim() for axes in accuracy.axes}) == 1  # they can be compared
        assert [len(axes.lines) for axes in accuracy.axes[:30] if axes.get_visible()] == [heads + 1] * len(expected)
        assert loss.get_suptitle().startswith("Training loss per epoch (each head on a scale of its own")
        assert all(len(axes.lines) == 1 for axes in loss.axes if axes.get_visible())
        infinite = [axes.get_title() or axes.get_title(loc="left") for axes in nll.axes if axes.texts]
        assert infinite == [row.label for row in summary.rows[-2:] if row.label in best]
        assert all(axes.texts[0].get_text() == "∞\n(3.0\xa0% outside the support)" for axes in nll.axes if axes.texts)


@pytest.mark.slow
def test_names_of_many_heads_stand_beside_the_axes() -> None:
    summary = summarise(*many_study(samples=0))
    figure = figures.time_figure(summary)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [row.label for row in summary.rows]
    assert legend.get_window_extent().x0 >= figure.axes[0].get_window_extent().x1
    assert legend.get_window_extent().y0 >= 0
    axes = figures.accuracy_figure(summary).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [row.label for row in sorted(summary.rows, key=lambda row: -row.scores["accuracy"].mean)]
    chart = charts.accuracy_chart(summary)
    assert chart.figure["layout"]["yaxis"]["ticktext"] == names
    assert {trace["legendgroup"] for trace in chart.figure["data"]} == {""}  # no button takes any away


def test_many_heads_are_drawn_apart() -> None:
    drawn = [style(position) for position in range(32)]
    assert len({(one.light, one.line_style) for one in drawn}) == len({(one.light, one.marker) for one in drawn}) == 32


def test_the_figures_are_pictures(report: Path) -> None:
    names = {file.name for file in (report.parent / "figures").iterdir()}
    assert names == {
        "accuracy.png",
        "accuracy_per_epoch.png",
        "accuracy_against_seconds.png",
        "nll_per_epoch.png",
        "train_loss_per_epoch.png",
        "train_loss_per_500_batches.png",
        "time_against_accuracy.png",
        "reliability.png",
        "confusion_softmax.png",
        "confusion_gumbel.png",
        "confusion_hierarchical.png",
    }
    for name in names:
        with Image.open(report.parent / "figures" / name) as image:
            image.load()
            assert image.width > 800
            colours = image.convert("RGB").getcolors(1 << 24)
            assert colours is not None
            assert len(colours) > 50


def test_an_interval_is_drawn_where_an_accuracy_can_be_and_guessing_is_named() -> None:
    card = make_card()
    runs = [make_run(head, seed) for seed in range(3) for head in ("softmax", "cosine")]
    lost = {("cosine", 1): 0.01, ("cosine", 2): 0.02}  # of 2,000 images: by guessing, at most, and better
    ends = [lost.get((run.head, run.seed), 0.8) for run in runs]
    results = [make_result(run, card, scores=make_scores(end, f1=0.0)) for run, end in zip(runs, ends, strict=True)]
    summary = summarise(make_study(runs), card, results)
    low = summary.rows[1].scores["accuracy"].low
    assert low is not None
    assert low < 0
    assert summary.accuracy_range == (-0.03, 1.03)
    for chart, axis in ((charts.accuracy_chart(summary), "xaxis"), (charts.time_chart(summary), "yaxis")):
        assert chart.figure["layout"][axis]["range"] == [-0.03, 1.03]
    assert figures.accuracy_figure(summary).axes[0].get_xlim() == (-0.03, 1.03)
    assert figures.time_figure(summary).axes[0].get_ylim() == (-0.03, 1.03)
    assert wording.cautions(summary)[0] == "No better than guessing after training: cosine, seed 1."
    near = summarise(make_study(runs), card, [make_result(run, card, 0.8) for run in runs])
    assert near.accuracy_range is None
    assert "range" not in charts.accuracy_chart(near).figure["layout"]["xaxis"]
    assert wording.cautions(near) == []


@pytest.mark.slow
def test_reliability_is_drawn_for_few_heads_and_for_many() -> None:
    for study, panels in ((whole_study(), 2), (many_study(samples=0), 24)):
        summary = summarise(*study)
        heads = calibrated(summary)
        figure = figures.reliability_panels(heads, summary) if summary.many else figures.reliability_figure(heads)
        figure.draw_without_rendering()
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == panels
        assert {axes.get_xlim() for axes in shown} == {(-0.03, 1.03)}
        sizes = shown[0].collections[-1].get_sizes()  # type: ignore[attr-defined]
        assert max(sizes) > 1.5 * min(sizes)  # by how many examples a mark stands for
        if panels == 24:
            assert [len(axes.collections) for axes in shown[:3]] == [2, 1, 2]  # the second was not scaled


def test_names_of_figures_stay_apart_whatever_the_heads_are_called() -> None:
    names = figures.file_names([*HEADS_OF_STRANGERS, "softmax_2", "", "..", "nul", "SOFTMAX"])
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9._-]{1,150}", name)
    assert figures.file_names(["softmax", "hierarchical (hidden units 100)"]) == [
        "softmax",
        "hierarchical_hidden_units_100",
    ]


@pytest.mark.slow
def test_heads_whose_names_differ_in_case_have_a_figure_each(monkeypatch: pytest.MonkeyPatch) -> None:
    study, card, results = strangers("Softmax", "softmax", "_x", "漢" + "x" * 299)
    summary = summarise(study, card, results)
    legend = figures.curve_figure(summary.curve_plots[0]).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 4  # matplotlib leaves out what begins with an underscore
    matrix = summary.matrix(summary.rows[3])
    assert matrix is not None
    assert figures.image(figures.matrix_figure(summary.rows[3], matrix))  # without a warning that there is no room
    monkeypatch.setattr(figures, "image", lambda figure, form: b"")
    names = [name for name in figures.draw(summary) if name.startswith("confusion_")]
    assert names[:2] == ["confusion_softmax.png", "confusion_softmax_2.png"]
    assert len({name.casefold() for name in names}) == 4


@pytest.mark.parametrize(("heads", "beside"), [(4, False), (5, True)])
def test_many_names_stand_beside_the_axes(heads: int, beside: bool) -> None:
    figure = figures.time_figure(summarise(*many_study(heads, samples=0)))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (legend,) = [*figure.legends, *([axes.get_legend()] if axes.get_legend() else [])]
    assert len(legend.get_texts()) == heads
    assert (legend.get_window_extent().x0 >= axes.get_window_extent().x1) == beside


def test_a_name_on_a_chart_is_text() -> None:
    assert charts.text('<b>"it\'s"</b> %{x} &amp;') == '&lt;b&gt;"it\'s"&lt;/b&gt; &#37;{x} &amp;amp;'


@pytest.mark.slow
def test_reliability_is_drawn_over_the_whole_square() -> None:
    study, card, results = whole_study()
    figure = figures.draw(summarise(study, card, results))
    assert any("reliability" in name for name in figure)
    axes = figures.axes_of("", 3, 3)[1]
    figures.reliability_axes(axes)
    assert axes.get_xlim() == axes.get_ylim() == (-0.03, 1.03)


def test_the_bar_beside_a_matrix_says_which_share_a_shade_is() -> None:
    """The shade is the root of the share."""
    summary = summarise(*whole_study())
    row = summary.rows[0]
    matrix = summary.matrix(row)
    assert matrix is not None
    _, bar = figures.matrix_figure(row, matrix).axes
    shares = [float(label.get_text().removesuffix("%")) / 100 for label in bar.get_yticklabels()]
    assert [tick**2 for tick in bar.get_yticks()] == pytest.approx(shares)
    assert shares[-1] == 1


def test_a_long_name_is_cut_in_a_title() -> None:
    card = make_card()
    run = make_run("h" * 70)
    summary = summarise(make_study([run]), card, [make_result(run, card)])
    matrix = summary.matrix(summary.rows[0])
    assert matrix is not None
    title = figures.matrix_figure(summary.rows[0], matrix).axes[0].get_title()
    assert title == f"Confusion matrix: {'h' * 59}…"


def test_figures_for_a_paper_are_vectors_and_the_same_when_drawn_again() -> None:
    card = make_card()
    runs = [make_run(head, seed) for seed in range(2) for head in ("softmax", "cosine")]
    summary = summarise(make_study(runs), card, [make_result(run, card, 0.8) for run in runs])
    first, second = (figures.draw(summary, ("pdf", "svg")) for _ in range(2))
    assert first == second
    alone = figures.draw(summary)
    assert {name for name in first if name.endswith(".png")} == alone.keys()
    assert len(first) == 3 * len(alone)
    assert all(content.startswith(b"%PDF") for name, content in first.items() if name.endswith(".pdf"))
    assert all(b"<svg" in content for name, content in first.items() if name.endswith(".svg"))
