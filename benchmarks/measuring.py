"""Timing several engines against one another in one run."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence


def pin(cores: int) -> list[int]:
    """Restrict this process to ``cores`` of the cores it may use; returns their numbers."""
    chosen = sorted(os.sched_getaffinity(0))[-cores:]
    if len(chosen) < cores:
        raise ValueError(f"{cores} cores wanted, this process may use {len(chosen)}")
    os.sched_setaffinity(0, chosen)
    return chosen


def interleave(
    engines: Sequence[Callable[[], None]],
    rounds: int,
    round_seconds: float = 0.004,
    rest_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    warm_seconds: float = 0.0,
) -> list[list[float]]:
    """Seconds of one call, per engine and round.

    The engines take turns, the first one changing from round to round, so that a slower clock or a
    noisy neighbour hits all of them alike.  In its turn an engine runs once untimed, which brings its
    data back into the caches, and then often enough to fill ``round_seconds``; the mean counts.
    ``rest_seconds`` lets worker threads of the engine before go to sleep, and for ``warm_seconds`` more
    untimed runs wake those of this one.  With ``time.thread_time``
    for ``clock`` the time that others had the core does not count, which only makes sense for engines
    that run in the calling thread.
    """
    repeats = []
    for engine in engines:
        engine()
        start = clock()
        engine()
        repeats.append(max(1, math.ceil(round_seconds / max(clock() - start, 1e-7))))
    times: list[list[float]] = [[] for _ in engines]
    for turn in range(rounds):
        for offset in range(len(engines)):
            index = (turn + offset) % len(engines)
            engine, count = engines[index], repeats[index]
            if rest_seconds:
                time.sleep(rest_seconds)
            start = clock()
            engine()
            while clock() - start < warm_seconds:
                engine()
            start = clock()
            for _ in range(count):
                engine()
            times[index].append((clock() - start) / count)
    return times


def median_ms(seconds: Iterable[float]) -> float:
    """The median in milliseconds."""
    return statistics.median(seconds) * 1e3


def spread_percent(seconds: Sequence[float]) -> float:
    """Distance of the quartiles as a percentage of the median; 0 for fewer than two values."""
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4)
    return (high - low) / middle * 100


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive values; nan for none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan
