"""GPU schedules for what is no convolution: numbers from their PTX, with any knobs, launches, registers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from deploycc.gpu_limits import LONGEST_SCAN
from deploycc.planning import plan_chips
from deploycc.planning.cuda.kernels import compile_device_kernels, cuda_source
from deploycc.scheduling.library import load_schedules
from deploycc.scheduling.written.writing import NotWritable
from tests.planning.harness import run_plan
from tests.schedules import test_batched_matmul, test_pool_and_resize, test_rows
from tests.schedules.device_kernels import (
    CHIP,
    CUDA,
    Kernel,
    differences,
    kernels_of,
    scheduled_for,
    stored_as,
    with_knobs,
)
from tests.schedules.test_rows import one
from tests.schedules.test_transpose import SHAPES
from tests.scheduling.graphs import SCHEDULES, SEED, Case, Graph, build, reference, wrong

ONE = CUDA.for_gpu(CHIP)
ALL = {schedule.name: schedule for schedule in load_schedules([SCHEDULES], ONE)}


def joined(axis: int, *shapes: tuple[int, ...]) -> Case:
    """A concatenation."""

    def make(graph: Graph) -> str:
        return str(graph.add("Concat", *(graph.input(*shape) for shape in shapes), axis=axis))

    return Case(f"concat{shapes} {axis}", make)


def broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> Case:
    """A sum, and something behind it."""

    def make(graph: Graph) -> str:
        return str(graph.add("Sigmoid", graph.add("Add", graph.input(*left), graph.input(*right))))

    return Case(f"{left}+{right}", make)


ELEMENTWISE = [
    one("Relu", 3, 7),
    one("Sigmoid", 2, 8, 16),
    one("Relu", 1),
    broadcast((2, 8, 5, 12), (8, 1, 1)),
    broadcast((2, 5, 7, 16), (16,)),
    broadcast((3, 1, 7), (5, 1)),
    joined(1, (2, 8, 5), (2, 3, 5)),
    joined(2, (2, 3, 8), (2, 3, 4), (2, 3, 12)),
    one("Pad", 1, 8, 17, operands=([0, 0, 3, 0, 0, 5],)),
    one("Pad", 1, 4, 6, 8, operands=([0, 1, 0, 0, 0, 2, 1, 0],)),
    one("Slice", 3, 9, 16, operands=([1, 4], [8, 16], [1, 2])),
    one("DepthToSpace", 1, 16, 5, 7, blocksize=2),
    one("Expand", 3, 1, 5, operands=([2, 3, 4, 5],)),
]
TRANSPOSED = [one("Transpose", *shape, perm=list(order)) for shape, order in SHAPES]
POOLED = [*test_pool_and_resize.POOLS, one("ArgMax", 3, 77, axis=1), one("ArgMin", 5, 7, 9, axis=1)]
# Tables are drawn like any operand: an image of one row has no second one.
RESIZED = [case for case in test_pool_and_resize.RESIZES if ", 1, 1)" not in case.name]
MULTIPLIED = [*test_batched_matmul.CASES[:-2], *test_batched_matmul.OTHERS]


def kernels(cases: Sequence[Case]) -> list[Kernel]:
    """The kernels of ``cases`` for the chip."""
    return kernels_of(scheduled_for(build(cases).model))


def test_one_of_each() -> None:
    cases = [
        broadcast((2, 8, 5, 12), (8, 1, 1)),
        one("Softmax", 5, 53, axis=-1),
        test_rows.layer_norm(3, 5, 32),
        one("GlobalAveragePool", 1, 7, 13, 17),
        one("ReduceMax", 3, 7, 33, axes=[1]),
        one("Transpose", 2, 37, 45, perm=[0, 2, 1]),
        one("MaxPool", 1, 8, 9, 11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        test_batched_matmul.product((2, 17, 24), (2, 24, 19)),
        one("ArgMax", 3, 77, axis=1),
    ]
    made = kernels(cases)
    taken = {kernel.choice.schedule for kernel in made}
    wanted = {"elementwise", "softmax", "normalization", "reduction", "transpose", "windows"}
    assert wanted | {"batched_matmul"} == taken
    assert differences(made, SEED % 1000) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [ELEMENTWISE, TRANSPOSED, POOLED, RESIZED, MULTIPLIED, test_rows.CASES],
    ids=["elementwise", "transposed", "pooled", "resized", "multiplied", "rows"],
)
def test_every_shape(cases: Sequence[Case]) -> None:
    made = kernels(cases)
    assert not [kernel for kernel in made if kernel.choice.schedule == "plain"]
    assert differences(made, SEED % 1000) == {}


SUITED = [
    ("softmax", test_rows.SOFTMAX),
    ("normalization", test_rows.NORMALIZATIONS),
    ("reduction", test_rows.REDUCTIONS),
    ("windows", [*POOLED, *test_rows.REDUCTIONS]),
    ("elementwise", [*ELEMENTWISE, *TRANSPOSED]),
    ("transpose", TRANSPOSED),
    ("batched_matmul", MULTIPLIED),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cases"), SUITED, ids=[name for name, _ in SUITED])
def test_any_knobs(name: str, cases: Sequence[Case]) -> None:
    """Also those that the cost would not take for so small a shape."""
    draw, schedule = random.Random(f"{SEED} {name}"), ALL[name]
    made = []
    for kernel in kernels(cases):
        space = [knobs for knobs in schedule.space() if _possible(name, knobs)]
        for number, knobs in enumerate(draw.sample(space, min(2, len(space)))):
            try:
                other = with_knobs(kernel, schedule, knobs)
            except NotWritable:
                continue
            made.append(Kernel(f"{kernel.name}_{number}", other.definition, other.scheduled, other.choice))
    assert len(made) >= 4
    wrong = differences(made, SEED % 1000)
    assert wrong == {}, f"DEPLOYCC_TEST_SEED={SEED}"


def _possible(name: str, knobs: Any) -> bool:
    if name == "batched_matmul":
        return bool(32 <= knobs["rows"] * knobs["columns"] // knobs["each"] ** 2 <= 512)
    return bool(name != "windows" or knobs["lanes"] == 1 or knobs["vector"] == 1)


def test_launches_and_registers() -> None:
    """One launch where that fills the chip, two for one long row; nothing in a thread's own memory."""
    cases = [
        one("Softmax", 8, 197, 197, axis=-1),
        test_rows.layer_norm(1, 197, 768),
        one("ReduceSum", 1 << 21, operands=([0],)),
        one("GlobalAveragePool", 1, 960, 7, 7),
        one("ReduceMean", 1, 56, 56, 64, axes=[1, 2]),
        one("InstanceNormalization", 1, 32, 64, 64, operands=((32,), (32,))),
        test_batched_matmul.product((12, 197, 64), (12, 64, 197)),
        one("Transpose", 1, 64, 56, 56, perm=[0, 2, 3, 1]),
        one("MaxPool", 1, 64, 56, 56, kernel_shape=[3, 3], strides=[2, 2]),
        broadcast((1, 56, 56, 64), (64,)),
    ]
    made = kernels(cases)
    compiled = compile_device_kernels([(kernel.name, kernel.scheduled) for kernel in made], CHIP, "t")
    launches = {
        kernel.name: len(compiled.launches[compiled.symbols[kernel.name]])
        for kernel in made
        if kernel.choice.schedule not in ("elementwise", "transpose")
    }
    assert {name: count for name, count in launches.items() if count != 1} == {"sum": 2}
    spilled = [fact for fact in compiled.facts if fact.local_bytes]
    assert not spilled
    assert max(fact.registers for fact in compiled.facts) <= 128
    assert max(fact.shared_bytes for fact in compiled.facts) <= 48 << 10


