"""Very many classes that are learned: heads whose step does not grow with their number, beside a flat softmax."""

from collections.abc import Mapping
from typing import Any

from softmaxes.lab.records import DataCard, Study, Tuning, seed_by_seed, suited

HEADS = (
    "softmax",
    "sampled:samples=1024",
    "neighbor-sampled:samples=1024",
    "tree-sampled-grown",
    "hierarchical-groups",
    "hierarchical-grown-10",
    "hierarchical-huffman",
    "adaptive",
)
SETTING: dict[str, Any] = {"epochs": 8, "batch_size": 256, "validation": 0.1}
TRIALS = 6


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """Heads for very many classes, each tuned with the same effort.

    Args:
        card: the data; those without groups of classes have no tree of them.
        seeds: how many seeds a head.
        changes: settings that the user wants otherwise; no learning rate.

    Returns:
        The study, yet to be tuned.
    """
    setting = {"data": card.name, "fingerprint": card.fingerprint} | SETTING | suited(card.kind, changes)
    heads = [head for head in HEADS if head != "hierarchical-groups" or card.group_of_class is not None]
    return Study(
        name="many",
        title=f"Very many classes, {card.num_classes:,} of {card.name}",
        description=(
            "One trunk, and heads for very many classes: a flat softmax; trained on uniform draws, on the target's "
            "nearest classes and uniform draws, and on draws from a tree that is grown in training; hierarchical over "
            "the data's own groups, over a grown tree of arity 10, and over a Huffman tree; adaptive. All are decoded "
            "exactly, by the most probable class."
        ),
        runs=seed_by_seed(heads, range(seeds), **setting),
        tuning=Tuning(trials=TRIALS),
    )
