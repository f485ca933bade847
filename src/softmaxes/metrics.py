"""The referee: what a head is judged by, computed from its log-probabilities alone.

`judge` reduces the log-probabilities of a batch, (N, C), to five numbers an example; every score is a function of
these, so batches are joined by concatenation and a large test set needs no (N, C) array.

The scores on a tree say how far wrong a prediction is. The tree is the one that judges; a head that was trained on
another, or on none, is judged by it all the same.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from softmaxes.on_cpu import on_cpu
from softmaxes.trees.tree import Tree

ROUNDING = 0.01  # a log-probability may be as much above zero, in bfloat16
TEMPERATURES = 100.0  # temperatures are looked for between one over this and this
PRECISION = 1e-6  # of a temperature, relative
ROUNDING_OF_NLL = 1e-9  # nats an example: a temperature that gains no more makes no difference
NUMBERS = 2**20  # of log-probabilities at a time, while a temperature is fitted
LEAST = -1e30  # stands for -inf where it is multiplied by a probability of zero


class Judged(NamedTuple):
    """What the scores need to know of each example.

    Attributes:
        target: the true class, (N,).
        prediction: the most probable class, (N,).
        confidence: its probability, (N,).
        nll: negative log-likelihood of the target in nats, (N,); inf where its probability is zero.
        rank: how many classes come before the target, (N,); 0 where the prediction is right, C - 1 where the target's
            probability is zero.
    """

    target: Tensor
    prediction: Tensor
    confidence: Tensor
    nll: Tensor
    rank: Tensor


def judge(log_prob: Tensor, target: Tensor) -> Judged:
    """Reduce log-probabilities to what the scores need.

    Classes of equal probability are ordered by their number, so a head that says the same of every class is not given
    credit for all of them. A target of probability zero comes last: a head with a sparse distribution did not choose
    it, and where it stands among the other zeros would be chance. It is among the k most probable classes only if k is
    C or more. A probability that rounding puts a hair above one counts as one.

    Args:
        log_prob: (N, C), normalised, in nats.
        target: (N,), int64.

    Returns:
        Five tensors, (N,).

    Raises:
        ValueError: shapes do not fit, or a log-probability is NaN or above zero by more than rounding.

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
    if log_prob.dim() != 2 or target.shape != log_prob.shape[:1]:
        raise ValueError(
            f"judge: expected log_prob of shape (N, C) and target of shape (N,), "
            f"got {tuple(log_prob.shape)} and {tuple(target.shape)}."
        )
    if bool(log_prob.isnan().any()):
        raise ValueError(
            f"judge: expected log-probabilities, got NaN in {int(log_prob.isnan().any(1).sum())} of {len(target)} rows."
        )
    if bool((log_prob > ROUNDING).any()):
        raise ValueError(f"judge: expected log-probabilities, none above 0, got {log_prob.max().item():.3g}.")
    own = log_prob.gather(1, target.unsqueeze(1))
    classes = torch.arange(log_prob.shape[1], device=log_prob.device)
    before = (log_prob > own) | ((log_prob == own) & (classes < target.unsqueeze(1)))
    own = own.squeeze(1)
    rank = before.sum(1).where(own > -math.inf, log_prob.shape[1] - 1)
    prediction = log_prob.argmax(1)
    confidence = log_prob.gather(1, prediction.unsqueeze(1)).squeeze(1).exp().clamp(max=1)
    return Judged(target, prediction.where(rank > 0, target), confidence, (-own).clamp(min=0), rank)


def join(parts: list[Judged]) -> Judged:
    """The batches of a test set as one."""
    return Judged(*(torch.cat(column) for column in zip(*parts, strict=True)))


def accuracy(judged: Judged) -> float:
    """Share of examples whose most probable class is the target."""
    return topk_accuracy(judged, 1)


def topk_accuracy(judged: Judged, k: int) -> float:
    """Share of examples whose target is among the k most probable classes, k at least 1."""
    if k < 1:
        raise ValueError(f"topk_accuracy: expected k to be at least 1, got {k}.")
    return (judged.rank < k).double().mean().item()


def nll(judged: Judged) -> float:
    """Mean negative log-likelihood of the targets in nats; inf if one had probability zero."""
    return judged.nll.double().mean().item()


def outside_support(judged: Judged) -> float:
    """Share of examples whose target has probability zero: a log-probability of -inf, not merely a small one."""
    return judged.nll.isinf().double().mean().item()


def calibration_error(judged: Judged, bins: int = 15) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over bins of equal width.

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
    index = _bins("calibration_error", judged, bins)
    gap = (judged.rank == 0).double() - judged.confidence.double()
    in_bin = torch.zeros(bins, dtype=gap.dtype, device=gap.device).index_add(0, index, gap)
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
        bins: B; each is open below and closed above, and the first holds a confidence of 0, too.

    Returns:
        Three tensors, (B,).

    Raises:
        ValueError: no bins.

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
    index = _bins("reliability", judged, bins)
    examples = torch.bincount(index, minlength=bins)
    confidence, right = (
        torch.zeros(bins, dtype=torch.float64, device=index.device).index_add(0, index, values.double())
        for values in (judged.confidence, judged.rank == 0)
    )
    return Reliability(examples, confidence / examples.clamp(min=1), right / examples.clamp(min=1))


