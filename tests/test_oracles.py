"""Somebody else's code, or the formula worked out by other means, gives the same number.

All in float64. A tolerance is near the rounding of what is compared, and said where it is not 1e-13. Gradients are
those of a sum with weights that differ, by the features and by every parameter.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import entmax
import hiclass.metrics
import numpy as np
import pytest
import torch
from hierarchicalsoftmax import HierarchicalSoftmaxLoss, SoftmaxNode
from hierarchicalsoftmax.inference import leaf_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from pytorch_metric_learning.reducers import DoNothingReducer
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binom, chisquare
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn import functional as F

from cases import RAGGED
from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    CosineSoftmax,
    Entmax,
    ForestSoftmax,
    GumbelSoftmax,
    HierarchicalSoftmax,
    MixtureOfSoftmaxes,
    NegativeSampling,
    OneVsRest,
    SampledSoftmax,
    Sampler,
    Sigsoftmax,
    Softmax,
    Sparsemax,
    SphericalSoftmax,
    TaylorSoftmax,
    Tree,
    TreeSampledSoftmax,
    metrics,
)
from softmaxes.heads.hierarchical import search
from strategies import trees


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def check(result: Any, expected: Any, tolerance: float = 1e-13) -> None:
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


def with_gradients(function: Callable[[Tensor], Tensor], input: Tensor, *parameters: Tensor) -> list[Tensor]:
    """A function's values, and the gradients of their weighted sum by its input and some parameters."""
    x = input.detach().clone().requires_grad_()
    values = function(x)
    upstream = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).view_as(values)
    gradients = torch.autograd.grad((upstream * values).sum(), (x, *parameters))
    return [values.detach(), *(gradient.to_dense() for gradient in gradients)]


# HierarchicalSoftmax and ForestSoftmax


class TheirTree:
    """The tree and the weights of a head, as hierarchicalsoftmax wants them: a logit for each of two children, too."""

    def __init__(self, head: HierarchicalSoftmax) -> None:
        tree, self.head = head.tree, head
        children: list[list[int]] = [[] for _ in range(tree.num_nodes)]
        for node, parent in enumerate(tree.parent.tolist()):
            if parent >= 0:
                children[parent].append(node)
        nodes = {tree.root: SoftmaxNode("root")}
        waiting = [tree.root]
        for node in waiting:
            for child in children[node]:
                nodes[child] = SoftmaxNode(str(child), parent=nodes[node])
            waiting += children[node]
        self.root = nodes[tree.root]
        self.root.set_indexes()
        self.target = torch.tensor(self.root.get_node_ids([nodes[leaf] for leaf in range(tree.num_classes)]))
        self.leaf = torch.tensor(
            [[leaf.name for leaf in self.root.leaves].index(str(c)) for c in range(len(self.target))]
        )
        zero, used = len(head.weight), 0  # the row after the last is the fixed one
        self.row_of = torch.zeros(self.root.layer_size, dtype=torch.int64)
        for node in range(tree.num_classes, tree.num_nodes):
            count = len(children[node])
            if count == 1:
                continue  # no decision, and no row
            rows = [zero, used] if count == 2 else list(range(used, used + count))
            used += 1 if count == 2 else count
            for child, row in zip(children[node], rows, strict=True):
                self.row_of[nodes[child].index_in_softmax_layer] = row
        assert used == zero

    def logits(self, input: Tensor) -> Tensor:
        own = F.linear(input, self.head.weight, self.head.bias)
        return torch.cat([own, own.new_zeros(len(own), 1)], dim=1)[:, self.row_of]

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        their, logits = HierarchicalSoftmaxLoss(self.root), self.logits(input)
        return torch.stack([their(logits[[n]], self.target[target[[n]]]) for n in range(len(input))])

    def leaf_probabilities(self, input: Tensor) -> Tensor:
        with default_float64():  # they make their result in the default dtype
            return leaf_probabilities(self.logits(input).detach(), self.root)[:, self.leaf]  # type: ignore[no-any-return]


@contextlib.contextmanager
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


TREES = {
    "binary": Tree.balanced(11),
    "shuffled": Tree.random(13, arity=4, seed=2),
    "groups": Tree.from_groups([0, 0, 1, 1, 1, 2, 0, 1, 2]),
    "ragged": RAGGED,
    # Class 0 or (class 1 or (class 2 or ...)).
    "chain": Tree([7, 8, 9, 10, 11, 12, 12, -1, 7, 8, 9, 10, 11]),
    # The root, and a node below it, have one child; a group has one class.
    "only-children": Tree([5, 5, 6, 6, 7, 8, 8, 8, 9, 10, -1]),
}


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("sparse", [False, True])
def test_hierarchical_softmax_against_the_package(tree: Tree, sparse: bool, scale: float) -> None:
    head = HierarchicalSoftmax(6, tree, sparse=sparse, dtype=torch.float64)
    theirs = TheirTree(head)
    x, y = scale * normal(2 * tree.num_classes, 6), torch.arange(2 * tree.num_classes) % tree.num_classes
    parameters = tuple(head.parameters())
    expected = with_gradients(lambda x: theirs.loss(x, y), x, *parameters)
    check(with_gradients(lambda x: head(x, y), x, *parameters), expected, 1e-12)
    check(head.log_prob(x).exp(), theirs.leaf_probabilities(x))

    def every_class(x: Tensor) -> Tensor:
        return -torch.stack([theirs.loss(x, torch.full((len(x),), c)) for c in range(tree.num_classes)], dim=1)

    expected = with_gradients(every_class, x[:4], *parameters)
    check(with_gradients(head.log_prob, x[:4], *parameters), expected, 1e-12)


def test_forest_is_the_mean_of_the_package_over_its_trees() -> None:
    trees = [Tree.random(10, seed=0), Tree.random(10, arity=4, seed=1), Tree.from_groups([0, 1, 2] * 3 + [0])]
    head = ForestSoftmax(6, trees, dtype=torch.float64)
    members = [member for member in head.members if isinstance(member, HierarchicalSoftmax)]
    theirs = [TheirTree(member) for member in members]
    x, y = 3 * normal(20, 6), torch.arange(20) % 10
    mean = torch.stack([their.leaf_probabilities(x) for their in theirs]).mean(0)
    check(head.log_prob(x).exp(), mean)
    check(head(x, y), -mean[torch.arange(20), y].log())

    def loss(x: Tensor) -> Tensor:
        return -torch.stack([(-their.loss(x, y)).exp() for their in theirs]).mean(0).log()

    parameters = tuple(head.parameters())
    assert len(parameters) == 6
    expected = with_gradients(loss, x, *parameters)
    check(with_gradients(lambda x: head(x, y), x, *parameters), expected)


