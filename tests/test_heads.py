"""What is particular to a head and no law can know."""

import contextlib
import copy
import itertools
import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cases import CASES, ONE_OF_EACH, RAGGED, Case
from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    CosineSoftmax,
    Entmax,
    ForestSoftmax,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    MixtureOfSoftmaxes,
    NegativeSampling,
    NeighborSampledSoftmax,
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
from softmaxes.heads import flat
from softmaxes.heads.hierarchical import compiled as kernel
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.heads.hierarchical import search
from softmaxes.testing import Served

UNIFORM = Sampler.uniform(3)


REFUSED: list[tuple[Callable[[], Head], str]] = [
    (lambda: Softmax(4, 1), "Softmax: expected num_classes to be at least 2, got 1"),
    (lambda: Softmax(0, 3), "Softmax: expected in_features to be at least 1, got 0"),
    (
        lambda: GumbelSoftmax(4, 3, noise="uniform"),  # type: ignore[arg-type]
        "GumbelSoftmax: expected noise to be 'gumbel' or 'normal', got 'uniform'",
    ),
    (lambda: GumbelSoftmax(4, 3, scale=-0.1), "GumbelSoftmax: expected scale to be in 0..1e6, got -0.1"),
    (lambda: GumbelSoftmax(4, 3, scale=math.nan), "GumbelSoftmax: expected scale to be in 0..1e6, got nan"),
    (
        lambda: GumbelSoftmax(4, 3, scale=float("inf")),
        "GumbelSoftmax: expected scale to be in 0..1e6, got inf",
    ),
    (
        lambda: GumbelSoftmax(4, 3, temperature=0.0),
        "GumbelSoftmax: expected temperature to be in 1e-6..1e6, got 0.0",
    ),
    (
        lambda: GumbelSoftmax(4, 3, temperature=float("inf")),
        "GumbelSoftmax: expected temperature to be in 1e-6..1e6, got inf",
    ),
    (
        lambda: GumbelSoftmax(4, 3, anneal_steps=5),
        "GumbelSoftmax: expected final_temperature and anneal_steps together or neither, got None and 5",
    ),
    (
        lambda: GumbelSoftmax(4, 3, final_temperature=0.0, anneal_steps=5),
        "GumbelSoftmax: expected final_temperature to be in 1e-6..1e6, got 0.0",
    ),
    (
        lambda: GumbelSoftmax(4, 3, final_temperature=float("inf"), anneal_steps=5),
        "GumbelSoftmax: expected final_temperature to be in 1e-6..1e6, got inf",
    ),
    (
        lambda: GumbelSoftmax(4, 3, final_temperature=0.5, anneal_steps=0),
        "GumbelSoftmax: expected anneal_steps to be at least 1, got 0",
    ),
    (lambda: GumbelSoftmax(4, 3, num_samples=0), "GumbelSoftmax: expected num_samples to be at least 1, got 0"),
    (lambda: CosineSoftmax(4, 3, scale=0.0), "CosineSoftmax: expected scale to be in 1e-6..1e6, got 0.0"),
    (
        lambda: CosineSoftmax(4, 3, scale=float("inf")),
        "CosineSoftmax: expected scale to be in 1e-6..1e6, got inf",
    ),
    (lambda: CosineSoftmax(4, 3, cosine_margin=-0.1), "CosineSoftmax: expected cosine_margin to be in 0..2, got -0.1"),
    (lambda: CosineSoftmax(4, 3, cosine_margin=2.1), "CosineSoftmax: expected cosine_margin to be in 0..2, got 2.1"),
    (
        lambda: CosineSoftmax(4, 3, angular_margin=28.6),  # degrees
        "CosineSoftmax: expected angular_margin to be in 0..pi/2, in radians, got 28.6",
    ),
    (
        lambda: CosineSoftmax(4, 3, angular_margin=1.58),
        "CosineSoftmax: expected angular_margin to be in 0..pi/2, in radians, got 1.58",
    ),
    (
        lambda: CosineSoftmax(4, 3, angular_margin=-0.5),
        "CosineSoftmax: expected angular_margin to be in 0..pi/2, in radians, got -0.5",
    ),
    (lambda: Entmax(4, 3, alpha=0.9), "Entmax: expected alpha to be in 1..3, got 0.9"),
    (lambda: Entmax(4, 3, alpha=3.1), "Entmax: expected alpha to be in 1..3, got 3.1"),
    (
        lambda: Entmax(4, 3, alpha=2.0, learn_alpha=True),
        "Entmax: expected alpha to be above 1.01 and below 2 to be learned, got 2.0",
    ),
    (
        lambda: Entmax(4, 3, alpha=1.01, learn_alpha=True),
        "Entmax: expected alpha to be above 1.01 and below 2 to be learned, got 1.01",
    ),
    (lambda: TaylorSoftmax(4, 3, order=0), "TaylorSoftmax: expected order to be at least 2, got 0"),
    (lambda: TaylorSoftmax(4, 3, order=3), "TaylorSoftmax: expected order to be even and at most 12, got 3"),
    (lambda: TaylorSoftmax(4, 3, order=5), "TaylorSoftmax: expected order to be even and at most 12, got 5"),
    (lambda: TaylorSoftmax(4, 3, order=14), "TaylorSoftmax: expected order to be even and at most 12, got 14"),
    (lambda: SphericalSoftmax(4, 3, epsilon=0), "SphericalSoftmax: expected epsilon to be in 1e-12..1e6, got 0"),
    (
        lambda: SphericalSoftmax(4, 3, epsilon=float("inf")),
        "SphericalSoftmax: expected epsilon to be in 1e-12..1e6, got inf",
    ),
    (lambda: MixtureOfSoftmaxes(4, 3, 0), "MixtureOfSoftmaxes: expected num_components to be at least 1, got 0"),
    (
        lambda: TreeSampledSoftmax(4, Tree.balanced(5), 1),
        "TreeSampledSoftmax: expected num_samples to be at least 2, got 1",
    ),
    (
        lambda: TreeSampledSoftmax(4, Tree.balanced(5), 2, proposal_weight=0),
        "TreeSampledSoftmax: expected proposal_weight to be finite and above 0, got 0",
    ),
    (lambda: SampledSoftmax(4, UNIFORM, 0), "SampledSoftmax: expected num_samples to be at least 1, got 0"),
    (lambda: NeighborSampledSoftmax(4, 5, 0), "NeighborSampledSoftmax: expected num_samples to be at least 1, got 0"),
    (
        lambda: NeighborSampledSoftmax(4, 5, 1, 0),
        "NeighborSampledSoftmax: expected num_neighbors to be at least 1, got 0",
    ),
    (lambda: NCE(4, UNIFORM, -1), "NCE: expected num_samples to be at least 1, got -1"),
    (lambda: NegativeSampling(4, UNIFORM, 0), "NegativeSampling: expected num_samples to be at least 1, got 0"),
    (lambda: AdaptiveSoftmax(4, [1, -2]), "AdaptiveSoftmax: expected counts to be finite and at least 0, got -2.0 for"),
    (lambda: AdaptiveSoftmax(4, [1]), "AdaptiveSoftmax: expected counts of at least 2 classes, got 1"),
    (lambda: AdaptiveSoftmax(4, [0, 0]), "AdaptiveSoftmax: expected counts not all 0, got 2 zeros"),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), div_value=0.5),
        "AdaptiveSoftmax: expected div_value to be finite and at least 1, got 0.5",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), div_value=float("inf")),
        "AdaptiveSoftmax: expected div_value to be finite and at least 1, got inf",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), cutoffs=[0, 2]),
        "AdaptiveSoftmax: expected each cut-off to be at least 1, got 0",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), cutoffs=[3, 3]),
        r"AdaptiveSoftmax: expected cutoffs to rise and stay below 8, got \(3, 3\)",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), cutoffs=[3, 8]),
        r"AdaptiveSoftmax: expected cutoffs to rise and stay below 8, got \(3, 8\)",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), cutoffs=[5, 3]),
        r"AdaptiveSoftmax: expected cutoffs to rise and stay below 8, got \(5, 3\)",
    ),
    (
        lambda: AdaptiveSoftmax(4, range(1, 9), cutoffs=[9]),
        r"AdaptiveSoftmax: expected cutoffs to rise and stay below 8, got \(9,\)",
    ),
    (
        lambda: AdaptiveSoftmax(6, range(1, 9), cutoffs=[2, 4]),  # a width of zero
        "AdaptiveSoftmax: expected at least 1 feature for each cluster, got "
        r"in_features // div_value\*\*j = 0 for cluster j = 2",
    ),
    (
        lambda: AdaptiveSoftmax(1, range(1, 9), cutoffs=[2]),
        "AdaptiveSoftmax: expected at least 1 feature for each cluster, got "
        r"in_features // div_value\*\*j = 0 for cluster j = 1",
    ),
    (
        lambda: ForestSoftmax(4, [Tree.balanced(3), Tree.balanced(4)]),
        r"ForestSoftmax: expected trees over the same number of classes, got \[3, 4\]",
    ),
]

