"""Forensics: which of the things that the original study left open explains its figures.

What the study did not say is a factor with two or three levels. Three are of the network and the optimiser, and so of
all heads alike; the others are mistakes that a head may have had. Every level of the first is tried with every one of
the second: 12 settings of 10 heads.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from softmaxes.lab.records import DataCard, Run, Study
from softmaxes.lab.studies.seed import PUBLISHED, SETTING

RATES = (0.1, 0.01, 0.001)
FLAT = (
    "softmax",
    "softmax:twice=yes",
    "gumbel-normal",
    "gumbel:noise=normal,noisy_test=yes",
    "gumbel:noise=normal,of_probabilities=yes",
    "gumbel:noise=normal,noisy_test=yes,of_probabilities=yes",
)
TREES = ("hierarchical", "hierarchical:unused_leaves=yes")
LAYER = {"hidden_units": 100}  # before the tree, or none
HEADS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((head, {}) for head in FLAT),
    *((head, own) for head in TREES for own in (LAYER, {})),
)


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """Every head at every setting that the original study may have had.

    Args:
        card: the data; the study's own was CIFAR-100.
        seeds: how many seeds of each.
        changes: settings that the user wants otherwise.

    Returns:
        The study, with the published table that its settings are set beside.
    """
    shared = [
        {"lr": lr, "standardise": standardise, "padding": padding}
        for lr, standardise, padding in product(RATES, (True, False), (1, 0))
    ]
    return Study(
        name="forensics",
        title="What explains the original study's figures",
        description=(
            "What the original study did not say: its learning rate (0.1, 0.01 or 0.001), whether pixels were "
            "standardised or brought to 0..1, whether convolutions were padded, whether a layer of 100 units came "
            "before the tree, and four mistakes: a softmax before the loss that takes one itself; noise in the test; "
            "the negative probability as the loss in place of its logarithm; and leaves of the tree that are no class."
        ),
        runs=tuple(
            Run(
                head=head,
                seed=seed,
                data=card.name,
                fingerprint=card.fingerprint,
                **(SETTING | setting | own | dict(changes)),
            )
            for seed in range(seeds)
            for setting in shared
            for head, own in HEADS
        ),
        published=PUBLISHED,
        published_source="the original study, CIFAR-100, one seed",
    )
