"""Small graphs as exporters write them: the forms real networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from tests.sweep.case import Array, Case, random_inputs

Build = Callable[["Graph"], Any]
_GRAPHS: dict[str, tuple[Build, int]] = {}


class Graph:
    """The nodes, inputs and weights of one model while it is put together."""

    def __init__(self, opset: int = 18, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.values: dict[str, Array] = {}
        self.count = 0

    def name(self, hint: str) -> str:
        """A new name."""
        self.count += 1
        return f"{hint}_{self.count}"

    def input(self, *shape: int, dtype: str = "float32", values: Array | None = None) -> str:
        """A graph input; ``values`` are what it is run on, random ones by default."""
        name = self.name("in")
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if values is not None:
            self.values[name] = np.asarray(values, dtype)
        return name

    def w(self, *shape: int, dtype: str = "float32", scale: float = 0.3) -> str:
        """A weight of normal values."""
        return self.c(np.asarray(self.rng.standard_normal(shape) * scale).astype(dtype))

    def positive(self, *shape: int, dtype: str = "float32") -> str:
        """A weight of values from 0.5 to 1.5 (a variance or a scale)."""
        return self.c(self.rng.uniform(0.5, 1.5, shape).astype(dtype))

    def c(self, value: Any, dtype: str = "") -> str:
        """A constant; lists of integers are int64, floats float32."""
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            array = array.astype({"i": np.int64, "f": np.float32}.get(array.dtype.kind, array.dtype))
        name = self.name("c")
        self.weights.append(numpy_helper.from_array(array.astype(dtype) if dtype else array, name))
        return name

    def add(self, op: str, *inputs: str, results: int = 1, **attributes: Any) -> Any:
        """A node; the name of its result, or a list of them."""
        outputs = [self.name(op.lower()) for _ in range(results)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=self.name(f"/{op}"), **attributes))
        return outputs[0] if results == 1 else outputs

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if not op[:1].isupper():
            raise AttributeError(op)
        return lambda *inputs, **attributes: self.add(op, *inputs, **attributes)

    def conv(
        self, x: str, cin: int, cout: int, k: int | Sequence[int] = 3, group: int = 1, **attributes: Any
    ) -> str:
        """A convolution with bias; "same" padding at stride 1 unless ``pads`` says otherwise."""
        kernel = [k, k] if isinstance(k, int) else list(k)
        dilation = attributes.get("dilations", [1] * len(kernel))
        half = [d * (n - 1) // 2 for d, n in zip(dilation, kernel, strict=True)]
        attributes.setdefault("pads", half + half)
        if "auto_pad" in attributes:
            del attributes["pads"]
        weights = self.w(cout, cin // group, *kernel)
        return str(self.add("Conv", x, weights, self.w(cout), kernel_shape=kernel, group=group, **attributes))

    def bn(self, x: str, channels: int) -> str:
        """A batch normalisation in inference form."""
        return str(
            self.add(
                "BatchNormalization",
                x,
                self.positive(channels),
                self.w(channels),
                self.w(channels),
                self.positive(channels),
            )
        )

    def linear(self, x: str, inner: int, outer: int) -> str:
        """A matrix product and a bias, as torch exports ``nn.Linear`` on more than two dimensions."""
        return str(self.add("Add", self.add("MatMul", x, self.w(inner, outer)), self.w(outer)))

    def finish(self, results: Any, ir_version: int = 8) -> onnx.ModelProto:
        """The model that returns ``results`` (one name or several)."""
        names = [results] if isinstance(results, str) else list(results)
        graph = helper.make_graph(self.nodes, "graph", self.inputs, [], self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
        types = {v.name: v for v in (*inferred.value_info, *inferred.input)}
        for name in names:
            if name in types:
                proto.graph.output.append(types[name])
            else:
                tensor = next((t for t in self.weights if t.name == name), None)
                array = numpy_helper.to_array(tensor) if tensor else self._evaluate(proto, name)
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                proto.graph.output.append(helper.make_tensor_value_info(name, kind, array.shape))
        return proto

    def _evaluate(self, proto: onnx.ModelProto, name: str) -> Array:
        """The value of a tensor whose type onnx cannot infer."""
        cut = onnx.ModelProto()
        cut.CopyFrom(proto)
        del cut.graph.output[:]
        cut.graph.output.append(helper.make_empty_tensor_value_info(name))
        inputs = {**random_inputs(proto, 0, {}), **self.values}
        return np.asarray(ReferenceEvaluator(cut).run(None, inputs)[0])


def graph(build: Build | None = None, *, opset: int = 18, name: str = "") -> Any:
    """Register a function that fills a ``Graph`` and returns its result names."""

    def register(build: Build) -> Build:
        key = name or build.__name__
        assert key not in _GRAPHS, key
        _GRAPHS[key] = (build, opset)
        return build

    return register(build) if build else register


def graph_cases() -> list[Case]:
    """Every registered graph as a case."""
    from tests.sweep import graphs_forms, graphs_sequence, graphs_vision

    assert graphs_forms
    assert graphs_sequence
    assert graphs_vision
    cases = []
    for name, (build, opset) in _GRAPHS.items():
        made = Graph(opset)
        proto = made.finish(build(made), ir_version=8 if opset < 21 else 10)
        inputs = {**random_inputs(proto, 1, {}), **made.values}
        cases.append(Case(f"graph_{name}", proto, inputs))
    return cases