MISTYPED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Softmax(4, 10.0), "Softmax: expected num_classes to be an int, got 10.0"),  # type: ignore[arg-type]
    (lambda: Softmax(4, True), "Softmax: expected num_classes to be an int, got True"),
    (lambda: CosineSoftmax(4, 3, scale="16"), "CosineSoftmax: expected scale to be a number, got '16'"),  # type: ignore[arg-type]
    (lambda: Entmax(4, 3, alpha=True), "Entmax: expected alpha to be a number, got True"),
    (lambda: HierarchicalSoftmax(4, 10), "HierarchicalSoftmax: expected tree to be a Tree, got int"),  # type: ignore[arg-type]
    (
        lambda: ForestSoftmax(4, Tree.balanced(3)),  # type: ignore[arg-type]
        "ForestSoftmax: expected trees to be a sequence of at least one Tree, got Tree",
    ),
    (lambda: ForestSoftmax(4, []), "ForestSoftmax: expected trees to be a sequence of at least one Tree, got "),
    (
        lambda: ForestSoftmax(4, [Tree.balanced(3), 3]),  # type: ignore[list-item]
        "ForestSoftmax: expected trees to be a sequence of at least one Tree, got ",
    ),
    (lambda: TreeSampledSoftmax(4, 10, 3), "TreeSampledSoftmax: expected tree to be a Tree, got int"),  # type: ignore[arg-type]
    (lambda: SampledSoftmax(4, 10, 3), "SampledSoftmax: expected sampler to be a Sampler, got int"),  # type: ignore[arg-type]
    (lambda: NCE(4, [1, 2], 3), "NCE: expected sampler to be a Sampler, got list"),  # type: ignore[arg-type]
    (lambda: NegativeSampling(4, None, 3), "NegativeSampling: expected sampler to be a Sampler, got NoneType"),  # type: ignore[arg-type]
    (
        lambda: AdaptiveSoftmax(4, [[1, 2]]),  # type: ignore[list-item]
        "AdaptiveSoftmax: expected counts as a sequence of numbers, one a class, got torch.int64 of shape",
    ),
    (
        lambda: AdaptiveSoftmax(4, [3, 2, 1], cutoffs=2),  # type: ignore[arg-type]
        "AdaptiveSoftmax: expected cutoffs to be a sequence of ints, got 2",
    ),
    (
        lambda: AdaptiveSoftmax(4, None),  # type: ignore[arg-type]
        "AdaptiveSoftmax: expected counts as a sequence of numbers, one a class, got NoneType",
    ),
    (
        lambda: Tree.from_groups(["animal", "plant", "plant"]),  # type: ignore[list-item]
        "Tree: expected group_of_class as a sequence of ints, one a class, got list of other things",
    ),
    (lambda: Tree.random(4, seed=1.5), "Tree: expected seed to be an int, got 1.5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_out_of_range_is_refused(make: Callable[[], Head], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(("make", "message"), MISTYPED, ids=[message for _, message in MISTYPED])
def test_what_is_of_another_type_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        make()


def test_the_ends_of_a_range_are_in_it() -> None:
    GumbelSoftmax(4, 3, scale=0)
    GumbelSoftmax(4, 3, scale=1e6, temperature=1e-6, final_temperature=1e6, anneal_steps=1)
    SphericalSoftmax(4, 3, epsilon=1e-12)
    CosineSoftmax(4, 3, scale=1e6)
    CosineSoftmax(4, 3, cosine_margin=2, angular_margin=math.pi / 2)
    CosineSoftmax(4, 3, cosine_margin=0.0, angular_margin=0.0)
    Entmax(4, 3, alpha=3)
    TaylorSoftmax(4, 3, order=12)
    AdaptiveSoftmax(4, range(8), cutoffs=[1, 7], div_value=1)


def test_a_loss_of_few_logits_has_a_second_derivative() -> None:
    """Unlike that of so many that they are computed in chunks."""
    head = Softmax(4, 3, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: head(x, torch.tensor([0, 1, 2, 0, 1, 2])), (x,))


def test_repr_is_how_the_head_was_made() -> None:
    assert repr(Softmax(4, 3)) == "Softmax(in_features=4, num_classes=3, bias=True)"
    assert repr(Softmax(4, 3, bias=False)) == "Softmax(in_features=4, num_classes=3, bias=False)"
    trees = "(Tree(num_classes=3, num_nodes=6, depth=2, arity=2),)"
    for bias in (True, False):
        head = ForestSoftmax(4, [Tree.balanced(3)], bias=bias)
        assert repr(head).splitlines()[1].strip() == f"in_features=4, trees={trees}, bias={bias}, sparse=False"
    head = AdaptiveSoftmax(4, [3, 1, 2], cutoffs=[1], div_value=2.0)
    assert "counts=tensor of shape (3,), cutoffs=(1,), div_value=2.0, head_bias=False" in repr(head)
    assert "(sampler): Sampler(num_classes=3)" in repr(NCE(4, UNIFORM, 2))


def test_at_first_every_class_is_as_rare_as_it_is_among_all() -> None:
    nothing = torch.zeros(4)
    sampler = Sampler.unigram([1, 2, 3, 4, 90])
    for head in (OneVsRest(4, 5), NegativeSampling(4, sampler, 3)):
        chance = torch.nn.functional.linear(nothing, head.weight, head.bias).sigmoid()
        torch.testing.assert_close(chance, torch.full((5,), 0.2))
    scores = torch.nn.functional.linear(nothing, *NCE(4, sampler, 3).parameters())
    torch.testing.assert_close(scores.exp(), torch.full((5,), 0.2))


def test_features_may_be_many() -> None:
    assert Softmax(300, 3)(torch.randn(2, 300), torch.tensor([0, 1])).shape == (2,)


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
def test_the_loss_is_the_nll_of_the_perturbed_softmax(noise: Any) -> None:
    """Against the formula, with noise from torch's own distributions: equal in mean and spread over many draws."""
    head = GumbelSoftmax(2, 3, noise=noise, scale=0.7, temperature=0.5, dtype=torch.float64)
    x = torch.tensor([0.3, -1.2], dtype=torch.float64)
    rows = 40_000
    torch.manual_seed(0)
    with torch.no_grad():
        losses = head(x.expand(rows, 2), torch.ones(rows, dtype=torch.int64))
        one = torch.ones((), dtype=torch.float64)
        law = (
            torch.distributions.Gumbel(0 * one, one) if noise == "gumbel" else torch.distributions.Normal(0 * one, one)
        )
        assert head.bias is not None
        perturbed = (head.weight @ x + head.bias + 0.7 * law.sample((rows, 3))) / 0.5
    expected = -perturbed.log_softmax(1)[:, 1]
    error = float(expected.std()) / math.sqrt(rows)
    assert float(losses.mean()) == pytest.approx(float(expected.mean()), abs=5 * error)
    assert float(losses.std()) == pytest.approx(float(expected.std()), rel=0.05)


def test_the_temperature_is_exact_in_float64() -> None:
    head = GumbelSoftmax(4, 3, scale=0.0, temperature=0.7, dtype=torch.float64)
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    logits = torch.nn.functional.linear(x, head.weight, head.bias)
    expected = torch.nn.functional.cross_entropy(logits / 0.7, y, reduction="none")
    torch.testing.assert_close(head(x, y), expected, rtol=1e-14, atol=1e-14)


def test_the_hard_sample_has_the_probabilities_of_the_softmax() -> None:
    """The Gumbel-max theorem: a straight-through loss is 0 just as often as the softmax says."""
    head = GumbelSoftmax(2, 3, straight_through=True)
    x = torch.tensor([0.3, -1.2])
    rows = 20_000
    torch.manual_seed(0)
    with torch.no_grad():
        losses = head(x.expand(rows, 2), torch.ones(rows, dtype=torch.int64))
    hits = losses.abs() < 1e-6
    torch.testing.assert_close(losses[~hits], torch.full_like(losses[~hits], math.log(3)))
    expected = head.log_prob(x)[1].exp().item()
    assert float(hits.double().mean()) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / rows))


