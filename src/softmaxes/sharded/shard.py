"""From a plain head to one that is split over ranks."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from softmaxes.head import Head
from softmaxes.heads.adaptive import AdaptiveSoftmax
from softmaxes.heads.cosine import CosineSoftmax
from softmaxes.heads.flat import Softmax
from softmaxes.heads.gumbel import GumbelSoftmax
from softmaxes.heads.hierarchical import HierarchicalSoftmax
from softmaxes.heads.nce import NCE
from softmaxes.heads.negative_sampling import NegativeSampling
from softmaxes.heads.sampled import SampledSoftmax
from softmaxes.sharded import rows
from softmaxes.sharded.adaptive import ShardedAdaptive
from softmaxes.sharded.head import ShardedHead
from softmaxes.sharded.hierarchical import ShardedHierarchical
from softmaxes.sharded.ranks import Ranks

KINDS: dict[type[Head], Callable[[Any, Ranks, bool, torch.device], ShardedHead]] = {
    Softmax: rows.ShardedSoftmax,
    CosineSoftmax: rows.ShardedCosine,
    GumbelSoftmax: rows.ShardedGumbel,
    SampledSoftmax: rows.ShardedSampled,
    NCE: rows.ShardedNCE,
    NegativeSampling: rows.ShardedNegativeSampling,
    AdaptiveSoftmax: ShardedAdaptive,
    HierarchicalSoftmax: ShardedHierarchical,
}


def shard(
    head: Head,
    group: dist.ProcessGroup | DeviceMesh | None = None,
    average: bool = False,
    device: torch.device | str | None = None,
) -> ShardedHead:
    r"""A head whose rows lie on the ranks of a group, with the methods of `Head`. All ranks call it.

    Every rank gives the head its own part of a batch, and has the loss of that part:

    .. math:: \ell(x, y) = \log \sum_r \sum_{j \in \text{rank } r} \exp z_j - z_y

    Args:
        head: the head, the same on every rank; it stays as it is. Make a large one on the meta device
            (``device="meta"``): then no rank ever holds all rows, and first weights are drawn that do not depend on the
            number of ranks.
        group: the process group, or a mesh of one dimension; the default group if not given.
        average: whether the gradients of the head's parameters are divided by the number of ranks, as
            `torch.nn.parallel.DistributedDataParallel` divides those of the trunk.
        device: where the rows are; where the head is if not given, of a head on the meta device torch's default device.

    Returns:
        The head of this rank. An optimiser has its parameters like those of any module.

    Raises:
        TypeError: the head is of a kind that cannot be split, or group is no group.
        ValueError: the mesh has more than one dimension.
        RuntimeError: there is no process group.

    Cost:
        A rank has 1 / ranks of the rows. A loss sends O(ND) numbers, N the examples of all ranks, however many classes
        there are; so does `topk` with O(Nk) more. ``log_prob`` sends O(NC), ``log_prob(..., local=True)`` O(ND).

    Example:
        >>> import torch, tempfile
        >>> import torch.distributed as dist
        >>> from softmaxes import Softmax
        >>> from softmaxes.sharded import shard
        >>> address = f"file://{tempfile.mkdtemp()}/meeting"
        >>> dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
        >>> head = Softmax(8, 10)
        >>> sharded, x, y = shard(head), torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> torch.allclose(sharded(x, y), head(x, y))
        True
        >>> dist.destroy_process_group()

    Reference:
        X. An et al. Killing two birds with one stone: efficient and robust training of face recognition CNNs by partial
        FC. 2022.
        M. Shoeybi et al. Megatron-LM: training multi-billion parameter language models using model parallelism. 2019.
    """
    if not isinstance(head, Head):
        raise TypeError(f"shard: expected a Head, got {type(head).__name__}.")
    kind = KINDS.get(type(head))
    if kind is None:
        able = ", ".join(one.__name__ for one in KINDS)
        raise TypeError(f"shard: expected one of {able}, got {type(head).__name__}.")
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "shard: expected a process group, got none; call torch.distributed.init_process_group() first, "
            "in processes that torchrun started."
        )
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(f"shard: expected a mesh of one dimension, got {group.ndim}; take one by its name.")
        group = group.get_group()
    group = dist.group.WORLD if group is None else group
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"shard: expected group as a ProcessGroup or a DeviceMesh, got {type(group).__name__}.")
    own = next(head.parameters()).device
    if device is not None:
        own = torch.device(device)
    elif own.type == "meta":
        own = torch.get_default_device()
    return kind(head, Ranks(group), average, own)
