"""The referee: what a head is judged by, computed from its log-probabilities alone.

`judge` reduces the log-probabilities of a batch, (N, C), to ten numbers an example; every score is a function of these,
so batches are joined by concatenation and a large test set needs no (N, C) array.

Every function checks its arguments: a TypeError says that one is of another kind or dtype than expected, a ValueError
that its shape, device or values are not. Of no examples at all, N = 0, a mean is NaN and a count is 0.

The scores on a tree say how far wrong a prediction is. The tree is the one that judges; a head that was trained on
another, or on none, is judged by it all the same.
"""

import math
from collections.abc import Iterable
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from softmaxes import checks
from softmaxes.on_cpu import on_cpu
from softmaxes.trees.tree import Tree

ROUNDING = 0.01  # a log-probability may be as much above zero, in bfloat16; and the sum of a row from one
MOST_CLASSES = 2**31  # whose square is an int64
MOST_BINS = 2**24  # of equal width, which are as many as float32 tells apart
TEMPERATURES = 100.0  # temperatures are looked for between one over this and this
PRECISION = 1e-6  # of a temperature, relative
ROUNDING_OF_NLL = 1e-9  # nats an example: a temperature that gains no more makes no difference
NUMBERS = 2**20  # of log-probabilities at a time, while a temperature is fitted
PLACES = 5  # the most probable classes that are looked for among all labels of an example
LEAST = -1e30  # stands for -inf where it is multiplied by a probability of zero


class Judged(NamedTuple):
    """What the scores need to know of each example.

    Attributes:
        target: the true class, (N,) int64.
        prediction: the most probable class, of equally probable ones the lowest, (N,) int64.
        confidence: its probability, (N,), float32 at least.
        nll: negative log-likelihood of the target in nats, (N,), float32 at least; inf where its probability is zero.
        rank: how many classes come before the target, (N,) int64; 0 where the prediction is right, C - 1 where the
            target's probability is zero.
        relevant: of each of the 5 most probable classes, in order, whether it is a label of the example, (N, 5) bool; a
            class of probability zero is none of them.
    """

    target: Tensor
    prediction: Tensor
    confidence: Tensor
    nll: Tensor
    rank: Tensor
    relevant: Tensor


def judge(log_prob: Tensor, target: Tensor, labels: Tensor | None = None) -> Judged:
    """Reduce log-probabilities to what the scores need.

    Classes of equal probability are ordered by their number, so a head that says the same of every class is not given
    credit for all of them. A target of probability zero comes last: a head with a sparse distribution did not choose
    it, and where it stands among the other zeros would be chance. It is among the k most probable classes only if k is
    C or more. A probability that rounding puts a hair above one counts as one. Nothing of it can be differentiated.

    Args:
        log_prob: (N, C), of a floating-point dtype, normalised, in nats.
        target: (N,), int64, in 0..C - 1, on the device of `log_prob`.
        labels: (N, L), int64, as `target`: all labels of each example where some have several, filled up with -1. Only
            `precision_at` looks at them. If not given, the target is the only one.

    Returns:
        Five tensors, (N,), and one, (N, 5).

    Raises:
        TypeError: an argument is no tensor, or not of its dtype.
        ValueError: shapes or devices do not fit, a target or a label is no class, a log-probability is NaN or above
            zero by more than rounding, or the probabilities of a row do not sum to one.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> log_prob = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).log()
        >>> judged = metrics.judge(log_prob, torch.tensor([0, 1]))
        >>> judged.prediction, judged.rank
        (tensor([0, 2]), tensor([0, 2]))
        >>> metrics.accuracy(judged)
        0.5
    """
    log_prob = _log_prob("judge", log_prob, target)
    own = log_prob.gather(1, target.unsqueeze(1))
    classes = torch.arange(log_prob.shape[1], device=log_prob.device)
    before = (log_prob > own) | ((log_prob == own) & (classes < target.unsqueeze(1)))
    own = own.squeeze(1)
    rank = before.sum(1).where(own > -math.inf, log_prob.shape[1] - 1)
    prediction = log_prob.argmax(1)  # of equals the first
    confidence = _wide(log_prob.gather(1, prediction.unsqueeze(1)).squeeze(1)).exp().clamp(max=1)
    if labels is None:
        places = torch.arange(PLACES, device=log_prob.device)
        relevant = (rank.unsqueeze(1) == places) & (own > -math.inf).unsqueeze(1)
    else:
        relevant = _relevant(log_prob, labels)
    return Judged(target, prediction, confidence, (-_wide(own)).clamp(min=0), rank, relevant)


