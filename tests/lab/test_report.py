import base64
import csv
import html
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError
from rich.console import Console

from softmaxes.lab import InputError
from softmaxes.lab import report as reporting
from softmaxes.lab.bits import packed, unpacked
from softmaxes.lab.records import (
    Branch,
    Calibration,
    DataCard,
    Epoch,
    Guess,
    LeftOut,
    LossPoint,
    Machine,
    Published,
    Reliability,
    Result,
    Run,
    Sample,
    Scores,
    Searched,
    Study,
    Temperature,
    TrainedTree,
    TreeScores,
    Tried,
    Tuning,
)
from softmaxes.lab.report import charts, figures, table, wording
from softmaxes.lab.report import page as html_page
from softmaxes.lab.report import summary as summaries
from softmaxes.lab.report.grid import SIGNS, Cell, Column, Grid, named
from softmaxes.lab.report.palette import style
from softmaxes.lab.report.sections import differences, frequency, tuning
from softmaxes.lab.report.sections.calibration import calibrated, pooled
from softmaxes.lab.report.sections.trees import views
from softmaxes.lab.report.significance import holm, mcnemar_over_seeds, paired
from softmaxes.lab.report.summary import MEASURES, Measure, estimate, final_scores, student_t_975, summarise
from softmaxes.lab.report.terminal import print_summary, table_of
from softmaxes.lab.store import Store
from softmaxes.names import from_cell


def write_report(study: Study, card: DataCard, results: Sequence[Result], directory: Path) -> Path:
    return reporting.write_report(summarise(study, card, results), directory)


def print_table(study: Study, card: DataCard, results: Sequence[Result], console: Console) -> None:
    print_summary(summarise(study, card, results), console)


GROUPS = (
    "Latin",
    "Armenian",
    "Arrows",
    "Braille",
    "Cyrillic",
    "Currency",
    "Dingbats",
    "Georgian",
    "Greek",
    "Hebrew",
    "Hangul",
    "Hiragana",
    "Letterlike",
    "Mathematical-operators-and-relations",
    "Number-forms",
    "Punctuation",
    "Runic",
    "Shapes",
    "Tifinagh",
    "Technical",
)
ACCURACY = {"softmax": 0.71, "gumbel": 0.70, "hierarchical": 0.58}
SECONDS = {"softmax": 8.1, "gumbel": 8.4, "hierarchical": 11.9}
MACHINE = Machine(
    device="cpu", processor="AMD EPYC", cores=2, jobs=2, python="3.11.7", torch="2.13.0", softmaxes="0.1.0"
)


