"""The softmax over the target's nearest classes: which they are, what is drawn, and a normaliser that is right."""

import copy
import math

import pytest
import torch
from torch import Tensor

from softmaxes import NeighborSampledSoftmax, SampledSoftmax, Sampler, rounded
from softmaxes.heads import neighbor_sampled
from softmaxes.heads.neighbor_sampled import among, clustered, neighbors

CLASSES, FEATURES = 13, 4


def head(refreshed: bool = True, **options: int) -> NeighborSampledSoftmax:
    torch.manual_seed(0)
    settings = {"num_samples": 5, "num_neighbors": 3} | options
    made = NeighborSampledSoftmax(FEATURES, CLASSES, **settings, dtype=torch.float64)
    with torch.no_grad():
        made.weight.mul_(4)
    if refreshed:
        made.refresh()
    return made


def near(made: NeighborSampledSoftmax) -> Tensor:
    assert made._neighbors is not None
    return made._neighbors


def by_hand(weight: Tensor, bias: Tensor, number: int) -> list[list[int]]:
    """The nearest classes of each class, one pair after the other."""
    found = []
    for c, row in enumerate(weight.tolist()):
        score = {
            other: sum(a * b for a, b in zip(row, weight[other].tolist(), strict=True)) + float(bias[other])
            for other in range(len(weight))
            if other != c
        }
        found.append(sorted(score, key=lambda other: -score[other])[:number])
    return found


def normaliser(made: NeighborSampledSoftmax, input: Tensor, target: Tensor, times: int) -> Tensor:
    """Estimates of the normaliser, in parts of what it is: (times, N)."""
    logits = torch.nn.functional.linear(input, made.weight, made.bias)
    own = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        losses = torch.stack([made(input, target) for _ in range(times)])
    return (losses + own - logits.logsumexp(1)).exp().detach()


def test_the_neighbors_are_the_classes_of_the_highest_logits_at_a_class_s_row() -> None:
    made = head()
    assert made.bias is not None
    assert near(made).tolist() == by_hand(made.weight.detach(), made.bias.detach(), 3)
    assert near(head(num_neighbors=99)).shape == (CLASSES, CLASSES - 1)


