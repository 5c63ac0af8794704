"""Pools and convolutions with automatic padding, drawn at random: right, or refused with a code.

Where windows are dilated, or strides are longer than they, the standard, onnx's evaluator and ONNX Runtime
disagree; what a package computes must then be ONNX Runtime's or not be built.
"""

from __future__ import annotations

import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.scheduling.graphs import SEED
from tests.sweep.case import Case
from tests.sweep.sweep import BAD, sweep

DRAWN = 30


def drawn(draw: random.Random, number: int) -> Case:
    generator = np.random.default_rng(draw.getrandbits(32))
    operator = draw.choice(["Conv", "MaxPool", "AveragePool", "LpPool"])
    kernel, strides = draw.choices((1, 2, 3), k=2), draw.choices((1, 2, 3, 4), k=2)
    attributes = {"strides": strides, "auto_pad": draw.choice(["SAME_UPPER", "SAME_LOWER"])}
    if strides == [1, 1]:  # elsewhere a dilation is refused by too many rules to say anything
        attributes["dilations"] = draw.choices((1, 2), k=2)
    inputs, weights = ["x"], []
    if operator == "Conv":
        inputs.append("w")
        weights.append(numpy_helper.from_array(generator.standard_normal((2, 2, *kernel), np.float32), "w"))
    else:
        attributes |= {"kernel_shape": kernel, "ceil_mode": draw.choice((0, 1))}
    extents = [1, 2, draw.randint(4, 11), draw.randint(4, 11)]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], name="window", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, extents)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    proto: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10
    )
    return Case(
        f"{number} {operator} {extents} {attributes}",
        proto,
        {"x": generator.standard_normal(extents, np.float32)},
    )


def test_automatic_padding_is_onnx_runtimes_or_refused() -> None:
    draw = random.Random(SEED)
    results = sweep([drawn(draw, number) for number in range(DRAWN)])
    bad = [f"{name}: {r['verdict']}: {r['detail']}" for name, r in results.items() if r["verdict"] in BAD]
    assert not bad, "\n".join([*bad, f"DEPLOYCC_TEST_SEED={SEED}"])
    assert sum(r["verdict"] == "pass" for r in results.values()) > DRAWN // 4