def test_the_temperature_follows_its_schedule_through_a_checkpoint() -> None:
    head = GumbelSoftmax(2, 3, temperature=2.0, final_temperature=0.5, anneal_steps=4)
    x, y = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)
    temperatures = []
    for step in range(6):
        if step == 3:
            state = head.state_dict()
            head = GumbelSoftmax(2, 3, temperature=2.0, final_temperature=0.5, anneal_steps=4)
            head.load_state_dict(state)
        temperatures.append(float(head.current_temperature()))
        head(x, y)
        head.eval()(x, y)  # no step
        head.train()
    assert temperatures == pytest.approx([2.0, 2 * 0.5**0.5, 1.0, 0.5**0.5, 0.5, 0.5])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_class_weights_and_ignored_labels_are_one_line_outside(case: Case) -> None:
    """The gradient under class weights is the weighted sum of each example's own gradient."""
    torch.manual_seed(0)
    head = case.make(case.in_features, dtype=torch.float64).eval()
    y = torch.randint(head.num_classes, (6,))
    x = torch.randn(6, case.in_features, dtype=torch.float64)
    weight = torch.rand(head.num_classes, dtype=torch.float64) + 0.5
    keep = torch.tensor([True, True, False, True, False, True])
    parameters = list(head.parameters())

    def gradient(loss: torch.Tensor) -> list[torch.Tensor]:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    own = [gradient(head(x[row], y[row])) for row in range(6)]
    together = gradient((weight[y[keep]] * head(x[keep], y[keep])).sum())
    for index, found in enumerate(together):
        expected = sum(weight[y[row]] * own[row][index] for row in range(6) if keep[row])
        torch.testing.assert_close(found, expected)
    assert any(bool(found.any()) for found in together)


