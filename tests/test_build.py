"""Trees that are built: from counts, from names, from vectors, from confusions."""

import heapq
import itertools
import math
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from gensim.models.word2vec import _assign_binary_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.cluster import BisectingKMeans
from sklearn.datasets import load_digits
from torch import Tensor

from softmaxes import Tree
from softmaxes.trees import build
from softmaxes.trees.growing import class_means


def clusters(tree: Tree) -> set[frozenset[int]]:
    """The classes below each inner node."""
    below: dict[int, set[int]] = {}
    for c in range(tree.num_classes):
        for node in tree.ancestors(c):
            below.setdefault(node, set()).add(c)
    return {frozenset(classes) for classes in below.values()}


def sizes(tree: Tree) -> list[int]:
    """How many classes are below each node; a class has itself."""
    size = [int(node < tree.num_classes) for node in range(tree.num_nodes)]
    for c in range(tree.num_classes):
        for node in tree.ancestors(c):
            size[node] += 1
    return size


# Huffman


def total_length(tree: Tree, counts: Sequence[int]) -> int:
    """The sum over the classes of count times depth, exact."""
    return sum(count * depth for count, depth in zip(counts, tree.node_depth.tolist(), strict=False))


def heap_length(counts: Sequence[int], arity: int) -> int:
    """The same of the tree that a heap makes: what is merged, added up."""
    heap = list(counts)
    heapq.heapify(heap)
    taken, length = (len(counts) - 2) % (arity - 1) + 2, 0
    while len(heap) > 1:
        merged = sum(heapq.heappop(heap) for _ in range(taken))
        heapq.heappush(heap, merged)
        taken, length = arity, length + merged
    return length


def gensim_s_codes(counts: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """Code and point of each class."""
    vectors = KeyedVectors(1)
    vectors.add_vectors([str(c) for c in range(len(counts))], np.zeros((len(counts), 1), np.float32))
    for c, count in enumerate(counts):
        vectors.set_vecattr(str(c), "count", count)
    _assign_binary_codes(vectors)
    return tuple(  # type: ignore[return-value]
        [vectors.get_vecattr(str(c), name).tolist() for c in range(len(counts))] for name in ("code", "point")
    )


def codes(tree: Tree, counts: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """The same of a tree: 1 is the heavier of two siblings, the i-th node that was made is point i."""
    weight = list(counts) + [0] * (tree.num_nodes - tree.num_classes)
    for c in range(tree.num_classes):
        for node in tree.ancestors(c):
            weight[node] += counts[c]
    code, point = [], []
    for c in range(tree.num_classes):
        down = [*reversed(tree.ancestors(c)), c]
        code.append(
            [
                int(weight[node] == max(map(weight.__getitem__, tree.children_of(above))))
                for above, node in itertools.pairwise(down)
            ]
        )
        point.append([node - tree.num_classes for node in down[:-1]])
    return code, point


def test_a_huffman_tree_by_hand() -> None:
    tree = Tree.huffman([8, 6, 5, 4, 3])
    assert tree.parent.tolist() == [7, 6, 6, 5, 5, 7, 8, 8, -1]
    assert tree.node_depth[:5].tolist() == [2, 2, 2, 3, 3]
    assert tree.expected_path_length([8, 6, 5, 4, 3]) == pytest.approx(59 / 26)
    # Of five and of six classes, three at a time: the first node takes three, or two, so that the root has three.
    assert Tree.huffman([8, 6, 5, 4, 3], arity=3).parent.tolist() == [6, 6, 5, 5, 5, 6, -1]
    assert Tree.huffman([8, 6, 5, 4, 3, 2], arity=3).parent.tolist() == [8, 8, 7, 7, 6, 6, 7, 8, -1]
    assert Tree.huffman([1, 2, 3], arity=10**12) == Tree([3, 3, 3, -1])


@pytest.mark.slow
def test_huffman_has_gensim_s_codes() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        counts = generator.integers(1, 10**12, generator.integers(2, 60)).tolist()
        assert codes(Tree.huffman(counts), counts) == gensim_s_codes(counts)


@pytest.mark.parametrize("high", [2, 4, 30])
def test_huffman_is_as_short_as_gensim_s_where_sums_are_equal(high: int) -> None:
    generator = np.random.default_rng(high)
    for _ in range(60):
        counts = generator.integers(1, high, generator.integers(2, 100)).tolist()
        code, _ = gensim_s_codes(counts)
        theirs = sum(count * len(own) for count, own in zip(counts, code, strict=True))
        assert total_length(Tree.huffman(counts), counts) == theirs


def shortest(counts: Sequence[int], arity: int) -> int:
    """The least sum of count times depth of all trees, by trying them all."""
    num_sets = 2 ** len(counts)
    total = [sum(count for c, count in enumerate(counts) if chosen >> c & 1) for chosen in range(num_sets)]
    none = math.inf
    # forest[k][s]: the least of k trees that have the classes of s between them; a set's lowest class is in the first.
    forest: list[list[float]] = [[none] * num_sets for _ in range(arity + 1)]
    for chosen in range(1, num_sets):
        lowest = chosen & -chosen
        for k in range(2, arity + 1):
            first = chosen
            while first := (first - 1) & chosen:
                if first & lowest:
                    forest[k][chosen] = min(forest[k][chosen], forest[1][first] + forest[k - 1][chosen ^ first])
        several = min(forest[k][chosen] for k in range(2, arity + 1))
        forest[1][chosen] = 0 if chosen == lowest else several + total[chosen]
    return int(forest[1][-1])


@pytest.mark.parametrize("arity", [2, 3, 4])
def test_no_tree_is_shorter_than_huffman_s(arity: int) -> None:
    generator = np.random.default_rng(arity)
    for num_classes in range(2, 9):
        for high in (3, 10, 1000):
            counts = generator.integers(0, high, num_classes).tolist()
            counts[0] += 1
            assert total_length(Tree.huffman(counts, arity), counts) == shortest(counts, arity)


@given(
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**40)), min_size=2, max_size=80).filter(any),
    st.integers(2, 9),
)
@settings(deadline=None, max_examples=200)
@pytest.mark.slow
def test_any_huffman_tree(counts: list[int], arity: int) -> None:
    tree = Tree.huffman(counts, arity)
    num_classes, children = len(counts), tree.num_children.tolist()
    assert total_length(tree, counts) == heap_length(counts, arity)
    assert children[num_classes] == (num_classes - 2) % (arity - 1) + 2
    assert set(children[num_classes + 1 :]) <= {arity}
    weight = counts + [0] * (tree.num_nodes - num_classes)
    for node in range(tree.num_nodes - 1):  # a node is made after those below it
        assert int(tree.parent[node]) > node or node < num_classes
        weight[int(tree.parent[node])] += weight[node]
    assert weight[num_classes:] == sorted(weight[num_classes:])
    depth = tree.node_depth[:num_classes].tolist()
    for one, other in itertools.pairwise(sorted(range(num_classes), key=counts.__getitem__)):
        assert depth[one] >= depth[other] or counts[one] == counts[other]
    # Twice the counts, and the same as floats, have the same tree.
    assert Tree.huffman([2 * count for count in counts], arity) == tree
    assert Tree.huffman(torch.tensor(counts, dtype=torch.float64), arity) == tree


