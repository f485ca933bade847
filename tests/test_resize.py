"""Classes that change: what a head has learned of the others stays, whatever is added or removed."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import CASES, Case
from softmaxes import (
    AdaptiveSoftmax,
    ForestSoftmax,
    Head,
    HierarchicalSoftmax,
    MixtureOfSoftmaxes,
    NeighborSampledSoftmax,
    SampledSoftmax,
    Sampler,
    Softmax,
    Tree,
    TreeSampledSoftmax,
)
from softmaxes.heads.hierarchical import search
from softmaxes.resize import add_classes, remove_classes

ABLE = [
    case for case in CASES if (made := case.make(case.in_features)).class_rows or isinstance(made, HierarchicalSoftmax)
]
OTHER_ODDS = (MixtureOfSoftmaxes,)  # whose classes' odds change with the other classes


def learned(case: Case) -> Head:
    """A head with weights as after training, and features."""
    torch.manual_seed(0)
    head = case.make(case.in_features, dtype=torch.float64)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def features(head: Head, number: int = 5) -> Tensor:
    return torch.randn(number, head.in_features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def below(head: Head) -> dict[str, int]:
    """An inner node of the head's tree, if it has one: the last but the root where there are several."""
    tree = getattr(head, "tree", None)
    if not isinstance(tree, Tree):
        return {}
    inner = [node for node in range(tree.num_classes, tree.num_nodes) if node != tree.root]
    return {"below": inner[-1] if inner else tree.root}


def has_odds(head: Head) -> bool:
    """Whether two classes' odds depend on nothing but their own rows."""
    zero = bool((head.log_prob(features(head)) == -math.inf).any())  # those of sparse heads do not
    return bool(head.class_rows) and not isinstance(head, OTHER_ODDS) and not zero and "alpha" not in head.extra_repr()


def test_the_heads_that_cannot_are_two() -> None:
    others = {type(case.make(case.in_features)) for case in CASES} - {type(c.make(c.in_features)) for c in ABLE}
    assert others == {AdaptiveSoftmax, ForestSoftmax}
    for case in CASES:
        head = case.make(case.in_features)
        if type(head) in others:
            with pytest.raises(TypeError, match="expected a head with a row of weights for each class, or over one"):
                add_classes(head, 1)
            with pytest.raises(TypeError, match="expected a head with a row of weights for each class, or over one"):
                remove_classes(head, [0])


@pytest.mark.parametrize("case", ABLE, ids=lambda case: case.name)
def test_what_is_added_and_removed_leaves_the_head_as_it_was(case: Case) -> None:
    head = learned(case)
    x, before = features(head), head.log_prob(features(head))
    larger = add_classes(head, 3, **below(head))
    assert larger.num_classes == head.num_classes + 3
    said = larger.log_prob(x)
    torch.testing.assert_close(said.exp().sum(1), torch.ones(5, dtype=torch.float64))
    back = remove_classes(larger, range(head.num_classes, head.num_classes + 3))
    torch.testing.assert_close(back.log_prob(x), before)
    torch.testing.assert_close(head.log_prob(x), before, rtol=0, atol=0)
    if has_odds(head):
        odds = said[:, : head.num_classes] - said[:, :1]
        torch.testing.assert_close(odds, before - before[:, :1])
    if isinstance(head, HierarchicalSoftmax):
        assert back.tree == head.tree


