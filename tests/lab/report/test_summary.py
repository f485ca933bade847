import math
from pathlib import Path

import numpy as np
import pytest

from reports import (
    ACCURACY,
    make_card,
    make_result,
    make_run,
    make_scores,
    make_study,
    scored,
    sparse_study,
    whole_study,
    write_report,
)
from softmaxes.lab import InputError
from softmaxes.lab.report import charts, figures
from softmaxes.lab.report.summary import estimate, student_t_975, summarise


def test_student_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    degrees = [*range(1, 40), 99, 100, 999, 1000]
    np.testing.assert_allclose([student_t_975(d) for d in degrees], stats.t.ppf(0.975, degrees), rtol=1e-12)
    with pytest.raises(ValueError, match="expected degrees of at least 1, got 0"):
        student_t_975(0)


def test_estimate_is_scipys_and_the_hand_computed_one() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = [0.61, 0.64, 0.58, 0.63]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((0.615, low, high), rel=1e-12)
    assert estimate([1.0, 3.0]).half_width == pytest.approx(12.7062047364)  # t of one degree, standard error 1


def test_an_estimate_without_an_interval() -> None:
    one = estimate([0.5])
    assert (one.mean, one.half_width, one.low, one.high) == (0.5, None, None, None)
    infinite = estimate([1.0, math.inf])
    assert (infinite.mean, infinite.half_width) == (math.inf, None)


def test_rows_hold_means_over_seeds_and_medians_over_epochs() -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results[::-1])  # the order of the results does not matter
    assert [row.label for row in summary.rows] == list(ACCURACY)
    for row in summary.rows:
        mine = [result for result in results if result.run.head == row.label]
        for measure in summary.known:
            expected = np.mean([getattr(result.epochs[-1].scores, measure.key) for result in mine])
            assert row.scores[measure.key].mean == pytest.approx(expected, rel=1e-12)
        seconds = [epoch.train_seconds for result in mine for epoch in result.epochs]
        time = row.epoch_seconds
        assert time is not None
        assert (time.median, time.low, time.high) == pytest.approx(tuple(np.percentile(seconds, (50, 20, 80))))
        assert row.peak_memory_mib == max(result.peak_memory_mib for result in mine)
        assert row.parameters == mine[0].parameters


def test_curves_are_means_and_ranges_over_seeds() -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    plots = {plot.name: plot for plot in summary.curve_plots}
    row, points = plots["nll_per_epoch"].curves[1]
    values = [result.epochs[3].scores.nll for result in row.finished if result.epochs[3].scores]
    assert (points[3].x, points[3].seeds) == (4, 3)
    assert (points[3].mean, points[3].low, points[3].high) == pytest.approx((np.mean(values), min(values), max(values)))
    row, points = plots["train_loss_per_500_batches"].curves[0]
    assert [point.x for point in points] == list(range(500, 6001, 500))
    assert points[0].mean == pytest.approx(np.mean([result.losses[0].loss for result in row.finished]))
    row, points = plots["accuracy_against_seconds"].curves[1]
    elapsed = [sum(epoch.train_seconds for epoch in result.epochs[:4]) for result in row.finished]
    values = [result.epochs[3].scores.accuracy for result in row.finished if result.epochs[3].scores]
    assert points[3].x == pytest.approx(np.mean(elapsed))
    assert (points[3].mean, points[3].low, points[3].high) == pytest.approx((np.mean(values), min(values), max(values)))
    assert [point.x for point in points] == sorted(point.x for point in points)


