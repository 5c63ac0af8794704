"""What is known of the values of a graph: element types, shapes, and of small ones the numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.shape_inference import InferenceError, infer_node_outputs

from deploycc.importing.flattening.evaluating import Evaluator, as_tensor
from deploycc.importing.flattening.values import malformed, too_large
from deploycc.onnx_graph import SHAPE_OF_INPUT, Array

MAX_KNOWN = 1 << 20
"""Elements of a value that is computed here; larger ones are left to the simplifier."""

MAX_BYTES = 512 << 20
"""All values computed here together: a loop that makes large constants trip after trip is stopped."""

_GROWING = frozenset("ConstantOfShape Expand Tile Range OneHot Pad EyeLike Resize Upsample".split())
"""Operators whose result can be far larger than their inputs: computed only where its size is known first."""


class Knowledge:
    """Stored tensors, types and values by the names of the flat graph."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.types: dict[str, TypeProto] = {}
        self.taken: set[str] = set()
        self._suffixes: dict[str, int] = {}
        self.stored: dict[str, TensorProto] = {}
        self._evaluator = Evaluator(opset)
        self._opsets = [helper.make_opsetid("", opset)]
        self._bytes = 0
        self._known: dict[str, Array] = {}
        self._interned: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def misfit(self, node: NodeProto, reason: str) -> None:
        """Called for a node that does not take the shapes it gets."""

    def store(self, tensor: TensorProto) -> None:
        """A weight, under its own name."""
        self.stored[tensor.name] = tensor
        self.taken.add(tensor.name)
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))

    def known(self, name: str) -> Array | None:
        """The value of a small stored or computed tensor, ``None`` for any other."""
        if name not in self._known and name in self.stored:
            tensor = self.stored[name]
            plain = tensor.data_type not in (TensorProto.STRING, TensorProto.UNDEFINED)
            if plain and int(np.prod(tensor.dims, dtype=np.int64)) <= MAX_KNOWN:
                self._known[name] = numpy_helper.to_array(tensor)
        return self._known.get(name)

    def constant(self, value: Array, hint: str) -> str:
        """The name of a stored tensor with this value; equal small ones share one."""
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes() if value.nbytes <= 4096 else b"")
        if value.nbytes <= 4096 and key in self._interned:
            return self._interned[key]
        name = self.fresh(hint)
        self._bytes += value.nbytes
        if self._bytes > MAX_BYTES:
            raise too_large("", 0, MAX_BYTES, "bytes of computed values")
        self.store(as_tensor(value, name))
        self._known[name] = value
        if value.nbytes <= 4096:
            self._interned[key] = name
        return name

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The static extents of a tensor; ``None`` where one or the rank is not known."""
        kind = self.types.get(name)
        if (
            kind is None
            or kind.WhichOneof("value") != "tensor_type"
            or not kind.tensor_type.HasField("shape")
        ):
            return None
        dims = kind.tensor_type.shape.dim
        if any(dim.WhichOneof("value") != "dim_value" or dim.dim_value < 0 for dim in dims):
            return None
        return tuple(dim.dim_value for dim in dims)

    def elem_type(self, name: str) -> int:
        """The ``TensorProto.DataType`` of a tensor, 0 where unknown."""
        kind = self.types.get(name)
        return kind.tensor_type.elem_type if kind is not None and kind.HasField("tensor_type") else 0

    def fresh(self, hint: str) -> str:
        """A name that no tensor and no node of the flat graph has."""
        name, suffix = hint, self._suffixes.get(hint, 1)
        while name in self.taken:
            suffix += 1
            name = f"{hint}_{suffix}"
        self._suffixes[hint] = suffix  # else the trips of a loop would be counted from 2 for each of them
        self.taken.add(name)
        return name

    def boolean(self, name: str) -> bool | None:
        """The value of a condition that is known."""
        value = self.known(name)
        return None if value is None or value.size != 1 else bool(value.reshape(-1)[0])

    def inferred(self, node: NodeProto) -> dict[str, TypeProto]:
        """The types of a node's outputs, empty where they do not follow."""
        if node.domain:
            return {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            types = {name: self.types[name] for name in node.input if name in self.types}
            if len(types) < len({name for name in node.input if name}):
                return {}
            data = {}
            for name in types:
                value = self.known(name)
                if value is not None and value.size <= 1024 and value.dtype.kind in "iuf":
                    data[name] = self.stored[name]
            found = infer_node_outputs(schema, node, types, data, opset_imports=self._opsets, ir_version=10)
        except InferenceError as error:
            self.misfit(node, str(error))
            return {}
        except onnx.checker.ValidationError as error:
            raise malformed(node, str(error)) from None
        except (onnx.defs.SchemaError, ValueError, RuntimeError):
            return {}
        if node.op_type in SHAPE_OF_INPUT:
            found = {**found, node.output[0]: types[node.input[0]]}
        return dict(found)

    def computed(self, node: NodeProto, types: Mapping[str, TypeProto]) -> list[Array] | None:
        """The values of a node's outputs, of the ``types`` inferred; ``None`` where they are not known."""
        if node.domain:
            return None
        if node.op_type in ("Shape", "Size"):
            shape = self.shape(node.input[0])
            if shape is None:
                return None
            if node.op_type == "Size":
                return [np.array(int(np.prod(shape, dtype=np.int64)), np.int64)]
            bounds = {a.name: a.i for a in node.attribute}
            return [np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], np.int64)]
        inputs = [self.known(name) if name else None for name in node.input]
        if any(name and value is None for name, value in zip(node.input, inputs, strict=True)):
            return None
        if not any(node.input):
            return None
        sizes = [_elements(types.get(name)) for name in node.output if name]
        if any(size is not None and size > MAX_KNOWN for size in sizes):
            return None
        if node.op_type in _GROWING and None in sizes:
            return None
        values = self._evaluator.run(node, inputs)
        if values is None or len(values) != len(sizes):
            return None
        found = iter(values)
        return [next(found) if name else np.empty(0) for name in node.output]


def _elements(kind: TypeProto | None) -> int | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if any(dim.WhichOneof("value") != "dim_value" for dim in dims):
        return None
    return int(np.prod([dim.dim_value for dim in dims], dtype=np.int64))
