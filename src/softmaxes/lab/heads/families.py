"""The heads of the lab. A new one is a function here: its name is the head's, its arguments are the head's settings.

The first sentence of its docstring is what ``softmaxes heads`` says of it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
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
from softmaxes.files import InputError
from softmaxes.lab.heads.entry import Classes, Entry, Knob
from softmaxes.lab.heads.growth import Growth, over_tree
from softmaxes.lab.heads.mistakes import LeakyTree, NoisySoftmax, SoftmaxTwice

AGGLOMERATED = 20_000  # classes at most of Ward's clustering: more distances than these take over 3 GB
FLAT = "O(D C)"
FEW = "O(D sqrt C)"
PATH = "O(D log C)"
WITH_LAYER = {FLAT: "O(D^2 + D C)", FEW: "O(D^2 + D sqrt C)", PATH: "O(D^2 + D log C)"}
WITH_LAYERS = {FEW: "O(D^2 + D sqrt C)", PATH: "O(D^2 log C)"}

FAMILIES: dict[str, Callable[..., Entry]] = {}
KINDS: dict[str, str] = {}  # of each

Arity = Annotated[int, Field(ge=2, le=10**6, description="Most children of a node.")]
Hidden = Annotated[
    bool, Field(description="Whether the head sees the features through a hidden layer of its own, as wide as they.")
]
Drawn = Annotated[int | None, Field(ge=1, le=10**6, description="Classes drawn a step; 2 sqrt C if not given.")]
Relearn = Annotated[
    bool, Field(description="Whether a second tree is learned halfway, from the classes' mean features.")
]


def _family(kind: str) -> Callable[[Callable[..., Entry]], Callable[..., Entry]]:
    """A head of the lab, of a kind under which `softmaxes heads` lists it."""

    def known(make: Callable[..., Entry]) -> Callable[..., Entry]:
        name = make.__name__.replace("_", "-")
        FAMILIES[name], KINDS[name] = make, kind
        return make

    return known


def _few_rows(
    cost: str, build: Callable[[int, Classes, bool], Head], tree: Callable[[Classes], Tree] | None = None
) -> Entry:
    """A head whose loss touches few rows of its weights, so that their gradients may be sparse."""
    return Entry(
        lambda features, card: build(features, card, False),
        cost,
        tree=tree,
        sparse=lambda features, card: build(features, card, True),
    )


def _behind_a_layer(entry: Entry, hidden: bool) -> Entry:
    return entry._replace(hidden=True, cost=WITH_LAYER[entry.cost]) if hidden else entry


def _classes(card: Classes) -> int:
    return len(card.class_names)


def _counts(card: Classes) -> Tensor:
    """Training examples of each class, at least 1: a class without any can be drawn too."""
    return torch.as_tensor(card.train_counts).clamp(min=1)


def _drawn(card: Classes, samples: int | None) -> int:
    """Classes that a sampling head draws a step: 20 of 100, 64 of 1,000, 200 of 10,000."""
    return 2 * math.ceil(math.sqrt(_classes(card))) if samples is None else samples


def _tree_of_groups(card: Classes) -> Tree:
    if card.group_of_class is None:
        raise InputError(f"hierarchical-groups: expected data with groups of classes, got {card.name}, which has none.")
    return Tree.from_groups(card.group_of_class, *card.coarser_groups)


@_family("flat")
def softmax(
    hidden: Hidden = False,
    twice: Annotated[
        bool, Field(description="A mistake: whether the loss takes the softmax of the softmax. For studies of it.")
    ] = False,
) -> Entry:
    """Softmax of a linear layer, trained with cross-entropy."""
    make = SoftmaxTwice if twice else Softmax
    return _behind_a_layer(Entry(lambda features, card: make(features, _classes(card)), FLAT), hidden)


@_family("flat")
def gumbel(
    scale: Annotated[float, Field(description="Of the noise.")] = 1.0,
    noise: Annotated[Literal["gumbel", "normal"], Field(description="Its distribution.")] = "gumbel",
    final_temperature: Annotated[
        float | None, Field(description="To which the temperature falls from 1; it stays if not given.")
    ] = None,
    anneal_steps: Annotated[
        int | None, Field(ge=1, le=10**9, description="Steps in which it falls, given a final temperature.")
    ] = None,
    num_samples: Annotated[int, Field(ge=1, le=10**4, description="Draws of the noise for each example.")] = 1,
    straight_through: Annotated[
        bool, Field(description="Whether samples are hard forward, with the soft ones' gradient.")
    ] = False,
    noisy_test: Annotated[
        bool, Field(description="A mistake: whether the test has the noise of training. For studies of it.")
    ] = False,
    of_probabilities: Annotated[
        bool,
        Field(description="A mistake: whether the loss is -p, and not -log p, of the target. For studies of it."),
    ] = False,
) -> Entry:
    """Softmax of logits with Gumbel noise while training, temperature 1."""
    if noisy_test or of_probabilities:
        if (scale, noise, final_temperature, num_samples, straight_through) != (1.0, "normal", None, 1, False):
            raise InputError("noisy_test, of_probabilities: expected noise=normal and no other setting.")
        mistaken = partial(NoisySoftmax, noisy_test=noisy_test, of_probabilities=of_probabilities)
        return Entry(lambda features, card: mistaken(features, _classes(card)), FLAT)

    def build(features: int, card: Classes, scale: float = scale) -> Head:
        return GumbelSoftmax(
            features,
            _classes(card),
            scale=scale,
            noise=noise,
            final_temperature=final_temperature,
            anneal_steps=anneal_steps,
            num_samples=num_samples,
            straight_through=straight_through,
        )

    return Entry(build, FLAT, knob=Knob("scale", 0.1, 2, build))


@_family("trees")
def hierarchical(
    tree: Annotated[
        Literal["balanced", "random", "huffman", "groups", "clustered", "agglomerative"],
        Field(
            description="Over the classes in their order, or in random order; by the training counts; the data's own "
            "groups; or learned from class vectors: by balanced clusters, or by Ward's clustering."
        ),
    ] = "balanced",
    arity: Arity = 2,
    start: Annotated[
        Literal["tree", "flat", "random"] | None,
        Field(
            description="What is trained for the first fifth of the epochs: the tree itself, or a flat softmax, or a "
            "random tree. If not given, flat where the tree is learned, and else the tree itself."
        ),
    ] = None,
    relearn: Relearn = False,
    hidden: Hidden = False,
    layers: Annotated[
        bool, Field(description="Whether each level of the tree sees the features through a hidden layer of its own.")
    ] = False,
    unused_leaves: Annotated[
        bool, Field(description="A mistake: whether leaves that are no class take probability. For studies of it.")
    ] = False,
) -> Entry:
    """A logistic decision at each node of the balanced binary tree over the classes in their order."""
    known: dict[str, Callable[[Classes], Tree]] = {
        "balanced": lambda card: Tree.balanced(_classes(card), arity=arity),
        "random": lambda card: Tree.random(_classes(card), arity=arity),
        "huffman": lambda card: Tree.huffman(card.train_counts, arity=arity),
        "groups": _tree_of_groups,
    }
    learned: dict[str, Callable[[Tensor], Tree]] = {
        "balanced": lambda vectors: Tree.balanced(len(vectors), arity=arity),
        "random": lambda vectors: Tree.random(len(vectors), arity=arity),
        "clustered": lambda vectors: Tree.clustered(vectors, arity=arity),
        "agglomerative": lambda vectors: Tree.agglomerative(vectors, arity=arity),
    }
    start = start or ("tree" if tree in known else "flat")
    if unused_leaves:
        if (tree, arity, start, relearn, layers) != ("balanced", 2, "tree", False, False):
            raise InputError("unused_leaves: expected no with another tree than the balanced binary one, got yes.")
        return _behind_a_layer(Entry(lambda features, card: LeakyTree(features, _classes(card)), PATH), hidden)
    if tree == "groups" and arity != 2:
        raise InputError(f"arity: expected none with tree=groups, whose nodes have the groups' sizes, got {arity}.")
    if tree not in (known if start == "tree" else learned):
        able = " or ".join(known if start == "tree" else learned)
        raise InputError(f"start: expected {able} as the tree with start={start}, got {tree}.")
    if start == "tree":
        if relearn:
            raise InputError("relearn: expected no with start=tree, which learns no tree, got yes.")
        entry = _over(known[tree], layers)
    else:
        put = partial(over_tree, level_layers=layers)
        growth = Growth(learned[tree], from_means=start == "random", again=relearn, put=put)
        entry = _over(known["random"], layers) if start == "random" else softmax()._replace(cost=PATH)
        entry = entry._replace(tree=None, growth=growth)
    if tree == "agglomerative":
        entry = entry._replace(most_classes=AGGLOMERATED)
    entry = entry._replace(cost=FEW) if tree == "groups" else entry
    return entry._replace(cost=WITH_LAYERS[entry.cost]) if layers and not hidden else _behind_a_layer(entry, hidden)


def _over(tree: Callable[[Classes], Tree], layers: bool) -> Entry:
    """A head over a tree that the data gives."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return HierarchicalSoftmax(features, tree(card), sparse=sparse, level_layers=layers)

    return _few_rows(PATH, build, tree)