def test_class_weights_as_in_cross_entropy() -> None:
    torch.manual_seed(0)
    head = Softmax(4, 3)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, -100])
    weight = torch.tensor([1.0, 5.0, 0.0])
    keep = y != -100
    loss = head(x[keep], y[keep])
    logits = torch.nn.functional.linear(x, head.weight, head.bias)
    for reduction, divisor in (("sum", 1.0), ("mean", weight[y[keep]].sum())):
        expected = torch.nn.functional.cross_entropy(logits, y, weight, reduction=reduction)
        torch.testing.assert_close((weight[y[keep]] * loss).sum() / divisor, expected)


def test_a_head_from_a_linear_layer_has_the_layer_s_own_parameters() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 3, dtype=torch.float64).eval()
    linear.weight.requires_grad_(False)
    state = torch.get_rng_state()
    head = Softmax.from_linear(linear)
    assert torch.equal(state, torch.get_rng_state())
    assert head.weight is linear.weight
    assert head.bias is linear.bias
    assert repr(head) == "Softmax(in_features=4, num_classes=3, bias=True)"
    assert not head.training
    assert not head.weight.requires_grad
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    optimiser = torch.optim.SGD(linear.parameters(), lr=1.0)  # the layer's
    for _ in range(3):
        optimiser.zero_grad()
        loss = head(x, y)
        torch.testing.assert_close(loss, nn.functional.cross_entropy(linear(x), y, reduction="none"))
        loss.mean().backward()
        optimiser.step()
    assert bool((head(x, y).mean() < loss.mean()).all())
    model = nn.Sequential(linear)
    before = list(model.state_dict())
    model[0] = head
    assert list(model.state_dict()) == before
    assert Softmax.from_linear(nn.Linear(4, 3, bias=False)).bias is None


def test_what_is_no_linear_layer_is_refused() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))  # type: ignore[no-untyped-call]
    for wrong, name in ((nn.Conv1d(4, 3, 1), "Conv1d"), (normed, "ParametrizedLinear"), (3, "int")):
        message = f"^Softmax: expected linear to be a torch.nn.Linear with parameters of its own, got {name}\\.$"
        with pytest.raises(TypeError, match=message):
            Softmax.from_linear(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^Softmax: expected num_classes to be at least 2, got 1\.$"):
        Softmax.from_linear(nn.Linear(4, 1))


def test_targets_of_other_integer_dtypes_are_checked_as_they_are() -> None:
    head, x = Softmax(4, 3), torch.randn(2, 4)
    for dtype, wrong, got in ((torch.int32, -1, -1), (torch.uint8, 255, 255), (torch.int16, 3, 3)):
        with pytest.raises(ValueError, match=rf"^Softmax: expected target in 0..2, got {got}\.$"):
            head(x, torch.tensor([0, wrong], dtype=dtype))
    for wider in (torch.uint16, torch.uint32, torch.uint64):
        assert torch.equal(head(x, torch.tensor([2, 1], dtype=wider)), head(x, torch.tensor([2, 1])))
    with pytest.raises(TypeError, match=r"^Softmax: expected target of an integer dtype, got torch\.bool\.$"):
        head(x, torch.tensor([True, False]))
    tree = HierarchicalSoftmax(4, Tree.balanced(3))
    few = torch.tensor([2, 1], dtype=torch.uint8)
    assert torch.equal(search.decisions(tree, x, few)[1], search.decisions(tree, x, few.long())[1])
    assert not bool((search.sample(tree, x, 20, few)[1] == few.unsqueeze(1)).any())


def test_weights_can_be_those_of_an_embedding() -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(5, 4), Softmax(4, 5)
    head.weight = embedding.weight
    model = nn.ModuleDict({"embedding": embedding, "head": head})
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight", "head.bias"]
    words, y = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])
    loss = head(embedding(words), y).sum()
    (found,) = torch.autograd.grad(loss, [embedding.weight], retain_graph=True)
    logits = nn.functional.linear(embedding(words), embedding.weight, head.bias)
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), [embedding.weight])
    torch.testing.assert_close(found, expected)
    other = copy.deepcopy(model)
    assert other["head"].weight is other["embedding"].weight
    with torch.no_grad():
        embedding.weight.add_(1.0)
    other.load_state_dict(model.state_dict())
    assert other["head"].weight is other["embedding"].weight
    assert torch.equal(other["head"].log_prob(torch.ones(4)), head.log_prob(torch.ones(4)))