# Sparsemax and Entmax


def logits_of(head: Sparsemax | Entmax, input: Tensor) -> Tensor:
    return F.linear(input, head.weight, head.bias)


LOSSES: dict[str, tuple[Callable[[], Sparsemax | Entmax], Callable[..., Any], Callable[..., Any]]] = {
    "sparsemax": (
        lambda: Sparsemax(6, 12, dtype=torch.float64),
        entmax.sparsemax_loss,
        entmax.sparsemax_bisect,
    ),
    "entmax-1.5": (
        lambda: Entmax(6, 12, alpha=1.5, dtype=torch.float64),
        entmax.entmax15_loss,
        lambda z: entmax.entmax_bisect(z, alpha=1.5),
    ),
    "entmax-2": (
        lambda: Entmax(6, 12, alpha=2, dtype=torch.float64),
        entmax.sparsemax_bisect_loss,
        entmax.sparsemax_bisect,
    ),
    "entmax-1.3": (
        lambda: Entmax(6, 12, alpha=1.3, dtype=torch.float64),
        lambda z, y: entmax.entmax_bisect_loss(z, y, 1.3),
        lambda z: entmax.entmax_bisect(z, alpha=1.3),
    ),
    "entmax-3": (
        lambda: Entmax(6, 12, alpha=3.0, dtype=torch.float64),
        lambda z, y: entmax.entmax_bisect_loss(z, y, 3.0),
        lambda z: entmax.entmax_bisect(z, alpha=3.0),
    ),
}


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("name", LOSSES)
def test_entmax_against_the_package(name: str, scale: float) -> None:
    """To 1e-12, at alpha 3, where bisection is less exact, to 1e-11. A sort gives probabilities against bisection."""
    make, their_loss, their_map = LOSSES[name]
    head, tolerance = make(), 1e-11 if name == "entmax-3" else 1e-12
    x, y = scale * normal(24, 6), torch.arange(24) % 12
    parameters = tuple(head.parameters())
    expected = with_gradients(lambda x: their_loss(logits_of(head, x), y), x, *parameters)
    result = with_gradients(lambda x: head(x, y), x, *parameters)
    check(result, expected, tolerance)
    expected = with_gradients(lambda x: their_map(logits_of(head, x)), x, *parameters)
    result = with_gradients(lambda x: head.log_prob(x).exp(), x, *parameters)
    check(result, expected, tolerance)


def test_a_learned_alpha_against_the_package() -> None:
    """The package's loss has no gradient by alpha: here it is that of the definition, through its map, which has."""
    head = Entmax(6, 12, alpha=1.4, learn_alpha=True, dtype=torch.float64)
    assert head.alpha_logit is not None
    with torch.no_grad():
        head.alpha_logit.add_(0.3)
    x, y = 3 * normal(24, 6), torch.arange(24) % 12

    def alpha() -> Tensor:
        assert head.alpha_logit is not None
        return 1.01 + 0.99 / (1 + (-head.alpha_logit).exp())

    def probability(x: Tensor) -> Tensor:
        return entmax.entmax_bisect(logits_of(head, x), alpha())  # type: ignore[no-any-return]

    def loss(x: Tensor) -> Tensor:
        z, p = logits_of(head, x), probability(x)
        regular = ((p + (p == 0)).pow(alpha()).where(p > 0, 0.0).sum(1) - 1) / (alpha() * (alpha() - 1))
        return (p * z).sum(1) - regular - z.gather(1, y.unsqueeze(1)).squeeze(1)

    parameters = tuple(head.parameters())
    assert len(parameters) == 3
    for ours, theirs in ((lambda x: head(x, y), loss), (lambda x: head.log_prob(x).exp(), probability)):
        expected = with_gradients(theirs, x, *parameters)
        check(with_gradients(ours, x, *parameters), expected, 1e-11)
    expected = entmax.entmax_bisect_loss(logits_of(head, x), y, alpha().detach())
    check(head(x, y), expected)


def check_is_argmax(p: Tensor, z: Tensor, alpha: float, tolerance: float) -> None:
    """By the conditions of Karush, Kuhn and Tucker, which suffice, as the problem is convex.

    Where p is above 0, z - p ** (alpha - 1) / (alpha - 1) is one number; where it is 0, z does not exceed that number.
    """
    p, z = p.detach(), z.detach()
    assert bool((p >= 0).all())
    check(p.sum(1), torch.ones(len(p), dtype=p.dtype))
    slack = z - p.pow(alpha - 1) / (alpha - 1)
    level = (slack * p).sum(1, keepdim=True)
    assert float((slack - level).where(p > 0, 0.0).abs().max()) < tolerance
    assert float((z - level).where(p == 0, -1.0).max()) < tolerance


@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
@pytest.mark.parametrize("alpha", [1.0001, 1.3, 1.5, 2, 3.0])
def test_entmax_is_the_argmax_of_its_definition(alpha: float, scale: float) -> None:
    """To 1e-12 of a logit; close to alpha 1, where p ** (alpha - 1) / (alpha - 1) loses digits, to 1e-10."""
    head = Entmax(6, 12, alpha=alpha, dtype=torch.float64)
    x = scale * normal(50, 6)
    check_is_argmax(head.log_prob(x).exp(), logits_of(head, x), alpha, 1e-12 if alpha > 1.01 else 1e-10)
    if alpha == 2:
        flat = Sparsemax(6, 12, dtype=torch.float64)
        check_is_argmax(flat.log_prob(x).exp(), logits_of(flat, x), 2, 1e-12)