@_family("trees")
def forest(trees: Annotated[int, Field(ge=1, le=1000, description="How many.")] = 4) -> Entry:
    """The mean probability of four trees, each binary with the classes in an order of its own."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return ForestSoftmax(features, [Tree.random(_classes(card), seed=seed) for seed in range(trees)], sparse=sparse)

    return _few_rows(PATH, build)


@_family("clusters by frequency")
def adaptive() -> Entry:
    """Frequent classes at full width, rare ones in clusters of less; cut-offs by expected cost."""
    return Entry(lambda features, card: AdaptiveSoftmax(features, card.train_counts), "O(D C), less")


@_family("sampled")
def sampled(samples: Drawn = None) -> Entry:
    """Softmax trained on 2 sqrt C classes drawn by frequency, with log-q correction."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return SampledSoftmax(features, Sampler.unigram(_counts(card)), _drawn(card, samples), sparse=sparse)

    return _few_rows(FEW, build)


@_family("sampled")
def tree_sampled(
    samples: Annotated[int, Field(ge=1, le=10**6, description="Classes that are drawn for an example.")] = 20,
    proposal_weight: Annotated[float, Field(description="Weight of the tree's own loss.")] = 1.0,
    tree: Annotated[
        Literal["random", "clustered"],
        Field(description="That draws: a random one, or one learned from the classes' mean features, at first random."),
    ] = "random",
    arity: Arity = 2,
    relearn: Relearn = False,
) -> Entry:
    """Softmax trained on 20 classes for each example, half of them drawn by a random tree that learns beside it."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        first = Tree.random(_classes(card), arity=arity)
        return TreeSampledSoftmax(features, first, samples, sparse=sparse, proposal_weight=proposal_weight)

    def drawing_from(head: Head, tree: Tree, sparse: bool) -> Head:
        """The same head, which draws from this tree from now on."""
        cast(TreeSampledSoftmax, head).draw_from(tree)
        return head

    entry = _few_rows(PATH, build)
    if tree == "random":
        if relearn:
            raise InputError("relearn: expected no with tree=random, which is not learned, got yes.")
        return entry
    learned = partial(Tree.clustered, arity=arity)
    return entry._replace(growth=Growth(learned, from_means=True, again=relearn, put=drawing_from))


@_family("sampled")
def neighbor_sampled(
    samples: Drawn = None,
    neighbors: Annotated[int, Field(ge=1, le=10**4, description="Nearest classes of the target, all taken.")] = 16,
) -> Entry:
    """Softmax trained on the target's 16 nearest classes, and on 2 sqrt C classes drawn uniformly."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return NeighborSampledSoftmax(features, _classes(card), _drawn(card, samples), neighbors, sparse=sparse)

    entry = _few_rows(FEW, build)
    return entry._replace(refresh=lambda head: cast(NeighborSampledSoftmax, head).refresh())


