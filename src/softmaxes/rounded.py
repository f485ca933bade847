"""The largest logits of a linear layer, exact, by way of a copy of its rows in bfloat16, compiled, for the CPU.

A logit of rounded numbers is quick to compute and off by no more than a bound. Classes that the bound cannot rule out,
a handful, are then scored as they are. For float32 and float64 on an x86 processor with AVX-512 for bfloat16, better
with AMX, if `rounded.cpp` was built when the package was installed.
"""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import NamedTuple

import torch
from torch import Tensor

from softmaxes.large_pages import in_large_pages
from softmaxes.layers import transformed
from softmaxes.native import ADDRESS, DTYPES, SIZE, load
from softmaxes.on_cpu import on_cpu

TILES = 2  # how it may search: by AMX; 1 is by AVX-512
ROOM = 256  # candidates of a query, and some more for each of the best: 7 are left in the middle for the best 5
MOST_BEST = 1000  # of a query
GROUP, DEPTH = 16, 32  # rows and queries come in groups, features in steps
QUERIES = 512  # at a time, so that they and their candidates stay in a core's cache
PART = 2**25  # bytes of rounded rows that are worth a thread: to start one may take as long as a part of 2**24
ROWS = 2**14  # that are rounded at a time
LARGEST = 1e30  # error up to which a logit cannot overflow

LIBRARY, MISSING = load(
    "softmaxes._rounded",
    {"best": ([SIZE] + [ADDRESS] * 9 + [SIZE] * 5 + [ADDRESS] * 3 + [SIZE] * 2 + [ADDRESS] * 5, SIZE)},
)


class Best(NamedTuple):
    """The k largest logits of each query, and what stays open."""

    values: Tensor  # (N, k), largest first; of equal ones the lower class first
    classes: Tensor  # (N, k), int64
    decided: Tensor  # (N,); the other rows of the two mean nothing


def way() -> int:
    """How this machine can search: 2 by AMX, 1 by AVX-512, 0 not at all."""
    if LIBRARY is None:
        return 0
    found: int = LIBRARY.softmaxes_best_float32(TILES, *[None] * 9, *[0] * 5, *[None] * 3, 0, 0, *[None] * 5)
    return found


