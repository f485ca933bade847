"""Classes drawn at random, each with its probability, at a cost that does not depend on how many classes there are."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from softmaxes import checks
from softmaxes.on_cpu import on_cpu
from softmaxes.structure import Structure

SCALE = 2.0**62  # tables are of integers, in this unit: a head turned to bfloat16 must draw as before


class Sampler(nn.Module):
    r"""Draws classes from a fixed distribution :math:`q`, each in constant time, by Walker's alias method.

    Where K are drawn at once, the k-th column of the alias table is drawn from the k-th of K equal parts of the table.
    So each class is drawn :math:`K q_c` times on average, exactly as with independent draws, with less variance; and C
    draws from the uniform distribution are each class once.

    Args:
        weight: for each class a number above 0 to which its probability is proportional, (C,).

    Attributes:
        probability: :math:`q`, (C,), float64, on the CPU.
        num_classes: C.

    Raises:
        TypeError: the weights are not numbers.
        ValueError: a weight is not finite and above 0, or there are fewer than 2.

    Cost:
        O(C log C) to build, 24 bytes a class on the head's device, 8 on the CPU; O(K) for K draws.

    Example:
        >>> from softmaxes import Sampler
        >>> sampler = Sampler.unigram([8, 4, 2, 1, 1], power=0.75)
        >>> sampler.sample(3).shape
        torch.Size([3])
        >>> sampler
        Sampler(num_classes=5)

    Reference:
        A. J. Walker. An efficient method for generating discrete random variables with general distributions. 1977.
    """

    @on_cpu
    def __init__(self, weight: Tensor | Sequence[float]) -> None:
        super().__init__()
        weights = class_weights("Sampler", "weight", weight)
        if bool((weights == 0).any()):
            nothing = int((weights == 0).int().argmax())
            raise ValueError(
                "Sampler: expected weights above 0, so that every class can be drawn, got 0 for class "
                f"{nothing}; add 1 to counts that may be 0."
            )
        self.probability = weights / weights.sum()
        self.num_classes = len(weights)
        self.structure = Structure(partial(_tables, self.probability), "cpu")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.structure.follow(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @classmethod
    @on_cpu
    def uniform(cls, num_classes: int) -> "Sampler":
        """Every class alike.

        Example:
            >>> from softmaxes import Sampler
            >>> Sampler.uniform(1000)
            Sampler(num_classes=1000)
        """
        return cls(torch.ones(max(checks.integer("Sampler", "num_classes", num_classes), 0), dtype=torch.float64))

    @classmethod
    @on_cpu
    def log_uniform(cls, counts: Tensor | Sequence[float]) -> "Sampler":
        r"""By rank: the class of rank r, from 0, has probability :math:`\log\frac{r + 2}{r + 1} / \log(C + 1)`.

        Args:
            counts: examples of each class, (C,), in any order. Of classes with equal counts the first comes first.

        Example:
            >>> from softmaxes import Sampler
            >>> Sampler.log_uniform([1, 3, 2]).probability
            tensor([0.2075, 0.5000, 0.2925], dtype=torch.float64)
        """
        order = class_weights("Sampler", "counts", counts).argsort(descending=True, stable=True)
        rank = torch.arange(len(order), dtype=torch.float64)
        weight = torch.empty(len(order), dtype=torch.float64)
        weight[order] = torch.log1p(1 / (rank + 1))
        return cls(weight)

    @classmethod
    @on_cpu
    def unigram(cls, counts: Tensor | Sequence[float], power: float = 1.0) -> "Sampler":
        """By frequency: in proportion to the counts, or to a power of them; word2vec takes 0.75.

        Args:
            counts: examples of each class, (C,), each above 0.
            power: the exponent; 0 is uniform.

        Example:
            >>> from softmaxes import Sampler
            >>> Sampler.unigram([1, 3, 2]).probability
            tensor([0.1667, 0.5000, 0.3333], dtype=torch.float64)
        """
        power = checks.number("Sampler", "power", power, "finite", checks.is_finite)
        return cls(class_weights("Sampler", "counts", counts).pow(power))

    @property
    def tables(self) -> "Tables":
        """The alias table, and the classes' probabilities, where the sampler is."""
        return self.structure.on(self.structure.device)

    def sample(self, num_samples: int) -> Tensor:
        """Draw classes: K -> (K,) int64, on the tables' device, with torch's random numbers."""
        num_samples = checks.integer("Sampler", "num_samples", num_samples, 1)
        tables = self.tables
        column, coin = columns(self.num_classes, num_samples, self.structure.device)
        return torch.where(coin < tables.threshold[column], column, tables.alias[column])

    def log_expected(self, classes: Tensor, num_samples: int) -> Tensor:
        """The logarithm of how often each of some classes comes on average in K draws: (*) int64 -> (*) float64."""
        return log_expected(self.structure.on(classes.device).mass[classes], num_samples)

    def extra_repr(self) -> str:
        """How many classes."""
        return f"num_classes={self.num_classes}"


