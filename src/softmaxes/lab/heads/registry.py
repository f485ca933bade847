"""The heads by name: the only registry. A new head is one entry."""

import inspect
import math
from collections.abc import Callable, Sequence, Sized
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

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
from softmaxes.files import InputError
from softmaxes.lab.heads.growth import Growth, over_tree
from softmaxes.lab.resolve import is_own, made_by, resolve, unknown


class Classes(Protocol):
    """What a head may know of the classes; `DataCard` says it of a data set."""

    @property
    def name(self) -> str:
        """What the data are called."""

    @property
    def class_names(self) -> Sized:
        """As many as there are classes."""

    @property
    def train_counts(self) -> Tensor | Sequence[int]:
        """Training examples of each class."""

    @property
    def group_of_class(self) -> Tensor | Sequence[int] | None:
        """For each class the number of its group, if there are groups."""


AGGLOMERATED = 20_000  # classes at most of Ward's clustering: more distances than these take over 3 GB
DRAWN = 20  # classes that are drawn for an example, of however many, where a tree draws


class Knob(NamedTuple):
    """A setting of a head that is tuned beside the learning rate."""

    name: str  # the argument of the head
    low: float
    high: float
    build: Callable[[int, Classes, float], Head]


class Entry(NamedTuple):
    """How the lab makes a head, and what `softmaxes heads` says of it."""

    summary: str
    cost: str  # of the loss of one example, in features D and classes C
    build: Callable[[int, Classes], Head]  # from the size of the features and what is known of the classes
    tree: Callable[[Classes], Tree] | None = None  # of a head over one tree
    growth: Growth | None = None  # of a head that learns its tree: `build` makes the head until then
    sparse: Callable[[int, Classes], Head] | None = None  # `build` with sparse gradients, of a head that can have them
    hidden: bool = False  # whether the head sees the features through a hidden layer of its own, as wide as they are
    most_classes: int | None = None
    knob: Knob | None = None  # tried on a logarithmic scale from low to high

    @property
    def alone(self) -> bool:
        """Whether `build` gives the whole head: it learns no tree later, and no layer comes before it."""
        return self.growth is None and not self.hidden

    @property
    def least_epochs(self) -> int:
        """The fewest epochs of a run."""
        return 1 if self.growth is None else self.growth.least_epochs


def _few_rows(
    summary: str,
    cost: str,
    build: Callable[[int, Classes, bool], Head],
    tree: Callable[[Classes], Tree] | None = None,
) -> Entry:
    """A head whose loss touches few rows of its weights, so that their gradients may be sparse."""
    return Entry(
        summary,
        cost,
        lambda features, card: build(features, card, False),
        tree=tree,
        sparse=lambda features, card: build(features, card, True),
    )


def _over(tree: Callable[[Classes], Tree], summary: str, cost: str = "O(D log C)") -> Entry:
    """A head over a tree that the data gives."""
    return _few_rows(
        summary, cost, lambda features, card, sparse: HierarchicalSoftmax(features, tree(card), sparse=sparse), tree
    )


def _learned(
    learned: Callable[[Tensor], Tree], summary: str, again: bool = False, most_classes: int | None = None
) -> Entry:
    """A head over a tree of class vectors, after a flat softmax that learned them."""
    return Entry(
        summary,
        "O(D log C)",
        lambda features, card: Softmax(features, _classes(card)),
        growth=Growth(learned, again=again),
        most_classes=most_classes,
    )


def _growing(start: Entry, arity: int, put: Callable[[Head, Tree, bool], Head] = over_tree) -> Entry:
    """A head over a random tree, and then over trees of the classes' mean features."""
    growth = Growth(lambda vectors: Tree.clustered(vectors, arity=arity), from_means=True, again=True, put=put)
    return start._replace(tree=None, growth=growth)


def _grown(arity: int, summary: str) -> Entry:
    return _growing(_over(lambda card: Tree.random(_classes(card), arity=arity), summary), arity)