def test_huffman_of_ints_is_exact() -> None:
    large = 2**60  # where a float64 can not tell these apart
    assert Tree.huffman([large + 2, large, large + 1]).parent.tolist() == [4, 3, 3, 4, -1]
    assert Tree.huffman([2**62, 2**62 - 1]).num_nodes == 3


@pytest.mark.slow
@pytest.mark.parametrize("arity", [2, 3, 16])
def test_huffman_of_counts_far_apart(arity: int) -> None:
    """Deep trees, and as many rounds as there can be: every power of two of a float64, Fibonacci's numbers."""
    powers = [2.0**power for power in range(-1074, 1018)]
    fibonacci = [1.0, 1.0]
    while len(fibonacci) < 1400:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for counts in (powers, fibonacci, powers * 20 + [1e-300] * 10_000):
        tree = Tree.huffman(counts, arity)
        exact = [int(Fraction(count) * 2**1074) for count in counts]
        assert 0 <= total_length(tree, exact) / heap_length(exact, arity) - 1 < 1e-9
    assert Tree.huffman(powers).depth == len(powers) - 1


def test_huffman_takes_classes_that_never_occur() -> None:
    tree = Tree.huffman([0, 0, 5, 0, 0])
    assert tree.node_depth[2] == 1
    assert Tree.huffman(torch.zeros(100_000, dtype=torch.uint8).index_fill_(0, torch.tensor(7), 1)).node_depth[7] == 1


# Groups, paths, parents


def test_groups_of_groups() -> None:
    tree = Tree.from_groups([0, 2, 1, 0, 3, 2], [5, 5, -1, 5])
    assert tree.parent.tolist() == [7, 9, 8, 7, 10, 9, -1, 12, 12, 11, 12, 6, 6]
    three = Tree.from_groups([0, 2, 1, 0, 3, 2], [1, 1, 0, 1], [9, 9])
    assert three.parent.tolist() == [7, 9, 8, 7, 10, 9, -1, 12, 12, 11, 12, 13, 13, 6]
    assert Tree.from_groups(torch.tensor([7, 7, -3])) == Tree([5, 5, 4, -1, 3, 3])


def test_paths() -> None:
    paths = ["animal/mammal/dog", "plant/oak", "animal/mammal/cat", "animal/worm", "thing", "plant/animal/dog"]
    tree = Tree.from_paths(paths)
    assert tree.parent.tolist() == [8, 9, 8, 7, 6, 10, -1, 6, 7, 6, 9]
    assert tree.names == ("dog", "oak", "cat", "worm", "thing", "dog", "", "animal", "mammal", "plant", "animal")
    for c, path in enumerate(paths):
        assert "/".join(str(tree.names[node]) for node in [*reversed(tree.ancestors(c)), c]) == "/" + path
    assert Tree.from_paths([path.split("/") for path in paths]) == tree
    assert Tree.from_paths([path.replace("/", " > ") for path in paths], separator=" > ") == tree
    assert Tree.from_paths(["a/b", "a/c"], separator=".").names == ("a/b", "a/c", "")


