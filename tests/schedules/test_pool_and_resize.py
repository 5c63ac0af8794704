"""Pools and resizes of images in both layouts, at any window, stride, padding and size, beside ONNX Runtime.

Operators are drawn anew in every run (``DEPLOYCC_TEST_SEED`` sets the seed); some that stand for a code path
of their own always come first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from deploycc.layout.graph import Graph as LayoutGraph
from deploycc.layout.graph import Layouts, bindings_of
from deploycc.layout.rewriting import rewrite
from deploycc.lowering import lower
from deploycc.planning import plan
from deploycc.scheduling import choose
from deploycc.scheduling.resizing import Resampling
from deploycc.types import Program, Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.scheduling.graphs import SCHEDULES, SEED, Case, Graph, build, reference, wrong

CHANNELS = (1, 2, 3, 5, 8, 16, 17, 24, 33)
EXTENTS = (1, 2, 3, 5, 7, 8, 13, 16, 17, 20, 31, 33, 47)
WHERE = [(X86_64, False), (X86_64_V4, False), (X86_64_V4, True), (ARM64, False), (ARM64, True)]


def pool(operator: str, shape: Sequence[int], fused: bool = False, **attributes: Any) -> Case:
    """A pool; fused: times 2 plus an image."""

    def made(graph: Graph) -> Any:
        y = graph.add(operator, graph.input(*shape), **attributes)
        if not fused:
            return y
        two = graph.constant(np.float32(2).reshape(1, 1, 1, 1))
        return graph.add("Relu", graph.add("Mul", y, two))

    return Case(f"{operator}{tuple(shape)} {attributes} {'fused' if fused else ''}", made)


POOLS = [
    pool("MaxPool", (1, 17, 23, 47), True, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pool("MaxPool", (1, 8, 37, 53), kernel_shape=[2, 2], strides=[2, 2]),  # nothing but registers
    pool("MaxPool", (1, 5, 20, 20), kernel_shape=[13, 13], pads=[6, 6, 6, 6]),
    pool("MaxPool", (2, 3, 9, 1), kernel_shape=[3, 1], strides=[3, 2], pads=[1, 0, 1, 0]),
    pool("AveragePool", (1, 8, 19, 43), True, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    pool("AveragePool", (1, 3, 40, 45), kernel_shape=[33, 29], strides=[3, 2], pads=[1, 9, 5, 8]),
    pool("MaxPool", (1, 64, 112, 112), kernel_shape=[2, 3], pads=[0, 1, 1, 1]),  # worth threads
]


def drawn_pool(draw: random.Random) -> Case:
    """A pool of any form that ONNX Runtime takes."""
    kernel = draw.choice([(3, 3), (2, 2), (5, 5), (draw.randint(1, 6), draw.randint(1, 6)), (9, 2), (2, 18)])
    strides = draw.choice([(1, 1), (2, 2), (draw.randint(1, 4), draw.randint(1, 4))])
    dilation = draw.choice([(1, 1), (1, 1), (draw.randint(1, 3), draw.randint(1, 2))])
    pads = [draw.randint(0, size // 2) for size in (*kernel, *kernel)]
    size = [
        max(draw.choice(EXTENTS), d * (k - 1) + 1 - pads[axis] - pads[axis + 2])
        for axis, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides), "pads": pads}
    attributes["dilations"] = list(dilation)
    operator = draw.choice(["MaxPool", "AveragePool"])
    if operator == "MaxPool" and draw.random() < 0.3:
        attributes["ceil_mode"] = 1
        # A last window in the padding alone is refused by lint below opset 22 (pool-ceil-beyond).
        windows = zip(size, kernel, strides, dilation, pads[:2], pads[2:], strict=True)
        if any(-(-(n + p + q - d * (k - 1) - 1) // s) * s >= n + p for n, k, s, d, p, q in windows):
            attributes["ceil_mode"] = 0
    if operator == "AveragePool":
        attributes["count_include_pad"] = draw.randint(0, 1)
    shape = (draw.choice((1, 2)), draw.choice(CHANNELS), *size)
    return pool(operator, shape, draw.random() < 0.3, **attributes)


def resize(shape: Sequence[int], size: Sequence[int], fused: bool = False, **attributes: Any) -> Case:
    """A resize to ``size`` rows and columns; fused: a maximum behind it."""

    def made(graph: Graph) -> Any:
        sizes = graph.constant([*shape[:2], *size])
        y = graph.add("Resize", graph.input(*shape), "", "", sizes, **attributes)
        return graph.add("Relu", y) if fused else y

    return Case(f"Resize{tuple(shape)} to {tuple(size)} {attributes} {'fused' if fused else ''}", made)


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
RESIZES = [
    resize((1, 17, 7, 29), (14, 58), True, **NEAREST),
    resize((2, 3, 5, 67), (11, 201), **LINEAR),
    resize((1, 4, 3, 700), (5, 901), **LINEAR),  # too many vectors to write each out
    resize((1, 3, 40, 99), (7, 9), **LINEAR),  # from too many vectors
    resize((1, 5, 1, 1), (3, 17), True, **LINEAR),
    resize((1, 8, 9, 11), (18, 33), mode="cubic", coordinate_transformation_mode="half_pixel"),
    resize((1, 3, 6, 5), (4, 13), exclude_outside=1, **{**LINEAR, "mode": "cubic"}),
    resize((1, 64, 56, 57), (112, 113), **LINEAR),  # worth threads
]  # fmt: skip


def drawn_resize(draw: random.Random) -> Case:
    """A linear or cubic resize of any size, or the nearest by a whole factor."""
    height, width = draw.choice(EXTENTS[:7]), draw.choice(EXTENTS)
    shape, fused = (draw.choice((1, 2)), draw.choice(CHANNELS), height, width), draw.random() < 0.3
    if draw.random() < 0.3:
        return resize(shape, (height * draw.randint(1, 4), width * draw.randint(1, 4)), fused, **NEAREST)
    mode = draw.choice(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    size = (draw.choice(EXTENTS), draw.choice((*EXTENTS, 64, 101)))
    method = draw.choice(["linear", "linear", "cubic"])
    return resize(shape, size, fused, mode=method, coordinate_transformation_mode=mode)


def check(cases: Sequence[Case], target: Target, last: bool, schedule: str) -> None:
    """Every case is computed by ``schedule`` and as ONNX Runtime computes it; ``last``: in NHWC."""
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"nothing here runs {target.name}")
    built = build(cases, opset=19)
    program = lower(built.model, target)
    if last:
        bindings = bindings_of(program.module["main"]) or []
        graph = LayoutGraph(program.module["main"], bindings, target, lambda operator: None)
        every = {variable: rule for variable, (_, rule) in graph.rules.items()}
        module = rewrite(program.module, bindings, Layouts({}, every, ()))
        program = Program(module, (), program.inputs, program.outputs)
    program = choose(program, target, [SCHEDULES])
    others = [c for c in program.choices if c.schedule not in (schedule, "transpose", "elementwise")]
    assert not others, others
    refused = [choice.skipped[schedule] for choice in program.choices if schedule in choice.skipped]
    assert {reason.partition(" ")[0] for reason in refused} <= {"not", "no"}, refused
    got = run_plan(plan(program, target), built.feeds, target)
    lines = wrong(built, got, reference(built.model.proto, built.feeds))
    assert not lines, "\n".join([*lines, f"DEPLOYCC_TEST_SEED={SEED} {target.name} NHWC={last}"])


def names(where: Any) -> str:
    return str(where.name) if isinstance(where, Target) else "NHWC" if where else "NCHW"


@pytest.mark.parametrize(("target", "last"), WHERE, ids=names)
def test_pools(target: Target, last: bool) -> None:
    draw = random.Random(f"{SEED} pools {target.name} {last}")
    fixed = POOLS if target is not ARM64 else POOLS[:5:2]
    check([*fixed, *(drawn_pool(draw) for _ in range(3))], target, last, "pool")


@pytest.mark.parametrize(("target", "last"), WHERE, ids=names)
def test_resizes(target: Target, last: bool) -> None:
    draw = random.Random(f"{SEED} resizes {target.name} {last}")
    fixed = RESIZES if target is not ARM64 else RESIZES[:6:2]
    check([*fixed, *(drawn_resize(draw) for _ in range(3))], target, last, "resize")


def test_a_maximum_over_nothing_but_minus_infinity_is_minus_infinity() -> None:
    shape = (1, 3, 9, 21)
    case = pool("MaxPool", shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    built = build([case])
    (name,) = built.feeds
    built.feeds[name][:] = -np.inf
    built.feeds[name][0, 1, 4, 7] = 1.5
    program = choose(lower(built.model, X86_64), X86_64, [SCHEDULES])
    (got,) = run_plan(plan(program, X86_64), built.feeds, X86_64)
    expected = np.full(shape, -np.inf, np.float32)  # ONNX Runtime has the largest negative number at corners
    expected[0, 1, 3:6, 6:9] = 1.5
    np.testing.assert_array_equal(got, expected)


def test_weights_of_a_resize_add_up_to_one() -> None:
    for method, taps in (("nearest_neighbor", 1), ("linear", 2), ("cubic", 4)):
        resampling = Resampling(method, "half_pixel", "floor", -0.75, False, False)
        for extent, out in ((1, 1), (1, 7), (13, 5), (5, 13), (17, 34)):
            indices, weights = resampling.table(extent, out)
            assert indices.shape == weights.shape == (taps, out)
            assert indices.min() >= 0
            assert indices.max() < extent
            np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)


def test_a_pool_of_another_type_is_left_to_reductions() -> None:
    def made(graph: Graph) -> Any:
        x = graph.input(1, 3, 9, 21, dtype="float16")
        return graph.add("MaxPool", x, kernel_shape=[3, 3])

    program = choose(lower(build([Case("float16", made)]).model, X86_64), X86_64, [SCHEDULES])
    assert [choice.schedule for choice in program.choices] == ["reduction"]
    assert "float32" in program.choices[0].skipped["pool"]
