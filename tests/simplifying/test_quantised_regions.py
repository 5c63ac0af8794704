"""Regions between DequantizeLinear and QuantizeLinear: what becomes integer operators, and what does not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from deploycc.graph_rewrites import quantised
from deploycc.onnx_editor import Editor
from deploycc.reference import run
from deploycc.simplifying import simplify
from deploycc.types import Limits
from tests.lowering.quantised_graphs import (
    SEED,
    Nodes,
    assert_equal,
    model_of,
    onnxruntime_results,
)
from tests.planning.harness import X86_64, run_plan
from tests.simplifying.graphs import operators
from tests.sweep.worker import compile_model


class Regions(Nodes):
    """Quantised tensors, and results of float operators that are quantised again."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(SEED))

    def data(self, *shape: int, dtype: str = "uint8", scale: float = 0.03) -> str:
        """An input of integers, dequantised."""
        own = nodes_parameters(self, dtype, scale)
        return self.hidden("DequantizeLinear", [self.x(self.integers(dtype, *shape)), *own])

    def filters(self, *shape: int, axis: int | None = None, dtype: str = "int8") -> tuple[str, np.ndarray]:
        """Stored integers, dequantised with one scale or one along ``axis``; and the scales."""
        scales = self.scales(0.02) if axis is None else self.scales(0.02, shape[axis])
        zero = np.zeros(scales.shape, dtype)
        stored = [self.c(self.integers(dtype, *shape)), self.c(scales), self.c(zero)]
        return self.hidden("DequantizeLinear", stored, axis=axis or 0), scales

    def bias(self, scales: np.ndarray, size: int, factor: float = 1.0) -> str:
        """A stored int32 bias, dequantised by 0.03 times the weights' scales."""
        stored = self.c(self.rng.integers(-20000, 20000, size, np.int32))
        step = np.asarray(np.float32(0.03) * scales * np.float32(factor), np.float32)
        return self.hidden("DequantizeLinear", [stored, self.c(step)], axis=0)

    def result(self, name: str, dtype: str = "uint8", scale: float = 0.3, zero: int | None = None) -> None:
        """Quantised again, as an output."""
        own = nodes_parameters(self, dtype, scale, zero)
        self.add("QuantizeLinear", [name, *own], dtype)


def nodes_parameters(nodes: Nodes, dtype: str, scale: float, zero: int | None = None) -> list[str]:
    point = nodes.integers(dtype) if zero is None else np.asarray(zero, dtype)
    return [nodes.c(np.float32(scale)), nodes.c(point)]


def fused(nodes: Nodes) -> dict[str, int]:
    """The operators after the passes, without those that only cleaning drops."""
    editor = Editor(nodes.proto())
    for run_pass in (quantised.fuse_quantised, quantised.multiply_as_integers):
        run_pass(editor)
        editor.refresh()
    while dead := [node for node in editor.nodes if not any(map(editor.used, node.output))]:
        editor.remove(dead)
        editor.refresh()
    return dict(operators(editor.write_back()))


