"""Examples that are not all of one length: texts and sparse vectors; and the labels of examples that have several."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from softmaxes.lab.data.npy import Items


class Ragged(ABC):
    """Rows of items that lie one after the other without anything between them.

    Attributes:
        ends: where each row ends among the items, (N,) int64.
        begins: where each begins, (N,) int64; if none, where the one before ends. Rows may be of the same items.
    """

    ends: Tensor
    begins: Tensor | None

    @property
    @abstractmethod
    def items(self) -> Tensor:
        """One after the other, (M, ...)."""

    def __len__(self) -> int:
        return len(self.ends)

    def starts(self, rows: Tensor | None = None) -> Tensor:
        """Where some rows begin, or all, (B,)."""
        if self.begins is not None:
            return self.begins if rows is None else self.begins[rows]
        if rows is None:
            return torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        return self.ends[(rows - 1).clamp(min=0)].where(rows > 0, 0)

    def lengths(self, rows: Tensor | None = None) -> Tensor:
        """How many items some rows have, or all, (B,)."""
        ends = self.ends if rows is None else self.ends[rows]
        return ends - self.starts(rows)

    @property
    def places(self) -> dict[str, Tensor]:
        """All but the items, by name: where the rows lie among them."""
        return {"ends": self.ends} if self.begins is None else {"ends": self.ends, "begins": self.begins}

    def repeated(self, times: Tensor) -> Self:
        """Each row as often as is said, (N,). The items are not copied."""
        if bool((times == 1).all()):
            return self
        begins, ends = (places.repeat_interleave(times) for places in (self.starts(), self.ends))
        return replace(self, begins=begins, ends=ends)  # type: ignore[type-var]

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The places of the items of some rows, one row after the other; and where each row ends among them, (B,)."""
        lengths = self.lengths(rows)
        ends = lengths.cumsum(0)
        return torch.arange(_last(ends)) + (self.starts(rows) - (ends - lengths)).repeat_interleave(lengths), ends

    def _padded(self, rows: Tensor, fill: int) -> Tensor:
        """Some rows as a matrix, (B, L), as wide as the longest of them, filled up after each."""
        starts, ends = self.starts(rows), self.ends[rows]
        place = starts.unsqueeze(1) + torch.arange(int((ends - starts).max()) if len(rows) else 0)
        inside = place < ends.unsqueeze(1)
        taken = self.items[place.where(inside, 0).flatten()].view(place.shape)
        return taken.where(inside, taken.new_full((), fill))


@dataclass(frozen=True)
class Texts(Ragged):
    """Texts as their UTF-8 bytes.

    Attributes:
        bytes: (M,) uint8, in memory or mapped from a file; none of them is 0.
        ends: where each text ends in `bytes`, (N,) int64; the first begins at 0.
        begins: where each begins, if not where the one before ends.
    """

    ITEMS: ClassVar = Items("bytes", np.dtype(np.uint8))

    bytes: Tensor
    ends: Tensor
    begins: Tensor | None = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """Texts of strings, without zeros in them."""
        encoded = [text.encode() for text in texts]
        ends = _ends(map(len, encoded))
        return cls(
            torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8)[: _last(ends)], ends
        )

    @property
    def items(self) -> Tensor:
        """The bytes."""
        return self.bytes

    def __getitem__(self, rows: "Tensor | slice") -> "Texts":
        """Some texts, in memory."""
        place, ends = self._taken(_numbers(rows, len(self)))
        return Texts(self.bytes[place], ends)

    def text(self, row: int) -> str:
        """One of them."""
        return self[torch.tensor([row])].bytes.numpy().tobytes().decode()

    def batch(self, rows: Tensor) -> Tensor:
        """Some texts as a matrix of their bytes, (B, L), as wide as the longest of them, with zeros after each."""
        return self._padded(rows, 0)


@dataclass(frozen=True)
class SparseVectors(Ragged):
    """Vectors of D numbers, most of them 0, as the numbers that are not.

    Attributes:
        pairs: (M, 2) int32, in memory or mapped from a file: of each such number its index in the vector, 0..D - 1, and
            itself, as the bits of a float32.
        ends: where each vector ends in `pairs`, (N,) int64; the first begins at 0.
        size: D.
        begins: where each begins, if not where the one before ends.
    """

    ITEMS: ClassVar = Items("pairs", np.dtype(np.int32), (2,))

    pairs: Tensor
    ends: Tensor
    size: int
    begins: Tensor | None = None

    @classmethod
    def of(cls, vectors: Sequence[Mapping[int, float]], size: int) -> "SparseVectors":
        """Vectors of `size` numbers, from those that are not 0 by their indices."""
        pairs = list(chain.from_iterable(vector.items() for vector in vectors))
        indices = torch.tensor([index for index, _ in pairs], dtype=torch.int32)
        values = torch.tensor([value for _, value in pairs], dtype=torch.float32)
        return cls(torch.stack([indices, values.view(torch.int32)], dim=1), _ends(map(len, vectors)), size)

    @property
    def items(self) -> Tensor:
        """The pairs."""
        return self.pairs

    @property
    def places(self) -> dict[str, Tensor]:
        """All but the items, by name: where the rows lie among them, and the size of a vector, (1,)."""
        return {**super().places, "size": torch.tensor([self.size])}

    def __getitem__(self, rows: "Tensor | slice") -> "SparseVectors":
        """Some vectors, in memory."""
        place, ends = self._taken(_numbers(rows, len(self)))
        return SparseVectors(self.pairs[place], ends, self.size)

    def batch(self, rows: Tensor) -> Tensor:
        """Some vectors as a sparse matrix, (B, D) float32 in torch's coordinate format."""
        place, ends = self._taken(rows)
        indices, values = self.pairs[place].unbind(1)
        row = torch.arange(len(rows)).repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))
        return torch.sparse_coo_tensor(
            torch.stack([row, indices.long()]),
            values.contiguous().view(torch.float32),
            (len(rows), self.size),
            check_invariants=True,  # an index that is none would be read from beside the table
        )


@dataclass(frozen=True)
class LabelSets(Ragged):
    """All labels of each example, at least one.

    Attributes:
        classes: (M,) int64; of each example its labels one after the other, the first of which is its target.
        ends: where those of each example end in `classes`, (N,) int64; the first begin at 0.
        begins: where they begin, if not where those before end.
    """

    classes: Tensor
    ends: Tensor
    begins: Tensor | None = None

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> "LabelSets":
        """The labels of examples from lists."""
        classes = torch.tensor(list(chain.from_iterable(labels)), dtype=torch.int64)
        return cls(classes, _ends(map(len, labels)))

    @property
    def items(self) -> Tensor:
        """The classes."""
        return self.classes

    @property
    def first(self) -> Tensor:
        """The first label of each example, (N,)."""
        return self.classes[self.starts()]

    def batch(self, rows: Tensor) -> Tensor:
        """The labels of some examples as a matrix, (B, L), as wide as the most of them, with -1 after each."""
        return self._padded(rows, -1)


def _ends(lengths: Iterable[int]) -> Tensor:
    return torch.tensor(list(lengths), dtype=torch.int64).cumsum(0)


def _numbers(rows: Tensor | slice, number: int) -> Tensor:
    """The numbers of some rows of so many."""
    return torch.arange(number)[rows] if isinstance(rows, slice) else rows


def _last(ends: Tensor) -> int:
    return int(ends[-1]) if len(ends) else 0
