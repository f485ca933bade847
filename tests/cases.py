"""The heads that every law is checked on: a line for each case; a new head adds its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import softmaxes
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
)
from softmaxes.testing import MakeHead


@dataclass(frozen=True)
class Case:
    name: str
    make: MakeHead
    in_features: int = 6
    breaks: Mapping[str, str] = field(default_factory=dict)  # law -> why it is known to be broken


def public_heads() -> set[type[Head]]:
    """Every head that a user can import."""
    public = {getattr(softmaxes, name) for name in softmaxes.__all__}
    return {thing for thing in public if isinstance(thing, type) and issubclass(thing, Head)} - {Head}


# Class 0 lies right under the root; node 8 has one child; nodes have one, two, three and four children.
RAGGED = Tree([10, 7, 7, 7, 7, 8, 9, 10, 9, 10, -1])
# Counts in no order, with a tie; the most frequent class is in the middle.
COUNTS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]

CONSTANT_CHANCES = {"gradient_of_the_training_loss": "the chances of the draws are taken for constants"}


def refreshed(*given: Any, **options: Any) -> Head:
    head = NeighborSampledSoftmax(*given, **options)
    head.refresh()
    return head


CASES = [
    Case("softmax-2", lambda d, **kw: Softmax(d, 2, **kw)),
    Case("softmax-3", lambda d, **kw: Softmax(d, 3, **kw)),
    Case("softmax-12", lambda d, **kw: Softmax(d, 12, **kw), in_features=20),
    Case("softmax-100-no-bias", lambda d, **kw: Softmax(d, 100, bias=False, **kw)),
    Case("gumbel-2", lambda d, **kw: GumbelSoftmax(d, 2, **kw)),
    Case("gumbel-12-cool", lambda d, **kw: GumbelSoftmax(d, 12, temperature=0.5, scale=0.5, **kw)),
    Case("gumbel-3-normal", lambda d, **kw: GumbelSoftmax(d, 3, noise="normal", bias=False, **kw), in_features=1),
    Case(
        "gumbel-12-annealed",
        lambda d, **kw: GumbelSoftmax(d, 12, final_temperature=0.5, anneal_steps=50, **kw),
        in_features=20,
    ),
    Case(
        "gumbel-3-straight-through",
        lambda d, **kw: GumbelSoftmax(d, 3, straight_through=True, **kw),
        breaks={"gradient_of_the_training_loss": "the straight-through gradient is that of another function"},
    ),
    Case("hierarchical-2", lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(2), **kw)),
    Case("hierarchical-3", lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(3), **kw), in_features=1),
    Case("hierarchical-12", lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(12), bias=False, **kw)),
    Case("hierarchical-100", lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(100), **kw)),
    Case("hierarchical-12-one-level", lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(12, arity=12), **kw)),
    Case(
        "hierarchical-12-groups",
        lambda d, **kw: HierarchicalSoftmax(d, Tree.from_groups([0, 1, 2, 2, 1, 1, 1, 3, 3, 3, 3, 3]), **kw),
        in_features=20,
    ),
    Case(
        "hierarchical-12-layers",
        lambda d, **kw: HierarchicalSoftmax(d, Tree.random(12, arity=3, seed=5), level_layers=True, **kw),
    ),
    Case(
        "hierarchical-7-layers",
        lambda d, **kw: HierarchicalSoftmax(d, RAGGED, level_layers=True, **kw),
        in_features=20,
    ),
    Case("hierarchical-7-ragged", lambda d, **kw: HierarchicalSoftmax(d, RAGGED, **kw)),
    Case(
        "gumbel-12-samples",
        lambda d, **kw: GumbelSoftmax(d, 12, num_samples=3, straight_through=False, **kw),
    ),
    Case("hierarchical-12-random", lambda d, **kw: HierarchicalSoftmax(d, Tree.random(12, arity=3, seed=5), **kw)),
    Case("forest-3-of-one", lambda d, **kw: ForestSoftmax(d, [Tree.balanced(3)], **kw)),
    Case(
        "forest-12",
        lambda d, **kw: ForestSoftmax(d, [Tree.random(12, seed=0), Tree.random(12, arity=4, seed=1)], bias=False, **kw),
        in_features=20,
    ),
    Case("adaptive-2", lambda d, **kw: AdaptiveSoftmax(d, [1, 3], **kw)),
    Case("adaptive-3", lambda d, **kw: AdaptiveSoftmax(d, [1, 1, 3], cutoffs=[1], div_value=1, **kw), in_features=1),
    Case(
        "adaptive-12",
        lambda d, **kw: AdaptiveSoftmax(d, COUNTS, cutoffs=[3, 7], div_value=1.7, head_bias=True, **kw),
    ),
    Case("adaptive-100", lambda d, **kw: AdaptiveSoftmax(d, range(1, 101), cutoffs=[20], **kw), in_features=20),
    Case("cosine-2", lambda d, **kw: CosineSoftmax(d, 2, **kw)),
    Case("cosine-3-learned", lambda d, **kw: CosineSoftmax(d, 3, scale=8.0, learn_scale=True, **kw), in_features=20),
    Case("cosine-12-cosface", lambda d, **kw: CosineSoftmax(d, 12, cosine_margin=0.35, **kw)),
    Case("cosine-100-arcface", lambda d, **kw: CosineSoftmax(d, 100, angular_margin=0.5, **kw)),
    Case(
        "cosine-12-both",
        lambda d, **kw: CosineSoftmax(d, 12, learn_scale=True, cosine_margin=0.2, angular_margin=0.3, **kw),
        in_features=20,
    ),
    Case("sampled-2", lambda d, **kw: SampledSoftmax(d, Sampler.uniform(2), 1, **kw)),
    Case("sampled-3", lambda d, **kw: SampledSoftmax(d, Sampler.uniform(3), 7, bias=False, **kw), in_features=1),
    Case("sampled-12-unigram", lambda d, **kw: SampledSoftmax(d, Sampler.unigram(COUNTS, 0.75), 5, **kw)),
    Case(
        "sampled-100-log-uniform",
        lambda d, **kw: SampledSoftmax(d, Sampler.log_uniform(range(100)), 20, **kw),
        in_features=20,
    ),
    Case("tree-sampled-2", lambda d, **kw: TreeSampledSoftmax(d, Tree.balanced(2), 2, **kw)),
    Case(
        "tree-sampled-7",
        lambda d, **kw: TreeSampledSoftmax(d, RAGGED, 5, bias=False, **kw),
        in_features=20,
        breaks=CONSTANT_CHANCES,
    ),
    Case(
        "tree-sampled-100",
        lambda d, **kw: TreeSampledSoftmax(d, Tree.random(100, arity=3), 20, **kw),
        breaks=CONSTANT_CHANCES,
    ),
    Case("neighbor-sampled-2", lambda d, **kw: NeighborSampledSoftmax(d, 2, 1, 1, **kw)),
    Case(
        "neighbor-sampled-12-no-bias",
        lambda d, **kw: NeighborSampledSoftmax(d, 12, 5, 3, bias=False, **kw),
        in_features=20,
    ),
    Case("neighbor-sampled-100", lambda d, **kw: NeighborSampledSoftmax(d, 100, 20, 40, **kw)),
    Case("neighbor-sampled-30-refreshed", lambda d, **kw: refreshed(d, 30, 9, 7, **kw)),
    Case("nce-2", lambda d, **kw: NCE(d, Sampler.uniform(2), 3, **kw)),
    Case("nce-12-unigram", lambda d, **kw: NCE(d, Sampler.unigram(COUNTS), 5, bias=False, **kw), in_features=20),
    Case("nce-100", lambda d, **kw: NCE(d, Sampler.log_uniform(range(100)), 20, **kw)),
    Case("negative-3", lambda d, **kw: NegativeSampling(d, Sampler.uniform(3), 3, **kw), in_features=1),
    Case("negative-12-unigram", lambda d, **kw: NegativeSampling(d, Sampler.unigram(COUNTS, 0.75), 5, **kw)),
    Case(
        "negative-100",
        lambda d, **kw: NegativeSampling(d, Sampler.uniform(100), 20, bias=False, **kw),
        in_features=20,
    ),
    Case("sparsemax-2", lambda d, **kw: Sparsemax(d, 2, **kw)),
    Case("sparsemax-12", lambda d, **kw: Sparsemax(d, 12, bias=False, **kw), in_features=20),
    Case("sparsemax-120", lambda d, **kw: Sparsemax(d, 120, **kw)),
    Case("entmax-2", lambda d, **kw: Entmax(d, 2, **kw)),
    Case("entmax-3-softmax", lambda d, **kw: Entmax(d, 3, alpha=1.0, bias=False, **kw)),
    Case("entmax-12-bisected", lambda d, **kw: Entmax(d, 12, alpha=1.3, **kw), in_features=20),
    Case("entmax-12-beyond-sparsemax", lambda d, **kw: Entmax(d, 12, alpha=3.0, **kw)),
    Case("entmax-12-learned", lambda d, **kw: Entmax(d, 12, learn_alpha=True, **kw)),
    Case("entmax-120", lambda d, **kw: Entmax(d, 120, **kw), in_features=20),
    Case("mixture-2", lambda d, **kw: MixtureOfSoftmaxes(d, 2, num_components=2, **kw)),
    Case("mixture-12", lambda d, **kw: MixtureOfSoftmaxes(d, 12, num_components=3, bias=False, **kw), in_features=20),
    Case("mixture-100", lambda d, **kw: MixtureOfSoftmaxes(d, 100, **kw)),
    Case("one-vs-rest-2", lambda d, **kw: OneVsRest(d, 2, **kw)),
    Case("one-vs-rest-12", lambda d, **kw: OneVsRest(d, 12, bias=False, **kw), in_features=20),
    Case("one-vs-rest-100", lambda d, **kw: OneVsRest(d, 100, **kw)),
    Case("taylor-2", lambda d, **kw: TaylorSoftmax(d, 2, **kw)),
    Case("taylor-12-order-4", lambda d, **kw: TaylorSoftmax(d, 12, order=4, bias=False, **kw), in_features=20),
    Case("taylor-100-order-12", lambda d, **kw: TaylorSoftmax(d, 100, order=12, **kw)),
    Case("spherical-3", lambda d, **kw: SphericalSoftmax(d, 3, **kw), in_features=1),
    Case("spherical-12", lambda d, **kw: SphericalSoftmax(d, 12, epsilon=0.1, bias=False, **kw), in_features=20),
    Case("spherical-100", lambda d, **kw: SphericalSoftmax(d, 100, **kw)),
    Case("sigsoftmax-3", lambda d, **kw: Sigsoftmax(d, 3, **kw), in_features=1),
    Case("sigsoftmax-12", lambda d, **kw: Sigsoftmax(d, 12, bias=False, **kw), in_features=20),
    Case("sigsoftmax-100", lambda d, **kw: Sigsoftmax(d, 100, **kw)),
]


def _one_of_each() -> list[Case]:
    """Of each head the case of the most classes; of those with as many the last."""
    best: dict[type[Head], tuple[int, Case]] = {}
    for case in CASES:
        head = case.make(case.in_features)
        if head.num_classes >= best.get(type(head), (0, case))[0]:
            best[type(head)] = head.num_classes, case
    return [case for _, case in best.values()]


ONE_OF_EACH = _one_of_each()
