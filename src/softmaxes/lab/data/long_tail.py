"""A long-tailed part of a training set: few classes with many examples, many with few."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from softmaxes.files import InputError
from softmaxes.lab.data.dataset import Data


def long_tail(data: Data, ratio: float, seed: int = 0) -> Data:
    r"""The data with a training set whose classes become rarer exponentially; the test set stays as it is.

    A class of rank r keeps the share :math:`\rho^{-r / (C - 1)}` of its training examples, rounded down, but at least
    one: the first all, the last one in `ratio`. Ranks and examples are drawn from `seed`, so they are the same for
    every head and at every repetition; and a smaller ratio keeps all that a larger one does.

    Args:
        data: what the part is taken of; its classes need not have equally many examples.
        ratio: how much more frequent the first class becomes than the last, :math:`\rho` above.
        seed: decides which classes become rare, and which of their examples are kept.

    Raises:
        InputError: the ratio is not above 1, or the training inputs lie in files, where they may be more than fits.

    Reference:
        Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on Effective Number of Samples", 2019.
    """
    check_ratio(ratio)
    data.check_in_memory("--long-tail")
    generator = torch.Generator().manual_seed(seed)
    rank = torch.randperm(data.num_classes, generator=generator)
    own = data.validation
    trained = torch.arange(len(data.train_labels)) if own is None else (~own).nonzero().flatten()
    labels = data.train_labels[trained]
    counts = data.counts(labels)
    rows = trained[_first(labels, counts, _kept(counts, rank, ratio), generator)]
    if own is not None:  # which stays as it is
        rows = torch.cat([rows, own.nonzero().flatten()]).sort().values
    examples = None if data.train_examples is None else data.train_examples[rows]
    return replace(
        data,
        name=f"{data.name}:tail-{ratio:.12g}",
        description=f"{data.description.rstrip('.')}; long-tailed by the exponential law of Cui et al., 2019: of the "
        f"class of rank r the share {ratio:.12g}^(-r/(C-1)) of its training examples, ranks drawn at seed {seed}.",
        train_inputs=data.train_inputs[rows],
        train_labels=data.train_labels[rows],
        validation=None if own is None else own[rows],
        train_examples=None if examples is None else (examples.diff(prepend=examples[:1]) != 0).cumsum(0),
    )


def check_ratio(ratio: float) -> None:
    """Refuse a ratio that leaves no tail; for that no data are needed."""
    if not (ratio > 1 and math.isfinite(ratio)):
        raise InputError(f"--long-tail: expected a number above 1, got {ratio:g}.")


def _kept(counts: Tensor, rank: Tensor, ratio: float) -> Tensor:
    """How many examples of each class are kept, (C,)."""
    shares = ratio ** (rank.double() / (len(rank) - 1))
    return (counts / shares).floor().long().maximum(counts.clamp(max=1))


def _first(labels: Tensor, counts: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of the examples that are kept of each class, the first in an order that is drawn; ascending."""
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within its class
    return by_class[place < kept.repeat_interleave(counts)].sort().values
