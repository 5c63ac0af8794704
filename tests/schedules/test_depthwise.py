"""Depthwise convolutions in both layouts: right at every edge, for any feasible knobs."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from deploycc.operators import Conv2d, Layout, Match, Skip
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.scheduling.written.planes import axes_of, cut_axis, cut_plane, row_loops, turned
from deploycc.tuning.workload import Workload
from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.scheduling.convolutions import conv
from tests.scheduling.graphs import SCHEDULES, SEED, Case, Graph, check

ALL = load_schedules([SCHEDULES])
DEPTHWISE = {schedule.name: schedule for schedule in ALL if schedule.name.startswith("depthwise_")}
TARGETS = (X86_64, X86_64_V4, ARM64)

EDGES = [
    conv(channels, channels * multiplier, size, kernel, group=channels, **attributes)
    for channels, multiplier, size, kernel, attributes in [
        (5, 1, (28, 28), (3, 3), {"pads": [1, 1, 1, 1]}),
        (18, 1, (17, 33), (3, 3), {"pads": [0, 1, 2, 0]}),
        (3, 1, (14, 14), (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        (20, 1, (23, 57), (5, 5), {"pads": [2, 2, 2, 2], "strides": [2, 2]}),
        (4, 1, (7, 7), (5, 5), {"pads": [2, 2, 2, 2]}),
        (17, 1, (31, 29), (7, 7), {"pads": [3, 3, 3, 3]}),
        (2, 1, (19, 16), (31, 31), {"pads": [15, 15, 15, 15]}),
        (3, 1, (40, 20), (11, 13), {"pads": [5, 6, 5, 6], "strides": [1, 2]}),
        (3, 2, (16, 18), (3, 3), {"pads": [1, 1, 1, 1]}),
        (5, 3, (9, 24), (3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
        (2, 7, (5, 17), (3, 3), {}),
        (6, 1, (10, 40), (1, 9), {"pads": [0, 4, 0, 4]}),
        (6, 1, (100, 1), (9, 1), {"pads": [4, 0, 4, 0]}),
        (6, 1, (65, 1), (5, 1), {"pads": [2, 0, 1, 0], "strides": [2, 1]}),
        (6, 1, (1, 70), (1, 25), {"pads": [0, 12, 0, 12]}),
        (8, 1, (20, 21), (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        (8, 1, (20, 35), (3, 3), {"pads": [1, 3, 1, 3], "dilations": [1, 3], "strides": [2, 2]}),
        (9, 1, (13, 22), (3, 3), {"pads": [1, 0, 0, 2], "strides": [3, 3], "batch": 2}),
        (4, 1, (3, 64), (2, 4), {"pads": [0, 3, 1, 0], "bias": False, "end": ""}),
        (3, 1, (2, 2), (3, 3), {"pads": [1, 1, 1, 1]}),
        (3, 1, (2, 2), (5, 5), {"pads": [4, 4, 4, 4]}),
        (2, 1, (130, 90), (3, 3), {"pads": [1, 1, 1, 1]}),
    ]
]  # fmt: skip
"""Around the lanes of every target, with and without every way to cut the image."""


def residual(graph: Graph) -> str:
    x = graph.input(2, 19, 18, 21)
    y = graph.conv(x, 19, 19, (3, 3), True, group=19, pads=[1, 1, 1, 1])
    return str(graph.add("PRelu", graph.add("Add", y, x), graph.weight(19, 1, 1)))


def squeezed(graph: Graph) -> str:
    x, scale = graph.input(1, 12, 9, 17), graph.input(1, 12, 1, 1)
    y = graph.conv(x, 12, 24, (3, 3), True, group=12, pads=[1, 1, 1, 1])
    return str(graph.add("HardSwish", graph.add("Mul", y, graph.add("Concat", scale, scale, axis=1))))


FUSED = [Case("residual", residual), Case("squeezed", squeezed)]


def runs(target: Target) -> None:
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    if target.emulator and find_emulator(target) is None:
        pytest.skip(f"{target.emulator[0]} is not installed")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "target",
    [X86_64, *(pytest.param(target, marks=pytest.mark.slow) for target in (X86_64_V4, ARM64))],
    ids=lambda target: target.name,
)
def test_right_at_every_edge(layout: str, target: Target) -> None:
    runs(target)
    plan = check([*EDGES, *FUSED], target, layouts=f"{layout}->{layout}")
    used = {call.schedule for call in plan.calls}
    assert used & ({"depthwise_channels"} if layout == "NHWC" else {"depthwise_pixels", "depthwise_windows"})
    assert "none" not in used


OPERATORS = [
    Conv2d(1, 12, 33, 6, 6, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6, "float32"),
    Conv2d(2, 15, 14, 19, 19, (5, 5), (2, 2), (2, 2, 1, 1), (1, 1), 19, "float32"),
    Conv2d(1, 17, 20, 3, 6, (3, 4), (1, 1), (0, 3, 2, 0), (2, 1), 3, "float32"),
    Conv2d(1, 16, 18, 2, 2, (13, 11), (1, 1), (6, 5, 6, 5), (1, 1), 2, "float32"),
    Conv2d(1, 90, 1, 5, 5, (7, 1), (1, 1), (3, 0, 3, 0), (1, 1), 5, "float32"),
]


def in_layout(operator: Conv2d, layout: Layout) -> Conv2d:
    return replace(operator, data_layout=layout, out_layout=layout)


def feasible(schedule: Schedule, operator: Conv2d, target: Target) -> list[dict[str, int]]:
    match = schedule.match(operator, target)
    if isinstance(match, Skip):
        return []
    return [dict(knobs) for knobs in schedule.space() if schedule.cost(match, knobs) is not None]


def error_of(schedule: Schedule, operator: Conv2d, knobs: dict[str, int], target: Target) -> float:
    workload = Workload(operator)
    expected = workload.expected()
    job = workload.job(schedule, knobs, target, ALL, expected)
    (result,) = run_plan(job.plan, [workload.arrays[0]], target)
    return float(np.abs(result.astype(np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", DEPTHWISE)
def test_any_feasible_knobs_are_right(name: str) -> None:
    dice = random.Random(SEED)
    layout: Layout = "NHWC" if name == "depthwise_channels" else "NCHW"
    target = dice.choice([t for t in (X86_64, X86_64_V4) if host_can_run(t)])
    tried = 0
    for operator in OPERATORS:
        operator = in_layout(operator, layout)
        candidates = feasible(DEPTHWISE[name], operator, target)
        for knobs in dice.sample(candidates, min(2, len(candidates))):
            error = error_of(DEPTHWISE[name], operator, knobs, target)
            assert error < 1e-5, f"seed {SEED}, {target.name}: {operator} {knobs}: {error}"
            tried += 1
    assert tried >= 4


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_tap_reads_inside_the_packed_plane(target: Target) -> None:
    dice = random.Random(SEED)
    cut = 0
    for _ in range(200):
        kernel = (dice.randint(1, 15), dice.randint(1, 15))
        pads = tuple(dice.randint(0, kernel[i % 2]) for i in range(4))
        operator = Conv2d(
            1, dice.randint(1, 60), dice.randint(1, 60), 4, 4, kernel,
            (dice.randint(1, 3), dice.randint(1, 3)),
            pads, (dice.randint(1, 2), dice.randint(1, 2)), 4, "float32", "NCHW", "NCHW",
        )  # type: ignore[arg-type]  # fmt: skip
        if operator.out_height < 1 or operator.out_width < 1:
            continue
        plane = cut_plane(
            operator, target, dice.randint(1, 8), dice.randint(1, 4), dice.choice([0, 0, 1, 2, 3])
        )
        if plane is None:
            continue
        cut += 1
        taps = [(kh, kw) for kh in range(plane.across.taps) for kw in range(plane.along.taps)]
        last = (plane.computed - 1) * plane.pitch + max(plane.starts)
        if not plane.through_buffer:
            last += max(0, plane.along.out - plane.vectors * plane.lanes)
        offsets = [plane.offset(*tap) for tap in taps]
        assert min(offsets) >= 0, (SEED, operator)
        assert last + max(offsets) + plane.lanes <= plane.size, (SEED, operator, plane)
        loops = row_loops(plane)
        found = [tap + loop.step * i for loop in loops for i in range(loop.count) for tap in loop.taps]
        assert sorted(found) == list(range(plane.across.taps))
    assert cut > 20


def test_tiles_cover_the_axis_and_only_inner_ones_share_code() -> None:
    match = DEPTHWISE["depthwise_windows"].match(in_layout(OPERATORS[0], "NCHW"), X86_64)
    assert isinstance(match, Match)
    across, _ = axes_of(match.operator)  # type: ignore[arg-type]
    tiles = cut_axis(across, 5, 1)
    assert tiles.runs == ((0, 5, 1), (5, 5, 1), (7, 5, 1))
    assert not tiles.inside
    assert tiles.tiles == 3


def test_what_is_not_taken_says_why() -> None:
    operator = in_layout(OPERATORS[0], "NCHW")
    assert DEPTHWISE["depthwise_channels"].match(operator, X86_64) == Skip(
        "reads NCHW and writes NCHW, not NHWC"
    )
    operator = in_layout(OPERATORS[0], "NHWC")
    for name in ("depthwise_pixels", "depthwise_windows"):
        assert DEPTHWISE[name].match(operator, X86_64) == Skip("reads NHWC and writes NHWC, not NCHW")


def test_a_column_is_a_row() -> None:
    assert turned(OPERATORS[4])
    assert not turned(OPERATORS[0])
    for name, layout in [("depthwise_windows", "NCHW"), ("depthwise_channels", "NHWC")]:
        operator = in_layout(OPERATORS[4], layout)  # type: ignore[arg-type]
        candidates = feasible(DEPTHWISE[name], operator, X86_64)
        assert candidates, name


def test_padding_of_large_kernels_costs_nothing() -> None:
    """Half of what a 31x31 kernel reads of a small image is padding."""
    large = Conv2d(1, 28, 28, 64, 64, (31, 31), (1, 1), (15,) * 4, (1, 1), 64, "float32")
    match = DEPTHWISE["depthwise_channels"].match(large, X86_64_V4)
    assert isinstance(match, Match)
    best = DEPTHWISE["depthwise_channels"].best(match)
    assert best is not None
    assert best[0] < 0.65 * 64 / 16 * 28 * 28 * 31 * 31 / 2
    assert feasible(DEPTHWISE["depthwise_pixels"], in_layout(large, "NCHW"), X86_64_V4)
