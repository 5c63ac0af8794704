"""From contestants to times and verdicts: launch after launch, each with turns in random order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from deploycc.result_types import Contest, Timed
from deploycc.timing.contestants import Contestant, Launched, Setting, Start
from deploycc.timing.peers import Array
from deploycc.timing.schedule import (
    REST_SECONDS,
    WARM_SECONDS,
    Effort,
    Turns,
    launch_ratio,
    take_turns,
    turns_for,
)
from deploycc.timing.statistics import FEWEST, TEST, median_interval, ratio_interval, verdict

FEWEST_ALONE = 5
"""Launches of a package without others that are made however long they take: a baseline needs them."""

OVERTIME = 4.0
"""Launches end early when they have taken so many times the seconds asked for."""

_PROBED_RUNS = 256

Times = list[list[float]]
"""Microseconds of each timed run by turn."""


@dataclass(frozen=True)
class FirstResult:
    """What a contestant computes, and about how many microseconds a warm run takes."""

    outputs: list[Array]
    run_us: float


def first_results(contestants: Sequence[Contestant], setting: Setting) -> dict[str, FirstResult]:
    """One launch of each, alone, whose times do not count: it also brings all files into memory."""
    found = {}
    for contestant in contestants:
        with contestant.launch(setting) as launched:
            launched.ask(0)
            run_us = _one_run_us(launched)
            found[contestant.name] = FirstResult(launched.finish().outputs, run_us)
    return found


def measure(
    contestants: Sequence[Contestant],
    setting: Setting,
    run_us: Mapping[str, float],
    effort: Effort,
    draw: random.Random,
    on_launch: Callable[[int], None],
) -> tuple[list[Timed], list[Contest]]:
    """The contestants' times, and the first one's contests with each of the others.

    ``run_us`` are the first results' times.  ``draw`` decides the order of processes and turns.
    ``on_launch`` is told each launch, from 1 on.  Raises ``DeployccError`` where a contestant fails.
    """
    turns = turns_for(run_us, effort)
    starts: dict[str, list[Start]] = {c.name: [] for c in contestants}
    times: dict[str, list[Times]] = {c.name: [] for c in contestants}
    began = time.monotonic()
    fewest = FEWEST if len(contestants) > 1 else FEWEST_ALONE
    for number in range(effort.launches):
        late = time.monotonic() - began > OVERTIME * effort.seconds
        if late and effort.runs is None and number >= fewest:
            break
        on_launch(number + 1)
        for name, start, taken in _launch(contestants, setting, turns, draw):
            starts[name].append(start)
            times[name].append(taken)
    first, *others = (contestant.name for contestant in contestants)
    timed = [_timed(c, starts[c.name], times[c.name]) for c in contestants]
    return timed, [_contest(name, times[name], times[first]) for name in others]


def _one_run_us(launched: Launched) -> float:
    taken = launched.ask(1)
    while sum(taken) < WARM_SECONDS * 1e6 and len(taken) < _PROBED_RUNS:
        taken = launched.ask(2 * len(taken))
    return max(1e-3, median(taken))


def _launch(
    contestants: Sequence[Contestant], setting: Setting, turns: Turns, draw: random.Random
) -> Iterator[tuple[str, Start, Times]]:
    """A fresh process of each contestant, one after another until its first run is done; then their turns."""
    rest = REST_SECONDS if setting.threads > 1 else 0.0
    with ExitStack() as stack:
        launched: dict[str, Launched] = {}
        for contestant in draw.sample(list(contestants), len(contestants)):
            launched[contestant.name] = stack.enter_context(contestant.launch(setting))
            launched[contestant.name].ask(0)
        taken = take_turns(launched, turns, draw, rest)
        for name, process in launched.items():
            yield name, process.finish(), taken[name]


def _timed(contestant: Contestant, starts: Sequence[Start], times: Sequence[Times]) -> Timed:
    launches = [median(run for turn in launch for run in turn) for launch in times]
    shown = median_interval(launches)
    return Timed(
        name=contestant.name,
        version=contestant.version,
        median_us=shown.middle,
        low_us=shown.low,
        high_us=shown.high,
        cold_us=median(start.cold_us for start in starts),
        load_us=median(start.load_us for start in starts),
        create_us=median(start.create_us for start in starts),
        peak_kib=max(start.peak_kib for start in starts),
        runs=sum(len(turn) for launch in times for turn in launch),
        launch_us=tuple(launches),
    )


def _contest(peer: str, theirs: Sequence[Times], ours: Sequence[Times]) -> Contest:
    ratios = tuple(launch_ratio(a, b) for a, b in zip(theirs, ours, strict=True))
    interval = ratio_interval(ratios)
    return Contest(peer, interval.middle, interval.low, interval.high, verdict(interval), TEST, ratios)
