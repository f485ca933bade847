"""SGD within the backward pass does what SGD after it does."""

import collections
import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, RAGGED, Case
from softmaxes import (
    ForestSoftmax,
    Head,
    HierarchicalSoftmax,
    SampledSoftmax,
    Sampler,
    SGDInBackward,
    Softmax,
    Tree,
    TreeSampledSoftmax,
    rows,
)
from softmaxes.heads.hierarchical import compiled as kernel
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.optim import BY_ROW, SPARSE, LazyRows, clip_grad_norm_, for_model


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


OPTIONS: dict[type[torch.optim.Optimizer], dict[str, float]] = {
    torch.optim.SGD: {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    torch.optim.Adagrad: {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.3},
    torch.optim.RMSprop: {"lr": 0.01, "momentum": 0.5},
    torch.optim.AdamW: {"lr": 0.01, "weight_decay": 0.1},
}


@pytest.fixture(params=["compiled", "plain"])
def stepped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[type[torch.optim.Optimizer]]:
    """Both ways of a step of rows, and the rules of those that were compiled."""
    rules: list[type[torch.optim.Optimizer]] = []
    if request.param == "plain":
        monkeypatch.setattr(rows, "LIBRARY", None)
        return rules
    if rows.LIBRARY is None:
        pytest.skip("the compiled step of rows is missing")
    real = rows.step
    monkeypatch.setattr(rows, "step", lambda rule, *given: (rules.append(rule), real(rule, *given))[1])
    return rules


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("features", [None, 1, 7, 128])
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (torch.optim.Adagrad, {"lr": 0.1}),
        (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3}),
        (torch.optim.Adam, {"lr": 0.1}),
        (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "betas": (0.7, 0.9), "eps": 0.01}),
        (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_compiled_rows_step_as_plain_ones(
    rule: type[torch.optim.Optimizer],
    options: dict[str, float],
    features: int | None,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rows that come several times, and a state that was loaded."""
    if rows.LIBRARY is None:
        pytest.skip("the compiled step of rows is missing")
    torch.manual_seed(0)
    shape = (50,) if features is None else (50, features)
    table = torch.randn(shape, dtype=dtype)
    found = []
    for way in (rows.LIBRARY, None):
        monkeypatch.setattr(rows, "LIBRARY", way)
        torch.manual_seed(1)
        parameter = nn.Parameter(table.clone())
        optimizer: torch.optim.Optimizer = LazyRows([parameter], rule, **options)
        for step in range(4):
            place = torch.randint(50, (30,))
            values = torch.randn(30, *shape[1:], dtype=dtype)
            parameter.grad = torch.sparse_coo_tensor(place[None], values, shape, check_invariants=True)
            if step % 2:
                parameter.grad = parameter.grad.coalesce()
            optimizer.step()
            if step == 1:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = LazyRows([parameter], rule, **options)
                optimizer.load_state_dict(state)
        found.append((parameter.detach(), *(optimizer.state[parameter][name] for name in (*rows.STATE[rule], "step"))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_which_rows_are_stepped_by_the_compiled_half(stepped: list[type[torch.optim.Optimizer]]) -> None:
    """All else goes the plain way: rates that are tensors, amsgrad, other dtypes, tables that lie otherwise."""

    def step(rule: type[torch.optim.Optimizer], table: Tensor, **options: object) -> None:
        parameter = nn.Parameter(table)
        optimizer = LazyRows([parameter], rule, **options)
        values = torch.ones(2, 3, dtype=table.dtype)
        parameter.grad = torch.sparse_coo_tensor([[1, 1]], values, (5, 3), check_invariants=True)
        optimizer.step()

    table = torch.randn(5, 3)
    for rule in (torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad, torch.optim.AdamW):
        step(rule, table.clone(), lr=0.1)
    there = rows.LIBRARY is not None
    assert stepped == ([torch.optim.Adam, torch.optim.Adagrad, torch.optim.AdamW] if there else [])
    stepped.clear()
    step(torch.optim.Adam, table.clone(), lr=torch.tensor(0.1))
    step(torch.optim.Adam, table.clone(), lr=0.1, amsgrad=True)
    step(torch.optim.Adam, table.bfloat16(), lr=0.1)
    step(torch.optim.Adam, torch.randn(3, 5).t(), lr=0.1)
    assert stepped == []


def test_a_compiled_step_writes_nowhere_else() -> None:
    """A gradient that was made by hand may name rows that are none; an empty one is no step."""
    parameter = nn.Parameter(torch.zeros(4, 2))
    optimizer = LazyRows([parameter], torch.optim.Adam, lr=0.1)
    nothing = torch.zeros(1, 0, dtype=torch.long), torch.zeros(0, 2)
    parameter.grad = torch.sparse_coo_tensor(*nothing, (4, 2), check_invariants=True)
    optimizer.step()
    assert optimizer.state == {}
    for row in (-1, 4):
        parameter.grad = torch.sparse_coo_tensor([[row]], torch.ones(1, 2), (4, 2), check_invariants=False)
        with pytest.raises(IndexError):
            optimizer.step()
    assert torch.equal(parameter, torch.zeros(4, 2))


def test_a_compiled_step_is_seen_by_autograd() -> None:
    """What was kept for a backward pass is found changed, as with every step in place."""
    parameter = nn.Parameter(torch.ones(4, 2))
    optimizer = LazyRows([parameter], torch.optim.Adagrad, lr=0.1)
    loss = (parameter * parameter).sum()
    parameter.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2), check_invariants=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("rule", BY_ROW)
def test_where_every_row_has_a_gradient_lazy_rows_step_as_torch_does(
    rule: type[torch.optim.Optimizer], stepped: list[type[torch.optim.Optimizer]]
) -> None:
    torch.manual_seed(0)
    one, other, body = (nn.Parameter(torch.randn(5, 3, dtype=torch.float64)) for _ in range(3))
    with torch.no_grad():
        other.copy_(one)
    twin = nn.Parameter(body.detach().clone())
    lazy, plain = (make(what) for make, what in _makers(rule, [one, body], [other, twin]))
    for _ in range(4):
        gradient = torch.randn_like(one)
        one.grad, other.grad = gradient.to_sparse(1), gradient.clone()
        body.grad, twin.grad = gradient.flip(0), gradient.flip(0)
        lazy.step()
        plain.step()
        assert one.grad.is_sparse
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(body, twin)


def _makers(rule: type[torch.optim.Optimizer], mine: list[nn.Parameter], others: list[nn.Parameter]):  # type: ignore[no-untyped-def]
    options = OPTIONS.get(rule, {})
    return (lambda what: LazyRows(what, rule, **options), mine), (lambda what: rule(what, **options), others)


@pytest.mark.parametrize("rule", BY_ROW)
def test_a_row_without_a_gradient_stays_and_one_with_steps_as_if_alone(
    rule: type[torch.optim.Optimizer], stepped: list[type[torch.optim.Optimizer]]
) -> None:
    """Where the rule counts steps, they are those of the whole parameter."""
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(6, 3, dtype=torch.float64))
    before, row = table.detach().clone(), nn.Parameter(table[2:3].detach().clone())
    (lazy, mine), (plain, others) = _makers(rule, [table], [row])
    lazy, plain = lazy(mine), plain(others)
    for _ in range(4):
        gradient = torch.zeros_like(table)
        gradient[2] = torch.randn(3)
        table.grad, row.grad = gradient.to_sparse(1), gradient[2:3].clone()
        lazy.step()
        plain.step()
    torch.testing.assert_close(table[2:3], row)
    untouched = [0, 1, 3, 4, 5]
    assert torch.equal(table[untouched], before[untouched])
    fresh = 0.3 if rule is torch.optim.Adagrad else 0.0
    for value in lazy.state[table].values():
        if isinstance(value, Tensor) and value.dim():
            assert bool((value[untouched] == fresh).all())


def test_lazy_adam_is_sparse_adam() -> None:
    torch.manual_seed(0)
    one = nn.Parameter(torch.randn(50, 3))
    other = nn.Parameter(one.detach().clone())
    lazy, sparse = LazyRows([one], torch.optim.Adam, lr=0.1), torch.optim.SparseAdam([other], lr=0.1)
    for _ in range(6):
        rows = torch.randint(50, (7,))  # some twice
        values = torch.randn(7, 3)
        for parameter in (one, other):
            parameter.grad = torch.sparse_coo_tensor(rows.unsqueeze(0), values, (50, 3), check_invariants=True)
        lazy.step()
        sparse.step()
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rule", BY_ROW)
def test_lazy_rows_go_on_from_their_state(
    rule: type[torch.optim.Optimizer], stepped: list[type[torch.optim.Optimizer]]
) -> None:
    """The state dict of half the steps brings the other half to the same end; it loads into torch's own, too."""
    torch.manual_seed(0)
    head = tree_head()
    lazy = LazyRows(head.parameters(), rule, **OPTIONS.get(rule, {}))
    batches = [batch(head, rows=4) for _ in range(6)]

    def train(head: Head, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        for input, target, upstream in batches:
            optimizer.zero_grad()
            (upstream * head(input, target)).sum().backward()
            optimizer.step()

    train(head, lazy, batches[:3])
    again = copy.deepcopy(head)
    states = copy.deepcopy(lazy.state_dict())
    train(head, lazy, batches[3:])
    resumed = LazyRows(again.parameters(), rule)
    resumed.load_state_dict(states)
    rule(again.parameters()).load_state_dict(states)
    train(again, resumed, batches[3:])
    for one, other in zip(head.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)  # torch loads NAdam's product of momenta in another precision


def test_copied_lazy_rows_step_the_copied_parameters() -> None:
    head = tree_head()
    optimizer = LazyRows(head.parameters(), torch.optim.Adam, lr=0.1)
    input, target, _ = batch(head)
    head(input, target).sum().backward()
    optimizer.step()
    for again, other in (copy.deepcopy((head, optimizer)), pickle.loads(pickle.dumps((head, optimizer)))):
        again(input, target).sum().backward()
        before = [parameter.detach().clone() for parameter in head.parameters()]
        other.step()
        for one, copied, start in zip(head.parameters(), again.parameters(), before, strict=True):
            assert torch.equal(one, start)
            assert not torch.equal(copied, start)
        assert set(other.state) == set(again.parameters())


def test_a_schedule_and_a_closure_reach_lazy_rows() -> None:
    head = tree_head()
    lazy = LazyRows([head.weight], torch.optim.SGD, lr=0.1)
    lazy.add_param_group({"params": [head.bias], "lr": 0.5})
    schedule = torch.optim.lr_scheduler.StepLR(lazy, 1, gamma=0.1)
    input, target, _ = batch(head)

    def closure() -> Tensor:
        lazy.zero_grad()
        loss = head(input, target).sum()
        loss.backward()
        return loss

    expected = head(input, target).sum().detach()
    assert torch.equal(lazy.step(closure).detach(), expected)
    schedule.step()
    before = [parameter.detach().clone() for parameter in head.parameters()]
    lazy.step(closure)
    for parameter, start, rate in zip(head.parameters(), before, (0.01, 0.05), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), start - rate * parameter.grad.to_dense())


@pytest.mark.parametrize("rule", [torch.optim.LBFGS, torch.optim.Adafactor, torch.optim.SparseAdam, SGDInBackward])
def test_lazy_rows_refuse_a_rule_that_mixes_rows(rule: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(ValueError, match=f"LazyRows: expected as the rule one of SGD, .*, got {rule.__name__}, which"):
        LazyRows(tree_head().parameters(), rule)


def test_for_model_makes_the_gradients_of_large_heads_sparse() -> None:
    large = -(-SPARSE // 8) + 1
    counts = Sampler.uniform(large)
    trees = [Tree.random(large, seed=seed) for seed in range(2)]
    heads = [
        HierarchicalSoftmax(8, trees[0]),
        ForestSoftmax(8, trees),
        SampledSoftmax(8, counts, 4),
        TreeSampledSoftmax(8, trees[0], 4),
    ]
    small, flat = HierarchicalSoftmax(8, Tree.balanced(1000)), Softmax(8, 1000)
    for head in [*heads, small, flat]:
        optimizer = for_model(nn.Linear(8, 8), head, lr=0.1)
        assert isinstance(optimizer, LazyRows)
        head(torch.randn(3, 8), torch.tensor([5, 5, 7])).sum().backward()
        before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
        optimizer.step()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.is_sparse == (head in heads), name
            moved = (parameter != before[name]).view(len(parameter), -1).any(1)
            assert bool(moved.any())
            assert int(moved.sum()) < 200 or head not in heads
    assert for_model(small, optimizer=torch.optim.SGD, lr=0.2).param_groups[0]["lr"] == 0.2


def test_for_model_wants_modules() -> None:
    for given, got in (((nn.Linear(8, 8).parameters(),), "generator"), ((), "nothing")):
        with pytest.raises(TypeError, match=rf"^for_model: expected modules, .*, got {got}\.$"):
            for_model(*given, lr=0.1)


def test_for_model_steps_what_torch_s_own_would_step() -> None:
    """A model without a large head trains as with torch's optimiser, bit for bit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    head = Softmax(6, 10)
    twins = copy.deepcopy((model, head))
    mine = for_model(model, lr=0.01)
    mine.add_param_group({"params": list(head.parameters())})
    plain = torch.optim.AdamW([*twins[0].parameters(), *twins[1].parameters()], lr=0.01)
    for _ in range(5):
        input, target = torch.randn(8, 4), torch.randint(10, (8,))
        for body, last, optimizer in ((model, head, mine), (*twins, plain)):
            optimizer.zero_grad()
            last(body(input), target).mean().backward()
            optimizer.step()
    for one, other in zip(model.parameters(), twins[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_adagrad_begins_with_its_accumulator_in_later_groups_too() -> None:
    one, other = (nn.Parameter(torch.arange(12.0).view(4, 3)) for _ in range(2))
    options = {"lr": 0.1, "initial_accumulator_value": 5.0}
    lazy = LazyRows([nn.Parameter(torch.zeros(1))], torch.optim.Adagrad, **options)
    lazy.add_param_group({"params": [one]})
    plain = torch.optim.Adagrad([other], **options)
    for _ in range(2):
        gradient = torch.zeros(4, 3)
        gradient[[1, 3]] = 2.0
        one.grad, other.grad = gradient.to_sparse(1), gradient
        lazy.step()
        plain.step()
    torch.testing.assert_close(one, other)
    assert torch.equal(lazy.state[one]["sum"], plain.state[other]["sum"])


def test_state_and_groups_that_are_set_anew_count_for_dense_and_sparse_alike() -> None:
    table, dense = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3))
    lazy = LazyRows([table, dense], torch.optim.Adam, lr=0.1)

    def step() -> None:
        table.grad, dense.grad = torch.eye(4, 3).to_sparse(1), torch.ones(3)
        lazy.step()

    step()
    lazy.state = collections.defaultdict(dict)
    step()
    assert [int(lazy.state[one]["step"]) for one in (table, dense)] == [1, 1]
    before = table.detach().clone(), dense.detach().clone()
    lazy.param_groups = [{**lazy.param_groups[0], "lr": 0.0}]
    step()
    assert torch.equal(table, before[0])
    assert torch.equal(dense, before[1])


def test_a_step_that_fails_leaves_gradients_and_rows() -> None:
    table, dense = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3))
    lazy = LazyRows([table, dense], torch.optim.Adam, lr=0.1)
    table.grad, dense.grad = torch.eye(4, 3).to_sparse(1), torch.ones(3)
    lazy.state[dense] = {"step": "broken"}
    with pytest.raises((TypeError, AttributeError, KeyError, RuntimeError)):
        lazy.step()
    assert table.grad.is_sparse
    assert torch.equal(table, torch.ones(4, 3))


def test_gradients_that_are_sparse_in_columns_too_are_refused() -> None:
    table = nn.Parameter(torch.ones(4, 3))
    table.grad = torch.eye(4, 3).to_sparse()
    with pytest.raises(ValueError, match=r"LazyRows: expected gradients that are sparse by rows, .* sparse_dim 2\."):
        LazyRows([table], torch.optim.Adam, lr=0.1).step()


def test_sgd_without_momentum_has_no_state() -> None:
    head = tree_head()
    lazy = LazyRows(head.parameters(), torch.optim.SGD, lr=0.1)
    input, target, _ = batch(head)
    head(input, target).sum().backward()
    lazy.step()
    assert lazy.state_dict()["state"] == {}
