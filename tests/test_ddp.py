"""Heads in `DistributedDataParallel`, two processes on the CPU: the gradients are the means, sparse ones too."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from leaving import leave
from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    ForestSoftmax,
    Head,
    HierarchicalSoftmax,
    NegativeSampling,
    NeighborSampledSoftmax,
    SampledSoftmax,
    Sampler,
    Tree,
    TreeSampledSoftmax,
)

CLASSES, FEATURES, ROWS, PROCESSES = 40, 6, 8, 2
TREE, UNIFORM = Tree.random(CLASSES, arity=3), Sampler.uniform(CLASSES)

SPARSE: dict[str, Callable[[bool], Head]] = {
    "hierarchical": lambda sparse: HierarchicalSoftmax(FEATURES, TREE, sparse=sparse),
    "forest": lambda sparse: ForestSoftmax(FEATURES, [TREE, Tree.balanced(CLASSES)], sparse=sparse),
    "sampled": lambda sparse: SampledSoftmax(FEATURES, UNIFORM, 5, sparse=sparse),
    "neighbor-sampled": lambda sparse: NeighborSampledSoftmax(FEATURES, CLASSES, 3, 5, sparse=sparse),
    "nce": lambda sparse: NCE(FEATURES, UNIFORM, 5, sparse=sparse),
    "negative": lambda sparse: NegativeSampling(FEATURES, UNIFORM, 5, sparse=sparse),
    "tree-sampled": lambda sparse: TreeSampledSoftmax(FEATURES, TREE, 6, sparse=sparse),
}


def gradients(model: torch.nn.Module, process: int) -> dict[str, Tensor]:
    """The gradients of a batch that is the process's own."""
    torch.manual_seed(process)
    input, target = torch.randn(ROWS, FEATURES), torch.randint(CLASSES, (ROWS,))
    model.zero_grad()
    model(input, target).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def in_a_process(process: int, address: str) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=address, rank=process, world_size=PROCESSES)
    for name, make in SPARSE.items():
        for sparse in (True, False):
            torch.manual_seed(7)
            head = make(sparse)
            alone = copy.deepcopy(head)
            found = gradients(DistributedDataParallel(head), process)
            each = [gradients(alone, other) for other in range(PROCESSES)]
            for parameter, gradient in found.items():
                assert gradient.is_sparse is sparse, (name, parameter)
                expected = sum(one[parameter.removeprefix("module.")].to_dense() for one in each) / PROCESSES
                torch.testing.assert_close(gradient.to_dense(), expected, msg=f"{name} {parameter}")
    leave()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package")
def test_gradients_are_averaged_over_processes(tmp_path_factory: pytest.TempPathFactory) -> None:
    address = f"file://{tmp_path_factory.mktemp('group') / 'rendezvous'}"
    spawn(in_a_process, args=(address,), nprocs=PROCESSES)


@pytest.mark.parametrize("make", [*SPARSE.values(), lambda _: AdaptiveSoftmax(FEATURES, range(1, CLASSES + 1))])
def test_nothing_is_broadcast_that_grows_with_the_classes(make: Callable[[bool], Head]) -> None:
    """`DistributedDataParallel` sends every buffer at every step."""
    assert sum(buffer.numel() for buffer in make(False).buffers()) == 0
