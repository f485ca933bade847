"""The referee against scikit-learn and against numbers worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torch import Tensor

from cases import RAGGED
from softmaxes import Tree, metrics

CLASSES = 12


@pytest.fixture(params=[0, 1])
def example(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and targets of 300 examples; classes 10 and 11 are never predicted, 11 never true."""
    generator = torch.Generator().manual_seed(request.param)
    logits = 2 * torch.randn(300, CLASSES, generator=generator, dtype=torch.float64)
    logits[:, 10:] -= 20
    return logits.log_softmax(1), torch.randint(CLASSES - 1, (300,), generator=generator)


def test_against_scikit_learn(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_prob, target = example
    judged = metrics.join([metrics.judge(log_prob[:128], target[:128]), metrics.judge(log_prob[128:], target[128:])])
    labels = np.arange(CLASSES)
    prediction = log_prob.argmax(1).numpy()
    assert metrics.accuracy(judged) == pytest.approx((prediction == target.numpy()).mean())
    for k in (1, 3, 5, 11):
        expected = top_k_accuracy_score(target, log_prob, k=k, labels=labels)
        assert metrics.topk_accuracy(judged, k) == pytest.approx(expected)
    assert metrics.nll(judged) == pytest.approx(log_loss(target, log_prob.exp(), labels=labels))
    expected = precision_recall_fscore_support(target, prediction, labels=labels, average="macro", zero_division=0)
    assert metrics.macro_scores(judged, CLASSES) == pytest.approx(expected[:3])
    dense = np.zeros((CLASSES, CLASSES), dtype=int)
    for true, predicted, count in metrics.confusion(judged, CLASSES).tolist():
        dense[true, predicted] = count
    assert (dense == confusion_matrix(target, prediction, labels=labels)).all()


def test_precision_by_hand() -> None:
    """Of the first example classes 4 and 1 are labels in the first and third place, of the second none is."""
    log_prob = torch.tensor([[0.05, 0.2, 0.25, 0.1, 0.4, 0.0], [0.5, 0.3, 0.1, 0.05, 0.05, 0.0]]).log()
    judged = metrics.judge(log_prob, torch.tensor([4, 5]), torch.tensor([[4, 1, 5], [5, -1, -1]]))
    assert judged.relevant.tolist() == [[True, False, True, False, False], [False] * 5]
    found = [metrics.precision_at(judged, k) for k in (1, 2, 3, 5)]
    assert found == pytest.approx([(1 + 0) / 2, (1 / 2 + 0) / 2, (2 / 3 + 0) / 2, (2 / 5 + 0) / 2])


@pytest.mark.parametrize("classes", [2, 4, 5, 6, 30])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_precision_is_that_of_numpy(classes: int, dtype: torch.dtype) -> None:
    """Whatever is equally probable, and where some classes have no probability: those are never found."""
    random = np.random.default_rng(classes)
    share = random.integers(0, 4, (60, classes)).astype(float)
    share[share.sum(1) == 0, 0] = 1
    labels = [random.choice(classes, random.integers(1, min(classes, 7)), replace=False) for _ in share]
    padded = np.full((60, 7), -1)
    for row, of in zip(padded, labels, strict=True):
        row[: len(of)] = of
    log_prob = torch.from_numpy(share / share.sum(1, keepdims=True)).log().to(dtype)
    target = torch.tensor([of[0] for of in labels])
    parts = [slice(0, 25), slice(25, 60)]
    judged = metrics.join(metrics.judge(log_prob[at], target[at], torch.from_numpy(padded[at])) for at in parts)
    best = np.argsort(-share, axis=1, kind="stable")
    for k in range(1, 6):
        hits = [
            np.isin(row[:k], of) & (of_row[row[:k]] > 0) for row, of, of_row in zip(best, labels, share, strict=True)
        ]
        assert metrics.precision_at(judged, k) == pytest.approx(np.mean([hit.sum() / k for hit in hits]), abs=1e-12)
    alone = metrics.judge(log_prob, target)
    assert torch.equal(alone.relevant, metrics.judge(log_prob, target, target.unsqueeze(1)).relevant)
    assert metrics.precision_at(alone, 1) == metrics.accuracy(alone)


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        ([[0], [2]], TypeError, "expected labels to be a Tensor, got list"),
        (torch.zeros(2, 1), TypeError, r"expected labels of dtype torch\.int64, got torch\.float32"),
        (torch.zeros(2, dtype=torch.int64), ValueError, r"expected labels of shape \(2, L\), got \(2,\)"),
        (torch.zeros(3, 1, dtype=torch.int64), ValueError, r"expected labels of shape \(2, L\), got \(3, 1\)"),
        (torch.tensor([[0, 3], [1, -1]]), ValueError, r"expected labels in 0\.\.2, got 3"),
        (torch.tensor([[0, -2], [1, -1]]), ValueError, r"expected labels in 0\.\.2, got -2"),
        (torch.zeros(2, 1, dtype=torch.int64, device="meta"), ValueError, "expected labels on cpu, .* got meta"),
    ],
)
def test_what_are_no_labels_is_refused(labels: torch.Tensor, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"^judge: {said}"):
        metrics.judge(torch.full((2, 3), 1 / 3).log(), torch.tensor([0, 2]), labels)


