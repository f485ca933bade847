"""What a tree is worth: one head, many trees, a flat softmax beside them."""

from collections.abc import Mapping
from typing import Any

from softmaxes.lab.records import DataCard, LeftOut, Study, seed_by_seed, suited

TREES = (
    "hierarchical",
    "hierarchical-random",
    "hierarchical-random-10",
    "hierarchical-huffman",
    "hierarchical-groups",
    "hierarchical:tree=random,start=flat",
    "hierarchical-late-10",
    "hierarchical-clustered",
    "hierarchical:tree=clustered,arity=4",
    "hierarchical:tree=clustered,arity=10",
    "hierarchical:tree=agglomerative",
    "hierarchical:tree=agglomerative,arity=4",
    "hierarchical:tree=agglomerative,arity=10",
    "hierarchical:tree=clustered,relearn=yes",
    "hierarchical-relearned-10",
    "hierarchical-grown",
    "hierarchical-grown-10",
    "hierarchical-grown-10-hidden",
)


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """A flat softmax, every tree of the lab, and a forest of four random trees, for the same number of epochs.

    Args:
        card: the data.
        seeds: how many seeds a head.
        changes: settings that the user wants otherwise.

    Returns:
        The study; the tree of groups is left out where the data knows no groups.
    """
    no_groups = card.group_of_class is None
    heads = [head for head in ("softmax", *TREES, "forest") if not (no_groups and head == "hierarchical-groups")]
    setting = {"data": card.name, "fingerprint": card.fingerprint} | suited(card.kind, changes)
    return Study(
        name="trees",
        title=f"What a tree is worth on {card.name}",
        description=(
            "One head, hierarchical softmax, over trees that differ in where they come from: the order of the classes, "
            "chance, their frequency, the data's own groups, and clusterings of the class vectors that a flat softmax "
            "has learned in the first fifth of the epochs. Each has all epochs of the others, those counted in. "
            "Random trees are the control: from the start, and after the same flat beginning."
        ),
        runs=seed_by_seed(heads, range(seeds), **setting),
        left_out=(
            (LeftOut(head="hierarchical-groups", reason=f"expected data with groups of classes, got {card.name}."),)
            if no_groups
            else ()
        ),
    )
