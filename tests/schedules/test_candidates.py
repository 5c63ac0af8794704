"""Every schedule, with any knobs that its cost admits, computes what its operator is defined to compute.

Operators and knobs are drawn anew in every run (a failure tells the seed, ``DEPLOYCC_TEST_SEED`` sets it);
the reference is float64.  Workspaces start out poisoned, buffers are guarded (``tests/planning/harness.py``).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploycc.operators import Conv2d, Match, MatMul, Operator, Skip
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.tuning.workload import TOLERANCE, Workload
from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.scheduling.graphs import SCHEDULES, SEED

ALL = load_schedules([SCHEDULES])
COMPUTING = [schedule for schedule in ALL if schedule.compute is not None]
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 32, 33)
EXTENTS = (1, 2, 3, 5, 7, 8, 11, 15, 16, 17, 19, 31, 33)


def drawn_conv(draw: random.Random) -> Conv2d:
    """Any convolution of up to some million multiply-adds."""
    kind = draw.choice(["dense", "dense", "three", "grouped", "depthwise", "multiplied", "pointwise", "line"])
    each_in, each_out, groups = draw.choice(CHANNELS), draw.choice(CHANNELS), 1
    kernel, strides, dilation = (draw.randint(1, 5), draw.randint(1, 5)), (1, 1), (1, 1)
    size = (draw.choice(EXTENTS), draw.choice(EXTENTS))
    if kind == "three":
        kernel = (3, 3)
    elif kind == "grouped":
        groups, each_in, each_out = draw.randint(2, 5), draw.randint(2, 9), draw.randint(1, 17)
    elif kind in ("depthwise", "multiplied"):
        groups, each_in = draw.randint(2, 40), 1
        each_out = 1 if kind == "depthwise" else draw.randint(2, 3)
        kernel = draw.choice([(3, 3), (5, 5), (7, 7), (1, 9), (13, 2), (3, 5)])
    elif kind == "line":
        size, kernel = (1, draw.choice((1, 17, 60, 131))), (1, draw.choice((1, 3, 9)))
    if kind == "pointwise":
        kernel, pads = (1, 1), (0, 0, 0, 0)
    else:
        if kind != "three" and draw.random() < 0.4:
            strides = (draw.randint(1, 4), draw.randint(1, 4))
        elif draw.random() < 0.3:
            dilation = (draw.randint(1, 3), draw.randint(1, 3))
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        before = [draw.randint(0, r // 2) for r in reach]
        after = [max(draw.randint(0, r // 2), r - e - b) for r, e, b in zip(reach, size, before, strict=True)]
        pads = (before[0], before[1], after[0], after[1])
    layouts = draw.choice(["NHWC", "NCHW"]), draw.choice(["NHWC", "NCHW"])
    batch = draw.choice((1, 1, 2))
    return Conv2d(
        batch, *size, each_in * groups, each_out * groups, kernel, strides, pads, dilation, groups, "float32",
        *layouts,
    )  # type: ignore[arg-type]  # fmt: skip


def drawn_operator(draw: random.Random) -> Operator:
    """A convolution or, now and then, a matrix product."""
    if draw.random() < 0.1:
        leading = tuple(draw.choice(EXTENTS) for _ in range(draw.randint(1, 3)))
        return MatMul(leading, draw.choice((1, 3, 16, 65)), draw.choice((1, 2, 5, 16, 17, 48, 97)), "float32")
    return drawn_conv(draw)


def admitted(schedule: Schedule, match: Match) -> list[dict[str, int]]:
    """All knobs that the schedule's cost admits."""
    return [dict(knobs) for knobs in schedule.space() if schedule.cost(match, knobs) is not None]


def check(schedule: Schedule, target: Target, operators: int, draw: random.Random) -> None:
    """Draw that many operators that ``schedule`` takes and run each with drawn knobs."""
    found = 0
    for _ in range(400 * operators):
        operator = replace(drawn_operator(draw), dtype=schedule.dtypes[0])
        match = schedule.answer(operator, target)
        if isinstance(match, Skip):
            continue
        choices = admitted(schedule, match)
        if not choices:
            continue
        knobs, workload = draw.choice(choices), Workload(operator)
        expected = workload.expected()
        told = f"{schedule.name} {knobs} for {operator} on {target.name} (DEPLOYCC_TEST_SEED={SEED})"
        try:
            job = workload.job(schedule, knobs, target, ALL, expected)
            (result,) = run_plan(job.plan, [workload.arrays[0]], target)
        except Exception as error:
            raise AssertionError(f"{told}: {error}") from error
        error = _error(result, expected)
        assert error <= TOLERANCE[operator.dtype], f"{told}: off by {error:.2e}"
        found += 1
        if found == operators:
            return
    assert found, f"no drawn operator suits {schedule.name} on {target.name}"


def _error(result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    largest = float(np.abs(expected).max())
    error = float(np.abs(result.astype(np.float64) - expected).max())
    return error if largest == 0 else error / largest


@pytest.mark.parametrize("target", [X86_64, X86_64_V4], ids=lambda target: target.name)
@pytest.mark.parametrize("schedule", COMPUTING, ids=lambda schedule: schedule.name)
def test_drawn_operators(schedule: Schedule, target: Target) -> None:
    if not host_can_run(target):
        pytest.skip(f"this processor cannot run {target.name}")
    check(schedule, target, 5, random.Random(f"{SEED} {schedule.name} {target.name}"))


@pytest.mark.parametrize("schedule", COMPUTING, ids=lambda schedule: schedule.name)
def test_drawn_operators_on_arm64(schedule: Schedule) -> None:
    if find_emulator(ARM64) is None:
        pytest.skip("qemu-aarch64 is not installed")
    check(schedule, ARM64, 2, random.Random(f"{SEED} {schedule.name} arm64"))


@pytest.mark.slow
@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64], ids=lambda target: target.name)
@pytest.mark.parametrize("schedule", COMPUTING, ids=lambda schedule: schedule.name)
def test_many_drawn_operators(schedule: Schedule, target: Target) -> None:
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"{target.name} cannot run here")
    check(schedule, target, 40, random.Random(f"{SEED} {schedule.name} {target.name} many"))
