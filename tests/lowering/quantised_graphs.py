"""Many quantised nodes in one ONNX model, compiled as one plan and compared bit by bit with ONNX Runtime."""

from __future__ import annotations

import os
import secrets
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference

from deploycc.onnx_graph import tensor_info
from deploycc.types import Model, Target
from tests.planning.harness import X86_64, run_plan
from tests.sweep.worker import compile_model

Array = np.ndarray[Any, Any]
SEED = int(os.environ.get("DEPLOYCC_TEST_SEED", secrets.randbelow(1 << 32)))


class Nodes:
    """Nodes with inputs, stored values and outputs of their own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.feeds: dict[str, Array] = {}

    def integers(self, dtype: str, *shape: int) -> Array:
        """Any numbers of the type."""
        bounds = np.iinfo(dtype)
        return self.rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)

    def scales(self, around: float, *shape: int) -> Array:
        """Up to a half above or below ``around``."""
        return np.asarray(self.rng.uniform(0.5 * around, 1.5 * around, shape), np.float32)

    def c(self, value: Any) -> str:
        """A stored value."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def x(self, value: Array) -> str:
        """An input."""
        name = f"x{len(self.inputs)}"
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, value.shape))
        self.feeds[name] = value
        return name

    def hidden(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """A node whose result only other nodes read."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], f"n{len(self.nodes)}", **attributes))
        return name

    def add(self, operator: str, inputs: list[str], *dtypes: str, **attributes: Any) -> None:
        """A node whose results of the types ``dtypes`` are outputs."""
        names = [f"y{len(self.outputs) + index}" for index in range(len(dtypes))]
        self.nodes.append(helper.make_node(operator, inputs, names, f"n{len(self.nodes)}", **attributes))
        for name, dtype in zip(names, dtypes, strict=True):
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            self.outputs.append(helper.make_tensor_value_info(name, kind, None))

    def proto(self, opset: int = 21) -> onnx.ModelProto:
        """The model, its shapes inferred."""
        return shape_inference.infer_shapes(self.bare(helper.make_opsetid("", opset)))

    def bare(self, *opsets: onnx.OperatorSetIdProto) -> onnx.ModelProto:
        """The model without the shapes of its results."""
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=list(opsets), ir_version=10)


def model_of(proto: onnx.ModelProto) -> Model:
    """``proto`` as importing would hand it on."""
    inputs, outputs = (tuple(map(tensor_info, side)) for side in (proto.graph.input, proto.graph.output))
    return Model(proto, inputs, outputs, proto.opset_import[0].version, "")


def onnxruntime_results(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What ONNX Runtime computes as a deployer runs it: with all its fusions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return [np.asarray(value) for value in session.run(None, feeds)]


def check(nodes: Nodes, target: Target = X86_64) -> None:
    """Every output is ONNX Runtime's, bit by bit."""
    proto = nodes.proto()
    wanted = onnxruntime_results(proto, nodes.feeds)
    got = run_plan(compile_model(model_of(proto), [""], target), list(nodes.feeds.values()), target)
    assert_equal(nodes, wanted, got)


def assert_equal(nodes: Nodes, wanted: list[Array], got: list[Array]) -> None:
    """Every output has the type and the bits that are wanted; all that have not are told."""
    producer = {name: node for node in nodes.nodes for name in node.output}
    wrong = [
        f"{producer[info.name].op_type} {info.name} {want.dtype}{list(want.shape)}, "
        f"got {have.dtype}{list(have.shape)}, {np.sum(want != have)} elements differ"
        for info, want, have in zip(nodes.outputs, wanted, got, strict=True)
        if want.dtype != have.dtype or not np.array_equal(want, have, equal_nan=want.dtype.kind == "f")
    ]
    assert not wrong, f"DEPLOYCC_TEST_SEED={SEED}: {wrong}"
