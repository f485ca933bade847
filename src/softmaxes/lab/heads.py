"""The heads by name: the only registry. A new head is one entry."""

from collections.abc import Callable
from typing import NamedTuple

from softmaxes import GumbelSoftmax, Head, HierarchicalSoftmax, Softmax, Tree
from softmaxes.lab import InputError
from softmaxes.lab.run import DataCard


class Entry(NamedTuple):
    """How the lab makes a head, and what `softmaxes heads` says of it."""

    summary: str
    cost: str  # of the loss of one example, in features D and classes C
    build: Callable[[int, DataCard], Head]  # from the size of the features and what is known of the classes


def _tree_of_groups(card: DataCard) -> Tree:
    if card.group_of_class is None:
        raise InputError(f"hierarchical-groups: expected data with groups of classes, got {card.name}, which has none.")
    return Tree.from_groups(card.group_of_class)


HEADS: dict[str, Entry] = {
    "softmax": Entry(
        "Softmax of a linear layer, trained with cross-entropy.",
        "O(D C)",
        lambda features, card: Softmax(features, len(card.class_names)),
    ),
    "gumbel": Entry(
        "Softmax of logits with Gumbel noise while training, temperature 1.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, len(card.class_names)),
    ),
    "gumbel-normal": Entry(
        "The same with normal noise, as the original study had it.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, len(card.class_names), noise="normal"),
    ),
    "gumbel-annealed": Entry(
        "Gumbel noise, the temperature falling from 1 to 0.5 over the first 2,000 steps.",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, len(card.class_names), final_temperature=0.5, anneal_steps=2000),
    ),
    "gumbel-hard": Entry(
        "Gumbel noise, with a hard sample forward and the soft one's gradient (straight-through).",
        "O(D C)",
        lambda features, card: GumbelSoftmax(features, len(card.class_names), straight_through=True),
    ),
    "hierarchical": Entry(
        "A logistic decision at each node of the balanced binary tree over the classes in their order.",
        "O(D log C)",
        lambda features, card: HierarchicalSoftmax(features, Tree.balanced(len(card.class_names))),
    ),
    "hierarchical-groups": Entry(
        "A softmax over the data's own groups of classes, then one within the group.",
        "O(D sqrt C)",
        lambda features, card: HierarchicalSoftmax(features, _tree_of_groups(card)),
    ),
}