MASKABLE: list[Callable[[], Head]] = [
    lambda: Softmax(4, 5),
    lambda: GumbelSoftmax(4, 5),
    lambda: GumbelSoftmax(4, 5, straight_through=True, num_samples=2),
    lambda: SampledSoftmax(4, Sampler.uniform(5), 5),
    lambda: NCE(4, Sampler.uniform(5), 5),
    lambda: NegativeSampling(4, Sampler.uniform(5), 5),
    lambda: OneVsRest(4, 5),
    lambda: Sparsemax(4, 5),
    lambda: Entmax(4, 5),
    lambda: Entmax(4, 5, alpha=1.0),
    lambda: Entmax(4, 5, alpha=1.3),
    lambda: Entmax(4, 5, learn_alpha=True),
    lambda: MixtureOfSoftmaxes(4, 5),
    lambda: Sigsoftmax(4, 5),
]


@pytest.mark.parametrize("make", MASKABLE, ids=[repr(make()).splitlines()[0] for make in MASKABLE])
def test_a_class_is_masked_by_a_bias_of_minus_infinity(make: Callable[[], Head]) -> None:
    torch.manual_seed(0)
    head = make()
    with torch.no_grad():
        head.get_parameter("bias")[3] = -math.inf
    x, y = torch.randn(8, 4, requires_grad=True), torch.tensor([0, 1, 2, 4, 0, 1, 2, 4])
    for training in (True, False):
        log_prob = head.train(training).log_prob(x)
        assert bool(log_prob[:, 3].isneginf().all())
        torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(8))
        loss = head(x, y)
        if not isinstance(head, Entmax | Sparsemax) or training:
            assert bool(loss.isfinite().all())
        head.zero_grad()
        loss.sum().backward()
        for tensor in (x, *head.parameters()):
            assert tensor.grad is not None
            assert bool(tensor.grad.isfinite().all())


class OneNumber(Head):
    """The most likely first mistake of a head: the loss of a batch is already averaged."""

    loss_is_nll: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.weight = torch.nn.Parameter(torch.zeros(3, 4))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(input @ self.weight.t(), target)

    def _log_prob(self, input: Tensor) -> Tensor:
        return (input @ self.weight.t()).log_softmax(1)[0]


class PlainFloat(OneNumber):
    def _loss(self, input: Tensor, target: Tensor) -> Any:
        return super()._loss(input, target).item()


def test_a_head_that_gives_no_tensor_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"^PlainFloat: expected _loss to give a Tensor, got float\."):
        PlainFloat()(torch.randn(5, 4), torch.zeros(5, dtype=torch.int64))


def test_a_head_that_gives_another_shape_is_told_so() -> None:
    head, x = OneNumber(), torch.randn(5, 4)
    with pytest.raises(ValueError, match=r"^OneNumber: expected _loss to give \(5,\), got \(\)\."):
        head(x, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^OneNumber: expected _log_prob to give \(5, 3\), got \(3,\)\."):
        head.log_prob(x)


def test_counts_may_come_in_any_order() -> None:
    """Classes by another name: the same head, loss and distribution, with the classes renamed."""
    torch.manual_seed(0)
    counts = torch.tensor([50, 3, 8, 1, 20, 12, 2, 5])
    order = torch.randperm(8)  # the new name of a class is its place in here
    x, y = torch.randn(6, 4), torch.randint(8, (6,))
    head = AdaptiveSoftmax(4, counts, cutoffs=[2, 5], div_value=1.5)
    other = AdaptiveSoftmax(4, counts[order], cutoffs=[2, 5], div_value=1.5)
    other.load_state_dict(
        {name: value for name, value in head.state_dict().items() if "tail" in name or "head" in name}, strict=False
    )
    torch.testing.assert_close(other.log_prob(x), head.log_prob(x)[:, order])
    torch.testing.assert_close(other(x, order.argsort()[y]), head(x, y))
    frequent = head.log_prob(x)[:, [0, 4]].logsumexp(1)  # both on the shortlist
    shortlist = torch.log_softmax(head.head(x), dim=1)[:, :2].logsumexp(1)
    torch.testing.assert_close(frequent, shortlist)
    torch.testing.assert_close(
        Sampler.log_uniform(counts[order]).probability, Sampler.log_uniform(counts).probability[order]
    )


def test_a_checkpoint_brings_the_order_of_the_classes() -> None:
    """Counts from other data must not mix up the classes of trained weights."""
    torch.manual_seed(0)
    head = AdaptiveSoftmax(4, [5, 1, 9, 2, 7, 3], cutoffs=[2], div_value=2)
    other = AdaptiveSoftmax(4, [1, 2, 3, 4, 5, 6], cutoffs=[2], div_value=2)
    other.load_state_dict(head.state_dict())
    x = torch.randn(6, 4)
    assert torch.equal(other.log_prob(x), head.log_prob(x))
    assert torch.equal(other(x, torch.arange(6)), head(x, torch.arange(6)))


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: HierarchicalSoftmax(4, Tree.random(12, seed=seed)),
        lambda seed: ForestSoftmax(4, [Tree.balanced(12), Tree.random(12, seed=seed)]),
    ],
    ids=["tree", "forest"],
)
def test_a_checkpoint_of_another_tree_is_refused(make: Callable[[int], Head]) -> None:
    """The weights would fit, and every class would be another."""
    head, same, other = make(0), make(0), make(1)
    same.load_state_dict(head.state_dict())
    with pytest.raises(RuntimeError, match="HierarchicalSoftmax: expected a checkpoint of the same tree, got one of"):
        other.load_state_dict(head.state_dict())
    with torch.device("meta"):
        unmade = make(0)
    unmade.load_state_dict(head.state_dict(), assign=True)


