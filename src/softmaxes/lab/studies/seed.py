"""The original study: three output layers on CIFAR-100, the starting point of this project.

What it left open and where it was wrong is told in ``docs/original-study.md``, with what is done here and why.
"""

from collections.abc import Mapping
from typing import Any

from softmaxes.lab.records import DataCard, Published, Run, Study

HEADS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "gumbel-normal": {},
    "hierarchical": {"hidden_units": 100},  # the layer that the study put before its tree
}
SETTING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "lr": 0.1, "lr_schedule": "constant", "padding": 1}

PUBLISHED = (
    Published(head="softmax", accuracy=0.2314, precision=0.237453, recall=0.2314, f1=0.212231, epoch_seconds=61.13),
    Published(
        head="gumbel-normal", accuracy=0.1671, precision=0.173658, recall=0.1671, f1=0.163595, epoch_seconds=58.39
    ),
    Published(head="hierarchical", accuracy=0.1183, precision=0.147382, recall=0.1183, f1=0.102985),
)


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Study:
    """The study's runs on a data set.

    Args:
        card: the data; the study's own was CIFAR-100.
        seeds: how many seeds a head; the study had one.
        changes: settings that the user wants otherwise.

    Returns:
        The study, with its published table.
    """
    runs = tuple(
        Run(head=head, seed=seed, data=card.name, fingerprint=card.fingerprint, **(SETTING | own | dict(changes)))
        for seed in range(seeds)
        for head, own in HEADS.items()
    )
    same_data = card.name == "cifar100"
    return Study(
        name="seed",
        title="The original study, repeated",
        description=(
            f"Three output layers on one {runs[0].network}: softmax with cross-entropy; the softmax of logits with "
            "normal noise, which the study called Gumbel-softmax; and hierarchical softmax over a binary tree of 128 "
            "leaves behind a layer of 100 units. "
            + (
                "The data are the study's own, CIFAR-100."
                if same_data
                else f"The study's data were CIFAR-100; these are {card.name}, so the published figures are set beside "
                "ours for orientation and not for comparison."
            )
        ),
        runs=runs,
        published=PUBLISHED,
        published_source="the original study, CIFAR-100, one seed",
    )