def _drawing_from(head: TreeSampledSoftmax, tree: Tree) -> Head:
    """The same head, which draws from this tree from now on."""
    head.draw_from(tree)
    return head


def _tree_sampled(proposal_weight: float, summary: str) -> Entry:
    return _few_rows(
        summary,
        "O(D log C)",
        lambda features, card, sparse: TreeSampledSoftmax(
            features, Tree.random(_classes(card)), DRAWN, sparse=sparse, proposal_weight=proposal_weight
        ),
    )


def _tree_of_groups(card: Classes) -> Tree:
    if card.group_of_class is None:
        raise InputError(f"hierarchical-groups: expected data with groups of classes, got {card.name}, which has none.")
    return Tree.from_groups(card.group_of_class)


def _classes(card: Classes) -> int:
    return len(card.class_names)


def _counts(card: Classes) -> Tensor:
    """Training examples of each class, at least 1: a class without any can be drawn too."""
    return torch.as_tensor(card.train_counts).clamp(min=1)


def _samples(card: Classes) -> int:
    """Classes that a sampling head draws a step: 20 of 100, 64 of 1,000, 200 of 10,000."""
    return 2 * math.ceil(math.sqrt(_classes(card)))


def _random_trees(card: Classes, number: int) -> list[Tree]:
    return [Tree.random(_classes(card), seed=seed) for seed in range(number)]