@_family("sampled")
def nce(samples: Drawn = None) -> Entry:
    """Noise-contrastive estimation, 2 sqrt C classes drawn by frequency as noise."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return NCE(features, Sampler.unigram(_counts(card)), _drawn(card, samples), sparse=sparse)

    return _few_rows(FEW, build)


@_family("sampled")
def negative_sampling(
    samples: Drawn = None,
    power: Annotated[float, Field(description="Of the frequency, by which classes are drawn.")] = 0.75,
) -> Entry:
    """A logistic decision against each of 2 sqrt C classes drawn by frequency to the power 0.75."""

    def build(features: int, card: Classes, sparse: bool) -> Head:
        return NegativeSampling(features, Sampler.unigram(_counts(card), power), _drawn(card, samples), sparse=sparse)

    return _few_rows(FEW, build)


@_family("a decision for each class")
def one_vs_rest() -> Entry:
    """A logistic decision for each class against all others, normalised to be judged."""
    return Entry(lambda features, card: OneVsRest(features, _classes(card)), FLAT)


@_family("cosine")
def cosine(
    scale: Annotated[float, Field(description="By which cosines are multiplied.")] = 16.0,
    learn_scale: Annotated[bool, Field(description="Whether the scale is learned, from there.")] = True,
    cosine_margin: Annotated[float, Field(description="Of the target's cosine, in training.")] = 0.0,
    angular_margin: Annotated[float, Field(description="Of the target's angle, in training, in radians.")] = 0.0,
) -> Entry:
    """Softmax of cosines times a scale that is learned, from 16."""

    def build(features: int, card: Classes, scale: float = scale) -> Head:
        return CosineSoftmax(
            features,
            _classes(card),
            scale=scale,
            learn_scale=learn_scale,
            cosine_margin=cosine_margin,
            angular_margin=angular_margin,
        )

    return Entry(build, FLAT, knob=Knob("scale", 4, 64, build))


@_family("sparse")
def sparsemax() -> Entry:
    """Projection of the logits onto the simplex: classes with probability zero."""
    return Entry(lambda features, card: Sparsemax(features, _classes(card)), FLAT)


@_family("sparse")
def entmax(
    alpha: Annotated[float, Field(description="1 is softmax, 2 sparsemax.")] = 1.5,
    learn_alpha: Annotated[bool, Field(description="Whether alpha is learned between 1.01 and 2, from there.")] = False,
) -> Entry:
    """Between softmax and sparsemax, alpha 1.5."""

    def build(features: int, card: Classes, alpha: float = alpha) -> Head:
        return Entmax(features, _classes(card), alpha=alpha, learn_alpha=learn_alpha)

    return Entry(build, FLAT, knob=None if learn_alpha else Knob("alpha", 1.05, 2, build))


@_family("other shapes")
def mixture(components: Annotated[int, Field(ge=1, le=1000, description="Softmaxes that are mixed.")] = 4) -> Entry:
    """A mixture of four softmaxes that share their class weights."""
    return Entry(
        lambda features, card: MixtureOfSoftmaxes(features, _classes(card), num_components=components), "O(D C + D^2)"
    )


@_family("other shapes")
def sigsoftmax() -> Entry:
    """Softmax with each exponential multiplied by the sigmoid of its logit."""
    return Entry(lambda features, card: Sigsoftmax(features, _classes(card)), FLAT)


@_family("other shapes")
def taylor(order: Annotated[int, Field(description="Of the polynomial; even.")] = 2) -> Entry:
    """The exponential's Taylor polynomial of order 2 in place of the exponential."""
    return Entry(lambda features, card: TaylorSoftmax(features, _classes(card), order=order), FLAT)


@_family("other shapes")
def spherical() -> Entry:
    """Squares of the logits in place of exponentials."""
    return Entry(lambda features, card: SphericalSoftmax(features, _classes(card)), FLAT)
