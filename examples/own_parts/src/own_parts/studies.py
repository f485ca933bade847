"""A study: two heads at two learning rates each."""

from collections.abc import Iterable, Mapping
from typing import Any

from softmaxes.lab import DataCard, Run

HEADS = ("softmax", "own_parts.heads:tempered")
RATES = (0.05, 0.2)


def study(card: DataCard, seeds: int, changes: Mapping[str, Any]) -> Iterable[Run]:
    """Every head at every learning rate.

    Args:
        card: what is known of the data.
        seeds: how many seeds of each.
        changes: fields of `Run` that the user changed, e.g. by --epochs.
    """
    for seed in range(seeds):
        for head in HEADS:
            for rate in RATES:
                setting = {"lr": rate, "epochs": 3, "backbone": "own_parts.backbones:pooled", **changes}
                yield Run(head=head, seed=seed, data=card.name, fingerprint=card.fingerprint, **setting)
