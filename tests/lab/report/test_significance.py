"""Statistics of differences: against scipy, by hand, and by simulation of what they promise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from softmaxes.lab.bits import packed, unpacked
from softmaxes.lab.report.significance import holm, majority, mcnemar, mcnemar_over_seeds, paired


def test_the_paired_interval_is_scipys() -> None:
    random = np.random.default_rng(0)
    for count in (2, 3, 5, 20):
        differences = random.normal(0.1, 1, count)
        found = paired(differences)
        test = stats.ttest_1samp(differences, 0)
        interval = test.confidence_interval(0.95)
        assert (found.mean, found.p) == pytest.approx((differences.mean(), test.pvalue))
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert found.seeds == count


def test_the_bootstrap_is_that_of_every_resample() -> None:
    """All 5 ** 5 draws of five differences, each as likely as the others."""
    differences = np.array([0.3, -0.1, 0.25, 0.6, 0.2])
    means = np.stack(np.meshgrid(*[differences] * 5)).reshape(5, -1).mean(0)
    low, high = np.quantile(means, (0.025, 0.975))
    found = paired(differences)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((low, high), abs=0.011)
    assert found == paired(differences)  # no chance in it
    assert found.low < found.bootstrap_low < found.mean < found.bootstrap_high < found.high


def test_differences_that_do_not_differ() -> None:
    same = paired([0.25, 0.25, 0.25])
    assert same[:6] == (0.25, 0.25, 0.25, 0.0, 0.25, 0.25)
    assert paired([0.0, 0.0])[:6] == (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@pytest.mark.slow
def test_the_interval_that_decides_covers_and_the_bootstrap_at_few_seeds_does_not() -> None:
    """What the docstring's table says, of 400 samples: two standard deviations are 2 points at 95 %, 4 at 84 %."""
    random = np.random.default_rng(1)
    for seeds, expected in ((3, 0.75), (5, 0.84)):
        found = [paired(random.normal(size=seeds)) for _ in range(400)]
        by_t = np.mean([one.low <= 0 <= one.high for one in found])
        by_bootstrap = np.mean([one.bootstrap_low <= 0 <= one.bootstrap_high for one in found])
        assert by_t == pytest.approx(0.95, abs=0.03)
        assert by_bootstrap == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, np.nan], [[0.1, 0.2]]])