def test_paths_and_groups_make_one_tree() -> None:
    generator = np.random.default_rng(0)
    group = [0, 1, 2, 3, 4, 5, *generator.integers(0, 6, 50).tolist()]
    above = [0, 1, 2, *generator.integers(0, 3, 3).tolist()]
    grouped = Tree.from_groups(group, above)
    named = Tree.from_paths([f"{above[own]}/{own}/{c}" for c, own in enumerate(group)])
    assert clusters(grouped) == clusters(named)
    parents = {f"class {c}": f"group {own}" for c, own in enumerate(group)}
    parents |= {f"group {own}": f"area {area}" for own, area in enumerate(above)}
    parents |= {f"area {area}": "all" for area in range(3)}
    assert clusters(Tree.from_parents(parents)) == clusters(named)


def test_parents() -> None:
    parents = {"mammal": "animal", "dog": "mammal", "oak": "plant", "cat": "mammal", "plant": "life", "animal": "life"}
    tree = Tree.from_parents(parents)
    assert tree.names == ("dog", "oak", "cat", "mammal", "animal", "plant", "life")
    assert tree.parent.tolist() == [3, 5, 3, 4, 6, 6, -1]
    assert Tree.from_parents(parents | {"life": None}) == tree
    chosen = Tree.from_parents(parents, classes=["oak", "cat", "dog"])
    assert chosen.names == ("oak", "cat", "dog", "mammal", "animal", "plant", "life")
    assert chosen.parent.tolist() == [5, 3, 3, 4, 6, 6, -1]


# Clusters


