"""Examples that are not all of one length: texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Texts:
    """Texts as their UTF-8 bytes, one after the other without anything between them.

    Attributes:
        bytes: (M,) uint8, in memory or mapped from a file; none of them is 0.
        ends: where each text ends in `bytes`, (N,) int64; the first begins at 0.
    """

    bytes: Tensor
    ends: Tensor

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """Texts of strings, without zeros in them."""
        encoded = [text.encode() for text in texts]
        ends = torch.tensor([len(one) for one in encoded], dtype=torch.int64).cumsum(0)
        return cls(
            torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8)[: _last(ends)], ends
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, rows: "Tensor | slice") -> "Texts":
        """Some texts, in memory."""
        if isinstance(rows, slice):
            rows = torch.arange(len(self))[rows]
        lengths = self.lengths(rows)
        ends = lengths.cumsum(0)
        place = torch.arange(_last(ends)) + (self._starts(rows) - (ends - lengths)).repeat_interleave(lengths)
        return Texts(self.bytes[place], ends)

    def text(self, row: int) -> str:
        """One of them."""
        start = 0 if row == 0 else int(self.ends[row - 1])
        return self.bytes[start : int(self.ends[row])].numpy().tobytes().decode()

    def lengths(self, rows: Tensor | None = None) -> Tensor:
        """Bytes of some texts, or of all, (B,)."""
        ends = self.ends if rows is None else self.ends[rows]
        return ends - self._starts(rows)

    def batch(self, rows: Tensor) -> Tensor:
        """Some texts as a matrix of their bytes, (B, L), as wide as the longest of them, with zeros after each."""
        starts, ends = self._starts(rows), self.ends[rows]
        place = starts.unsqueeze(1) + torch.arange(int((ends - starts).max()) if len(rows) else 0)
        inside = place < ends.unsqueeze(1)
        taken = self.bytes[place.where(inside, 0).flatten()].view(place.shape)
        return taken.where(inside, taken.new_zeros(()))

    def _starts(self, rows: Tensor | None) -> Tensor:
        if rows is None:
            return torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        return self.ends[(rows - 1).clamp(min=0)].where(rows > 0, 0)


def _last(ends: Tensor) -> int:
    return int(ends[-1]) if len(ends) else 0