def test_regions_are_onnx_runtimes_integers() -> None:
    """All forms in one model, through simplify and the line, bit by bit."""
    nodes = Regions()
    for axis in (None, 0):
        w, scales = nodes.filters(7, 5, 3, 3, axis=axis)
        made = nodes.hidden("Conv", [nodes.data(2, 5, 9, 8), w, nodes.bias(scales, 7)], pads=[1, 1, 1, 1])
        nodes.result(made)
        w, scales = nodes.filters(7, 5, 1, 1, axis=axis)
        made = nodes.hidden("Conv", [nodes.data(1, 5, 9, 8), w])
        nodes.result(nodes.hidden("Relu", [made]), zero=0)
        w, scales = nodes.filters(11, 6, axis=axis)
        made = nodes.hidden("Gemm", [nodes.data(3, 11), nodes.filters(11, 6)[0]])
        nodes.result(made)
        w, scales = nodes.filters(6, 11, axis=axis)
        nodes.result(nodes.hidden("Gemm", [nodes.data(3, 11), w, nodes.bias(scales, 6)], transB=1))
        w, _ = nodes.filters(11, 6, axis=None if axis is None else 1)
        nodes.result(nodes.hidden("MatMul", [nodes.data(2, 3, 11), w]))
    nodes.result(nodes.hidden("MatMul", [nodes.data(2, 3, 11), nodes.data(2, 11, 4)]))
    shared = nodes_parameters(nodes, "uint8", 0.1)
    x = nodes.hidden("DequantizeLinear", [nodes.x(nodes.integers("uint8", 1, 3, 8, 8)), *shared])
    pooled = nodes.hidden("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    again = nodes.hidden("QuantizeLinear", [pooled, *shared])
    y = nodes.hidden("DequantizeLinear", [again, *shared])
    nodes.add("QuantizeLinear", [nodes.hidden("Transpose", [y], perm=[0, 2, 3, 1]), *shared], "uint8")
    left = fused(nodes)
    assert left == {"QLinearConv": 8, "QLinearMatMul": 3, "Reshape": 8, "MaxPool": 1, "Transpose": 1}
    proto = nodes.proto()
    model = simplify(model_of(proto), Limits())
    assert not model.diagnostics
    assert "DequantizeLinear" not in operators(model.proto)
    got = run_plan(compile_model(model, [""]), list(nodes.feeds.values()), X86_64)
    assert_equal(nodes, onnxruntime_results(proto, nodes.feeds), got)


def product(nodes: Regions, **changes: object) -> str:
    w, scales = nodes.filters(7, 5, 3, 3)
    bias = nodes.bias(scales, 7, float(changes.get("bias", 1.0)))  # type: ignore[arg-type]
    dtype = str(changes.get("dtype", "uint8"))
    return nodes.hidden("Conv", [nodes.data(1, 5, 9, 8, dtype=dtype), w, bias])


@pytest.mark.parametrize(
    "why", ["bias", "read twice", "relu", "int16", "scale at run time", "moved to another"]
)
def test_refused(why: str) -> None:
    nodes = Regions()
    if why == "bias":
        nodes.result(product(nodes, bias=1.5))
    elif why == "read twice":
        made = product(nodes)
        nodes.result(made)
        nodes.add("Neg", [made], "float32")
    elif why == "relu":
        nodes.result(nodes.hidden("Relu", [product(nodes)]), zero=3)
    elif why == "int16":
        nodes.result(product(nodes, dtype="int16"), dtype="int16")
    elif why == "scale at run time":
        own = [nodes.x(nodes.scales(0.3)), nodes.c(np.uint8(7))]
        nodes.add("QuantizeLinear", [product(nodes), *own], "uint8")
    else:
        nodes.result(nodes.hidden("Transpose", [nodes.data(2, 3, scale=0.1)], perm=[1, 0]), scale=0.2)
    assert not {"QLinearConv", "QLinearMatMul"} & set(fused(nodes))
    assert "QuantizeLinear" in fused(nodes)


def test_a_product_that_stays_float_is_one_of_integers() -> None:
    nodes = Regions()
    w, _ = nodes.filters(11, 6, axis=1)
    nodes.add("MatMul", [nodes.data(3, 11), w], "float32")
    assert fused(nodes) == {"MatMulInteger": 1, "Cast": 1, "Mul": 1}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_stored_integers_become_floats(dtype: str) -> None:
    nodes = Nodes(np.random.default_rng(SEED))
    zero = [] if dtype == "int32" else [nodes.c(nodes.integers(dtype, 3, 2))]
    blocked = [nodes.c(nodes.integers(dtype, 3, 7)), nodes.c(nodes.scales(0.1, 3, 2)), *zero]
    w = nodes.hidden("DequantizeLinear", blocked, axis=1, block_size=4)
    nodes.add("Add", [w, nodes.x(np.zeros((3, 7), np.float32))], "float32")
    editor = Editor(nodes.proto())
    assert quantised.fold_dequantised(editor) == 1
    (add,) = editor.nodes
    folded = editor.constant(add.input[0])
    assert folded is not None
    np.testing.assert_array_equal(folded, onnxruntime_results(nodes.proto(), nodes.feeds)[0])
    small = Editor(nodes.proto(), budget=80)
    assert quantised.fold_dequantised(small) == 0


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_weights_of_four_bits(dtype: str) -> None:
    """ONNX Runtime rounds the inputs of such a product to 8 bits; without optimisations it does not."""
    nodes = Nodes(np.random.default_rng(SEED))
    low, high = (-8, 8) if dtype == "int4" else (0, 16)
    kind = np.dtype(getattr(ml_dtypes, dtype))
    stored = [nodes.rng.integers(low, high, shape).astype(kind) for shape in ((32, 16), (2, 16))]
    blocked = [nodes.c(stored[0]), nodes.c(nodes.scales(0.1, 2, 16)), nodes.c(stored[1])]
    weights = nodes.hidden("DequantizeLinear", blocked, axis=0, block_size=16)
    x = nodes.rng.standard_normal((3, 32), np.float32)
    nodes.add("MatMul", [nodes.x(x), weights], "float32")
    model = simplify(model_of(nodes.proto()), Limits())
    assert not model.diagnostics
    assert operators(model.proto) == {"MatMul": 1}
    steps = stored[0].astype(np.float64).reshape(2, 16, 16) - stored[1].astype(np.float64)[:, None]
    wanted = x @ (steps * nodes_scales(nodes)).reshape(32, 16)
    np.testing.assert_allclose(run(model.proto, [x])[0][0], wanted, rtol=1e-4, atol=1e-5)


def nodes_scales(nodes: Nodes) -> np.ndarray:
    return numpy_helper.to_array(nodes.weights[1])[:, None]