def picture(label: str, colour: int) -> str:
    image = Image.new("RGB", (32, 32), (colour, 255 - colour, 120))
    ImageDraw.Draw(image).text((9, 8), label, fill="white")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def make_card(num_classes: int = 100, group_size: int | None = 5, samples: int = 12, **fields: object) -> DataCard:
    groups = None if group_size is None else tuple(index // group_size for index in range(num_classes))
    names = (
        None
        if groups is None
        else tuple(GROUPS[g] if g < len(GROUPS) else f"Group {g}" for g in range(max(groups) + 1))
    )
    values: dict[str, object] = {
        "name": "glyphs",
        "description": "Characters drawn in many faces, sizes and colours.",
        "source": "rendered",
        "fingerprint": "f00d",
        "class_names": tuple(f"glyph {index:03d}, with a name that a phone has to cut" for index in range(num_classes)),
        "group_names": names,
        "group_of_class": groups,
        "image_shape": (3, 32, 32),
        "train_counts": (200,) * num_classes,
        "test_counts": (20,) * num_classes,
        "samples": tuple(
            Sample(target=index * 8 % num_classes, png=picture(chr(65 + index), index * 20)) for index in range(samples)
        ),
    }
    return DataCard.model_validate(values | fields)


def make_run(head: str = "softmax", seed: int = 0, **fields: object) -> Run:
    return Run.model_validate(
        {"head": head, "seed": seed, "data": "glyphs", "fingerprint": "f00d", "epochs": 10} | fields
    )


def make_scores(accuracy: float, /, **fields: float) -> Scores:
    values = {
        "accuracy": accuracy,
        "top5": accuracy**0.3,
        "precision": accuracy + 0.004,
        "recall": accuracy,
        "f1": accuracy - 0.006,
        "nll": 3.2 * (1 - accuracy) ** 0.8,
        "calibration_error": 0.02 + 0.1 * (1 - accuracy),
    }
    return Scores.model_validate(values | fields)


def make_result(
    run: Run, card: DataCard, accuracy: float | None = None, scores: Scores | None = None, diverged: int | None = None
) -> Result:
    """A run as training would leave it: curves that flatten, errors that favour the true class's group."""
    random = np.random.default_rng([run.seed, len(run.head)])
    num_classes = len(card.class_names)
    final = ACCURACY.get(run.head, 0.5) + random.normal(0, 0.008) if accuracy is None else accuracy
    epochs = []
    for epoch in range(1, (diverged or run.epochs) + 1):
        reached = final * (1 - math.exp(-0.55 * epoch)) / (1 - math.exp(-0.55 * run.epochs))
        ended = epoch == run.epochs
        seen = reached if ended else reached + random.normal(0, 0.01)
        epochs.append(
            Epoch(
                epoch=epoch,
                train_loss=math.inf if epoch == diverged else 3.6 * math.exp(-0.2 * epoch) + 0.6 * len(run.head) / 10,
                scores=None if epoch == diverged else scores if scores and ended else make_scores(seen),
                train_seconds=SECONDS.get(run.head, 9.0) * random.uniform(0.97, 1.06),
                test_seconds=0.6,
            )
        )
    confusion: list[tuple[int, int, int]] = []
    if diverged is None:
        for target, images in enumerate(card.test_counts):
            chances = random.gamma(0.25, 1.0, num_classes)
            if card.group_of_class is not None:
                chances[np.array(card.group_of_class) == card.group_of_class[target]] *= 14
            chances[target] = 0
            chances *= (1 - final) / chances.sum()
            chances[target] = final
            counts = random.multinomial(images, chances / chances.sum())
            confusion += [(target, int(place), int(counts[place])) for place in np.flatnonzero(counts)]
    guesses = []
    for sample in card.samples if diverged is None else ():
        classes = [sample.target, *(int(c) for c in random.permutation(num_classes) if c != sample.target)][:5]
        shares = np.sort(random.dirichlet(np.ones(6) * 0.5))[::-1][:5]
        if random.random() > final:
            classes[0], classes[2] = classes[2], classes[0]
        guesses.append(Guess(classes=tuple(classes), probabilities=tuple(float(share) for share in shares)))
    return Result(
        run=run,
        epochs=tuple(epochs),
        losses=tuple(
            LossPoint(step=500 * (index + 1), loss=4.4 * math.exp(-0.12 * index) + 0.3 + random.normal(0, 0.05))
            for index in range(12 if diverged is None else 3)
        ),
        confusion=tuple(confusion),
        guesses=tuple(guesses),
        parameters=81_310 + 100 * len(run.head),
        head_parameters=64_100,
        peak_memory_mib=612.4 + run.seed,
        machine=MACHINE,
    )


def make_reliability(accuracy: float, examples: int, gap: float) -> Reliability:
    """Confidences spread over the bins about the accuracy, which is below them by the gap."""
    centres = (np.arange(15) + 0.5) / 15
    weights = np.exp(-8 * (centres - accuracy) ** 2) * (centres > 0.2)
    return Reliability(
        examples=tuple(int(count) for count in np.round(examples * weights / weights.sum())),
        confidence=tuple(np.where(centres > 0.2, centres, 0).tolist()),
        accuracy=tuple(np.where(centres > 0.2, np.clip(centres - gap, 0, 1), 0).tolist()),
    )


def with_statistics(result: Result, scaled: bool = True) -> Result:
    """As training leaves it since results keep which examples were right, and how confidence did."""
    accuracy, examples = final_scores(result).accuracy, result.examples
    random = np.random.default_rng([result.run.seed, len(result.run.head)])
    right = np.arange(examples) < round(accuracy * examples)
    right ^= random.random(examples) < 0.02
    temperature = Temperature(
        temperature=1.4 + result.run.seed / 10,
        fitted_on=100,
        nll=0.9 * final_scores(result).nll if math.isfinite(final_scores(result).nll) else math.inf,
        calibration_error=0.01,
        reliability=make_reliability(accuracy, examples, 0.01),
    )
    calibration = Calibration(
        reliability=make_reliability(accuracy, examples, 0.12), scaled=temperature if scaled else None
    )
    fields = {"correct": packed(right), "calibration": calibration}
    return Result.model_validate(dict(result) | fields)


def make_study(runs: list[Run], **fields: object) -> Study:
    values: dict[str, object] = {
        "name": "toy",
        "title": "Three softmaxes on glyphs",
        "description": "A flat softmax, a softmax with Gumbel noise in training, and a hierarchical softmax over a "
        "balanced binary tree, trained on the same batches from the same initial trunk.",
        "runs": tuple(runs),
        "published": (
            Published(
                head="softmax", accuracy=0.2314, precision=0.237453, recall=0.2314, f1=0.212231, epoch_seconds=61.13
            ),
            Published(head="gumbel", accuracy=0.1671, precision=0.173658, recall=0.1671, f1=0.163595),
            Published(head="absent", accuracy=0.1183),
        ),
        "published_source": "the original study, n = 1",
    }
    return Study.model_validate(values | fields)


def whole_study() -> tuple[Study, DataCard, list[Result]]:
    card = make_card()
    runs = [make_run(head, seed) for seed in range(3) for head in ACCURACY]
    return make_study(runs), card, [with_statistics(make_result(run, card)) for run in runs]


def scored(
    heads: Mapping[str, Sequence[float | None]], measure: str = "accuracy"
) -> tuple[Study, DataCard, list[Result]]:
    """A study whose runs end with these values of a measure: a head's first value is seed 0's; none, no run."""
    card = make_card(num_classes=10, samples=0)
    results = [
        make_result(make_run(head, seed), card, accuracy=0.5, scores=make_scores(0.5, **{measure: value}))
        for head, values in heads.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    return make_study([result.run for result in results], published=()), card, results


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
        for measure in MEASURES:
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
    assert matrix.counts.tolist() == [[0, 0, 0, 0], [4, 0, 0, 0], [2, 0, 3, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(matrix.shares[2], [0.4, 0, 0.6, 0])
    pairs = summary.rows[0].confusion.pairs(card.group_of_class)
    assert [(p.target, p.predicted, p.count, p.share, p.same_group) for p in pairs] == [
        (3, 1, 4, 1.0, True),
        (0, 1, 2, 0.4, False),
    ]
    within, expected = summary.rows[0].confusion.within_group(card.group_of_class or ())
    assert (within, expected) == pytest.approx((4 / 6, 1 / 3))


def test_a_matrix_of_too_many_classes_is_by_group_or_not_drawn(tmp_path: Path) -> None:
    for group_size, unit in ((5, "group"), (None, None)):
        card = make_card(num_classes=300, group_size=group_size, samples=1, test_counts=(2,) * 300)
        result = make_result(make_run(), card)
        study = make_study([result.run])
        summary = summarise(study, card, [result])
        matrix = summary.matrix(summary.rows[0])
        assert (matrix and matrix.unit) == unit
        if matrix is not None:
            assert matrix.counts.sum() == 600
            assert matrix.ticks == (list(range(0, 60, 2)), list(matrix.names[::2]))  # 60 names would overlap
        page = write_report(study, card, [result], tmp_path / str(unit)).read_text(encoding="utf-8")
        assert "Most confused pairs" in page
        assert (tmp_path / str(unit) / "figures" / "confusion_softmax.png").exists() == (matrix is not None)


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


def test_the_recipe_is_told() -> None:
    card = make_card(num_classes=10, samples=0)
    plain = wording.training_in_words([make_run()], card)
    assert plain.startswith(
        "TinyVGG (10 channels, padding 0); SGD at learning rate 0.1, falling linearly to 0, batches"
    )
    recipe = {"backbone": "resnet", "lr_schedule": "one-cycle", "label_smoothing": 0.1, "flips": True, "crops": 4}
    assert wording.training_in_words([make_run(**recipe)], card).startswith(
        "ResNet-8 (width 16); SGD at learning rate 0.1, in one cycle, label smoothing 0.1, training images mirrored "
        "and cropped after padding by 4 pixels at random, batches of"
    )
    both = [make_run(), make_run(backbone="resnet", blocks=3, hidden_units=7)]
    assert wording.training_in_words(both, card).startswith(
        "TinyVGG (10 channels, padding 0) or ResNet-20 (width 16, a layer of 7 units before softmax); SGD"
    )
    assert "; SGD at learning rate 0.1, falling to 0 in half a cosine, training images mirrored at random, batches" in (
        wording.training_in_words([make_run(lr_schedule="cosine", flips=True)], card)
    )


def test_a_card_is_of_images_or_of_vectors() -> None:
    for fields in ({"image_shape": None}, {"vector_size": 64}):
        with pytest.raises(ValidationError, match="expected either image_shape or vector_size"):
            make_card(**fields)
    with pytest.raises(ValidationError, match="expected no samples of vectors"):
        make_card(image_shape=None, vector_size=64)


def test_labels_name_what_differs() -> None:
    card = make_card(num_classes=10, samples=0)
    runs = [make_run("softmax", lr=0.1), make_run("softmax", lr=0.05, hidden_units=100), make_run("gumbel", lr=0.1)]
    summary = summarise(make_study(runs), card, [make_result(run, card) for run in runs])
    assert [row.label for row in summary.rows] == [
        "softmax (lr 0.1, hidden units none)",
        "softmax (lr 0.05, hidden units 100)",
        "gumbel",
    ]


def partial_study() -> tuple[Study, DataCard, list[Result]]:
    """Softmax lacks a seed, Gumbel diverged at one, nothing of the hierarchical head is there yet."""
    study, card, results = whole_study()
    kept = [result for result in results if result.run.head != "hierarchical" and result.run.seed != 2]
    diverged = make_result(make_run("gumbel", 2), card, diverged=3)
    return study, card, [*kept, diverged]


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


def test_a_study_of_which_every_run_diverged(tmp_path: Path) -> None:
    card = make_card(num_classes=10, samples=2)
    results = [make_result(make_run("softmax", seed), card, diverged=1 + seed) for seed in range(2)]
    study = make_study([result.run for result in results])
    page = write_report(study, card, results, tmp_path).read_text(encoding="utf-8")
    assert "softmax: 0 of 2 seeds; seed 0 diverged in epoch 1; seed 1 diverged in epoch 2." in page
    assert "Most confused pairs" not in page
    assert set(re.findall(r'class="plot \w+" id="(\w+)"', page)) == {
        "accuracy_per_epoch",
        "accuracy_against_seconds",
        "nll_per_epoch",
        "train_loss_per_epoch",
        "train_loss_per_500_batches",
    }
    assert 'id="confusions"' not in page
    print_table(study, card, results, Console(file=io.StringIO()))


def sparse_study() -> tuple[Study, DataCard, list[Result]]:
    """Sparsemax has an infinite NLL after every epoch, entmax at one seed after the third and the last."""
    card = make_card(num_classes=10, samples=0)
    results = []
    for seed in range(3):
        for head in ("softmax", "sparsemax", "entmax"):
            result = make_result(make_run(head, seed), card, accuracy=0.7 if head == "softmax" else 0.5 + seed / 100)
            epochs = [
                epoch.model_copy(
                    update={"scores": epoch.scores.model_copy(update={"nll": math.inf, "outside_support": share})}
                )
                if epoch.scores and share
                else epoch
                for epoch, share in zip(result.epochs, SHARES[head, seed], strict=True)
            ]
            results.append(result.model_copy(update={"epochs": tuple(epochs)}))
    return make_study([result.run for result in results], published=()), card, results


SHARES = {(head, seed): [0.0] * 10 for head in ("softmax", "entmax") for seed in range(3)}
SHARES |= {("sparsemax", seed): [0.02 + seed / 100] * 10 for seed in range(3)}
SHARES["entmax", 1] = [0, 0, 0.1, 0, 0, 0, 0, 0, 0, 0.0001]


def test_an_infinite_nll_is_shown_with_the_share_behind_it(tmp_path: Path) -> None:
    study, card, results = sparse_study()
    summary = summarise(study, card, results)
    assert [row.marks["nll"] for row in summary.rows] == ["best", "", ""]
    assert [row.scores["nll"].half_width is None for row in summary.rows] == [False, True, True]
    assert "Every other head is distinguishably lower" in wording.finding(summary)

    page = write_report(study, card, results, tmp_path).read_text(encoding="utf-8")
    assert "a head gave a true class probability zero; the share of targets outside its support stands beside" in page
    shown = page[page.index('id="comparison-table"') :].partition("</table>")[0]
    rows = [html.unescape(re.sub(r"<[^>]*>", "", row)).split() for row in re.findall(r"<td.*</td>", shown)]
    nll, outside = ([rows[9 * line + column] for line in range(3)] for column in (5, 6))
    assert [row[0] for row in nll] == ["★best:", "∞", "∞"]
    assert outside == [["0", "±", "0"], ["3.0", "±", "2.5"], ["<0.1", "±", "<0.1"]]
    assert page.count("<td>∞ (2.0\xa0% outside the support)</td>") == 1  # seed 0 of sparsemax in the list of every run
    assert page.count("<td>∞ (&lt;0.1\xa0% outside the support)</td>") == 1
    assert "<figcaption>Infinite after every epoch: sparsemax (3.0\xa0% outside the support).</figcaption>" in page

    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {9}
    assert [row[4] for row in cells[3:]] == ["∞ (3.0\xa0% outside the support)", "∞ (<0.1\xa0% outside the support)"]

    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert [line.count("∞ 3.0%") for line in printed.splitlines() if line.startswith("sparsemax")] == [1]
    assert [line.count("∞ <0.1%") for line in printed.splitlines() if line.startswith("entmax")] == [1]

    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        softmax, sparsemax, entmax = csv.DictReader(file)
    assert (sparsemax["nll"], sparsemax["nll_low"], sparsemax["nll_high"], sparsemax["nll_mark"]) == ("inf", "", "", "")
    assert float(sparsemax["outside_support"]) == pytest.approx(0.03)
    assert (softmax["outside_support"], entmax["nll"]) == ("0.0", "inf")


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


def test_where_nothing_is_outside_the_support_nothing_is_said_of_it() -> None:
    study, card, results = whole_study()
    page = html_page.render(summarise(study, card, results))
    assert "support" not in page.partition('id="repeat"')[0].partition("<main>")[2]
    assert "support" not in table.comparison(summarise(study, card, results)).markdown()
    console = Console(file=io.StringIO(), record=True)
    print_table(study, card, results, console)
    assert "support" not in console.export_text()


def test_an_infinite_nll_from_before_the_share_was_known_is_shown() -> None:
    summary = summarise(*scored({"a": [math.inf, 1.0], "b": [2.0, 2.1]}, "nll"))
    page = html_page.render(summary)
    assert "<td>∞</td>" in page
    assert "a head gave a true class probability zero; curves leave such epochs out." in page
    assert "| ∞ |" in table.comparison(summary).markdown()


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


def many_study(
    heads: int = 24, samples: int = 2, kind: str = "hierarchical-tree"
) -> tuple[Study, DataCard, list[Result]]:
    """More heads than there are colours, under long names, the two last with an infinite NLL."""
    card = make_card(num_classes=20, samples=samples)
    names = [f"{kind}-{number:02d}" if number % 3 else f"head-{number:02d}" for number in range(heads)]
    results = []
    for seed in range(3):
        for number, head in enumerate(names):
            accuracy = 0.5 + 0.01 * (7 * number % heads) + 0.002 * seed
            result = make_result(make_run(head, seed), card, accuracy=accuracy)
            if number >= heads - 2:
                epochs = (epoch.model_dump(mode="json") for epoch in result.epochs)
                spoilt = [e | {"scores": e["scores"] | {"nll": math.inf, "outside_support": 0.03}} for e in epochs]
                result = result.model_copy(update={"epochs": tuple(map(Epoch.model_validate, spoilt))})
            results.append(with_statistics(result, scaled=number != 1))
    study = make_study([result.run for result in results], published=(), title=f"{heads} heads on glyphs")
    return study, card, results


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


def test_results_that_cannot_be_reported_are_refused(tmp_path: Path) -> None:
    study, card, _ = whole_study()
    with pytest.raises(InputError, match="expected at least one finished run of study 'toy', got none"):
        write_report(study, card, [], tmp_path)
    with pytest.raises(InputError, match=r"seed 7.*not one of them"):
        write_report(study, card, [make_result(make_run(seed=7), card)], tmp_path)
    with pytest.raises(InputError, match=r"with fingerprint f00d, got run .* on fingerprint beef"):
        write_report(study, card, [make_result(make_run(fingerprint="beef"), card)], tmp_path)
    assert not list(tmp_path.iterdir())


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


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study's report, with some classes named by strangers."""
    study, card, results = whole_study()
    return write_report(study, hostile(card), results, tmp_path_factory.mktemp("report"))


ALERT = "<script>alert(1)</script>"


def hostile(card: DataCard) -> DataCard:
    """The card with names that would break a page, a script, a figure or a line that takes them for its own."""
    names = list(card.class_names)
    for index, name in enumerate((ALERT, "</script><b>", "<!--", "$x_1$ {{ 7*7 }}", "שלום", "a\"b'c&amp;", "漢字")):
        names[index] = name
        names[-1 - index] = name  # and no name is unique
    assert card.group_names is not None
    groups = (ALERT, "--ink", *card.group_names[2:])
    return card.model_copy(update={"class_names": tuple(names), "group_names": groups, "description": ALERT})


@pytest.mark.parametrize("many", [False, True], ids=["few heads", "many heads"])
def test_a_measure_more_is_in_every_format(monkeypatch: pytest.MonkeyPatch, many: bool) -> None:
    """One entry in the tuple of measures is all that it needs."""
    made_up = Measure("parts.made_up", "Made-up score", "nats", higher_is_better=False, brief="Made")
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
    ("mark", "markdown", "terminal", "strong"),
    [
        ("best", "**5 ± 1**", "*5", True),
        ("level", "≈ 5 ± 1", "~5", False),
        ("higher", "**▲ 5 ± 1**", "▲ 5", True),
        ("lower", "**▼ 5 ± 1**", "▼ 5", True),
        ("", "5 ± 1", "5", False),
    ],
)
def test_a_mark_in_each_format(mark: str, markdown: str, terminal: str, strong: bool) -> None:
    cell = Cell("5", "± 1", mark=mark)
    assert (cell.in_markdown.replace("\xa0", " "), cell.in_terminal, cell.strong) == (markdown, terminal, strong)


def test_columns_under_one_name_stand_together_on_the_page() -> None:
    names = ((" a", ""), ("b", "over"), ("", "over"), ("c", "over"), ("d", ""), ("e", ""), ("f", "another"))
    grid = Grid([], [Column([], page, over=over) for page, over in names])
    assert [(over, [column.page for column in below]) for over, below in grid.on_page] == [
        ("", [" a"]),
        ("over", ["b", "c"]),
        ("", ["d", "e"]),
        ("another", ["f"]),
    ]


def test_the_table_as_csv_has_every_digit(report: Path) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    with (report.parent / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines] == [row.label for row in summary.rows]
    for line, row in zip(lines, summary.rows, strict=True):
        for measure in MEASURES:
            found = row.scores[measure.key]
            assert float(line[measure.key]) == found.mean
            assert float(line[f"{measure.key}_low"]) == found.low
            assert float(line[f"{measure.key}_high"]) == found.high
            assert line[f"{measure.key}_mark"] == row.marks[measure.key]
        assert row.epoch_seconds is not None
        assert float(line["epoch_seconds"]) == row.epoch_seconds.median
        assert int(line["parameters"]) == row.parameters


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((101, 100, 20, 19, 300), [("Frequent", {0, 4}, 101, 300), ("Middle", {1, 2}, 20, 100), ("Rare", {3}, 19, 19)]),
        ((100, 5, 90, 9, 9, 8), [("Frequent", {0, 2}, 90, 100), ("Middle", {3, 4}, 9, 9), ("Rare", {1, 5}, 5, 8)]),
        ((7, 200, 700), [("Frequent", {2}, 700, 700), ("Middle", {1}, 200, 200), ("Rare", {0}, 7, 7)]),
        ((3, 30), [("Frequent", {1}, 30, 30), ("Rare", {0}, 3, 3)]),
        ((0, 10, 0), [("Frequent", {1}, 10, 10), ("Middle", {0}, 0, 0), ("Rare", {2}, 0, 0)]),
        ((0, 9), None),
        ((100, 11), None),
        ((5, 5, 5), None),
    ],
)
def test_classes_are_parted_by_their_training_examples(
    counts: tuple[int, ...], expected: list[tuple[str, set[int], int, int]] | None
) -> None:
    """By more than 100 and fewer than 20, or by thirds where that leaves a part empty; not at all if they are even."""
    parts = frequency.parts(counts)
    found = parts and [(part.name, set(part.classes), part.least, part.most) for part in parts.found]
    assert found == expected
    assert parts is None or parts.by_count == (counts[0] == 101)


def long_tailed(
    train_counts: tuple[int, ...], heads: tuple[str, ...] = tuple(ACCURACY)
) -> tuple[Study, DataCard, list[Result]]:
    card = make_card(num_classes=len(train_counts), samples=0, train_counts=train_counts)
    runs = [make_run(head, seed) for seed in range(3) for head in heads]
    return make_study(runs, published=()), card, [make_result(run, card) for run in runs]


TAIL = tuple(round(300 / 1.3**rank) for rank in range(20))


def test_accuracy_by_class_frequency_is_the_mean_of_the_classes_own() -> None:
    study, card, results = long_tailed(TAIL)
    summary = summarise(study, card, results)
    parts = frequency.parts(TAIL)
    assert parts is not None
    assert parts.by_count
    for row in summary.rows:
        mine = [result for result in results if result.run.head == row.label]
        for part in parts.found:
            of_seeds = []
            for result in mine:
                matrix = np.zeros((20, 20))
                for target, predicted, count in result.confusion:
                    matrix[target, predicted] = count
                recalls = matrix.diagonal() / matrix.sum(1)
                of_seeds.append(recalls[sorted(part.classes)].mean())
            found, expected = frequency.accuracy(row, part), estimate(of_seeds)
            assert found is not None
            assert (found.mean, found.half_width) == pytest.approx((expected.mean, expected.half_width), rel=1e-12)


def test_a_class_without_test_examples_does_not_count() -> None:
    card = make_card(num_classes=3, group_size=None, samples=0, train_counts=(50, 5, 5), test_counts=(4, 4, 0))
    run = make_run("a")
    result = make_result(run, card).model_copy(update={"confusion": ((0, 0, 4), (1, 0, 3), (1, 1, 1))})
    summary = summarise(make_study([run], published=()), card, [result])
    parts = frequency.table(summary)
    assert parts is not None
    assert [column.cells[0].text for column in parts.columns] == ["100.0", "25.0", "–"]
    assert [line["accuracy"] for line in csv.DictReader(io.StringIO(frequency.csv(parts)))] == [
        "1.0",
        "0.25",
        "",
    ]


def test_the_tables_by_class_frequency_say_the_same(tmp_path: Path, open_page) -> None:
    study, card, results = long_tailed(TAIL)
    page = write_report(study, card, results, tmp_path)
    summary, parts = summarise(study, card, results), frequency.parts(TAIL)
    assert parts is not None
    expected = [
        [row.label, *(wording.known(frequency.accuracy(row, part), MEASURES[0]) for part in parts.found)]
        for row in summary.rows
    ]
    lines = (tmp_path / "frequency.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| head | frequent, % | middle, % | rare, % |"
    assert [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]] == expected
    with (tmp_path / "frequency.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [f"{100 * float(line['accuracy']):.1f}" for line in found] == [
        cell.split("\xa0")[0] for row in expected for cell in row[1:]
    ]
    assert [line["classes"] for line in found[:3]] == ["frequent", "middle", "rare"]
    assert sum(int(line["number_of_classes"]) for line in found[:3]) == 20
    assert cells(open_page(page), "#frequency-table") == [
        [cell.replace("\xa0", " ") for cell in row] for row in expected
    ]
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    for row in expected:
        assert f"{'  '.join(row)}".split() in [line.split() for line in printed.splitlines()]
    assert "frequent, 5 classes of 105 to 300 images" in " ".join(printed.split())


def test_of_even_classes_nothing_is_said_by_frequency(tmp_path: Path) -> None:
    """And what an earlier report said of other data is taken away."""
    study, card, results = scored({"a": [0.5], "b": [0.6]})
    for name in ("frequency.md", "frequency.csv"):
        (tmp_path / name).write_text("old")
    page = write_report(study, card, results, tmp_path)
    assert not list(tmp_path.glob("frequency.*"))
    assert "class frequency" not in page.read_text()


def test_every_run_is_listed_with_its_own_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the store, as the command line does it: reading a run's key must not fix it for its copies."""
    monkeypatch.setattr(Result, "check", lambda result: None)  # its scores are made up
    study, card, results = whole_study()
    store = Store(tmp_path)
    for result in results:
        store.save_result(result)
    summary = summarise(study, card, store.results(study))
    expected = {(result.run.head, result.run.seed): f"{100 * final_scores(result).accuracy:.1f}" for result in results}
    assert len(set(expected.values())) > 3
    lines = wording.runs(summary)
    assert {(line.run.head, line.run.seed): line.accuracy for line in lines} == expected


def test_a_class_that_the_data_do_not_have_is_refused() -> None:
    study, card, results = whole_study()
    spoiled = results[0].model_copy(update={"confusion": ((0, len(card.class_names), 1),)})
    with pytest.raises(InputError, match=r"expected classes in 0\.\.99, got 100 in run"):
        summarise(study, card, [spoiled, *results[1:]])


def test_the_table_as_markdown_says_what_the_terminal_says(report: Path) -> None:
    study, card, results = whole_study()
    summary = summarise(study, card, results)
    lines = (report.parent / "table.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {9}
    for found, row in zip(cells[2:], summary.rows, strict=True):
        accuracy = wording.with_interval(row.scores["accuracy"], MEASURES[0])
        marked = {"best": f"**{accuracy}**", "level": f"≈ {accuracy}", "": accuracy}
        assert found[:2] == [f"`{row.label}`", marked[row.marks["accuracy"]]]
        assert found[-1] == "3 seeds"


def test_the_table_of_a_partial_study_leaves_cells_empty() -> None:
    text = table.comparison(summarise(*partial_study())).csv()
    softmax, gumbel, hierarchical = csv.DictReader(io.StringIO(text))
    assert (softmax["seeds_planned"], softmax["seeds_finished"]) == ("3", "2")
    assert gumbel["seeds_diverged"] == "2"
    assert hierarchical["accuracy"] == hierarchical["epoch_seconds"] == hierarchical["parameters"] == ""


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


def test_a_report_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, card, results = scored({"a": [0.5], "b": [0.6]})
    monkeypatch.setattr(figures, "draw", lambda summary: {"accuracy.png": str(summary.rows).encode()})
    write_report(study, card, results, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert {file.name for file in before} == {"report.html", "table.csv", "table.md", "accuracy.png"}

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(study, card, results[:1], tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


def test_the_report_imports_no_torch() -> None:
    code = "import sys, softmaxes.lab.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, for the tests that open the page as its readers do."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        reason = "no chromium, chromium-browser or google-chrome on the path: the page is not opened"
        if os.environ.get("SOFTMAXES_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def visits(browser):
    """Opens pages without a network, each kind of visit once, and notes their complaints and wishes for a network."""
    pages, complaints = {}, []

    def decide(route) -> None:
        if route.request.url.startswith("file:") and route.request.is_navigation_request():
            route.continue_()
        else:
            complaints.append(f"request: {route.request.url}")
            route.abort()

    def opened(path: Path, width: int = 1280, scheme: str = "light", **settings):
        visit = (path, width, scheme)
        if visit not in pages:
            viewport = {"width": width, "height": 900}
            context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, **settings)
            pages[visit] = page = context.new_page()
            page.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.route("**/*", decide)
            page.goto(path.as_uri())
            page.wait_for_function(
                "[...document.querySelectorAll('.plot')].every("
                "plot => plot.offsetParent === null || plot.querySelector('.main-svg'))",
                timeout=20_000,
            )
            page.locator("details").evaluate("element => element.open = true")
        return pages[visit]

    yield opened, complaints
    for page in pages.values():
        page.context.close()


@pytest.fixture
def open_page(visits):
    """Opens a page, and fails at the end if it complained or wished for a network."""
    opened, complaints = visits
    yield opened
    found, complaints[:] = list(complaints), []
    assert found == []


def cells(page, selector: str) -> list[list[str]]:
    """A table's rows as a reader sees them."""
    rows = page.locator(f"{selector} tbody tr").all()
    return [[re.sub(r"\s+", " ", cell).strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows]


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
        page.wait_for_function(
            "said => document.querySelector('#confusion-0 .hoverlayer').textContent === said", arg=said, timeout=20_000
        )


def test_strangers_names_stay_text(report: Path, open_page) -> None:
    page = open_page(report)
    assert ALERT not in report.read_text(encoding="utf-8")
    assert "<" not in html_page.embedded({"<!--": "</script>"})
    assert page.locator("script").count() == 3
    assert page.locator(".sample .shown bdi").first.inner_text() == ALERT
    assert page.locator("#setting + p").inner_text().startswith(f"glyphs: {ALERT}")
    ticks = page.locator("#confusion-0 .ytick text").all_text_contents()
    assert ticks[:2] == [ALERT[:17] + "…", "--ink"]


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


@pytest.fixture(scope="module")
def many_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 24 heads."""
    study, card, results = many_study()
    return write_report(study, card, results, tmp_path_factory.mktemp("many"))


SHOWN = "selector => [...document.querySelectorAll(selector)].filter(element => element.offsetParent !== null)"


def shown(page, selector: str) -> list[str]:
    """What a reader sees of these elements: their first lines."""
    found = page.evaluate(f"selector => ({SHOWN})(selector).map(element => element.innerText)", selector)
    return [text.strip().splitlines()[0] for text in found]


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
    guesses = ".sample:first-of-type .guesses h3"
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
        page.wait_for_function(f"document.querySelector('#confusion-{position} .heatmaplayer image')", timeout=20_000)
        box = page.locator(f"#confusion-{position} .heatmaplayer image").bounding_box()
        assert box["width"] > 250
    page.locator("#confused").select_option(label=summary.ranked[0].label)


def test_the_page_of_many_heads_is_whole_without_scripts(many_report: Path, browser) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(many_report.as_uri())
    # Playwright evaluates in the page even where its own scripts are off.
    assert len(shown(page, ".confusion h3")) == 24
    assert len(shown(page, ".sample:first-of-type .guesses h3")) == 24
    assert shown(page, "#confused") == []
    assert page.locator(".heads button:enabled").count() == 0
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


def tree_results(card: DataCard) -> list[Result]:
    """A flat head and one over the groups' tree, both judged by it; the second with the way to each guess."""
    groups = card.group_of_class
    assert groups is not None
    classes = len(groups)
    parent = (*(classes + 1 + group for group in groups), -1, *[classes] * (max(groups) + 1))
    results = []
    for run in [make_run(head, seed) for seed in range(2) for head in ("softmax", "hierarchical")]:
        scores = make_scores(0.6).model_copy(
            update={
                "tree": TreeScores(
                    level_accuracy=(0.8, 0.6), lca_height=1.5 + run.seed / 10, precision=0.7, recall=0.7, f1=0.7
                )
            }
        )
        result = make_result(run, card, scores=scores)
        if run.head == "hierarchical":
            found = Searched(
                beam_width=4, beam_differs=0.002, beam_accuracy=0.599, greedy_differs=0.031, greedy_accuracy=0.58
            )
            ways = [
                (Branch(node=classes + 1 + groups[first], probability=0.75), Branch(node=first, probability=0.5))
                for first in (guess.classes[0] for guess in result.guesses)
            ]
            guesses = [guess.model_copy(update={"path": way}) for guess, way in zip(result.guesses, ways, strict=True)]
            tree = TrainedTree(parent=parent, learned_after=(2, 5), seconds=0.5, searched=found)
            result = result.model_copy(update={"tree": tree, "guesses": tuple(guesses)})
        results.append(result)
    return results


def test_trees_are_judged_drawn_and_followed() -> None:
    card = make_card()
    results = tree_results(card)
    summary = summarise(make_study([result.run for result in results]), card, results)
    assert [row.label for row in summary.over_trees] == ["hierarchical"]
    assert [estimate.mean for estimate in summary.rows[0].levels] == pytest.approx([0.8, 0.6])
    page = html_page.render(summary)
    table_of_trees = page[page.index('id="judged-table"') : page.index("The height of a mistake")]
    assert table_of_trees.count("<tr>") == 3
    assert re.search(r"80\.0\s±\s0\.0", table_of_trees)
    assert re.search(r"1\.550\s±\s0\.635", table_of_trees)
    assert re.search(r"Depth 2, up to 20 children a node; 2\.0 nodes on the way", page)
    assert re.search(r"Made in 0\.50 s from the weights of a flat softmax after 2 epochs, and again after 5 from", page)
    assert re.search(r"for\s+3\.1\s%\s+of the test images \(accuracy 58\.0\s%\), a beam of 4 for 0\.2\s%", page)
    assert page.count('<svg class="icicle"') == 1
    assert page.count('class="path"') == len(card.samples)
    group = card.group_names[card.group_of_class[results[1].guesses[0].classes[0]]]  # type: ignore[index]
    way = page[page.index('class="path"') :]
    assert re.search(rf"›&nbsp;<bdi>{group}</bdi>&nbsp;<span class=\"interval\">75\.0\s%", way[:400])
    (first, second) = csv.DictReader(io.StringIO(table.comparison(summary).csv()))
    assert float(first["tree_lca_height"]) == float(second["tree_lca_height"]) == pytest.approx(1.55)


def test_results_from_before_trees_judged_have_no_such_table() -> None:
    card = make_card()
    results = [make_result(make_run(seed=seed), card) for seed in range(2)]
    summary = summarise(make_study([result.run for result in results]), card, results)
    page = html_page.render(summary)
    assert "judged-table" not in page
    assert 'id="trees"' not in page
    (row,) = csv.DictReader(io.StringIO(table.comparison(summary).csv()))
    assert row["tree_lca_height"] == row["tree_lca_height_low"] == row["tree_lca_height_mark"] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tree": TrainedTree(parent=(1, 0, 1))},
            "expected a tree over 100 classes in run .*: Tree: expected one root",
        ),
        ({"tree": TrainedTree(parent=(2, 2, -1))}, "expected a tree over 100 classes in run .*: got 2 classes"),
        (
            {"guesses": (Guess(classes=(1,), probabilities=(1.0,), path=(Branch(node=999, probability=1),)),)},
            "expected a path .* in run .*, got a node that the tree has not",
        ),
    ],
)
def test_what_a_result_says_of_its_tree_is_checked(change: dict[str, object], message: str) -> None:
    card = make_card()
    results = [result for result in tree_results(card) if result.run.head == "hierarchical"]
    results[0] = results[0].model_copy(update=change)
    summary = summarise(make_study([result.run for result in results]), card, results)
    with pytest.raises(InputError, match=message):
        html_page.render(summary)


def test_differences_are_paired_tested_and_corrected() -> None:
    """The numbers are those of the tests themselves, of the seeds that both heads have; the marks follow from them."""
    study, card, results = whole_study()
    results = [result for result in results if (result.run.head, result.run.seed) != ("gumbel", 1)]
    found = differences.differences(summarise(study, card, results[::-1]))
    assert found is not None
    assert found.reference.label == "softmax"
    assert [one.row.label for one in found.heads] == ["gumbel", "hierarchical"]
    by_run = {(result.run.head, result.run.seed): result for result in results}
    expected = []
    for one, seeds in zip(found.heads, ((0, 2), (0, 1, 2)), strict=True):
        pairs = [(by_run[one.row.label, seed], by_run["softmax", seed]) for seed in seeds]
        values = [final_scores(mine).accuracy - final_scores(its).accuracy for mine, its in pairs]
        assert one.accuracy == paired(values)
        flags = [[unpacked(result.correct or "", 2000) for result in pair] for pair in pairs]
        assert one.p_examples == mcnemar_over_seeds(*zip(*flags, strict=True))
        expected.append(max(one.accuracy.p, one.p_examples))
    assert [one.p_adjusted for one in found.heads] == holm(expected)
    assert [one.mark for one in found.heads] == ["", "lower"]


def constant(heads: Mapping[str, Sequence[float]], right: Mapping[str, int]) -> tuple[Study, DataCard, list[Result]]:
    """A study of heads with these accuracies, and so many of 200 examples right at every seed."""
    study, card, results = scored(heads)
    flags = {head: packed(np.arange(200) < count) for head, count in right.items()}
    return study, card, [result.model_copy(update={"correct": flags[result.run.head]}) for result in results]


@pytest.mark.parametrize(
    ("other", "right", "mark"),
    [
        pytest.param([0.60, 0.61, 0.62], 120, "higher", id="both hold"),
        pytest.param([0.40, 0.41, 0.42], 80, "lower", id="both hold, the other way"),
        pytest.param([0.60, 0.61, 0.62], 105, "", id="five examples of 200 say nothing of others"),
        pytest.param([0.60, 0.40, 0.72], 120, "", id="the seeds disagree"),
    ],
)
def test_a_difference_holds_for_other_seeds_and_other_examples(other: list[float], right: int, mark: str) -> None:
    study, card, results = constant({"softmax": [0.50, 0.512, 0.521], "a": other}, {"softmax": 100, "a": right})
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    assert [one.mark for one in found.heads] == [mark]


def test_many_comparisons_take_marks_away() -> None:
    """Three seeds whose paired t gives p = 0.02: a mark alone, none among five heads."""
    heads = {"softmax": [0.5, 0.5, 0.5], "a": [0.55, 0.56, 0.58]} | {
        f"b{place}": [0.5, 0.52, 0.49] for place in range(4)
    }
    marks = []
    for kept in (2, 6):
        some = {head: heads[head] for head in list(heads)[:kept]}
        study, card, results = constant(some, {head: 150 if head == "a" else 100 for head in some})
        found = differences.differences(summarise(study, card, results))
        assert found is not None
        marks.append([one.mark for one in found.heads])
    assert marks == [["higher"], [""] * 5]


def test_which_heads_have_differences() -> None:
    """Those with two seeds to pair, of the same examples, that diverged at none.

    Where there is no softmax, or it diverged, the first head is the reference.
    """
    heads = {"a": [0.5, 0.6, 0.7], "softmax": [0.5, 0.61, 0.7], "b": [0.6, 0.7, 0.8]}
    study, card, results = constant(heads, dict.fromkeys(heads, 100))

    def compared(results: list[Result]) -> tuple[str, list[str]] | None:
        found = differences.differences(summarise(study, card, results))
        return found and (found.reference.label, [one.row.label for one in found.heads])

    assert compared(results) == ("softmax", ["a", "b"])
    assert compared([result for result in results if result.run.head != "softmax"]) == ("a", ["b"])
    assert compared([result for result in results if result.run.head == "b"]) is None
    assert compared([result for result in results if result.run.head != "b" or result.run.seed == 1]) == (
        "softmax",
        ["a"],
    )
    assert compared([result for result in results if result.run.seed == 1]) is None
    diverged = make_result(make_run("softmax", 2), card, diverged=3)
    assert compared([diverged if result.run == diverged.run else result for result in results]) == ("a", ["b"])
    diverged = make_result(make_run("b", 2), card, diverged=3)
    assert compared([diverged if result.run == diverged.run else result for result in results]) == ("softmax", ["a"])
    old = [result.model_copy(update={"correct": None}) if result.run.head == "a" else result for result in results]
    assert compared(old) == ("softmax", ["b"])

    held_out = {"a": 0.2, "softmax": 0.2, "b": 0.1}
    results = [
        result.model_copy(
            update={
                "run": result.run.model_copy(
                    update={"scored_on": "validation", "validation": held_out[result.run.head]}
                )
            }
        )
        for result in results
    ]
    study = study.model_copy(update={"runs": tuple(result.run for result in results)})
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    assert [one.row.setting.head for one in found.heads] == ["a"]  # of 0.1 others are held out


def test_the_differences_as_files_say_what_the_terminal_says(report: Path) -> None:
    study, card, results = whole_study()
    found = differences.differences(summarise(study, card, results))
    assert found is not None
    with (report.parent / "differences.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, one in zip(lines, found.heads, strict=True):
        assert (line["label"], line["reference"], line["seeds"]) == (one.row.label, "softmax", "3")
        numbers = [float(line[name]) for name in ("difference", "low", "high", "p_seeds")]
        assert numbers == list(one.accuracy[:4])
        assert [float(line[f"bootstrap_{end}"]) for end in ("low", "high")] == list(one.accuracy[4:6])
        assert [float(line["p_examples"]), float(line["p_adjusted"])] == [one.p_examples, one.p_adjusted]
        assert line["mark"] == one.mark
    console = Console(width=80, file=io.StringIO(), record=True, color_system=None)
    print_table(study, card, results, console)
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    below = printed.partition("Differences to softmax")[2]
    assert "corrected for 2 comparisons (Holm)" in re.sub(r"\s+", " ", below)
    rows = (report.parent / "differences.md").read_text(encoding="utf-8").splitlines()[2:]
    for row, one in zip(rows, found.heads, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        shown = f"{100 * one.accuracy.mean:+.2f}".replace("-", "−")
        assert cells[0] == f"`{one.row.label}`"
        assert f"{shown} ± " in cells[1].replace("\xa0", " ")
        assert cells[1].startswith("**▼") == (one.mark == "lower")
        (line,) = (line for line in below.splitlines() if line.startswith(one.row.label))
        assert re.sub(r"\s+", " ", line).split()[-4:] == cells[3:]
    assert below.count("▼ −") == sum(one.mark == "lower" for one in found.heads) > 0


def test_results_from_before_statistics_have_no_such_sections(tmp_path: Path) -> None:
    """And what an earlier report left of them is taken away."""
    study, card, results = whole_study()
    (tmp_path / "differences.csv").write_text("old")
    old = [result.model_copy(update={"correct": None, "calibration": None}) for result in results]
    page = write_report(study, card, old, tmp_path).read_text(encoding="utf-8")
    for name in ("differences", "calibration", "reliability"):
        assert f'id="{name}' not in page
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "table.csv", "table.md", "figures"}
    assert not (tmp_path / "figures" / "reliability.png").exists()
    console = Console(file=io.StringIO(), record=True)
    print_table(study, card, old, console)
    assert "Differences" not in console.export_text()


def test_reliability_is_pooled_over_seeds() -> None:
    nothing = [0.0] * 12
    curves = [
        Reliability(examples=[*[0] * 12, 0, 1, 3], confidence=[*nothing, 0, 0.9, 0.98], accuracy=[*nothing, 0, 0, 1]),
        Reliability(examples=[*[0] * 12, 0, 3, 1], confidence=[*nothing, 0, 0.92, 0.94], accuracy=[*nothing, 0, 1, 0]),
    ]
    low, high = pooled(curves)
    assert (low.confidence, low.accuracy, low.examples, low.share) == pytest.approx((0.915, 0.75, 4, 0.5))
    assert (high.confidence, high.accuracy, high.examples, high.share) == pytest.approx((0.97, 0.75, 4, 0.5))


def test_confidence_is_told_before_and_after_scaling() -> None:
    study, card, results = whole_study()
    results[1] = with_statistics(make_result(results[1].run, card), scaled=False)  # gumbel, seed 0
    heads = calibrated(summarise(study, card, results))
    assert [one.scaled is not None for one in heads] == [True, False, True]
    scaled = heads[2].scaled
    assert scaled is not None
    assert (scaled.temperature.mean, scaled.fitted_on) == (pytest.approx(1.5), 100)
    assert scaled.nll.mean == pytest.approx(0.9 * heads[2].nll.mean)
    drawn = charts.reliability_charts(heads)
    assert [len(chart.figure["data"]) for chart in drawn] == [4, 3]
    assert [trace["y"] for trace in drawn[0].figure["data"][1:]] == [
        [bin.accuracy for bin in one.bins] for one in heads
    ]
    assert "softmax 12.0\xa0% overconfident on average" in drawn[0].alternative
    assert drawn[1].figure["data"][2]["x"] == [bin.confidence for bin in scaled.bins]
    page = html_page.render(summarise(study, card, results))
    table = page[page.index('id="calibration-table"') :].partition("</table>")[0]
    rows = [
        html.unescape(re.sub(r"<[^>]*>", " ", row)).split() for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    assert (rows[3].count("–"), rows[2].count("–"), rows[4].count("–")) == (4, 0, 0)
    assert rows[4][-5:] == ["1.500", "±", "0.248", "100", "images"]
    none = [with_statistics(make_result(result.run, card), scaled=False) for result in results]
    (chart,) = charts.reliability_charts(calibrated(summarise(study, card, none)))
    assert chart.title == "Reliability"
    assert "calibration-table" not in html_page.render(summarise(study, card, none))


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"correct": packed(np.ones(8, dtype=bool))}, "expected a bit for each of 2000 examples in correct"),
        ({"correct": "no base64!"}, "Only base64 data is allowed"),
        ({"calibration": {"reliability": {"examples": [1], "confidence": [1], "accuracy": [1]}}}, "at least 15 items"),
        (
            {"calibration": {"reliability": {"examples": [1] * 15, "confidence": [1], "accuracy": [1]}}},
            "expected a confidence and an accuracy for each of 15 bins",
        ),
    ],
)
def test_what_is_no_statistic_is_refused(fields: dict[str, object], message: str) -> None:
    _, _, results = whole_study()
    with pytest.raises(ValidationError, match=message):
        Result.model_validate(dict(results[0]) | fields)


