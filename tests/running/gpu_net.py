"""A small network with steps on a GPU and, for its sort, on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAST = 8
"""Channels of the second convolution."""


def write_net(path: Path, *, seed: int = 3, spoiled: bool = False) -> Path:
    """Two convolutions with ReLU, and the two largest values of each row of the second's mean.

    With ``spoiled`` the second convolution has other weights.
    """
    generator = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        if spoiled and name == "w2":
            values = values[:, ::-1]
        return numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="first_relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node("ReduceMean", ["c"], ["d"], name="mean", axes=[3], keepdims=0),
        helper.make_node("TopK", ["d", "k"], ["largest", "where"], name="largest_two"),
        helper.make_node("Mul", ["largest", "two"], ["y"], name="scale"),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("w2", LAST, 4, 3, 3)]
    weights += [
        numpy_helper.from_array(np.array(values, kind), name)
        for name, values, kind in (("k", [2], np.int64), ("two", 2.0, np.float32))
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 7, 6])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, LAST, 2]),
            helper.make_tensor_value_info("where", TensorProto.INT64, [1, LAST, 2]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
