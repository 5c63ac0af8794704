"""deploycc/timing/schedule.py, measuring.py: turns and launches of contestants that only pretend to run."""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycc.timing.contestants import Setting, Start
from deploycc.timing.measuring import first_results, measure
from deploycc.timing.schedule import (
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    MOST_RUNS,
    Effort,
    Turns,
    interquartile_mean,
    launch_ratio,
    take_turns,
    turns_for,
)

SETTING = Setting([np.zeros(1, np.float32)], 1)


@dataclass
class World:
    """Time that passes only while somebody runs; a machine that is slower at some times than at others."""

    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    now: float = 0.0
    asked: list[str] = field(default_factory=list)

    def slowness(self) -> float:
        return 1.3 + 0.3 * math.sin(self.now / 40_000)


@dataclass
class Pretender:
    """A run takes ``us`` microseconds, times the luck of its launch; one in twenty is interrupted."""

    name: str
    us: float
    world: World
    version: str = "1"
    luck: float = 0.005
    launches: int = 0

    @contextlib.contextmanager
    def launch(self, setting: Setting) -> Iterator[PretenderLaunched]:
        self.launches += 1
        yield PretenderLaunched(self, self.us * math.exp(self.luck * self.world.generator.standard_normal()))


@dataclass
class PretenderLaunched:
    pretender: Pretender
    us: float

    def ask(self, runs: int) -> list[float]:
        world = self.pretender.world
        world.asked.append(self.pretender.name)
        times = []
        for _ in range(runs):
            hit = 8.0 if world.generator.random() < 0.05 else 1.0
            taken = self.us * world.slowness() * hit * math.exp(0.02 * world.generator.standard_normal())
            world.now += taken
            times.append(taken)
        return times

    def finish(self) -> Start:
        return Start(3.0, 2.0, self.us * 5, 100, [np.ones(1)])


def contest(ours: float, theirs: float, effort: Effort) -> tuple[str, float]:
    world = World()
    contestants = [Pretender("ours", ours, world), Pretender("theirs", theirs, world)]
    run_us = {name: result.run_us for name, result in first_results(contestants, SETTING).items()}
    _, (found,) = measure(contestants, SETTING, run_us, effort, random.Random(), lambda number: None)
    return found.verdict, found.ratio


EFFORT = Effort(launches=10, runs=300)


def test_the_same_twice_shows_no_difference() -> None:
    verdicts = Counter(contest(100.0, 100.0, EFFORT)[0] for _ in range(30))
    # A true rate of 1 % gives more than four of thirty once in ten thousand times.
    assert verdicts["no difference seen"] >= 26


def test_a_difference_is_seen_on_a_machine_whose_speed_changes() -> None:
    for ours, theirs, want in ((100.0, 110.0, "faster"), (110.0, 100.0, "slower")):
        got = [contest(ours, theirs, EFFORT) for _ in range(10)]
        assert Counter(verdict for verdict, _ in got)[want] >= 9
        assert np.median([ratio for _, ratio in got]) == pytest.approx(theirs / ours, rel=0.02)


def test_measuring_tells_what_was_measured() -> None:
    world = World()
    contestants = [Pretender(name, us, world) for name, us in (("a", 50.0), ("b", 80.0), ("c", 60.0))]
    told: list[int] = []
    run_us = {c.name: c.us for c in contestants}
    timed, contests = measure(contestants, SETTING, run_us, EFFORT, random.Random(), told.append)
    assert told == list(range(1, 11))
    assert [c.launches for c in contestants] == [10, 10, 10]
    assert [t.name for t in timed] == ["a", "b", "c"]
    assert [c.peer for c in contests] == ["b", "c"]
    for one in timed:
        assert one.runs == 300
        assert len(one.launch_us) == 10
        assert one.low_us <= one.median_us <= one.high_us
        assert (one.load_us, one.create_us, one.peak_kib) == (3.0, 2.0, 100)
    assert all(len(one.launch_ratios) == 10 and one.low <= one.ratio <= one.high for one in contests)