HEADS: dict[str, Entry] = {
    "softmax": Entry(
        "Softmax of a linear layer, trained with cross-entropy.",
        "O(D C)",
        lambda features, card: Softmax(features, _classes(card)),
    ),
    "softmax-hidden": Entry(
        "The same behind a hidden layer of its own: what that layer is worth.",
        "O(D^2 + D C)",
        lambda features, card: Softmax(features, _classes(card)),
        hidden=True,
    ),
    "gumbel": Entry(
        "Softmax of logits with Gumbel noise while training, temperature 1.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, _classes(card)),
        knob=Knob("scale", 0.1, 2, lambda features, card, value: GumbelSoftmax(features, _classes(card), scale=value)),
    ),
    "gumbel-normal": Entry(
        "The same with normal noise, as the original study had it.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, _classes(card), noise="normal"),
    ),
    "gumbel-annealed": Entry(
        "Gumbel noise, the temperature falling from 1 to 0.5 over the first 2,000 steps.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, _classes(card), final_temperature=0.5, anneal_steps=2000),
    ),
    "gumbel-samples": Entry(
        "Gumbel noise, the loss averaged over four draws of it for each example.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, _classes(card), num_samples=4),
    ),
    "gumbel-hard": Entry(
        "Gumbel noise, with 16 hard samples forward and the soft ones' gradient (straight-through).",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, _classes(card), straight_through=True, num_samples=16),
    ),
    "hierarchical": _over(
        lambda card: Tree.balanced(_classes(card)),
        "A logistic decision at each node of the balanced binary tree over the classes in their order.",
    ),
    "hierarchical-random": _over(
        lambda card: Tree.random(_classes(card)),
        "The same with the classes in random order: what a tree is worth that knows nothing.",
    ),
    "hierarchical-random-10": _over(
        lambda card: Tree.random(_classes(card), arity=10),
        "The same with ten children a node, a softmax at each.",
    ),
    "hierarchical-huffman": _over(
        lambda card: Tree.huffman(card.train_counts),
        "Over the Huffman tree of the training counts: frequent classes have short paths.",
    ),
    "hierarchical-groups": _over(
        _tree_of_groups, "A softmax over the data's own groups of classes, then one within the group.", "O(D sqrt C)"
    ),
    "hierarchical-late": _learned(
        lambda vectors: Tree.random(len(vectors)),
        "Over a random binary tree after a flat fifth of the epochs: what that start is worth.",
    ),
    "hierarchical-late-10": _learned(
        lambda vectors: Tree.random(len(vectors), arity=10),
        "The same with ten children a node: what that arity is worth.",
    ),
    "hierarchical-clustered": _learned(
        Tree.clustered, "Over a balanced binary tree of the class vectors that a flat fifth of the epochs has learned."
    ),
    "hierarchical-clustered-4": _learned(
        lambda vectors: Tree.clustered(vectors, arity=4), "The same with four children a node, a softmax at each."
    ),
    "hierarchical-clustered-10": _learned(
        lambda vectors: Tree.clustered(vectors, arity=10), "The same with ten children a node."
    ),
    "hierarchical-agglomerative": _learned(
        Tree.agglomerative,
        "The same over the binary tree of Ward's agglomerative clustering.",
        most_classes=AGGLOMERATED,
    ),
    "hierarchical-agglomerative-4": _learned(
        lambda vectors: Tree.agglomerative(vectors, arity=4),
        "Ward's clustering with up to four children a node.",
        most_classes=AGGLOMERATED,
    ),
    "hierarchical-agglomerative-10": _learned(
        lambda vectors: Tree.agglomerative(vectors, arity=10),
        "Ward's clustering with up to ten children a node.",
        most_classes=AGGLOMERATED,
    ),
    "hierarchical-relearned": _learned(
        Tree.clustered, "As hierarchical-clustered, and half way again over a tree of the mean features.", again=True
    ),
    "hierarchical-relearned-10": _learned(
        lambda vectors: Tree.clustered(vectors, arity=10), "The same with ten children a node.", again=True
    ),
    "hierarchical-grown": _grown(2, "As hierarchical-relearned without a flat start: at first over a random tree."),
    "hierarchical-grown-10": _grown(10, "The same with ten children a node."),
    "hierarchical-grown-10-hidden": _grown(10, "The same behind a hidden layer of its own.")._replace(
        hidden=True, cost="O(D^2 + D log C)"
    ),
    "forest": _few_rows(
        "The mean probability of four trees, each binary with the classes in an order of its own.",
        "O(D log C)",
        lambda features, card, sparse: ForestSoftmax(features, _random_trees(card, 4), sparse=sparse),
    ),
    "adaptive": Entry(
        "Frequent classes at full width, rare ones in clusters of less; cut-offs by expected cost.",
        "O(D C), less",
        lambda features, card: AdaptiveSoftmax(features, card.train_counts),
    ),
    "sampled": _few_rows(
        "Softmax trained on 2 sqrt C classes drawn by frequency, with log-q correction.",
        "O(D sqrt C)",
        lambda features, card, sparse: SampledSoftmax(
            features, Sampler.unigram(_counts(card)), _samples(card), sparse=sparse
        ),
    ),
    "tree-sampled": _tree_sampled(
        1.0,
        "Softmax trained on 20 classes for each example, half of them drawn by a random tree that learns beside it.",
    ),
    "tree-sampled-grown": _growing(
        _tree_sampled(0.3, "The same over a tree as hierarchical-grown's; its loss weighs three tenths."),
        arity=2,
        put=lambda head, tree, sparse: _drawing_from(cast(TreeSampledSoftmax, head), tree),
    ),
    "nce": _few_rows(
        "Noise-contrastive estimation, 2 sqrt C classes drawn by frequency as noise.",
        "O(D sqrt C)",
        lambda features, card, sparse: NCE(features, Sampler.unigram(_counts(card)), _samples(card), sparse=sparse),
    ),
    "negative-sampling": _few_rows(
        "A logistic decision against each of 2 sqrt C classes drawn by frequency to the power 0.75.",
        "O(D sqrt C)",
        lambda features, card, sparse: NegativeSampling(
            features, Sampler.unigram(_counts(card), 0.75), _samples(card), sparse=sparse
        ),
    ),
    "one-vs-rest": Entry(
        "A logistic decision for each class against all others, normalised to be judged.",
        "O(D C)",
        lambda features, card: OneVsRest(features, _classes(card)),
    ),
    "cosine": Entry(
        "Softmax of cosines times a scale that is learned, from 16.",
        "O(D C)",
        lambda features, card: CosineSoftmax(features, _classes(card), scale=16.0, learn_scale=True),
        knob=Knob(
            "scale",
            4,
            64,
            lambda features, card, value: CosineSoftmax(features, _classes(card), scale=value, learn_scale=True),
        ),
    ),
    "cosface": Entry(
        "Softmax of cosines times 30, the target's less a margin of 0.35 while training.",
        "O(D C)",
        lambda features, card: CosineSoftmax(features, _classes(card), cosine_margin=0.35),
    ),
    "arcface": Entry(
        "Softmax of cosines times 30, the target's angle plus 0.5 radians while training.",
        "O(D C)",
        lambda features, card: CosineSoftmax(features, _classes(card), angular_margin=0.5),
    ),
    "sparsemax": Entry(
        "Projection of the logits onto the simplex: classes with probability zero.",
        "O(D C)",
        lambda features, card: Sparsemax(features, _classes(card)),
    ),
    "entmax": Entry(
        "Between softmax and sparsemax, alpha 1.5.",
        "O(D C)",
        lambda features, card: Entmax(features, _classes(card)),
        knob=Knob("alpha", 1.05, 2, lambda features, card, value: Entmax(features, _classes(card), alpha=value)),
    ),
    "entmax-learned": Entry(
        "The same with alpha learned between 1.01 and 2, from 1.5.",
        "O(D C)",
        lambda features, card: Entmax(features, _classes(card), learn_alpha=True),
    ),
    "mixture": Entry(
        "A mixture of four softmaxes that share their class weights.",
        "O(D C + D^2)",
        lambda features, card: MixtureOfSoftmaxes(features, _classes(card)),
    ),
    "sigsoftmax": Entry(
        "Softmax with each exponential multiplied by the sigmoid of its logit.",
        "O(D C)",
        lambda features, card: Sigsoftmax(features, _classes(card)),
    ),
    "taylor": Entry(
        "The exponential's Taylor polynomial of order 2 in place of the exponential.",
        "O(D C)",
        lambda features, card: TaylorSoftmax(features, _classes(card)),
    ),
    "taylor-4": Entry(
        "The same of order 4.",
        "O(D C)",
        lambda features, card: TaylorSoftmax(features, _classes(card), order=4),
    ),
    "spherical": Entry(
        "Squares of the logits in place of exponentials.",
        "O(D C)",
        lambda features, card: SphericalSoftmax(features, _classes(card)),
    ),
}