def test_four_elements_a_thread_where_operands_allow() -> None:
    """128-bit loads; not where a row does not start at a multiple of them."""
    for case, wide in (
        (broadcast((1, 512, 512, 16), (16,)), True),
        (broadcast((1, 512, 1023), (1,)), True),  # all of it is one row
        (broadcast((2, 8, 33), (8, 33)), True),
        (broadcast((2, 33, 3), (2, 1, 3)), False),
    ):
        (kernel,) = kernels([case])
        made = with_knobs(kernel, ALL["elementwise"], {"vector": 4})
        assert ("*(float4*)(" in cuda_source([("k", made.scheduled)], CHIP)) is wide, case


HALF = [
    one("Softmax", 5, 56, axis=-1),
    test_rows.layer_norm(3, 5, 31),
    one("Transpose", 2, 37, 45, perm=[0, 2, 1]),
    one("MaxPool", 1, 8, 9, 11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    one("GlobalAveragePool", 1, 7, 13, 17),
    test_batched_matmul.product((2, 17, 24), (2, 24, 19)),
    broadcast((2, 8, 5, 12), (8, 1, 1)),
    one("ArgMax", 3, 77, axis=1),
]


def test_operands_stored_in_half() -> None:
    made = [stored_as(kernel, "bfloat16") for kernel in kernels(HALF)]
    compiled = compile_device_kernels([(kernel.name, kernel.scheduled) for kernel in made], CHIP, "t")
    assert not [fact for fact in compiled.facts if fact.local_bytes]
    chosen = [stored_as(kernel, "float16") for kernel in kernels(HALF[:1])]
    assert differences(chosen, SEED % 1000) == {}


@pytest.mark.slow
def test_operands_of_every_kind_stored_in_half() -> None:
    made = [stored_as(kernel, "float16") for kernel in kernels([*HALF, *ELEMENTWISE])]
    assert not [kernel for kernel in made if kernel.choice.schedule == "plain"]
    assert differences(made, SEED % 1000) == {}


def running_sum(*shape: int, axis: int, **attributes: Any) -> Case:
    """CumSum."""

    def make(graph: Graph) -> str:
        places = graph.constant(np.array(axis, np.int64))
        return str(graph.add("CumSum", graph.input(*shape), places, **attributes))

    return Case(f"cumsum{shape} {axis} {attributes}", make)


def test_running_sums() -> None:
    """Those of thousands of elements are the processor's."""
    built = build(
        [
            running_sum(3, 77, axis=1),
            running_sum(2, 5, 9, axis=-2, exclusive=1),
            running_sum(2, LONGEST_SCAN + 1, axis=1),
        ]
    )
    (made,) = plan_chips([scheduled_for(built.model)], CUDA)
    assert sum(bool(call.launches) for call in made.calls) == 2
    got = run_plan(made, built.feeds, CUDA)
    assert not wrong(built, got, reference(built.model.proto, built.feeds))


def test_results_do_not_depend_on_the_order_of_threads() -> None:
    made = kernels([one("Softmax", 3, 331, axis=-1)])
    for seed in (1, 2, 3):
        assert differences(made, seed) == {}
