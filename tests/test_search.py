"""Searches in trees, against what is found by looking at every node."""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import CONSTANT_CHANCES, RAGGED
from softmaxes import HierarchicalSoftmax, Tree, TreeSampledSoftmax
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.heads.hierarchical import search
from softmaxes.testing import LAWS, check_head


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """`topk` and `predict` go down the tree however small it is, at first in a beam of k, and score none in full."""
    monkeypatch.setattr(hierarchical, "ROW_COST", 0)
    monkeypatch.setattr(hierarchical, "LEVEL_COST", 0)
    monkeypatch.setattr(search, "ROWS_PER_READ", 1)
    monkeypatch.setattr(search, "SPARE_NODES", 0)


def random_tree(rng: random.Random) -> Tree:
    """Leaves at any depth; nodes with one child, two or many."""
    inner = rng.randint(1, 12)
    parents = [-1] + [rng.randrange(max(0, node - 4), node) for node in range(1, inner)]
    childless = [node for node in range(inner) if node not in parents]
    wide = [rng.randrange(inner)] * rng.choice([0, 0, 3, 15])
    leaves = childless + wide + [rng.randrange(inner) for _ in range(rng.randint(1, 12))]
    rng.shuffle(leaves)
    return Tree([len(leaves) + node for node in leaves] + [-1] + [len(leaves) + node for node in parents[1:]])


def random_head(rng: random.Random, tree: Tree | None = None, features: int = 3) -> HierarchicalSoftmax:
    torch.manual_seed(rng.randrange(2**31))
    tree = tree or random_tree(rng)
    bias, layers = rng.random() < 0.7, rng.random() < 0.3
    head = HierarchicalSoftmax(features, tree, bias, dtype=torch.float64, level_layers=layers)
    scale = rng.choice([0.0, 0.1, 1.0, 10.0, 300.0])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(scale)
            if rng.random() < 0.2:
                parameter.round_()
    return head


def some_heads(number: int = 60) -> list[tuple[HierarchicalSoftmax, Tensor]]:
    """Heads without ties, each with features."""
    rng = random.Random(1)
    heads = [HierarchicalSoftmax(3, random_tree(rng), dtype=torch.float64) for _ in range(number)]
    return [(head, 3 * torch.randn(5, 3, dtype=torch.float64)) for head in heads]


def value_of_nodes(head: HierarchicalSoftmax, x: Tensor) -> list[float]:
    """The log-probability of every node for one example: that of all classes below it."""
    below: list[list[int]] = [[] for _ in range(head.tree.num_nodes)]
    for c in range(head.num_classes):
        for node in (c, *head.tree.ancestors(c)):
            below[node].append(c)
    log_prob = head.log_prob(x).detach()
    return [float(log_prob[classes].logsumexp(0)) for classes in below]


def same_as_all(head: HierarchicalSoftmax, x: Tensor, k: int) -> None:
    log_prob = head.log_prob(x)
    expected = log_prob.topk(k).values
    values, classes = head.topk(x, k)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_prob.gather(-1, classes), expected, rtol=1e-12, atol=1e-12)
    assert all(len(set(row)) == k for row in classes.tolist())
    first = head.predict(x)
    torch.testing.assert_close(log_prob.gather(-1, first.unsqueeze(-1)), expected[:, :1], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("forced")
def test_topk_is_that_of_all_classes_on_a_thousand_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    for draw in range(1000):
        # Of every third, the examples for which a beam is not enough are scored in full.
        monkeypatch.setattr(search, "ROWS_PER_READ", 10**9 if draw % 3 == 0 else 1)
        head = random_head(rng)
        x = torch.randn(4, 3, dtype=torch.float64)
        same_as_all(head, x, head.num_classes if draw % 10 == 0 else rng.randint(1, head.num_classes))


@pytest.mark.slow
@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("tree", [Tree.balanced(2), Tree.balanced(12, 12), Tree.balanced(300, 100), Tree.balanced(999)])
def test_topk_is_that_of_all_classes_on_trees_of_one_shape(tree: Tree) -> None:
    rng = random.Random(0)
    for _ in range(10):
        head = random_head(rng, tree)
        for k in sorted({1, min(5, tree.num_classes), tree.num_classes}):
            same_as_all(head, torch.randn(20, 3, dtype=torch.float64), k)


@pytest.mark.slow
@pytest.mark.usefixtures("forced")
def test_every_law_holds_where_the_tree_is_searched() -> None:
    for tree in (Tree.balanced(12), RAGGED):
        check_head(lambda d, tree=tree, **kw: HierarchicalSoftmax(d, tree, **kw))
    check_head(lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(12), level_layers=True, **kw), in_features=20)


