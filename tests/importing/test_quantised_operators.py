"""ONNX Runtime's quantised operators, written in standard ones: each beside its own kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from deploycc.importing.quantised_operators import DOMAIN, OPERATORS, write_quantised
from deploycc.onnx_graph import checker_complaint
from tests.importing.models import load_proto, refused
from tests.lowering.quantised_graphs import SEED, Nodes, onnxruntime_results

EXACT = {"QGemm": 0.0, "MatMulIntegerToFloat": 1e-5, "DynamicQuantizeMatMul": 1e-5}
"""Largest error; of the others one step of the result, where ONNX Runtime approximates."""


class Contributed(Nodes):
    """One node of each operator, with all its inputs."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(SEED))

    def tensor(self, *shape: int, dtype: str = "uint8", scale: float = 0.03) -> list[str]:
        """Integers, scale and zero point."""
        return [self.x(self.integers(dtype, *shape)), *self.result(dtype, scale)]

    def result(self, dtype: str = "uint8", scale: float = 0.03) -> list[str]:
        """Scale and zero point."""
        return [self.c(np.float32(scale)), self.c(self.integers(dtype))]

    def filters(self, *shape: int) -> list[str]:
        """Stored integers, a scale and a zero point a column."""
        zero = np.zeros(shape[-1], np.int8)
        return [self.c(self.integers("int8", *shape)), self.c(self.scales(0.02, shape[-1])), self.c(zero)]

    def node(self, operator: str, inputs: list[str], dtype: str = "uint8", **attributes: Any) -> None:
        """A node of the domain."""
        self.add(operator, inputs, dtype, domain=DOMAIN, **attributes)

    def model(self) -> onnx.ModelProto:
        """The model; the domain's version is 1."""
        return self.bare(helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1))


def all_of_them() -> Contributed:
    nodes = Contributed()
    image = (2, 3, 8, 8)
    nodes.node(
        "QLinearAdd", [*nodes.tensor(*image), *nodes.tensor(*image, scale=0.05), *nodes.result(scale=0.06)]
    )
    nodes.node(
        "QLinearMul", [*nodes.tensor(*image), *nodes.tensor(*image, scale=0.05), *nodes.result(scale=0.06)]
    )
    nodes.node("QLinearSigmoid", [*nodes.tensor(5, 7), *nodes.result(scale=1 / 256)])
    nodes.node("QLinearLeakyRelu", [*nodes.tensor(5, 7), *nodes.result()], alpha=0.25)
    nodes.node("QLinearSoftmax", [*nodes.tensor(5, 7), *nodes.result(scale=1 / 256)], axis=-1, opset=13)
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes.node("QLinearAveragePool", [*nodes.tensor(*image), *nodes.result()], **pads)
    nodes.node(
        "QLinearGlobalAveragePool", [*nodes.tensor(*image), *nodes.result(scale=0.01)], channels_last=0
    )
    parts = [*nodes.tensor(2, 3, 5), *nodes.tensor(2, 4, 5, scale=0.05)]
    nodes.node("QLinearConcat", [*nodes.result(), *parts], axis=1)
    bias = nodes.c(nodes.rng.integers(-9999, 9999, 6, np.int32))
    nodes.node("QGemm", [*nodes.tensor(4, 11), *nodes.filters(11, 6), bias, *nodes.result(scale=0.3)])
    weights = [nodes.c(nodes.integers("int8", 6, 11)), nodes.c(np.float32(0.02)), nodes.c(np.int8(0))]
    nodes.node("QGemm", [*nodes.tensor(4, 11), *weights, "", *nodes.result(scale=0.3)], transB=1)
    x, scale, zero = nodes.tensor(4, 11)
    w, w_scale, w_zero = nodes.filters(11, 6)
    offset = nodes.c(nodes.rng.standard_normal(6, np.float32))
    nodes.node("MatMulIntegerToFloat", [x, w, scale, w_scale, zero, w_zero, offset], "float32")
    data = nodes.x(nodes.rng.standard_normal((4, 11), np.float32))
    nodes.node("DynamicQuantizeMatMul", [data, w, w_scale, w_zero, offset], "float32")
    return nodes


def test_each_computes_what_the_kernel_does() -> None:
    nodes = all_of_them()
    before = nodes.model()
    assert {node.op_type for node in nodes.nodes} == set(OPERATORS)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    assert write_quantised(after) == len(nodes.nodes)
    assert not any(node.domain for node in after.graph.node)
    assert checker_complaint(after) == ""
    wanted = onnxruntime_results(before, nodes.feeds)
    got = onnxruntime_results(after, nodes.feeds)
    for node, want, have in zip(nodes.nodes, wanted, got, strict=True):
        error = float(np.max(np.abs(want.astype(np.float64) - have.astype(np.float64))))
        assert error <= EXACT.get(node.op_type, 1.0), (node.op_type, error, SEED)


def test_a_model_is_loaded(tmp_path: Path) -> None:
    model = load_proto(tmp_path, all_of_them().model())
    assert not any(node.domain for node in model.proto.graph.node)
    assert not model.diagnostics


@pytest.mark.parametrize("form", ["alpha", "channels last", "old softmax"])
def test_what_is_not_understood_is_refused(form: str, tmp_path: Path) -> None:
    nodes = Contributed()
    if form == "alpha":
        nodes.node("QGemm", [*nodes.tensor(4, 11), *nodes.filters(11, 6), "", *nodes.result()], alpha=0.5)
    elif form == "channels last":
        inputs = [*nodes.tensor(1, 4, 4, 3), *nodes.result()]
        nodes.node("QLinearGlobalAveragePool", inputs, channels_last=1)
    else:
        nodes.node("QLinearSoftmax", [*nodes.tensor(5, 7), *nodes.result()], axis=1, opset=11)
    (finding,) = refused(tmp_path, nodes.model())
    assert finding.code == "DC140"
