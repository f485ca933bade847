import copy
import pickle
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cases import RAGGED
from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.testing import check_head
from strategies import trees


def test_the_original_study_s_path() -> None:
    tree = Tree.balanced(100)
    heap = tree.heap_numbers()
    assert heap[19] == 146
    assert [int(heap[node]) for node in tree.ancestors(19)] == [72, 35, 17, 8, 3, 1, 0]
    assert 2**tree.depth == 128
    assert heap[:100].tolist() == list(range(127, 227))


def test_the_original_study_s_tree_has_a_decision_less_than_classes() -> None:
    # A full 128-leaf tree has 127 inner nodes; without the unused leaves 99 of them still decide.
    head = HierarchicalSoftmax(4, Tree.balanced(100))
    assert head.weight.shape == (99, 4)


def test_branch_probability_is_the_logistic_function() -> None:
    """Class 19 by hand, from the weights of the nodes on its path."""
    torch.manual_seed(0)
    tree = Tree.balanced(100)
    head = HierarchicalSoftmax(5, tree, dtype=torch.float64)
    x = torch.randn(5, dtype=torch.float64)
    expected = 1.0
    below = 19
    for node in tree.ancestors(19):
        assert head.bias is not None
        z = head.weight[head.tables.first_row[node]] @ x + head.bias[head.tables.first_row[node]]
        expected = expected * torch.sigmoid(z if tree.child_index[below] == 1 else -z)
        below = node
    torch.testing.assert_close(head.log_prob(x)[19].exp(), expected)


