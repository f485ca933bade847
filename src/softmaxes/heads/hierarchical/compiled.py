"""The log-probability of a class by the decisions on its path alone, compiled, for the CPU.

`HierarchicalSoftmax` says the same in plain PyTorch, and takes this where it can: for float32 and float64 on a CPU, if
`paths.cpp` was built when the package was installed, which takes a C++ compiler. A training step touches the rows of
the targets' paths and nothing else; each row's gradient comes once, so that optimisers need not add up.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from softmaxes.layers import autocasts, transformed
from softmaxes.native import ADDRESS, DTYPES, NUMBER, SIZE, load
from softmaxes.optim import rate_in_backward, refuse_second_derivatives

MOST = 2**31  # logits that a call can number

Plain = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]  # (input, target, weight, bias) -> log-probability


LIBRARY, _why_not = load(
    "softmaxes.heads.hierarchical._compiled",
    {
        "forward": ([ADDRESS] * 9 + [SIZE] * 3, SIZE),
        "backward": ([ADDRESS] * 11 + [SIZE] * 4, SIZE),
        "update": ([ADDRESS] * 6 + [SIZE] * 3 + [NUMBER] * 2, None),
    },
)
# A line for people, if the compiled half is not there.
MISSING = _why_not and (
    f"The compiled step of HierarchicalSoftmax is missing ({_why_not}); plain PyTorch does the same, slower."
)


def usable(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the compiled half can take these."""
    if LIBRARY is None or torch.compiler.is_compiling() or autocasts("cpu") or input.dtype not in DTYPES:
        return False
    if transformed(input, weight, bias):
        return False
    return weight.is_contiguous() and all(
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dtype == input.dtype
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.is_neg()
        for tensor in (input, weight, bias)
        if tensor is not None
    )


def log_prob(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    nodes: Tensor,
    levels: int,
    most: int,
    sparse: bool,
    plain: Plain,
) -> Tensor:
    """The log-probability of a class for each row: (N, D), (N,) -> (N,).

    Args:
        input: (N, D).
        target: (N,), each a class.
        weight: the decisions' rows, (R, D), contiguous.
        bias: (R,), or none.
        nodes: (M, 4), as the tables of `HierarchicalSoftmax` have them.
        levels: at least the depth of the tree, L.
        most: at least the number of logits on a path.
        sparse: whether the gradients of weight and bias are sparse tensors; they are coalesced.
        plain: the same function in plain PyTorch; it is used for second derivatives.
    """
    found: Tensor = _LogProb.apply(input, weight, bias, target, nodes, levels, most, sparse, plain)  # type: ignore[no-untyped-call]
    return found


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        nodes: Tensor,
        levels: int,
        most: int,
        sparse: bool,
        plain: Plain,
    ) -> Tensor:
        given: tuple[Tensor | None, ...] = (input, target, weight, bias)
        input, target = input.contiguous(), target.contiguous()  # never the weights: a copy would be O(CD) a step
        examples, features = input.shape
        if examples * most >= MOST:
            raise ValueError(
                f"HierarchicalSoftmax: expected fewer than {MOST} logits on the targets' paths, got up to "
                f"{examples * most}; take a smaller batch."
            )
        decisions = target.new_empty(examples, levels, 2)
        value, by_logit = input.new_empty(examples), input.new_empty(examples * most)
        by_input = torch.empty_like(input) if ctx.needs_input_grad[0] else None
        ctx.logits = _call(
            f"softmaxes_forward_{DTYPES[input.dtype]}",
            *(target, nodes, input, weight, bias, decisions, value, by_input, by_logit, examples, levels, features),
        )
        ctx.sparse, ctx.plain = sparse, plain
        ctx.shape = weight.shape
        ctx.trained = [
            one if need else None for one, need in zip((weight, bias), ctx.needs_input_grad[1:3], strict=True)
        ]
        if _rates(ctx.trained):  # not saved: the head's second call in a graph may not mind what the first one changes
            given = (input, target, None, None)
        ctx.save_for_backward(*given, by_input, decisions, by_logit)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        input, target, weight, bias, by_input, decisions, by_logit = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        rates = _rates(ctx.trained)
        refuse_second_derivatives(rates is not None and torch.is_grad_enabled())
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            again = ctx.plain(input, target, weight, bias)
            wanted = [tensor for tensor, need in zip((input, weight, bias), needed, strict=True) if need]
            known = iter(torch.autograd.grad(again, wanted, upstream, create_graph=True))
            return *(next(known) if need else None for need in needed), None, None, None, None, None, None
        upstream, input = upstream.contiguous(), input.contiguous()
        of_input = by_input * upstream.unsqueeze(1) if needed[0] else None
        of_weight = of_bias = None
        sizes = (*decisions.shape[:2], input.shape[1])
        if rates is not None:
            _call(
                f"softmaxes_update_{DTYPES[input.dtype]}",
                *(upstream, input, *ctx.trained, decisions, by_logit, *sizes, *rates),
            )
            torch.autograd.graph.increment_version([one for one in ctx.trained if one is not None])
        elif needed[1] or needed[2]:
            logits = ctx.logits
            row, spare_row, found = decisions.new_empty(3, 1, logits)
            example, spare_place = torch.empty(logits, dtype=torch.int32), torch.empty(2 * logits, dtype=torch.int32)
            by_weight, by_bias = input.new_empty(logits, input.shape[1]), input.new_empty(logits)
            rows = _call(
                f"softmaxes_backward_{DTYPES[input.dtype]}",
                *(upstream, input, decisions, by_logit, row, example, spare_row, spare_place),
                *(found, by_weight, by_bias, logits, *sizes),
            )
            # A view of their own for each: autograd copies a sparse gradient whose parts have another owner.
            if needed[1]:
                of_weight = _scattered(found[:, :rows], by_weight[:rows], ctx.shape, ctx.sparse)
            if needed[2]:
                of_bias = _scattered(found[:, :rows], by_bias[:rows], ctx.shape[:1], ctx.sparse)
        return of_input, of_weight, of_bias, None, None, None, None, None, None


def _rates(trained: list[Tensor | None]) -> list[float] | None:
    """The learning rates by which to update the parameters here, or none if their gradients are to be handed on."""
    rates = [0.0 if one is None else rate_in_backward(one) for one in trained]
    known = [rate for rate in rates if rate is not None]
    return known if len(known) == len(rates) and any(one is not None for one in trained) else None


def _scattered(place: Tensor, values: Tensor, shape: torch.Size, sparse: bool) -> Tensor:
    """Rows at their places, (1, P), (P, ...) -> shape."""
    if sparse:
        return torch.sparse_coo_tensor(place, values, shape, is_coalesced=True, check_invariants=False)
    return values.new_zeros(shape).index_copy_(0, place[0], values)


def _call(function: str, *arguments: Tensor | float | None) -> int:
    """Call the compiled half; a tensor goes as its address, and is alive until the call is over."""
    assert LIBRARY is not None  # noqa: S101
    found: int = getattr(LIBRARY, function)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))
    return found
