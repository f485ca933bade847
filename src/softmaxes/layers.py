"""What heads are made of: linear layers whose logits are float32, order among classes, and derivatives that refuse."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from softmaxes.large_pages import in_large_pages

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

NO_SECOND = "expected no second derivative to be asked for of a loss that has none"
SET_APART = 32  # classes of the largest scores that rounding does not make equal


def linear_parameters(
    rows: int, columns: int, bias: bool, device: torch.device | str | None, dtype: torch.dtype | None
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """The weight and bias of a linear layer, (rows, columns) and (rows,) or none, not yet filled."""
    weight = nn.Parameter(in_large_pages(torch.empty(rows, columns, device=device, dtype=dtype)))
    return weight, nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None


def linear_logits(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The logits of a linear layer, in float32 at least: (N, D), (R, D), (R,) -> (N, R)."""
    return widen(F.linear(input, weight, bias))


def row_logits(input: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, sparse: bool) -> Tensor:
    """Logits of chosen rows of a linear layer alone, in float32 at least.

    Args:
        input: (N, D).
        rows: rows of each example, (N, L), or rows that all examples share, (K,).
        weight: (R, D).
        bias: (R,), or none.
        sparse: whether the gradients of weight and bias are sparse tensors, as in `torch.nn.Embedding`.

    Returns:
        (N, L), or (N, K).
    """
    chosen = F.embedding(rows, weight, sparse=sparse)  # (N, L, D) or (K, D)
    logits = F.linear(input, chosen) if rows.dim() == 1 else torch.bmm(chosen, input.unsqueeze(2)).squeeze(2)
    if bias is not None:
        # Times one, or the bias's gradient would be the logits' own: who halves it in place would halve the weight's.
        logits = logits + 1 * torch.gather(bias, 0, rows.flatten(), sparse_grad=sparse).view_as(rows)
    return widen(logits)


def highest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row, largest first; of equal ones the lower column first, whatever k is.

    `torch.topk` leaves the order of equal numbers open.

    Args:
        values: (N, C).
        k: 1 to C.

    Returns:
        The numbers, (N, k), and their columns, (N, k).

    Cost:
        That of `torch.topk`, and O(C) more for a row in which the k-th and the next are equal. In a graph, which cannot
        ask, that of a stable sort.
    """
    if torch.onnx.is_in_onnx_export():  # whose TopK has this order, and which has no stable sort
        found, columns = values.topk(k, dim=1)
        return found, columns
    if k == values.shape[1] or torch.compiler.is_compiling() or values.is_meta or transformed(values):
        ordered, columns = values.sort(dim=1, descending=True, stable=True)
        return ordered[:, :k], columns[:, :k]
    found, columns = values.detach().topk(k + 1, dim=1)
    columns = columns[:, :k]
    rows = (~(found[:, k - 1] > found[:, k])).nonzero().squeeze(1)
    if len(rows) > 0:  # equal, or not numbers
        some, least = values.detach()[rows], found[rows, k - 1].unsqueeze(1)
        above = some > least
        equal = ~(above | (some < least))
        taken = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True)))
        columns = columns.index_copy(0, rows, taken.nonzero()[:, 1].view(-1, k))
    columns = columns.sort(dim=1).values
    ordered, order = values.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return ordered, columns.gather(1, order)


def in_order_of(score: Tensor, log_prob: Tensor) -> Tensor:
    """Log-probabilities that keep the order of a score, where the map from one to the other saturates.

    Far from zero a sigmoid gives the same float for different logits. Of the classes with the largest scores those that
    rounding made equal are set apart, each by one rounding step; so `predict`, `topk` and the referee rank them by the
    score. Classes of equal score stay equal. Gradients are those of the log-probabilities.

    Args:
        score: what ranks the classes, (N, C).
        log_prob: a rising function of it in exact arithmetic, (N, C).

    Returns:
        (N, C).
    """
    score, known = score.detach(), log_prob.detach()
    scores, classes = score.topk(min(SET_APART + 1, score.shape[1]), dim=1)
    value = known.gather(1, classes)
    raised = [value[:, -1]]  # from the least of them up, which stays where it is
    for place in range(value.shape[1] - 2, -1, -1):
        below = raised[-1]
        step = (below.abs() * torch.finfo(below.dtype).eps).masked_fill(below.isinf(), 0.0)
        above = torch.where(scores[:, place] > scores[:, place + 1], below + step, below)
        raised.append(torch.maximum(value[:, place], above))
    added = torch.stack(raised[::-1], dim=1) - value
    return log_prob + torch.zeros_like(known).scatter(1, classes, added.masked_fill(value.isinf(), 0.0))


def transformed(*tensors: Tensor | None) -> bool:
    """Whether `torch.func` or forward-mode differentiation follows one of some tensors."""
    known = [tensor for tensor in tensors if tensor is not None]
    return any(map(is_functorch_wrapped_tensor, known)) or (
        forward_ad._current_level >= 0
        and any(
            forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
            for tensor in known
        )
    )


def mapped(tensor: Tensor) -> bool:
    """Whether `torch.func.vmap` follows a tensor: nobody may then ask for its numbers."""
    while is_functorch_wrapped_tensor(tensor):
        if is_batchedtensor(tensor):
            return True
        tensor = get_unwrapped(tensor)
    return False


def autocasts(device_type: str) -> bool:
    """Whether autocast is on where a tensor is; the meta device has none."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def once(tensor: Tensor) -> Tensor:
    """The same tensor, whose gradient refuses to be differentiated: for a formula that has no second derivative.

    Without this the second derivative would be taken for zero, in silence.
    """
    if torch.compiler.is_compiling():  # which refuses second derivatives itself
        return tensor
    same: Tensor = _Once.apply(tensor)  # type: ignore[no-untyped-call]
    return same


