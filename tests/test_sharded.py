"""Heads split over ranks are the plain heads, with one to four processes; `tests/ranks.py` has what each checks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

import ranks
from softmaxes import ForestSoftmax, GumbelSoftmax, HierarchicalSoftmax, Softmax, Tree
from softmaxes.sharded import cut, load_plain, shard
from softmaxes.testing import LAWS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="torch was built without its distributed package"),
]


def said_by(size: int, shared: Path, names: list[str]) -> dict[str, float]:
    """What processes say of some cases; an error if one of these fails."""
    try:
        spawn(ranks.process, args=(size, str(shared), names), nprocs=size)
    except ProcessRaisedException as error:
        pytest.fail(f"{size} processes: {error}")
    said = [json.loads(path.read_text()) for path in sorted(shared.glob(f"said-{size}-*.json"))]
    failed = [
        f"{name}, rank {rank} of {size}:\n{text}"
        for rank, one in enumerate(said)
        for name, text in one["failed"].items()
    ]
    assert not failed, "\n".join(failed)
    assert len(said) == size
    assert all(one["told"].keys() == said[0]["told"].keys() for one in said)
    return {name: number for name, number in said[0]["told"].items() if not name.endswith("seconds")}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_sharded_heads_are_the_plain_ones(size: int, tmp_path: Path) -> None:
    names = [name for name in ranks.CASES if name not in ranks.TOGETHER and (size < 3 or name != "laws_hold")]
    said_by(size, tmp_path, names)


def test_the_number_of_ranks_changes_nothing(tmp_path: Path) -> None:
    """First weights, noise and draws are the same; checkpoints go on with any number of ranks, and on one device."""
    said = [said_by(size, tmp_path, list(ranks.TOGETHER)) for size in (1, 2, 3, 4)]
    for other in said[1:]:
        assert other == pytest.approx(said[0], rel=1e-9, abs=1e-12)
    assert len(said[0]) > 30
    for name in ranks.TRAINED:
        heads = []
        for size in (1, 3):
            head = (ranks.HEADS | ranks.NOISY)[name](23).double()
            with ranks.pieces(4):
                load_plain(tmp_path / f"{name} on {size}", head, "head")
            heads.append(head.log_prob(torch.ones(ranks.FEATURES, dtype=torch.float64)))
        torch.testing.assert_close(heads[0], heads[1], rtol=1e-9, atol=1e-12)
    other = HierarchicalSoftmax(ranks.FEATURES, Tree.random(23, seed=9)).double()
    with pytest.raises(ValueError, match="the same tree, got one of another"):
        load_plain(tmp_path / "hierarchical of paths on 3", other, "head")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """This process as the only rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_what_cannot_be_split_is_refused(alone: None) -> None:
    forest = ForestSoftmax(4, [Tree.balanced(8), Tree.random(8)])
    with pytest.raises(TypeError, match=r"expected one of Softmax, .*HierarchicalSoftmax, got ForestSoftmax"):
        shard(forest)
    with pytest.raises(TypeError, match="expected a Head, got Linear"):
        shard(torch.nn.Linear(4, 8))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="without level_layers"):
        shard(HierarchicalSoftmax(4, Tree.balanced(8), level_layers=True))
    with pytest.raises(TypeError, match="expected group as a ProcessGroup or a DeviceMesh, got int"):
        shard(Softmax(4, 8), 3)  # type: ignore[arg-type]
    assert shard(Softmax(4, 8), init_device_mesh("cpu", (1,))).classes.tolist() == list(range(8))


def test_without_a_group_the_sentence_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="expected a process group, got none; call"):
        shard(Softmax(4, 8))


def test_the_noise_is_gumbels(alone: None) -> None:
    """Its mean is Euler's constant, its variance pi^2 / 6; no two classes and no two steps have the same."""
    torch.manual_seed(0)
    sharded = shard(GumbelSoftmax(4, 3000))
    noise = torch.stack([sharded._noise(torch.zeros(2, 20, 3000)) for _ in range(2)])  # type: ignore[attr-defined]
    assert abs(float(noise.mean()) - 0.5772) < 0.01
    assert abs(float(noise.var()) - 1.6449) < 0.03
    assert len(noise.unique()) > 0.99 * noise.numel()


def test_a_tree_is_cut_into_about_as_many_classes_a_rank() -> None:
    for tree in (Tree.balanced(1000), Tree.huffman(torch.arange(1000) + 1), Tree.random(1000, 10), ranks.paths(999)):
        parts = cut.cut(tree)
        assert int(parts.classes.sum()) == tree.num_classes
        assert torch.equal(parts.classes, torch.bincount(parts.piece[: tree.num_classes]))
        load = torch.zeros(4).index_add(0, parts.share(4), parts.classes.float())
        assert float(load.max() / load.mean()) < (1.1 if tree.arity < 100 else 1.5), tree


def test_the_laws_that_ranks_are_not_asked_for_are_laws() -> None:
    assert {law.__name__ for law in LAWS} >= ranks.NOT_OF_RANKS | ranks.ALONE
