"""Rows that change ranks, with gradients that change back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh


@final
class Ranks:
    """The ranks of a group, and which of them this process is.

    A copy of a module is of the same ranks: a group cannot be copied.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        self._meshes: dict[str, DeviceMesh] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("ShardedHead: expected no pickling, for a rank is of its process; see softmaxes.sharded.save.")

    def __repr__(self) -> str:
        return f"rank {self.rank} of {self.size}"

    def mesh(self, device: torch.device) -> DeviceMesh:
        """The ranks as a mesh of one dimension, as DTensor wants them."""
        if device.type not in self._meshes:
            self._meshes[device.type] = DeviceMesh.from_group(self.group, device.type)
        return self._meshes[device.type]

    def seed(self, device: torch.device) -> int:
        """A random number that all ranks have alike, drawn by the first."""
        told = torch.randint(2**62, (1,)).to(device)
        dist.broadcast(told, dist.get_global_rank(self.group, 0), group=self.group)
        return int(told)

    @contextmanager
    def seeded(self, device: torch.device) -> Iterator[int]:
        """Such a number, to seed torch with: its random state is put back afterwards."""
        seed = self.seed(device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield seed

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, without a gradient."""
        total = tensor.detach().clone()
        dist.all_reduce(total, group=self.group)
        return total

    def exchange(self, rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Rows for every rank, one rank's after the other's, for rows from every rank."""
        found: Tensor = _Exchanged.apply(rows, tuple(sent), tuple(received), self.group)  # type: ignore[no-untyped-call]
        return found

    def replicated(self, parameter: Tensor) -> Tensor:
        """A parameter that all ranks have alike: its gradient is the sum of theirs."""
        same: Tensor = _Replicated.apply(parameter, self.group)  # type: ignore[no-untyped-call]
        return same


class Batch(NamedTuple):
    """Everybody's examples: those of the first rank, those of the second, and so on."""

    ranks: Ranks
    sizes: tuple[int, ...]  # of each rank's part
    divisor: int  # of the gradients of what lies between `enter` and `leave`

    @property
    def own(self) -> int:
        """How many of them are this rank's."""
        return self.sizes[self.ranks.rank]

    def enter(self, rows: Tensor) -> Tensor:
        """The same rows, whose gradient is multiplied by the divisor."""
        return _scaled(rows, self.divisor)

    def leave(self, rows: Tensor) -> Tensor:
        """The same rows, whose gradient is divided by the divisor."""
        return _scaled(rows, 1 / self.divisor)

    def gather(self, rows: Tensor) -> Tensor:
        """This rank's rows, (n, ...), together with those of all others, (N, ...)."""
        rows = self.enter(rows)
        copies = rows.expand(self.ranks.size, *rows.shape).flatten(0, 1)
        return self.ranks.exchange(copies, [self.own] * self.ranks.size, self.sizes)

    def give_back(self, columns: Tensor, widths: Sequence[int]) -> Tensor:
        """What each rank knows of everybody's examples, for what all ranks know of this rank's.

        Args:
            columns: this rank's, (N, K).
            widths: how many columns each rank has.

        Returns:
            The columns of the first rank, of the second, and so on, (n, sum of the widths).
        """
        width = columns.shape[1]
        columns = self.leave(columns)
        flat = self.ranks.exchange(
            columns.reshape(-1), [size * width for size in self.sizes], [self.own * other for other in widths]
        )
        parts = torch.split(flat, [self.own * other for other in widths])
        return torch.cat([part.view(self.own, other) for part, other in zip(parts, widths, strict=True)], dim=1)

    def of_all_ranks(self, numbers: Tensor) -> Tensor:
        """As `give_back`, of as many columns on every rank: (N, K) -> (n, ranks, K)."""
        every = self.give_back(numbers, [numbers.shape[1]] * self.ranks.size)
        return every.view(self.own, self.ranks.size, numbers.shape[1])


def _scaled(rows: Tensor, factor: float) -> Tensor:
    if factor == 1 or not rows.is_floating_point():
        return rows
    same: Tensor = _Scaled.apply(rows, factor)  # type: ignore[no-untyped-call]
    return same


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sent: tuple[int, ...], received: tuple[int, ...], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.given = sent, received, group
        found = rows.new_empty(sum(received), *rows.shape[1:])
        dist.all_to_all_single(found, rows.contiguous(), list(received), list(sent), group=group)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sent, received, group = ctx.given
        back: Tensor = _Exchanged.apply(gradient, received, sent, group)  # type: ignore[no-untyped-call]
        return back, None, None, None


class _Replicated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return parameter.view_as(parameter)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = (gradient.to_dense() if gradient.is_sparse else gradient).clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None