def test_the_page_shows_the_differences(report: Path, open_page) -> None:
    found = differences.differences(summarise(*whole_study()))
    assert found is not None
    lines = cells(open_page(report), "#differences-table")
    for line, one in zip(lines, found.heads, strict=True):
        mark = f"{SIGNS[one.mark].page} {one.mark}: " if one.mark else ""
        assert line[:2] == [one.row.label, mark + wording.points_interval(one.accuracy).replace("\xa0", " ")]
        assert line[3:] == ["3", *map(wording.p_value, (one.accuracy.p, one.p_examples, one.p_adjusted))]


HEADS_OF_STRANGERS = (
    "Softmax",
    "softmax",
    '=HYPERLINK("http://127.0.0.1","x")',
    "+1+1",
    "-cmd|' /C calc'!A0",
    "@SUM(A1)",
    "a`b|c``",
    "[red]x[/]",
    ":warning:",
    "../../a/b",
    "a b",
    "a_b",
    "漢字",
    "x" * 300,
    "_under",
    "%{y} <b>",
)


def strangers(*heads: str) -> tuple[Study, DataCard, list[Result]]:
    card = make_card(num_classes=4, group_size=None, samples=0, train_counts=(200, 100, 50, 2))
    results = [with_statistics(make_result(make_run(head, seed), card)) for head in heads for seed in (0, 1)]
    return make_study([result.run for result in results], published=()), card, results


