"""What a module knows of its classes beside its weights: tables of whole numbers that go where it goes."""

from collections.abc import Callable
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from softmaxes.large_pages import in_large_pages

Tables = TypeVar("Tables", bound=tuple[Tensor, ...])  # a NamedTuple


@final
class Structure(Generic[Tables]):
    """Tables of whole numbers, made from a record such as a tree.

    The tables are neither parameters nor buffers. So a moving average of the model does not average them,
    `DistributedDataParallel` does not send them, a cast leaves them alone, and no checkpoint overwrites them. A module
    that wants some of them in its ``state_dict`` writes them there, and checks them when it loads. It calls `follow`
    in its ``_apply``.

    Args:
        make: gives the tables, a NamedTuple of tensors on the CPU.
        device: where they are wanted; torch's default device if not given.

    Attributes:
        device: where the tables are.

    Cost:
        The memory of the tables, on one device. A move to another device makes them anew.
    """

    def __init__(self, make: Callable[[], Tables], device: torch.device | str | None) -> None:
        self._make = make
        self._laid: dict[tuple[str, int | None], Tables] = {}
        self.device = torch.empty(0, device=device).device
        self._lay()

    def on(self, device: torch.device) -> Tables:
        """The tables on a device; a replica of `torch.nn.DataParallel` asks for another than its module's."""
        key = (device.type, device.index)
        if key not in self._laid:
            made = self._make()
            self._laid[key] = type(made)(*(_copied(table, device) for table in made))
        return self._laid[key]

    def follow(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Go where the module goes: what `to`, `cuda` or `to_empty` does to a tensor says where that is."""
        device = fn(torch.empty(0, dtype=torch.int64, device=self.device)).device
        if device != self.device:
            self._laid.clear()
            self.device = device
            self._lay()

    def _lay(self) -> None:
        """Have the tables ready; of the meta device not before they are asked for, for they may be large."""
        if self.device.type != "meta":
            self.on(self.device)


def _copied(table: Tensor, device: torch.device) -> Tensor:
    copy = in_large_pages(torch.empty(table.shape, dtype=table.dtype, device=device))
    return copy.copy_(table)


def saved_table(saved: object) -> Tensor | None:
    """A table of a checkpoint, on the CPU: an empty one in place of what is no tensor, none of the meta device."""
    if not isinstance(saved, Tensor):
        return torch.empty(0, dtype=torch.int64)
    return None if saved.is_meta else saved.cpu()