@on_cpu
def class_weights(owner: str, name: str, values: Tensor | Sequence[float]) -> Tensor:
    """Numbers of at least 0, one a class, not all 0: a copy in float64 on the CPU."""
    try:
        tensor = torch.as_tensor(values)
    except (ValueError, TypeError, RuntimeError):
        raise TypeError(
            f"{owner}: expected {name} as a sequence of numbers, one a class, got {type(values).__name__}."
        ) from None
    if tensor.is_complex() or tensor.dtype == torch.bool or tensor.dim() != 1:
        raise TypeError(
            f"{owner}: expected {name} as a sequence of numbers, one a class, "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)}."
        )
    if not isinstance(values, Tensor):
        tensor = torch.as_tensor(values, dtype=torch.float64)  # not by way of float32
    tensor = tensor.detach().to(dtype=torch.float64, device="cpu", copy=True)
    if len(tensor) < 2:
        raise ValueError(f"{owner}: expected {name} of at least 2 classes, got {len(tensor)}.")
    wrong = (~tensor.isfinite() | (tensor < 0)).nonzero().flatten()
    if len(wrong) > 0:
        place = int(wrong[0])
        raise ValueError(
            f"{owner}: expected {name} to be finite and at least 0, got {float(tensor[place])} for class {place}."
        )
    if not bool(tensor.any()):
        raise ValueError(f"{owner}: expected {name} not all 0, got {len(tensor)} zeros.")
    if not bool(tensor.sum().isfinite()):
        raise ValueError(f"{owner}: expected {name} whose sum is finite, got {float(tensor.max())} among them.")
    return tensor


def columns(
    num_classes: int, num_samples: int, device: torch.device, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Columns of an alias table, one in each of K equal parts, and a coin below `SCALE` for each: (K,), (K,)."""
    part = torch.arange(num_samples, device=device)
    place = part + torch.rand(num_samples, dtype=torch.float64, device=device, generator=generator)
    last = ((part + 1) * num_classes - 1) // num_samples  # column of the part; rounding may bring the next
    column = (place * (num_classes / num_samples)).long().minimum(last)
    return column, torch.randint(int(SCALE), (num_samples,), device=device, generator=generator)


def log_expected(mass: Tensor, num_samples: int) -> Tensor:
    """The logarithm of how often classes of a mass come on average in K draws: (*) int64 -> (*) float64."""
    return (mass.double() / SCALE).log() + math.log(num_samples)


class Tables(NamedTuple):
    """The alias table, and the classes' probabilities."""

    threshold: Tensor  # (C,) int64: below it a draw of this column is the column's own class
    alias: Tensor  # (C,) int64: else it is this class
    mass: Tensor  # (C,) int64: the class's probability


@on_cpu
def _tables(probability: Tensor) -> Tables:
    """The alias table, built without a loop.

    Columns are one high. Classes that fill less than their column are filled up in turn by the first of the others that
    has something left over; when that one has given so much that it fills less than its own column, the next fills it
    up. How much each lacks or has left over, added up, says who fills whom.
    """
    height = probability * len(probability)
    height = height.where((height - 1).abs() > 1e-12, 1.0)  # of the uniform distribution no column is lower by rounding
    light, heavy = (height < 1).nonzero().flatten(), (height >= 1).nonzero().flatten()
    lacking = torch.cat([height.new_zeros(1), (1 - height[light]).cumsum(0)])  # after none, one, two ... light ones
    left = (height[heavy] - 1).cumsum(0)  # over by each heavy one and those before it
    threshold, alias = height.clone(), torch.arange(len(height))
    alias[light] = heavy[torch.searchsorted(left, lacking[:-1], right=True).clamp(max=len(heavy) - 1)]
    # A heavy one gives until what is lacking reaches what it and those before it had; the next fills it up.
    reached = lacking[torch.searchsorted(lacking, left).clamp(max=len(light))]
    threshold[heavy] = 1 - (reached - left)
    alias[heavy[:-1]] = heavy[1:]
    mass = (probability * SCALE).round().long().clamp(min=1)
    return Tables((threshold.clamp(0, 1) * SCALE).round().long(), alias, mass)
