"""Which node of a fused step, by its values alone: Conv, Add of a vector, Relu, Mul by a vector."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycc.bisecting.attributing import Attribution, attribute
from deploycc.bisecting.graph import Graph
from deploycc.bisecting.judging import Judge
from deploycc.onnx_graph import Array


class _Alone(Judge):
    """A judge without a package: values are given."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    random = np.random.default_rng()
    arrays = {
        "w": random.standard_normal((4, 3, 3, 3)) * 0.3,
        "v": random.standard_normal((1, 4, 1, 1)) * 0.3,
        "s": random.uniform(0.5, 2.0, (1, 4, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "v"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Mul", ["r", "s"], ["y"], name="mul"),
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 9, 9])
        for name, channels in (("x", 3), ("y", 4))
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    made = helper.make_graph(nodes, "g", infos[:1], infos[1:], weights)
    return Graph(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def told(graph: Graph, got: Array, x: Array) -> tuple[Attribution, str]:
    found = attribute(_Alone(graph), range(4), {"x": x}, got, "y")
    return found, graph.nodes[found.order[0]].name


def values(graph: Graph, x: Array) -> dict[str, Array]:
    names = ["c", "a", "r", "y"]
    return dict(zip(names, _Alone(graph).computed(range(4), {"x": x}, names), strict=True))


@pytest.fixture
def x() -> Array:
    return np.random.default_rng().standard_normal((1, 3, 9, 9)).astype(np.float32)


def constant(graph: Graph, name: str) -> Array:
    return numpy_helper.to_array(graph.initializers[name])


def test_a_node_that_is_left_out_is_told(graph: Graph, x: Array) -> None:
    found, first = told(graph, np.multiply(values(graph, x)["a"], constant(graph, "s")), x)
    assert found.told
    assert first == "relu"


def test_a_wrong_operator_scatters(graph: Graph, x: Array) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    weights = next(t for t in model.graph.initializer if t.name == "w")
    wrong = constant(graph, "w").copy()
    wrong[[1, 2]] = wrong[[2, 1]]
    weights.CopyFrom(numpy_helper.from_array(wrong, "w"))
    found, first = told(graph, values(Graph(model), x)["y"], x)
    assert found.told
    assert first == "conv"


def test_an_elementwise_node_that_does_something_else_leaves_a_curve(graph: Graph, x: Array) -> None:
    subtracted = np.subtract(values(graph, x)["c"], constant(graph, "v"))
    wrong = np.multiply(np.maximum(subtracted, np.float32(0)), constant(graph, "s"))
    found, first = told(graph, wrong, x)
    assert not found.told  # which of them it is, only a build tells
    assert first != "conv"
    assert {graph.nodes[i].name for i in found.order} == {"conv", "add", "relu", "mul"}


def test_an_overflow_of_large_values_is_no_scatter(graph: Graph, x: Array) -> None:
    inner = values(graph, x)
    large = np.abs(inner["c"]) > np.quantile(np.abs(inner["c"]), 0.8, axis=(2, 3), keepdims=True)
    wrong = np.where(large, np.inf, inner["y"]).astype(np.float32)
    found, first = told(graph, wrong, x)
    assert first != "conv"
    assert not found.told
