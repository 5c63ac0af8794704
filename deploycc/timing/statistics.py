"""What can be told from times: intervals and verdicts, all of them distribution-free.

The unit is a launch: a fresh pair of processes.  Runs within one process share its addresses and its luck, so
however many there are they say little about the next process (Kalibera and Jones, "Rigorous benchmarking in
reasonable time", ISMM 2013); and a mean or a normal distribution would be governed
by the few runs that an interrupt hit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal

import numpy as np

LEVEL = 0.99
"""Of verdicts: at most one wrong in a hundred, either way together."""

SHOWN_LEVEL = 0.95
"""Of the intervals that times are shown with."""

SMALLEST = 0.01
"""The smallest difference that counts: nobody deploys for less than one percent."""

FEWEST = 8
"""Launches below which the test can say nothing at ``LEVEL``: 2 / 2^8 is the first below 0.01."""

TEST = (
    f"Wilcoxon's signed-rank test on the launches' ratios, {LEVEL:.0%} level, "
    f"differences above {SMALLEST:.0%}"
)

Verdict = Literal["faster", "slower", "no difference seen"]


@dataclass(frozen=True)
class Interval:
    """An estimate and what it lies between."""

    middle: float
    low: float
    high: float


def median_interval(values: Sequence[float], level: float = SHOWN_LEVEL) -> Interval:
    """The median and an interval for the distribution's own, between two of the ordered values.

    The ``k``-th smallest and the ``k``-th largest of ``n`` enclose the median with probability
    ``1 - 2 P(B < k)``, ``B`` binomial with ``n`` and 1/2 (Conover, "Practical Nonparametric Statistics", 3rd
    edition, section 3.2).  It is the narrowest that reaches ``level``; with fewer than six values none
    reaches 95 %, and it is the smallest and the largest.  Values in any unit, at least one.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    outside, at = 2, 1
    while at < (count + 1) // 2:
        outside += 2 * math.comb(count, at)
        if outside / 2**count > 1.0 - level:
            break
        at += 1
    return Interval(float(np.median(ordered)), float(ordered[at - 1]), float(ordered[count - at]))


def ratio_interval(ratios: Sequence[float], level: float = LEVEL) -> Interval:
    """The typical ratio and an interval for it, from one ratio a launch.

    On logarithms: the Hodges-Lehmann estimate, the median of all pairs' means, and the means that the
    Wilcoxon signed-rank test does not reject (Hollander, Wolfe and Chicken, "Nonparametric Statistical
    Methods", 3rd edition, sections 3.1 to 3.3), with the test's exact distribution.  The test asks that a
    ratio and its inverse be alike but for a factor, which turns taken in random order see to.  With too few
    ratios for ``level`` everything from 0 to infinity.
    """
    logs = np.log(np.asarray(ratios, np.float64))
    rows, columns = np.triu_indices(len(logs))
    means = np.sort((logs[rows] + logs[columns]) / 2)
    middle = math.exp(float(np.median(means)))
    beyond = _critical(_signed_rank_counts(len(logs)), (1.0 - level) / 2)
    if beyond < 0:
        return Interval(middle, 0.0, math.inf)
    return Interval(middle, math.exp(means[beyond]), math.exp(means[len(means) - 1 - beyond]))


def verdict(interval: Interval, smallest: float = SMALLEST) -> Verdict:
    """What an interval of peer's time over ours says: beyond ``smallest`` as a whole, or nothing.

    Where the true ratio is within ``1 + smallest`` either way, another verdict than "no difference seen" is
    as improbable as the interval's level says.
    """
    if interval.low > 1.0 + smallest:
        return "faster"
    if interval.high < 1.0 / (1.0 + smallest):
        return "slower"
    return "no difference seen"


def growth(now: Sequence[float], then: Sequence[float], level: float = LEVEL) -> Interval:
    """By what factor ``now`` is above ``then``, independent sets of positive values, and a one-sided bound.

    On logarithms: the Hodges-Lehmann estimate of a shift, the median of all differences, and as ``low`` the
    smallest one that the one-sided Mann-Whitney test does not reject at ``level`` (Hollander, Wolfe and
    Chicken, sections 4.1 to 4.3), 0 with too few values; ``high`` is infinite.
    """
    after, before = (np.log(np.asarray(values, np.float64)) for values in (now, then))
    differences = np.sort((after[:, None] - before[None, :]).ravel())
    middle = math.exp(float(np.median(differences)))
    beyond = _critical(_rank_sum_counts(len(after), len(before)), 1.0 - level)
    return Interval(middle, math.exp(differences[beyond]) if beyond >= 0 else 0.0, math.inf)


def _critical(counts: Sequence[int], tail: float) -> int:
    """The largest value of a statistic from 0 on whose lower tail is at most ``tail``; -1 for none.

    ``counts`` has the number of equally probable outcomes by value.
    """
    most = tail * sum(counts)
    return sum(1 for reached in accumulate(counts) if reached <= most) - 1


@cache
def _signed_rank_counts(count: int) -> tuple[int, ...]:
    """By sum of positive ranks: how many of the ``2^count`` choices of signs give it."""
    counts = [1]
    for rank in range(1, count + 1):
        without, given = [*counts, *[0] * rank], [*[0] * rank, *counts]
        counts = [a + b for a, b in zip(without, given, strict=True)]
    return tuple(counts)


@cache
def _rank_sum_counts(first: int, second: int) -> tuple[int, ...]:
    """By Mann-Whitney's U: how many ways of drawing ``first`` from both together give it.

    The coefficients of the Gaussian binomial: the product of ``(1 - q^(second + i)) / (1 - q^i)``.
    """
    size = first * second + 1
    counts = [1, *[0] * (size - 1)]
    for i in range(1, first + 1):
        for value in range(size - 1, second + i - 1, -1):
            counts[value] -= counts[value - second - i]
        for value in range(i, size):
            counts[value] += counts[value - i]
    return tuple(counts)