@pytest.mark.parametrize(("alpha", "exact"), [(1.5, entmax.entmax15), (2, entmax.sparsemax)])
def test_entmax_is_exact_where_it_says_so(alpha: float, exact: Callable[..., Tensor]) -> None:
    """To the last digit that of the sort, and not of bisection."""
    head = Entmax(6, 12, alpha=alpha)
    x = normal(50, 6).float()
    z = logits_of(head, x)
    assert torch.equal(head.log_prob(x), exact(z - z.amax(1, keepdim=True), dim=1).log())


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2, 3.0])
def test_the_entmax_loss_is_the_maximum_of_its_definition(alpha: float) -> None:
    """By a general optimiser over the simplex, to 1e-5 in p and 1e-7 in the loss."""
    head = Entmax(3, 5, alpha=alpha, dtype=torch.float64)
    x = 4 * normal(6, 3)
    z, p = logits_of(head, x).detach().numpy(), head.log_prob(x).exp().detach().numpy()
    for n in range(6):

        def negative(p: Any, z: Any = z[n]) -> float:
            return float((np.maximum(p, 0) ** alpha).sum() - 1) / (alpha * (alpha - 1)) - float(p @ z)

        whole = {"type": "eq", "fun": lambda p: p.sum() - 1}
        found = minimize(negative, np.full(5, 0.2), bounds=[(0, 1)] * 5, constraints=[whole], options={"ftol": 1e-15})
        np.testing.assert_allclose(p[n], found.x, atol=1e-5)
        for c in range(5):
            assert float(head(x[n], torch.tensor(c)).detach()) == pytest.approx(-found.fun - z[n, c], abs=1e-7)


def test_bisection_is_the_exact_algorithm_at_one_and_a_half_and_at_two() -> None:
    """Alpha beside 1.5 goes by bisection. A step of 1e-12 in alpha moves p by as much: they agree to 1e-11."""
    x, y = 3 * normal(40, 6), torch.arange(40) % 12
    for alpha in (1.5, 2):
        exact = Entmax(6, 12, alpha=alpha, dtype=torch.float64)
        beside = Entmax(6, 12, alpha=alpha + 1e-12, dtype=torch.float64)
        beside.load_state_dict(exact.state_dict())
        parameters = tuple(exact.parameters()), tuple(beside.parameters())
        for pick in (lambda head: lambda x: head(x, y), lambda head: lambda x: head.log_prob(x).exp()):
            expected = with_gradients(pick(exact), x, *parameters[0])
            check(with_gradients(pick(beside), x, *parameters[1]), expected, 1e-11)


@pytest.mark.parametrize("alpha", [1.5, 2])
def test_a_large_support_equals_the_full_sort(alpha: float) -> None:
    """5,000 classes: where the logits are nearly equal more than a first partial sort of 100 are possible."""
    head = Entmax(8, 5000, alpha=alpha, bias=False, dtype=torch.float64)
    size = torch.tensor([0.0, 1e-5, 1e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100], dtype=torch.float64)
    x = normal(11, 8) * size.unsqueeze(1)
    y = torch.arange(11) * 400
    p = head.log_prob(x).exp()
    support = (p > 0).sum(1)
    assert int(support.max()) == 5000
    assert int(support.min()) < 100
    assert len(support[(support > 100) & (support < 5000)]) >= 2
    their_map, their_loss = {
        1.5: (entmax.entmax15, entmax.entmax15_loss),
        2: (entmax.sparsemax, entmax.sparsemax_loss),
    }[alpha]
    expected = with_gradients(lambda x: their_map(logits_of(head, x), dim=-1, k=None), x, head.weight)
    check(with_gradients(lambda x: head.log_prob(x).exp(), x, head.weight), expected)
    expected = with_gradients(lambda x: their_loss(logits_of(head, x), y, None), x, head.weight)
    result = with_gradients(lambda x: head(x, y), x, head.weight)
    check(result, expected, 1e-12)
    check_is_argmax(p, logits_of(head, x), alpha, 1e-11)
    if alpha == 2:
        flat = Sparsemax(8, 5000, bias=False, dtype=torch.float64)
        flat.load_state_dict(head.state_dict())
        check(with_gradients(lambda x: flat(x, y), x, flat.weight), expected, 1e-12)
        check(flat.log_prob(x).exp(), p)


# AdaptiveSoftmax


@pytest.mark.parametrize(
    ("num_classes", "cutoffs", "div_value", "head_bias"),
    [
        (2, [1], 2.0, False),
        (10, [3], 4.0, True),
        (10, [3, 6], 1.0, False),
        (60, [5, 20, 40], 1.7, True),
        (200, [20, 100], 4.0, False),
    ],
)
def test_adaptive_softmax_against_torchs(
    num_classes: int, cutoffs: list[int], div_value: float, head_bias: bool
) -> None:
    """Theirs wants labels sorted by frequency; ours takes counts in any order, ties among them."""
    counts = torch.randint(1, num_classes, (num_classes,))
    by_rank = torch.tensor(sorted(range(num_classes), key=lambda c: (-int(counts[c]), c)))
    rank = torch.tensor([by_rank.tolist().index(c) for c in range(num_classes)])
    options: dict[str, Any] = {"div_value": div_value, "head_bias": head_bias, "dtype": torch.float64}
    theirs = nn.AdaptiveLogSoftmaxWithLoss(16, num_classes, cutoffs, **options)
    head = AdaptiveSoftmax(16, counts, cutoffs, **options)
    keys = head.load_state_dict(theirs.state_dict(), strict=False)
    assert sorted(keys.missing_keys) == ["order", "rank"]
    assert keys.unexpected_keys == []
    assert torch.equal(head.order, by_rank)
    assert torch.equal(head.rank, rank)

    x, y = 5 * normal(2 * num_classes, 16), torch.arange(2 * num_classes) % num_classes
    names = [name for name, _ in theirs.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in head.named_parameters())
    parameters = [[module.get_parameter(name) for name in names] for module in (head, theirs)]
    expected = with_gradients(lambda x: -theirs(x, rank[y]).output, x, *parameters[1])
    check(with_gradients(lambda x: head(x, y), x, *parameters[0]), expected)
    expected = with_gradients(lambda x: theirs.log_prob(x)[:, rank], x, *parameters[1])
    check(with_gradients(head.log_prob, x, *parameters[0]), expected)
    assert torch.equal(head.predict(x), by_rank[theirs.predict(x)])
    for n in range(num_classes):
        check(head(x[n], y[n]), -theirs(x[n], rank[y[n]]).output)


