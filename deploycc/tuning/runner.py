"""The measuring interface: what runs a candidate and says what it costs.

The tuner does not care where a candidate runs.  It compiles each one to a ``Plan`` (object code of the
target, call list, weights, arena) in a worker process and hands a ``Job`` to a ``Runner``, which may run
it on this processor (``local.py``), count its instructions under an emulator, or send it to a device.
A runner lives in the worker process: it may crash or hang, the worker is then killed and started anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from deploycc.records import Status, Unit
from deploycc.types import Plan

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Job:
    """One candidate, compiled: its plan, its inputs and the outputs it must give.

    A result is right if max|result - expected| is at most ``tolerance`` x max|expected| for each output.
    """

    plan: Plan
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    tolerance: float


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``batches`` batches of about ``batch_seconds`` each; the median batch counts.

    A runner whose measure is repeatable (instructions) may do with one run.
    """

    batches: int
    batch_seconds: float


@dataclass(frozen=True)
class Measurement:
    """What became of one job.

    ``status``: ``wrong`` ran, but the result is off; ``crash`` and ``timeout`` cost the worker its life;
    ``failed`` could not be scheduled, compiled or linked, or a kernel returned an error.  ``value`` is one
    run of the whole call list in the runner's unit, on one thread, infinite unless ``status`` is ``ok``.
    ``error`` is max|result - expected| / max|expected|, NaN where nothing was computed.  ``runs`` is how
    many runs ``value`` rests on.  ``note`` says in words why it is not ``ok``.
    """

    status: Status
    unit: Unit
    value: float = float("inf")
    error: float = float("nan")
    runs: int = 0
    note: str = ""


class Runner(Protocol):
    """Runs jobs for one target.  Made in a worker process as ``Factory(target)``, one for its lifetime."""

    unit: Unit

    def measure(self, jobs: Sequence[Job], effort: Effort) -> list[Measurement]:
        """One measurement a job, in their order.

        Every result is checked before it is timed.  Several jobs are compared head-to-head: they take
        turns, so that a slower clock or a noisy neighbour hits all alike.  What is wrong with one job
        is its ``status``, never an exception.
        """
        ...

    def close(self) -> None:
        """Free what the runner holds (files, connections)."""
        ...


class Timed(Protocol):
    """What is loaded and can be run."""

    def seconds(self, runs: int, /) -> float:
        """Seconds of one run, over so many of them."""


def in_turns(loaded: Mapping[int, Timed], runs: Mapping[int, int], batches: int) -> dict[int, list[float]]:
    """Seconds of a run in every batch, by job; who is first changes from batch to batch."""
    times: dict[int, list[float]] = {number: [] for number in loaded}
    order = list(loaded)
    for batch in range(batches):
        for place in range(len(order)):
            number = order[(batch + place) % len(order)]
            if len(order) > 1:
                loaded[number].seconds(1)  # the job before has had the caches
            times[number].append(loaded[number].seconds(runs[number]))
    return times
