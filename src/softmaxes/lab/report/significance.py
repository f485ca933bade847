"""Which differences between heads hold: pure functions on arrays, with the laws they rest on.

Two things could have come out otherwise: how the seeds fell, and which examples the test set holds. `paired` asks the
first, of the differences at each seed; `mcnemar` the second, of the examples on which two trained classifiers part. A
difference that is to hold for other seeds and other examples has to pass both, so its p-value is the larger of the two
(an intersection-union test: R. L. Berger, Multiparameter hypothesis testing and acceptance sampling, 1982), and
`holm` corrects it for the number of heads.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 9999
LARGEST = 1e150  # of which there is a square


class Paired(NamedTuple):
    """What the differences at some seeds say of the mean difference.

    Attributes:
        mean: over the seeds.
        low: the lower end of the 95 % interval by Student's t.
        high: its upper end.
        p: of no difference, two-sided, by Student's t.
        bootstrap_low: the lower end of the 95 % interval by the bootstrap.
        bootstrap_high: its upper end.
        seeds: how many, n.
    """

    mean: float
    low: float
    high: float
    p: float
    bootstrap_low: float
    bootstrap_high: float
    seeds: int


def paired(differences: ArrayLike) -> Paired:
    """The mean of differences that are paired over seeds, with two 95 % intervals and a p-value.

    By Student's t of n - 1 degrees of freedom: mean ± t(0.975) s / sqrt(n), with s² = Σ (d - mean)² / (n - 1), and p
    the probability of |t| ≥ |mean| sqrt(n) / s. It is exact for normal differences. By the bootstrap: the 2.5 % and
    97.5 % quantiles of the mean of n differences drawn with replacement, 9,999 times, with a fixed seed.

    The bootstrap needs no normal law, but at a few seeds it is too narrow, as it takes s² for the variance with n in
    place of n - 1 and knows no tails. Of 4,000 samples of normal differences the intervals held the true mean in

    | n | bootstrap, percentile | bootstrap, BCa | Student's t |
    |---|---|---|---|
    | 2 | 51 % | - | 95 % |
    | 3 | 75 % | 72 % | 95 % |
    | 5 | 84 % | 84 % | 95 % |
    | 10 | 90 % | 90 % | 95 % |
    | 20 | 93 % | 93 % | 96 % |

    So Student's t decides, and the bootstrap stands beside it: where they disagree on zero, there are too few seeds.

    Args:
        differences: one a seed, (n,), n at least 2.

    Raises:
        ValueError: fewer than two differences, or one that is not finite, or so large that it has no square.

    Example:
        >>> from softmaxes.lab.report.significance import paired
        >>> found = paired([0.01, 0.03])  # t of one degree is 12.706, the standard error 0.01
        >>> [round(float(number), 3) for number in (found.mean, found.low, found.high, found.p)]
        [0.02, -0.107, 0.147, 0.295]
        >>> [round(float(number), 3) for number in (found.bootstrap_low, found.bootstrap_high)]
        [0.01, 0.03]

    Reference:
        B. Efron, R. J. Tibshirani. An introduction to the bootstrap. 1993.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"paired: expected at least 2 finite differences, got {values.tolist()}.")
    if np.abs(values).max() > LARGEST:
        raise ValueError(f"paired: expected differences of at most {LARGEST:g}, got {np.abs(values).max():g}.")
    count, mean = len(values), math.fsum(values) / len(values)
    error = math.sqrt(math.fsum((values - mean) ** 2) / (count - 1) / count)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Paired(mean, mean - half, mean + half, p, float(interval.low), float(interval.high), count)


