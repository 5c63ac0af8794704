"""The inner loops of every dense schedule hold vector multiply-adds and no scalar ones, and spill nothing."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.arm64_loops import assembly_of, chosen, judge, operator_of, rank_correlation, some_knobs
from benchmarks.convs import convs, dense
from benchmarks.mca import McaUnavailable, program
from deploycc.operators import Conv2d, Layout, MatMul, Operator, Skip
from deploycc.planning.assembly import Loop, hot_loops
from deploycc.scheduling.library import Schedule, Selection, load_schedules
from deploycc.targets import load_target
from tests.scheduling.graphs import SCHEDULES

TARGETS = ("x86-64", "x86-64-v4", "arm64", "riscv64-v")


def conv(
    channels: int, out: int, kernel: int = 3, layout: Layout = "NHWC", groups: int = 1, stride: int = 1
) -> Conv2d:
    pad = kernel // 2
    return Conv2d(
        1, 28, 28, channels, out, (kernel, kernel), (stride, stride), (pad,) * 4, (1, 1), groups, "float32",
        layout, layout,
    )  # fmt: skip


def convolutions(layout: Layout) -> tuple[Conv2d, ...]:
    """Dense, pointwise, of odd channels, grouped, depthwise, and strided ones."""
    return (
        conv(64, 64, layout=layout),
        conv(48, 96, 1, layout),
        conv(23, 37, layout=layout),
        conv(64, 64, layout=layout, groups=4),
        conv(96, 96, layout=layout, groups=96),
        conv(32, 64, 5, layout, stride=2),
    )


OPERATORS: tuple[Operator, ...] = (
    *convolutions("NHWC"),
    *convolutions("NCHW"),
    MatMul((49,), 256, 128, "float32"),
    MatMul((1,), 512, 1000, "float32"),
)


@cache
def schedules() -> tuple[Schedule, ...]:
    return load_schedules([SCHEDULES])


def names() -> list[str]:
    """Those that compute operators of floats; ``test_integer_products.py`` has the others."""
    return [found.name for found in schedules() if found.compute is not None and "float32" in found.dtypes]


def loops_of(schedule: Schedule, operator: Operator, target_name: str) -> tuple[Loop, ...] | None:
    """The hot loops of the cheapest kernel by the static cost, ``None`` if the schedule does not take it."""
    target = load_target(target_name)
    match = schedule.match(operator, target)
    if isinstance(match, Skip):
        return None
    best = schedule.best(match)
    if best is None:
        return None
    selection = Selection(schedule, match, best[1], {})
    return hot_loops(assembly_of(operator, selection, target, schedules()), target)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("x86-64-v4", "riscv64-v") else name
        for name in TARGETS
    ],
)
@pytest.mark.parametrize("name", names())
def test_multiply_adds_are_vectors(name: str, target: str) -> None:
    (schedule,) = (schedule for schedule in schedules() if schedule.name == name)
    seen = 0
    for operator in OPERATORS:
        loops = loops_of(schedule, operator, target)
        if loops is None:
            continue
        seen += 1
        assert sum(loop.vector_fmas for loop in loops) > 0, operator
        scalar = [line for loop in loops if loop.scalar_fmas for line in loop.lines]
        assert not scalar, f"{operator}:\n" + "\n".join(scalar)
    assert seen, "none of the operators is one for this schedule: add one"


@pytest.mark.parametrize("target", TARGETS)
def test_register_tiles_stay_in_registers(target: str) -> None:
    for operator in (conv(64, 64), conv(48, 96, 1), MatMul((49,), 256, 128, "float32")):
        selection = chosen_direct(operator, target)
        loops = hot_loops(
            assembly_of(operator, selection, load_target(target), schedules()), load_target(target)
        )
        assert [line for loop in loops if loop.stack for line in loop.lines] == [], selection.knobs
        fmas = sum(loop.vector_fmas for loop in loops)
        assert sum(loop.loads for loop in loops) <= 0.8 * fmas
        assert sum(loop.stores for loop in loops) == 0


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("depthwise_channels", conv(192, 192, 3, groups=192)),
        ("depthwise_channels", conv(116, 116, 3, groups=116, stride=2)),
        ("conv_pixels", conv(24, 144, 1, "NCHW")),
    ],
)
def test_choices_spill_nothing_where_every_operand_needs_a_register(name: str, operator: Operator) -> None:
    """On arm64 these once were tiles of 7 x 3 and 9 x 3, with 11, 25 and 2 spilled values in the loop."""
    (schedule,) = (schedule for schedule in schedules() if schedule.name == name)
    loops = loops_of(schedule, operator, "arm64")
    assert loops
    assert sum(loop.stack for loop in loops) == 0


def chosen_direct(operator: Operator, target: str) -> Selection:
    """What the static cost takes of the schedules that hold a tile of results in registers."""
    found = []
    for schedule in schedules():
        match = (
            schedule.match(operator, load_target(target))
            if schedule.name in ("conv_direct", "gemm")
            else None
        )
        if match is not None and not isinstance(match, Skip):
            best = schedule.best(match)
            assert best is not None
            found.append(Selection(schedule, match, best[1], {}))
    (selection,) = found
    return selection


def test_scalar_code_is_recognised() -> None:
    (schedule,) = (schedule for schedule in schedules() if schedule.name == "gemm")
    loops = loops_of(schedule, MatMul((49,), 256, 128, "float32"), "riscv64")
    assert loops is not None
    assert sum(loop.scalar_fmas for loop in loops) > 0
    assert sum(loop.vector_fmas for loop in loops) == 0


def skip_without_mca() -> None:
    try:
        program()
    except McaUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("target", "least"), [("arm64", 0.9), ("x86-64", 0.9), ("x86-64-v4", 0.8)])
@pytest.mark.parametrize("name", [conv.name for conv in dense()[::3]])
def test_dense_convolutions_come_near_the_peak(name: str, target: str, least: float) -> None:
    skip_without_mca()
    direct = [schedule for schedule in schedules() if schedule.name in ("conv_direct", "gemm")]
    machine = load_target(target)
    found = judge(convs()[name], chosen(convs()[name], machine, direct), machine, direct)
    assert found.loops.scalar_fmas == 0
    assert found.loops.share >= least


def test_static_cost_ranks_as_the_simulation_does() -> None:
    """Of one convolution on arm64: what the static cost calls dear is dear in llvm-mca as well."""
    skip_without_mca()
    shape, machine = dense()[2], load_target("arm64")
    (direct,) = (schedule for schedule in schedules() if schedule.name == "conv_direct")
    selections = some_knobs(direct, operator_of(shape), machine, 12)
    judged = [judge(shape, selection, machine, schedules()) for selection in selections]
    assert len(judged) >= 10
    correlation = rank_correlation(
        [one.static_cycles for one in judged], [one.simulated_cycles for one in judged]
    )
    assert correlation > 0.5


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: the formula by hand.
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