@pytest.mark.parametrize("arity", [2, 3, 7, 100])
@pytest.mark.parametrize("num_classes", [2, 3, 12, 100, 128, 129])
def test_balanced(num_classes: int, arity: int) -> None:
    tree = Tree.balanced(num_classes, arity)
    assert tree.num_classes == num_classes
    assert arity ** (tree.depth - 1) < num_classes <= arity**tree.depth
    assert tree.arity == min(arity, num_classes)
    assert set(tree.node_depth[:num_classes].tolist()) == {tree.depth}
    heap = tree.heap_numbers()
    if tree.arity == arity:
        above = torch.arange(num_classes, tree.num_nodes)[1:]
        assert torch.equal((heap[above] - 1) // arity, heap[tree.parent[above]])
    assert len(heap.unique()) == tree.num_nodes


def test_from_groups() -> None:
    tree = Tree.from_groups([7, 7, -3, 7])
    assert tree.parent.tolist() == [6, 6, 5, 6, -1, 4, 4]
    assert tree.child_index.tolist() == [0, 1, 0, 2, 0, 0, 1]


@pytest.mark.slow
def test_every_law_holds_where_paths_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a tree this small all logits are computed, unless told otherwise."""
    monkeypatch.setattr(hierarchical, "GATHER_RATIO", 0)
    for tree in (Tree.balanced(12), RAGGED):
        check_head(lambda d, tree=tree, **kw: HierarchicalSoftmax(d, tree, **kw))


def test_gathered_and_computed_paths_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    head = HierarchicalSoftmax(4, RAGGED, dtype=torch.float64)
    x, y = torch.randn(50, 4, dtype=torch.float64), torch.arange(50) % RAGGED.num_classes
    results = []
    for gather in (0, 10**6):
        monkeypatch.setattr(hierarchical, "GATHER_RATIO", gather)
        head.zero_grad()
        loss = head(x, y)
        loss.sum().backward()
        results.append((loss, head.weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-13, atol=1e-13)


@given(trees())
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_any_tree(tree: Tree) -> None:
    for node in range(tree.num_nodes):
        ancestors = tree.ancestors(node)
        assert len(ancestors) == tree.node_depth[node]
        assert (ancestors or (node,))[-1] == tree.root
    head = HierarchicalSoftmax(3, tree, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)
    log_prob = head.log_prob(x)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(4, dtype=torch.float64))
    for c in range(tree.num_classes):
        torch.testing.assert_close(head.target_log_prob(x, torch.full((4,), c)), log_prob[:, c])
    assert len(head.weight) < 2 * tree.num_classes


def graph_of(tree: Tree) -> "nx.DiGraph[int]":
    return nx.DiGraph((parent, node) for node, parent in enumerate(tree.parent.tolist()) if parent >= 0)


@given(trees(), st.data())
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_any_tree_against_networkx(tree: Tree, data: st.DataObject) -> None:
    graph, nodes = graph_of(tree), range(tree.num_nodes)
    first, second = torch.cartesian_prod(*2 * [torch.arange(tree.num_nodes)]).unbind(1)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    ancestor = dict(nx.all_pairs_lowest_common_ancestor(graph))  # each pair in one of its two orders
    ancestor |= {(b, a): node for (a, b), node in ancestor.items()}
    assert tree.lowest_common_ancestor(first, second).tolist() == [ancestor[pair] for pair in pairs]
    distance = dict(nx.all_pairs_shortest_path_length(graph.to_undirected()))
    assert tree.distance(first, second).tolist() == [distance[a][b] for a, b in pairs]
    below = [nx.shortest_path_length(graph, node) for node in nodes]  # every node below, and how far
    assert tree.node_height.tolist() == [max(below[node].values()) for node in nodes]
    assert [tree.children_of(node) for node in nodes] == [tuple(sorted(graph.successors(node))) for node in nodes]
    values = data.draw(st.lists(st.integers(-9, 9), min_size=tree.num_nodes, max_size=tree.num_nodes))
    assert tree.subtree_sum(torch.tensor(values)).tolist() == [sum(values[n] for n in below[node]) for node in nodes]
    counts = data.draw(st.lists(st.integers(0, 9), min_size=tree.num_classes, max_size=tree.num_classes).filter(any))
    expected = sum(count * below[tree.root][c] for c, count in enumerate(counts)) / sum(counts)
    assert tree.expected_path_length(counts) == pytest.approx(expected, rel=1e-15)


def test_pairs_of_any_shape() -> None:
    tree = Tree.balanced(4)
    first, second = torch.tensor([[0], [2]]), torch.tensor([0, 1, 6])
    assert tree.lowest_common_ancestor(first, second).tolist() == [[0, 5, 4], [4, 4, 6]]
    assert tree.distance(first, second).tolist() == [[0, 2, 3], [4, 4, 1]]
    nothing = torch.empty(0, 2, dtype=torch.int64)
    assert tree.distance(nothing, nothing).shape == (0, 2)


def test_the_default_device_is_left_aside() -> None:
    tree, nodes = Tree(RAGGED.parent), torch.arange(11)
    with torch.device("meta"):
        assert tree.distance(nodes, nodes.flip(0)).tolist() == [1, 3, 4, 1, 4, 0, 4, 1, 4, 3, 1]
        assert tree.subtree_sum(nodes)[tree.root] == 55
        assert tree.node_height.max() == tree.depth
        assert tree.expected_path_length([1] * 7) == 2


class Counting(TorchDispatchMode):
    """Counts what torch is asked to do."""

    calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return function(*args, **(kwargs or {}))


def test_a_deep_tree() -> None:
    """Class 0 or (class 1 or (class 2 or ...)): deeper than Python can recur."""
    size = 5000
    tree = Tree([*range(size, 2 * size - 1), 2 * size - 2, -1, *range(size, 2 * size - 2)])
    assert tree.depth == tree.node_height[tree.root] == size - 1
    assert tree.subtree_sum(torch.ones(tree.num_nodes))[tree.root] == tree.num_nodes
    assert tree.distance(torch.tensor([0]), torch.tensor([size - 1])).tolist() == [size]


@given(trees())
@settings(deadline=None, max_examples=30)
def test_sums_and_heights_are_the_same_level_by_level_and_node_by_node(tree: Tree) -> None:
    found = []
    for level in (0, 10**9):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("softmaxes.trees.tree.NODES_PER_LEVEL", level)
            again = Tree(tree.parent)
            found.append((again.node_height.tolist(), again.subtree_sum(again.parent.float() / 3)))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1])


def test_a_level_more_costs_no_operation_more_where_levels_are_narrow() -> None:
    size = 2000
    chain = Tree([*range(size, 2 * size - 1), 2 * size - 2, -1, *range(size, 2 * size - 2)])
    with Counting() as counting:
        assert chain.node_height[chain.root] == size - 1
        assert chain.subtree_sum(torch.ones(chain.num_nodes))[chain.root] == chain.num_nodes
    assert counting.calls < 100


def test_a_pair_s_distance_takes_no_longer_in_a_deep_tree() -> None:
    """A way to the root leaves at most log2(M) runs, however deep it is: some dozen operations, not one a level."""
    size = 2000
    chain = Tree([*range(size, 2 * size - 1), 2 * size - 2, -1, *range(size, 2 * size - 2)])
    first, second = torch.arange(size), torch.arange(size).flip(0)
    distance = chain.distance(first, second)  # what is kept is made now
    with Counting() as counting:
        assert torch.equal(chain.distance(first, second), distance)
    assert counting.calls < 100


def test_names() -> None:
    names = ["cat", "dog", "animal"]
    tree = Tree([2, 2, -1], names)
    assert tree.names == ("cat", "dog", "animal")
    assert Tree([2, 2, -1]).names is None
    assert Tree([2, 2, -1], ["same"] * 3).names == ("same",) * 3
    names[0] = "cow"
    for other in (Tree([2, 2, -1], ("cat", "dog", "animal")), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert other == tree
        assert hash(other) == hash(tree)
        assert other.names == tree.names
    assert tree != Tree([2, 2, -1])
    assert tree != Tree([2, 2, -1], names)
    with pytest.raises(ValueError, match=r"Tree: expected a name for each of 3 nodes, got 2\."):
        Tree([2, 2, -1], ["cat", "dog"])
    with pytest.raises(TypeError, match=r"Tree: expected names as a sequence of strings, got 'dog'\."):
        Tree([2, 2, -1], "dog")
    with pytest.raises(TypeError, match=r"Tree: expected names to be strings, got 7 for node 1\."):
        Tree([2, 2, -1], ["cat", 7, "animal"])  # type: ignore[list-item]


def test_equality_hash_copies() -> None:
    tree = Tree.balanced(10)
    for other in (Tree(tree.parent), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert other == tree
        assert hash(other) == hash(tree)
        assert other.depth == tree.depth
    assert tree != Tree.balanced(10, arity=3)
    assert repr(tree) == "Tree(num_classes=10, num_nodes=21, depth=4, arity=2)"


def test_the_given_tensor_is_copied() -> None:
    parent = torch.tensor([2, 2, -1])
    tree = Tree(parent)
    parent[0] = 0
    assert tree.parent.tolist() == [2, 2, -1]


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ([1, 0], "expected one root, a node whose parent is -1, got 0"),
        ([2, 2, -1, -1], "expected one root, a node whose parent is -1, got 2"),
        ([2, 5, -1], r"expected parents in 0..2, got 5 for node 1"),
        ([2, 3, -1], r"expected parents in 0..2, got 3 for node 1"),
        ([2, -7, -1], r"expected parents in 0..2, got -7 for node 1"),
        ([2, -2, -1], r"expected parents in 0..2, got -2 for node 1"),
        ([-1, 0, 0], r"expected the 2 leaves to be nodes 0..1, got node 0 with 2 children"),
        ([1, -1], "expected at least 2 leaves, got 1"),
        ([2, 2, -1, 4, 3, 3], "expected"),
        ([2, 2, -1, 3], "expected every node to descend from the root, got node 3 in a cycle"),
        ([3, 3, 4, -1, 5, 4], "expected every node to descend from the root, got node 2 in a cycle"),
    ],
)
def test_what_is_not_a_tree_is_refused(parent: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tree(parent)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Tree: expected parent as a sequence of ints.*got torch.float32"):
        Tree([0.5, -1.0])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"Tree: expected group_of_class as a sequence of ints.*got torch.bool"):
        Tree.from_groups([True, False])
    with pytest.raises(TypeError, match=r"expected num_classes to be an int, got 2.5"):
        Tree.balanced(2.5)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="Tree: expected no change"):
        Tree.balanced(4).num_classes = 99
    with pytest.raises(ValueError, match="expected num_classes to be at least 2, got 1"):
        Tree.balanced(1)
    with pytest.raises(ValueError, match="expected arity to be at least 2, got 1"):
        Tree.balanced(4, arity=1)
    with pytest.raises(ValueError, match=r"expected a node in 0..6, got 7"):
        Tree.balanced(4).ancestors(7)
    with pytest.raises(ValueError, match=r"expected a node in 0..6, got -1"):
        Tree.balanced(4).children_of(-1)
    with pytest.raises(ValueError, match=r"expected values of shape \(7,\), got \(4,\)"):
        Tree.balanced(4).subtree_sum(torch.ones(4))
    with pytest.raises(ValueError, match=r"expected counts of 4 classes, got 3"):
        Tree.balanced(4).expected_path_length([1, 1, 1])
    with pytest.raises(ValueError, match=r"Tree: expected counts to be finite and at least 0, got -1.0 for class 2"):
        Tree.balanced(4).expected_path_length([1, 1, -1, 1])
    with pytest.raises(ValueError, match=r"Tree: expected counts not all 0, got 4 zeros"):
        Tree.balanced(4).expected_path_length([0, 0, 0, 0])
    with pytest.raises(TypeError, match=r"Tree: expected counts as a sequence of numbers.*got torch.bool"):
        Tree.balanced(4).expected_path_length([True] * 4)
    with pytest.raises(TypeError, match="HierarchicalSoftmax: expected tree to be a Tree, got int"):
        HierarchicalSoftmax(4, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [Tree.lowest_common_ancestor, Tree.distance])
def test_what_are_not_nodes_is_refused(function: Callable[[Tree, torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    tree, zero = Tree.balanced(4), torch.tensor([0])
    for wrong in (7, -1):
        for pair in ((torch.tensor([wrong]), zero), (zero, torch.tensor([wrong]))):
            with pytest.raises(ValueError, match=rf"Tree: expected nodes in 0..6, got {wrong}\."):
                function(tree, *pair)
    for dtype in (torch.float32, torch.bool, torch.int32):
        for pair in ((zero.to(dtype), zero), (zero, zero.to(dtype))):
            with pytest.raises(TypeError, match=rf"Tree: expected nodes of dtype torch.int64, got {dtype}\."):
                function(tree, *pair)


def test_a_heap_too_large_for_int64_is_refused() -> None:
    # Classes 0 and 1 under the deepest of 70 nodes, each other class right under one of the others.
    parent = [71, 71, *range(72, 141), *range(72, 141), -1]
    with pytest.raises(ValueError, match=r"expected a heap of fewer than 2\*\*63 places"):
        Tree(parent).heap_numbers()


def test_a_large_tree() -> None:
    tree = Tree.balanced(200_000)
    assert tree.depth == 18
    assert int(tree.heap_numbers()[0]) == 2**18 - 1
