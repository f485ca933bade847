"""The heads that every law is checked on: a line for each case; a new head adds its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import softmaxes
from softmaxes import GumbelSoftmax, Head, HierarchicalSoftmax, Softmax, Tree
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
    Case("hierarchical-7-ragged", lambda d, **kw: HierarchicalSoftmax(d, RAGGED, **kw)),
]