def test_calibration_error_by_hand() -> None:
    # Two bins of five: confidences .62 and .78 (one right of two), .9 (right). Gaps |.5 * 2 - 1.4| and |1 - .9|.
    confidence = torch.tensor([0.62, 0.78, 0.9], dtype=torch.float64)
    log_prob = torch.stack([confidence, 1 - confidence], dim=1).log()
    judged = metrics.judge(log_prob, torch.tensor([0, 1, 0]))
    assert metrics.calibration_error(judged, bins=5) == pytest.approx((0.4 + 0.1) / 3)


def test_a_calibrated_head_has_no_calibration_error() -> None:
    log_prob = torch.tensor([[0.75, 0.25]]).log().expand(4, 2)
    assert metrics.calibration_error(metrics.judge(log_prob, torch.tensor([0, 0, 1, 0]))) == pytest.approx(0, abs=1e-7)


def test_the_reliability_curve_is_scikit_learns(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    judged = metrics.judge(*example)
    for bins in (15, 4):
        curve = metrics.reliability(judged, bins)
        accuracy, confidence = calibration_curve(judged.rank == 0, judged.confidence, n_bins=bins)
        filled = curve.examples > 0
        assert filled.sum() < 15
        assert curve.accuracy[filled].tolist() == pytest.approx(accuracy.tolist())
        assert curve.confidence[filled].tolist() == pytest.approx(confidence.tolist())
        assert curve.examples.sum() == 300
        assert (curve.accuracy[~filled] == 0).all()
        gap = (curve.examples * (curve.accuracy - curve.confidence).abs()).sum() / 300
        assert gap.item() == pytest.approx(metrics.calibration_error(judged, bins))


def test_bins_are_open_below_and_closed_above() -> None:
    log_prob = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]], dtype=torch.float64).log()
    judged = metrics.judge(log_prob, torch.tensor([0, 1, 0]))
    curve = metrics.reliability(judged, bins=4)
    assert curve.examples.tolist() == [0, 1, 1, 1]
    assert curve.accuracy.tolist() == [0, 1, 0, 1]
    assert curve.confidence.tolist() == pytest.approx([0, 0.5, 0.75, 1])