@pytest.mark.parametrize("case", ABLE, ids=lambda case: case.name)
def test_the_new_head_is_one_of_its_own(case: Case) -> None:
    """It trains, shares no memory with the old one, keeps its mode, and its state can be kept and loaded."""
    head = learned(case).eval()
    frozen = next(iter(head.parameters())).requires_grad_(False)
    larger = add_classes(head, 2, **below(head))
    assert type(larger) is type(head)
    assert not larger.training
    assert not next(iter(larger.parameters())).requires_grad or larger.sparse
    assert {p.data_ptr() for p in larger.parameters()}.isdisjoint(p.data_ptr() for p in head.parameters())
    frozen.requires_grad_(True)
    for parameter in larger.parameters():
        parameter.requires_grad_(True)
    larger.train()
    x, y = features(larger), torch.arange(5) % 2 + larger.num_classes - 2
    before = [parameter.clone() for parameter in larger.parameters()]
    optimiser = torch.optim.SGD(larger.parameters(), lr=0.1)
    loss = larger(x, y).mean()
    assert loss.isfinite()
    loss.backward()
    optimiser.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, larger.parameters(), strict=True))
    other = add_classes(head, 2, **below(head))
    other.load_state_dict(larger.state_dict())
    torch.testing.assert_close(other.log_prob(x), larger.log_prob(x))
    assert larger.topk(x, larger.num_classes)[1].sort(1).values.tolist() == [list(range(larger.num_classes))] * 5
    smaller = remove_classes(larger, [0])
    assert smaller.num_classes == larger.num_classes - 1
    assert smaller.training


def by_hand(head: HierarchicalSoftmax, kept: list[int], x: Tensor) -> Tensor:
    """The log-probabilities of the classes that stay, from the old head's own decisions, renormalised node by node."""
    tree = head.tree
    alive = {node for leaf in kept for node in (leaf, *tree.ancestors(leaf))}
    every = torch.arange(tree.num_classes)
    share: dict[int, Tensor] = {}
    for leaf in every.tolist():
        values, nodes = search.decisions(head, x, every[leaf].expand(len(x)))
        for value, node in zip(values.t(), nodes[0].tolist(), strict=True):
            if node >= 0:
                share[node] = value.exp()
    said = []
    for leaf in kept:
        total = torch.zeros(len(x), dtype=x.dtype)
        for node in (leaf, *tree.ancestors(leaf)):
            if node == tree.root:
                continue
            siblings = [other for other in alive if int(tree.parent[other]) == int(tree.parent[node])]
            total = total + (share[node] / sum(share[other] for other in siblings)).log()
        said.append(total)
    return torch.stack(said, 1)


@given(st.data())
def test_the_rest_of_a_tree_decides_as_before(data: st.DataObject) -> None:
    """Whatever leaves go, the children that stay below a node keep their odds: found by hand, node by node."""
    case = data.draw(st.sampled_from([case for case in ABLE if case.name.startswith("hierarchical")]))
    head = learned(case)
    assert isinstance(head, HierarchicalSoftmax)
    if head.num_classes > 20 or head.num_classes < 3:
        return
    gone = data.draw(st.lists(st.integers(0, head.num_classes - 1), unique=True, max_size=head.num_classes - 2))
    kept = [one for one in range(head.num_classes) if one not in gone]
    smaller = remove_classes(head, gone)
    x = features(head, 3)
    torch.testing.assert_close(smaller.log_prob(x), by_hand(head, kept, x))
    places = data.draw(st.lists(st.integers(head.num_classes, head.tree.num_nodes - 1), min_size=1, max_size=4))
    larger = add_classes(head, len(places), below=places)
    assert isinstance(larger, HierarchicalSoftmax)
    torch.testing.assert_close(by_hand(larger, list(range(head.num_classes)), x), head.log_prob(x))
    for leaf, place in enumerate(places, head.num_classes):
        assert int(larger.tree.parent[leaf]) == place + len(places)


def test_a_class_elsewhere_in_the_tree_says_exactly_what_it_said() -> None:
    head = HierarchicalSoftmax(4, Tree.from_groups([0, 0, 1, 1, 1, 2]))
    x = torch.randn(7, 4)
    larger = add_classes(head, 2, below=int(head.tree.parent[0]))
    torch.testing.assert_close(larger.log_prob(x)[:, 2:6], head.log_prob(x)[:, 2:])
    group = larger.log_prob(x)[:, [0, 1, 6, 7]].logsumexp(1)
    torch.testing.assert_close(group, head.log_prob(x)[:, :2].logsumexp(1))