@pytest.mark.parametrize(
    ("heads", "measure", "expected"),
    [
        pytest.param(
            {"a": [0.60, 0.70, 0.80], "b": [0.59, 0.69, 0.789]},
            "accuracy",
            ["best", ""],
            id="paired differences decide",
        ),
        pytest.param({"a": [0.60, 0.70, 0.80], "b": [0.75, 0.55, 0.79]}, "accuracy", ["best", "level"], id="level"),
        pytest.param({"a": [1.2, 1.3, 1.4], "b": [1.1, 1.2, 1.31]}, "nll", ["", "best"], id="lower is better"),
        pytest.param({"a": [0.3, 0.3], "b": [0.3, 0.3]}, "f1", ["best", "best"], id="a tie"),
        pytest.param({"a": [0.30], "b": [0.31]}, "accuracy", ["", "best"], id="one seed claims no level"),
        pytest.param({"a": [0.30, 0.31, 0.32]}, "accuracy", [""], id="nothing to compare with"),
        pytest.param({"a": [math.inf, 1.0], "b": [2.0, 2.1], "c": [3.0, 3.1]}, "nll", ["", "best", ""], id="infinite"),
        pytest.param({"a": [math.inf] * 2, "b": [2.0, 2.1]}, "nll", ["", "best"], id="all but one infinite"),
        pytest.param({"a": [math.inf] * 2, "b": [math.inf, 2.1]}, "nll", ["", ""], id="all infinite"),
        pytest.param({"a": [0.0, 0.0], "b": [0.1, 0.2]}, "outside_support", ["", ""], id="no merit in having none"),
        pytest.param({"a": [0.1, 0.1], "b": [0.2, 0.2]}, "outside_support", ["best", ""], id="fewer are better"),
        pytest.param({"a": [0.8, 0.82, 0.81], "b": [0.79]}, "accuracy", ["best", ""], id="one common seed"),
        pytest.param({"a": [0.8, 0.7, None], "b": [None, None, 0.7]}, "accuracy", ["best", ""], id="no common seed"),
    ],
)
def test_marks(heads: dict[str, list[float | None]], measure: str, expected: list[str]) -> None:
    summary = summarise(*scored(heads, measure))
    assert [row.marks[measure] for row in summary.rows] == expected


def test_a_head_that_diverged_takes_no_part_in_the_marks() -> None:
    study, card, results = scored({"a": [0.9, 0.9, 0.9], "b": [0.5, 0.6, 0.7], "c": [0.4, 0.5, 0.6]})
    results[2] = make_result(results[2].run, card, diverged=3)
    summary = summarise(study, card, results)
    assert [row.marks["accuracy"] for row in summary.rows] == ["", "best", ""]
    assert summary.rows[0].scores["accuracy"].count == 2


def test_confusion_is_scikit_learns_summed_over_seeds() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    study, card, results = whole_study()
    row = summarise(study, card, results).rows[2]
    target, predicted, count = np.array([cell for result in row.finished for cell in result.confusion]).T
    expected = metrics.confusion_matrix(target, predicted, sample_weight=count, labels=range(100))
    found = np.zeros((100, 100), dtype=int)
    for place, value in row.confusion.counts.items():
        found[place] = value
    np.testing.assert_array_equal(found, expected)
    assert row.confusion.errors == expected.sum() - expected.trace()
    assert row.confusion.examples == 3 * sum(card.test_counts)


