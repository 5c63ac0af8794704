"""deploycc/timing/statistics.py: on synthetic samples, against scipy, brute force and what it promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deploycc.timing import statistics
from deploycc.timing.statistics import (
    FEWEST,
    LEVEL,
    SMALLEST,
    Interval,
    growth,
    median_interval,
    ratio_interval,
    verdict,
)

LAUNCHES = 10
RATIOS = st.lists(st.floats(0.5, 2.0), min_size=FEWEST, max_size=14)
THOUSANDTHS = st.integers(500, 2000).map(lambda value: value / 1000)
"""So far apart that rounding decides nothing."""


def at_most(rate: float, trials: int) -> float:
    """A share of ``trials`` that a true rate of at most ``rate`` exceeds once in a million times."""
    return float(stats.binom.isf(1e-6, trials, rate)) / trials


@pytest.mark.parametrize("count", range(1, 11))
def test_signed_rank_counts_are_those_of_all_signs(count: int) -> None:
    sums = [
        sum(chosen) for r in range(count + 1) for chosen in itertools.combinations(range(1, count + 1), r)
    ]
    assert list(statistics._signed_rank_counts(count)) == np.bincount(sums).tolist()


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 5), (5, 2), (4, 4), (1, 7)])
def test_rank_sum_counts_are_those_of_all_orders(first: int, second: int) -> None:
    ranks = range(first + second)
    least = first * (first - 1) // 2
    us = [sum(chosen) - least for chosen in itertools.combinations(ranks, first)]
    assert list(statistics._rank_sum_counts(first, second)) == np.bincount(us).tolist()


@settings(deadline=None, max_examples=50)
@given(st.lists(THOUSANDTHS, min_size=FEWEST, max_size=14, unique=True), st.booleans())
def test_the_ratios_interval_is_what_wilcoxons_test_does_not_reject(ratios: list[float], upper: bool) -> None:
    """Just outside of it scipy's exact test rejects, just inside it does not."""
    interval = ratio_interval(ratios)
    end = interval.high if upper else interval.low
    outside, inside = (end * math.exp(step if upper else -step) for step in (1e-9, -1e-9))
    if not interval.low < interval.high * (1 - 1e-6):
        return

    def rejects(centre: float) -> bool:
        p = stats.wilcoxon(np.log(ratios) - math.log(centre), method="exact").pvalue
        return bool(p <= 1 - LEVEL)

    assert rejects(outside)
    assert not rejects(inside)


@settings(deadline=None)
@given(RATIOS)
def test_the_other_way_round_gives_the_opposite_verdict(ratios: list[float]) -> None:
    opposite = {"faster": "slower", "slower": "faster", "no difference seen": "no difference seen"}
    there, back = ratio_interval(ratios), ratio_interval([1 / ratio for ratio in ratios])
    assert back.middle == pytest.approx(1 / there.middle)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))
    near = min(abs(math.log(end) - sign * math.log1p(SMALLEST))
               for end in (there.low, there.high) for sign in (1, -1))  # fmt: skip
    if near > 1e-9:
        assert verdict(back) == opposite[verdict(there)]


@settings(deadline=None)
@given(RATIOS, st.floats(0.5, 2.0))
def test_the_interval_moves_with_the_ratios(ratios: list[float], factor: float) -> None:
    before, after = ratio_interval(ratios), ratio_interval([ratio * factor for ratio in ratios])
    got = (after.middle, after.low, after.high)
    assert got == pytest.approx(tuple(factor * end for end in (before.middle, before.low, before.high)))


def test_too_few_launches_say_nothing() -> None:
    assert ratio_interval([2.0] * (FEWEST - 1)) == Interval(pytest.approx(2.0), 0.0, math.inf)
    assert verdict(ratio_interval([2.0] * (FEWEST - 1))) == "no difference seen"
    assert verdict(ratio_interval([2.0] * FEWEST)) == "faster"
    assert verdict(ratio_interval([0.5] * FEWEST)) == "slower"


@pytest.mark.parametrize("true_ratio", [1.0, 1.0 + SMALLEST, 1 / (1.0 + SMALLEST)])
@pytest.mark.parametrize("freedom", [1.5, 30.0])
def test_wrong_verdicts_are_as_rare_as_stated(true_ratio: float, freedom: float) -> None:
    """Launches that differ by a percent and more, with heavy tails or nearly normal, no true difference."""
    trials = 2000
    draw = np.random.default_rng()
    ratios = true_ratio * np.exp(0.01 * draw.standard_t(freedom, (trials, LAUNCHES)))
    wrong = sum(verdict(ratio_interval(launch)) != "no difference seen" for launch in ratios.tolist())
    assert wrong / trials <= at_most(1 - LEVEL, trials)


@pytest.mark.parametrize("true_ratio", [1.05, 0.95])
def test_five_percent_are_seen_in_launches_that_differ_by_one(true_ratio: float) -> None:
    trials = 500
    ratios = true_ratio * np.exp(0.01 * np.random.default_rng().standard_normal((trials, LAUNCHES)))
    want = "faster" if true_ratio > 1 else "slower"
    missed = sum(verdict(ratio_interval(launch)) != want for launch in ratios.tolist())
    assert missed / trials <= at_most(0.01, trials)


@pytest.mark.parametrize("count", [6, 10, 11, 25, 60])
def test_the_medians_interval_holds_the_median_as_often_as_stated(count: int) -> None:
    trials = 2000
    samples = np.random.default_rng().lognormal(0.0, 1.0, (trials, count))
    intervals = [median_interval(sample) for sample in samples.tolist()]
    missed = sum(not interval.low <= 1.0 <= interval.high for interval in intervals)
    assert missed / trials <= at_most(0.05, trials)


@pytest.mark.parametrize("count", range(1, 40))
def test_the_medians_interval_is_the_narrowest_that_reaches_its_level(count: int) -> None:
    interval = median_interval([float(value) for value in range(count)])
    below = int(interval.low)
    assert interval.high == count - 1 - below
    coverage = [1 - 2 * stats.binom.cdf(k, count, 0.5) for k in (below, below + 1)]
    assert coverage[0] >= 0.95 or below == 0
    assert coverage[1] < 0.95 or below + 1 >= (count + 1) // 2


@settings(deadline=None, max_examples=50)
@given(
    st.lists(THOUSANDTHS, min_size=5, max_size=10, unique=True),
    st.lists(THOUSANDTHS, min_size=5, max_size=10, unique=True),
)
def test_growth_is_what_mann_and_whitneys_test_does_not_reject(now: list[float], then: list[float]) -> None:
    interval = growth(now, then)

    def rejects(factor: float) -> bool:
        shifted = [value * factor for value in then]
        return bool(
            stats.mannwhitneyu(now, shifted, alternative="greater", method="exact").pvalue <= 1 - LEVEL
        )

    assert rejects(interval.low * (1 - 1e-9))
    assert not rejects(interval.low * (1 + 1e-9))
    assert interval.low <= interval.middle


def test_growth_needs_values_for_a_verdict() -> None:
    assert growth([3.0] * 5, [1.0] * 5).low == pytest.approx(3.0)
    assert growth([3.0] * 4, [1.0] * 4).low == 0.0
    assert growth([3.0] * 4, [1.0] * 4).middle == pytest.approx(3.0)