def _bins(score: str, judged: Judged, bins: int) -> Tensor:
    """The bin of each example, (N,): bins are open below and closed above."""
    if bins < 1:
        raise ValueError(f"{score}: expected bins to be at least 1, got {bins}.")
    return (judged.confidence.double() * bins).ceil().long().clamp(1, bins) - 1


def at_temperature(log_prob: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature T: log_softmax(log p / T).

    For a softmax this is the softmax of its logits over T, whatever constant they differ by; for any other head it is
    what its own log-probabilities give. T above 1 takes confidence away, T below 1 adds some; which class is the most
    probable stays, and so does a probability of zero.

    Args:
        log_prob: (N, C), normalised, in nats.
        temperature: T, above 0.

    Returns:
        (N, C), normalised.

    Raises:
        ValueError: T is not above 0.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> metrics.at_temperature(torch.tensor([[0.9, 0.1, 0.0]]).log(), 2.0).exp()
        tensor([[0.7500, 0.2500, 0.0000]])

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
    if not temperature > 0 or math.isinf(temperature):
        raise ValueError(f"at_temperature: expected a finite temperature above 0, got {temperature}.")
    return (log_prob / temperature).log_softmax(1)


def fit_temperature(log_prob: Tensor, target: Tensor) -> float | None:
    """The temperature at which the NLL of some targets is smallest.

    In b = 1 / T the NLL is convex, and its slope is the mean of E[log p] - log p(target), the expectation taken at that
    temperature. The slope's zero is found by bisection in log b. Examples that the head was not trained on must be
    given: on its training examples most heads are rightly confident.

    A target of probability zero has it at every T, so that it cannot tell one from another: the fit is to the others.

    Args:
        log_prob: (N, C), normalised, in nats.
        target: (N,), int64.

    Returns:
        T, between 1/100 and 100: the end where the NLL still falls there, as where every prediction is right; 1
        where T makes no difference, as where all possible classes are equally probable; none where no target has a
        probability.

    Example:
        >>> import torch
        >>> from softmaxes import metrics
        >>> log_prob = torch.tensor([[0.9, 0.1]]).log().expand(4, 2)  # right three times in four
        >>> round(metrics.fit_temperature(log_prob, torch.tensor([0, 0, 0, 1])), 3)
        2.0

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On calibration of modern neural networks. 2017.
    """
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
    """The confusion matrix in sparse form: rows of (target, prediction, count), counts above zero, (P, 3) int64."""
    pair, count = torch.unique(judged.target * num_classes + judged.prediction, return_counts=True)
    return torch.stack([pair // num_classes, pair % num_classes, count], dim=1)


def macro_scores(judged: Judged, num_classes: int) -> tuple[float, float, float]:
    """Precision, recall and F1, each the mean over all C classes.

    A class that is never predicted has precision 0, one that is not in the test set recall 0; F1 is 0 where both are.

    Args:
        judged: the test set.
        num_classes: C; the mean is over all of them, seen or not.

    Returns:
        Precision, recall, F1.
    """
    hits = torch.bincount(judged.target[judged.rank == 0], minlength=num_classes).double()
    true = torch.bincount(judged.target, minlength=num_classes)
    predicted = torch.bincount(judged.prediction, minlength=num_classes)
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
        ValueError: a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> log_prob = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log().expand(4, 4)  # always class 0
        >>> judged = metrics.judge(log_prob, torch.arange(4))
        >>> metrics.level_accuracy(judged, Tree.balanced(4))
        [0.5, 0.25]
    """
    target, prediction = _leaves("level_accuracy", judged.target, judged.prediction, tree)
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
    target, prediction = _leaves("mean_lca_height", judged.target, judged.prediction, tree)
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
    target, prediction = _leaves("hierarchical_scores", judged.target, judged.prediction, tree)
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
        ValueError: `confusion` is not of that shape, or a class is not of the tree.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, metrics
        >>> always_class_0 = torch.tensor([[0, 0, 5], [1, 0, 5], [2, 0, 5], [3, 0, 5]])
        >>> metrics.node_accuracy(always_class_0, Tree.balanced(4))[4:]
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    if confusion.dim() != 2 or confusion.shape[1] != 3:
        raise ValueError(f"node_accuracy: expected confusion of shape (P, 3), got {tuple(confusion.shape)}.")
    count = confusion[:, 2].cpu()
    target, prediction = _leaves("node_accuracy", confusion[:, 0], confusion[:, 1], tree)
    right, true = (
        tree.subtree_sum(torch.zeros(tree.num_nodes, dtype=count.dtype).index_add(0, nodes, count)).double()
        for nodes in (tree.lowest_common_ancestor(target, prediction), target)
    )
    return right / true


def _leaves(score: str, target: Tensor, prediction: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Both on the CPU, where the tree is, each of them one of its classes: an inner node would be no error to it."""
    target, prediction = target.cpu(), prediction.cpu()
    classes = torch.cat([target, prediction])
    wrong = classes[(classes < 0) | (classes >= tree.num_classes)]
    if len(wrong) > 0:
        raise ValueError(f"{score}: expected classes in 0..{tree.num_classes - 1}, the tree's, got {int(wrong[0])}.")
    return target, prediction
