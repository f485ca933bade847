"""The k classes of the largest logits of a flat head, exact, sooner than by scoring all classes."""

from functools import cache
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

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
            copies the rows anew. Changes that PyTorch does not count are not seen: through ``.data``, a numpy view,
            `torch.distributed` or another process. Call `refresh` after them.

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
        self._linear = head if isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward else None
        self._head: Any = None if self._linear is not None else head
        if type(self.head) not in KINDS:
            able = ", ".join(kind.__name__ for kind in KINDS)
            raise TypeError(f"ExactSearch: expected one of {able} or a torch.nn.Linear, got {type(head).__name__}.")
        _watch_fused()
        self.refresh()

    @property
    def head(self) -> Any:
        """The head; of a linear layer the `Softmax` that shares its parameters."""
        linear, head = self._linear, self._head
        if linear is None or (head is not None and head.weight is linear.weight and head.bias is linear.bias):
            return head
        try:
            self._head = Softmax.from_linear(linear)
        except (TypeError, ValueError) as error:
            raise type(error)(f"ExactSearch: {str(error).removeprefix('Softmax: ')}") from None
        return self._head

    def refresh(self) -> None:
        """Copy the rows anew."""
        head = self.head
        seen = _seen(head)  # first: if another thread changes the rows meanwhile, the next search copies them again
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            weight, bias = _layer(head)
            rows = RoundedRows(weight, bias) if usable(weight, bias) else None
        parameters = [one for one in _parameters(head) if one is not None]
        self._copy = _Copy(seen, rows, [*parameters, *(one.detach() for one in parameters)])

    @property
    def compiled(self) -> bool:
        """Whether the rounded logits are used here; else the search scores all classes with PyTorch."""
        return self._copy.rows is not None

    @uncompiled
    @torch.no_grad()
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k classes of the largest logits, largest first; of equal ones the lower class first.

        Logits may differ from those of `Head.topk` in their last digits, so classes whose logits are nearer than that
        may change places. Where the search is compiled, logits are summed in float64 and rounded once; where it scores
        all classes, in the head's dtype. There is no gradient.

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
        head = self.head
        head._check_input(input)
        k = head._check_k(k)
        queries = input.reshape(-1, head.in_features)
        queries = direction(queries) if isinstance(head, CosineSoftmax) else queries
        if autocasts(input.device.type) or transformed(input, *_parameters(head)):
            values, classes = _of_all(queries, *_layer(head), k)
        else:
            if self._copy.seen != _seen(head):
                self.refresh()
            values, classes = _best(self._copy.rows, head, queries, k)
        if isinstance(head, CosineSoftmax):
            values = head._scaled(values, head.log_scale)
        return values.view(*input.shape[:-1], k), classes.view(*input.shape[:-1], k)

    def predict(self, input: Tensor) -> Tensor:
        """The class of the largest logit: (*, D) -> (*)."""
        return self.topk(input, 1)[1].squeeze(-1)


class _Copy(NamedTuple):
    """A copy of the rows, in one piece, so that a search in another thread has the one or the next."""

    seen: tuple[object, ...]  # what `_seen` said
    rows: RoundedRows | None
    held: list[Tensor]  # parameters and their memory: as long as they are, no others have identity and address


def _best(rows: RoundedRows | None, head: Any, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest logits and their classes, by the copy as far as it decides."""
    if rows is None:
        return _of_all(queries, *_layer(head), k)
    found = rows.best(queries, k)
    open_ = (~found.decided).nonzero().squeeze(1)
    if len(open_) > 0:
        values, classes = _of_all(queries[open_], rows.weight, rows.bias, k)
        found.values[open_], found.classes[open_] = values.to(found.values.dtype), classes
    return found.values, found.classes


def _of_all(queries: Tensor, weight: Tensor, bias: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The same by all logits."""
    parts = torch.split(queries, max(1, MOST_LOGITS // len(weight)))
    found = [highest(linear_logits(part, weight, bias), k) for part in parts]
    return torch.cat([values for values, _ in found]), torch.cat([classes for _, classes in found])


def _layer(head: Any) -> tuple[Tensor, Tensor | None]:
    """The linear layer whose logits rank the classes."""
    if isinstance(head, CosineSoftmax):
        return direction(head.weight.detach()), None
    return head.weight.detach(), None if head.bias is None else head.bias.detach()


def _parameters(head: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, where the head has one."""
    return head.weight, getattr(head, "bias", None)


def _seen(head: Any) -> tuple[object, ...]:
    """What changes when the rows do."""
    tensors = _parameters(head)
    if any(one is not None and one.is_inference() for one in tensors):
        return (object(),)  # PyTorch counts no changes of these
    parts = (None if one is None else (id(one), one.data_ptr(), one.dtype, one._version) for one in tensors)
    return _fused_steps, *parts


# A fused optimiser does not count its changes, so its steps are counted here.
_fused_steps = 0


@cache
def _watch_fused() -> None:
    """Count the steps of fused optimisers from the first search on."""
    register_optimizer_step_post_hook(_stepped)


def _stepped(optimizer: Optimizer, *_: object) -> None:
    global _fused_steps
    if any(group.get("fused") for group in optimizer.param_groups):
        _fused_steps += 1
