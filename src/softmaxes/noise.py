"""Noise of a part of a batch, the same as that of the whole batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

_part: tuple[int, int] | None = None  # a compiled head can read this, and no ContextVar


@contextmanager
def part_of_batch(first: int, size: int) -> Iterator[None]:
    r"""While it lasts, a head's input is a part of a batch, and its noise that part of the whole batch's.

    In data parallelism every process has a part of each batch. Seeded alike, and with its part named here, each draws
    the noise that one process would draw for the whole batch. So only rounding makes their mean gradient differ from
    that of one process.

    `GumbelSoftmax` uses it. `SampledSoftmax`, `NCE` and `NegativeSampling` do not need it: they draw classes once for
    the whole batch. Dropout and `TreeSampledSoftmax` ignore it.

    Args:
        first: where in the batch the part begins.
        size: how many examples the batch has.

    Cost:
        Noise is drawn for all `size` examples.

    Example:
        >>> import torch
        >>> from softmaxes import GumbelSoftmax
        >>> from softmaxes.noise import part_of_batch
        >>> head, x, y = GumbelSoftmax(8, 10), torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> _ = torch.manual_seed(0)
        >>> whole = head(x, y)
        >>> _ = torch.manual_seed(0)
        >>> with part_of_batch(1, 4):
        ...     part = head(x[1:3], y[1:3])
        >>> torch.allclose(part, whole[1:3])
        True
    """
    if not 0 <= first <= size:
        raise ValueError(f"part_of_batch: expected first in 0..size, got {first} and {size}.")
    global _part
    before, _part = _part, (first, size)
    try:
        yield
    finally:
        _part = before


def drawn_like(tensor: Tensor, dim: int, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Noise of a tensor's shape, out of the whole batch's if `part_of_batch` says of which part it is.

    Args:
        tensor: what the noise is for.
        dim: its dimension of examples.
        draw: fills a tensor.
    """
    part = _part
    if part is None:
        return draw(tensor.new_empty(tensor.shape))
    first, size = part
    number = tensor.shape[dim]
    if first + number > size:
        raise ValueError(f"part_of_batch: expected at most {size - first} examples from {first} on, got {number}.")
    whole = draw(tensor.new_empty([*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]]))
    return whole.narrow(dim, first, number)