def usable(weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a copy of this layer can be searched here."""
    tensors = [weight] if bias is None else [weight, bias]
    return (
        weight.dtype in DTYPES
        and len(weight) < 2**31
        and not transformed(weight, bias)
        and all(
            one.device.type == "cpu" and one.layout == torch.strided and one.dtype == weight.dtype for one in tensors
        )
        and way() > 0
    )


class RoundedRows:
    """The rows of a linear layer, and a copy of them in bfloat16. Make it where `usable` says so.

    Args:
        weight: rows, (C, D), of float32 or float64. They are read in each search: a copy is stale after they change.
        bias: (C,), or none.
    """

    @on_cpu
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = _plain(weight), None if bias is None else _plain(bias)
        classes, features = weight.shape
        padded = -(-classes // GROUP) * GROUP, -(-features // DEPTH) * DEPTH
        self.rows = in_large_pages(torch.empty(padded, dtype=torch.bfloat16))
        self.rows[classes:], self.rows[:, features:] = 0, 0
        change, length = [], []
        for start in range(0, classes, ROWS):
            part = self.weight[start : start + ROWS]
            kept = self.rows[start : start + ROWS, :features][: len(part)].copy_(part)
            change.append(_lengths(part - kept.to(part.dtype)).max())
            length.append(_lengths(part).max())
        self.column = torch.full(padded[:1], -torch.inf, dtype=torch.float32)  # no row is a class from C on
        self.column[:classes] = 0 if self.bias is None else self.bias
        self.change, self.length = float(torch.stack(change).max()), float(torch.stack(length).max())
        possible = self.column[self.column != -torch.inf]
        self.offset = float(possible.abs().max()) if len(possible) else 0.0

    @on_cpu
    def best(self, queries: Tensor, k: int, how: int = TILES) -> Best:
        """The k largest logits of each query.

        Args:
            queries: (N, D), of the rows' dtype.
            k: 1 to C.
            how: 2 for AMX if the machine has it, 1 for AVX-512.
        """
        number, threads = len(queries), max(1, min(torch.get_num_threads(), self.rows.nbytes // PART))
        how = min(how, way())
        fewest = 1 if how == TILES else GROUP  # queries: registers are filled with zeros
        if k > MOST_BEST or number < fewest or (ROOM + 4 * k) * threads > len(self.weight):
            nothing = queries.new_empty(number, k)
            return Best(nothing, nothing.long(), torch.zeros(number, dtype=torch.bool))
        size = -(-len(self.rows) // (threads * GROUP)) * GROUP
        parts = [slice(start, min(start + size, len(self.weight))) for start in range(0, len(self.weight), size)]
        found = [self._of_all(some, k, how, parts) for some in torch.split(_plain(queries), QUERIES)]
        return Best(*map(torch.cat, zip(*found, strict=True)))

    def _of_all(self, queries: Tensor, k: int, how: int, parts: list[slice]) -> Best:
        """The best of all rows, each part of which has a thread."""
        rounded, error = self._rounded(queries)
        prepared = [self._prepared(queries, rounded, error, k, how, part) for part in parts]
        threads = [Thread(target=call) for _, call in prepared[1:]]
        for thread in threads:
            thread.start()
        prepared[0][1]()
        for thread in threads:
            thread.join()
        values, classes, decided = map(torch.stack, zip(*(best for best, _ in prepared), strict=True))
        classes += torch.tensor([part.start for part in parts]).view(-1, 1, 1)
        values, classes = values.transpose(0, 1).flatten(1), classes.transpose(0, 1).flatten(1)  # which rise by parts
        values, place = values.sort(dim=1, descending=True, stable=True)
        return Best(values[:, :k], classes.gather(1, place[:, :k]), decided.all(0))

    def _rounded(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries in groups, the last filled with zeros, and how far their logits may be off, infinity of the zeros."""
        number, features = queries.shape
        padded, deep = -(-number // GROUP) * GROUP, self.rows.shape[1]
        rounded = torch.zeros(padded, deep, dtype=torch.bfloat16)
        error = torch.full((padded,), torch.inf, dtype=torch.float32)
        rounded[:number, :features] = queries
        error[:number] = self._error(queries, rounded[:number, :features].to(queries.dtype))
        return rounded.view(padded // GROUP, GROUP, deep // 2, 2).transpose(1, 2).contiguous(), error

    def _prepared(
        self, queries: Tensor, rounded: Tensor, error: Tensor, k: int, how: int, part: slice
    ) -> tuple[Best, Callable[[], object]]:
        """Where the best among some rows will stand, numbered from the first of them, and the call that finds them."""
        room, sound, number = ROOM + 4 * k, error < LARGEST, len(queries)
        rows = self.rows[part.start : -(-part.stop // GROUP) * GROUP]
        values, classes = queries.new_empty(number, k), torch.empty(number, k, dtype=torch.long)
        decided = torch.zeros(number, dtype=torch.bool)
        of_search = (
            rows,
            self.column[part.start :],
            rounded,
            error,
            torch.empty(len(error), room, dtype=torch.int32),
            torch.empty(len(error), room, dtype=torch.float32),
            torch.full((len(error), k), -torch.inf, dtype=torch.float32),
            torch.full_like(error, torch.finfo(torch.float32).min).where(sound, torch.inf),
            torch.where(sound, 0, -1),
        )
        as_they_are = self.weight[part], None if self.bias is None else self.bias[part], queries
        of_choice = queries.new_empty(room), torch.empty(room, dtype=torch.int32), values, classes, decided

        def call() -> None:  # holds the tensors, and lets other threads run
            getattr(LIBRARY, f"softmaxes_best_{DTYPES[queries.dtype]}")(
                how,
                *_addresses(of_search),
                *(len(rows), len(error), rows.shape[1], k, room),
                *_addresses(as_they_are),
                *queries.shape,
                *_addresses(of_choice),
            )

        return Best(values, classes, decided), call

    def _error(self, queries: Tensor, rounded: Tensor) -> Tensor:
        """How far the logit of rounded numbers may be off, for any class: (N, D), (N, D) -> (N,).

        By the inequality of Cauchy and Schwarz q·w and its rounded twin are no farther apart than |q| times the change
        of w, and the change of q times |w|. The sum in float32 is off by D 2^-24 of the product of the lengths, and the
        tiles take the smallest numbers for zero; both are counted twice.
        """
        length, change = _lengths(queries), _lengths(queries - rounded)
        longest, features = self.length + self.change, queries.shape[1]
        by_rounding = length * self.change + change * longest
        by_summing = (features + 8) * 2.0**-23 * (length + change) * longest + 2.0**-22 * self.offset
        by_flushing = features * 2.0**-124 * (1 + length + longest)
        error: Tensor = 1.001 * (by_rounding + by_summing + by_flushing)
        return error.float()


def _lengths(rows: Tensor) -> Tensor:
    """Of rows, (N, D) -> (N,) float64, in which no square of a float32 is too small."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths


def _plain(tensor: Tensor) -> Tensor:
    """As it lies in memory for compiled code: dense, and no sign is kept apart."""
    return tensor.detach().resolve_neg().contiguous()


def _addresses(tensors: Sequence[Tensor | None]) -> list[int | None]:
    return [None if one is None else one.data_ptr() for one in tensors]
