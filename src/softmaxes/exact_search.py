"""The k classes of the largest logits of a flat head, exact, sooner than by scoring all classes."""

from typing import Any, final

import torch
from torch import Tensor, nn

from softmaxes.head import Head
from softmaxes.heads.cosine import CosineSoftmax, direction
from softmaxes.heads.flat import Softmax
from softmaxes.heads.gumbel import GumbelSoftmax
from softmaxes.heads.nce import NCE
from softmaxes.heads.negative_sampling import NegativeSampling
from softmaxes.heads.neighbor_sampled import NeighborSampledSoftmax
from softmaxes.heads.one_vs_rest import OneVsRest
from softmaxes.heads.sampled import SampledSoftmax
from softmaxes.heads.sigsoftmax import Sigsoftmax
from softmaxes.heads.tree_sampled import TreeSampledSoftmax
from softmaxes.layers import autocasts, highest, linear_logits, transformed, uncompiled
from softmaxes.rounded import RoundedRows, usable

KINDS = (  # that rank their classes by the logits of a linear layer, or by cosines
    Softmax,
    CosineSoftmax,
    SampledSoftmax,
    NeighborSampledSoftmax,
    TreeSampledSoftmax,
    NCE,
    NegativeSampling,
    OneVsRest,
    Sigsoftmax,
    GumbelSoftmax,
)
MOST_LOGITS = 2**23  # at a time


@final
class ExactSearch:
    r"""The k classes of the largest logits of a flat head, exact, sooner than by scoring all classes in full.

    Maximum inner product search. The search keeps a copy of the rows in bfloat16, :math:`\tilde w_c`. The logit of
    rounded numbers is off by no more than a bound :math:`\epsilon(x)`:

    .. math:: |x \cdot w_c - \tilde x \cdot \tilde w_c| \le \epsilon(x)
        = \|x\| \max_c \|w_c - \tilde w_c\| + \|x - \tilde x\| \max_c \|\tilde w_c\| + \text{rounding of the sum}

    So a class is none of the k best if its rounded logit is more than :math:`2 \epsilon(x)` below the k-th largest
    rounded one. The classes that are left, a handful, are scored with the head's own rows. Where too many are left
    the search scores all.

    The rounded logits are compiled, for float32 and float64 on x86 processors under Linux: by AMX, or by AVX-512 for
    bfloat16 from 16 examples on. Elsewhere, and in half precision, the search scores all classes with PyTorch; the
    answers are the same.

    Args:
        head: a head whose classes are ranked by logits or cosines (`Softmax`, `CosineSoftmax`, `SampledSoftmax`,
            `NeighborSampledSoftmax`, `TreeSampledSoftmax`, `NCE`, `NegativeSampling`, `OneVsRest`, `Sigsoftmax`,
            `GumbelSoftmax`), or a `torch.nn.Linear`. It may go on learning: after an optimiser's step the next search
            copies the rows anew. Changes made through ``.data`` are not seen; call `refresh` after them.

    Attributes:
        head: the head; of a linear layer the `Softmax` that shares its parameters.

    Cost:
        Memory of the copy 2CD bytes, 4CD more for a `CosineSoftmax`, whose rows are scaled to length one. A search
        O(NCD) time, of which nearly all is spent on bfloat16; no logit is stored. On one core with AMX, for 256
        examples of 256 features and 81,694 classes, the best five take a tenth of the time of scoring all
        (``benchmarks/exact_search.py``).

    Raises:
        TypeError: the head is of another kind.

    Example:
        >>> import torch
        >>> from softmaxes import ExactSearch, Softmax
        >>> head = Softmax(in_features=8, num_classes=10_000)
        >>> search = ExactSearch(head)
        >>> features = torch.randn(4, 8)
        >>> logits, classes = search.topk(features, 5)
        >>> torch.equal(classes, head.topk(features, 5)[1])
        True

    Reference:
        R. Guo et al. Quantization based fast inner product search. 2016 (quantised rows first, then the exact ones;
        there without a bound).
    """

    def __init__(self, head: Head | nn.Linear) -> None:
        self.head: Any = Softmax.from_linear(head) if isinstance(head, nn.Linear) else head
        if type(self.head) not in KINDS:
            able = ", ".join(kind.__name__ for kind in KINDS)
            raise TypeError(f"ExactSearch: expected one of {able} or a torch.nn.Linear, got {type(head).__name__}.")
        self._rows: RoundedRows | None = None
        self.refresh()

    def refresh(self) -> None:
        """Copy the rows anew."""
        self._parameters = self.head.weight, getattr(self.head, "bias", None)  # held: an address is not used again
        self._versions, self._rows = self._seen(), None
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            weight, bias = self._layer()
            if usable(weight, bias):
                self._rows = RoundedRows(weight, bias)

    @property
    def compiled(self) -> bool:
        """Whether the rounded logits are used here; else the search scores all classes with PyTorch."""
        return self._rows is not None

    @uncompiled
    @torch.no_grad()
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k classes of the largest logits, largest first; of equal ones the lower class first.

        A logit is summed in float64 and rounded once, so classes may change places with those of `Head.topk` where
        their logits are nearer than its rounding. There is no gradient.

        Args:
            input: features, (*, D).
            k: how many, 1 to C.

        Returns:
            Their logits, (*, k), and the classes, (*, k), int64. Those of a cosine head are the scaled cosines. To
            have log-probabilities would take all logits.

        Raises:
            TypeError: the dtype is not the one expected, or k is not an int.
            ValueError: the shape or device is not one expected, or k is out of range.
        """
        self.head._check_input(input)
        k = self.head._check_k(k)
        if self._seen() != self._versions:
            self.refresh()
        values, classes = self._topk(input.reshape(-1, self.head.in_features), k)
        if isinstance(self.head, CosineSoftmax):
            values = self.head._scaled(values, self.head.log_scale)
        return values.view(*input.shape[:-1], k), classes.view(*input.shape[:-1], k)

    def predict(self, input: Tensor) -> Tensor:
        """The class of the largest logit: (*, D) -> (*)."""
        return self.topk(input, 1)[1].squeeze(-1)

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        queries = direction(input) if isinstance(self.head, CosineSoftmax) else input
        if self._rows is None or autocasts(input.device.type) or transformed(input):
            return self._of_all(queries, k)
        found = self._rows.best(queries, k)
        open_ = (~found.decided).nonzero().squeeze(1)
        if len(open_) > 0:
            values, classes = self._of_all(queries[open_], k)
            found.values[open_], found.classes[open_] = values.to(found.values.dtype), classes
        return found.values, found.classes

    def _of_all(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """By all logits."""
        weight, bias = (self._rows.weight, self._rows.bias) if self._rows is not None else self._layer()
        parts = torch.split(queries, max(1, MOST_LOGITS // self.head.num_classes))
        found = [highest(linear_logits(part, weight, bias), k) for part in parts]
        return torch.cat([values for values, _ in found]), torch.cat([classes for _, classes in found])

    def _layer(self) -> tuple[Tensor, Tensor | None]:
        """The linear layer whose logits rank the classes."""
        if isinstance(self.head, CosineSoftmax):
            return direction(self.head.weight.detach()), None
        return self.head.weight.detach(), None if self.head.bias is None else self.head.bias.detach()

    def _seen(self) -> tuple[object, ...]:
        """What changes when the rows do."""
        tensors = [self.head.weight, getattr(self.head, "bias", None)]
        return tuple(
            None if one is None else (id(one), one.data_ptr(), one.dtype, 0 if one.is_inference() else one._version)
            for one in tensors
        )
