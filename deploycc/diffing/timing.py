"""Two packages taking turns in one place, and their layers' times."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.diffing.types import Layer, LayerTimes, Step, Times
from deploycc.running import Orders, Package, Place, Session
from deploycc.timing.schedule import REST_SECONDS, Effort, launch_ratio, take_turns, turns_for
from deploycc.timing.statistics import TEST, ratio_interval, verdict

Array = npt.NDArray[Any]

_STEPS_SECONDS = 0.1
"""Of runs whose steps are timed, in each launch of each package."""

_MOST_STEPPED, _FEWEST_STEPPED = 50, 3


@dataclass(frozen=True)
class Timings:
    """Times of both, and of the ``steps`` of A and of B: microseconds, a row a launch, a column a step."""

    whole: Times
    steps: tuple[Array, Array]


def time_both(
    packages: tuple[Package, Package],
    place: Callable[[Package], Place],
    inputs: Sequence[Array],
    effort: Effort,
    threads: int = 1,
    cpus: tuple[int, ...] = (),
    seed: int = 0,
) -> Timings:
    """Time both packages on ``inputs``, which both take, in ``effort.launches`` fresh pairs of processes.

    ``place`` gives a place for each process, the same for both.  Raises ``DeployccError`` as running does.
    """
    draw = random.Random(seed)
    turns = None
    stepped = _FEWEST_STEPPED
    ratios: list[float] = []
    medians: tuple[list[float], list[float]] = ([], [])
    steps: tuple[list[Array], list[Array]] = ([], [])
    shown = ""
    for _ in range(effort.launches):
        with ExitStack() as stack:
            sessions: dict[str, Session] = {}
            first: dict[str, float] = {}
            for name in draw.sample(("a", "b"), 2):
                package = packages[name == "b"]
                orders = Orders(threads=threads, cpus=cpus, runs=stepped, steps=True, serve=True)
                where = place(package)
                shown = where.shown
                sessions[name] = stack.enter_context(Session(package, where, inputs, orders))
                # The answer also says that its own runs are over, and the processor is the other's.
                first[name] = float(np.median(sessions[name].ask(3)))
            if turns is None:
                turns = turns_for(first, effort)
                most = int(_STEPS_SECONDS * 1e6 / max(first.values()))
                stepped = min(_MOST_STEPPED, max(_FEWEST_STEPPED, most))
            times = take_turns(sessions, turns, draw, REST_SECONDS if threads > 1 else 0.0)
            ratios.append(launch_ratio(times["a"], times["b"]))
            for number, name in enumerate(("a", "b")):
                medians[number].append(float(np.median(np.concatenate(times[name]))))
                taken = sessions[name].finish().step_ns
                assert taken is not None
                steps[number].append(np.median(taken, axis=0) / 1e3)
    assert turns is not None
    interval = ratio_interval(ratios)
    whole = Times(
        place=shown,
        threads=threads,
        launches=effort.launches,
        runs=effort.launches * turns.rounds * min(turns.timed.values()),
        a_us=float(np.median(medians[0])),
        b_us=float(np.median(medians[1])),
        ratio=interval.middle,
        low=interval.low,
        high=interval.high,
        verdict=verdict(interval),
        test=TEST,
    )
    return Timings(whole, (np.stack(steps[0]), np.stack(steps[1])))


def with_times(layers: Sequence[Layer], steps: tuple[Array, Array]) -> tuple[Layer, ...]:
    """``layers`` with their times from those of the ``steps`` (``Timings.steps``)."""
    return tuple(
        replace(layer, times=_times(_sum(steps[0], layer.a), _sum(steps[1], layer.b))) for layer in layers
    )


def _sum(steps: Array, of: Sequence[Step]) -> Array | None:
    return steps[:, [step.number for step in of]].sum(axis=1) if of else None


def _times(a: Array | None, b: Array | None) -> LayerTimes:
    a_us, b_us = (0.0 if times is None else float(np.median(times)) for times in (a, b))
    if a is None or b is None or min(a.min(), b.min()) <= 0.0:
        return LayerTimes(a_us, b_us, None, None)
    interval = ratio_interval(list(a / b))
    return LayerTimes(a_us, b_us, interval.middle, verdict(interval))
