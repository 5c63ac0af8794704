"""The search: what is measured first, what next, and that equal seeds and values give equal rounds."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable

import pytest

from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.records import candidate_key
from deploycc.tuning.ranking import FEWEST, Ranker, Sample, features
from deploycc.tuning.search import MOST, ROUND, SPAN, Search, TaskState, make_task
from tests.tuning.schedules_for_tests import record

PRODUCT = MatMul((64,), 64, 64, "float32")
OTHER = MatMul((128,), 64, 64, "float32")
CONV = Conv2d(1, 28, 28, 16, 32, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "float32")

TILES, VECTORS = range(1, 25), range(1, 9)


def cost(tile: int, vectors: int) -> float:
    return 1000.0 * (2 + abs(tile - 8) / 10 + abs(vectors - 4) / 5)


def space() -> dict[str, list[tuple[float, dict[str, int]]]]:
    """Two schedules of 192 and 24 candidates; ``slow`` is estimated at three times ``fast``."""
    fast = [(cost(t, v), {"tile": t, "vectors": v}) for t in TILES for v in VECTORS]
    slow = [(3 * cost(t, 4), {"rows": t}) for t in TILES]
    order: Callable[[tuple[float, dict[str, int]]], float] = lambda item: item[0]  # noqa: E731
    return {"fast": sorted(fast, key=order), "slow": sorted(slow, key=order)}


def task(operator: Operator = PRODUCT, uses: int = 1, **options: object) -> TaskState:
    made = space()
    return make_task(operator, uses, made, ("fast", made["fast"][0][1]), options.pop("known", ()), **options)  # type: ignore[arg-type]


def seconds(state: TaskState, key: str) -> float:
    """A made-up time: the static cost, off by a factor that depends on one knob, and some noise."""
    candidate = state.candidates[key]
    off = 3.0 if candidate.knobs.get("tile", 0) % 3 else 1.0
    noise = 1 + zlib.crc32(key.encode()) % 100 / 1000
    return candidate.cost * 1e-9 * off * noise


def run(search: Search, rounds: int, ahead: int = 2) -> list[list[str]]:
    """Keys of so many rounds, in the order of being chosen, each absorbed when ``ahead`` more are out."""
    log, under_way = [], []
    while len(log) < rounds:
        chosen = search.next_round([state for state, _ in under_way])
        if chosen is not None:
            log.append([candidate.key for candidate in chosen[1]])
            under_way.append(chosen)
        if chosen is None and not under_way:
            break
        if chosen is None or len(under_way) > ahead:
            finish(search, *under_way.pop(0))
    for state, candidates in under_way:
        finish(search, state, candidates)
    return log


def finish(search: Search, state: TaskState, candidates: list) -> None:  # type: ignore[type-arg]
    before = state.value
    for candidate in candidates:
        state.note(candidate.key, "ok", seconds(state, candidate.key))
    search.take(state, before)


def test_the_first_round_has_the_static_choice_and_each_schedules_cheapest() -> None:
    state = task()
    assert state.first[0] == state.default.key == candidate_key("fast", {"tile": 8, "vectors": 4})
    assert state.first[1:] == [candidate_key("slow", {"rows": 8})]


def test_far_slower_candidates_are_not_tried() -> None:
    costs = {"a": [(1.0, {"k": 0}), (SPAN, {"k": 1}), (1.01 * SPAN, {"k": 2})], "b": [(1e9, {"k": 0})]}
    state = make_task(PRODUCT, 1, costs, ("a", {"k": 0}), ())
    assert set(state.candidates) == {"a k=0", "a k=1"}


def test_a_huge_space_is_cut_to_its_cheapest() -> None:
    costs = {"a": [(1.0 + n * 1e-6, {"k": n}) for n in range(MOST + 50)]}
    state = make_task(PRODUCT, 1, costs, ("a", {"k": 0}), ())
    assert len(state.candidates) == MOST


def test_known_candidates_are_not_measured_again_but_the_static_choice_is() -> None:
    known = [
        record(5e-6, operator=PRODUCT, schedule="fast"),
        record(math.inf, operator=PRODUCT, schedule="fast", status="crash"),
    ]
    keys = [{"tile": 9, "vectors": 4}, {"tile": 7, "vectors": 4}]
    known = [type(r)(**{**r.__dict__, "knobs": knobs}) for r, knobs in zip(known, keys, strict=True)]
    state = task(known=known)
    assert state.best == candidate_key("fast", keys[0])
    assert candidate_key("fast", keys[1]) in state.failed
    assert state.first[0] == state.default.key
    search = Search([state], 0)
    asked = [key for keys in run(search, 1000) for key in keys]
    assert len(asked) == len(set(asked)) == len(state.candidates) - 2
    assert not {candidate_key("fast", knobs) for knobs in keys} & set(asked)


def test_what_a_build_takes_today_is_measured_in_every_session() -> None:
    knobs = {"tile": 20, "vectors": 1}
    known = [record(5e-6, operator=PRODUCT, schedule="fast")]
    known = [type(r)(**{**r.__dict__, "knobs": knobs}) for r in known]
    state = task(known=known, incumbent=candidate_key("fast", knobs))
    assert state.first[:2] == [state.default.key, candidate_key("fast", knobs)]


def test_the_same_seed_gives_the_same_rounds() -> None:
    def rounds(seed: int) -> list[list[str]]:
        return run(Search([task(), task(OTHER, 3), task(CONV)], seed), 30)

    assert rounds(1) == rounds(1)
    assert rounds(1) != rounds(2)


def test_the_first_rounds_do_not_depend_on_what_was_measured() -> None:
    state, other = task(), task()
    first = Search([state], 7).next_round()
    second = Search([other], 7).next_round()
    assert first is not None
    assert second is not None
    assert [c.key for c in first[1]] == [c.key for c in second[1]]


def test_nothing_is_asked_twice_and_all_is_asked_in_the_end() -> None:
    states = [task(), task(OTHER)]
    log = run(Search(states, 0), 1000)
    for state in states:
        assert state.asked == set(state.candidates)
    assert sum(map(len, log)) == sum(len(state.candidates) for state in states)
    assert max(map(len, log)) == ROUND


def test_the_model_finds_what_the_static_cost_does_not_know() -> None:
    """Tiles that are multiples of 3 are three times as fast as their cost says."""
    state = task()
    run(Search([state], 0), 10)
    true_best = min(state.candidates, key=lambda key: seconds(state, key))
    assert state.value is not None
    assert state.value <= 1.05 * seconds(state, true_best)
    static = task()
    order = sorted(static.candidates.values(), key=lambda candidate: candidate.cost)[: len(state.asked)]
    assert state.value <= min(seconds(static, candidate.key) for candidate in order)


def test_what_was_learned_of_one_operator_serves_another() -> None:
    first = task()
    run(Search([first], 0), 12)
    second = task(OTHER)
    search = Search([first, second], 0)
    first.rounds = 1
    finish(search, second, [second.default])
    second.rounds = 1
    first.asked = set(first.candidates)  # only the second has anything left
    run(search, 2, ahead=0)
    assert len(second.values) <= 1 + 2 * ROUND
    best = min(seconds(second, key) for key in second.candidates)
    assert second.value is not None
    assert second.value <= 1.2 * best


def test_time_goes_where_it_is_spent() -> None:
    """Two operators alike, one used a thousand times: it gets most of the rounds."""
    often, once = task(PRODUCT, 1000), task(OTHER, 1)
    run(Search([often, once], 0), 12)
    assert often.rounds > 3 * once.rounds
    assert once.rounds >= 1


def test_a_task_at_its_peak_promises_less() -> None:
    high, low = task(), task(OTHER)
    search = Search([high, low], 0, peak=1e12)
    for state, share in ((high, 0.95), (low, 0.3)):
        state.rounds = 1
        state.note(state.default.key, "ok", 1e-6)
        state.share_of_peak = share
    assert search.promise(high) < search.promise(low) / 3


def test_a_task_whose_candidates_all_fail_ends() -> None:
    state = task()
    search = Search([state], 0)
    chosen = search.next_round()
    assert chosen is not None
    for candidate in chosen[1]:
        state.note(candidate.key, "failed", math.inf, "why")
    search.take(state, None)
    assert state.best is None
    assert search.next_round() is None
    assert search.promise(state) == 0


def test_shares_are_of_the_whole_time() -> None:
    states = [task(PRODUCT, 3), task(OTHER, 1)]
    search = Search(states, 0)
    for state in states:
        state.note(state.default.key, "ok", 2e-6)
    assert search.shares() == pytest.approx({states[0].name: 0.75, states[1].name: 0.25})


def test_survivors_are_the_fastest_within_a_factor() -> None:
    state = task()
    for number, key in enumerate(list(state.candidates)[:6]):
        state.note(key, "ok", 1.0 + 0.1 * number)
    chosen = Search([state], 0).survivors(state, 4, 1.25)
    assert [state.values[candidate.key] for candidate in chosen] == [1.0, 1.1, 1.2]


def test_with_few_samples_the_static_order_stands() -> None:
    ranker = Ranker(0)
    ranker.fit([Sample(PRODUCT, "fast", {"tile": 1}, 1.0, 1.0, 1.0, 1.0)] * (FEWEST - 1))
    assert ranker.corrections(PRODUCT, [("fast", {"tile": 1}, 1.0)] * 3) == [0.0] * 3


def test_the_ranker_learns_a_factor() -> None:
    generator = random.Random(0)
    samples = []
    for _ in range(200):
        tile = generator.randrange(1, 17)
        base = generator.uniform(1e3, 1e4)
        samples.append(
            Sample(PRODUCT, "fast", {"tile": tile}, base, base * (4 if tile > 8 else 1) * 1e-9, 1e3, 1e-6)
        )
    ranker = Ranker(0)
    ranker.fit(samples)
    low, high = ranker.corrections(PRODUCT, [("fast", {"tile": 4}, 2e3), ("fast", {"tile": 12}, 2e3)])
    assert high - low == pytest.approx(math.log(4), abs=0.3)


@pytest.mark.parametrize("operator", [PRODUCT, CONV, MatMul((), 3, 4, "float32")], ids=str)
def test_features_are_finite_numbers(operator: Operator) -> None:
    row = features(operator, "s", {"a": 0, "b": -1, "c": 3}, 0.0)
    assert all(math.isfinite(value) for value in row.values())


def test_what_earlier_sessions_measured_is_learned_from() -> None:
    """Samples of another operator that say which tiles are fast: the first round of choice has only those."""
    samples = []
    other = task(OTHER)
    for key, candidate in other.candidates.items():
        samples.append(
            Sample(
                OTHER, candidate.schedule, candidate.knobs, candidate.cost, seconds(other, key),
                other.default.cost, seconds(other, other.default.key),
            )
        )  # fmt: skip
    state = task()
    search = Search([state], 0, learned=samples)
    log = run(search, 2, ahead=0)
    chosen = [state.candidates[key].knobs.get("tile", 1) % 3 == 0 for key in log[1][:6]]
    assert sum(chosen) >= 5
