"""Clipping gradients where ranks have parts of them."""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from softmaxes.optim import gradients_of, scale_down
from softmaxes.sharded.head import ShardedHead


@torch.no_grad()
def clip_grad_norm_(model: nn.Module, max_norm: float, norm_type: float = 2.0) -> Tensor:
    r"""Scale the gradients of a model with sharded heads, so that their norm over all ranks is at most `max_norm`.

    .. math:: g \leftarrow g \min\left(1, \frac{m}{\|g\| + 10^{-6}}\right), \qquad
        \|g\|^p = \|g_{\text{alike}}\|^p + \sum_r \|g_r\|^p

    Rows that one rank alone has count on that rank; what all ranks have alike counts once. So all ranks scale by the
    same factor, and the trunk stays the same on all of them. With `torch.nn.utils.clip_grad_norm_` each rank would take
    a factor of its own. All ranks call it.

    Args:
        model: the model; gradients of its other parameters are the same on all ranks, as `DistributedDataParallel`
            leaves them, or DTensors, as ``fully_shard`` does.
        max_norm: the largest norm, m.
        norm_type: which norm, p; ``inf`` is the largest entry.

    Returns:
        The norm before, a scalar, the same on all ranks.

    Cost:
        O(rows of this rank that have a gradient); one number is exchanged for each sharded head.

    Example:
        >>> import torch, tempfile
        >>> import torch.distributed as dist
        >>> from softmaxes import Softmax
        >>> from softmaxes.sharded import clip_grad_norm_, shard
        >>> address = f"file://{tempfile.mkdtemp()}/meeting"
        >>> dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
        >>> head = shard(Softmax(8, 10))
        >>> head(torch.ones(1, 8), torch.tensor([7])).backward()
        >>> norm = clip_grad_norm_(head, max_norm=0.5)
        >>> bool(norm > 0.5), round(float(clip_grad_norm_(head, max_norm=9.0)), 3)
        (True, 0.5)
        >>> dist.destroy_process_group()
    """
    heads = [module for module in model.modules() if isinstance(module, ShardedHead)]
    split = [[one for name, one in head.named_parameters() if head.is_split(name)] for head in heads]
    apart = {id(parameter) for parameters in split for parameter in parameters}
    alike = gradients_of(parameter for parameter in model.parameters() if id(parameter) not in apart)
    norms = [_norm(alike, norm_type)]
    for head, parameters in zip(heads, split, strict=True):
        own = gradients_of(parameters)
        norms.append(_over_ranks(_norm(own, norm_type).to(next(head.parameters()).device), norm_type, head))
        alike += own
    norm: Tensor = torch.linalg.vector_norm(torch.stack([one.to(norms[-1].device) for one in norms]), norm_type)
    scale_down(alike, norm, max_norm)
    return norm


def _norm(numbers: list[Tensor], norm_type: float) -> Tensor:
    norm: Tensor = nn.utils.get_total_norm([some for some in numbers if some.numel()], norm_type)
    whole: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return whole


def _over_ranks(norm: Tensor, norm_type: float, head: ShardedHead) -> Tensor:
    """The norm of all ranks' gradients together."""
    norm = norm.double()
    if math.isinf(norm_type):
        dist.all_reduce(norm, op=dist.ReduceOp.MAX, group=head.ranks.group)
        return norm.float()
    total: Tensor = head.ranks.sum(norm**norm_type)
    return total.pow(1 / norm_type).float()