def overconfident(temperature: float, examples: int = 100_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets drawn from a softmax, and the log-probabilities of one whose logits are so many times as large."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(examples, CLASSES, generator=generator, dtype=torch.float64)
    target = logits.softmax(1).multinomial(1, generator=generator).squeeze(1)
    return (temperature * logits).log_softmax(1), target


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    """Within what 100,000 examples can tell; there the NLL is smallest and the confidence right."""
    log_prob, target = overconfident(temperature)
    found = metrics.fit_temperature(log_prob, target)
    assert found == pytest.approx(temperature, rel=0.02)
    scaled = metrics.judge(metrics.at_temperature(log_prob, found), target)
    for other in (0.99 * found, 1.01 * found):
        assert metrics.nll(scaled) < metrics.nll(metrics.judge(metrics.at_temperature(log_prob, other), target))
    assert metrics.calibration_error(scaled) < 0.01
    if temperature != 1:
        assert metrics.calibration_error(metrics.judge(log_prob, target)) > 0.05


def test_the_temperature_is_scipys(example: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in float32, and a few rows at a time."""
    log_prob, target = example

    def loss(log_temperature: float) -> float:
        return metrics.nll(metrics.judge(metrics.at_temperature(log_prob, math.exp(log_temperature)), target))

    expected = math.exp(minimize_scalar(loss, bounds=(-4.6, 4.6), method="bounded", options={"xatol": 1e-9}).x)
    assert metrics.fit_temperature(log_prob, target) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(metrics, "NUMBERS", 100)
    assert metrics.fit_temperature(log_prob.float(), target) == pytest.approx(expected, rel=1e-4)


def test_a_temperature_is_that_of_the_logits_and_keeps_zeros() -> None:
    logits = torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for temperature in (0.3, 1.0, 7.0):
        scaled = metrics.at_temperature(logits.log_softmax(1), temperature)
        torch.testing.assert_close(scaled, (logits / temperature).log_softmax(1))
    sparse = logits.where(logits > 0, -math.inf).log_softmax(1)
    scaled = metrics.at_temperature(sparse, 2.0)
    assert (scaled == -math.inf).equal(sparse == -math.inf)
    torch.testing.assert_close(scaled.exp().sum(1), torch.ones(20, dtype=torch.float64))
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^at_temperature: expected a finite temperature above 0, got"):
            metrics.at_temperature(logits, wrong)


def test_the_temperature_of_a_sparse_distribution_is_that_of_the_targets_in_its_support() -> None:
    log_prob, target = overconfident(3.0, examples=2000)
    sparse = log_prob.where(log_prob > math.log(0.05), -math.inf).log_softmax(1)
    inside = sparse.gather(1, target[:, None]).squeeze(1) > -math.inf
    assert 0.1 < inside.double().mean() < 0.9
    found = metrics.fit_temperature(sparse, target)
    assert found == metrics.fit_temperature(sparse[inside], target[inside])
    assert found is not None
    nll = [
        metrics.nll(metrics.judge(metrics.at_temperature(sparse[inside], factor * found), target[inside]))
        for factor in (0.99, 1, 1.01)
    ]
    assert nll[1] == min(nll)
    assert metrics.fit_temperature(sparse[~inside], target[~inside]) is None
    assert metrics.fit_temperature(sparse[:0], target[:0]) is None


def test_where_no_temperature_is_best() -> None:
    """Every prediction right, or every one wrong: an end. One class possible, or all alike: no difference."""
    log_prob = torch.tensor([[0.6, 0.4]]).log().expand(5, 2)
    right, wrong = torch.zeros(5, dtype=torch.int64), torch.ones(5, dtype=torch.int64)
    assert metrics.fit_temperature(log_prob, right) == pytest.approx(0.01)
    assert metrics.fit_temperature(log_prob, wrong) == pytest.approx(100)
    for same in (torch.tensor([[0.0, -math.inf]]), torch.full((1, 2), -math.log(2))):
        assert metrics.fit_temperature(same.expand(5, 2), right) == 1


def test_a_head_that_says_nothing_gets_no_credit() -> None:
    log_prob = torch.full((10, 10), -math.log(10))
    judged = metrics.judge(log_prob, torch.arange(10))
    assert metrics.accuracy(judged) == pytest.approx(0.1)
    assert metrics.topk_accuracy(judged, 5) == pytest.approx(0.5)
    assert judged.prediction.tolist() == [0] * 10


def test_probability_zero_is_an_infinite_loss() -> None:
    judged = metrics.judge(torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]), torch.tensor([0, 0]))
    assert metrics.nll(judged) == math.inf
    assert metrics.accuracy(judged) == 0.5
    assert metrics.outside_support(judged) == 0.5


def test_a_target_of_probability_zero_comes_last() -> None:
    """It is not found by being numbered before the other zeros; one of tiny probability is."""
    log_prob = torch.full((4, CLASSES), -math.inf)
    log_prob[:, 9] = math.log(0.75)
    log_prob[:, 10] = math.log(0.25)
    log_prob[3, 1] = -200  # whose probability float32 rounds to zero
    judged = metrics.judge(log_prob, torch.tensor([0, 9, 10, 1]))
    assert judged.rank.tolist() == [CLASSES - 1, 0, 1, 2]
    assert judged.prediction.tolist() == [9, 9, 9, 9]
    assert metrics.topk_accuracy(judged, 5) == metrics.topk_accuracy(judged, CLASSES - 1) == 0.75
    assert metrics.topk_accuracy(judged, CLASSES) == 1
    assert metrics.outside_support(judged) == 0.25


def test_top_k_is_torchs_with_a_sparse_distribution(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Where fewer than k classes are possible, torch.topk fills up with zeros by chance: they do not count."""
    log_prob, target = example
    sparse = log_prob.where(log_prob > math.log(0.1), -math.inf).log_softmax(1)
    assert 0 < (sparse.gather(1, target[:, None]) == -math.inf).double().mean() < 1
    judged = metrics.judge(sparse, target)
    for k in (1, 2, 5, 11):
        values, classes = sparse.topk(k, dim=1)
        found = ((classes == target[:, None]) & (values > -math.inf)).any(1)
        assert metrics.topk_accuracy(judged, k) == found.double().mean()


def test_scores_of_a_sparse_distribution_by_hand() -> None:
    # Confidences 1 (right), .5 and .5 (wrong: a tie goes to the class that is numbered first; a zero). In five bins:
    # gaps 0 and |0 - 1|. Hits of classes 0, 1, 2: 1 of 1, 0 of 1, 0 of 1, and class 0 is predicted three times.
    log_prob = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]], dtype=torch.float64).log()
    judged = metrics.judge(log_prob, torch.tensor([0, 1, 2]))
    assert metrics.calibration_error(judged, bins=5) == pytest.approx(1 / 3)
    assert metrics.macro_scores(judged, 3) == pytest.approx((1 / 9, 1 / 3, 1 / 6))
    assert metrics.confusion(judged, 3).tolist() == [[0, 0, 1], [1, 0, 1], [2, 0, 1]]
    assert judged.nll.tolist() == pytest.approx([0, math.log(2), math.inf])


def test_a_probability_that_rounding_puts_above_one_is_one() -> None:
    judged = metrics.judge(torch.tensor([[2e-7, -math.inf], [2e-7, -math.inf]]), torch.tensor([0, 1]))
    assert judged.confidence.tolist() == [1, 1]
    assert judged.nll.tolist() == [0, math.inf]
    assert metrics.calibration_error(judged) == 0.5