def test_names_of_figures_stay_apart_whatever_the_heads_are_called() -> None:
    names = figures.file_names([*HEADS_OF_STRANGERS, "softmax_2", "", "..", "nul", "SOFTMAX"])
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9._-]{1,150}", name)
    assert figures.file_names(["softmax", "hierarchical (hidden units 100)"]) == [
        "softmax",
        "hierarchical_hidden_units_100",
    ]


def test_heads_whose_names_differ_in_case_have_a_figure_each(monkeypatch: pytest.MonkeyPatch) -> None:
    study, card, results = strangers("Softmax", "softmax", "_x", "漢" + "x" * 299)
    summary = summarise(study, card, results)
    legend = figures.curve_figure(summary.curve_plots[0]).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 4  # matplotlib leaves out what begins with an underscore
    matrix = summary.matrix(summary.rows[3])
    assert matrix is not None
    assert figures.png(figures.matrix_figure(summary.rows[3], matrix))  # without a warning that there is no room
    monkeypatch.setattr(figures, "png", lambda figure: b"")
    names = [name for name in figures.draw(summary) if name.startswith("confusion_")]
    assert names[:2] == ["confusion_softmax.png", "confusion_softmax_2.png"]
    assert len({name.casefold() for name in names}) == 4


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


def test_a_name_is_no_markup_in_the_terminal() -> None:
    study, card, results = strangers("[red]x[/]", ":warning:", "softmax")
    console = Console(width=100, file=io.StringIO(), record=True, color_system="truecolor")
    print_table(study, card, results, console)
    printed = console.export_text()
    assert printed.count("[red]x[/]") >= 3
    assert printed.count(":warning:") >= 3