def test_what_is_no_pair_of_seeds_is_refused(differences: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^paired: expected at least 2 finite differences, got \["):
        paired(differences)


def parted(both: int, first: int, second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two classifiers with so many examples right: both of them, the first or the second alone, neither."""
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_by_hand() -> None:
    """Of 8 examples on which they part, 6 or more on one side: (28 + 8 + 1) / 256. The others say nothing."""
    for both, neither in ((0, 0), (100, 3)):
        better, worse = mcnemar(*parted(both, 6, 2, neither))
        assert better == pytest.approx(37 / 256)
        assert worse == pytest.approx((256 - 9) / 256)  # 6 or fewer: all but 7 and 8
        assert mcnemar(*parted(both, 2, 6, neither)) == pytest.approx((worse, better))
        assert mcnemar_over_seeds(*([side] for side in parted(both, 6, 2, neither))) == pytest.approx(74 / 256)
    assert mcnemar(*parted(5, 0, 0, 5)) == (1, 1)
    assert mcnemar_over_seeds(*([side] for side in parted(5, 3, 3, 5))) == 1


def test_mcnemar_s_two_sided_p_is_scipys() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 300)) < [[0.7], [0.6]]
    alone, others = (first & ~second).sum(), (second & ~first).sum()
    expected = stats.binomtest(int(alone), int(alone + others)).pvalue
    assert mcnemar_over_seeds([first], [second]) == pytest.approx(expected)


def test_predictions_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^mcnemar: expected two arrays of one shape \(N,\), got \(2,\) and \(3,\)\."):
        mcnemar([True, False], [True, False, True])
    with pytest.raises(ValueError, match="zip"):
        mcnemar_over_seeds([[True]], [[True], [False]])


def test_seeds_that_disagree_are_no_difference() -> None:
    one, other = parted(0, 20, 0, 0)
    assert mcnemar_over_seeds([one, one], [other, other]) == pytest.approx(2 * 0.5**20)
    assert mcnemar_over_seeds([one, other], [other, one]) == 1
    assert mcnemar_over_seeds([one, other, one], [other, one, other]) == pytest.approx(3 * 0.5**20)


def test_a_majority_by_hand() -> None:
    assert majority([0.2]) == 0.2
    assert majority([0.01, 0.2]) == 0.2
    assert majority([0.3, 0.01, 0.02]) == pytest.approx(0.03)
    assert majority([0.3, 0.01, 0.02, 0.06]) == pytest.approx(4 / 3 * 0.06)
    assert majority([0.9, 0.01, 0.02, 0.03, 0.8]) == pytest.approx(0.05)
    assert majority([0.9, 0.9, 0.9]) == 1
    for wrong in ([], [0.5, 1.5], [-0.1], [float("nan")]):
        with pytest.raises(ValueError, match=r"^majority: expected p-values in 0\.\.1, at least one, got \["):
            majority(wrong)


@pytest.mark.slow
def test_seeds_that_share_a_test_set_do_not_find_what_is_not_there() -> None:
    """Two heads equally good, which find the same examples hard at every seed: at 5 %, in at most 5 % of test sets.

    If the seeds' examples were put together as if they were others, it would be in far more.
    """
    random = np.random.default_rng(0)
    found, together = [], []
    for _ in range(500):
        easy = random.random((2, 100)) < 0.6  # for each head, at every seed
        noise = random.random((2, 5, 100)) < 0.1
        first, second = easy[:, None] ^ noise
        found.append(mcnemar_over_seeds(list(first), list(second)) <= 0.05)
        together.append(2 * min(mcnemar(first.ravel(), second.ravel())) <= 0.05)
    assert np.mean(found) < 0.05
    assert np.mean(together) > 0.2


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.005, 0.011, 0.02, 0.04, 0.13]) == pytest.approx([0.025, 0.044, 0.06, 0.08, 0.13])
    assert holm([0.9, 0.6]) == [1, 1]
    with pytest.raises(ValueError, match=r"^holm: expected p-values in 0\.\.1, got \[0\.5, 2\]\."):
        holm([0.5, 2])


def test_holm_between_bonferroni_and_none() -> None:
    """It rejects, step by step, as its author tells it."""
    random = np.random.default_rng(0)
    for _ in range(200):
        p_values = (random.random(6) ** 3 * 0.2).tolist()
        rejected = set()
        for place, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (6 - place):
                break
            rejected.add(int(index))
        adjusted = holm(p_values)
        assert {index for index, p in enumerate(adjusted) if p <= 0.05} == rejected
        assert all(p <= found <= min(1, 6 * p) for p, found in zip(p_values, adjusted, strict=True))


def test_flags_as_text_and_back() -> None:
    random = np.random.default_rng(0)
    for count, letters in ((1, 4), (7, 4), (8, 4), (24, 4), (25, 8), (5000, 836)):
        flags = random.random(count) < 0.5
        text = packed(flags)
        assert np.array_equal(unpacked(text, count), flags)
        assert len(text) == letters


def test_what_is_no_text_of_so_many_flags_is_refused() -> None:
    """It would be cut, filled up with no, or read past what it does not know."""
    text = packed(np.ones(9, dtype=bool))
    for count in (0, 8, 17, 5000, -1):
        with pytest.raises(ValueError, match=rf"^unpacked: expected a bit for each of {count} flags, got 2 bytes\.$"):
            unpacked(text, count)
    for wrong in ("oA=", "o\nA==", "oA==\n", "ö===", "oA==oA==", "!!oA=="):
        with pytest.raises(ValueError, match=r"^unpacked: expected base64, got '"):
            unpacked(wrong, 3)
    for other in (np.array([0.5, 0.0]), np.array([2, 0]), np.array(["a"])):
        with pytest.raises(TypeError, match=r"^packed: expected flags of dtype bool, got "):
            packed(other)
    with pytest.raises(ValueError, match=r"^packed: expected flags of shape \(N,\), got \(2, 4\)\.$"):
        packed(np.ones((2, 4), dtype=bool))


def test_what_is_neither_right_nor_wrong_is_refused() -> None:
    """NaN, a share or a word would count as right."""
    for wrong in ([float("nan"), 0.0], [0.5, 1.0], [2, 0], ["no", "yes"]):
        for pair in ((wrong, [True, False]), ([True, False], wrong)):
            with pytest.raises(TypeError, match=r"^mcnemar: expected arrays of bool, got "):
                mcnemar(*pair)
    with pytest.raises(ValueError, match=r"^mcnemar_over_seeds: expected results at one seed or more, got none\.$"):
        mcnemar_over_seeds([], [])
    assert majority(np.array([0.2, 0.01])) == 0.2


@pytest.mark.parametrize("large", [1e308, -1e200])
def test_differences_that_have_no_square_are_refused(large: float) -> None:
    with pytest.raises(ValueError, match=r"paired: expected differences of at most 1e\+150, got "):
        paired([large, 0.0, -large])


@pytest.mark.parametrize("small", [5e-324, 1e-300])
def test_differences_may_be_as_small_as_they_come(small: float) -> None:
    found = paired([small, 0.0, small])
    assert 0 <= found.p <= 1
    assert found.low <= found.mean <= found.high
