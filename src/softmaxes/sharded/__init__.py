r"""Heads whose classes are split over the ranks of a process group, for rows that no single device holds.

The engine is PyTorch's own: `torch.distributed` for what the ranks tell each other, DTensor and
`torch.distributed.checkpoint` for what they keep.
"""

from softmaxes.sharded.checkpoint import load as load
from softmaxes.sharded.checkpoint import load_plain as load_plain
from softmaxes.sharded.checkpoint import save as save
from softmaxes.sharded.clip import clip_grad_norm_ as clip_grad_norm_
from softmaxes.sharded.head import ShardedHead as ShardedHead
from softmaxes.sharded.shard import shard as shard

__all__ = ["ShardedHead", "clip_grad_norm_", "load", "load_plain", "save", "shard"]