def test_what_is_not_log_probabilities_is_refused() -> None:
    with pytest.raises(ValueError, match="got NaN in 1 of 2 rows"):
        metrics.judge(torch.tensor([[0.0, math.nan], [0.0, 0.0]]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"expected log-probabilities, none above 0, got 0.5\."):
        metrics.judge(torch.tensor([[0.5, -1.0]]), torch.tensor([0]))
    with pytest.raises(
        ValueError, match=r"expected log_prob of shape \(N, C\) and target of shape \(N,\), got \(3, 2\)"
    ):
        metrics.judge(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


def test_numbers_out_of_range_are_refused_and_none_is_no_error() -> None:
    judged = metrics.judge(torch.zeros(2, 2).log_softmax(1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"topk_accuracy: expected k to be at least 1, got 0\."):
        metrics.topk_accuracy(judged, 0)
    with pytest.raises(ValueError, match=r"calibration_error: expected bins to be at least 1, got 0\."):
        metrics.calibration_error(judged, bins=0)
    with pytest.raises(ValueError, match=r"reliability: expected bins to be at least 1, got 0\."):
        metrics.reliability(judged, bins=0)
    nothing = metrics.judge(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert math.isnan(metrics.accuracy(nothing))
    assert math.isnan(metrics.calibration_error(nothing))


def judged_as(target: list[int], prediction: list[int]) -> metrics.Judged:
    """A test set of these targets and predictions."""
    classes = max(target + prediction) + 1
    log_prob = torch.eye(classes, dtype=torch.float64)[prediction].add(0.1).div(1 + classes / 10).log()
    return metrics.judge(log_prob, torch.tensor(target))


TREES = {
    "balanced": Tree.balanced(CLASSES),
    "shuffled": Tree.random(CLASSES, arity=3, seed=1),
    "flat": Tree([CLASSES] * CLASSES + [-1]),
    # Class 0 or (class 1 or (class 2 or ...)); the root has one child.
    "chain": Tree([*range(12, 23), 22, 23, *range(12, 22), -1]),
    "ragged": Tree([12, 12, 13, 13, 13, 14, 14, 15, 16, 16, 17, 17, 14, 17, 17, 13, 15, -1]),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_scores_on_a_tree_from_the_paths(example: tuple[torch.Tensor, torch.Tensor], tree: Tree) -> None:
    """Each from its definition, by the path of every class from below the root."""
    log_prob, target = example
    judged = metrics.judge(log_prob, target)
    paths = [[*reversed(tree.ancestors(c)), c][1:] for c in range(CLASSES)]
    pairs = list(zip(target.tolist(), judged.prediction.tolist(), strict=True))
    levels = metrics.level_accuracy(judged, tree)
    assert len(levels) == tree.depth
    for depth, level in enumerate(levels):
        at = [path[min(depth, len(path) - 1)] for path in paths]
        assert level == pytest.approx(accuracy_score([at[t] for t, _ in pairs], [at[p] for _, p in pairs]))
    assert levels[-1] == metrics.accuracy(judged)

    shared = [[a for a, b in zip(paths[t], paths[p], strict=False) if a == b] for t, p in pairs]
    below = {node: [path for path in paths if node in path] for node in range(tree.num_nodes) if node != tree.root}
    height = {node: max(len(path) - path.index(node) - 1 for path in below[node]) for node in below}
    height[tree.root] = tree.depth
    mistakes = [height[[tree.root, *both][-1]] for both, (t, p) in zip(shared, pairs, strict=True) if t != p]
    assert metrics.mean_lca_height(judged, tree) == pytest.approx(np.mean(mistakes))

    precision = sum(map(len, shared)) / sum(len(paths[p]) for _, p in pairs)
    recall = sum(map(len, shared)) / sum(len(paths[t]) for t, _ in pairs)
    f1 = 2 * precision * recall / (precision + recall)
    assert metrics.hierarchical_scores(judged, tree) == pytest.approx((precision, recall, f1), rel=1e-14)

    shares = metrics.node_accuracy(metrics.confusion(judged, CLASSES), tree)
    assert shares[tree.root] == 1
    assert math.isnan(shares[11])  # class 11 is never true
    for node in below:
        predicted = [node in paths[p] for t, p in pairs if node in paths[t]]
        assert shares[node].item() == pytest.approx(np.mean(predicted) if predicted else math.nan, nan_ok=True)


def test_scores_on_a_tree_by_hand() -> None:
    # RAGGED: class 0 beside everything else, 1 to 4 under node 7, 6 beside the only child 5, both under node 9.
    judged = judged_as([0, 1, 1, 5, 6, 6], [0, 1, 2, 6, 6, 1])
    assert metrics.level_accuracy(judged, RAGGED) == pytest.approx([5 / 6, 3 / 6, 3 / 6])
    assert metrics.mean_lca_height(judged, RAGGED) == pytest.approx((1 + 2 + 3) / 3)
    # Shared 1, 2, 1, 1, 2, 0; predicted 1, 2, 2, 2, 2, 2; true 1, 2, 2, 3, 2, 2.
    assert metrics.hierarchical_scores(judged, RAGGED) == pytest.approx((7 / 11, 7 / 12, 14 / 23))
    shares = metrics.node_accuracy(metrics.confusion(judged, 7), RAGGED)
    expected = [1, 1 / 2, math.nan, math.nan, math.nan, 0, 1 / 2, 1, 0, 2 / 3, 1]
    assert shares.tolist() == pytest.approx(expected, nan_ok=True)


def test_a_test_set_without_mistakes() -> None:
    judged = judged_as([0, 3, 6], [0, 3, 6])
    assert math.isnan(metrics.mean_lca_height(judged, RAGGED))
    assert metrics.level_accuracy(judged, RAGGED) == [1, 1, 1]
    assert metrics.hierarchical_scores(judged, RAGGED) == (1, 1, 1)


def test_nothing_shared_is_zero() -> None:
    judged = judged_as([0, 1], [1, 0])
    assert metrics.hierarchical_scores(judged, RAGGED) == (0, 0, 0)
    assert metrics.level_accuracy(judged, RAGGED) == [0, 0, 0]


def test_scores_on_a_tree_under_another_default_device() -> None:
    judged, tree = judged_as([0, 1, 1, 5, 6, 6], [0, 1, 2, 6, 6, 1]), Tree(RAGGED.parent)
    confusion = metrics.confusion(judged, 7)
    with torch.device("meta"):
        assert metrics.level_accuracy(judged, tree)[-1] == 0.5
        assert metrics.mean_lca_height(judged, tree) == 2
        assert metrics.hierarchical_scores(judged, tree)[0] == 7 / 11
        assert metrics.node_accuracy(confusion, tree)[9].item() == 2 / 3


@pytest.mark.parametrize("score", [metrics.level_accuracy, metrics.mean_lca_height, metrics.hierarchical_scores])
def test_classes_of_another_tree_are_refused(score: Callable[[metrics.Judged, Tree], object]) -> None:
    """Class 7 would be an inner node of this tree, and the score wrong in silence."""
    for target, prediction in (([0, 7], [0, 1]), ([0, 1], [0, 7])):
        with pytest.raises(ValueError, match=rf"^{score.__name__}: expected classes in 0..6, the tree's, got 7\.$"):
            score(judged_as(target, prediction), RAGGED)


def test_what_is_no_confusion_of_the_tree_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^node_accuracy: expected classes in 0..6, the tree's, got -1\.$"):
        metrics.node_accuracy(torch.tensor([[0, 0, 5], [1, -1, 2]]), RAGGED)
    for shape in ((3,), (2, 2)):
        with pytest.raises(ValueError, match=r"^node_accuracy: expected confusion of shape \(P, 3\), got \("):
            metrics.node_accuracy(torch.zeros(shape, dtype=torch.int64), RAGGED)


def uniform(rows: int = 2, classes: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Log-probabilities that are all alike."""
    return torch.full((rows, classes), -math.log(classes), dtype=dtype)


ONE = metrics.judge(uniform(), torch.tensor([0, 2]))
PAIRS = torch.tensor([[0, 0, 1], [1, 2, 3]])
TARGETS = torch.tensor([0, 2])


@pytest.mark.parametrize(("classes", "expected"), [(2, 2.0), (1000, 1000.0)])
def test_the_perplexity_of_equal_probabilities_is_the_number_of_classes(classes: int, expected: float) -> None:
    judged = metrics.judge(torch.zeros(3, classes, dtype=torch.float64).log_softmax(1), torch.tensor([0, 1, 1]))
    assert metrics.perplexity(judged) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("least", "expected"), [(-80.0, math.exp(80)), (-1000.0, math.inf), (-math.inf, math.inf)])
def test_a_perplexity_beyond_float32_is_infinite(least: float, expected: float) -> None:
    judged = metrics.judge(torch.tensor([[0.0, least]]), torch.tensor([1]))
    assert metrics.perplexity(judged) == pytest.approx(expected, rel=1e-4)


OF_A_BATCH = {
    "judge": metrics.judge,
    "fit_temperature": metrics.fit_temperature,
    "at_temperature": lambda log_prob, _: metrics.at_temperature(log_prob, 2.0),
}
OF_JUDGED: dict[str, Callable[..., object]] = {
    "join": lambda judged: metrics.join([ONE, judged]),
    "topk_accuracy": lambda judged: metrics.topk_accuracy(judged, 2),
    "precision_at": lambda judged: metrics.precision_at(judged, 3),
    "nll": metrics.nll,
    "perplexity": metrics.perplexity,
    "outside_support": metrics.outside_support,
    "calibration_error": metrics.calibration_error,
    "reliability": metrics.reliability,
    "confusion": lambda judged: metrics.confusion(judged, 3),
    "macro_scores": lambda judged: metrics.macro_scores(judged, 3),
    "level_accuracy": lambda judged: metrics.level_accuracy(judged, Tree.balanced(3)),
    "mean_lca_height": lambda judged: metrics.mean_lca_height(judged, Tree.balanced(3)),
    "hierarchical_scores": lambda judged: metrics.hierarchical_scores(judged, Tree.balanced(3)),
}
OF_AN_INTEGER: dict[str, Callable[..., object]] = {
    "topk_accuracy: expected k": lambda value: metrics.topk_accuracy(ONE, value),
    "precision_at: expected k": lambda value: metrics.precision_at(ONE, value),
    "calibration_error: expected bins": lambda value: metrics.calibration_error(ONE, value),
    "reliability: expected bins": lambda value: metrics.reliability(ONE, value),
    "confusion: expected num_classes": lambda value: metrics.confusion(ONE, value),
    "macro_scores: expected num_classes": lambda value: metrics.macro_scores(ONE, value),
}


def test_every_function_of_the_referee_has_its_arguments_checked() -> None:
    """What is public is in one of the tables below, or calls one that is."""
    public = {name for name, thing in vars(metrics).items() if getattr(thing, "__module__", "") == metrics.__name__} - {
        "Judged",
        "Reliability",
    }
    known = {*OF_A_BATCH, *OF_JUDGED, *(said.partition(":")[0] for said in OF_AN_INTEGER), "accuracy", "node_accuracy"}
    assert {name for name in public if not name.startswith("_")} == known


@pytest.mark.parametrize("function", OF_A_BATCH)
@pytest.mark.parametrize(
    ("log_prob", "error", "said"),
    [
        (np.zeros((2, 3)), TypeError, "expected log_prob to be a Tensor, got ndarray"),
        (uniform().long(), TypeError, r"expected log_prob of a floating-point dtype, got torch\.int64"),
        (uniform().bool(), TypeError, r"expected log_prob of a floating-point dtype, got torch\.bool"),
        (uniform()[0], ValueError, r"expected log_prob of shape \(N, C\)[^.]*, got \(3,\)"),
        (uniform()[None], ValueError, r"expected log_prob of shape \(N, C\)[^.]*, got \(1, 2, 3\)"),
        (uniform()[:, :0], ValueError, r"expected log_prob of shape \(N, C\)[^.]*, got \(2, 0\)"),
        (uniform() * math.nan, ValueError, "expected log-probabilities, got NaN in 2 of 2 rows"),
        (uniform().index_fill(0, torch.tensor([1]), math.nan), ValueError, "got NaN in 1 of 2 rows"),
        (uniform() + 2, ValueError, r"expected log-probabilities, none above 0, got 0\.901"),
        (uniform().fill_(math.inf), ValueError, "none above 0, got inf"),
        (uniform() - 1, ValueError, r"sum to 1 in each row, got 0\.368 in 2 of 2 rows"),
        (uniform().exp().neg(), ValueError, r"sum to 1 in each row, got 2\.15 in 2 of 2 rows"),
        (uniform().fill_(-math.inf), ValueError, "sum to 1 in each row, got 0 in 2 of 2 rows"),
    ],
)
def test_what_is_no_batch_of_log_probabilities_is_refused_everywhere(
    function: str, log_prob: torch.Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=rf"^{function}: .*{said}"):
        OF_A_BATCH[function](log_prob, TARGETS)


@pytest.mark.parametrize("function", ["judge", "fit_temperature"])
@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ([0, 2], TypeError, "expected target to be a Tensor, got list"),
        (TARGETS.int(), TypeError, r"expected target of dtype torch\.int64, got torch\.int32"),
        (TARGETS.double(), TypeError, r"expected target of dtype torch\.int64, got torch\.float64"),
        (TARGETS.bool(), TypeError, r"expected target of dtype torch\.int64, got torch\.bool"),
        (TARGETS[:1], ValueError, r"target of shape \(N,\), got \(2, 3\) and \(1,\)"),
        (TARGETS[:, None], ValueError, r"target of shape \(N,\), got \(2, 3\) and \(2, 1\)"),
        (TARGETS.to("meta"), ValueError, "expected target on cpu, where log_prob is, got meta"),
        (TARGETS - 1, ValueError, r"expected target in 0\.\.2, got -1"),
        (TARGETS + 1, ValueError, r"expected target in 0\.\.2, got 3"),
    ],
)
def test_what_are_no_targets_is_refused_everywhere(
    function: str, target: torch.Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=rf"^{function}: .*{said}"):
        OF_A_BATCH[function](uniform(), target)


READ = dict.fromkeys(OF_JUDGED, ("target", "prediction")) | {
    "join": metrics.Judged._fields,
    "topk_accuracy": ("rank",),
    "precision_at": ("relevant",),
    "nll": ("nll",),
    "perplexity": ("nll",),
    "outside_support": ("nll",),
    "calibration_error": ("confidence", "rank"),
    "reliability": ("confidence", "rank"),
}


@pytest.mark.parametrize("function", OF_JUDGED)
@pytest.mark.parametrize(
    ("field", "spoil", "error", "said"),
    [
        ("target", Tensor.int, TypeError, r"expected target of dtype torch\.int64, got torch\.int32"),
        ("prediction", Tensor.int, TypeError, r"expected prediction of dtype torch\.int64, got torch\.int32"),
        ("rank", Tensor.double, TypeError, r"expected rank of dtype torch\.int64, got torch\.float64"),
        ("nll", Tensor.long, TypeError, r"expected nll of a floating-point dtype, got torch\.int64"),
        ("confidence", Tensor.tolist, TypeError, "expected confidence to be a Tensor, got list"),
        ("prediction", lambda column: column[:1], ValueError, r"of shape \(N,\), got"),
        ("rank", lambda column: column[:, None], ValueError, r"of shape \(N,\), got"),
        ("rank", lambda column: column - 1, ValueError, r"expected rank in 0\.\.inf, got -1"),
        ("confidence", lambda column: column + 1, ValueError, r"expected confidence in 0\.0\.\.1\.0, got 1\.33"),
        ("confidence", lambda column: column * math.nan, ValueError, "expected confidence in .*, got nan"),
        ("nll", lambda column: column * math.nan, ValueError, "expected nll in .*, got nan"),
        ("target", lambda column: column - 1, ValueError, r"classes in 0\.\.2.*got -1"),
        ("prediction", lambda column: column + 3, ValueError, r"classes in 0\.\.2.*got 3"),
        ("relevant", Tensor.long, TypeError, r"expected relevant of dtype torch\.bool, got torch\.int64"),
        ("relevant", lambda column: column[:, :3], ValueError, r"of shape \(N, 5\), got relevant of \(2, 3\)"),
        ("relevant", lambda column: column[:, 0], ValueError, r"of shape \(N, 5\), got relevant of \(2,\)"),
    ],
)
def test_what_was_not_judged_is_refused_everywhere(
    function: str, field: str, spoil: Callable[[Tensor], object], error: type[Exception], said: str
) -> None:
    """By every function that reads the field; int32 classes would overflow in a confusion matrix."""
    spoiled = ONE._replace(**{field: spoil(getattr(ONE, field))})
    if field not in READ[function] or (function == "join" and "classes" in said):
        OF_JUDGED[function](spoiled)
        return
    with pytest.raises(error, match=rf"^{function}: .*{said}"):
        OF_JUDGED[function](spoiled)


@pytest.mark.parametrize("function", OF_JUDGED)
def test_another_tuple_than_what_was_judged_is_refused(function: str) -> None:
    with pytest.raises(TypeError, match=rf"^{function}: expected what `judge` gives, got tuple\.$"):
        OF_JUDGED[function](tuple(ONE))


@pytest.mark.parametrize("function", OF_AN_INTEGER)
def test_integers_of_any_type_are_integers_and_nothing_else_is(function: str) -> None:
    score = OF_AN_INTEGER[function]
    expected = score(3)
    for same in (np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        torch.testing.assert_close(score(same), expected, rtol=0, atol=0)
    for other in (3.0, True, np.True_, "3", None, np.float64(3), np.array([3]), torch.tensor(3.0)):
        with pytest.raises(TypeError, match=rf"^{function} to be an int, got "):
            score(other)
    for low in (0, -1, np.int64(-3), -(10**30)):
        with pytest.raises(ValueError, match=rf"^{function} to be at least 1, got {low}\.$"):
            score(low)
    if "topk" in function:
        assert score(10**30) == 1
    else:
        with pytest.raises(ValueError, match=rf"^{function} to be at most \d+, got 10{{30}}\.$"):
            score(10**30)


@pytest.mark.parametrize("function", ["confusion", "macro_scores"])
def test_more_classes_than_there_are_said_to_be_are_refused(function: str) -> None:
    for judged in (judged_as([0, 2], [0, 1]), judged_as([0, 1], [0, 2])):
        with pytest.raises(ValueError, match=rf"^{function}: expected classes in 0\.\.1, got 2\.$"):
            getattr(metrics, function)(judged, 2)


def test_a_confusion_of_many_classes_does_not_overflow() -> None:
    classes, unknown = 100_000, torch.zeros(2)
    judged = metrics.Judged(torch.tensor([60_000, 99_999]), torch.tensor([0, 99_999]), *[unknown] * 4)
    assert metrics.confusion(judged, classes).tolist() == [[60_000, 0, 1], [99_999, 99_999, 1]]
    assert metrics.confusion(judged, metrics.MOST_CLASSES).tolist() == [[60_000, 0, 1], [99_999, 99_999, 1]]


def test_what_is_no_confusion_or_no_tree_is_refused() -> None:
    for wrong in (PAIRS.int(), PAIRS.double()):
        with pytest.raises(TypeError, match=r"^node_accuracy: expected confusion of dtype torch\.int64, got torch\."):
            metrics.node_accuracy(wrong, RAGGED)
    with pytest.raises(TypeError, match=r"^node_accuracy: expected confusion to be a Tensor, got list\.$"):
        metrics.node_accuracy(PAIRS.tolist(), RAGGED)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^node_accuracy: expected counts to be at least 0, got -2\.$"):
        metrics.node_accuracy(torch.tensor([[0, 0, 1], [1, 1, -2]]), RAGGED)
    for score in (metrics.level_accuracy, metrics.mean_lca_height, metrics.hierarchical_scores):
        with pytest.raises(TypeError, match=rf"^{score.__name__}: expected tree to be a Tree, got list\.$"):
            score(ONE, [2, 2, -1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^node_accuracy: expected tree to be a Tree, got list\.$"):
        metrics.node_accuracy(PAIRS, [2, 2, -1])  # type: ignore[arg-type]


def test_what_is_no_temperature_is_refused() -> None:
    for wrong in (True, "2", None, torch.tensor(2.0), 2j):
        with pytest.raises(TypeError, match=r"^at_temperature: expected temperature to be a number, got "):
            metrics.at_temperature(uniform(), wrong)  # type: ignore[arg-type]
    expected = metrics.at_temperature(uniform(), 2.0)
    assert metrics.at_temperature(uniform(), np.float32(2)).equal(expected)
    assert metrics.at_temperature(uniform(), 2).equal(expected)


def test_batches_are_joined_if_there_are_any_and_on_one_device() -> None:
    with pytest.raises(ValueError, match=r"^join: expected at least one batch, got none\.$"):
        metrics.join([])
    with pytest.raises(TypeError, match=r"^join: expected what `judge` gives, got Tensor\.$"):
        metrics.join(torch.zeros(2, 2))  # type: ignore[arg-type]
    elsewhere = metrics.Judged(*(column.to("meta") for column in ONE))
    with pytest.raises(ValueError, match=r"^join: expected .* on "):
        metrics.join([ONE, ONE._replace(rank=elsewhere.rank)])
    assert metrics.join(judged for judged in (ONE, ONE)).target.tolist() == [0, 2, 0, 2]


def test_of_no_examples_means_are_nan_and_counts_are_0() -> None:
    nothing = metrics.judge(uniform(0), TARGETS[:0])
    tree = Tree.balanced(3)
    shares = [metrics.accuracy(nothing), metrics.nll(nothing), metrics.outside_support(nothing)]
    shares += [metrics.calibration_error(nothing), *metrics.level_accuracy(nothing, tree)]
    shares += [metrics.mean_lca_height(nothing, tree), *metrics.hierarchical_scores(nothing, tree)]
    shares += metrics.node_accuracy(metrics.confusion(nothing, 3), tree).tolist()
    assert all(map(math.isnan, shares))
    assert metrics.confusion(nothing, 3).shape == (0, 3)
    assert metrics.macro_scores(nothing, 3) == (0, 0, 0)
    assert metrics.reliability(nothing, 2).examples.tolist() == [0, 0]
    assert metrics.at_temperature(uniform(0), 2.0).shape == (0, 3)
    assert metrics.fit_temperature(uniform(0), TARGETS[:0]) is None
    assert metrics.join([nothing, nothing]).rank.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_of_equally_probable_classes_the_lowest_comes_first(dtype: torch.dtype) -> None:
    """Whatever the dtype, the number of classes and how they lie in memory; prediction and rank say the same."""
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3, 7, 16, 33, 100, 1000, 5000):
        probability = torch.randint(1, 4, (40, classes), generator=generator)
        log_prob = (probability.double() / probability.sum(1, keepdim=True)).log().to(dtype)
        target = torch.randint(classes, (40,), generator=generator)
        for laid in (log_prob, log_prob.t().contiguous().t(), log_prob.repeat_interleave(2, 1)[:, ::2]):
            judged = metrics.judge(laid, target)
            rows = [sorted(range(classes), key=lambda c, row=row: -row[c]) for row in probability.tolist()]
            assert judged.prediction.tolist() == [row[0] for row in rows]
            assert judged.rank.tolist() == [row.index(t) for row, t in zip(rows, target.tolist(), strict=True)]
            assert ((judged.rank == 0) == (judged.prediction == target)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_log_probabilities_of_any_floating_dtype_are_judged_alike(dtype: torch.dtype) -> None:
    """Also of very many classes, whose rounding adds up; what is judged is float32 at least."""
    generator = torch.Generator().manual_seed(0)
    for classes in (3, 40_000):
        log_prob = torch.randn(30, classes, generator=generator).log_softmax(1)
        target = torch.randint(classes, (30,), generator=generator)
        found, expected = metrics.judge(log_prob.to(dtype), target), metrics.judge(log_prob, target)
        assert found.nll.dtype == found.confidence.dtype == torch.promote_types(dtype, torch.float32)
        assert metrics.nll(found) == pytest.approx(metrics.nll(expected), rel=1e-2)
        assert metrics.calibration_error(found) == pytest.approx(metrics.calibration_error(expected), abs=1e-2)
        scaled = metrics.at_temperature(log_prob.to(dtype), 2.0)
        assert scaled.exp().sum(1).double().tolist() == pytest.approx([1] * 30, abs=1e-4)
        temperature = metrics.fit_temperature(log_prob.to(dtype), target)
        assert temperature == pytest.approx(metrics.fit_temperature(log_prob, target) or 0, rel=0.05)


def test_nothing_judged_can_be_differentiated() -> None:
    log_prob = torch.zeros(2, 3, requires_grad=True).log_softmax(1)
    judged = metrics.judge(log_prob, TARGETS)
    assert not any(column.requires_grad for column in judged)
    assert metrics.fit_temperature(log_prob, TARGETS) == 1
    assert metrics.at_temperature(log_prob, 2.0).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bins", [1, 3, 7, 10, 15, 49])
def test_a_confidence_on_an_edge_is_in_the_bin_below_it(dtype: torch.dtype, bins: int) -> None:
    """k / B as the dtype has it; the number after it is in the next bin, and the one before in the same."""
    edges = (torch.arange(1, bins + 1, dtype=torch.float64) / bins).to(dtype)
    unknown = torch.zeros(bins, dtype=torch.int64)

    def examples(confidence: torch.Tensor) -> list[int]:
        judged = metrics.Judged(unknown, unknown, confidence, unknown.double(), unknown, unknown)
        assert metrics.calibration_error(judged, bins) == pytest.approx((1 - confidence.double()).mean().item())
        return metrics.reliability(judged, bins).examples.tolist()

    eps = torch.finfo(dtype).eps
    assert examples(edges) == examples(edges * (1 - eps)) == [1] * bins
    assert examples((edges * (1 + eps)).clamp(max=1)) == [0] + [1] * (bins - 2) + [2] if bins > 1 else [1]


def test_the_confidence_of_a_head_on_an_edge_is_in_the_bin_below_it() -> None:
    share = torch.arange(8, 16) / 15
    judged = metrics.judge(torch.stack([share, 1 - share], 1).log(), torch.zeros(8, dtype=torch.int64))
    assert metrics.reliability(judged).examples.tolist() == [0] * 7 + [1] * 8