@pytest.mark.parametrize(
    "make",
    [lambda: Sparsemax(4, 3), lambda: Entmax(4, 3), lambda: Entmax(4, 3, alpha=1.3), lambda: Softmax(4, 3)],
    ids=["sparsemax", "entmax", "bisected", "chunked"],
)
def test_a_second_derivative_that_is_not_there_is_refused(make: Callable[[], Head], monkeypatch: Any) -> None:
    """It would be taken for zero: a penalty on the gradient would do nothing."""
    monkeypatch.setattr("softmaxes.heads.flat.CHUNK", 6)
    head = make()
    x = torch.randn(5, 4, requires_grad=True)
    loss = head(x, torch.tensor([0, 1, 2, 0, 1])).sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="expected no second derivative to be asked for"):
        gradient.square().sum().backward()


def test_each_example_s_gradient_by_vmap() -> None:
    """As differential privacy takes it; and a class out of range is refused there too."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    for head in (
        Softmax(4, 3),
        HierarchicalSoftmax(4, Tree([4, 3, 3, 4, -1])),
        CosineSoftmax(4, 3, angular_margin=0.3),
    ):
        parameters = dict(head.named_parameters())

        def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor, head: Head = head) -> Tensor:
            found: Tensor = torch.func.functional_call(head, parameters, (x, y))
            return found

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        together = torch.autograd.grad(head(x, y).sum(), list(parameters.values()))
        for expected, found in zip(together, each(parameters, x, y).values(), strict=True):
            torch.testing.assert_close(found.sum(0), expected)
        with pytest.raises(ValueError, match=r"expected target in 0\.\.2, got 3"):
            each(parameters, x, y + 1)


def test_values_that_cannot_be_read_are_not() -> None:
    """Fake tensors have none; a replica of `nn.DataParallel` has attributes in place of parameters."""
    head = Softmax(4, 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert head(torch.empty(5, 4), torch.empty(5, dtype=torch.int64)).shape == (5,)
    replica: Any = head._replicate_for_data_parallel()
    for name, parameter in head.named_parameters():
        setattr(replica, name, parameter.detach())
    x, y = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    assert torch.equal(replica(x, y), head(x, y))


def test_paths_that_would_be_mostly_padding_are_not_made() -> None:
    """A deep tree with one wide node: the logits of all paths would be many times those of all classes."""
    wide, deep = 40, 30
    spine = range(wide + deep, wide + 2 * deep)  # an inner node for each level, the last with many classes
    parent = [spine[-1]] * wide + list(spine) + [-1, *spine[:-1]]
    torch.manual_seed(0)
    head = HierarchicalSoftmax(4, Tree(parent))
    seen = []
    head._logits_of = lambda *_: seen.append(_)  # type: ignore[assignment, method-assign]
    x, y = torch.randn(5, 4), torch.arange(5) * 13
    expected = head.log_prob(x).gather(1, y.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(head.target_log_prob(x, y), expected)
    assert seen == []


@pytest.mark.parametrize("head", [SampledSoftmax, NCE, NegativeSampling])
def test_the_first_device_has_number_0(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 names a device, and is false."""
    asked = []
    monkeypatch.setattr(Sampler, "to", lambda sampler, device: asked.append(device) or sampler)
    with contextlib.suppress(AssertionError, RuntimeError):  # here is no such device
        head(4, UNIFORM, 2, device=0)
    assert asked == [0]


