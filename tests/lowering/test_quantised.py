"""Quantised operators give ONNX Runtime's integers, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.types import Target
from tests.lowering.quantised_graphs import SEED, Nodes, check
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run

TARGETS = [
    pytest.param(X86_64, id="x86-64"),
    pytest.param(X86_64_V4, id="x86-64-v4", marks=pytest.mark.slow),
    pytest.param(ARM64, id="arm64", marks=pytest.mark.slow),
]


def runnable(target: Target) -> Target:
    if target.emulator and find_emulator(target) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    if not host_can_run(target):
        pytest.skip(f"this processor does not run {target.name}")
    return target


def conversions(nodes: Nodes) -> None:
    """QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear in all their forms."""
    rng = nodes.rng
    halves = np.arange(-300, 300) * np.float32(0.5)
    edges = np.concatenate([halves, [np.inf, -np.inf, 3e9, -3e9]]).astype(np.float32)
    for dtype in ("uint8", "int8", "uint16", "int16"):
        zero = nodes.integers(dtype)
        nodes.add("QuantizeLinear", [nodes.x(edges), nodes.c(np.float32(1)), nodes.c(zero)], dtype)
        wild = rng.standard_normal((3, 7), np.float32) * 99
        nodes.add("QuantizeLinear", [nodes.x(wild), nodes.x(nodes.scales(0.7)), nodes.x(zero)], dtype)
        nodes.add(
            "DequantizeLinear", [nodes.x(nodes.integers(dtype, 5, 3)), nodes.c(nodes.scales(0.1))], "float32"
        )
        image = rng.standard_normal((2, 5, 3, 4), np.float32) * 9
        several = [nodes.c(nodes.scales(0.1, 5)), nodes.c(nodes.integers(dtype, 5))]
        nodes.add("QuantizeLinear", [nodes.x(image), *several], dtype)
        nodes.add("DequantizeLinear", [nodes.x(nodes.integers(dtype, 2, 3, 5)), *several], "float32", axis=-1)
        blocks = [nodes.c(nodes.scales(0.1, 2, 3, 4)), nodes.c(nodes.integers(dtype, 2, 3, 4))]
        wide = rng.standard_normal((2, 7, 4), np.float32) * 9
        nodes.add("QuantizeLinear", [nodes.x(wide), *blocks], dtype, axis=1, block_size=3)
        stored = nodes.x(nodes.integers(dtype, 2, 7, 4))
        nodes.add("DequantizeLinear", [stored, *blocks], "float32", axis=1, block_size=3)
    nodes.add("QuantizeLinear", [nodes.x(edges), nodes.c(np.float32(0.3))], "uint8")
    nodes.add("QuantizeLinear", [nodes.x(edges), nodes.c(np.float32(0.3))], "int16", output_dtype=5)
    nodes.add(
        "DequantizeLinear", [nodes.x(nodes.integers("int32", 9)), nodes.c(nodes.scales(1e-3))], "float32"
    )
    half = [nodes.x(halves.astype(np.float16)), nodes.c(np.float16(0.3)), nodes.c(np.uint8(7))]
    nodes.add("QuantizeLinear", half, "uint8")
    nodes.add(
        "DequantizeLinear", [nodes.x(nodes.integers("int8", 77)), nodes.c(np.float16(0.017))], "float16"
    )
    for values in (wild, np.abs(wild), -np.abs(wild), np.zeros((2, 3), np.float32)):
        nodes.add("DynamicQuantizeLinear", [nodes.x(values)], "uint8", "float32", "uint8")


def convolution(
    nodes: Nodes,
    x: str,
    w: str,
    shape: tuple[int, ...],
    filters: int,
    kernel: tuple[int, ...],
    *,
    group: int = 1,
    per_channel: bool = False,
    bias: bool = True,
    run_time: bool = False,
    **attributes: object,
) -> None:
    """A QLinearConv whose results spread over all of its type."""
    own = nodes.x if run_time else nodes.c
    inner = shape[1] // group
    several = (filters,) if per_channel else ()
    zero = np.zeros(several, w) if w == "int8" and per_channel else np.full(several, nodes.integers(w))
    spread = 0.03 * 0.02 * 74 * 74 * np.sqrt(inner * np.prod(kernel)) / 60
    nodes.add(
        "QLinearConv",
        [
            nodes.x(nodes.integers(x, *shape)),
            own(nodes.scales(0.03)),
            own(nodes.integers(x)),
            nodes.c(nodes.integers(w, filters, inner, *kernel)),
            own(nodes.scales(0.02, *several)),
            own(zero.astype(w)),
            own(nodes.scales(float(spread))),
            own(nodes.integers(x)),
            *([nodes.c(nodes.rng.integers(-20000, 20000, filters, np.int32))] if bias else []),
        ],
        x,
        group=group,
        **attributes,
    )


def products(nodes: Nodes, x: str, w: str, shape: tuple[int, ...], columns: int, per_column: bool) -> None:
    """A QLinearMatMul and a MatMulInteger of the same shapes."""
    several = (columns,) if per_column else ()
    right = nodes.c(nodes.integers(w, shape[-1], columns))
    left, left_zero = nodes.x(nodes.integers(x, *shape)), nodes.c(nodes.integers(x))
    zeros = nodes.c(nodes.integers(w, *several))
    spread = 0.01 * 0.02 * 74 * 74 * np.sqrt(shape[-1]) / 60
    scales = nodes.c(nodes.scales(0.01)), nodes.c(nodes.scales(0.02, *several)), nodes.c(nodes.scales(spread))
    quantised = [left, scales[0], left_zero, right, scales[1], zeros, scales[2], nodes.c(nodes.integers(x))]
    nodes.add("QLinearMatMul", quantised, x)
    nodes.add("MatMulInteger", [left, right, left_zero, zeros], "int32")


@pytest.mark.parametrize("target", TARGETS)
def test_conversions(target: Target) -> None:
    nodes = Nodes(np.random.default_rng(SEED))
    conversions(nodes)
    check(nodes, runnable(target))


@pytest.mark.parametrize("target", TARGETS)
def test_convolutions_and_products(target: Target) -> None:
    """One of each kind: types, groups, strides, dilation, one and three axes, parameters at run time."""
    nodes = Nodes(np.random.default_rng(SEED))
    convolution(nodes, "uint8", "int8", (2, 5, 9, 11), 7, (3, 3), per_channel=True, pads=[1, 0, 2, 1])
    convolution(nodes, "uint8", "uint8", (1, 16, 7, 5), 32, (1, 1), bias=False)
    convolution(nodes, "int8", "int8", (1, 8, 13, 10), 8, (3, 3), group=8, per_channel=True, strides=[2, 2])
    convolution(
        nodes, "uint8", "int8", (1, 12, 9, 9), 6, (3, 3), group=3, dilations=[2, 2], pads=[2, 2, 2, 2]
    )
    convolution(nodes, "int8", "int8", (1, 37, 8, 17), 33, (3, 5), per_channel=True, auto_pad="SAME_LOWER")
    convolution(nodes, "uint8", "int8", (2, 5, 31), 6, (3,), pads=[1, 2])
    convolution(nodes, "uint8", "uint8", (1, 3, 4, 5, 6), 4, (2, 3, 3))
    convolution(nodes, "uint8", "uint8", (1, 4, 6, 6), 5, (3, 3), run_time=True, bias=False)
    data = [nodes.x(nodes.integers("uint8", 1, 5, 9, 9)), nodes.c(nodes.integers("uint8", 4, 5, 3, 3))]
    zeros = [nodes.c(nodes.integers("uint8")), nodes.c(nodes.integers("uint8"))]
    nodes.add("ConvInteger", [*data, *zeros], "int32", auto_pad="SAME_UPPER", strides=[2, 2])
    nodes.add("ConvInteger", data, "int32")
    products(nodes, "uint8", "int8", (3, 13, 37), 29, per_column=True)
    products(nodes, "uint8", "uint8", (1, 64), 16, per_column=False)
    products(nodes, "int8", "int8", (5, 17), 1, per_column=True)
    check(nodes, runnable(target))


@pytest.mark.slow
@pytest.mark.parametrize("target", [*TARGETS[:2], TARGETS[2]])
@pytest.mark.parametrize("round_", range(4))
def test_drawn(target: Target, round_: int) -> None:
    """Convolutions and products of drawn extents, at and beside the edges of tiles."""
    nodes = Nodes(np.random.default_rng([SEED, round_]))
    rng = nodes.rng
    extents = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64)
    for _ in range(10):
        kernel = tuple(rng.choice((1, 2, 3, 5), 2).tolist())
        group = int(rng.choice((1, 1, 1, 2, 4)))
        inner, outer = (group * int(rng.choice(extents[:-3])) for _ in range(2))
        image = [int(rng.choice(extents[3:11])) + 4 for _ in range(2)]
        types = [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")][int(rng.integers(3))]
        convolution(
            nodes,
            *types,
            (int(rng.integers(1, 3)), inner, *image),
            outer,
            (int(kernel[0]), int(kernel[1])),
            group=group,
            per_channel=bool(rng.integers(2)),
            strides=[int(rng.integers(1, 3)) for _ in range(2)],
            pads=[int(rng.integers(0, 3)) for _ in range(4)],
        )
        leading = [int(rng.choice(extents)) for _ in range(int(rng.integers(1, 3)))]
        products(
            nodes,
            *types,
            (*leading, int(rng.choice(extents))),
            int(rng.choice(extents)),
            bool(rng.integers(2)),
        )
    check(nodes, runnable(target))