def planted(arity: int, depth: int, seed: int) -> tuple[Tensor, set[frozenset[int]]]:
    """Vectors of a hierarchy whose clusters are twenty times as far apart as wide, and the clusters."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.zeros(1, 16)
    for level in range(depth):
        moved = 0.05**level * torch.randn(len(points), arity, 16, generator=generator)
        points = (points.unsqueeze(1) + moved).flatten(0, 1)
    order = torch.randperm(len(points), generator=generator)
    vectors = torch.empty_like(points)
    vectors[order] = points
    runs = [order.view(-1, arity ** (depth - level)).tolist() for level in range(depth)]
    return vectors, {frozenset(run) for run in itertools.chain(*runs)}


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 1000, build.BLOCK])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("arity", "depth"), [(2, 5), (3, 3), (4, 3), (10, 2)])
def test_a_planted_hierarchy_is_found(
    arity: int, depth: int, balanced: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BLOCK", block)  # all clusters one by one, several at a time, all at once
    for seed in range(4):
        vectors, expected = planted(arity, depth, seed)
        assert clusters(Tree.clustered(vectors, arity, balanced)) == expected
        assert clusters(Tree.agglomerative(vectors, arity)) == expected


def test_clusters_of_unlike_sizes_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(9).repeat_interleave(torch.tensor([40, 5, 33, 6, 5, 9, 7, 20, 12]))
    vectors = torch.randn(9, 8, generator=generator)[group] + 1e-3 * torch.randn(len(group), 8, generator=generator)
    tree = Tree.clustered(vectors, arity=9, balanced=False)
    expected = {frozenset((group == own).nonzero().flatten().tolist()) for own in range(9)}
    assert expected < clusters(tree)


def check_numbers(tree: Tree) -> None:
    """Inner nodes are numbered from the root down, those of one parent together."""
    assert tree.root == tree.num_classes
    assert bool((tree.parent[tree.num_classes :].diff() >= 0).all())


@pytest.mark.parametrize("arity", [2, 3, 7, 16])
@pytest.mark.parametrize("num_classes", [2, 3, 7, 17, 100, 343, 344])
def test_balanced_clusters(num_classes: int, arity: int) -> None:
    vectors = torch.randn(num_classes, 5, generator=torch.Generator().manual_seed(0))
    tree = Tree.clustered(vectors, arity)
    assert tree.depth == Tree.balanced(num_classes, arity).depth
    check_numbers(tree)
    size, children = sizes(tree), tree.num_children.tolist()
    for node in range(num_classes, tree.num_nodes):
        assert children[node] == min(arity, size[node]) > 1
        below = [size[child] for child in tree.children_of(node)]
        assert max(below) - min(below) <= 1


@pytest.mark.parametrize("arity", [2, 5])
def test_unbalanced_clusters_are_not_too_deep(arity: int) -> None:
    vectors = 1.03 ** torch.arange(600, dtype=torch.float64).unsqueeze(1)  # the rest beside one, if it might be so
    tree = Tree.clustered(vectors, arity, balanced=False)
    check_numbers(tree)
    size, children = sizes(tree), tree.num_children.tolist()
    for node in range(600, tree.num_nodes):
        assert children[node] == min(arity, size[node]) > 1
        assert max(size[child] for child in tree.children_of(node)) <= size[node] - math.ceil(size[node] / 16) or (
            size[node] <= arity
        )
    assert Tree.balanced(600, arity).depth < tree.depth < 11 * math.log2(600) + 2


@given(st.integers(2, 60), st.integers(0, 2**32), st.booleans())
@settings(deadline=None, max_examples=50)
@pytest.mark.slow
def test_on_a_line_the_cut_is_the_best(num_classes: int, seed: int, spread: bool) -> None:
    points = np.random.default_rng(seed).normal(size=num_classes)
    points = np.exp(2 * points) if spread else points
    tree = Tree.clustered(torch.from_numpy(points).unsqueeze(1), balanced=False)
    least = math.ceil(num_classes / 16)
    order = points.argsort()

    def squares(cut: int) -> float:
        return sum(len(side) * float(points[side].var()) for side in (order[:cut], order[cut:]))

    best = min(range(least, num_classes - least + 1), key=squares)
    below = [
        {c for c in range(num_classes) if c == child or child in tree.ancestors(c)}
        for child in tree.children_of(tree.root)
    ]
    assert set(order[:best].tolist()) in below


@pytest.mark.parametrize("balanced", [True, False])
def test_three_parts_on_a_line(balanced: bool) -> None:
    for places in ([0, 0, 0, 9, 9, 9, 10, 10, 10], [0, 0, 0, 1, 1, 1, 10, 10, 10]):
        vectors = torch.tensor(places).double().unsqueeze(1) + torch.arange(9).double().unsqueeze(1) / 100
        tree = Tree.clustered(vectors, arity=3, balanced=balanced)
        assert clusters(tree) == {frozenset(range(9)), *(frozenset(range(c, c + 3)) for c in (0, 3, 6))}


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("arity", [2, 3])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_equal_vectors_are_divided_evenly(value: float, arity: int, balanced: bool) -> None:
    tree = Tree.clustered(torch.full((243, 4), value), arity, balanced)
    assert tree.depth <= (8 if arity == 2 else 7)
    size = sizes(tree)
    if arity == 2 or balanced:
        for node in range(243, tree.num_nodes):
            below = [size[child] for child in tree.children_of(node)]
            assert max(below) - min(below) <= 1


def test_equal_vectors_stay_together() -> None:
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 0)
    for balanced in (True, False):
        together = {frozenset(range(c, c + 8)) for c in range(0, 48, 8)}
        assert together < clusters(Tree.clustered(vectors, arity=6, balanced=balanced))


@pytest.mark.parametrize("balanced", [True, False])
def test_clusters_of_unlike_scales_are_found(balanced: bool) -> None:
    for seed in range(4):
        vectors, expected = planted(2, 5, seed)
        tree = Tree.clustered(torch.cat([1e-30 * vectors, 50 + vectors]), balanced=balanced)
        assert {own for own in clusters(tree) if max(own) < 32} == expected


@pytest.mark.slow
def test_what_can_not_be_divided_is_not() -> None:
    # All parts but those of equal vectors are single classes before there are fifteen.
    for seed in range(20):
        vectors = torch.randn(16, 50, generator=torch.Generator().manual_seed(seed))
        vectors[12:] = vectors[12]
        tree = Tree.clustered(vectors, arity=15, balanced=False)
        assert tree.num_children[16:].tolist() == [15, 2]


def squares_within(vectors: np.ndarray[Any, Any], tree: Tree, num_clusters: int) -> float:
    """The sum of squares of the clusters that one gets by dividing the widest until there are so many."""
    below: dict[int, list[int]] = {c: [c] for c in range(tree.num_classes)}
    for c in range(tree.num_classes):
        for node in tree.ancestors(c):
            below.setdefault(node, []).append(c)
    spread = {node: len(own) * vectors[own].var(0).sum() for node, own in below.items()}
    heap = [(-spread[tree.root], tree.root)]
    while len(heap) < num_clusters:
        for child in tree.children_of(heapq.heappop(heap)[1]):
            heapq.heappush(heap, (-spread[child], child))
    return float(-sum(negative for negative, _ in heap))


@pytest.mark.slow
@pytest.mark.parametrize("num_clusters", [16, 64, 256])
def test_clusters_are_as_tight_as_scikit_learn_s(num_clusters: int) -> None:
    """Unbalanced, no worse than bisecting k-means of as many leaves; balanced, by no more than a tenth."""
    digits = load_digits().data
    theirs = BisectingKMeans(num_clusters, random_state=0, bisecting_strategy="biggest_inertia").fit(digits).inertia_
    even = BisectingKMeans(num_clusters, random_state=0, bisecting_strategy="largest_cluster").fit(digits).inertia_
    vectors = torch.from_numpy(digits)
    for seed in (0, 1):
        assert squares_within(digits, Tree.clustered(vectors, balanced=False, seed=seed), num_clusters) < 1.01 * theirs
        tree = Tree.clustered(vectors, seed=seed)
        depth = tree.node_depth.tolist()
        level = [node for node in range(tree.num_nodes) if 2 ** depth[node] == num_clusters]
        owner = torch.tensor([next(above for above in tree.ancestors(c) if above in set(level)) for c in range(1797)])
        balanced = sum((owner == node).sum() * vectors[owner == node].var(0, correction=0).sum() for node in level)
        assert float(balanced) < 1.1 * even


@pytest.mark.slow
def test_the_seed_decides() -> None:
    vectors = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    for balanced in (True, False):
        tree = Tree.clustered(vectors, balanced=balanced, seed=3)
        assert Tree.clustered(vectors, balanced=balanced, seed=3) == tree
        assert any(Tree.clustered(vectors, balanced=balanced, seed=seed) != tree for seed in range(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_vectors_of_any_scale_and_dtype() -> None:
    normal = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    for arity, balanced in itertools.product((2, 5), (True, False)):
        tree = Tree.clustered(normal, arity, balanced)
        for scale in (2.0**-100, 2.0**100):
            assert Tree.clustered(scale * normal, arity, balanced) == tree
    vectors, expected = planted(4, 2, seed=0)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        converted = vectors.to(dtype)
        given = converted.clone()
        assert clusters(Tree.clustered(converted, arity=4)) == expected
        assert clusters(Tree.agglomerative(converted, arity=4)) == expected
        assert torch.equal(converted, given)
    assert Tree.clustered(vectors.requires_grad_()) == Tree.clustered(vectors.tolist())


# SciPy's merges


def opened(merges: np.ndarray[Any, Any], arity: int) -> set[frozenset[int]]:
    """The clusters of a tree of merges after the highest child of each node was opened, written down once more."""
    num_classes = len(merges) + 1

    def below(node: int) -> list[int]:
        if node < num_classes:
            return [node]
        return [c for child in merges[node - num_classes, :2] for c in below(int(child))]

    found, waiting = set(), [2 * num_classes - 2]
    for node in waiting:
        children = [node]
        while len(children) < arity and (highest := max(children)) >= num_classes:
            children.remove(highest)
            children += [int(child) for child in merges[highest - num_classes, :2]]
        found.add(frozenset(below(node)))
        waiting += [child for child in children if child >= num_classes]
    return found


@pytest.mark.parametrize("linkage", build.LINKAGES)
def test_merges_are_scipy_s(linkage: str) -> None:
    vectors = torch.randn(70, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    merges = hierarchy.linkage(vectors.numpy(), linkage)
    tree = Tree.agglomerative(vectors, linkage=linkage)
    for merge, (first, second) in enumerate(merges[:, :2].astype(int).tolist()):
        assert set(tree.children_of(70 + merge)) == {first, second}
    for arity in (2, 3, 8, 70, 100):
        tree = Tree.agglomerative(vectors, arity, linkage)
        assert clusters(tree) == opened(merges, arity)
        assert tree.arity == min(arity, 70)
        for node in range(70, tree.num_nodes):
            children = tree.children_of(node)
            assert len(children) == arity or max(children) < 70


def test_the_highest_child_is_opened() -> None:
    # Two pairs and a far class: the merges are 01, 23, 0123, all.
    vectors = torch.tensor([[0.0], [1.0], [10.0], [11.5], [50.0]])
    assert Tree.agglomerative(vectors).parent.tolist() == [5, 5, 6, 6, 8, 7, 7, 8, -1]
    assert Tree.agglomerative(vectors, arity=3).parent.tolist() == [5, 5, 6, 6, 7, 7, 7, -1]
    assert Tree.agglomerative(vectors, arity=4).parent.tolist() == [5, 5, 6, 6, 6, 6, -1]
    assert Tree.agglomerative(vectors, arity=5).parent.tolist() == [5, 5, 5, 5, 5, -1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_confusion(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 50, (40, 40), generator=generator)
    counts[3] = 0  # a class without examples
    share = counts / counts.sum(1, keepdim=True).clamp(min=1).double()
    distance = 1 - (share + share.T) / 2
    merges = hierarchy.linkage(squareform(distance.numpy(), checks=False), "average")
    for arity in (2, 5):
        assert clusters(Tree.from_confusion(counts.to(dtype), arity)) == opened(merges, arity)


def test_classes_taken_for_each_other_come_together() -> None:
    # Class 0 is rare, and half of it is taken for class 2; class 1 has many examples, few of which go astray.
    confusion = [[1, 0, 1, 0], [9, 900, 0, 91], [0, 0, 10, 0], [0, 90, 9, 901]]
    assert Tree.from_confusion(confusion).parent.tolist() == [4, 5, 4, 5, 6, 6, -1]
    assert Tree.from_confusion(torch.zeros(3, 3)).num_classes == 3


# All of them

MAKES: dict[str, Callable[[], Tree]] = {
    "balanced": lambda: Tree.balanced(5),
    "random": lambda: Tree.random(5),
    "huffman": lambda: Tree.huffman([3, 1, 2]),
    "from_groups": lambda: Tree.from_groups([0, 1, 1], [4, 4]),
    "from_paths": lambda: Tree.from_paths(["a", "b"]),
    "from_parents": lambda: Tree.from_parents({"a": "c", "b": "c"}),
    "clustered": lambda: Tree.clustered([[0.0], [1.0], [5.0]]),
    "agglomerative": lambda: Tree.agglomerative([[0.0], [1.0], [5.0]]),
    "from_confusion": lambda: Tree.from_confusion([[1, 2], [0, 3]]),
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_tree_is_made_under_another_default_device(make: Callable[[], Tree]) -> None:
    expected = make()
    with torch.device("meta"):
        assert make() == expected


VECTORS = torch.zeros(4, 3)
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "arity of huffman": (lambda: Tree.huffman([1, 2], arity=1), ValueError, "expected arity to be at least 2, got 1"),
    "int arity": (lambda: Tree.huffman([1, 2], arity=2.0), TypeError, "expected arity to be an int, got 2.0"),  # type: ignore[arg-type]
    "one count": (lambda: Tree.huffman([1]), ValueError, "expected counts of at least 2 classes, got 1"),
    "zeros": (lambda: Tree.huffman([0, 0]), ValueError, "expected counts not all 0, got 2 zeros"),
    "negative": (lambda: Tree.huffman([1, -2]), ValueError, "at least 0, got -2.0 for class 1"),
    "nan": (lambda: Tree.huffman([1.0, math.nan]), ValueError, "to be finite and at least 0, got nan for class 1"),
    "bools": (lambda: Tree.huffman([True, False]), TypeError, "expected counts as a sequence of numbers"),
    "int sum": (
        lambda: Tree.huffman([2**62, 2**62]),
        ValueError,
        "expected counts whose sum is less than 2**63, got 9223372036854775808.",
    ),
    "uint64 sum": (lambda: Tree.huffman(torch.tensor([2**63, 1], dtype=torch.uint64)), ValueError, "less than 2**63"),
    "int too large": (lambda: Tree.huffman([2**63, 1]), TypeError, "expected counts as a sequence of numbers, one a"),
    "float sum": (lambda: Tree.huffman([1e308, 1e308]), ValueError, "whose sum is finite, got 1e+308 among them"),
    "coarser too large": (
        lambda: Tree.from_groups([0, 1, 2], [0, 0]),
        ValueError,
        "expected group_of_class in 0..1, since there are 2 coarser groups, got 2.",
    ),
    "coarser negative": (lambda: Tree.from_groups([0, -1], [0, 0]), ValueError, "expected group_of_class in 0..1"),
    "coarser unused": (
        lambda: Tree.from_groups([0, 1], [0, 2], [1, 1, 1]),
        ValueError,
        "expected coarser[0] to use each of 0..2, got none in 1.",
    ),
    "coarser floats": (
        lambda: Tree.from_groups([0, 1], [0.5, 2]),  # type: ignore[list-item]
        TypeError,
        "expected coarser[0] as a sequence of ints, one a group",
    ),
    "no path": (lambda: Tree.from_paths([]), ValueError, "expected paths of at least 2 classes, got 0"),
    "one path": (lambda: Tree.from_paths(["a/b"]), ValueError, "expected paths of at least 2 classes, got 1"),
    "paths in a string": (lambda: Tree.from_paths("a/b"), TypeError, "expected a path for each class, got 'a/b'"),
    "empty path": (lambda: Tree.from_paths(["a", ""]), ValueError, "none empty, got '' for class 1"),
    "no parts": (lambda: Tree.from_paths(["a", []]), ValueError, "none empty, got [] for class 1"),
    "empty part": (lambda: Tree.from_paths(["a//b", "c"]), ValueError, "none empty, got 'a//b' for class 0"),
    "leading slash": (lambda: Tree.from_paths(["a", "/b"]), ValueError, "none empty, got '/b' for class 1"),
    "repeated path": (
        lambda: Tree.from_paths(["a/b", "c", "a/b"]),
        ValueError,
        "expected paths that differ, got 'a/b' for classes 0 and 2",
    ),
    "inner class": (
        lambda: Tree.from_paths(["a/b", "c/d", "c"]),
        ValueError,
        "expected no class above another, got 'c' for class 2",
    ),
    "inner class first": (lambda: Tree.from_paths(["c", "c/d"]), ValueError, "got 'c' for class 0"),
    "path of numbers": (
        lambda: Tree.from_paths(["a", [1, 2]]),  # type: ignore[list-item]
        TypeError,
        "expected a path to be a string or strings, got [1, 2] for class 1",
    ),
    "number": (lambda: Tree.from_paths(["a", 3]), TypeError, "string or strings, got 3 for class 1"),  # type: ignore[list-item]
    "empty separator": (lambda: Tree.from_paths(["a", "b"], ""), ValueError, "separator of at least one character"),
    "separator": (lambda: Tree.from_paths(["a", "b"], 3), TypeError, "expected separator to be a string, got 3"),  # type: ignore[arg-type]
    "two roots": (
        lambda: Tree.from_parents({"a": "b", "c": "d", "e": None}),
        ValueError,
        "expected one root, a name without a parent, got ['b', 'd']",
    ),
    "nothing": (lambda: Tree.from_parents({}), ValueError, "a name without a parent, got none"),
    "cycle": (
        lambda: Tree.from_parents({"a": "b", "b": "c", "d": "b", "c": "b"}),
        ValueError,
        "expected every node to descend from the root, got 'b' in a cycle",
    ),
    "cycle beside a root": (
        lambda: Tree.from_parents({"x": "r", "y": "r", "a": "b", "b": "a"}),
        ValueError,
        "got 'a' in a cycle",
    ),
    "own parent": (lambda: Tree.from_parents({"a": "a", "b": "c"}), ValueError, "got 'a' in a cycle"),
    "parents list": (lambda: Tree.from_parents(["a"]), TypeError, "expected parent_of to be a mapping, got list"),  # type: ignore[arg-type]
    "number's parent": (lambda: Tree.from_parents({"a": 1}), TypeError, "names to be strings, got 1 above 'a'"),  # type: ignore[dict-item]
    "number's child": (lambda: Tree.from_parents({1: "a"}), TypeError, "names to be strings, got 'a' above 1"),  # type: ignore[dict-item]
    "one class": (lambda: Tree.from_parents({"a": "b"}), ValueError, "expected at least 2 leaves, got 1"),
    "class above": (
        lambda: Tree.from_parents({"a": "c", "b": "c"}, ["a", "c"]),
        ValueError,
        "expected classes to be nodes with none below, got 'c', which is above others",
    ),
    "class unknown": (
        lambda: Tree.from_parents({"a": "c", "b": "c"}, ["a", "x"]),
        ValueError,
        "got 'x', which is not in parent_of",
    ),
    "class left out": (
        lambda: Tree.from_parents({"a": "c", "b": "c"}, ["a"]),
        ValueError,
        "expected classes to name every node with none below, got no 'b'",
    ),
    "class twice": (
        lambda: Tree.from_parents({"a": "c", "b": "c"}, ["b", "a", "b"]),
        ValueError,
        "expected classes that differ, got 'b' twice",
    ),
    "classes in a string": (lambda: Tree.from_parents({"a": "c", "b": "c"}, "ab"), TypeError, "got 'ab'"),
    "vectors of ints": (
        lambda: Tree.clustered([[1], [2]]),
        TypeError,
        "expected vectors of a floating-point dtype and of shape (C, D), got torch.int64 of shape (2, 1)",
    ),
    "ragged vectors": (lambda: Tree.clustered([[0.0], []]), TypeError, "of shape (C, D), got list of other things"),
    "a vector": (lambda: Tree.clustered(torch.zeros(3)), TypeError, "got torch.float32 of shape (3,)"),
    "one vector": (lambda: Tree.clustered(torch.zeros(1, 3)), ValueError, "D at least 1, got shape (1, 3)"),
    "no feature": (lambda: Tree.clustered(torch.zeros(3, 0)), ValueError, "D at least 1, got shape (3, 0)"),
    "nan vector": (
        lambda: Tree.clustered([[1.0], [2.0], [math.nan]]),
        ValueError,
        "expected vectors to be finite, got nan for class 2",
    ),
    "inf vector": (lambda: Tree.agglomerative([[1.0], [-math.inf]]), ValueError, "got -inf for class 1"),
    "clustered arity": (lambda: Tree.clustered(VECTORS, 1), ValueError, "expected arity to be at least 2, got 1"),
    "balanced": (lambda: Tree.clustered(VECTORS, balanced=1), TypeError, "balanced to be a bool, got 1"),  # type: ignore[arg-type]
    "seed": (lambda: Tree.clustered(VECTORS, seed=0.5), TypeError, "expected seed to be an int, got 0.5"),  # type: ignore[arg-type]
    "agglomerative arity": (lambda: Tree.agglomerative(VECTORS, 0), ValueError, "arity to be at least 2, got 0"),
    "linkage": (
        lambda: Tree.agglomerative(VECTORS, linkage="wards"),
        ValueError,
        "expected linkage to be one of single, complete, average, weighted, centroid, median, ward, got 'wards'",
    ),
    "confusion arity": (lambda: Tree.from_confusion([[1, 0], [0, 1]], 1), ValueError, "arity to be at least 2, got 1"),
    "confusion of bools": (
        lambda: Tree.from_confusion(torch.ones(2, 2, dtype=torch.bool)),
        TypeError,
        "expected confusion as numbers of shape (C, C), got torch.bool of shape (2, 2)",
    ),
    "ragged confusion": (
        lambda: Tree.from_confusion([[1, 2], [1]]),
        TypeError,
        "expected confusion as numbers of shape (C, C), got list of other things",
    ),
    "confusion in a row": (lambda: Tree.from_confusion(torch.ones(4)), TypeError, "got torch.float32 of shape (4,)"),
    "oblong confusion": (lambda: Tree.from_confusion(torch.ones(2, 3)), ValueError, "C at least 2, got shape (2, 3)"),
    "small confusion": (lambda: Tree.from_confusion(torch.ones(1, 1)), ValueError, "C at least 2, got shape (1, 1)"),
    "negative confusion": (
        lambda: Tree.from_confusion([[1, 0], [-3, 1]]),
        ValueError,
        "expected confusion to be finite and at least 0, got -3 for class 1 taken for 0",
    ),
    **{
        f"{classes} classes of {make.__name__}": (
            partial(make, classes),
            ValueError,
            f"expected num_classes to be at most 100000000, got {classes}",
        )
        for classes in (10**9, 2**63, 10**20)
        for make in (Tree.balanced, Tree.random)
    },
    **{
        f"seed {seed}": (lambda seed=seed: Tree.random(4, seed=seed), ValueError, f"expected seed to be at {bound}, ")
        for seed, bound in ((10**20, "most 18446744073709551615"), (-(10**20), "least -9223372036854775808"))
    },
    "parent beyond int64": (lambda: Tree([10**30, 2, -1]), TypeError, "expected parent as a sequence of ints"),
    "parent that wraps": (
        lambda: Tree(torch.tensor([2, 2, 2**64 - 1], dtype=torch.uint64)),
        ValueError,
        "expected parent below 2**63, got 18446744073709551615",
    ),
    "group beyond int64": (lambda: Tree.from_groups([10**30, 1]), TypeError, "expected group_of_class as a sequence"),
    "mean of counts": (
        lambda: Tree([2, 2, -1]).expected_path_length([1e308, 1e308]),
        ValueError,
        "expected counts whose sum is finite, got 1e+308 among them",
    ),
    "inf confusion": (
        lambda: Tree.from_confusion([[1, math.inf], [0, 1]]),
        ValueError,
        "got inf for class 0 taken for",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_tree_is_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^Tree: .*{re.escape(message)}"):
        make()


@pytest.mark.parametrize("arity", [5, 2**31, 2**63 - 1, 2**63, 10**20, 10**400])
@pytest.mark.parametrize(
    "make",
    [
        partial(Tree.balanced, 5),
        partial(Tree.random, 5),
        partial(Tree.huffman, [1, 1, 1, 1, 1]),
        partial(Tree.clustered, torch.eye(5)),
        partial(Tree.clustered, torch.eye(5), balanced=False),
        partial(Tree.agglomerative, torch.eye(5)),
        partial(Tree.from_confusion, torch.eye(5)),
    ],
)
def test_an_arity_of_more_than_the_classes_is_as_many(make: Callable[..., Tree], arity: int) -> None:
    assert make(arity=arity).parent.tolist() == [5] * 5 + [-1]


def test_the_integers_of_numpy_are_integers() -> None:
    assert Tree.balanced(np.int64(10), np.uint8(3)) == Tree.balanced(10, 3)  # type: ignore[arg-type]
    assert Tree.random(np.int32(10), seed=np.int64(7)) == Tree.random(10, seed=7)  # type: ignore[arg-type]
    assert Tree.huffman([1, 2, 3], np.int16(3)) == Tree.huffman([1, 2, 3], 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e308, 5e-324])
def test_vectors_that_have_no_squares(scale: float) -> None:
    vectors = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64) * scale
    for tree in (Tree.clustered(vectors), Tree.agglomerative(vectors)):
        assert tree.distance(torch.tensor([0, 0]), torch.tensor([2, 1])).tolist() == [2, 4]


def test_more_pairs_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert math.isqrt(build.PAIRS // 8) == 46340
    monkeypatch.setattr(build, "PAIRS", 8 * 9**2)
    assert Tree.agglomerative(torch.eye(9)).num_classes == 9
    with pytest.raises(
        ValueError, match=r"expected vectors of at most 9 classes.*got 10; Tree\.clustered takes more\.$"
    ):
        Tree.agglomerative(torch.eye(10))
    assert Tree.from_confusion(torch.eye(9)).num_classes == 9
    with pytest.raises(ValueError, match=r"expected confusion of at most 9 classes.*got 10\.$"):
        Tree.from_confusion(torch.eye(10))


def test_without_scipy_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.cluster", None)
    for make in (MAKES["agglomerative"], MAKES["from_confusion"]):
        with pytest.raises(ImportError, match=r"^Tree: expected SciPy, got no .*pip install 'softmaxes\[trees\]'$"):
            make()


def test_class_means() -> None:
    """Over batches of any size, in the features' precision, float32 at least; a class without examples has the mean."""
    torch.manual_seed(0)
    features, labels = torch.randn(50, 3, requires_grad=True), torch.randint(4, (50,))
    means = class_means(zip(features.split(7), labels.split(7), strict=True), 6)
    for label in range(4):
        torch.testing.assert_close(means[label], features[labels == label].mean(0).detach())
    for label in (4, 5):
        torch.testing.assert_close(means[label], features.mean(0).detach())
    assert not means.requires_grad
    assert class_means([(features.bfloat16(), labels)], 4).dtype == torch.float32
    assert class_means([(features.double(), labels)], 4).dtype == torch.float64


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "expected at least one example, got none"),
        ([(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))], "expected at least one example, got none"),
        ([(torch.zeros(1, 3), torch.tensor([4]))], "expected labels in 0..3, got 4"),
        ([(torch.zeros(1, 3), torch.tensor([-1]))], "expected labels in 0..3, got -1"),
    ],
)
def test_class_means_of_nothing_or_of_no_class(batches: list[tuple[Tensor, Tensor]], message: str) -> None:
    with pytest.raises(ValueError, match=f"class_means: {message}"):
        class_means(batches, 4)