def mcnemar(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """McNemar's exact test of two classifiers on the same examples: the p-values of each direction.

    Only the examples on which one is right and the other wrong say which is better. If neither is, each such example
    falls to either side with probability 1/2, independently of the others: of n = b + c of them the number b that
    the first alone has right is Binomial(n, 1/2). The p-values are P(B ≥ b), small where the first is better, and
    P(B ≤ b); the two-sided one is twice the smaller, at most 1. It is said of these two trained classifiers, and of
    other test examples; of other seeds it says nothing.

    Args:
        first: whether the first classifier has each example right, (N,) bool.
        second: whether the second has, (N,) bool.

    Returns:
        The p-value that the first is no better, and that the second is no better.

    Raises:
        TypeError: they are not bool.
        ValueError: they are not of the same examples.

    Example:
        >>> from softmaxes.lab.report.significance import mcnemar
        >>> mcnemar([True] * 5, [True, False, False, False, False])  # four to none: 1/16
        (0.0625, 1.0)

    Reference:
        Q. McNemar. Note on the sampling error of the difference between correlated proportions or percentages. 1947.
        T. G. Dietterich. Approximate statistical tests for comparing supervised classification learning algorithms.
        1998.
    """
    one, other = np.asarray(first), np.asarray(second)
    for flags in (one, other):
        if flags.dtype != np.bool_ and flags.size > 0:  # or NaN would be right
            raise TypeError(f"mcnemar: expected arrays of bool, got {flags.dtype}.")
    one, other = one.astype(np.bool_), other.astype(np.bool_)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"mcnemar: expected two arrays of one shape (N,), got {one.shape} and {other.shape}.")
    alone, parted = int((one & ~other).sum()), int((one != other).sum())
    if parted == 0:
        return 1.0, 1.0
    better, worse = (float(stats.binomtest(alone, parted, alternative=side).pvalue) for side in ("greater", "less"))
    return better, worse


def majority(p_values: Sequence[float]) -> float:
    """One p-value of several tests, at the level that more than half of them reach, however they depend on each other.

    It is of the hypothesis that all of their hypotheses hold.

    With k = floor(K / 2) + 1 of K tests, it is min(1, K / k · p), p the k-th smallest. For p ≤ a k / K to happen, k
    tests must have p-values of a k / K or less; a k are so on average, so by Markov's inequality the probability
    of that is at most a.

    Tests of several seeds on one test set may depend on each other. So neither may their examples be put together as if
    there were K times as many, nor their p-values be multiplied, as Fisher's method does.

    Args:
        p_values: of K tests, at least one.

    Raises:
        ValueError: there are none, or one is not in 0..1.

    Example:
        >>> from softmaxes.lab.report.significance import majority
        >>> majority([0.01, 0.03, 0.9])  # two of three: 3 / 2 times the second
        0.045

    Reference:
        B. Rüger. Das maximale Signifikanzniveau des Tests: "Lehne H0 ab, wenn k unter n gegebenen Tests zur Ablehnung
        führen". 1978. V. Vovk, R. Wang. Combining p-values via averaging. 2020.
    """
    if len(p_values) == 0 or not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"majority: expected p-values in 0..1, at least one, got {list(p_values)}.")
    enough = len(p_values) // 2 + 1
    return min(1.0, len(p_values) * sorted(p_values)[enough - 1] / enough)


def mcnemar_over_seeds(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> float:
    """McNemar's test of two heads on one test set, seed by seed, and their p-values brought together.

    In each direction the seeds' exact one-sided p-values give one at the level that more than half reach (`majority`);
    the two-sided p-value is twice the smaller of the two, so that seeds that point in opposite directions do not add
    up to a difference. At one seed it is McNemar's own.

    Args:
        first: for each seed whether the first head has each example right, (N,) bool.
        second: the same of the second head, at the same seeds, over the same examples.

    Raises:
        ValueError: there are no seeds, or not as many of each head, or their examples are not the same.

    Example:
        >>> from softmaxes.lab.report.significance import mcnemar_over_seeds
        >>> right, wrong = [True] * 10, [False] * 10
        >>> mcnemar_over_seeds([right, right, right], [wrong, wrong, right])  # twice 3 / 2 of 1 / 1024
        0.0029296875
    """
    if len(first) == len(second) == 0:
        raise ValueError("mcnemar_over_seeds: expected results at one seed or more, got none.")
    better, worse = zip(*(mcnemar(one, other) for one, other in zip(first, second, strict=True)), strict=True)
    return min(1.0, 2 * min(majority(better), majority(worse)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for the number of tests: adjusted p-values.

    With the p-values in order, p(1) ≤ ... ≤ p(m), the adjusted ones are the running maximum of min(1, (m - i + 1)
    p(i)). If those of 0.05 or less are taken for differences, the probability that any of them is none is at most
    0.05, however the tests depend on each other. It is Bonferroni's correction where that is needed and less elsewhere.

    Args:
        p_values: of m tests.

    Returns:
        The adjusted p-values, in the order given.

    Raises:
        ValueError: a p-value is not in 0..1.

    Example:
        >>> from softmaxes.lab.report.significance import holm
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference:
        S. Holm. A simple sequentially rejective multiple test procedure. 1979.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"holm: expected p-values in 0..1, got {list(p_values)}.")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
