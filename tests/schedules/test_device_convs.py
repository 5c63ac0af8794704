"""A GPU's convolutions and matrix products in fp32: numbers from their PTX, registers, and what takes what.

Operators and knobs are drawn anew in every run (a failure tells the seed, ``DEPLOYCC_TEST_SEED`` sets it).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from deploycc.operators import Conv2d, Knobs, Match, MatMul, Operator
from deploycc.planning.cuda.kernels import compile_device_kernels
from deploycc.scheduling.library import Schedule, select
from deploycc.scheduling.written.device_product import Cut, product_of
from deploycc.tvm_api import ir, s_tir, te
from deploycc.types import Gpu, Target
from tests.schedules.device_operators import (
    CHIPS,
    DEVICE,
    TARGETS,
    Candidate,
    run,
    run_kernel,
    wrong_definition,
)
from tests.schedules.test_candidates import admitted, drawn_operator
from tests.scheduling import chains, convolutions
from tests.scheduling.graphs import SEED, Case, check

BY_NAME = {schedule.name: schedule for schedule in DEVICE}
OURS = [BY_NAME[name] for name in ("conv_implicit_gemm", "conv_direct", "depthwise", "gemm", "gemv")]
TYPES = ("float32", "float32", "float16", "int16")

# height, width, channels, channels out, kernel, strides, pads, dilation, groups: layers of public networks,
# and sizes that are none of anybody's tiles
LAYERS = {
    "resnet 3x3, 56": (56, 56, 64, 64, (3, 3), (1, 1), 1, 1, 1),
    "resnet 3x3, 14": (14, 14, 256, 256, (3, 3), (1, 1), 1, 1, 1),
    "resnet 1x1, 28": (28, 28, 512, 128, (1, 1), (1, 1), 0, 1, 1),
    "resnet stem": (224, 224, 3, 64, (7, 7), (2, 2), 3, 1, 1),
    "mobilenet 1x1": (14, 14, 96, 576, (1, 1), (1, 1), 0, 1, 1),
    "mobilenet depthwise": (28, 28, 192, 192, (3, 3), (1, 1), 1, 1, 192),
    "convnext depthwise": (56, 56, 96, 96, (7, 7), (1, 1), 3, 1, 96),
    "large depthwise": (28, 28, 96, 96, (31, 31), (1, 1), 15, 1, 96),
    "resnext": (56, 56, 128, 128, (3, 3), (1, 1), 1, 1, 32),
    "regnet": (28, 28, 48, 48, (3, 3), (1, 1), 1, 1, 2),
    "odd": (57, 43, 23, 37, (3, 3), (1, 1), 1, 1, 1),
    "odd 5x5, stride 3": (57, 61, 19, 45, (5, 5), (3, 3), 2, 1, 1),
    "dilated": (33, 33, 256, 64, (3, 3), (1, 1), 6, 6, 1),
    "patches": (224, 224, 3, 192, (16, 16), (16, 16), 0, 1, 1),
    "head": (80, 80, 64, 1, (1, 1), (1, 1), 0, 1, 1),
    "three results": (180, 180, 64, 3, (3, 3), (1, 1), 1, 1, 1),
    "tiny": (7, 7, 512, 160, (3, 3), (1, 1), 1, 1, 1),
    "a row": (1, 512, 64, 256, (1, 9), (1, 1), 0, 1, 1),
}


def layer(name: str, data: str = "NHWC", out: str = "NHWC") -> Conv2d:
    height, width, channels, results, kernel, strides, pad, dilation, groups = LAYERS[name]
    return Conv2d(
        1, height, width, channels, results, kernel, strides, (pad,) * 4, (dilation,) * 2, groups, "float32",
        data, out,
    )  # type: ignore[arg-type]  # fmt: skip


def short(knobs: Knobs) -> bool:
    """Whether little is written out one by one: a compiler's time, not the chip's."""
    return knobs.get("thread_rows", 1) * knobs.get("thread_columns", 1) * knobs.get("depth", 1) <= 256


def drawn(
    schedule: Schedule, target: Target, draw: random.Random, all_knobs: bool = False
) -> Iterator[Candidate]:
    """Operators that the schedule takes, with knobs that it admits, without end."""
    while True:
        operator = replace(drawn_operator(draw), dtype=draw.choice(TYPES))
        match = schedule.answer(operator, target)
        if not isinstance(match, Match):
            continue
        choices = [knobs for knobs in admitted(schedule, match) if all_knobs or short(knobs)]
        if choices:
            yield Candidate(operator, schedule, draw.choice(choices), target)


def some(
    schedules: Sequence[Schedule], count: int, arch: str, what: str, all_knobs: bool = False
) -> list[Candidate]:
    """``count`` candidates of each of ``schedules``."""
    draw = random.Random(f"{SEED} {what} {arch}")
    found = []
    for schedule in schedules:
        candidates = drawn(schedule, TARGETS[arch], draw, all_knobs)
        found += [next(candidates) for _ in range(count)]
    return found


def check_candidates(candidates: Sequence[Candidate], gpu: Gpu) -> None:
    problems, facts = run(candidates, gpu, seed=SEED or 1)
    told = [problem for problem in problems if problem]
    assert not told, f"DEPLOYCC_TEST_SEED={SEED}\n" + "\n".join(told)
    assert all(fact.registers <= 255 for fact in facts)


def test_drawn_operators() -> None:
    check_candidates(some(OURS, 1, "sm_90", "drawn"), CHIPS["sm_90"])


@pytest.mark.slow
@pytest.mark.parametrize("arch", TARGETS)
@pytest.mark.parametrize("schedule", OURS, ids=lambda schedule: schedule.name)
def test_many_drawn_operators(schedule: Schedule, arch: str) -> None:
    check_candidates(some([schedule], 20, arch, f"many {schedule.name}", all_knobs=True), CHIPS[arch])


def test_what_kernels_stand_for() -> None:
    """Another schedule takes a kernel whose end ours cannot write, packed weights and all."""
    problems = [wrong_definition(one) for one in some(OURS, 1, "sm_75", "definitions")]
    assert not any(problems), f"DEPLOYCC_TEST_SEED={SEED}\n" + "\n".join(problems)


@pytest.mark.parametrize("schedule", ["conv_implicit_gemm", "gemm"])
def test_admitted_tiles_fit_a_chip(schedule: str) -> None:
    draw = random.Random(f"{SEED} fit {schedule}")
    for arch, target in TARGETS.items():
        operator: Operator = next(drawn(BY_NAME[schedule], target, draw)).operator
        match = BY_NAME[schedule].match(operator, target)
        for knobs in admitted(BY_NAME[schedule], match):
            cut = Cut.of(product_of(operator), knobs)
            told = f"{knobs} for {operator} on {arch}"
            assert cut.threads % 32 == 0, told
            assert cut.threads <= 1024, told
            assert 4 * cut.shared_elements <= 48 << 10, told
            assert cut.column_blocks <= 65535, told
            assert cut.slices * cut.product.conv.groups <= 65535, told
            assert cut.split * cut.slices <= cut.whole_steps, told


def chosen(operator: Operator, arch: str) -> Candidate:
    """What the estimates choose."""
    selection = select(DEVICE, operator, TARGETS[arch], computing=True)
    assert selection is not None
    return Candidate(operator, selection.schedule, selection.knobs, TARGETS[arch])


def check_registers(candidates: Sequence[Candidate], gpu: Gpu, spilled: int = 0) -> None:
    named = [(f"kernel{number}", one.function) for number, one in enumerate(candidates)]
    for fact in compile_device_kernels(named, gpu, "t").facts:
        assert fact.local_bytes <= spilled, fact
        assert fact.registers <= 255, fact
        assert fact.shared_bytes <= 48 << 10, fact


def test_what_is_chosen_keeps_its_sums_in_registers() -> None:
    names = ("resnet 3x3, 14", "odd", "mobilenet depthwise")
    check_registers([chosen(layer(name), "sm_90") for name in names], CHIPS["sm_90"])


@pytest.mark.slow
@pytest.mark.parametrize("layouts", ["NHWC->NHWC", "NCHW->NHWC", "NHWC->NCHW", "NCHW->NCHW"])
@pytest.mark.parametrize("arch", TARGETS)
def test_no_layer_of_a_public_network_spills(arch: str, layouts: str) -> None:
    given, out = layouts.split("->")
    # The assembler spills a number or two, of addresses, where it aims at more blocks at a time.
    spilled = 0 if layouts == "NHWC->NHWC" else 16
    check_registers([chosen(layer(name, given, out), arch) for name in LAYERS], CHIPS[arch], spilled)


def test_small_images_are_shared_among_blocks() -> None:
    """A chip of 132 processors is not left with a dozen blocks where a sum can be cut."""
    operator = layer("resnet 3x3, 14")
    candidate = chosen(operator, "sm_90")
    cut = Cut.of(product_of(operator), candidate.knobs)
    assert cut.blocks >= CHIPS["sm_90"].processors // 2
    assert cut.slices > 1 or cut.split > 1
    few = Cut.of(product_of(operator), chosen(operator, "sm_87").knobs)
    assert few.slices <= cut.slices


def test_few_rows_read_the_matrix_once() -> None:
    for operator in (
        MatMul((1,), 2048, 1000, "float32"),
        Conv2d(1, 1, 1, 512, 128, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, "float32"),
    ):
        assert chosen(operator, "sm_90").schedule.name == "gemv"
    assert chosen(MatMul((512,), 768, 768, "float32"), "sm_90").schedule.name == "gemm"


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_tensors_of_sixteen_bits(dtype: str) -> None:
    """Image, weights and result are stored as ``dtype``, sums are of fp32."""
    operators: dict[str, Operator] = {
        "conv_implicit_gemm": Conv2d(1, 9, 7, 16, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, dtype),
        "depthwise": Conv2d(1, 9, 7, 16, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 16, dtype),
        "conv_direct": Conv2d(1, 9, 7, 16, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2, dtype),
        "gemv": MatMul((2,), 64, 40, dtype),
        "gemm": MatMul((37,), 64, 40, dtype),
    }
    functions, knobs_of = [], {}
    for name, operator in operators.items():
        schedule = BY_NAME[name]
        match = schedule.match(operator, TARGETS["sm_90"])
        wide = [knobs for knobs in admitted(schedule, match) if knobs.get("vector", 4) == 4 and short(knobs)]
        knobs_of[name] = random.Random(f"{SEED} {name}").choice(wide)
        algorithm = schedule.compute(match, knobs_of[name])
        packed = algorithm.pack(_ones(operator))
        x, w = te.placeholder(_image(operator), dtype, "x"), te.placeholder(packed.shape, dtype, "w")
        made = te.create_prim_func([x, w, algorithm.define(x, w)])
        sch = s_tir.Schedule(ir.IRModule({"main": made}))
        functions.append((name, schedule.apply(sch, match, knobs_of[name])))
    compiled = compile_device_kernels(functions, CHIPS["sm_90"], "t")
    rng = np.random.default_rng(SEED)
    for name, operator in operators.items():
        pack = BY_NAME[name].compute(BY_NAME[name].match(operator, TARGETS["sm_90"]), knobs_of[name]).pack
        problem = run_kernel(compiled, name, dict(functions)[name], operator, pack, rng)
        assert not problem, f"{name} {knobs_of[name]} {dtype}: {problem} (DEPLOYCC_TEST_SEED={SEED})"


def _ones(operator: Operator) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if isinstance(operator, MatMul):
        return np.ones((operator.inner, operator.columns), np.float32)
    return np.ones(
        (*operator.kernel, operator.in_channels // operator.groups, operator.out_channels), np.float32
    )


def _image(operator: Operator) -> tuple[int, ...]:
    if isinstance(operator, MatMul):
        return (*operator.leading, operator.inner)
    return (operator.batch, operator.height, operator.width, operator.in_channels)


def test_epilogues() -> None:
    plan = check(chains.FUSED[:: len(chains.FUSED) // 5], TARGETS["sm_90"])
    assert all(call.schedule not in ("plain", "none") for call in plan.calls if call.operator)


FORMS: dict[str, Sequence[Case]] = {
    "channels": convolutions.CHANNELS,
    "forms": convolutions.FORMS,
    "groups": convolutions.GROUPS,
    "depthwise": convolutions.DEPTHWISE,
    "pointwise": convolutions.POINTWISE,
    "one-dimensional": convolutions.ONE_DIMENSIONAL,
    "transposed": convolutions.TRANSPOSED,
    "fused": chains.FUSED,
    "products": chains.PRODUCTS,
}


@pytest.mark.slow
@pytest.mark.parametrize("layouts", [None, "NHWC->NHWC", "NCHW->NCHW", "NCHW->NHWC", "NHWC->NCHW"])
@pytest.mark.parametrize("group", FORMS)
def test_matches_onnx_runtime(group: str, layouts: str | None) -> None:
    arch = random.Random(f"{SEED} {group} {layouts}").choice(list(TARGETS))
    plan = check(FORMS[group], TARGETS[arch], layouts=layouts)
    assert all(call.schedule not in ("plain", "none") for call in plan.calls if call.operator)