def test_rows_of_the_users_own() -> None:
    head = Softmax(3, 4)
    weight, bias = torch.randn(2, 3), torch.randn(2)
    larger = add_classes(head, 2, weight=weight, bias=bias)
    assert torch.equal(larger.weight[4:], weight)
    assert larger.bias is not None
    assert torch.equal(larger.bias[4:], bias)
    mean = add_classes(head, 2)
    torch.testing.assert_close(mean.weight[4:], head.weight.mean(0).expand(2, 3))
    tree = HierarchicalSoftmax(3, Tree.balanced(4, arity=4))
    grown = add_classes(tree, 2, below=tree.tree.root, weight=weight, bias=bias)
    assert torch.equal(grown.weight[4:], weight)
    half = Softmax(3, 4, dtype=torch.bfloat16)
    assert add_classes(half, 2, weight=weight).weight.dtype == torch.bfloat16


def test_a_sampler_draws_the_new_classes_too() -> None:
    head = SampledSoftmax(3, Sampler.unigram([1, 2, 3, 6]), 2)
    larger = add_classes(head, 2)
    torch.testing.assert_close(larger.sampler.probability, torch.tensor([1, 2, 3, 6, 3, 3], dtype=torch.float64) / 18)
    own = add_classes(head, 1, sampler=Sampler.unigram([1, 2, 3, 6, 8]))
    assert own.sampler.probability[4] == 0.4
    smaller = remove_classes(head, [3, 0])
    torch.testing.assert_close(remove_classes(remove_classes(head, 3), 0).state_dict(), smaller.state_dict())
    torch.testing.assert_close(smaller.sampler.probability, torch.tensor([0.4, 0.6], dtype=torch.float64))
    assert head.sampler.num_classes == 4


def test_what_belongs_to_the_head_goes_along() -> None:
    sampled = TreeSampledSoftmax(3, Tree.balanced(4), 2, sparse=True)
    larger = add_classes(sampled, 1, below=sampled.tree.root)
    assert larger.proposal.tree.num_classes == larger.num_classes == 5
    assert larger.sparse
    assert larger.proposal.sparse
    assert remove_classes(larger, [0, 1]).proposal.tree.num_classes == 3
    near = NeighborSampledSoftmax(3, 8, 2, 2)
    near.refresh()
    assert add_classes(near, 1)._neighbors is None
    assert near._neighbors is not None


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda h, t: add_classes(h, 0), "expected number to be at least 1, got 0"),
        (lambda h, t: add_classes(h, 1, weight=torch.zeros(2, 3)), r"weight of shape \(1, 3\), got \(2, 3\)"),
        (lambda h, t: add_classes(h, 1, below=4), "expected below as none where there is no tree, got 4"),
        (lambda h, t: add_classes(t, 1), "expected below as an inner node of the tree, got None"),
        (lambda h, t: add_classes(t, 1, below=0), r"expected below as inner nodes, 4\.\.6, got 0"),
        (lambda h, t: add_classes(t, 3, below=[4, 5]), "expected a node, or one for each of 3 classes, got 2"),
        (lambda h, t: add_classes(h, 1, sampler=Sampler.uniform(5)), "expected a Sampler, of a head that has one"),
        (lambda h, t: remove_classes(h, [4]), r"expected classes in 0\.\.3, got 4"),
        (lambda h, t: remove_classes(h, [1, 1]), "expected each class once, got one twice"),
        (lambda h, t: remove_classes(h, [0, 1, 2]), "expected at least 2 classes to stay, got 1"),
        (lambda h, t: remove_classes(h, [0.5]), "expected classes as whole numbers"),
        (lambda h, t: remove_classes(h, "ab"), "expected classes as whole numbers"),
        (lambda h, t: add_classes(copy.deepcopy(h).weight, 1), "expected a Head"),
    ],
)
def test_wrong_arguments_are_named(act, said: str) -> None:
    head, tree = Softmax(3, 4), HierarchicalSoftmax(3, Tree.balanced(4))
    with pytest.raises((TypeError, ValueError), match=said):
        act(head, tree)