def _relevant(log_prob: Tensor, labels: Tensor) -> Tensor:
    """Whether each of the most probable classes is a label, (N, PLACES); of equals the lower one is first."""
    _tensor("judge", "labels", labels, torch.int64)
    if labels.dim() != 2 or len(labels) != len(log_prob):
        raise ValueError(f"judge: expected labels of shape ({len(log_prob)}, L), got {tuple(labels.shape)}.")
    if labels.device != log_prob.device:
        raise ValueError(f"judge: expected labels on {log_prob.device}, where log_prob is, got {labels.device}.")
    _in_range("judge", "labels", labels[labels != -1], log_prob.shape[1])
    number = min(PLACES, log_prob.shape[1])
    values, classes = log_prob.topk(min(number + 1, log_prob.shape[1]))
    level = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -math.inf)).any(1)
    if bool(level.any()):  # which of them topk takes, and in what order, is chance
        in_order = log_prob[level].sort(dim=1, descending=True, stable=True).indices
        classes[level] = in_order[:, : classes.shape[1]]
    found = (classes[:, :number].unsqueeze(2) == labels.unsqueeze(1)).any(2) & (values[:, :number] > -math.inf)
    return functional.pad(found, (0, PLACES - number))


def join(parts: Iterable[Judged]) -> Judged:
    """The batches of a test set, at least one, as one."""
    columns = [_columns("join", part, *Judged._fields) for part in parts]
    if not columns:
        raise ValueError("join: expected at least one batch, got none.")
    devices = {column[0].device for column in columns}
    if len(devices) > 1:
        raise ValueError(f"join: expected batches on one device, got {' and '.join(sorted(map(str, devices)))}.")
    return Judged(*(torch.cat(column) for column in zip(*columns, strict=True)))


def accuracy(judged: Judged) -> float:
    """Share of examples whose most probable class is the target."""
    return topk_accuracy(judged, 1)


def topk_accuracy(judged: Judged, k: int) -> float:
    """Share of examples whose target is among the k most probable classes, k at least 1."""
    (rank,) = _columns("topk_accuracy", judged, "rank")
    k = min(checks.integer("topk_accuracy", "k", k, 1), MOST_CLASSES)
    return (rank < k).double().mean().item()


def precision_at(judged: Judged, k: int) -> float:
    r"""Precision at k: the share of the k most probable classes that are labels of the example, (N,) averaged.

    .. math:: P@k = \frac{1}{N} \sum_i \frac{|\mathrm{top}_k(i) \cap L(i)|}{k}

    An example with fewer than k labels cannot come to 1. Where each has one label, precision at 1 is the accuracy.

    Args:
        judged: the test set, judged with all labels of its examples.
        k: 1 to 5.

    Raises:
        TypeError: `k` is no integer.
        ValueError: `k` is none of these.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> log_prob = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()
        >>> judged = metrics.judge(log_prob, torch.tensor([0, 0]), labels=torch.tensor([[0, 2], [0, -1]]))
        >>> metrics.precision_at(judged, 1), round(metrics.precision_at(judged, 3), 4)
        (0.5, 0.3333)

    Reference:
        K. Bhatia, K. Dahiya, H. Jain, P. Kar, A. Mittal, Y. Prabhu, M. Varma. The extreme classification repository:
        multi-label datasets and code. 2016.
    """
    (relevant,) = _columns("precision_at", judged, "relevant")
    k = checks.integer("precision_at", "k", k, 1, PLACES)
    return (relevant[:, :k].double().sum(1) / k).mean().item()


def nll(judged: Judged) -> float:
    """Mean negative log-likelihood of the targets in nats; inf if one had probability zero."""
    (loss,) = _columns("nll", judged, "nll")
    return loss.double().mean().item()


