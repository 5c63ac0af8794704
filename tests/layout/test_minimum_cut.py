"""The minimum cut against every labelling there is."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.layout.minimum_cut import Labelling

COST = st.integers(0, 30)
FORBIDDEN = st.sampled_from([(0.0, math.inf), (math.inf, 0.0)])


@st.composite
def labellings(draw: st.DrawFn, missing: bool) -> Labelling:
    """Up to eight variables; with ``missing``, pairs of which some labels cannot be."""
    problem = Labelling()
    count = draw(st.integers(1, 8))
    for _ in range(count):
        problem.variable(*draw(st.one_of(st.tuples(COST, COST), FORBIDDEN)))
    if count > 1:
        pairs = st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)
        cost = st.one_of(COST, st.just(math.inf)) if missing else COST
        costs = st.tuples(cost, cost, cost, cost).filter(lambda found: any(map(math.isfinite, found)))
        for (first, second), found in draw(st.lists(st.tuples(pairs, costs), max_size=8)):
            problem.pair(first, second, found)
    numbers = st.integers(0, count - 1)
    readers = st.lists(numbers, min_size=1, max_size=4)
    for made, others, cost in draw(st.lists(st.tuples(numbers, readers, COST), max_size=5)):
        problem.conversion(made, others, cost)
    return problem


def least(problem: Labelling) -> float:
    every = itertools.product((0, 1), repeat=len(problem.single))
    return min(problem.total(labels) for labels in every)


@given(problem=labellings(missing=False))
@settings(max_examples=400, deadline=None)
def test_it_is_the_least_of_all_labellings(problem: Labelling) -> None:
    found = problem.total(problem.solve())
    if not problem.clamped:
        assert found == least(problem)
    assert found >= least(problem)


@given(problem=labellings(missing=True))
@settings(max_examples=400, deadline=None)
def test_what_cannot_be_is_never_chosen(problem: Labelling) -> None:
    labels, best = problem.solve(), least(problem)
    if math.isfinite(best) and not problem.clamped:
        assert problem.total(labels) == best


@given(problem=labellings(missing=False))
@settings(max_examples=200, deadline=None)
def test_where_pairs_like_to_differ_the_best_without_their_dearer_mixed_labels_is_beaten_or_found(
    problem: Labelling,
) -> None:
    found = problem.total(problem.solve())
    forbidden = [
        (*problem.pairs[number][:2], 1 if problem.pairs[number][2][1] > problem.pairs[number][2][2] else 2)
        for number in problem.clamped
    ]
    others = [
        problem.total(labels)
        for labels in itertools.product((0, 1), repeat=len(problem.single))
        if not any(2 * labels[a] + labels[b] == mixed for a, b, mixed in forbidden)
    ]
    assert found <= min(others, default=math.inf)


def test_the_search_goes_on_where_pairs_like_to_differ() -> None:
    problem = Labelling()
    ends = [problem.variable(one=math.inf), problem.variable(one=math.inf)]
    inner = [problem.variable() for _ in range(4)]
    for first, second in itertools.pairwise([ends[0], *inner, ends[1]]):
        problem.pair(first, second, (1000, 11, 11, 10))
    assert problem.solve() == [0, 0, 1, 1, 1, 1]
    assert problem.clamped


def test_several_readers_share_one_conversion() -> None:
    problem = Labelling()
    made = problem.variable(one=math.inf)
    readers = [problem.variable(zero=4) for _ in range(3)]
    problem.conversion(made, readers, 10)
    assert problem.solve() == [0, 1, 1, 1]
    assert problem.total(problem.solve()) == 10


def test_without_a_reason_everything_stays() -> None:
    problem = Labelling()
    first, second = problem.variable(), problem.variable(3, 3)
    problem.pair(first, second, (5, 5, 5, 5))
    assert problem.solve() == [0, 0]


def test_a_pair_of_one_mixed_label_decides_both() -> None:
    problem = Labelling()
    first, second = problem.variable(one=7), problem.variable(zero=3)
    problem.pair(first, second, (math.inf, math.inf, 2, math.inf))
    assert problem.solve() == [1, 0]
    assert problem.total([1, 0]) == 12


def test_long_chains_are_solved_at_once() -> None:
    problem = Labelling()
    variables = [problem.variable(*((9, 0) if i % 2 else (0, 9))) for i in range(2000)]
    for before, after in itertools.pairwise(variables):
        problem.conversion(before, [after], 5)
    assert problem.total(problem.solve()) == 1000 * 9 - 4  # all alike but an end, which saves 9 for 5
