"""Large pages for large tables."""

import ctypes
import mmap
import sys

from torch import Tensor

LEAST = 2**25  # bytes; the C library maps fresh memory for a tensor of this size, so none of it is touched yet
PAGE = mmap.PAGESIZE


def in_large_pages(empty: Tensor) -> Tensor:
    """The same tensor, not yet filled; Linux is asked to lay it in pages of some MiB if it is large.

    Rows that lie anywhere in a table are then found sooner, as the processor remembers where a page is for few pages
    alone. Where the system knows no such pages nothing is done.
    """
    if sys.platform == "linux" and type(empty) is Tensor and empty.device.type == "cpu" and empty.nbytes >= LEAST:
        start = -(-empty.data_ptr() // PAGE) * PAGE
        size = empty.data_ptr() + empty.nbytes - start
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    return empty
