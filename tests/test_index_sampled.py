"""The softmax over an index of its rows: what is drawn, how often, and that the normaliser is right on average."""

import copy
import math

import pytest
import torch
from torch import Tensor

from softmaxes import IndexSampledSoftmax, SampledSoftmax, Sampler
from softmaxes.heads import index_sampled
from softmaxes.heads.index_sampled import Index, clustered, index_of

CLASSES, FEATURES = 13, 4


def head(refreshed: bool = True, **options: int) -> IndexSampledSoftmax:
    torch.manual_seed(0)
    settings = {"num_samples": 3, "num_uniform": 5, "num_cells": 4} | options
    made = IndexSampledSoftmax(FEATURES, CLASSES, **settings, dtype=torch.float64)
    with torch.no_grad():
        made.weight.mul_(4)
    if refreshed:
        made.refresh()
    return made


def expected_counts(made: IndexSampledSoftmax, input: Tensor) -> Tensor:
    """How often each class should come after a `refresh`, by the docstring's formula, written down another way."""
    assert made.bias is not None
    cell, counts = made._index.cell.tolist(), []
    for features in input:
        weight = torch.zeros(max(cell) + 1, dtype=torch.float64)
        for which in range(len(weight)):
            rows = [c for c in range(CLASSES) if cell[c] == which]
            mean, offset = made.weight[rows].detach().mean(0), made.bias[rows].detach().mean()
            weight[which] = len(rows) * math.exp(float(mean @ features + offset))
        share = [float(weight[cell[c]] / weight.sum()) / cell.count(cell[c]) for c in range(CLASSES)]
        counts.append([made.num_samples * one + made.num_uniform / CLASSES for one in share])
    return torch.tensor(counts, dtype=torch.float64)


def normaliser(made: IndexSampledSoftmax, input: Tensor, target: Tensor, times: int) -> Tensor:
    """Estimates of the normaliser, in parts of what it is: (times, N)."""
    logits = torch.nn.functional.linear(input, made.weight, made.bias)
    own = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        losses = torch.stack([made(input, target) for _ in range(times)])
    return (losses + own - logits.logsumexp(1)).exp().detach()


@pytest.mark.parametrize("refreshed", [False, True], ids=["new", "clusters"])
def test_a_class_comes_as_often_as_the_correction_says(refreshed: bool) -> None:
    made, times = head(refreshed), 4000
    input = torch.randn(1, FEATURES, dtype=torch.float64).expand(times, -1)
    expected = torch.full((CLASSES,), 8 / CLASSES, dtype=torch.float64)
    if refreshed:
        expected = expected_counts(made, input[:1])[0]
    drawn, shared, log_expected = made._draw(input)
    assert drawn.shape == (times, 3)
    assert shared.shape == (5,)
    classes = torch.cat([drawn, shared.expand(times, -1)], dim=1)
    torch.testing.assert_close(log_expected.exp(), expected[classes])
    of_index = expected - made.num_uniform / CLASSES
    counts = torch.bincount(drawn.flatten(), minlength=CLASSES) / times
    torch.testing.assert_close(of_index.sum(), torch.tensor(3.0, dtype=torch.float64))
    deviation = (of_index.clamp(max=1) / times).sqrt()  # of independent draws; spread out they vary less
    assert bool(((counts - of_index).abs() < 5 * deviation).all())


def test_draws_are_spread_out() -> None:
    """Of uniform draws as many as classes each class comes once; of a cell that is drawn as often, too."""
    made = head(num_samples=CLASSES, num_uniform=2 * CLASSES, num_cells=1)
    drawn, shared, _ = made._draw(torch.randn(7, FEATURES, dtype=torch.float64))
    assert torch.equal(shared.sort().values, torch.arange(CLASSES).repeat_interleave(2))
    assert torch.equal(drawn.sort(1).values, torch.arange(CLASSES).expand(7, -1))


@pytest.mark.parametrize("state", ["new", "clusters", "stale"])
def test_the_normaliser_is_right_on_average(state: str) -> None:
    made = head(refreshed=state != "new")
    if state == "stale":
        with torch.no_grad():
            made.weight.copy_(made.weight.flip(0) + torch.randn_like(made.weight))
    input = 2 * torch.randn(6, FEATURES, dtype=torch.float64)
    target = torch.tensor([0, 1, 5, 5, 11, 12])
    ratio = normaliser(made, input, target, 6000)
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert bool(((ratio.mean(0) - 1).abs() < 5 * error + 1e-9).all())
    assert bool((error > 0).any())


def test_the_target_is_never_among_the_others() -> None:
    """Where the target's logit is far above all others, the loss is nothing; a draw of it would make it log 2 or so."""
    made = head(num_samples=40, num_uniform=40)
    with torch.no_grad():
        made.weight.zero_()
        made.bias.copy_(torch.arange(CLASSES) == 3)
        made.bias.mul_(1e3)
    made.refresh()
    loss = made(torch.randn(50, FEATURES, dtype=torch.float64), torch.full((50,), 3))
    assert float(loss.detach().abs().max()) < 1e-12


