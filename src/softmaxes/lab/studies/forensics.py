"""Forensics: which of the things that the original study left open explains its figures.

What the study did not say is a factor with two or three levels. Learning rate, pixels and padding are the same for all
heads; a layer before the tree and four mistakes belong to one head. Not every combination is tried. The learning rate
0.01 has the heads of the seed study and noise in the test, 0.001 those heads at one setting, and the mistakes under
which the study could hardly have learned anything are tried at two settings.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from softmaxes.lab.records import DataCard, Run, Study
from softmaxes.lab.studies.seed import HEADS, PUBLISHED, SETTING

Setting = dict[str, Any]
PIXELS: tuple[Setting, ...] = tuple(
    {"standardise": standardise, "padding": padding} for standardise, padding in product((False, True), (0, 1))
)
OURS: Setting = {"standardise": True, "padding": 1}  # as the seed study has it
PLAINEST: Setting = {"standardise": False, "padding": 0}
LAYER = HEADS["hierarchical"]
NOISY: tuple[str, Setting] = ("gumbel:noise=normal,noisy_test=yes", {})
LIKELY: tuple[tuple[str, Setting], ...] = (
    *HEADS.items(),
    NOISY,
    ("hierarchical", {}),
    ("hierarchical:unused_leaves=yes", LAYER),
    ("hierarchical:unused_leaves=yes", {}),
)
UNLIKELY: tuple[tuple[str, Setting], ...] = (
    ("softmax:twice=yes", {}),
    ("gumbel:noise=normal,of_probabilities=yes", {}),
    ("gumbel:noise=normal,noisy_test=yes,of_probabilities=yes", {}),
)


def _settings() -> Iterator[tuple[str, Setting]]:
    """Each head with each of its settings, those that are likely first."""
    for pixels, (head, own) in product(PIXELS, LIKELY):
        yield head, {"lr": 0.1} | pixels | own
    for pixels, (head, own) in product(PIXELS, (*HEADS.items(), NOISY)):
        yield head, {"lr": 0.01} | pixels | own
    for pixels, (head, own) in product((OURS, PLAINEST), UNLIKELY):
        yield head, {"lr": 0.1} | pixels | own
    for head, own in HEADS.items():
        yield head, {"lr": 0.001} | OURS | own


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """The heads of the original study at the settings that it may have had.

    Args:
        card: the data; the study's own was CIFAR-100.
        seeds: how many seeds of each.
        changes: settings that the user wants otherwise.

    Returns:
        The study, with the published table that its settings are set beside.
    """
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
            dict.fromkeys(  # settings that the user's changes make equal are one
                Run(
                    head=head,
                    seed=seed,
                    data=card.name,
                    fingerprint=card.fingerprint,
                    **(SETTING | setting | dict(changes)),
                )
                for seed in range(seeds)
                for head, setting in _settings()
            )
        ),
        published=PUBLISHED,
        published_source="the original study, CIFAR-100, one seed",
    )
