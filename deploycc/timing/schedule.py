"""Who runs when: turns in random order within a launch; what slows the machine down hits all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

LAUNCHES = 10
"""Fresh processes of each contestant."""

MOST_ROUNDS, FEWEST_ROUNDS = 6, 2
"""Rounds in a launch; in each every contestant has one turn."""

SECONDS = 10.0
"""Of timed runs, all contestants and launches together."""

REST_SECONDS = 0.05
"""Before a turn on several threads: idle workers of the one before spin (ONNX Runtime's for tens of
milliseconds) and would take the next one's processors."""

WARM_SECONDS = 0.002
"""Untimed runs at the start of a turn bring data and code back into the caches, and wake the workers."""

MOST_RUNS = 20_000
"""In one turn."""


class Running(Protocol):
    """A contestant's process that waits to be asked."""

    def ask(self, runs: int) -> list[float]:
        """So many more runs, their times in microseconds."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: ``runs`` timed runs of each contestant where given, else ``seconds`` of all."""

    launches: int = LAUNCHES
    seconds: float = SECONDS
    runs: int | None = None


@dataclass(frozen=True)
class Turns:
    """``rounds`` of a launch, and the untimed and timed runs of a turn by contestant."""

    rounds: int
    warm: Mapping[str, int]
    timed: Mapping[str, int]


def turns_for(run_us: Mapping[str, float], effort: Effort) -> Turns:
    """Divide ``effort`` among contestants of whom one run takes ``run_us`` microseconds.

    Slow networks get fewer rounds rather than longer measurements, but at least ``FEWEST_ROUNDS``.
    """
    warm = {
        name: min(MOST_RUNS, max(1, math.ceil(WARM_SECONDS * 1e6 / taken))) for name, taken in run_us.items()
    }
    if effort.runs is not None:
        each = math.ceil(effort.runs / effort.launches)
        rounds = min(MOST_ROUNDS, each)
        return Turns(rounds, warm, dict.fromkeys(run_us, math.ceil(each / rounds)))
    share_us = effort.seconds * 1e6 / effort.launches / len(run_us)
    slowest = max(run_us.values())
    rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(share_us / (2 * slowest))))
    timed = {name: min(MOST_RUNS, max(1, round(share_us / rounds / taken))) for name, taken in run_us.items()}
    return Turns(rounds, warm, timed)


def take_turns(
    contestants: Mapping[str, Running],
    turns: Turns,
    draw: random.Random,
    rest: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[list[float]]]:
    """The timed runs of each round, by contestant, in microseconds.  The order is drawn anew each round."""
    times: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in range(turns.rounds):
        for name in draw.sample(list(contestants), len(contestants)):
            if rest:
                sleep(rest)
            taken = contestants[name].ask(turns.warm[name] + turns.timed[name])
            times[name].append(taken[turns.warm[name] :])
    return times


def launch_ratio(theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> float:
    """Their time over ours in one launch: the median over the rounds of the ratio of the turns' middles."""
    ratios = [interquartile_mean(a) / interquartile_mean(b) for a, b in zip(theirs, ours, strict=True)]
    return float(np.exp(np.median(np.log(ratios))))


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half.

    Interrupts may hit a quarter of the runs and it stays what it is; and the clock's steps, a percent of a
    network of one microsecond, average out as they do not in a median.
    """
    dropped = len(values) // 4
    return float(np.mean(np.sort(np.asarray(values, np.float64))[dropped : len(values) - dropped]))