# Softmax


CHUNKS = {"at-once": 2**23, "ragged": 5 * 7 + 3, "a-row": 2}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("bias", [True, False])
def test_softmax_against_linear_cross_entropy(bias: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """13 rows: in one go, in chunks of 5, 5 and 3, and row by row."""
    monkeypatch.setattr("softmaxes.heads.flat.CHUNK", chunk)
    head = Softmax(6, 7, bias=bias, dtype=torch.float64)
    x, y = 5 * normal(13, 6), torch.randint(7, (13,))
    parameters = tuple(head.parameters())
    options = nn.LinearCrossEntropyOptions(chunking_method=None, batch_chunk_size=4)
    result = with_gradients(lambda x: head(x, y), x, *parameters)
    for choice in (None, options):

        def loss(x: Tensor, choice: Any = choice) -> Tensor:
            rest = {"linear_bias": head.bias, "reduction": "none", "options": choice}
            return F.linear_cross_entropy(x, head.weight, y, **rest)

        check(result, with_gradients(loss, x, *parameters))
        with torch.no_grad():
            check(head(x, y), loss(x))
    expected = with_gradients(lambda x: F.cross_entropy(F.linear(x, head.weight, head.bias), y, reduction="none"), x)
    check(head.target_log_prob(x, y), -expected[0])

    # Reduced, so that the upstream gradient is one number; twice over one graph; and with all else frozen.
    mean = head(x, y).mean()
    reference = F.cross_entropy(F.linear(x, head.weight, head.bias), y)
    for _ in range(2):
        gradients = torch.autograd.grad(mean, parameters, retain_graph=True)
        check(gradients, torch.autograd.grad(reference, parameters, retain_graph=True))
    check(with_gradients(lambda x: head.requires_grad_(False)(x, y), x), expected)


def test_softmax_takes_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest piece of memory that a loss and its gradient take is a chunk's logits, not the batch's."""
    rows, classes = 64, 1000
    head = Softmax(4, classes, dtype=torch.float64)
    x, y = normal(rows, 4).requires_grad_(), torch.randint(classes, (rows,))

    def largest() -> int:
        """In numbers of 8 bytes."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            (torch.linspace(-1, 2, rows, dtype=torch.float64) * head(x, y)).sum().backward()
        events = profile.profiler.kineto_results.events()
        return int(max(event.nbytes() for event in events if event.name() == "[memory]")) // 8

    assert largest() >= rows * classes
    monkeypatch.setattr("softmaxes.heads.flat.CHUNK", 5 * classes + 3)
    assert largest() <= 5 * classes + 3


# CosineSoftmax


@pytest.mark.parametrize("kind", ["arcface", "arcface-wide", "cosface"])
def test_cosine_softmax_against_pytorch_metric_learning(kind: str) -> None:
    """To 1e-12: theirs goes through the angle. A third of the angles are beyond pi - margin, a third are small."""
    degrees = {"arcface": 28.6, "arcface-wide": 80.0, "cosface": 0.0}[kind]
    margin = math.radians(degrees)
    if kind == "cosface":
        head = CosineSoftmax(6, 12, scale=16.0, cosine_margin=0.35, dtype=torch.float64)
        theirs = CosFaceLoss(12, 6, margin=0.35, scale=16, reducer=DoNothingReducer())
    else:
        head = CosineSoftmax(6, 12, scale=16.0, angular_margin=margin, dtype=torch.float64)
        theirs = ArcFaceLoss(12, 6, margin=degrees, scale=16, reducer=DoNothingReducer())
    theirs.W = nn.Parameter(head.weight.detach().t().clone())  # (D, C)
    y = torch.arange(36) % 12
    toward = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).repeat_interleave(12).unsqueeze(1)
    x = 3 * (toward * F.normalize(head.weight[y].detach()) + 0.1 * normal(36, 6))
    angle = F.cosine_similarity(x, head.weight[y]).acos()
    if kind != "cosface":
        assert 12 <= int((angle > math.pi - margin).sum()) <= 24
    expected = with_gradients(lambda x: theirs(x, y)["loss"]["losses"], x, theirs.W)
    expected[2] = expected[2].t()
    check(with_gradients(lambda x: head(x, y), x, head.weight), expected, 1e-12)
    expected = with_gradients(lambda x: theirs.get_logits(x).log_softmax(1), x, theirs.W)
    expected[2] = expected[2].t()
    check(with_gradients(head.log_prob, x, head.weight), expected, 1e-12)


# SampledSoftmax, NCE and NegativeSampling

Sampling = SampledSoftmax | NCE | NegativeSampling
COUNTS = [3, 1, 4, 1, 5, 9, 2, 6]


def chances(kind: str) -> tuple[Sampler, list[float]]:
    """A sampler over eight classes, and its probabilities by the formula."""
    classes = range(len(COUNTS))
    if kind == "uniform":
        return Sampler.uniform(len(COUNTS)), [1 / len(COUNTS) for _ in classes]
    if kind == "log-uniform":
        rank = [sum(n > COUNTS[c] for n in COUNTS) + COUNTS[:c].count(COUNTS[c]) for c in classes]
        return Sampler.log_uniform(COUNTS), [math.log((r + 2) / (r + 1)) / math.log(len(COUNTS) + 1) for r in rank]
    weights = [n**0.75 for n in COUNTS]
    return Sampler.unigram(COUNTS, power=0.75), [weight / sum(weights) for weight in weights]


def sampled_softmax_loss(z: Sequence[float], y: int, drawn: Sequence[int], q: Sequence[float]) -> float:
    """Jean et al. 2015: the normaliser is the target and what was drawn of the others, each over how often it is."""
    total = math.exp(z[y])
    for s in drawn:
        if s != y:
            total += math.exp(z[s]) / (len(drawn) * q[s])
    return -math.log(math.exp(z[y]) / total)


def nce_loss(z: Sequence[float], y: int, drawn: Sequence[int], q: Sequence[float]) -> float:
    """Mnih and Teh 2012: a class comes from the data with probability p / (p + K q)."""
    noise = [len(drawn) * chance for chance in q]
    loss = -math.log(math.exp(z[y]) / (math.exp(z[y]) + noise[y]))
    for s in drawn:
        loss -= math.log(noise[s] / (math.exp(z[s]) + noise[s]))
    return loss