def test_a_matrix_is_ordered_by_group() -> None:
    card = make_card(
        num_classes=4,
        samples=0,
        class_names=("ash", "bee", "oak", "wasp"),
        group_names=("insects", "trees"),
        group_of_class=(1, 0, 1, 0),
    )
    result = make_result(make_run(), card).model_copy(update={"confusion": ((0, 0, 3), (0, 1, 2), (3, 1, 4))})
    summary = summarise(make_study([result.run]), card, [result])
    matrix = summary.matrix(summary.rows[0])
    assert matrix is not None
    assert matrix.names == ("bee", "wasp", "ash", "oak")
    assert [(block.name, block.start, block.stop) for block in matrix.blocks] == [("insects", 0, 2), ("trees", 2, 4)]
    lines = charts.matrix_chart(summary.rows[0], matrix).figure["layout"]["shapes"]
    ends = [tuple(line[end] for end in ("x0", "x1", "y0", "y1")) for line in lines]
    assert ends == [(1.5, 1.5, -0.5, 3.5), (-0.5, 3.5, 1.5, 1.5)]  # one each way between the groups
    assert matrix.counts.tolist() == [[0, 0, 0, 0], [4, 0, 0, 0], [2, 0, 3, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(matrix.shares[2], [0.4, 0, 0.6, 0])
    pairs = summary.rows[0].confusion.pairs(card.group_of_class)
    assert [(p.target, p.predicted, p.count, p.share, p.same_group) for p in pairs] == [
        (3, 1, 4, 1.0, True),
        (0, 1, 2, 0.4, False),
    ]
    within, expected = summary.rows[0].confusion.within_group(card.group_of_class or ())
    assert (within, expected) == pytest.approx((4 / 6, 1 / 3))


def test_labels_name_what_differs() -> None:
    card = make_card(num_classes=10, samples=0)
    runs = [make_run("softmax", lr=0.1), make_run("softmax", lr=0.05, hidden_units=100), make_run("gumbel", lr=0.1)]
    summary = summarise(make_study(runs), card, [make_result(run, card) for run in runs])
    assert [row.label for row in summary.rows] == [
        "softmax (lr 0.1, hidden units none)",
        "softmax (lr 0.05, hidden units 100)",
        "gumbel",
    ]


def test_curves_leave_out_an_epoch_without_a_mean() -> None:
    """Not the mean of the luckier seeds. What has no curve is said to have none, and not where runs are short."""
    study, card, results = sparse_study()
    summary = summarise(study, card, [result.model_copy(update={"losses": ()}) for result in results])
    (plot,) = [plot for plot in summary.curve_plots if plot.name == "nll_per_epoch"]
    assert [[point.x for point in points] for _, points in plot.curves] == [
        list(range(1, 11)),
        [],
        [1, 2, 4, 5, 6, 7, 8, 9],
    ]
    assert all(point.seeds == 3 for _, points in plot.curves for point in points)
    assert [row.label for row in plot.infinite] == ["sparsemax"]
    chart = charts.curve_chart(plot)
    assert {trace["legendgroup"] for trace in chart.figure["data"]} == {"head-0", "head-2"}
    assert chart.alternative.endswith(" Infinite after every epoch: sparsemax (3.0\xa0% outside the support).")
    legend = figures.curve_figure(plot).axes[0].get_legend()
    assert legend is not None
    assert [label.get_text() for label in legend.get_texts()] == [
        "softmax",
        "sparsemax: ∞ (3.0\xa0% outside the support)",
        "entmax",
    ]
    assert all(not other.infinite for other in summary.curve_plots if other is not plot)


def test_results_that_cannot_be_reported_are_refused(tmp_path: Path) -> None:
    study, card, _ = whole_study()
    with pytest.raises(InputError, match="expected at least one finished run of study 'toy', got none"):
        write_report(study, card, [], tmp_path)
    with pytest.raises(InputError, match=r"seed 7.*not one of them"):
        write_report(study, card, [make_result(make_run(seed=7), card)], tmp_path)
    with pytest.raises(InputError, match=r"with fingerprint f00d, got run .* on fingerprint beef"):
        write_report(study, card, [make_result(make_run(fingerprint="beef"), card)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_class_that_the_data_do_not_have_is_refused() -> None:
    study, card, results = whole_study()
    spoiled = results[0].model_copy(update={"confusion": ((0, len(card.class_names), 1),)})
    with pytest.raises(InputError, match=r"expected classes in 0\.\.99, got 100 in run"):
        summarise(study, card, [spoiled, *results[1:]])


def test_a_run_is_by_chance_up_to_three_standard_deviations_of_guessing() -> None:
    """Of two classes with 50 test examples each: up to 0.5 + 3 sqrt(0.25 / 100) = 0.65."""
    card = make_card(2, samples=0, group_size=None, test_counts=(50, 50))
    runs = [make_run(seed=seed) for seed in range(3)]
    ends = (0.65, 0.66, 0.3)
    results = [make_result(run, card, end, make_scores(end)) for run, end in zip(runs, ends, strict=True)]
    assert [row.by_chance for row in summarise(make_study(runs), card, results).by_chance] == [(0, 2)]