def test_an_index_of_the_rows_estimates_better_than_chance() -> None:
    """Rows in bundles, some of them likely: at equally many draws the estimate varies less than by uniform ones."""
    torch.manual_seed(0)
    centres, classes = torch.randn(20, 16), 400
    rows = centres.repeat_interleave(20, 0) + 0.2 * torch.randn(classes, 16)
    by_index = IndexSampledSoftmax(16, classes, 16, num_uniform=16, bias=False)
    uniform = SampledSoftmax(16, Sampler.uniform(classes), 32, bias=False)
    input, target = 1.5 * centres, torch.arange(20) * 20
    spread = {}
    for name, made in (("new", by_index), ("index", by_index), ("uniform", uniform)):
        with torch.no_grad():
            made.weight.copy_(rows)
        if name == "index":
            by_index.refresh()
        with torch.no_grad():
            losses = torch.stack([made(input, target) for _ in range(200)])
        spread[name] = float(losses.var(0).mean())
    assert spread["index"] < 0.3 * spread["uniform"]
    assert spread["index"] < 0.5 * spread["new"]


def test_refresh_changes_the_index_and_nothing_else() -> None:
    made = head(refreshed=False)
    before, index = copy.deepcopy(made.state_dict()), made._index
    assert set(before) == {"weight", "bias"}
    made.refresh()
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    assert not torch.equal(made._index.cell, index.cell)
    made.load_state_dict(before)
    assert torch.equal(made._index.cell, index.cell)


def test_a_move_keeps_the_clusters() -> None:
    made = head()
    cell = made._index.cell
    for moved in (copy.deepcopy(made), made.float(), made.bfloat16(), made.to_empty(device="cpu")):
        assert torch.equal(moved._index.cell, cell)
        assert bool(moved._index.mean.isfinite().all())


def test_clusters_that_are_far_apart_are_found() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.eye(6)
    which = torch.randint(6, (90,))
    index = clustered(centres[which] + 0.1 * torch.randn(90, 6), 18)
    assert sorted(index.order.tolist()) == list(range(90))
    assert int(index.size.sum()) == 90
    for cell in range(len(index.size)):
        members = index.order[index.first[cell] : index.first[cell] + index.size[cell]]
        assert bool((index.cell[members] == cell).all())
    torch.testing.assert_close(index.mean[index.cell], centres[which], atol=0.4, rtol=0)  # no cell has two of them


def test_equal_rows_share_a_cell_and_no_cell_is_empty() -> None:
    rows = torch.tensor([[1.0, 2.0], [5.0, 5.0]])[torch.arange(10) % 2]
    index = clustered(rows, 4)
    assert index.size.tolist() in ([5, 5], [5, 5][::-1])
    assert isinstance(index_of(rows, torch.zeros(10, dtype=torch.long), 1), Index)
    made = IndexSampledSoftmax(2, 10, 3)
    with torch.no_grad():
        made.weight.copy_(rows)
    made.refresh()
    assert bool(made(torch.randn(5, 2), torch.arange(5)).isfinite().all())


def test_a_cell_that_would_be_empty_takes_a_row_that_is_far_from_its_mean() -> None:
    rows = torch.cat([torch.zeros(60, 5), 100 * torch.eye(5)])
    index = clustered(rows, 6)
    assert sorted(index.size.tolist()) == [1, 1, 1, 1, 1, 60]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_head_of_another_precision_learns(dtype: torch.dtype) -> None:
    made = IndexSampledSoftmax(FEATURES, CLASSES, 3, 5).to(dtype)
    input, target = torch.randn(6, FEATURES, dtype=dtype), torch.randint(CLASSES, (6,))
    for _ in range(2):
        loss = made(input, target)
        loss.sum().backward()
        assert bool(loss.isfinite().all())
        made.refresh()


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_a_class_that_is_ruled_out_spoils_no_other(broken: float) -> None:
    """By a bias of minus infinity; or a row of NaN, which is mended after the index was made."""
    made, plain = head(), head()
    with torch.no_grad():
        made.bias[7] = broken
    made.refresh()
    plain.refresh()
    assert len(made._index.size) == len(plain._index.size)
    assert int(made._index.size.max()) < CLASSES - 3
    if math.isnan(broken):
        with torch.no_grad():
            made.bias[7] = -math.inf
    input, target = torch.randn(6, FEATURES, dtype=torch.float64), torch.tensor([0, 1, 5, 5, 11, 12])
    ratio = normaliser(made, input, target, 4000)
    assert bool(((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / math.sqrt(len(ratio)) + 1e-9).all())


def test_an_index_is_made_in_full_precision_and_where_the_head_is() -> None:
    made, plain = head().float(), head().float()
    with torch.no_grad():
        made.weight.add_(100)  # bfloat16 would tell none of them apart
        plain.weight.add_(100)
    plain.refresh()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made.refresh()
    expected = plain._index
    assert torch.equal(made._index.cell, expected.cell)
    with torch.device("meta"):
        made.refresh()
    assert torch.equal(made._index.cell, expected.cell)


def test_every_class_has_a_cell_whichever_rows_k_means_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_sampled, "POINTS", 2)
    torch.manual_seed(0)
    index = clustered(torch.randn(500, 5), 10)
    assert sorted(index.order.tolist()) == list(range(500))
    assert torch.equal(index.size, torch.bincount(index.cell))
    assert bool((index.size > 0).all())