@pytest.mark.parametrize("tree", [RAGGED, Tree.balanced(12), Tree.balanced(9, 3), Tree.from_groups([0, 1, 0, 2, 2, 2])])
@pytest.mark.parametrize("gather", [0, 10**9])
def test_each_level_sees_the_features_through_its_own_layer(
    tree: Tree, gather: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by hand, node by node; where the rows of a path are gathered, and where all logits are computed."""
    monkeypatch.setattr(hierarchical, "GATHER_RATIO", gather)
    torch.manual_seed(0)
    head = HierarchicalSoftmax(4, tree, dtype=torch.float64, level_layers=True)
    assert head.layers is not None
    x = torch.randn(3, 4, dtype=torch.float64)
    said = torch.zeros(3, tree.num_classes, dtype=torch.float64)
    for node in range(tree.num_classes, tree.num_nodes):
        depth = int(tree.node_depth[node])
        rows = slice(4 * depth, 4 * depth + 4)
        seen = (x @ head.layers.weight[rows].t() + head.layers.bias[rows]).clamp(min=0)
        children = [child for child in range(tree.num_nodes) if int(tree.parent[child]) == node]
        logits = []
        for child in children:
            row = int(head.tables.row[child])
            known = row < len(head.weight)
            logits.append(seen @ head.weight[row] + head.get_parameter("bias")[row] if known else torch.zeros(3))
        for child, value in zip(children, torch.stack(logits, 1).log_softmax(1).t(), strict=True):
            for leaf in range(tree.num_classes):
                if child in (leaf, *tree.ancestors(leaf)):
                    said[:, leaf] += value
    torch.testing.assert_close(head.log_prob(x), said)
    every = torch.arange(tree.num_classes)
    for one, row in zip(x, said, strict=True):
        torch.testing.assert_close(head.target_log_prob(one.expand(len(every), 4), every), row)


def equal_siblings(tree: Tree) -> HierarchicalSoftmax:
    """A head whose nodes have children that tie; with one feature, so that nothing is rounded in two ways."""
    head = HierarchicalSoftmax(1, tree, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            for node in range(tree.num_classes, tree.num_nodes):
                rows = slice(
                    int(head.tables.first_row[node]), int(head.tables.first_row[node] + head.tables.num_rows[node])
                )
                parameter[rows] = parameter[rows][-1:] if head.tables.num_rows[node] > 1 else 0.0
    return head


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("budget", [1, 10**9])
@pytest.mark.parametrize("tree", [Tree.random(64), Tree.random(64, arity=4), Tree.balanced(9, arity=9)])
def test_of_equal_classes_the_lower_comes_first(tree: Tree, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ROWS_PER_READ", budget)
    head, x = equal_siblings(tree), torch.randn(6, 1, dtype=torch.float64)
    with torch.no_grad():
        # Of the four children of a node, the last is more probable.
        for parameter in head.parameters():
            last = parameter.view(-1)[3::4]
            last += torch.rand_like(last) if tree.arity == 4 else 0.0
    expected = head.log_prob(x).sort(dim=1, descending=True, stable=True).indices
    for k in (1, 2, 5, tree.num_classes - 1):
        assert torch.equal(head.topk(x, k)[1], expected[:, :k])
    assert torch.equal(head.predict(x), expected[:, 0])


@pytest.mark.usefixtures("forced")
def test_a_class_that_cannot_be_comes_last() -> None:
    head, x = HierarchicalSoftmax(2, Tree.balanced(81, arity=3)), torch.randn(7, 2)
    with torch.no_grad():
        head.get_parameter("bias")[::4] = -math.inf
    same = head.log_prob(x).topk(81)
    values, classes = head.topk(x, 81)
    assert bool(values.isneginf().any())
    torch.testing.assert_close(values, same.values)
    assert all(sorted(row) == list(range(81)) for row in classes.tolist())
    assert torch.equal(search.beam(head, x, 81, 81)[1], classes)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("budget", [1, 10**9])
def test_features_that_are_not_numbers_give_classes(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ROWS_PER_READ", budget)
    head, x = HierarchicalSoftmax(2, Tree.balanced(50)), torch.full((3, 2), math.nan)
    x[1] = math.inf
    x[2] = 1.0
    assert bool((head.predict(x) < 50).all())
    values, classes = head.topk(x, 3)
    assert bool(values[:2].isnan().all())
    assert classes[:2].tolist() == [[0, 1, 2]] * 2
    assert bool((search.greedy(head, x)[1] < 50).all())
    assert torch.equal(classes[2], head.log_prob(x)[2].topk(3).indices)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("sparse", [False, True])
def test_the_values_of_topk_carry_the_gradients_of_all_classes(sparse: bool) -> None:
    head = HierarchicalSoftmax(3, RAGGED, sparse=sparse, dtype=torch.float64)
    upstream = torch.linspace(-1.0, 2.0, 15, dtype=torch.float64).view(5, 3)
    features = torch.randn(5, 3, dtype=torch.float64)
    gradients = []
    for topk in (lambda x: head.topk(x, 3)[0], lambda x: head.log_prob(x).topk(3).values):
        x = features.clone().requires_grad_()
        head.zero_grad()
        (upstream * topk(x)).sum().backward()
        gradients.append([x.grad, *(torch.as_tensor(tensor.grad).to_dense() for tensor in head.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.usefixtures("forced")
def test_the_values_of_topk_are_target_log_prob() -> None:
    head, x = HierarchicalSoftmax(6, Tree.balanced(500)), torch.randn(9, 6)
    for k in (1, 4):
        values, classes = head.topk(x, k)
        assert torch.equal(values, torch.stack([head.target_log_prob(x, own) for own in classes.unbind(1)], 1))
        assert bool((values.diff(dim=1) <= 0).all())
    with torch.no_grad():
        head.get_parameter("bias").zero_()
    assert search._valued(head, torch.zeros(1, 6), torch.tensor([[300, 1, 2, 0]]))[1].tolist() == [[0, 1, 2, 300]]


@pytest.mark.usefixtures("forced")
def test_topk_under_autocast() -> None:
    torch.manual_seed(0)
    head, x = HierarchicalSoftmax(6, Tree.balanced(100)), torch.randn(40, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for features in (x, x.bfloat16()):
            values, classes = head.topk(features, 5)
            expected = head.log_prob(features).topk(5).values
            assert values.dtype == torch.float32
            torch.testing.assert_close(values, expected, rtol=0.0, atol=0.1)
    values, classes = head.bfloat16().topk(x.bfloat16(), 5)
    torch.testing.assert_close(head.log_prob(x.bfloat16()).gather(1, classes), values, rtol=0.0, atol=0.1)


def peaked() -> tuple[HierarchicalSoftmax, Tensor]:
    torch.manual_seed(0)
    head = HierarchicalSoftmax(16, Tree.balanced(2**14))
    with torch.no_grad():
        head.weight.mul_(40.0)
    return head, torch.randn(64, 16)


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call reads alone from now on."""
    read: list[int] = []

    def count(input: Tensor, *rest: object) -> Tensor:
        chosen = row_logits(input, *rest)  # type: ignore[arg-type]
        read.append(chosen.numel())
        return chosen

    row_logits = hierarchical.row_logits
    monkeypatch.setattr(hierarchical, "row_logits", count)
    return read


def test_a_large_tree_is_searched_and_a_small_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    head, x = peaked()
    small, many = HierarchicalSoftmax(16, Tree.balanced(1000)), 5000
    one_level = HierarchicalSoftmax(16, Tree.balanced(2**14, arity=2**14))
    expected = [each.log_prob(x).argmax(1) for each in (head, small, one_level)]
    read = rows_read(monkeypatch)

    def all_rows(*_: object) -> None:
        raise RuntimeError("all logits")

    monkeypatch.setattr(hierarchical, "linear_logits", all_rows)
    assert torch.equal(head.predict(x), expected[0])
    assert sum(read) < 64 * 100
    head.topk(x, 5)
    assert sum(read) < 64 * 500
    for other, k in ((head, many), (small, 1), (one_level, 1)):
        with pytest.raises(RuntimeError, match="all logits"):
            other.topk(x, k)
    for other, features in ((head, x[:1]), (small, x), (one_level, x)):
        with pytest.raises(RuntimeError, match="all logits"):
            other.predict(features)
    monkeypatch.undo()
    assert torch.equal(small.predict(x), expected[1])
    assert torch.equal(one_level.predict(x), expected[2])


@pytest.mark.slow
def test_a_large_tree_is_not_searched_where_shapes_must_be_known() -> None:
    head, x = peaked()
    compiled = torch.compile(head.predict, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), head.predict(x))
    empty = HierarchicalSoftmax(16, head.tree, device="meta")
    assert empty.predict(x.to("meta")).shape == (64,)
    assert empty.topk(x.to("meta"), 3)[1].shape == (64, 3)