def test_a_name_is_no_place_for_a_number_in_a_figure_of_the_page(tmp_path: Path, open_page) -> None:
    study, card, results = strangers("%{y} <b>&", "softmax")
    path = tmp_path / "report.html"
    path.write_text(html_page.render(summarise(study, card, results)), encoding="utf-8")
    page = open_page(path)
    page.locator("#time").scroll_into_view_if_needed()
    box = page.locator("#time .scatterlayer .trace:nth-child(1) .points path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 1, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('#time .hoverlayer').textContent.startsWith('%{y} <b>&')")


@pytest.mark.parametrize("name", ["\u202egnp", "a\u200bb", "\x1b[31m", "a\nb", "\ud800", "\u2066x"])
def test_a_name_that_turns_or_hides_letters_is_refused(name: str) -> None:
    for make in (lambda: make_run(name), lambda: make_card(class_names=(name, *map(str, range(99))))):
        with pytest.raises(ValidationError, match="expected printable characters"):
            make()


def test_a_command_on_the_page_is_one_that_can_be_typed() -> None:
    """Whatever the folder is called that the data lie in."""
    study, card, results = strangers("softmax")
    words = ("--data", "it's; rm -rf $HOME", "--data-dir=-x `y`", "--fonts", "two\\ words")
    study = study.model_copy(update={"data_options": words})
    line = wording.runs(summarise(study, card, results))[0]
    assert shlex.split(line.again) == ["softmaxes", "repeat", f"runs/{line.run.key}.json", *words]


