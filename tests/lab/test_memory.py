"""A limit of memory, and what is said where there is no more."""

import subprocess
import sys

import pytest

from softmaxes.lab.machine import too_little

LIMITED = """
import mmap
import torch
from softmaxes.lab.machine import limit_memory
stacks = mmap.mmap(-1, 3 * 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # such as many cores bring; not touched
limit_memory(2 * 2**30)
torch.empty(2**30, dtype=torch.uint8)
torch.empty(5 * 2**29, dtype=torch.uint8)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit otherwise")
def test_what_a_process_has_reserved_before_does_not_count() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"you tried to allocate {5 * 2**29} bytes" in done.stderr


def test_what_says_that_there_is_too_little() -> None:
    said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
    assert too_little(MemoryError())
    assert too_little(RuntimeError(said))
    assert not too_little(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not too_little(ValueError(said))