def negative_sampling_loss(z: Sequence[float], y: int, drawn: Sequence[int], q: Sequence[float]) -> float:
    """Mikolov et al. 2013, their scores being z - log K q, without draws of the target itself."""
    score = [z[c] - math.log(len(drawn) * q[c]) for c in range(len(z))]
    loss = -math.log(1 / (1 + math.exp(-score[y])))
    for s in drawn:
        if s != y:
            loss -= math.log(1 / (1 + math.exp(score[s])))
    return loss


FORMULAS = {SampledSoftmax: sampled_softmax_loss, NCE: nce_loss, NegativeSampling: negative_sampling_loss}


def draw(head: Sampling, classes: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the head draws these."""
    monkeypatch.setattr(head.sampler, "sample", lambda num_samples: torch.tensor(list(classes)))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["uniform", "log-uniform", "unigram"])
@pytest.mark.parametrize("head_type", FORMULAS)
def test_sampled_losses_against_the_papers(
    head_type: type[Sampling], kind: str, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-12, with targets of every class among draws that repeat and hit. The gradient by central differences."""
    sampler, q = chances(kind)
    head = head_type(6, sampler, num_samples=7, sparse=sparse, dtype=torch.float64)
    drawn = [4, 1, 4, 7, 0, 4, 1]
    draw(head, drawn, monkeypatch)
    x, y = 3 * normal(16, 6), torch.arange(16) % 8
    assert head.bias is not None
    z = (x.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy()).tolist()
    formula = FORMULAS[head_type]
    expected = [formula(z[n], int(y[n]), drawn, q) for n in range(16)]
    np.testing.assert_allclose(head(x, y).detach(), expected, 1e-12)

    slope, step = np.zeros((16, 8)), 1e-5
    for n, c in np.ndindex(16, 8):
        moved = [[score + sign * step * (c == i) for i, score in enumerate(z[n])] for sign in (1, -1)]
        values = [formula(scores, int(y[n]), drawn, q) for scores in moved]
        slope[n, c] = (values[0] - values[1]) / (2 * step)
    slope *= np.linspace(-1, 2, 16)[:, None]
    _, *gradients = with_gradients(lambda x: head(x, y), x, head.weight, head.bias)
    by_formula = [slope @ head.weight.detach().numpy(), slope.T @ x.numpy(), slope.sum(0)]
    for gradient, other in zip(gradients, by_formula, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-8)

    mass = expit(z) if head_type is NegativeSampling else np.exp(z)
    expected = np.log(mass / mass.sum(1, keepdims=True))
    np.testing.assert_allclose(head.log_prob(x).detach(), expected, 1e-12)
    np.testing.assert_allclose(head.eval()(x, y).detach(), -expected[np.arange(16), y], 1e-12)


@pytest.mark.slow
def test_the_normaliser_of_a_sampled_softmax_is_right_on_average() -> None:
    """With three draws from a very skewed sampler, for every target: within five standard errors over many batches."""
    sampler = Sampler.unigram([1000, 300, 100, 30, 10, 3])
    head = SampledSoftmax(3, sampler, num_samples=3, dtype=torch.float64)
    x, y = normal(3).expand(6, 3), torch.arange(6)
    z = -head.eval()(x, y) + torch.logsumexp(F.linear(x[0], head.weight, head.bias), 0)  # z_y
    head.train()
    with torch.no_grad():
        estimates = torch.stack([(head(x, y) + z).exp() for _ in range(5000)])
        true = F.linear(x[0], head.weight, head.bias).exp().sum()
    error = estimates.std(0) / math.sqrt(5000)
    assert float(((estimates.mean(0) - true) / error).abs().max()) < 5
    assert float((error / true).max()) < 0.05


@pytest.mark.parametrize("kind", ["uniform", "log-uniform", "unigram"])
def test_the_normaliser_of_a_sampled_softmax_is_right_in_expectation(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all pairs of draws, with their probabilities: exactly."""
    sampler, q = chances(kind)
    head = SampledSoftmax(3, sampler, num_samples=2, dtype=torch.float64)
    x, y = normal(3).expand(8, 3), torch.arange(8)
    z = F.linear(x[0], head.weight, head.bias).detach()
    expected = torch.zeros(8, dtype=torch.float64)
    for pair in itertools.product(range(8), repeat=2):
        draw(head, pair, monkeypatch)
        expected += q[pair[0]] * q[pair[1]] * (head(x, y).detach() + z).exp()
    check(expected, z.exp().sum().expand(8))


def test_a_tree_sampled_loss_against_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree's loss, and that of a softmax over the target and two others, one by the tree, one at random.

    Over all pairs of them, with their probabilities, the normaliser is exact.
    """
    head = TreeSampledSoftmax(3, Tree.random(5, arity=3, seed=2), num_samples=2, dtype=torch.float64)
    x = normal(3)
    z = F.linear(x, head.weight, head.bias).detach()
    chance = head.proposal.log_prob(x).detach().exp()
    for y in range(5):
        q = chance.index_fill(0, torch.tensor(y), 0) / (1 - chance[y])
        normaliser = 0.0
        others = [c for c in range(5) if c != y]
        for likely, any_other in itertools.product(others, repeat=2):
            first, second = torch.tensor([[likely]]), torch.tensor([[any_other - (any_other > y)]])
            given = q[first].log(), first, torch.log1p(-chance[[y]])
            monkeypatch.setattr(search, "drawn", lambda *_, given=given: given)
            monkeypatch.setattr(torch, "randint", lambda *_, second=second, **__: second)
            loss = float(head(x, torch.tensor(y)).detach())
            expected = float(z[y].exp() + sum(z[s].exp() / (q[s] + 1 / 4) for s in (likely, any_other)))
            assert loss == pytest.approx(math.log(expected) - float(z[y] + chance[y].log()), rel=1e-12)
            normaliser += float(q[likely]) / 4 * expected
        assert normaliser == pytest.approx(float(z.exp().sum()), rel=1e-12)
    check(head.eval()(x.expand(5, 3), torch.arange(5)).detach(), z.logsumexp(0) - z)


def test_a_tree_s_draws_have_no_gradient_through_their_chances() -> None:
    """The proposal learns from its own loss alone."""
    head = TreeSampledSoftmax(3, Tree.balanced(5), num_samples=4, dtype=torch.float64)
    x, y = normal(6, 3), torch.arange(6) % 5
    parameters = list(head.proposal.parameters())
    found = torch.autograd.grad(head(x, y).sum(), parameters)
    check(found, torch.autograd.grad(head.proposal(x, y).sum(), parameters))


def test_a_tree_s_loss_weighs_what_it_is_told_to() -> None:
    head = TreeSampledSoftmax(3, Tree.balanced(5), num_samples=4, dtype=torch.float64)
    x, y = normal(6, 3), torch.arange(6) % 5

    def at(weight: float) -> Tensor:
        head.proposal_weight = weight
        torch.manual_seed(0)
        return head(x, y).detach()

    check(at(0.3), at(1.0) - 0.7 * head.proposal(x, y).detach())


def test_a_tree_sampled_softmax_draws_from_another_tree() -> None:
    """The flat rows stay, the proposal is new and over the tree, and so are a checkpoint's names."""
    head = TreeSampledSoftmax(3, Tree.balanced(5), num_samples=4, bias=False, sparse=True, dtype=torch.float64)
    before, names = head.proposal, list(head.state_dict())
    x, tree = normal(3), Tree.random(5, arity=3, seed=2)
    flat = head.log_prob(x).detach()
    head.draw_from(tree)
    assert head.tree is head.proposal.tree is tree
    assert head.proposal is not before
    assert (head.proposal.bias, head.proposal.sparse, head.proposal.weight.dtype) == (None, True, torch.float64)
    assert list(head.state_dict()) == names
    check(head.log_prob(x).detach(), flat)
    assert torch.isfinite(head(x, torch.tensor(4)))
    with pytest.raises(ValueError, match="expected a tree over 5 classes, got one over 6"):
        head.draw_from(Tree.balanced(6))
    with pytest.raises(TypeError, match="TreeSampledSoftmax: expected tree to be a Tree, got int"):
        head.draw_from(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["uniform", "log-uniform", "unigram"])
@pytest.mark.parametrize("head_type", [NCE, NegativeSampling])
def test_where_the_expected_loss_is_least_the_probabilities_are_true(
    head_type: type[NCE] | type[NegativeSampling], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One feature vector and a score a class. Over all targets and all pairs of draws the gradient is 0, to 1e-12."""
    sampler, q = chances(kind)
    p, k = torch.rand(8, dtype=torch.float64) + 0.1, 2
    p /= p.sum()
    score = p.log() if head_type is NCE else (p / (1 - p)).log()
    head = head_type(1, sampler, num_samples=k, dtype=torch.float64)
    x, y = torch.zeros(8, 1, dtype=torch.float64), torch.arange(8)
    assert head.bias is not None

    def slope() -> Tensor:
        expected = torch.zeros((), dtype=torch.float64)
        for pair in itertools.product(range(8), repeat=2):
            draw(head, pair, monkeypatch)
            expected = expected + q[pair[0]] * q[pair[1]] * (p * head(x, y)).sum()
        assert head.bias is not None
        return torch.autograd.grad(expected, head.bias)[0]

    with torch.no_grad():
        head.bias.copy_(score)
    check(slope(), torch.zeros(8, dtype=torch.float64), 1e-12)
    check(head.log_prob(x[0]), p.log())
    with torch.no_grad():
        head.bias.add_(torch.linspace(-0.1, 0.1, 8, dtype=torch.float64))
    assert bool((slope() * torch.linspace(-0.1, 0.1, 8, dtype=torch.float64) > 0).all())  # uphill all around


@pytest.mark.slow
@pytest.mark.parametrize("head_type", [NCE, NegativeSampling])
def test_the_real_draws_have_that_expected_gradient(head_type: type[NCE] | type[NegativeSampling]) -> None:
    """There the mean gradient over many batches is 0 within five standard errors."""
    sampler, _ = chances("unigram")
    p, k = torch.rand(8, dtype=torch.float64) + 0.1, 3
    p /= p.sum()
    score = p.log() if head_type is NCE else (p / (1 - p)).log()
    head = head_type(1, sampler, num_samples=k, dtype=torch.float64)
    x, y = torch.zeros(8, 1, dtype=torch.float64), torch.arange(8)
    assert head.bias is not None
    with torch.no_grad():
        head.bias.copy_(score)
    slopes = torch.stack([torch.autograd.grad((p * head(x, y)).sum(), head.bias)[0] for _ in range(2000)])
    error = slopes.std(0) / math.sqrt(2000)
    assert float((slopes.mean(0) / error).abs().max()) < 5
    assert float(error.max()) < 0.01


# The others


def test_mixture_against_torch_distributions() -> None:
    head = MixtureOfSoftmaxes(6, 9, num_components=3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)

    assert head.bias is not None
    assert head.context_bias is not None
    bias, layers = head.bias, zip(head.context_weight.split(6), head.context_bias.split(6), strict=True)
    contexts_of = [lambda x, layer=layer: F.linear(x, *layer).tanh() for layer in layers]

    def law(x: Tensor) -> torch.distributions.MixtureSameFamily:
        contexts = [context_of(x) for context_of in contexts_of]
        logits = torch.stack([context @ head.weight.t() + bias for context in contexts], dim=1)
        prior = torch.distributions.Categorical(logits=x @ head.prior_weight.t())
        return torch.distributions.MixtureSameFamily(prior, torch.distributions.Categorical(logits=logits))

    x, y = 2 * normal(18, 6), torch.arange(18) % 9
    parameters = tuple(head.parameters())
    expected = with_gradients(lambda x: -law(x).log_prob(y), x, *parameters)
    check(with_gradients(lambda x: head(x, y), x, *parameters), expected)
    every = torch.arange(9).unsqueeze(1).expand(9, 18)
    expected = with_gradients(lambda x: torch.stack([law(x).log_prob(c) for c in every], dim=1), x, *parameters)
    check(with_gradients(head.log_prob, x, *parameters), expected)


def logarithm(value: Fraction) -> float:
    """Also of what is too small for a float."""
    return math.log(value) if float(value) > 0 else math.log(value.numerator) - math.log(value.denominator)


def exactly(
    logits: Tensor, score: Callable[[Fraction], Fraction], slope: Callable[[Fraction], Fraction]
) -> list[Tensor]:
    """Log-probabilities of one row of logits, in proportion to a score, and their gradients: (C,), (C, C)."""
    z = [Fraction(logit) for logit in logits.tolist()]
    scores, slopes = [score(each) for each in z], [slope(each) for each in z]
    total = sum(scores)
    log_prob = [logarithm(each / total) for each in scores]
    gradient = [
        [float((c == j) * slopes[j] / scores[j] - slopes[j] / total) for j in range(len(z))] for c in range(len(z))
    ]
    return [torch.tensor(log_prob, dtype=torch.float64), torch.tensor(gradient, dtype=torch.float64)]


def of_logits(head: TaylorSoftmax | SphericalSoftmax, logits: Tensor) -> list[Tensor]:
    """Log-probabilities and their gradients by the logits: the head's weight is the identity."""
    with torch.no_grad():
        head.weight.copy_(torch.eye(len(logits)))
    gradient = torch.autograd.functional.jacobian(head.log_prob, logits)
    return [head.log_prob(logits).detach(), gradient]


@pytest.mark.parametrize("order", [2, 4, 12])
def test_taylor_softmax_against_fractions(order: int) -> None:
    """To 1e-12: at order 12 a term is up to 425 times the sum."""
    steps = torch.linspace(-50, 50, 81, dtype=torch.float64)
    edges = [sign * order * (1 + nudge) for sign in (-1, 1) for nudge in (-1e-15, 0, 1e-15)]
    logits = torch.cat([steps, torch.tensor(edges, dtype=torch.float64)])
    head = TaylorSoftmax(len(logits), len(logits), order=order, bias=False, dtype=torch.float64)

    def polynomial(z: Fraction, order: int = order) -> Fraction:
        return sum((z**k / math.factorial(k) for k in range(order + 1)), Fraction(0))

    expected = exactly(logits, polynomial, lambda z: polynomial(z, order - 1))
    check(of_logits(head, logits), expected, 1e-12)
    # All in the middle, where nothing is taken out and the signs alternate.
    logits = torch.linspace(-order, order, 33, dtype=torch.float64)
    head = TaylorSoftmax(33, 33, order=order, bias=False, dtype=torch.float64)
    expected = exactly(logits, polynomial, lambda z: polynomial(z, order - 1))
    check(of_logits(head, logits), expected, 1e-12)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 1e-6])
def test_spherical_softmax_against_fractions(epsilon: float) -> None:
    """To 1e-13, relative where the gradient is up to 1 / sqrt(epsilon); logits whose square overflows among them."""
    for largest in (50.0, 1e200):
        small = torch.tensor([0.0, 1e-200, 1e-9, -1e-3, 0.01, -0.1, 0.5], dtype=torch.float64)
        logits = torch.cat([small, torch.linspace(-1, 1, 24, dtype=torch.float64) * largest])
        head = SphericalSoftmax(len(logits), len(logits), epsilon=epsilon, bias=False, dtype=torch.float64)
        floor = Fraction(epsilon)
        expected = exactly(logits, lambda z, floor=floor: z * z + floor, lambda z: 2 * z)  # type: ignore[misc]
        check(of_logits(head, logits), expected)


def test_sigsoftmax_against_its_formula() -> None:
    head = Sigsoftmax(6, 9, dtype=torch.float64)
    x, y = 4 * normal(18, 6), torch.arange(18) % 9

    def log_prob(x: Tensor) -> Tensor:
        z = F.linear(x, head.weight, head.bias)
        mass = z.exp() / (1 + (-z).exp())
        return (mass / mass.sum(1, keepdim=True)).log()

    parameters = tuple(head.parameters())
    expected = with_gradients(log_prob, x, *parameters)
    check(with_gradients(head.log_prob, x, *parameters), expected)
    expected = with_gradients(lambda x: -log_prob(x)[torch.arange(18), y], x, *parameters)
    check(with_gradients(lambda x: head(x, y), x, *parameters), expected)


def test_one_vs_rest_against_torch_and_scikit_learn() -> None:
    head = OneVsRest(6, 9, dtype=torch.float64)
    x, y = 4 * normal(18, 6), torch.arange(18) % 9
    own = F.one_hot(y, 9).double()

    def loss(x: Tensor) -> Tensor:
        logits = F.linear(x, head.weight, head.bias)
        return F.binary_cross_entropy_with_logits(logits, own, reduction="none").sum(1)

    parameters = tuple(head.parameters())
    expected = with_gradients(loss, x, *parameters)
    check(with_gradients(lambda x: head(x, y), x, *parameters), expected)

    chance = expit(F.linear(x, head.weight, head.bias).detach().numpy())
    mean = sum(log_loss(own[:, c], chance[:, c], labels=[0, 1]) for c in range(9))
    assert float(head(x, y).detach().mean()) == pytest.approx(mean, rel=1e-13)
    chance /= chance.sum(1, keepdims=True)
    np.testing.assert_allclose(head.log_prob(x).detach(), np.log(chance))
    nll = log_loss(y, chance, labels=range(9))
    assert float(-head.target_log_prob(x, y).detach().mean()) == pytest.approx(nll, rel=1e-13)


@pytest.mark.parametrize("straight_through", [False, True])
def test_gumbel_softmax_against_torchs(straight_through: bool) -> None:
    """At one seed both draw the same noise. The gradient through the hard sample is that of the soft one."""
    head = GumbelSoftmax(6, 5, temperature=0.7, straight_through=straight_through, dtype=torch.float64)
    x, y = 3 * normal(40, 6), torch.arange(40) % 5

    def theirs(x: Tensor) -> Tensor:
        torch.manual_seed(7)
        sample = F.gumbel_softmax(F.linear(x, head.weight, head.bias), tau=0.7, hard=straight_through)
        own = sample.gather(1, y.unsqueeze(1)).squeeze(1)
        return -((1 + 4 * own) / 5).log() if straight_through else -own.log()

    def ours(x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return head(x, y)  # type: ignore[no-any-return]

    parameters = tuple(head.parameters())
    expected = with_gradients(theirs, x, *parameters)
    check(with_gradients(ours, x, *parameters), expected)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("noise", ["gumbel", "normal"])
def test_the_straight_through_gradient_by_hand(noise: Any, num_samples: int) -> None:
    head = GumbelSoftmax(6, 5, noise, 0.8, 0.7, straight_through=True, num_samples=num_samples, dtype=torch.float64)
    x, y = normal(40, 6), torch.arange(40) % 5
    torch.manual_seed(7)
    loss, *gradients = with_gradients(lambda x: head(x, y), x, *head.parameters())

    torch.manual_seed(7)
    assert head.bias is not None
    weight, bias = head.weight.detach(), head.bias.detach()
    logits = (x @ weight.t() + bias).expand(num_samples, 40, 5)
    drawn = -torch.empty_like(logits).exponential_().log() if noise == "gumbel" else torch.randn_like(logits)
    perturbed = logits + 0.8 * drawn
    hit = (perturbed.argmax(2) == y).double().mean(0)  # the share of samples that hit
    assert 5 < float(hit.sum()) < 35
    check(loss, -((1 + 4 * hit) / 5).log())
    soft = (perturbed / 0.7).exp() / (perturbed / 0.7).exp().sum(2, keepdim=True)
    own = soft[:, torch.arange(40), y].unsqueeze(2)
    by_sample = -4 / (1 + 4 * hit)  # of -log((1 + 4 h) / 5)
    by_logit = (own * (F.one_hot(y, 5) - soft) / 0.7).mean(0)
    slope = (torch.linspace(-1, 2, 40, dtype=torch.float64) * by_sample).unsqueeze(1) * by_logit
    check(gradients, [slope @ weight, slope.t() @ x, slope.sum(0)])


def test_the_loss_of_several_noises_is_their_mean() -> None:
    """Four samples against one: the same mean, within five standard errors, and half the spread."""
    rows = 20_000
    one = GumbelSoftmax(2, 3, temperature=0.7, dtype=torch.float64)
    four = GumbelSoftmax(2, 3, temperature=0.7, num_samples=4, dtype=torch.float64)
    four.load_state_dict(one.state_dict())
    x, y = normal(2).expand(rows, 2), torch.ones(rows, dtype=torch.int64)
    with torch.no_grad():
        single, mean = one(x, y), four(x, y)
    error = float(single.std()) / math.sqrt(rows)
    assert float(mean.mean()) == pytest.approx(float(single.mean()), abs=5 * math.hypot(error, error / 2))
    assert float(mean.std()) == pytest.approx(float(single.std()) / 2, rel=0.04)


def test_the_hits_of_several_hard_samples_are_binomial() -> None:
    rows = 20_000
    head = GumbelSoftmax(2, 3, straight_through=True, num_samples=4, dtype=torch.float64)
    x, y = normal(2).expand(rows, 2), torch.ones(rows, dtype=torch.int64)
    with torch.no_grad():
        hits = 4 * (3 * (-head(x, y)).exp() - 1) / 2  # the loss is -log((1 + 2 h) / 3), h the share of hits
    check(hits, hits.round())
    observed = torch.bincount(hits.round().long(), minlength=5).numpy()
    chance = float(head.log_prob(x[0])[1].detach().exp())
    assert chisquare(observed, rows * binom.pmf(range(5), 4, chance)).pvalue > 1e-3


# Scores on a tree


def judged(target: Sequence[int], prediction: Sequence[int]) -> metrics.Judged:
    unknown = torch.full((len(target),), math.nan)
    return metrics.Judged(torch.tensor(target), torch.tensor(prediction), unknown, unknown, unknown, unknown)


def check_hiclass(tree: Tree, target: Sequence[int], prediction: Sequence[int]) -> tuple[float, float, float]:
    """Their micro averages on the same paths.

    A node is a string to them: of rows that differ in length they fill up the shorter with empty strings, by which
    integers become strings, too, on the one side and not on the other, and nothing is equal any more.
    """
    paths = [[str(node) for node in (*reversed(tree.ancestors(c)[:-1]), c)] for c in range(tree.num_classes)]
    true, predicted = ([paths[c] for c in classes] for classes in (target, prediction))
    expected = [score(true, predicted, "micro") for score in (hiclass.metrics.precision, hiclass.metrics.recall)]
    scores = metrics.hierarchical_scores(judged(target, prediction), tree)
    check(scores, (*expected, hiclass.metrics.f1(true, predicted, "micro", zero_division=0.0)), 1e-15)
    return scores


def test_hierarchical_scores_on_hiclass_s_own_examples() -> None:
    """Those in which truth and prediction are leaves; a root is put above, which does not count."""
    flat = Tree([6] * 6 + [-1])
    assert check_hiclass(flat, [0, 1, 2, 3], [0, 1, 4, 5]) == (0.5, 0.5, 0.5)
    assert check_hiclass(flat, [0, 1, 2, 3], [0, 4, 5, 4]) == (0.25, 0.25, 0.25)
    pair = Tree([2, 3, 4, 4, 5, 6, -1])  # 1, 2, 3, 4 and 1, 2, 5, 6 from the top
    assert check_hiclass(pair, [0, 1], [1, 0]) == (0.5, 0.5, 0.5)
    assert check_hiclass(pair, [0, 1], [0, 1]) == (1, 1, 1)
    ragged = Tree([6, 3, 4, 6, 5, 6, -1])  # 1, then 2 and 3, then 4, 5 and 6
    assert check_hiclass(ragged, [1, 0, 2], [0, 1, 2]) == (0.5, 0.5, 0.5)
    assert check_hiclass(ragged, [0, 1, 2], [0, 1, 2]) == (1, 1, 1)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_hierarchical_scores_against_hiclass(tree: Tree) -> None:
    for size in (1, 2, 100):
        target, prediction = torch.randint(tree.num_classes, (2, size)).tolist()
        check_hiclass(tree, target, prediction)


@given(trees(), st.data())
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_hierarchical_scores_against_hiclass_on_any_tree(tree: Tree, data: st.DataObject) -> None:
    classes = st.integers(0, tree.num_classes - 1)
    pairs = data.draw(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
    check_hiclass(tree, *zip(*pairs, strict=True))