@pytest.mark.parametrize("probes", [4, 1])
def test_of_many_classes_most_neighbors_are_found(probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In cells: all of them where every cell is looked into; never the class itself, and none twice."""
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(60, 8).repeat_interleave(5, 0) + 0.1 * torch.randn(300, 8), torch.zeros(300, 1)], 1)
    monkeypatch.setattr(neighbor_sampled, "way", lambda: 0)
    exact = neighbors(rows, 4)
    monkeypatch.setattr(neighbor_sampled, "EXACT", 10)
    monkeypatch.setattr(neighbor_sampled, "PROBES", 99)
    assert torch.equal(neighbors(rows, 4).sort(1).values, exact.sort(1).values)
    monkeypatch.setattr(neighbor_sampled, "PROBES", probes)
    monkeypatch.setattr(neighbor_sampled, "MOST_NUMBERS", 100)
    found = neighbors(rows, 4)
    assert bool((found != torch.arange(300).unsqueeze(1)).all())
    assert all(len(set(row)) == 4 for row in found.tolist())
    shared = [len(set(one) & set(other)) for one, other in zip(found.tolist(), exact.tolist(), strict=True)]
    assert sum(shared) / 1200 > (0.9 if probes == 4 else 0.5)


def test_where_cells_have_too_few_all_classes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.cat([100 * torch.eye(20), torch.zeros(20, 1)], 1)  # each in a cell of its own
    monkeypatch.setattr(neighbor_sampled, "way", lambda: 0)
    monkeypatch.setattr(neighbor_sampled, "EXACT", 10)
    monkeypatch.setattr(neighbor_sampled, "PROBES", 1)
    found = neighbors(rows, 7)
    assert bool((found != torch.arange(20).unsqueeze(1)).all())
    assert all(len(set(row)) == 7 for row in found.tolist())


@pytest.mark.skipif(rounded.way() < rounded.TILES, reason="this processor has no AMX")
def test_by_rounded_rows_all_neighbors_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3000, 9)
    rows[:20] = rows[0]  # equal rows: their neighbours are each other, none its own
    rows[20:30, :8] = 0.0  # and rows that are near to nothing, whose search stays open
    rows[20:30, 8] = -9.0
    by_rounding = neighbors(rows, 5)
    assert by_rounding.dtype == torch.int32
    monkeypatch.setattr(neighbor_sampled, "way", lambda: 0)
    exact = neighbors(rows, 5)
    every = torch.arange(3000).unsqueeze(1)
    assert bool((by_rounding != every).all())
    logits = rows[:, :8] @ rows[:, :8].t() + rows[:, 8]
    torch.testing.assert_close(logits.gather(1, by_rounding.long()), logits.gather(1, exact.long()))
    assert bool((by_rounding.sort(1).values.diff(dim=1) > 0).all())


@pytest.mark.skipif(rounded.way() < rounded.TILES, reason="this processor has no AMX")
def test_rounded_rows_are_left_alone_where_they_tell_nothing_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    best = rounded.RoundedRows.best

    def counted(self: rounded.RoundedRows, queries: Tensor, k: int) -> rounded.Best:
        asked.append(len(queries))
        return best(self, queries, k)

    monkeypatch.setattr(neighbor_sampled, "ASKED", 100)
    monkeypatch.setattr(rounded.RoundedRows, "best", counted)
    assert neighbors(torch.zeros(3000, 9), 5).shape == (3000, 5)
    assert asked == [100]


@pytest.mark.parametrize("samples", [1, 5, 12, 13, 40])
def test_a_class_is_drawn_as_often_as_its_weight_says(samples: int) -> None:
    """And at most once."""
    made, times = head(num_samples=samples), 1000
    counts = torch.zeros(CLASSES, dtype=torch.float64)
    for _ in range(times):
        shared, log_weight = made._draw(torch.device("cpu"))
        assert len(set(shared.tolist())) == min(samples, CLASSES)
        assert torch.equal(shared, shared.sort().values)
        counts[shared] += log_weight.exp()
    error = (counts / times - 1).abs()
    assert float(error.max()) < 5 * math.sqrt(CLASSES / min(samples, CLASSES) / times)
    if samples >= CLASSES:
        assert torch.equal(counts, torch.full_like(counts, times))


def test_among() -> None:
    found = among(torch.tensor([[3, 9, 3], [0, 5, 12]]), torch.tensor([0, 3, 4, 9]))
    assert found.tolist() == [[False, True, False, True], [True, False, False, False]]


@pytest.mark.parametrize("state", ["new", "fresh", "stale"])
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


@pytest.mark.parametrize("refreshed", [False, True])
def test_the_target_is_never_among_the_others(refreshed: bool) -> None:
    """Where the target's logit is far above all others, the loss is nothing; a draw of it would make it log 2 or so."""
    made = head(refreshed=False, num_samples=40)
    with torch.no_grad():
        made.weight.zero_()
        made.bias.copy_(torch.arange(CLASSES) == 3)
        made.bias.mul_(1e3)
    if refreshed:
        made.refresh()
    loss = made(torch.randn(50, FEATURES, dtype=torch.float64), torch.full((50,), 3))
    assert float(loss.detach().abs().max()) < 1e-12
    made._neighbors = torch.full((CLASSES, 3), 3, dtype=torch.int32)  # as if it had been found as its own
    loss = made(torch.randn(50, FEATURES, dtype=torch.float64), torch.full((50,), 3))
    assert float(loss.detach().abs().max()) < 1e-12


def test_with_neighbors_the_estimate_varies_less_than_by_chance() -> None:
    """Rows in bundles, some of them likely: at equally many classes far less than with uniform ones alone."""
    torch.manual_seed(0)
    centres, classes = torch.randn(20, 16), 400
    rows = centres.repeat_interleave(20, 0) + 0.2 * torch.randn(classes, 16)
    made = NeighborSampledSoftmax(16, classes, 16, num_neighbors=19, bias=False)
    uniform = SampledSoftmax(16, Sampler.uniform(classes), 35, bias=False)
    input, target = 1.5 * centres, torch.arange(20) * 20
    spread = {}
    for name, one in (("new", made), ("refreshed", made), ("uniform", uniform)):
        with torch.no_grad():
            one.weight.copy_(rows)
        if name == "refreshed":
            made.refresh()
        with torch.no_grad():
            losses = torch.stack([one(input, target) for _ in range(200)])
        spread[name] = float(losses.var(0).mean())
    assert spread["refreshed"] < 0.1 * min(spread["uniform"], spread["new"])


def test_refresh_changes_the_neighbors_and_nothing_else() -> None:
    made = head(refreshed=False)
    before = copy.deepcopy(made.state_dict())
    assert set(before) == {"weight", "bias"}
    assert made._neighbors is None
    made.refresh()
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    assert near(made).shape == (CLASSES, 3)
    made.load_state_dict(before)
    assert made._neighbors is None
    made.refresh()
    made.reset_parameters()
    assert made._neighbors is None


def test_a_move_keeps_the_neighbors() -> None:
    made = head()
    kept = near(made)
    for moved in (copy.deepcopy(made), made.float(), made.bfloat16(), made.to_empty(device="cpu")):
        assert torch.equal(near(moved), kept)
    assert made.to("meta")._neighbors is None
    made.refresh()
    assert made._neighbors is None


def test_clusters_that_are_far_apart_are_found() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.eye(6)
    which = torch.randint(6, (90,))
    cell, mean = clustered(centres[which] + 0.1 * torch.randn(90, 6), 18)
    torch.testing.assert_close(mean[cell], centres[which], atol=0.4, rtol=0)  # no cell has two of them


def test_a_cell_that_would_be_empty_takes_a_row_that_is_far_from_its_mean() -> None:
    rows = torch.cat([torch.zeros(60, 5), 100 * torch.eye(5)])
    cell, _ = clustered(rows, 6)
    assert sorted(torch.bincount(cell).tolist()) == [1, 1, 1, 1, 1, 60]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_head_of_another_precision_learns(dtype: torch.dtype) -> None:
    made = NeighborSampledSoftmax(FEATURES, CLASSES, 5, 3).to(dtype)
    input, target = torch.randn(6, FEATURES, dtype=dtype), torch.randint(CLASSES, (6,))
    for _ in range(2):
        loss = made(input, target)
        loss.sum().backward()
        assert bool(loss.isfinite().all())
        made.refresh()


@pytest.mark.parametrize("broken", [-math.inf, math.nan])
def test_a_class_that_is_ruled_out_spoils_no_other(broken: float) -> None:
    """By a bias of minus infinity; or a row of NaN, which is mended after the neighbours were found."""
    made = head()
    with torch.no_grad():
        made.bias[7] = broken
    made.refresh()
    if math.isnan(broken):
        with torch.no_grad():
            made.bias[7] = -math.inf
    input, target = torch.randn(6, FEATURES, dtype=torch.float64), torch.tensor([0, 1, 5, 5, 11, 12])
    ratio = normaliser(made, input, target, 4000)
    assert bool(((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / math.sqrt(len(ratio)) + 1e-9).all())


def test_neighbors_are_found_in_full_precision_and_where_the_head_is() -> None:
    made, plain = head().float(), head().float()
    with torch.no_grad():
        made.weight.add_(100)  # bfloat16 would tell none of them apart
        plain.weight.add_(100)
    plain.refresh()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made.refresh()
    assert torch.equal(near(made), near(plain))
    with torch.device("meta"):
        made.refresh()
    assert torch.equal(near(made), near(plain))