def test_launches_end_early_when_they_take_too_long() -> None:
    alone, told = [Pretender("ours", 50.0, World())], []
    measure(alone, SETTING, {"ours": 50.0}, Effort(20, seconds=1e-9), random.Random(), told.append)
    assert told == list(range(1, 6))
    told.clear()
    two = [*alone, Pretender("theirs", 50.0, World())]
    run_us = {"ours": 50.0, "theirs": 50.0}
    measure(two, SETTING, run_us, Effort(20, seconds=1e-9), random.Random(), told.append)
    assert told == list(range(1, 9))


@dataclass
class Counting:
    """Tells numbers that say which run it was; remembers what it was asked for."""

    asked: list[int] = field(default_factory=list)
    made: int = 0

    def ask(self, runs: int) -> list[float]:
        self.asked.append(runs)
        self.made += runs
        return [float(n) for n in range(self.made - runs, self.made)]


def test_turns_come_in_random_order_and_start_with_runs_that_do_not_count() -> None:
    names = "abc"
    orders = set()
    for _ in range(40):
        order: list[str] = []
        slept: list[float] = []
        contestants = {name: Counting() for name in names}
        spied = {name: Spy(name, contestants[name], order) for name in names}
        turns = Turns(2, dict.fromkeys(names, 3), {"a": 4, "b": 5, "c": 6})
        times = take_turns(spied, turns, random.Random(), rest=0.5, sleep=slept.append)
        assert times["a"] == [[3.0, 4.0, 5.0, 6.0], [10.0, 11.0, 12.0, 13.0]]
        assert [len(turn) for turn in times["c"]] == [6, 6]
        assert sorted(order[:3]) == sorted(order[3:]) == list(names)
        assert slept == [0.5] * 6
        orders |= {"".join(order[:3]), "".join(order[3:])}
    assert len(orders) > 3


@dataclass
class Spy:
    name: str
    inner: Counting
    order: list[str]

    def ask(self, runs: int) -> list[float]:
        self.order.append(self.name)
        return self.inner.ask(runs)


@given(
    st.lists(st.floats(0.1, 1e7), min_size=1, max_size=4),
    st.integers(1, 30),
    st.floats(0.01, 100),
    st.none() | st.integers(1, 5000),
)
def test_turns_divide_the_effort(us: list[float], launches: int, seconds: float, runs: int | None) -> None:
    run_us = {str(number): taken for number, taken in enumerate(us)}
    turns = turns_for(run_us, Effort(launches, seconds, runs))
    assert 1 <= turns.rounds <= MOST_ROUNDS
    for name, taken in run_us.items():
        timed = turns.timed[name]
        assert timed >= 1
        assert turns.warm[name] >= 1
        if runs is not None:
            assert runs <= timed * turns.rounds * launches
        else:
            assert timed <= MOST_RUNS
            assert turns.rounds >= FEWEST_ROUNDS
            share = seconds * 1e6 / launches / len(us)
            # Rounding may add half a run to a turn; the fewest rounds of one run are made in any case.
            assert timed == 1 or timed * taken * turns.rounds <= share + 0.5 * taken * turns.rounds


def test_a_launchs_ratio_withstands_a_quarter_of_interrupted_runs() -> None:
    ours = [[100.0, 101.0, 99.0, 5000.0]] * 5
    theirs = [[200.0, 202.0, 9000.0, 198.0]] * 5
    assert launch_ratio(theirs, ours) == pytest.approx(2.0, rel=0.01)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=50))
def test_the_interquartile_mean_lies_within(values: list[float]) -> None:
    middle = interquartile_mean(values)
    assert min(values) * (1 - 1e-12) <= middle <= max(values) * (1 + 1e-12)
    if len(values) < 4:
        assert middle == pytest.approx(np.mean(values))


def test_the_interquartile_mean_is_finer_than_the_clock() -> None:
    assert interquartile_mean([0.89] * 8 + [0.90] * 8) == pytest.approx(0.895)
