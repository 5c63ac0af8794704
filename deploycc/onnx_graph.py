"""Reading an ONNX graph: constants, tensor types, producers, consumers, names.

Shared by the stages that still see ONNX (import, simplify, lint).  Nothing here changes a
model; the editing half is ``deploycc.onnx_editor``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    numpy_helper,
)

from deploycc.types import TensorInfo

NEWEST_OPSET = 28
"""The newest default-domain opset of onnx 1.23.2, the release this project is pinned to."""

OLDEST_OPSET = 7
"""Before opset 7 broadcasting was an attribute; nothing downstream reads it."""

NEWEST_IR = 13
"""The newest IR version ONNX Runtime 1.31.1 loads; onnx 1.23.2 writes 14 by default."""

DEFAULT_DOMAINS = ("", "ai.onnx")

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor: numpy-style dtype name, dims (``None`` is an unknown extent).

    ``shape`` is ``None`` where not even the rank is known.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def static(self) -> bool:
        """Whether every extent is known."""
        return self.shape is not None and all(dim is not None for dim in self.shape)


def dtype_name(elem_type: int) -> str:
    """The numpy-style name of a ``TensorProto.DataType``: ``float32``, ``bool``, ``float8e4m3fn``."""
    name = _DTYPE_NAMES.get(elem_type, f"unknown({elem_type})")
    return {"float": "float32", "double": "float64"}.get(name, name)


_DTYPE_NAMES: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}


def opset_of(model: ModelProto) -> int:
    """The default-domain opset the model imports, 0 where it imports none."""
    versions = [entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS]
    return max(versions, default=0)


def tensor_type(info: ValueInfoProto) -> TensorType | None:
    """The dense tensor type of a graph input, output or value; ``None`` for any other kind."""
    if info.type.WhichOneof("value") != "tensor_type":
        return None
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(dtype_name(tensor.elem_type), None)
    dims = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0 else None
        for dim in tensor.shape.dim
    )
    return TensorType(dtype_name(tensor.elem_type), dims)


def tensor_info(info: ValueInfoProto) -> TensorInfo:
    """A graph input or output as the other stages see it; an extent not known yet is -1."""
    kind = tensor_type(info)
    if kind is None or kind.shape is None:
        return TensorInfo(info.name, kind.dtype if kind else "", ())
    return TensorInfo(info.name, kind.dtype, tuple(-1 if dim is None else dim for dim in kind.shape))


def attributes(node: NodeProto) -> dict[str, AttributeProto]:
    """The node's attributes by name."""
    return {attribute.name: attribute for attribute in node.attribute}


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs a control-flow node carries as attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node of the graph and, depth first, of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def used_names(node: NodeProto) -> set[str]:
    """Every tensor name a node reads, those its subgraphs capture from outside among them."""
    names = {name for name in node.input if name}
    for inner in subgraphs(node):
        names |= captured_names(inner)
    return names


def captured_names(graph: GraphProto) -> set[str]:
    """The names a graph reads and does not define itself."""
    defined = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    read: set[str] = set()
    for node in graph.node:
        read |= used_names(node) - defined
        defined.update(node.output)
    return read | ({info.name for info in graph.output} - defined)


def constant_tensor(node: NodeProto) -> Array | None:
    """The value of a ``Constant`` node, ``None`` for a sparse or string one or another operator."""
    if node.op_type != "Constant" or node.domain not in DEFAULT_DOMAINS:
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            if attribute.t.data_type == TensorProto.STRING:
                return None
            return numpy_helper.to_array(attribute.t)
        if attribute.name == "value_float":
            return np.array(attribute.f, dtype=np.float32)
        if attribute.name == "value_floats":
            return np.array(list(attribute.floats), dtype=np.float32)
        if attribute.name == "value_int":
            return np.array(attribute.i, dtype=np.int64)
        if attribute.name == "value_ints":
            return np.array(list(attribute.ints), dtype=np.int64)
    return None


SHAPE_OF_INPUT = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators onnx 1.23.2 infers no shape for; their output has their first input's type."""


