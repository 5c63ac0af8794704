"""A small ONNX file, and a fault to order, for tests of what surrounds the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BREAKS_THE_PLANNER = """
import deploycc.planning
from deploycc.operators import Skip

def broken(program, target, **options):
    raise KeyError("lost")

deploycc.planning.plan = broken
KNOBS = {}
apply = cost = lambda *arguments: None
match = lambda task, target: Skip("never")
"""
"""A schedule file that gives deploycc a fault of its own: the next stage raises."""


def write_small_net(path: Path, *, height: int | str = 13) -> Path:
    """Conv 3x3 (3 to 8 channels), bias and ReLU on ``x`` of 1x3x``height``x16."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.standard_normal((8, 3, 3, 3), np.float32), "w"),
        numpy_helper.from_array(generator.standard_normal(8, np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="relu0"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, height, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, height, 16])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
