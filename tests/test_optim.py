"""SGD within the backward pass does what SGD after it does."""

import copy
import gc
import io
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, RAGGED, Case
from softmaxes import (
    Head,
    HierarchicalSoftmax,
    SampledSoftmax,
    Sampler,
    SGDInBackward,
    Softmax,
    Tree,
    TreeSampledSoftmax,
)
from softmaxes.heads.hierarchical import compiled as kernel
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.optim import clip_grad_norm_


@pytest.fixture(params=["compiled", "plain"])
def called(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Both ways of the tree's step, and which compiled functions were called."""
    names: list[str] = []
    if request.param == "plain":
        monkeypatch.setattr(kernel, "LIBRARY", None)
        return names
    if kernel.LIBRARY is None:
        pytest.skip(f"{kernel.MISSING}")
    monkeypatch.setattr(hierarchical, "COMPILED_RATIO", 0)
    real = kernel._call
    monkeypatch.setattr(kernel, "_call", lambda name, *given: (names.append(name), real(name, *given))[1])
    return names


def tree_head(sparse: bool = True, bias: bool = True) -> HierarchicalSoftmax:
    return HierarchicalSoftmax(6, Tree.random(60, arity=4, seed=0), bias, sparse, dtype=torch.float64)


def batch(head: Head, rows: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    dtype = next(head.parameters()).dtype
    input = torch.randn(rows, head.in_features, dtype=dtype, requires_grad=True)
    return input, torch.randint(head.num_classes, (rows,)), torch.linspace(-1, 2, rows, dtype=dtype)


def agree_after_training(head: Head, rates: Callable[[int], float] = lambda step: 0.3) -> None:
    """Five steps of each, from the same parameters on the same batches: the parameters and the input's gradients."""
    other = copy.deepcopy(head)
    within, after = SGDInBackward(head.parameters(), lr=0.3), torch.optim.SGD(other.parameters(), lr=0.3)
    start = [parameter.detach().clone() for parameter in head.parameters()]
    for step in range(5):
        input, target, upstream = batch(head)
        twin = input.detach().requires_grad_()
        for optimiser in (within, after):
            optimiser.param_groups[0]["lr"] = rates(step)
        torch.manual_seed(step)
        (head(input, target) * upstream).sum().backward()
        assert all(parameter.grad is None for parameter in head.parameters())
        torch.manual_seed(step)
        (other(twin, target) * upstream).sum().backward()
        after.step()
        after.zero_grad()
        torch.testing.assert_close(input.grad, twin.grad)
    for mine, others, begin in zip(head.parameters(), other.parameters(), start, strict=True):
        torch.testing.assert_close(mine, others)
        assert not mine.requires_grad or not mine.equal(begin)
    within.remove()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_head_ends_where_sgd_ends(case: Case) -> None:
    torch.manual_seed(0)
    head = case.make(case.in_features).double()
    if list(head.parameters()):
        agree_after_training(head, lambda step: 1e-3)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_the_tree_ends_where_sgd_ends(sparse: bool, bias: bool, called: list[str]) -> None:
    torch.manual_seed(0)
    agree_after_training(tree_head(sparse, bias))
    assert called.count("softmaxes_update_float64") == (5 if called else 0)


def test_the_rate_may_change(called: list[str]) -> None:
    agree_after_training(tree_head(), lambda step: 0.3 / (1 + step))
    head = Softmax(3, 4)
    optimiser = SGDInBackward(head.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=1)
    optimiser.step()
    schedule.step()
    optimiser.load_state_dict(optimiser.state_dict())  # makes new groups
    before = head.bias.detach().clone()
    head.bias.sum().backward()
    torch.testing.assert_close(head.bias, before - 0.1)


@pytest.mark.parametrize("frozen", ["weight", "bias", "input"])
def test_what_is_frozen_stays(frozen: str, called: list[str]) -> None:
    head = tree_head()
    if frozen == "input":
        optimiser = SGDInBackward(head.parameters(), lr=0.1)
    else:
        head.get_parameter(frozen).requires_grad_(False)
        optimiser = SGDInBackward([one for one in head.parameters() if one.requires_grad], lr=0.1)
    before = {name: one.detach().clone() for name, one in head.named_parameters()}
    input, target, _ = batch(head)
    head(input.detach() if frozen == "input" else input, target).sum().backward()
    assert {name for name, one in head.named_parameters() if one.equal(before[name])} == {frozen} - {"input"}
    assert ("softmaxes_update_float64" in called) == bool(called)
    optimiser.remove()


def test_rates_of_groups_and_parameters_of_another_optimiser(called: list[str]) -> None:
    torch.manual_seed(0)
    head, other, third = tree_head(), tree_head(), tree_head()
    third.load_state_dict(other.state_dict())
    head.load_state_dict(other.state_dict())
    groups = [{"params": [head.weight], "lr": 0.2}, {"params": [head.bias]}]
    within = SGDInBackward(groups, lr=0.7)
    after = torch.optim.SGD([{"params": [other.weight], "lr": 0.2}, {"params": [other.bias]}], lr=0.7)
    only = SGDInBackward([third.weight], lr=0.2)
    rest = torch.optim.SGD([third.bias], lr=0.7)
    input, target, _ = batch(head)
    for one in (head, other, third):
        one(input, target).sum().backward()
    for optimiser in (within, after, only, rest):
        optimiser.step()
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(head.get_parameter(name), parameter)
        torch.testing.assert_close(third.get_parameter(name), parameter)


def test_two_calls_in_one_graph(called: list[str]) -> None:
    head, other = tree_head(), tree_head()
    other.load_state_dict(head.state_dict())
    optimiser, after = SGDInBackward(head.parameters(), lr=0.2), torch.optim.SGD(other.parameters(), lr=0.2)
    input, target, _ = batch(head)
    for one in (head, other):
        (one(input, target).sum() + 2 * one(input * 2, target).sum() + one.weight.sum()).backward()
    optimiser.step()
    after.step()
    torch.testing.assert_close(head.weight, other.weight)
    torch.testing.assert_close(head.bias, other.bias)


def test_what_else_the_graph_keeps_of_a_changed_weight_is_an_error(called: list[str]) -> None:
    head = tree_head(bias=False)
    _kept = SGDInBackward(head.parameters(), lr=0.2)
    input, target, _ = batch(head)
    before = head.weight._version
    loss = head(input, target).sum()
    again = head.weight.square().sum()
    loss.backward()
    assert head.weight._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        again.backward()


def test_second_derivatives_are_refused(called: list[str]) -> None:
    head = tree_head()
    _kept = SGDInBackward(head.parameters(), lr=0.2)
    input, target, _ = batch(head)
    with pytest.raises(ValueError, match=r"SGDInBackward: expected backward without create_graph, got it with\."):
        head(input, target).sum().backward(create_graph=True)


def test_remove_and_begin_anew(called: list[str]) -> None:
    head = tree_head()
    first = SGDInBackward(head.parameters(), lr=0.2)
    with pytest.raises(ValueError, match="expected parameters that no other such optimiser updates, got one"):
        SGDInBackward(head.parameters(), lr=0.1)
    first.remove()
    input, target, _ = batch(head)
    before = head.weight.detach().clone()
    head(input, target).sum().backward()
    assert head.weight.equal(before)
    assert head.weight.grad is not None
    head.zero_grad()
    _kept = SGDInBackward(head.parameters(), lr=0.1)
    head(input, target).sum().backward()
    assert not head.weight.equal(before)


def test_it_must_be_kept_and_keeps_nobody(called: list[str]) -> None:
    head = tree_head()
    optimiser = SGDInBackward(head.parameters(), lr=0.2)
    input, target, _ = batch(head)
    head(input, target).sum().backward()
    del optimiser
    gc.collect()
    with pytest.raises(RuntimeError, match="SGDInBackward: expected the optimiser to be there until its `remove`"):
        head(input, target).sum().backward()
    head = tree_head()
    weight, optimiser = weakref.ref(head.weight), SGDInBackward(head.parameters(), lr=0.2)
    head(input, target).sum().backward()
    del optimiser, head
    gc.collect()
    assert weight() is None


def test_copies_are_their_own(called: list[str]) -> None:
    head = tree_head()
    _kept = SGDInBackward(head.parameters(), lr=0.2)
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    twin = copy.deepcopy(head)
    input, target, _ = batch(head)
    twin(input, target).sum().backward()
    assert twin.weight.grad is not None
    assert twin.weight.equal(head.weight)


def test_step_takes_a_closure() -> None:
    head = Softmax(3, 4)
    optimiser = SGDInBackward(head.parameters(), lr=0.5)
    input, target = torch.randn(5, 3), torch.arange(5) % 4

    def closure() -> Tensor:
        loss = head(input, target).mean()
        loss.backward()
        return loss

    assert optimiser.step(closure) > head(input, target).mean()
    assert optimiser.step() is None


@pytest.mark.parametrize("lr", [-1.0, float("nan")])
def test_bad_rates_are_refused(lr: float) -> None:
    head = Softmax(3, 4)
    with pytest.raises(ValueError, match="SGDInBackward: expected lr to be at least 0, got"):
        SGDInBackward(head.parameters(), lr=lr)
    SGDInBackward(head.parameters(), lr=0.0)  # nothing was half done


def test_a_whole_model_of_which_the_head_is_a_part(called: list[str]) -> None:
    torch.manual_seed(0)
    trunk, head = nn.Linear(4, 3), HierarchicalSoftmax(3, RAGGED, sparse=True)
    _kept = SGDInBackward([*trunk.parameters(), *head.parameters()], lr=0.1)
    input, target = torch.randn(32, 4), torch.randint(head.num_classes, (32,))
    first = head(trunk(input), target).mean().item()
    for _ in range(50):
        head(trunk(input), target).mean().backward()
    assert head(trunk(input), target).mean().item() < 0.9 * first


def test_sampled_rows_too() -> None:
    head = SampledSoftmax(6, Sampler.uniform(50), num_samples=10, sparse=True, dtype=torch.float64)
    agree_after_training(head)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_sparse_gradients_are_clipped_as_dense_ones(norm_type: float, max_norm: float) -> None:
    tree = Tree.random(60, arity=4, seed=0)
    makes = (
        lambda sparse: HierarchicalSoftmax(6, tree, sparse=sparse),
        lambda sparse: TreeSampledSoftmax(6, tree, 5, sparse=sparse),  # its gradients come with rows named twice
    )
    for make in makes:
        clipped, dense = make(True), make(False)
        dense.load_state_dict(clipped.state_dict())
        input, target, _ = batch(clipped)
        for head in (clipped, dense):
            torch.manual_seed(0)
            head(input, target).mean().backward()
        norm = clip_grad_norm_(clipped.parameters(), max_norm, norm_type)
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(dense.parameters(), max_norm, norm_type))
        for one, other in zip(clipped.parameters(), dense.parameters(), strict=True):
            assert one.grad is not None
            assert one.grad.is_sparse
            torch.testing.assert_close(one.grad.to_dense(), other.grad)
