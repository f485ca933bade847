"""The sampler draws what it says, exactly, at a cost that does not depend on how many classes there are."""

import copy
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from softmaxes import NCE, NegativeSampling, SampledSoftmax, Sampler

SCALE = 2**62
TABLES = ("threshold", "alias", "mass")
COUNTS = [3, 1, 4, 1, 5, 9, 2, 6]
SKEWED = [3, 300, 10, 1000, 30, 100]


def log_uniform(counts: list[int]) -> list[float]:
    by_rank = sorted(range(len(counts)), key=lambda c: (-counts[c], c))
    return [math.log(1 + 1 / (by_rank.index(c) + 1)) / math.log(len(counts) + 1) for c in range(len(counts))]


def proportional(weights: list[float]) -> list[float]:
    return [weight / math.fsum(weights) for weight in weights]


SAMPLERS: dict[str, tuple[Sampler, list[float]]] = {
    "uniform": (Sampler.uniform(12), [1 / 12] * 12),
    "log-uniform": (Sampler.log_uniform(COUNTS), log_uniform(COUNTS)),
    "unigram": (Sampler.unigram(COUNTS), proportional([float(n) for n in COUNTS])),
    "unigram-power": (Sampler.unigram(COUNTS, power=0.75), proportional([n**0.75 for n in COUNTS])),
    "unigram-inverse": (Sampler.unigram(COUNTS, power=-0.5), proportional([n**-0.5 for n in COUNTS])),
    "skewed": (Sampler(SKEWED), proportional([float(n) for n in SKEWED])),
}
every_sampler = pytest.mark.parametrize(("sampler", "q"), SAMPLERS.values(), ids=SAMPLERS)
every_head = pytest.mark.parametrize("head_type", [SampledSoftmax, NCE, NegativeSampling])
SampledHead = type[SampledSoftmax] | type[NCE] | type[NegativeSampling]


def same_tables(sampler: Sampler, other: Sampler) -> bool:
    return all(torch.equal(getattr(sampler.tables, name), getattr(other.tables, name)) for name in TABLES)


def implied(sampler: Sampler) -> list[Fraction]:
    """The distribution that the alias table draws from, exactly."""
    threshold, alias = sampler.tables.threshold.tolist(), sampler.tables.alias.tolist()
    drawn = list(threshold)
    for column, other in enumerate(alias):
        drawn[other] += SCALE - threshold[column]
    return [Fraction(share, SCALE * len(drawn)) for share in drawn]


def drawn_once_each(sampler: Sampler, times: int) -> bool:
    """Whether so many times C draws are each class so many times."""
    drawn = sampler.sample(times * sampler.num_classes)
    return bool((torch.bincount(drawn, minlength=sampler.num_classes) == times).all())


# Frequencies


@every_sampler
@pytest.mark.slow
def test_single_draws_have_the_probabilities(sampler: Sampler, q: list[float]) -> None:
    torch.manual_seed(0)
    drawn = torch.cat([sampler.sample(1) for _ in range(8000)])
    observed = torch.bincount(drawn, minlength=len(q)).numpy()
    assert chisquare(observed, 8000 * torch.tensor(q, dtype=torch.float64).numpy()).pvalue > 1e-3


@every_sampler
@pytest.mark.slow
def test_many_draws_at_once_have_the_probabilities(sampler: Sampler, q: list[float]) -> None:
    """They are stratified: their statistic is less than a chi-square variable, here its sum over a hundred batches."""
    torch.manual_seed(0)
    expected = 100_003 * torch.tensor(q, dtype=torch.float64).numpy()
    batches = [torch.bincount(sampler.sample(100_003), minlength=len(q)).numpy() for _ in range(100)]
    total = sum(chisquare(observed, expected).statistic for observed in batches)
    assert chi2.cdf(total, 100 * (len(q) - 1)) < 1e-3