def entry_of(name: str, option: str = "--heads", others: Sequence[str] = ()) -> Entry:
    """A head by its name: one of the lab's, or one of the user's own.

    A head of the user's own is a function or a class: ``make(in_features, classes)`` gives a `Head`, where `classes` is
    a `Classes`. A class that derives from `Head` is called with the number of classes; an `Entry` is taken as it is.

    Args:
        name: of the head.
        option: what an error begins with.
        others: words that are expected beside the names.

    Raises:
        InputError: there is no such head.
    """
    if name in HEADS:
        return HEADS[name]
    if not is_own(name):
        raise unknown(option, name, (*others, *HEADS))
    part = resolve(option, name)
    if isinstance(part, Entry):
        return part
    if not callable(part):
        raise InputError(f"{option}: expected {name} to be a function that makes a head, got {type(part).__name__}.")
    said = (inspect.getdoc(part) or "").partition("\n")[0] or "A head of the user's own."

    def build(features: int, card: Classes) -> Head:
        known = _classes(card) if isinstance(part, type) and issubclass(part, Head) else card
        head = made_by(option, name, part, features, known)
        if not isinstance(head, Head):
            raise InputError(f"{name}: expected a softmaxes.Head, got {type(head).__name__}.")
        for what, expected in (("in_features", features), ("num_classes", _classes(card))):
            if getattr(head, what) != expected:
                raise InputError(f"{name}: expected a head with {what} {expected}, got {getattr(head, what)}.")
        return head

    return Entry(said, "", build)