class _Once(torch.autograd.Function):
    # Torch's `once_differentiable` refuses only where the incoming gradient has a gradient, which a constant has not.
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found: Tensor = _Refused.apply(gradient, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found


class _Refused(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, tensor: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def jvp(ctx: Any, gradient: Tensor, tensor: Tensor) -> Tensor:
        raise RuntimeError(NO_SECOND)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError(NO_SECOND)


def widen(logits: Tensor) -> Tensor:
    """The same numbers in float32 if they came in half precision: what is normalised must be able to sum to one."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def log_sigmoid(logits: Tensor) -> Tensor:
    """The logarithm of the logistic function."""
    if torch.onnx.is_in_onnx_export():  # which takes the logarithm of a sigmoid, and ONNX Runtime's is zero below -18
        return -F.softplus(-logits)
    return F.logsigmoid(logits)


def hypot(some: Tensor, others: Tensor) -> Tensor:
    """The root of the sum of two squares, not both zero, without the squares, which may overflow."""
    if torch.onnx.is_in_onnx_export():  # which has none
        larger, smaller = torch.maximum(some.abs(), others.abs()), torch.minimum(some.abs(), others.abs())
        return larger * ((smaller / larger).square() + 1).sqrt()
    return torch.hypot(some, others)


def log_of_sparse(probability: Tensor) -> Tensor:
    """The logarithm, -inf of zero; there its gradient is zero."""
    nothing = probability == 0
    return probability.masked_fill(nothing, 1.0).log().masked_fill(nothing, -torch.inf)


@cache
def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    left: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return left


def uncompiled(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A function that `torch.compile` leaves out of its graphs.

    As ``torch.compiler.disable``, which imports the compiler when a module is imported: that takes a second, and most
    who import a head compile nothing.
    """

    @wraps(function)
    def call(*words: Given.args, **options: Given.kwargs) -> Returned:
        if torch.compiler.is_compiling():
            result: Returned = _disabled(function)(*words, **options)
            return result
        return function(*words, **options)

    return call