@pytest.mark.parametrize("num_samples", [2, 5, 17])
@every_sampler
@pytest.mark.slow
def test_a_few_draws_hit_each_class_as_often_as_independent_ones(
    sampler: Sampler, q: list[float], num_samples: int
) -> None:
    """On average, within five standard errors; the hits of a class vary no more than those of independent draws."""
    torch.manual_seed(0)
    batches = 3000
    hits = torch.stack([torch.bincount(sampler.sample(num_samples), minlength=len(q)) for _ in range(batches)]).double()
    chance = torch.tensor(q, dtype=torch.float64)
    independent = num_samples * chance * (1 - chance)
    error = (independent / batches).sqrt()
    assert float(((hits.mean(0) - num_samples * chance) / error).abs().max()) < 5
    # The spread of a variance over so many batches: five times it, from the fourth moment of a rare class's hits.
    rare = 5 * ((independent + 2 * independent.square()) / batches).sqrt()
    assert bool((hits.var(0) < independent + rare).all())


@every_sampler
def test_probabilities_are_those_of_the_formula(sampler: Sampler, q: list[float]) -> None:
    expected = torch.tensor(q, dtype=torch.float64)
    torch.testing.assert_close(sampler.probability, expected, rtol=1e-15, atol=0)
    every = torch.arange(len(q)).flip(0)
    torch.testing.assert_close(sampler.log_expected(every, 1), expected.flip(0).log(), rtol=1e-15, atol=1e-15)
    assert sampler.log_expected(every.view(2, -1), 1).shape == (2, len(q) // 2)


def test_draws_follow_torchs_seed() -> None:
    sampler = Sampler(SKEWED)
    torch.manual_seed(3)
    first, second = sampler.sample(40), sampler.sample(40)
    torch.manual_seed(3)
    assert torch.equal(sampler.sample(40), first)
    assert not torch.equal(first, second)
    assert first.dtype == torch.int64


# The alias table


def check_table(weight: list[float]) -> None:
    """A class's probability, drawn or told, is off by 2e-12 of itself at most, and by the unit of the table."""
    sampler = Sampler(torch.tensor(weight, dtype=torch.float64))
    total = sum(Fraction(each) for each in weight)
    for name in TABLES:
        table = getattr(sampler.tables, name)
        assert table.dtype == torch.int64
        assert int(table.min()) >= 0
        assert int(table.max()) <= (len(weight) - 1 if name == "alias" else SCALE)
    unit = Fraction(1, SCALE)
    for each, drawn, mass in zip(weight, implied(sampler), sampler.tables.mass.tolist(), strict=True):
        q = Fraction(each) / total
        assert abs(drawn - q) <= q * Fraction(2e-12) + unit
        assert abs(mass * unit - q) <= q * Fraction(1e-15) + unit
        assert mass > 0
    assert sum(implied(sampler)) == 1


few = st.integers(1, 4).map(float)
tiny_and_huge = st.sampled_from([1e-12, 1e-3, 1 / 3, 1.0, 1 + 1e-13, 7.0, 1e6, 1e12])
any_weight = st.floats(1e-9, 1e9)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.lists(few, min_size=2, max_size=200),
        st.lists(tiny_and_huge, min_size=2, max_size=200),
        st.lists(any_weight, min_size=2, max_size=200),
        st.builds(lambda weight, size: [weight] * size, any_weight, st.integers(2, 200)),
        st.builds(
            lambda size, place, more: [1.0] * place + [more] + [1.0] * size,
            st.integers(2, 99),
            st.integers(0, 99),
            tiny_and_huge,
        ),
    )
)
@pytest.mark.slow
def test_the_table_is_exact(weight: list[float]) -> None:
    check_table(weight)


@pytest.mark.slow
def test_the_table_of_any_uniform_sampler_is_exact() -> None:
    for classes in [*range(2, 2001), 65_537, 1_000_003]:
        assert bool((Sampler.uniform(classes).tables.threshold == SCALE).all()), classes


