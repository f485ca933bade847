"""Large tables lie in large pages where the system has such."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softmaxes import HierarchicalSoftmax, Softmax, Tree, large_pages
from softmaxes.large_pages import LEAST, in_large_pages

SMAPS = Path("/proc/self/smaps")


def asked_for(tensor: Tensor) -> bool:
    """Whether the system has been asked for large pages where the middle of a tensor lies."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE)[1:]:
        start, end = (int(bound, 16) for bound in part.split(None, 1)[0].split("-"))
        if start <= middle < end:
            return " hg" in next(line for line in part.splitlines() if line.startswith("VmFlags"))
    raise AssertionError("no such memory")


@pytest.mark.slow
@pytest.mark.skipif(not SMAPS.exists(), reason="the system does not tell")
def test_large_tables_are_in_large_pages() -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("the system has none")
    rows = LEAST // (4 * 64) + 1
    tree = HierarchicalSoftmax(64, Tree.balanced(rows + 1), sparse=True)
    for table in (Softmax(64, rows).weight, tree.weight, in_large_pages(torch.empty(LEAST // 4 + 3)[3:])):
        assert asked_for(table)


def test_the_system_is_not_asked_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(large_pages.ctypes, "CDLL", asked.append)
    small = torch.empty(LEAST // 4 - 1)
    assert in_large_pages(small) is small
    assert HierarchicalSoftmax(8, Tree.balanced(100)).tables.nodes.nbytes < LEAST
    assert asked == []


def test_tensors_elsewhere_are_left_alone() -> None:
    meta = torch.empty(LEAST, device="meta")
    assert in_large_pages(meta) is meta