def test_what_would_be_read_row_by_row_is_scored_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few examples of a head that has no opinion, among others."""
    head, x = peaked()
    x[10:13] = 0.0
    expected = head.log_prob(x)
    scored = []
    log_prob = HierarchicalSoftmax._log_prob

    def count(self: HierarchicalSoftmax, input: Tensor) -> Tensor:
        scored.append(len(input))
        return log_prob(self, input)

    read = rows_read(monkeypatch)
    monkeypatch.setattr(HierarchicalSoftmax, "_log_prob", count)
    monkeypatch.setattr(search, "MOST_NUMBERS", 2 * head.tree.num_nodes)
    with torch.no_grad():
        head.get_parameter("bias").zero_()
    monkeypatch.setattr(hierarchical, "LEVEL_COST", 0)
    values, classes = head.topk(x, 3)
    assert scored == [2, 1]
    assert sum(read) < 64 * 300 + 3 * 2**14 / 64
    assert torch.equal(classes[10], torch.tensor([0, 1, 2]))
    with torch.no_grad():
        expected = log_prob(head, x)
    torch.testing.assert_close(values, expected.topk(3).values, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("forced")
def test_little_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    head, x = HierarchicalSoftmax(6, Tree.balanced(100, arity=3)), torch.randn(9, 6)
    expected = head.topk(x, 4)
    for chunk in (1, 100, 1000):
        monkeypatch.setattr(search, "MOST_NUMBERS", chunk)
        torch.testing.assert_close(head.topk(x, 4), expected)
    monkeypatch.setattr(search, "ROWS_PER_READ", 10**9)
    torch.testing.assert_close(head.topk(x, 4), expected)


def beam_by_hand(head: HierarchicalSoftmax, values: list[float], width: int) -> list[int]:
    nodes = [head.tree.root]
    while any(node >= head.num_classes for node in nodes):
        children = [head.tree.children_of(node) or (node,) for node in nodes]
        nodes = sorted(itertools.chain(*children), key=lambda node: -values[node])[:width]
    return nodes


@pytest.mark.slow
def test_beam_and_greedy_by_hand() -> None:
    missed = 0
    for head, x in some_heads():
        for width in (1, 2, 5):
            k = min(width, 3, head.num_classes)
            values, classes = search.beam(head, x, k, width)
            found, greedy = search.greedy(head, x)
            found = found.detach()
            for row, (features, own) in enumerate(zip(x, classes.tolist(), strict=True)):
                of_nodes = value_of_nodes(head, features)
                assert own == beam_by_hand(head, of_nodes, width)[:k]
                assert values[row].tolist() == pytest.approx([of_nodes[c] for c in own])
                if width == 1:
                    assert own == [int(greedy[row])]
                    assert float(found[row]) == pytest.approx(of_nodes[own[0]])
            missed += int((classes[:, 0] != head.predict(x)).sum())
    assert missed > 0


def test_a_beam_of_all_classes_is_exact() -> None:
    for head, x in some_heads(20):
        classes = head.num_classes
        values, found = search.beam(head, x, classes, classes)
        expected = head.log_prob(x).topk(classes)
        torch.testing.assert_close(values, expected.values)
        assert torch.equal(found, expected.indices)


def test_greedy_is_not_exact() -> None:
    """A class of 40 % beside three that share 60 %."""
    head = HierarchicalSoftmax(1, Tree([4, 5, 5, 5, -1, 4]))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.get_parameter("bias")[0] = math.log(1.5)
    x = torch.zeros(1)
    assert int(head.predict(x)) == int(head.topk(x, 1)[1]) == 0
    value, greedy = search.greedy(head, x)
    assert int(greedy) in (1, 2, 3)
    assert float(value.detach().exp()) == pytest.approx(0.2)


@pytest.mark.slow
def test_descend_by_hand() -> None:
    for (head, x), probability, max_depth in zip(
        some_heads(80), itertools.cycle([0.0, 0.1, 0.5, 0.6, 0.9]), itertools.cycle([None, 0, 1, 3]), strict=False
    ):
        values, nodes = search.descend(head, x, probability, max_depth)
        for row, features in enumerate(x):
            of_nodes = [math.exp(value) for value in value_of_nodes(head, features)]
            node, depth = head.tree.root, 0
            while head.tree.children_of(node) and depth != max_depth:
                child = max(head.tree.children_of(node), key=lambda node: of_nodes[node])
                if of_nodes[child] < probability - 1e-12:
                    break
                node, depth = child, depth + 1
            assert int(nodes[row]) == node
            assert float(values[row].detach().exp()) == pytest.approx(of_nodes[node])
            if probability > 0.5 and max_depth is None:
                enough = [node for node, value in enumerate(of_nodes) if value >= probability - 1e-12]
                assert max(enough, key=lambda node: int(head.tree.node_depth[node])) == node


def test_descend_to_what_is_certain() -> None:
    """Through an only child and a decision that is saturated, and no further."""
    head = HierarchicalSoftmax(1, Tree([5, 5, 4, 4, 6, 6, 7, -1]))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0], [0.0], [1000.0]]))
        head.get_parameter("bias").zero_()
    values, nodes = search.descend(head, torch.tensor([[1.0], [0.0]]), probability=1.0)
    assert nodes.tolist() == [5, 6]
    assert values.tolist() == [0.0, 0.0]


def test_decisions_by_hand() -> None:
    for head, x in some_heads(20):
        target = torch.randint(head.num_classes, (5,))
        values, nodes = search.decisions(head, x, target)
        assert values.shape == nodes.shape == (5, head.tree.depth)
        torch.testing.assert_close(values.sum(1), head.target_log_prob(x, target))
        for row, (features, c) in enumerate(zip(x, target.tolist(), strict=True)):
            of_nodes = value_of_nodes(head, features)
            path = [*reversed(head.tree.ancestors(c)), c]
            missing = [-1] * (head.tree.depth + 1 - len(path))
            assert nodes[row].tolist() == path[1:] + missing
            branches = [of_nodes[node] - of_nodes[above] for above, node in itertools.pairwise(path)]
            assert values[row].tolist() == pytest.approx(branches + [0.0] * len(missing), abs=1e-9)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.usefixtures("forced")
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    head, x = HierarchicalSoftmax(4, RAGGED), torch.randn(*shape, 4)
    target = torch.randint(7, shape)
    answers: dict[str, tuple[tuple[Tensor, Tensor], tuple[int, ...]]] = {
        "topk": (head.topk(x, 2), (2,)),
        "beam": (search.beam(head, x, 2, 3), (2,)),
        "greedy": (search.greedy(head, x), ()),
        "descend": (search.descend(head, x, 0.5), ()),
        "decisions": (search.decisions(head, x, target), (RAGGED.depth,)),
    }
    for name, ((values, found), rest) in answers.items():
        assert values.shape == found.shape == (*shape, *rest), name
        assert found.dtype == torch.int64
        assert values.dtype == torch.float32
    flat = search.beam(head, x.reshape(-1, 4), 2, 3)[1]
    assert torch.equal(answers["beam"][0][1].reshape(-1, 2), flat)


def test_the_values_of_descend_have_gradients() -> None:
    head, x = HierarchicalSoftmax(4, RAGGED, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    gradients = []
    values, classes = search.greedy(head, x)
    for result in (values, head.target_log_prob(x, classes)):
        head.zero_grad()
        result.sum().backward()
        gradients.append([parameter.grad for parameter in head.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


HEAD, X = HierarchicalSoftmax(4, RAGGED), torch.zeros(2, 4)
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: search.beam(HEAD, X, 2.0, 3), TypeError, "expected k to be an int, got 2.0"),  # type: ignore[arg-type]
    (lambda: search.beam(HEAD, X, 0, 3), ValueError, r"expected k in 1..7, got 0"),
    (lambda: search.beam(HEAD, X, 8, 9), ValueError, r"expected k in 1..7, got 8"),
    (lambda: search.beam(HEAD, X, 3, 2), ValueError, "expected width to be at least 3, got 2"),
    (lambda: search.beam(HEAD, X, 3, True), TypeError, "expected width to be an int, got True"),
    (lambda: search.beam(HEAD, X[:, :3], 1, 1), ValueError, r"expected input of shape \(\*, 4\), got \(2, 3\)"),
    (lambda: search.greedy(HEAD, X.double()), TypeError, "expected input of dtype torch.float32"),
    (lambda: search.descend(HEAD, X, 1.5), ValueError, r"expected probability to be in 0..1, got 1.5"),
    (lambda: search.descend(HEAD, X, math.nan), ValueError, r"expected probability to be in 0..1, got nan"),
    (lambda: search.descend(HEAD, X, "0.5"), TypeError, "expected probability to be a number"),  # type: ignore[arg-type]
    (lambda: search.descend(HEAD, X, 0.5, -1), ValueError, "expected max_depth to be at least 0, got -1"),
    (lambda: search.descend(HEAD, X, 0.5, 1.5), TypeError, "expected max_depth to be an int, got 1.5"),  # type: ignore[arg-type]
    (lambda: search.descend(HEAD, X.long()), TypeError, "expected input of a floating-point dtype"),
    (lambda: search.decisions(HEAD, X, torch.tensor([0, 7])), ValueError, r"expected target in 0..6, got 7"),
    (lambda: search.decisions(HEAD, X[:, :2], torch.tensor([0, 1])), ValueError, r"expected input of shape \(\*, 4\)"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_is_refused(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^HierarchicalSoftmax: {message}"):
        call()


@pytest.fixture(params=["all", "down"])
def drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draws are taken from the log-probabilities of all classes, or on the way down, however large the tree is."""
    way = str(request.param)
    monkeypatch.setattr(search, "MOST_SCORED_ROWS", 10**9 if way == "all" else -1)
    return way


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("without", [False, True])
def test_draws_are_as_frequent_as_they_are_probable(without: bool) -> None:
    """In trees of any form, of all classes or all but one: within five standard errors, each with its own value."""
    draws = 20_000
    rng = random.Random(3)
    for _ in range(20):
        head = random_head(rng)
        x = torch.randn(2, 3, dtype=torch.float64)
        log_prob = head.log_prob(x).detach()
        other_than = torch.randint(head.num_classes, (2,)) if without and head.num_classes > 1 else None
        if other_than is not None:
            log_prob = log_prob.scatter(1, other_than.unsqueeze(1), -torch.inf).log_softmax(1)
        values, classes = search.sample(head, x, draws, other_than)
        torch.testing.assert_close(values, log_prob.gather(1, classes), rtol=1e-9, atol=1e-9)
        for row, chances in zip(classes, log_prob.exp(), strict=True):
            seen = row.bincount(minlength=head.num_classes)
            error = (draws * chances * (1 - chances)).sqrt()
            assert bool(((seen - draws * chances).abs() <= 5 * error + 3).all())  # three: of what is rare


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [5.0, 50.0, 500.0, 5000.0])
def test_what_is_left_when_a_tree_is_sure_of_what_is_not_drawn(logit: float, dtype: torch.dtype) -> None:
    """Class 3 of four has all but nothing; of that, what is beside it, 2, has all."""
    head = HierarchicalSoftmax(1, Tree.balanced(4), dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(logit / 2)
    values, classes = search.sample(head, torch.ones(1, 1, dtype=dtype), 1000, torch.tensor([3]))
    assert not bool((classes == 3).any())
    log_prob = head.log_prob(torch.ones(1, 1, dtype=dtype)).detach()
    log_prob[0, 3] = -torch.inf
    torch.testing.assert_close(values, log_prob.log_softmax(1).gather(1, classes), rtol=1e-5, atol=1e-3)


@pytest.mark.usefixtures("drawing")
def test_the_draws_of_an_example_are_independent() -> None:
    """Pairs come as often as their chances multiplied say: the first and second draw of many equal examples."""
    head = HierarchicalSoftmax(1, Tree.balanced(4), dtype=torch.float64)
    _, classes = search.sample(head, torch.ones(20_000, 1, dtype=torch.float64), 2)
    chance = head.log_prob(torch.ones(1, dtype=torch.float64)).detach().exp()
    expected = 20_000 * torch.outer(chance, chance).flatten()
    seen = (4 * classes[:, 0] + classes[:, 1]).bincount(minlength=16)
    assert float(((seen - expected) ** 2 / expected).sum()) < 44  # chi square, 15 degrees of freedom: p = 1e-4


@pytest.mark.usefixtures("drawing")
def test_what_is_no_number_has_draws_of_no_value_and_spoils_no_other() -> None:
    head = HierarchicalSoftmax(3, Tree.random(20, arity=3, seed=1))
    x = torch.randn(4, 3)
    x[1] = torch.nan
    values, classes = search.sample(head, x, 50)
    assert bool(values[1].isnan().all())
    assert bool(((classes >= 0) & (classes < 20)).all())
    rest = torch.tensor([0, 2, 3])
    torch.testing.assert_close(values[rest], head.log_prob(x).gather(1, classes)[rest])


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0)])
def test_draws_for_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    head = HierarchicalSoftmax(3, Tree.balanced(5))
    values, classes = search.sample(head, torch.randn(*shape, 3, requires_grad=True), 4)
    assert values.shape == classes.shape == (*shape, 4)
    assert not values.requires_grad
    assert classes.dtype == torch.int64


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
def test_what_all_other_classes_have_together() -> None:
    rng = random.Random(4)
    for _ in range(40):
        head = random_head(rng)
        x = torch.randn(head.num_classes, 3, dtype=torch.float64)
        classes = torch.arange(head.num_classes)
        expected = head.log_prob(x).detach().fill_diagonal_(-torch.inf).logsumexp(1)
        torch.testing.assert_close(search.drawn(head, x, 1, classes)[2], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
def test_the_laws_hold_whichever_way_is_drawn() -> None:
    for law in LAWS:
        if law.__name__ not in CONSTANT_CHANCES:
            law(lambda features, **kwargs: TreeSampledSoftmax(features, RAGGED, 3, **kwargs), 4)


def test_draws_do_not_read_all_of_a_large_tree() -> None:
    head = HierarchicalSoftmax(3, Tree.balanced(5000))
    head._log_prob = lambda *_: pytest.fail("all classes were scored")  # type: ignore[method-assign]
    assert search.sample(head, torch.randn(2, 3), 4)[1].shape == (2, 4)


@pytest.mark.parametrize(("k", "kind"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_how_many_are_drawn_is_checked(k: Any, kind: type[Exception]) -> None:
    head = HierarchicalSoftmax(3, Tree.balanced(5))
    with pytest.raises(kind, match="HierarchicalSoftmax: expected num_samples to be"):
        search.sample(head, torch.randn(3), k)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [lambda: Tree.balanced(20_000), lambda: Tree.random(20_000, arity=5, seed=1)])
def test_the_first_of_k_classes_are_those_of_fewer_whichever_way_they_are_found(
    make: Callable[[], Tree], precision: str
) -> None:
    """A search goes down for few classes and scores all for many. Coarse numbers make many classes equal."""
    torch.manual_seed(0)
    head = HierarchicalSoftmax(3, make())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(4).round_().div_(4)
    x = torch.randn(40, 3).round()
    x[0] = 0
    assert head._pays(x, 1)
    assert not head._pays(x, 2000)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        most = head.topk(x, 2000)[1]
        for k in (1, 2, 5, 30):
            assert torch.equal(head.topk(x, k)[1], most[:, :k])
        assert torch.equal(head.predict(x), most[:, 0])


def test_a_greedy_way_and_a_beam_take_the_lower_of_equal_children() -> None:
    for arity in (2, 3, 5):
        head = HierarchicalSoftmax(2, Tree.balanced(arity**3, arity=arity))
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.zero_()
        x = torch.randn(4, 2)
        assert search.greedy(head, x)[1].tolist() == [0] * 4
        for width in (1, 3, 7):
            assert search.beam(head, x, 1, width)[1].flatten().tolist() == [0] * 4
            assert search.beam(head, x, width, width)[1].tolist() == [list(range(width))] * 4