MOST_NLL = 88.0  # of whose exponential float32 has no number beyond


def perplexity(judged: Judged) -> float:
    r"""The exponential of the mean negative log-likelihood; inf where that is infinite or more than 88.

    .. math:: \exp \left(-\frac{1}{N} \sum_i \log p(y_i \mid x_i)\right)

    A head that gives each of C classes the same probability has perplexity C.

    Reference:
        F. Jelinek, R. L. Mercer, L. R. Bahl, J. K. Baker. Perplexity: a measure of the difficulty of speech recognition
        tasks. 1977.
    """
    (loss,) = _columns("perplexity", judged, "nll")
    mean = loss.double().mean().item()
    return math.inf if mean > MOST_NLL else math.exp(mean)


def outside_support(judged: Judged) -> float:
    """Share of examples whose target has probability zero: a log-probability of -inf, not merely a small one."""
    (loss,) = _columns("outside_support", judged, "nll")
    return loss.isinf().double().mean().item()


def calibration_error(judged: Judged, bins: int = 15) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over the bins of `reliability`.

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
    bins, place, confidence, right = _bins("calibration_error", judged, bins)
    gap = right - confidence
    in_bin = torch.zeros(bins, dtype=gap.dtype, device=gap.device).index_add(0, place, gap)
    return (in_bin.abs().sum() / len(gap)).item()


class Reliability(NamedTuple):
    """How confidence and accuracy go together, over bins of confidence of equal width.

    Attributes:
        examples: how many are in each bin, (B,) int64.
        confidence: their mean confidence, (B,) float64; 0 in an empty bin.
        accuracy: the share of them whose prediction is right, (B,) float64; 0 in an empty bin.
    """

    examples: Tensor
    confidence: Tensor
    accuracy: Tensor


def reliability(judged: Judged, bins: int = 15) -> Reliability:
    """The reliability curve, over the bins of `calibration_error`, which is the mean gap between its two sides.

    Args:
        judged: the test set.
        bins: B; each is open below and closed above, and the first holds a confidence of 0, too. Their edges are the
            numbers k / B as the confidence's dtype has them, so that a confidence of k / B is in the k-th.

    Returns:
        Three tensors, (B,).

    Raises:
        TypeError: `bins` is no integer.
        ValueError: no bins, or too many.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> log_prob = torch.tensor([[0.75, 0.25]]).log().expand(4, 2)
        >>> judged = metrics.judge(log_prob, torch.tensor([0, 0, 0, 1]))
        >>> metrics.reliability(judged, bins=2)
        Reliability(examples=tensor([0, 4]), confidence=tensor([0.0000, 0.7500], dtype=torch.float64), \
accuracy=tensor([0.0000, 0.7500], dtype=torch.float64))

    Reference:
        A. Niculescu-Mizil, R. Caruana. Predicting good probabilities with supervised learning. 2005.
    """
    bins, place, confidence, right = _bins("reliability", judged, bins)
    examples = torch.bincount(place, minlength=bins)
    sums = (
        torch.zeros(bins, dtype=torch.float64, device=place.device).index_add(0, place, values)
        for values in (confidence, right)
    )
    return Reliability(examples, *(of_bin / examples.clamp(min=1) for of_bin in sums))


def _bins(score: str, judged: Judged, bins: int) -> tuple[int, Tensor, Tensor, Tensor]:
    """How many bins; and of each example its bin, its confidence and whether it is right, (N,), float64."""
    confidence, rank = _columns(score, judged, "confidence", "rank")
    bins = checks.integer(score, "bins", bins, 1, MOST_BINS)
    edges = torch.arange(1, bins + 1, dtype=torch.float64, device=confidence.device) / bins
    place = torch.bucketize(confidence.double(), edges.to(confidence.dtype).double())
    return bins, place, confidence.double(), (rank == 0).double()