@pytest.mark.parametrize("name", ["glyphs", "fair-tail-standin-100", "budget-tuned-glyphs"])
def test_the_stored_tables_are_made_again_to_the_last_letter(name: str) -> None:
    store = Store(Path(__file__).parents[2] / "results" / name)
    study, card = store.study(), store.card()
    summary = summarise(study, card, store.results(study))
    found, parts = differences.differences(summary), frequency.table(summary)
    assert found is not None
    made = {
        "table.csv": table.comparison(summary).csv(),
        "table.md": table.comparison(summary).markdown(),
        "differences.csv": differences.table(found).csv(),
        "differences.md": differences.table(found).markdown(),
    }
    if study.tuning is not None:
        made["tuning.csv"] = tuning.csv(study)
    if parts is not None:
        made |= {"frequency.csv": frequency.csv(parts), "frequency.md": parts.markdown()}
    for file, text in made.items():
        assert (store.directory / file).read_bytes() == text.encode(), file


def test_a_tree_of_which_nothing_was_tested_is_drawn() -> None:
    """A result without examples, as no training leaves it: nothing is known of a node."""
    card = make_card(num_classes=4, group_size=2, samples=0)
    result = next(one for one in tree_results(card) if one.tree is not None)
    result = result.model_copy(update={"confusion": ()})
    study = make_study([result.run], published=())
    (view,) = views(summarise(study, card, [result]))
    assert "unknown" in view.svg


def test_words_in_a_row() -> None:
    assert [wording.listed("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
