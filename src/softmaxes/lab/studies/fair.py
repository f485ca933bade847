"""The comparison that holds: each head at its own best setting, paired seeds, a control for each tree."""

from collections.abc import Mapping
from typing import Any

from softmaxes.lab.records import DataCard, Study, Tuning, seed_by_seed, suited

HEADS = (
    "softmax",
    "softmax-hidden",
    "gumbel",
    "hierarchical",
    "hierarchical-random",
    "hierarchical-grown-10",
    "hierarchical-random-10",
    "hierarchical-grown-10-hidden",
    "hierarchical-grown-10-layers",
    "hierarchical-relearned-10",
    "hierarchical-late-10",
    "adaptive",
    "sampled",
    "tree-sampled",
    "tree-sampled-grown",
    "entmax",
    "cosine",
)
TRIALS = 6
HELD_OUT = 0.1


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """Heads that differ in kind, each tuned with the same effort.

    Args:
        card: the data.
        seeds: how many seeds a head.
        changes: settings that the user wants otherwise; no learning rate.

    Returns:
        The study, yet to be tuned.
    """
    setting = {"data": card.name, "fingerprint": card.fingerprint, "validation": HELD_OUT} | suited(card.kind, changes)
    return Study(
        name="fair",
        title=f"A comparison that holds, on {card.name}",
        description=(
            "One trunk, heads that differ in kind: softmax; with Gumbel noise; hierarchical over the classes in "
            "their order, over a tree that it grows in training, and over one that a flat start has learned, each "
            "with its control, a random tree of that arity after the same start; adaptive; sampled by frequency, by a "
            "random tree and by a grown one; entmax; cosine. Softmax and the grown tree also behind a hidden layer of "
            "their own, as wide as the features, and the grown tree with such a layer for each of its levels. All are "
            "decoded exactly, by the most probable class."
        ),
        runs=seed_by_seed(HEADS, range(seeds), **setting),
        tuning=Tuning(trials=TRIALS),
    )