def test_a_large_skewed_table_is_exact() -> None:
    """A hundred thousand classes by Zipf's law; rounding adds up with the classes, to 1e-10."""
    sampler = Sampler.log_uniform(range(100_000))
    drawn = torch.zeros(100_000, dtype=torch.float64)
    drawn += sampler.tables.threshold.double() / SCALE
    drawn.index_add_(0, sampler.tables.alias, 1 - sampler.tables.threshold.double() / SCALE)
    torch.testing.assert_close(drawn / 100_000, sampler.probability, rtol=1e-10, atol=0)


def test_a_class_too_rare_for_the_tables_has_a_logarithm() -> None:
    """Their unit is 2 ** -62, the least probability that is told."""
    sampler = Sampler(torch.tensor([1e-30, 1.0, 1e-300], dtype=torch.float64))
    expected = torch.tensor([-62 * math.log(2), 0.0, -62 * math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(sampler.log_expected(torch.arange(3), 1), expected)


@pytest.mark.slow
def test_as_many_uniform_draws_as_classes_are_each_once() -> None:
    torch.manual_seed(0)
    for classes in [*range(2, 300), 1000, 4096, 10_007, 99_999]:
        sampler = Sampler.uniform(classes)
        assert all(drawn_once_each(sampler, times) for times in (1, 2, 3, 7, 10)), classes


# Cost


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor made in it has."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given_ = {leaf.data_ptr() for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and not leaf.is_sparse}
        for result in tree_leaves(results):
            if not isinstance(result, Tensor):
                continue
            made = result._values() if result.is_sparse else result
            if made.data_ptr() not in given_:  # no view
                self.size = max(self.size, made.numel())
        return results


@pytest.mark.slow
@pytest.mark.parametrize("make", [Sampler.uniform, lambda classes: Sampler.log_uniform(range(classes))])
def test_draws_do_no_work_for_classes_that_are_not_drawn(make: Callable[[int], Sampler]) -> None:
    sampler = make(10**6)
    with Largest() as largest:
        sampler.log_expected(sampler.sample(50), 50)
    assert largest.size == 50
    with Largest() as largest:  # the measure sees what it should
        sampler.log_expected(torch.arange(10**6), 1)
    assert largest.size == 10**6


@every_head
def test_sparse_training_does_no_work_for_classes_that_are_not_drawn(head_type: SampledHead) -> None:
    sizes = []
    for classes in (100, 100_000):
        head = head_type(3, Sampler.uniform(classes), num_samples=50, sparse=True)
        with Largest() as largest:
            head(torch.randn(4, 3), torch.arange(4)).sum().backward()
        sizes.append(largest.size)
        assert head.weight.grad is not None
        assert head.weight.grad.is_sparse
    assert sizes[0] == sizes[1] <= 4 * (1 + 50)


# Copies and places


@pytest.mark.parametrize("convert", [torch.nn.Module.bfloat16, torch.nn.Module.half, torch.nn.Module.double])
def test_tables_survive_half_precision(convert: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
    sampler = Sampler.unigram(SKEWED)
    other = copy.deepcopy(sampler)
    convert(other)
    assert same_tables(other, sampler)
    torch.manual_seed(0)
    drawn = sampler.sample(1000)
    torch.manual_seed(0)
    assert torch.equal(other.sample(1000), drawn)
    head = NCE(3, sampler, num_samples=5)
    convert(head)
    assert same_tables(head.sampler, sampler)
    assert head.sampler.log_expected(torch.arange(6), 1).dtype == torch.float64


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_copies_draw_the_same(copied: Callable[[Sampler], Sampler]) -> None:
    sampler = Sampler.unigram(SKEWED)
    other = copied(sampler)
    assert same_tables(other, sampler)
    assert torch.equal(other.probability, sampler.probability)
    for name in TABLES:
        assert getattr(other.tables, name).data_ptr() != getattr(sampler.tables, name).data_ptr()
    torch.manual_seed(0)
    drawn = sampler.sample(1000)
    torch.manual_seed(0)
    assert torch.equal(other.sample(1000), drawn)


def test_tables_are_filled_anew_after_meta() -> None:
    sampler = Sampler.unigram(SKEWED)
    other = copy.deepcopy(sampler).to("meta")
    assert other.tables.threshold.is_meta
    assert other.sample(3).is_meta
    other.to_empty(device="cpu")
    assert same_tables(other, sampler)


@every_head
def test_a_head_has_its_own_sampler(head_type: SampledHead) -> None:
    sampler = Sampler.unigram(SKEWED)
    before = copy.deepcopy(sampler)
    head = head_type(3, sampler, num_samples=5, device="meta")
    assert all(getattr(head.sampler.tables, name).is_meta for name in TABLES)
    assert same_tables(sampler, before)
    head.to_empty(device="cpu")
    assert same_tables(head.sampler, sampler)
    assert all(getattr(head.sampler.tables, name) is not getattr(sampler.tables, name) for name in TABLES)
    head.sampler.tables.threshold.zero_()
    assert same_tables(sampler, before)
    # A checkpoint is of what was learned: the tables come from the counts.
    assert sorted(head.state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize("make", [lambda: Sampler.uniform(6), lambda: Sampler(SKEWED)])
def test_a_sampler_is_made_under_another_default_device(make: Callable[[], Sampler]) -> None:
    expected = make()
    with torch.device("meta"):
        sampler = make()
    assert torch.equal(sampler.probability, expected.probability)


# By rank


def test_log_uniform_is_by_rank_in_any_order() -> None:
    for classes in (2, 3, 10, 1000):
        order = torch.randperm(classes, generator=torch.Generator().manual_seed(classes))
        counts = torch.empty(classes)
        counts[order] = torch.arange(classes, 0, -1.0)  # the first of the order is the most frequent
        probability = Sampler.log_uniform(counts).probability
        assert float(probability.sum()) == pytest.approx(1, abs=1e-14)
        by_rank = [math.log((r + 2) / (r + 1)) / math.log(classes + 1) for r in range(classes)]
        expected = torch.tensor(by_rank, dtype=torch.float64)
        torch.testing.assert_close(probability[order], expected, rtol=1e-12, atol=0)


def test_log_uniform_ranks_ties_by_their_order() -> None:
    """In any number: torch sorts few and many by different algorithms. Counts of 0 have ranks, too."""
    for classes in (4, 5000):
        probability = Sampler.log_uniform([7] * classes).probability
        assert bool((probability.diff() < 0).all())
    ordered = Sampler.log_uniform([9, 5, 5, 0, 0]).probability
    assert torch.equal(Sampler.log_uniform([0, 5, 9, 5, 0]).probability, ordered[[3, 1, 0, 2, 4]])


# What is given


def test_weights_may_be_of_any_numbers() -> None:
    expected = Sampler(SKEWED)
    for dtype in (torch.int16, torch.int64, torch.bfloat16, torch.float32, torch.float64):
        weight = torch.tensor([3, 300, 10, 1000, 30, 100], dtype=dtype)
        assert same_tables(Sampler(weight), expected) or dtype == torch.bfloat16
    assert same_tables(Sampler([1e6 * n for n in SKEWED]), Sampler(torch.tensor(SKEWED) * 10**6))
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    sampler = Sampler(weight)
    assert not sampler.probability.requires_grad
    weight.detach().fill_(5)
    assert sampler.probability.tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("weight", [[0.1, 0.2, 0.7], [16_777_217.0, 0.5], [1e-60, 1.0], [1e60, 1.0]])
def test_a_sequence_of_floats_keeps_its_precision(weight: list[float]) -> None:
    expected = torch.tensor(proportional(weight), dtype=torch.float64)
    torch.testing.assert_close(Sampler(weight).probability, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Sampler([1, 2, 0, 0]),
            "expected weights above 0, so that every class can be drawn, got 0 for class 2",
        ),
        (
            lambda: Sampler.unigram([0, 2]),
            "expected weights above 0, so that every class can be drawn, got 0 for class 0",
        ),
        (lambda: Sampler([1.0, -2.0]), r"expected weight to be finite and at least 0, got -2.0 for class 1"),
        (lambda: Sampler([1.0, 2.0, math.nan]), "expected weight to be finite and at least 0, got nan for class 2"),
        (lambda: Sampler([math.inf, 2.0]), "expected weight to be finite and at least 0, got inf for class 0"),
        (lambda: Sampler([0.0, 0.0]), "expected weight not all 0, got 2 zeros"),
        (lambda: Sampler([1]), "expected weight of at least 2 classes, got 1"),
        (lambda: Sampler([]), "expected weight of at least 2 classes, got 0"),
        (lambda: Sampler.uniform(1), "expected weight of at least 2 classes, got 1"),
        (lambda: Sampler.uniform(-3), "expected weight of at least 2 classes, got 0"),
        (lambda: Sampler.log_uniform([0, 0]), "expected counts not all 0, got 2 zeros"),
        (lambda: Sampler.log_uniform([3, -1]), "expected counts to be finite and at least 0, got -1.0 for class 1"),
        (lambda: Sampler.unigram([3, math.nan]), "expected counts to be finite and at least 0, got nan for class 1"),
        (
            lambda: Sampler.unigram([3, 2], power=1e4),
            "expected weight to be finite and at least 0, got inf for class 0",
        ),
        (lambda: Sampler.unigram([3, 2], power=math.nan), "expected power to be finite, got nan"),
        (lambda: Sampler.uniform(3).sample(0), "expected num_samples to be at least 1, got 0"),
    ],
)
def test_values_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Sampler: {message}"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampler(torch.tensor([True, True])), r"weight as a sequence .* got torch.bool of shape \(2,\)"),
        (lambda: Sampler([True, False]), r"weight as a sequence .* got torch.bool of shape \(2,\)"),
        (lambda: Sampler(torch.ones(2, 3)), r"weight as a sequence .* got torch.float32 of shape \(2, 3\)"),
        (lambda: Sampler(torch.tensor(3.0)), r"weight as a sequence .* got torch.float32 of shape \(\)"),
        (lambda: Sampler(torch.ones(2) * 1j), r"weight as a sequence .* got torch.complex64 of shape \(2,\)"),
        (lambda: Sampler.log_uniform(torch.ones(2, 3)), r"counts as a sequence .* of shape \(2, 3\)"),
        (lambda: Sampler.unigram(torch.ones(2, 3)), r"counts as a sequence .* of shape \(2, 3\)"),
        (lambda: Sampler.uniform(2.0), "num_classes to be an int, got 2.0"),  # type: ignore[arg-type]
        (lambda: Sampler.uniform(True), "num_classes to be an int, got True"),
        (lambda: Sampler.uniform(3).sample(2.0), "num_samples to be an int, got 2.0"),  # type: ignore[arg-type]
        (lambda: Sampler.unigram([3, 2], power="1"), "power to be a number, got '1'"),  # type: ignore[arg-type]
    ],
)
def test_types_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=f"^Sampler: expected {message}"):
        make()


@every_head
def test_heads_refuse_what_is_no_sampler(head_type: SampledHead) -> None:
    name = head_type.__name__
    with pytest.raises(TypeError, match=f"{name}: expected sampler to be a Sampler, got list"):
        head_type(3, [1, 2, 3], num_samples=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name}: expected num_samples to be at least 1, got 0"):
        head_type(3, Sampler.uniform(4), num_samples=0)
    with pytest.raises(TypeError, match=f"{name}: expected num_samples to be an int, got 2.0"):
        head_type(3, Sampler.uniform(4), num_samples=2.0)  # type: ignore[arg-type]