def infer_shapes(model: ModelProto, strict: bool = False) -> ModelProto:
    """A copy of the model with the types of all its tensors, as far as they follow from its inputs.

    Raises ``onnx.shape_inference.InferenceError`` where ``strict`` and something does not fit, or where a
    type makes no sense.
    """
    inferred = _inferred(model)
    while _fill_in(inferred):
        inferred = _inferred(inferred)
    if strict:
        # Again, because only now the readers of what was filled in have a type to check.
        inferred = _inferred(inferred, strict_mode=True)
    return inferred


def _inferred(model: ModelProto, *, strict_mode: bool = False) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=strict_mode, data_prop=True)
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        # The native code raises bare ones for what it did not expect, of types and of text that is none.
        raise onnx.shape_inference.InferenceError(str(error)) from None


def _fill_in(model: ModelProto) -> bool:
    """Give outputs of ``SHAPE_OF_INPUT`` their input's type, in place; whether one was new."""
    graph = model.graph
    wanted = [node for node in graph.node if node.op_type in SHAPE_OF_INPUT and not node.domain]
    if not wanted:
        return False
    infos = {info.name: info for info in (*graph.value_info, *graph.output, *graph.input)}
    filled = False
    for node in wanted:
        source = infos.get(node.input[0])
        kind = tensor_type(source) if source is not None else None
        target = infos.get(node.output[0])
        known = tensor_type(target) if target is not None else None
        if source is None or kind is None or not kind.static or (known is not None and known.static):
            continue
        info = target if target is not None else graph.value_info.add(name=node.output[0])
        info.type.CopyFrom(source.type)
        filled = True
    return filled


def checker_complaint(model: ModelProto) -> str:
    """What ``onnx.checker`` has against the model, empty for nothing.

    It wants a shape on every input and output; here one that is not known yet may be missing.
    """
    infos = (*model.graph.input, *model.graph.output)
    bare = [info for info in infos if is_bare(info)]
    for info in bare:
        info.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model, full_check=False)
    except onnx.checker.ValidationError as error:
        return str(error).strip() or "no reason given"
    finally:
        for info in bare:
            info.type.tensor_type.ClearField("shape")
    return ""


def is_bare(info: ValueInfoProto) -> bool:
    """Whether it is a tensor of which not even the rank is known."""
    return info.type.WhichOneof("value") == "tensor_type" and not info.type.tensor_type.HasField("shape")


class GraphView:
    """Look-ups over the main graph of a model.

    ``types`` holds what inference wrote into ``value_info`` beside the graph's own inputs,
    outputs and initializers; run shape inference first.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.opset = opset_of(model)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {info.name for info in graph.output}
        self.producers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        self._constants: dict[str, Array | None] = {}
        for node in graph.node:
            for name in node.output:
                if name:
                    self.producers[name] = node
            for name in used_names(node):
                self.consumers.setdefault(name, []).append(node)
        self.types: dict[str, TensorType] = {}
        for info in (*graph.value_info, *graph.output, *graph.input):
            kind = tensor_type(info)
            if kind is not None:
                self.types[info.name] = kind
        for tensor in graph.initializer:
            self.types[tensor.name] = TensorType(dtype_name(tensor.data_type), tuple(tensor.dims))

    def is_constant(self, name: str) -> bool:
        """Whether the tensor's value is stored in the model (initializer or ``Constant``)."""
        if name in self.initializers:
            return True
        producer = self.producers.get(name)
        return producer is not None and producer.op_type == "Constant"

    def constant(self, name: str) -> Array | None:
        """The stored value of a tensor, ``None`` where it is computed at run time."""
        if name not in self._constants:
            value: Array | None = None
            if name in self.initializers:
                if self.initializers[name].data_type != TensorProto.STRING:
                    value = numpy_helper.to_array(self.initializers[name])
            elif name in self.producers:
                value = constant_tensor(self.producers[name])
            self._constants[name] = value
        return self._constants[name]

    def used(self, name: str) -> bool:
        """Whether a node reads the tensor or the graph returns it."""
        return bool(name) and (name in self.consumers or name in self.outputs)