def at_temperature(log_prob: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature T: log_softmax(log p / T).

    For a softmax this is the softmax of its logits over T, whatever constant they differ by; for any other head it is
    what its own log-probabilities give. T above 1 takes confidence away, T below 1 adds some; which class is the most
    probable stays, and so does a probability of zero.

    Args:
        log_prob: (N, C), of a floating-point dtype, normalised, in nats.
        temperature: T, above 0.

    Returns:
        (N, C), normalised, float32 at least.

    Raises:
        TypeError: `log_prob` is not a tensor of floating-point numbers, or T is not a number.
        ValueError: T is not above 0, or `log_prob` has another shape or is not normalised.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> metrics.at_temperature(torch.tensor([[0.9, 0.1, 0.0]]).log(), 2.0).exp()
        tensor([[0.7500, 0.2500, 0.0000]])

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
    if isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"at_temperature: expected temperature to be a number, got {temperature!r}.")
    if not temperature > 0 or not math.isfinite(temperature):
        raise ValueError(f"at_temperature: expected a finite temperature above 0, got {temperature}.")
    _log_prob("at_temperature", log_prob)
    return (_wide(log_prob) / temperature).log_softmax(1)


def fit_temperature(log_prob: Tensor, target: Tensor) -> float | None:
    """The temperature at which the NLL of some targets is smallest.

    In b = 1 / T the NLL is convex, and its slope is the mean of E[log p] - log p(target), the expectation taken at that
    temperature. The slope's zero is found by bisection in log b. Examples that the head was not trained on must be
    given: on its training examples most heads are rightly confident.

    A target of probability zero has it at every T, so that it cannot tell one from another: the fit is to the others.

    Args:
        log_prob: (N, C), of a floating-point dtype, normalised, in nats.
        target: (N,), int64, in 0..C - 1, on the device of `log_prob`.

    Returns:
        T, between 1/100 and 100: the end where the NLL still falls there, as where every prediction is right; 1
        where T makes no difference, as where all possible classes are equally probable; none where no target has a
        probability, and where there is none.

    Raises:
        TypeError: an argument is no tensor, or not of its dtype.
        ValueError: an argument is refused by `judge`.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> log_prob = torch.tensor([[0.9, 0.1]]).log().expand(4, 2)  # right three times in four
        >>> round(metrics.fit_temperature(log_prob, torch.tensor([0, 0, 0, 1])), 3)
        2.0

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
    log_prob = _log_prob("fit_temperature", log_prob, target)
    own = log_prob.gather(1, target.unsqueeze(1)).squeeze(1)
    inside = own > -math.inf
    log_prob, own = log_prob[inside], own[inside].double()
    if len(own) == 0:
        return None

    def at(inverse: float) -> tuple[float, float]:
        """Slope and value of the NLL, summed; without an array of N x C float64."""
        slope, value = 0.0, 0.0
        for some, targets in zip(torch.split(log_prob, rows), torch.split(own, rows), strict=True):
            scaled = some.double() * inverse
            normaliser = scaled.logsumexp(1)
            share = (scaled - normaliser.unsqueeze(1)).exp()
            slope += ((share * some.double().clamp(min=LEAST)).sum(1) - targets).sum().item()
            value += (normaliser - inverse * targets).sum().item()
        return slope, value

    rows = max(1, NUMBERS // log_prob.shape[1])
    low, high = -math.log(TEMPERATURES), math.log(TEMPERATURES)
    if at(math.exp(low))[0] >= 0:
        high = low
    elif at(math.exp(high))[0] <= 0:
        low = high
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if at(math.exp(middle))[0] < 0 else (low, middle)
    inverse = math.exp((low + high) / 2)
    gain = at(1.0)[1] - at(inverse)[1]
    return 1 / inverse if gain > len(own) * ROUNDING_OF_NLL else 1.0


def confusion(judged: Judged, num_classes: int) -> Tensor:
    """The confusion matrix in sparse form: rows of (target, prediction, count), counts above zero, (P, 3) int64.

    Args:
        judged: the test set.
        num_classes: C.

    Raises:
        TypeError: `num_classes` is no integer.
        ValueError: a class is not below `num_classes`.
    """
    num_classes, target, prediction = _classes("confusion", judged, num_classes)
    pair, count = torch.unique(target * num_classes + prediction, return_counts=True)
    return torch.stack([pair // num_classes, pair % num_classes, count], dim=1)


def macro_scores(judged: Judged, num_classes: int) -> tuple[float, float, float]:
    """Precision, recall and F1, each the mean over all C classes.

    A class that is never predicted has precision 0, one that is not in the test set recall 0; F1 is 0 where both are.

    Args:
        judged: the test set.
        num_classes: C; the mean is over all of them, seen or not.

    Returns:
        Precision, recall, F1.

    Raises:
        TypeError: `num_classes` is no integer.
        ValueError: a class is not below `num_classes`.
    """
    num_classes, target, prediction = _classes("macro_scores", judged, num_classes)
    hits = torch.bincount(target[target == prediction], minlength=num_classes).double()
    true = torch.bincount(target, minlength=num_classes)
    predicted = torch.bincount(prediction, minlength=num_classes)
    precision = hits / predicted.clamp(min=1)
    recall = hits / true.clamp(min=1)
    f1 = 2 * hits / (true + predicted).clamp(min=1)
    return precision.mean().item(), recall.mean().item(), f1.mean().item()


def level_accuracy(judged: Judged, tree: Tree) -> list[float]:
    """Share of examples whose prediction and target have the same ancestor at each depth of a tree, 1 to L.

    A class that lies above a depth stands for itself there. The shares never rise, and the last is the accuracy.

    Args:
        judged: the test set.
        tree: the tree that judges, over the same classes.

    Returns:
        A share for each depth from 1, below the root, to the tree's.

    Raises:
        TypeError: an argument is not of its kind.
        ValueError: a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> log_prob = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log().expand(4, 4)  # always class 0
        >>> judged = metrics.judge(log_prob, torch.arange(4))
        >>> metrics.level_accuracy(judged, Tree.balanced(4))
        [0.5, 0.25]
    """
    target, prediction = _leaves("level_accuracy", judged, tree)
    shared = tree.node_depth[tree.lowest_common_ancestor(target, prediction)]
    shared = shared.where(target != prediction, tree.depth)  # a class stands for itself at every depth below
    wrong_at = torch.bincount(shared + 1, minlength=tree.depth + 2)  # first depth at which they part
    right = len(target) - wrong_at.cumsum(0)[1:-1].double()
    return (right / len(target)).tolist()


def mean_lca_height(judged: Judged, tree: Tree) -> float:
    """How bad the mistakes are: mean height of the lowest common ancestor of prediction and target.

    A node's height is the number of edges down to the deepest leaf below it. Right predictions are left out, so that
    this says nothing of how many mistakes there are; where there are none it is NaN.

    Args:
        judged: the test set.
        tree: the tree that judges, over the same classes.

    Returns:
        The mean over the mistakes, from 1 to the tree's depth, or NaN.

    Raises:
        TypeError: an argument is not of its kind.
        ValueError: a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> log_prob = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log().expand(3, 4)  # always class 0
        >>> judged = metrics.judge(log_prob, torch.tensor([0, 1, 2]))
        >>> metrics.mean_lca_height(judged, Tree.balanced(4))
        1.5

    Reference:
        L. Bertinetto, R. Mueller, K. Tertikas, S. Samangooei, N. A. Lord. Making better mistakes: leveraging class
        hierarchies with deep networks. 2020.
    """
    target, prediction = _leaves("mean_lca_height", judged, tree)
    wrong = target != prediction
    return tree.node_height[tree.lowest_common_ancestor(target[wrong], prediction[wrong])].double().mean().item()


def hierarchical_scores(judged: Judged, tree: Tree) -> tuple[float, float, float]:
    """Hierarchical precision, recall and F1: a prediction counts as its class and every node above, but for the root.

    What prediction and target share is summed over the examples, then set against all that was predicted (precision)
    and all that is true (recall): the micro average. Where all classes lie at one depth the three are equal.

    Args:
        judged: the test set.
        tree: the tree that judges, over the same classes.

    Returns:
        Precision, recall, F1.

    Raises:
        TypeError: an argument is not of its kind.
        ValueError: a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> log_prob = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log().expand(2, 4)  # always class 0
        >>> judged = metrics.judge(log_prob, torch.tensor([0, 1]))  # the second is right in one node of two
        >>> metrics.hierarchical_scores(judged, Tree.balanced(4))
        (0.75, 0.75, 0.75)

    Reference:
        S. Kiritchenko, S. Matwin, A. F. Famili. Functional annotation of genes using hierarchical text categorization.
        2005. C. N. Silla, A. A. Freitas. A survey of hierarchical classification across different application domains.
        2011.
    """
    target, prediction = _leaves("hierarchical_scores", judged, tree)
    shared, predicted, true = (
        tree.node_depth[nodes].sum().double()
        for nodes in (tree.lowest_common_ancestor(target, prediction), prediction, target)
    )
    return (shared / predicted).item(), (shared / true).item(), (2 * shared / (predicted + true)).item()


@on_cpu
def node_accuracy(confusion: Tensor, tree: Tree) -> Tensor:
    """For every node the share of the examples of the classes below it whose prediction is below it, too.

    At the root it is 1, at a class its recall. A mistake counts against the nodes that lie above its target and not
    above its prediction: whether it stays below a node matters, not whether it is the right class there.

    Args:
        confusion: rows of (target, prediction, count), (P, 3) int64, as `confusion` gives them.
        tree: the tree that judges, over the same classes.

    Returns:
        The shares, (M,) float64; NaN for a node without examples.

    Raises:
        TypeError: an argument is not of its kind or dtype.
        ValueError: `confusion` is not of that shape, a count is below 0, or a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> always_class_0 = torch.tensor([[0, 0, 5], [1, 0, 5], [2, 0, 5], [3, 0, 5]])
        >>> metrics.node_accuracy(always_class_0, Tree.balanced(4))[4:]
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    _tensor("node_accuracy", "confusion", confusion, torch.int64)
    if confusion.dim() != 2 or confusion.shape[1] != 3:
        raise ValueError(f"node_accuracy: expected confusion of shape (P, 3), got {tuple(confusion.shape)}.")
    count = confusion[:, 2].cpu()
    target, prediction = _of_tree("node_accuracy", tree, confusion[:, 0], confusion[:, 1])
    if bool((count < 0).any()):
        raise ValueError(f"node_accuracy: expected counts to be at least 0, got {int(count.min())}.")
    right, true = (
        tree.subtree_sum(torch.zeros(tree.num_nodes, dtype=count.dtype).index_add(0, nodes, count)).double()
        for nodes in (tree.lowest_common_ancestor(target, prediction), target)
    )
    return right / true