@pytest.mark.parametrize(("features", "classes", "clusters"), [(64, 400, 1), (250, 1000, 2)])
def test_the_cut_offs_are_the_cheapest(features: int, classes: int, clusters: int) -> None:
    """Against the stated cost, tried for one and two cut-offs by a plain loop."""
    counts = torch.tensor([100_000 // (c + 1) for c in range(classes)]).double()
    share = torch.cat([torch.zeros(1), counts.cumsum(0) / counts.sum()]).double()

    def cost(cutoffs: tuple[int, ...]) -> float:
        total = features * classes if not cutoffs else features * (cutoffs[0] + len(cutoffs)) + 1e4 * len(cutoffs)
        for cluster, (start, end) in enumerate(itertools.pairwise((*cutoffs, classes) if cutoffs else ()), 1):
            total += float(share[end] - share[start]) * (features // 4**cluster) * (features + end - start)
        return float(total)

    head = AdaptiveSoftmax(features, counts)
    assert len(head.cutoffs) == clusters
    width = features // 4  # a cluster with fewer classes than features is not tried
    every = [cost((start,)) for start in range(1, classes - width)]
    every += [cost((a, b)) for a in range(1, 99, 2) for b in range(a + width, classes // 2, 5)]
    assert cost(head.cutoffs) < cost(())
    assert cost(head.cutoffs) < 1.01 * min(every)  # places for a cut are a tenth apart


@pytest.mark.slow
def test_the_cut_offs_may_be_none_or_many() -> None:
    assert AdaptiveSoftmax(64, torch.ones(20)).cutoffs == ()
    assert AdaptiveSoftmax(64, [3, 1]).cutoffs == ()
    many = [10**6 // (c + 1) for c in range(100_000)]
    assert len(AdaptiveSoftmax(256, many, device="meta").cutoffs) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda sparse: HierarchicalSoftmax(6, Tree.balanced(40), sparse=sparse),
        lambda sparse: ForestSoftmax(6, [Tree.random(400, arity=3)], sparse=sparse),
        lambda sparse: SampledSoftmax(6, Sampler.uniform(40), 8, sparse=sparse),
        lambda sparse: TreeSampledSoftmax(6, Tree.balanced(40), 3, sparse=sparse),
        lambda sparse: NeighborSampledSoftmax(6, 40, 8, 3, sparse=sparse),
        lambda sparse: NCE(6, Sampler.uniform(40), 8, sparse=sparse),
        lambda sparse: NegativeSampling(6, Sampler.uniform(40), 8, sparse=sparse),
    ],
    ids=["hierarchical", "forest", "sampled", "tree-sampled", "neighbor-sampled", "nce", "negative-sampling"],
)
def test_sparse_gradients_are_the_dense_ones(make: Callable[[bool], Head]) -> None:
    dense, sparse = make(False), make(True)
    sparse.load_state_dict(dense.state_dict())
    x, y = torch.randn(5, 6), torch.tensor([3, 3, 17, 0, 39])
    for head in (dense, sparse):
        torch.manual_seed(0)
        head(x, y).mean().backward()
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert other.grad.is_sparse
        assert not one.grad.is_sparse
        assert other.grad._nnz() < len(other)
        torch.testing.assert_close(other.grad.to_dense(), one.grad)
    torch.optim.SGD(sparse.parameters(), lr=0.1).step()
    torch.optim.SparseAdam(list(sparse.parameters()), lr=0.1).step()


def test_margins_make_training_harder_and_nothing_else() -> None:
    torch.manual_seed(0)
    plain = CosineSoftmax(6, 5, scale=10.0)
    x, y = torch.randn(7, 6), torch.randint(5, (7,))
    for margins in ({"cosine_margin": 0.35}, {"angular_margin": 0.5}):
        head = CosineSoftmax(6, 5, scale=10.0, **margins)
        head.load_state_dict(plain.state_dict())
        assert bool((head(x, y) > plain(x, y)).all())
        assert torch.equal(head.eval()(x, y), plain(x, y))
        assert torch.equal(head.train().log_prob(x), plain.log_prob(x))


def test_the_gradient_beside_a_class_weight_is_bounded() -> None:
    """Where others give NaN: parallel, antiparallel, and so near to it that rounding decides."""
    for dtype in (torch.float32, torch.float64):
        head = CosineSoftmax(6, 5, scale=1.0, angular_margin=0.5, dtype=dtype)
        weight = head.weight.detach()
        for factor in (1.0, -1.0, 1e-20, 1e20):
            for off in (0.0, 1e-8, 1e-4):
                x = (factor * (weight + off * torch.randn_like(weight) * weight.norm())).requires_grad_()
                head(x, torch.arange(5)).sum().backward()
                assert x.grad is not None
                # The loss moves by at most scale times two radians an angle; an angle by 1 / |x| a unit of length.
                assert float((x.grad.double().norm(dim=1) * x.detach().double().norm(dim=1)).max()) < 3
    zero = torch.zeros(3, 6, requires_grad=True, dtype=torch.float64)
    head(zero, torch.arange(3)).sum().backward()
    assert zero.grad is not None
    assert not bool(zero.grad.any())


def test_learned_scale_and_alpha_start_where_they_are_told_and_move() -> None:
    cosine = CosineSoftmax(4, 3, scale=12.0, learn_scale=True)
    assert cosine.log_scale is not None
    assert float(cosine.log_scale.detach().exp()) == pytest.approx(12.0)
    head = Entmax(4, 3, alpha=1.7, learn_alpha=True)
    assert float(torch.as_tensor(head.current_alpha()).detach()) == pytest.approx(1.7)
    torch.manual_seed(0)
    x, y = 3 * torch.randn(64, 4), torch.randint(3, (64,))
    optimiser = torch.optim.SGD([head.get_parameter("alpha_logit")], lr=1.0)
    for _ in range(20):
        head(x, y).mean().backward()
        optimiser.step()
    assert (
        1.71 < float(torch.as_tensor(head.current_alpha()).detach()) < 2
    )  # the loss falls as alpha rises, whatever the data


def test_alpha_near_1_is_softmax() -> None:
    """Where bisection divides by next to nothing, and others give the uniform distribution."""
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float32, 5e-3), (torch.float64, 1e-6)):
        flat = Softmax(4, 6, dtype=dtype)
        x, y = 3 * torch.randn(9, 4, dtype=dtype), torch.randint(6, (9,))
        for exponent in range(3, 17):
            head = Entmax(4, 6, alpha=1 + 10.0**-exponent, dtype=dtype)
            head.load_state_dict(flat.state_dict())
            off = float((head.log_prob(x).exp() - flat.log_prob(x).exp()).detach().abs().max())
            assert off < tolerance + 3 * 10.0**-exponent
            assert float((head(x, y) - flat(x, y)).detach().abs().max()) < tolerance + 20 * 10.0**-exponent


WHOLE = [
    case for case in ONE_OF_EACH if not isinstance(case.make(case.in_features), AdaptiveSoftmax | Entmax | Sparsemax)
]


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_compiles_to_one_graph(case: Case) -> None:
    """All heads but those whose shapes depend on the data, or that call what torch.compile cannot follow."""
    torch.compiler.reset()
    head = case.make(case.in_features)
    x, y = torch.randn(5, case.in_features), torch.randint(head.num_classes, (5,))
    for training in (True, False):
        head.train(training)
        torch.compile(head, backend="eager", fullgraph=True)(x, y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda: Softmax(4, 5), lambda: HierarchicalSoftmax(4, RAGGED), lambda: Entmax(4, 150)]
)
def test_sequences_of_any_length_are_exported(make: Callable[[], Head]) -> None:
    served = Served(make().eval(), 3)
    sizes = {"input": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}}
    program = torch.export.export(served, (torch.randn(2, 3, 4),), dynamic_shapes=sizes).module()
    for shape in ((1, 1), (1, 9), (5, 1), (4, 30)):
        x = torch.randn(*shape, 4)
        for found, expected in zip(program(x), served(x), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize(
    "make",
    [
        lambda classes: HierarchicalSoftmax(4, Tree.balanced(classes), sparse=True),
        lambda classes: ForestSoftmax(4, [Tree.balanced(classes)] * 2, sparse=True),
        lambda classes: SampledSoftmax(4, Sampler.uniform(classes), 8, sparse=True),
        lambda classes: NeighborSampledSoftmax(4, classes, 8, 3, sparse=True),
        lambda classes: NCE(4, Sampler.uniform(classes), 8, sparse=True),
        lambda classes: NegativeSampling(4, Sampler.uniform(classes), 8, sparse=True),
    ],
    ids=["tree", "forest", "sampled", "neighbor-sampled", "nce", "negative sampling"],
)
def test_a_sparse_step_makes_nothing_that_is_as_long_as_the_classes(
    make: Callable[[int], Head], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(kernel, "LIBRARY", None)
    classes = 200_000
    head = make(classes)
    step = torch.optim.SGD(head.parameters(), lr=0.1)
    input, target = torch.randn(8, 4), torch.randint(classes, (8,))
    with torch.profiler.profile(profile_memory=True) as profiled:
        head(input, target).sum().backward()
        step.step()
        step.zero_grad()
    made = [event.self_cpu_memory_usage for event in profiled.events()]
    assert max(made) > 0
    assert sum(one for one in made if one > 0) < classes  # bytes: a byte a class would be too much


# Ranking after a map that saturates


@pytest.mark.parametrize(
    "make",
    [
        lambda classes: OneVsRest(1, classes, bias=False),
        lambda classes: NegativeSampling(1, Sampler.uniform(classes), 1, bias=False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sigmoid_that_saturates_does_not_end_the_ranking(make: Callable[[int], Head], dtype: torch.dtype) -> None:
    """scikit-learn #14124: logits of 17, 18 and 25 have one float32 probability; so have 40, 41 and 42 in float64."""
    for logits in ([17, 18, 25], [40, 42, 41], [-3, 500, 400, 500], list(range(100, 140))):
        head, x = make(len(logits)).to(dtype).eval(), torch.ones(1, 1, dtype=dtype)
        with torch.no_grad():
            head.get_parameter("weight").copy_(torch.tensor(logits).unsqueeze(1))
        best_first = sorted(range(len(logits)), key=lambda c: -logits[c])[:32]
        log_prob = head.log_prob(x)
        assert int(head.predict(x)) == best_first[0]
        assert head.topk(x, len(best_first))[1][0].tolist() == best_first
        assert int(log_prob.argmax()) == best_first[0]
        for place, c in enumerate(best_first):  # the referee
            judged = metrics.judge(log_prob, torch.tensor([c]))
            assert int(judged.prediction) == best_first[0]
            assert int(judged.rank) == place
        assert abs(float(log_prob.exp().sum().detach()) - 1) < 1e-5


# Infinite biases, in every path of a head


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("path", ["compiled", "plain", "gathered", "searched"])
def test_an_infinite_bias_says_the_same_in_every_path_of_a_tree(
    path: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hierarchical, "COMPILED_RATIO", 0)
    if path != "compiled":
        monkeypatch.setattr(kernel, "LIBRARY", None)
    if path == "gathered":
        monkeypatch.setattr(hierarchical, "GATHER_RATIO", 0)
    if path == "searched":
        monkeypatch.setattr(hierarchical, "ROW_COST", 0)
        monkeypatch.setattr(hierarchical, "LEVEL_COST", 0)
    for tree in (Tree.balanced(12), Tree.balanced(12, arity=3), Tree.from_groups([0, 0, 1, 1, 1, 2])):
        for row in (0, -1):
            head = HierarchicalSoftmax(4, tree).eval()
            with torch.no_grad():
                head.get_parameter("bias")[row] = value
            x, target = torch.randn(1, 4).expand(tree.num_classes, -1), torch.arange(tree.num_classes)
            log_prob = head.log_prob(x)
            own = log_prob.gather(1, target.unsqueeze(1)).squeeze(1)
            torch.testing.assert_close(head(x, target), -own, equal_nan=True)
            values, classes = head.topk(x, 3)
            torch.testing.assert_close(log_prob.gather(1, classes), values, equal_nan=True)
            if value < 0:
                assert not bool(log_prob.isnan().any())
                assert torch.equal(head.predict(x), log_prob.argmax(1))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_bias_says_the_same_in_the_chunks_of_a_flat_softmax(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat, "CHUNK", 3)
    head = Softmax(4, 6)
    with torch.no_grad():
        head.get_parameter("bias")[2] = value
    x, target = torch.randn(6, 4), torch.arange(6)
    expected = -head.log_prob(x).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(head(x, target), expected, equal_nan=True)


# Integers of NumPy


def test_sizes_may_be_integers_of_numpy() -> None:
    """`labels.max() + 1`, counts in an array of bytes, cut-offs in an array."""
    labels = np.array([0, 4, 2], dtype=np.int32)
    assert Softmax(np.int64(8), labels.max() + 1).num_classes == 5
    assert type(Softmax(8, labels.max() + 1).num_classes) is int
    head = MixtureOfSoftmaxes(np.uint8(100), np.uint8(5), num_components=np.uint8(4))
    assert head.context_weight.shape == (400, 100)
    assert AdaptiveSoftmax(64, range(1, 101), cutoffs=np.array([10, 50])).cutoffs == (10, 50)
    assert AdaptiveSoftmax(64, range(1, 101), cutoffs=torch.tensor([10, 50])).cutoffs == (10, 50)
    assert TaylorSoftmax(4, 3, order=np.int8(4)).order == 4
    assert GumbelSoftmax(4, 3, final_temperature=np.float32(0.5), anneal_steps=np.int64(9)).anneal_steps == 9
    assert Tree.balanced(np.int64(9), arity=np.int8(3)).depth == 2
    assert Tree.random(np.int64(9), seed=np.int64(3)) == Tree.random(9, seed=3)
    assert Sampler.uniform(np.int64(9)).sample(np.int64(3)).shape == (3,)
    assert CosineSoftmax(4, 3, scale=np.float32(8)).scale == 8
    for wrong in (True, np.bool_(True), 3.0, np.float64(3), "3", None):
        with pytest.raises(TypeError, match="Softmax: expected num_classes to be an int, got "):
            Softmax(8, wrong)
