"""One network in several engines: checked, then run in turns in one process that is pinned to its cores."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.library import PackageLibrary, RunFailed
from benchmarks.measuring import geometric_mean, interleave, median_ms, pin, spread_percent
from benchmarks.peers import PEERS, Engine, EngineFailed
from benchmarks.reference import TOLERANCE, Array, largest_error

OURS = "deploycc"

REST_SECONDS = 0.05
"""Between turns on several threads: idle workers of the engine before spin (ONNX Runtime's for 40 ms) and
would take the next one's core."""

WARM_SECONDS = 0.01
"""Untimed runs on several threads: whoever sleeps at first is awake then."""


@dataclass(frozen=True)
class Time:
    """One engine on one network: the median of a run in ms, the quartiles' distance in percent, the error.

    ``error`` is the largest one as a share of the reference's largest value.
    """

    ms: float = math.nan
    spread: float = math.nan
    error: float = math.nan
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """One network on ``threads`` cores, times by engine; ``allowed`` is the error a right result may have."""

    name: str
    threads: int
    times: Mapping[str, Time] = field(default_factory=dict)
    allowed: float = TOLERANCE
    schedule: str = ""
    build_s: float = 0.0
    failure: str = ""

    @property
    def ours(self) -> Time:
        """Our own time."""
        return self.times.get(OURS, Time(failure=self.failure or "not measured"))

    def right(self, engine: str) -> bool:
        """Whether ``engine`` ran and its result is right: a wrong result is not fast."""
        time = self.times.get(engine, Time())
        return not time.failure and time.error <= self.allowed

    @property
    def counts(self) -> bool:
        """Whether we ran and our result is right."""
        return not self.failure and self.right(OURS)

    @property
    def best_peer(self) -> str:
        """The fastest peer whose result is right, empty for none."""
        right = [name for name in self.times if name != OURS and self.right(name)]
        return min(right, key=lambda name: self.times[name].ms, default="")

    def speedup(self, engine: str) -> float:
        """The time of ``engine`` over ours: above 1 we are faster; nan where one of them does not count."""
        if not (engine and self.counts and self.right(engine)):
            return math.nan
        return self.times[engine].ms / self.ours.ms

    @property
    def lead(self) -> float:
        """The best peer's time over ours."""
        return self.speedup(self.best_peer)


@dataclass(frozen=True)
class Entry:
    """What is measured: ``model`` (static shapes) for the peers, ``package`` for us (None leaves us out).

    ``reference`` are the outputs that are right, ``inputs`` what all engines get, both in ONNX's order.
    """

    name: str
    model: Path
    package: Path | None
    inputs: Sequence[Array]
    reference: Sequence[Array]
    allowed: float = TOLERANCE


@dataclass(frozen=True)
class Settings:
    """How it is measured; ``peers`` by name."""

    peers: Sequence[str]
    threads: int = 1
    rounds: int = 15
    round_seconds: float = 0.004
    cpu_time: bool = False


def measure(entry: Entry, settings: Settings) -> Row:
    """Open all engines, check them and time them in turns, in this process."""
    cpus = sorted(os.sched_getaffinity(0))
    opened: dict[str, Engine] = {}
    times: dict[str, Time] = {}
    for name in ([OURS] if entry.package else []) + list(settings.peers):
        try:
            engine: Engine = (
                PackageLibrary(entry.package, settings.threads)
                if name == OURS and entry.package
                else PEERS[name].open(entry.model, settings.threads)
            )
            got = engine.bind(entry.inputs)
            times[name] = Time(error=_error(got, entry.reference))
            opened[name] = engine
        except (EngineFailed, RunFailed, OSError, ValueError, RuntimeError) as error:
            times[name] = Time(failure=(str(error).strip() or type(error).__name__).splitlines()[0])
    # Only this thread: workers stay where their engine put them.
    os.sched_setaffinity(0, cpus[:1])
    try:
        seconds = interleave(
            [engine.run for engine in opened.values()],
            settings.rounds,
            settings.round_seconds,
            REST_SECONDS if settings.threads > 1 else 0.0,
            time.process_time if settings.cpu_time and settings.threads == 1 else time.perf_counter,
            WARM_SECONDS if settings.threads > 1 else 0.0,
        )
    finally:
        os.sched_setaffinity(0, cpus)
    for name, values in zip(opened, seconds, strict=True):
        times[name] = dataclasses.replace(times[name], ms=median_ms(values), spread=spread_percent(values))
    for engine in opened.values():
        close = getattr(engine, "close", None)
        if close is not None:
            close()
    return Row(entry.name, settings.threads, times, entry.allowed)


def _error(got: Sequence[Array], want: Sequence[Array]) -> float:
    """The largest error; axes of one element do not count, which engines add and drop at the borders."""
    if len(got) != len(want):
        return math.inf
    same = [a.reshape(b.shape) if _plain(a) == _plain(b) else a for a, b in zip(got, want, strict=True)]
    return largest_error(same, want)


def _plain(array: Array) -> tuple[int, ...]:
    return tuple(extent for extent in array.shape if extent != 1)


class Arena:
    """A process pinned to ``settings.threads`` cores that measures one entry after another.

    One process for all: importing the engines takes longer than measuring a convolution.  When one of the
    engines crashes it, each is tried alone, and those that crash again are left out of that row.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._pool: ProcessPoolExecutor | None = None

    def row(self, entry: Entry) -> Row:
        """Measure ``entry``; what goes wrong is in the row."""
        try:
            return self._measure(entry, self.settings)
        except (BrokenProcessPool, TimeoutError):
            self.close()
        alive, dead = [], {}
        package = entry.package
        for name in ([OURS] if package else []) + list(self.settings.peers):
            alone = dataclasses.replace(entry, package=package if name == OURS else None)
            peers = [] if name == OURS else [name]
            try:
                self._measure(alone, dataclasses.replace(self.settings, peers=peers, rounds=1))
                alive.append(name)
            except (BrokenProcessPool, TimeoutError):
                self.close()
                dead[name] = Time(failure="crashed or hung")
        entry = dataclasses.replace(entry, package=package if OURS in alive else None)
        peers = [name for name in alive if name != OURS]
        try:
            row = self._measure(entry, dataclasses.replace(self.settings, peers=peers))
        except (BrokenProcessPool, TimeoutError):
            self.close()
            return Row(entry.name, self.settings.threads, failure="the measuring process crashed")
        return dataclasses.replace(row, times={**row.times, **dead})

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def _measure(self, entry: Entry, settings: Settings) -> Row:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=pin, initargs=(settings.threads,)
            )
            # Thrown away: a second after the engines were loaded all of them are up to twice slower.
            self._pool.submit(measure, entry, settings).result(timeout=600)
        return self._pool.submit(measure, entry, settings).result(timeout=600)

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def median_of_runs(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """One row for each network: of its rows over the runs the one whose lead is in the middle.

    Rows where we or all peers failed count as the smallest lead.
    """
    chosen = []
    for key in dict.fromkeys((row.name, row.threads) for run in runs for row in run):
        rows = [row for run in runs for row in run if (row.name, row.threads) == key]
        rows.sort(key=lambda row: row.lead if row.lead == row.lead else -math.inf)
        chosen.append(rows[(len(rows) - 1) // 2])
    return chosen


def mean_speedup(rows: Sequence[Row], engine: str = "") -> float:
    """Geometric mean of ``engine``'s time over ours, of the best peer's for no name; nan for no row."""
    speedups = [row.speedup(engine) if engine else row.lead for row in rows]
    return geometric_mean(value for value in speedups if value == value)