def _leaves(score: str, judged: Judged, tree: Tree) -> tuple[Tensor, ...]:
    """Targets and predictions on the CPU."""
    return _of_tree(score, tree, *_columns(score, judged, "target", "prediction"))


def _of_tree(score: str, tree: Tree, *classes: Tensor) -> tuple[Tensor, ...]:
    """Brought to the CPU, where the tree is, each of them one of its classes: an inner node would be no error to it."""
    if not isinstance(tree, Tree):
        raise TypeError(f"{score}: expected tree to be a Tree, got {type(tree).__name__}.")
    for some in classes:
        _in_range(score, "classes", some, tree.num_classes, ", the tree's")
    return tuple(some.cpu() for some in classes)


# What arguments are checked by


def _tensor(function: str, name: str, value: Tensor, dtype: torch.dtype | None = None) -> None:
    """A tensor of a dtype, of any floating-point one if none is given."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: expected {name} to be a Tensor, got {type(value).__name__}.")
    if dtype is None and not value.is_floating_point():
        raise TypeError(f"{function}: expected {name} of a floating-point dtype, got {value.dtype}.")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{function}: expected {name} of dtype {dtype}, got {value.dtype}.")


def _in_range(function: str, name: str, classes: Tensor, num_classes: int, whose: str = "") -> None:
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if len(wrong) > 0:
        raise ValueError(f"{function}: expected {name} in 0..{num_classes - 1}{whose}, got {int(wrong[0])}.")


def _wide(log_prob: Tensor) -> Tensor:
    """In half precision a distribution does not sum to one."""
    return log_prob.float() if log_prob.dtype.itemsize < 4 else log_prob


def _log_prob(function: str, log_prob: Tensor, target: Tensor | None = None) -> Tensor:
    """Log-probabilities of a batch, detached; its targets are checked with them."""
    _tensor(function, "log_prob", log_prob)
    if log_prob.dim() != 2 or log_prob.shape[1] < 1:
        raise ValueError(f"{function}: expected log_prob of shape (N, C), got {tuple(log_prob.shape)}.")
    if target is not None:
        _target(function, target, log_prob)
    log_prob = log_prob.detach()
    if bool(log_prob.isnan().any()):
        rows = int(log_prob.isnan().any(1).sum())
        raise ValueError(f"{function}: expected log-probabilities, got NaN in {rows} of {len(log_prob)} rows.")
    if bool((log_prob > ROUNDING).any()):
        raise ValueError(f"{function}: expected log-probabilities, none above 0, got {log_prob.max().item():.3g}.")
    # A log-probability's rounding, by half of eps times itself, moves the sum by half of eps times the entropy.
    slack = ROUNDING + torch.finfo(log_prob.dtype).eps * math.log(log_prob.shape[1])
    total = _wide(log_prob).exp().sum(1)
    wrong = total[(total - 1).abs() > slack]
    if len(wrong) > 0:
        raise ValueError(
            f"{function}: expected log-probabilities whose probabilities sum to 1 in each row, "
            f"got {wrong[0].item():.3g} in {len(wrong)} of {len(log_prob)} rows."
        )
    return log_prob


def _target(function: str, target: Tensor, log_prob: Tensor) -> None:
    _tensor(function, "target", target, torch.int64)
    if target.shape != log_prob.shape[:1]:
        raise ValueError(
            f"{function}: expected log_prob of shape (N, C) and target of shape (N,), "
            f"got {tuple(log_prob.shape)} and {tuple(target.shape)}."
        )
    if target.device != log_prob.device:
        raise ValueError(f"{function}: expected target on {log_prob.device}, where log_prob is, got {target.device}.")
    _in_range(function, "target", target, log_prob.shape[1])


DTYPES = {"confidence": None, "nll": None, "relevant": torch.bool}  # of columns that are not int64
RANGES = {"confidence": (0.0, 1.0), "nll": (0.0, math.inf), "rank": (0, math.inf)}


def _columns(function: str, judged: Judged, *names: str) -> tuple[Tensor, ...]:
    """Some fields of what was judged, each of its dtype and range, all of one length and on one device."""
    if not isinstance(judged, Judged):
        raise TypeError(f"{function}: expected what `judge` gives, got {type(judged).__name__}.")
    columns = tuple(getattr(judged, name) for name in names)
    for name, column in zip(names, columns, strict=True):
        _tensor(function, name, column, DTYPES.get(name, torch.int64))
        beside = (PLACES,) if name == "relevant" else ()
        if column.dim() != 1 + len(beside) or column.shape != columns[0].shape[:1] + beside:
            shape = ", ".join(map(str, ("N", *beside))) + ("" if beside else ",")
            raise ValueError(
                f"{function}: expected {' and '.join(names)} of shape ({shape}), got {name} of {tuple(column.shape)}."
            )
        if column.device != columns[0].device:
            raise ValueError(
                f"{function}: expected {name} on {columns[0].device}, where {names[0]} is, got {column.device}."
            )
        if name in RANGES:
            low, high = RANGES[name]
            wrong = column[~((column >= low) & (column <= high))]
            if len(wrong) > 0:
                raise ValueError(f"{function}: expected {name} in {low}..{high}, got {wrong[0].item()}.")
    return columns


def _classes(function: str, judged: Judged, num_classes: int) -> tuple[int, Tensor, Tensor]:
    """How many classes there are, and targets and predictions among them."""
    target, prediction = _columns(function, judged, "target", "prediction")
    num_classes = checks.integer(function, "num_classes", num_classes, 1, MOST_CLASSES)
    for classes in (target, prediction):
        _in_range(function, "classes", classes, num_classes)
    return num_classes, target, prediction
