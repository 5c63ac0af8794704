"""Changing an ONNX graph in place: the one way the passes do it.

A pass replaces a node by others that produce the same output names, so nothing that reads
them has to change.  The editor keeps constants, types, producers and consumers up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import InferenceError

from deploycc.onnx_graph import (
    Array,
    TensorType,
    attributes,
    constant_tensor,
    dtype_name,
    infer_shapes,
    opset_of,
    tensor_type,
    used_names,
)


class Editor:
    """One model being changed.

    ``nodes`` is the main graph's node list in topological order.  Shapes come from the last
    shape inference; ``refresh`` runs it again.  ``budget`` is how many bytes of constants folding
    may still add.
    """

    def __init__(self, model: ModelProto, budget: int = 512 << 20) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.budget = budget
        self._taken: set[str] = set()
        self._arrays: dict[str, Array] = {}
        self.refresh()

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.model.graph

    @property
    def opset(self) -> int:
        """The default-domain opset."""
        return opset_of(self.model)

    def refresh(self) -> None:
        """Write the node list back, infer shapes anew and rebuild every look-up."""
        if hasattr(self, "nodes"):
            self.write_back()
        known = onnx.GraphProto(value_info=self.model.graph.value_info)
        del self.model.graph.value_info[:]
        try:
            self.model = infer_shapes(self.model)
        except InferenceError:
            # Of LinearAttention onnx wants outputs that nothing reads; what was known still holds.
            self.model.graph.value_info.extend(known.value_info)
        graph = self.model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._arrays = {name: array for name, array in self._arrays.items() if name in self.initializers}
        self.inputs = {info.name for info in graph.input}
        self.outputs = {info.name for info in graph.output}
        self.types: dict[str, TensorType] = {}
        for info in (*graph.value_info, *graph.output, *graph.input):
            kind = tensor_type(info)
            if kind is not None:
                self.types[info.name] = kind
        for tensor in graph.initializer:
            self.types[tensor.name] = TensorType(dtype_name(tensor.data_type), tuple(tensor.dims))
        self._index()

    def reindex(self) -> None:
        """Rebuild producers and consumers after inputs of nodes were set by hand."""
        self._index()

    def _index(self) -> None:
        self.producers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        self._taken |= set(self.inputs) | set(self.initializers)
        for node in self.nodes:
            self._taken.add(node.name)
            for name in node.output:
                if name:
                    self.producers[name] = node
                    self._taken.add(name)
            for name in used_names(node):
                self.consumers.setdefault(name, []).append(node)

    def adopt(self, model: ModelProto) -> None:
        """Go on with another form of the whole model; what was read of the old one is forgotten."""
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self._arrays = {}
        del self.nodes
        self.refresh()

    def write_back(self) -> ModelProto:
        """Put nodes and initializers into the model and return it."""
        graph = self.model.graph
        nodes = []
        for node in self.nodes:
            copy = NodeProto()
            copy.CopyFrom(node)
            nodes.append(copy)
        del graph.node[:]
        graph.node.extend(nodes)
        tensors = []
        for tensor in self.initializers.values():
            kept = TensorProto()
            kept.CopyFrom(tensor)
            tensors.append(kept)
        del graph.initializer[:]
        graph.initializer.extend(tensors)
        return self.model

    def constant(self, name: str) -> Array | None:
        """The value of an initializer or ``Constant``; ``None`` for what is computed at run time."""
        if name not in self._arrays:
            if name in self.initializers and self.initializers[name].data_type != TensorProto.STRING:
                self._arrays[name] = numpy_helper.to_array(self.initializers[name])
            elif name in self.producers:
                value = constant_tensor(self.producers[name])
                if value is None:
                    return None
                self._arrays[name] = value
            else:
                return None
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The static shape of a tensor, ``None`` where an extent or the rank is unknown."""
        kind = self.types.get(name)
        if kind is None or kind.shape is None:
            return None
        dims = tuple(dim for dim in kind.shape if dim is not None)
        return dims if len(dims) == len(kind.shape) else None

    def dtype(self, name: str) -> str:
        """The dtype name of a tensor, empty where unknown."""
        kind = self.types.get(name)
        return kind.dtype if kind else ""

    def fresh(self, hint: str) -> str:
        """A name no tensor or node has yet."""
        name, suffix = hint, 1
        while name in self._taken:
            suffix += 1
            name = f"{hint}_{suffix}"
        self._taken.add(name)
        return name

    def add_constant(self, hint: str, value: Array) -> str:
        """Store ``value`` as an initializer; its name."""
        name = self.fresh(hint)
        self.initializers[name] = numpy_helper.from_array(
            np.ascontiguousarray(value).reshape(value.shape), name
        )
        self._arrays[name] = value
        self.types[name] = TensorType(dtype_name(self.initializers[name].data_type), tuple(value.shape))
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        like: NodeProto,
        **attrs: Any,
    ) -> NodeProto:
        """A new standard node named after the node it stands in for."""
        made = helper.make_node(op, inputs, outputs, name=self.fresh(f"{like.name}/{op}"), **attrs)
        made.metadata_props.extend(like.metadata_props)
        return made

    def replace(self, old: NodeProto, new: Iterable[NodeProto]) -> None:
        """Put ``new`` (in order) where ``old`` was; together they must produce its outputs that are used."""
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = list(new)
        self._index()

    def remove(self, dead: Iterable[NodeProto]) -> None:
        """Take nodes out of the list."""
        gone = {id(node) for node in dead}
        self.nodes = [node for node in self.nodes if id(node) not in gone]
        self._index()

    def redirect(self, old: str, new: str) -> None:
        """Make every node in the main graph that reads ``old`` read ``new``."""
        for node in self.consumers.get(old, []):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
        self._index()

    def used(self, name: str) -> bool:
        """Whether a node reads the tensor or the graph returns it."""
        return bool(name) and (name in self.outputs or bool(self.consumers.get(name)))


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The Python value of an attribute, ``default`` where absent; strings are decoded."""
    found = attributes(node).get(name)
    if found is None:
        return default
    value = helper.get_attribute_value(found)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Set or replace an attribute."""
    drop_attribute(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def drop_attribute(node: NodeProto, name: str) -> None:
    """Remove an attribute if it is there."""
    for index, found in enumerate(node.attribute):
        if found.name == name:
            del node.attribute[index]
            return


class Rewrite:
    """Builds the nodes that take the place of one node, step by step."""

    def __init__(self, editor: Editor, node: NodeProto) -> None:
        self._editor = editor
        self._node = node
        self._steps: list[NodeProto] = []

    def add(self, op: str, *inputs: str, output: str = "", **attrs: Any) -> str:
        """One more node; the name of its output, which is fresh unless given."""
        name = output or self._editor.fresh(f"{self._node.name}/{op.lower()}")
        self._steps.append(self._editor.node(op, inputs, [name], like=self._node, **attrs))
        return name

    def constant(self, value: Any) -> str:
        """Store a constant; its name."""
        return self._editor.add_constant(f"{self._node.name}/constant", np.asarray(value))

    def split(self, source: str, sizes: str, count: int) -> list[str]:
        """``Split`` along the last axis into ``count`` parts of the constant ``sizes``; their names."""
        parts = [self._editor.fresh(f"{self._node.name}/part") for _ in range(count)]
        self._steps.append(self._editor.node("Split", [source, sizes], parts, like=self._node, axis=-1))
        return parts

    def number(self, value: float) -> str:
        """Store a scalar of the type of the node's first input; its name."""
        return self.constant(np.array(value, self._editor.dtype(self._node.input[0]) or "float32"))

    def reduce(
        self, op: str, source: str, axes: Sequence[int], *, keepdims: bool = True, output: str = ""
    ) -> str:
        """A reduction over constant axes: an input from opset 18 (``ReduceSum``: 13), an attribute before."""
        if self._editor.opset >= (13 if op == "ReduceSum" else 18):
            stored = self.constant(np.array(axes, np.int64))
            return self.add(op, source, stored, output=output, keepdims=int(keepdims))
        return self.add(op, source, output=output, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, source: str, axes: Sequence[int], output: str = "") -> str:
        """``Unsqueeze``; its axes are an input from opset 13 on."""
        if self._editor.opset >= 13:
            return self.add("Unsqueeze", source, self.constant(np.array(axes, np.int64)), output=output)
        return self.add("Unsqueeze", source, output=output, axes=list(axes))

    def reshape(self, source: str, shape: Sequence[int], output: str = "") -> str:
        """``Reshape`` to a constant shape."""
        return self.add("Reshape", source, self.constant(np.array(shape, np.int64)), output=output)

    def pad(
        self,
        source: str,
        widths: Sequence[int],
        value: float = 0.0,
        mode: str = "constant",
        output: str = "",
    ) -> str:
        """``Pad`` by ``widths`` (all in front, then all behind); they are an input from opset 11 on."""
        if self._editor.opset < 11:
            return self.add("Pad", source, output=output, mode=mode, pads=list(widths), value=float(value))
        inputs = [source, self.constant(np.array(widths, np.int64))]
        if mode == "constant" and value != 0.0:
            inputs.append(self.number(value))
        return self.add("Pad", *inputs, output=output, mode=mode)

    def slice(
        self,
        source: str,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int],
        steps: Sequence[int] = (),
        output: str = "",
    ) -> str:
        """``Slice`` with constant bounds.  Before opset 10, where there are no steps, they are attributes."""
        if self._editor.opset < 10:
            if any(step != 1 for step in steps):
                raise ValueError("Slice has no steps before opset 10")
            return self.add(
                "Slice", source, output=output, starts=list(starts), ends=list(ends), axes=list(axes)
            )
        rows = [starts, ends, axes, steps] if steps else [starts, ends, axes]
        stored = [self.constant(np.array(row, np.int64)) for row in rows]
        return self.add("Slice", source, *stored, output=output)

    def parts(self, source: str, sizes: Sequence[int], axis: int) -> list[str]:
        """``Split`` into parts of constant sizes (an input from opset 13 on); their names."""
        names = [self._editor.fresh(f"{self._node.name}/part") for _ in sizes]
        inputs, attrs = [source], dict[str, Any](axis=axis)
        if self._editor.opset >= 13:
            inputs.append(self.constant(np.array(sizes, np.int64)))
        else:
            attrs["split"] = list(sizes)
        self._steps.append(self._editor.node("Split", inputs, names, like=self._node, **attrs))
        return names

    def copy(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """The node itself, with other inputs and outputs."""
        again = NodeProto()
        again.CopyFrom(self._node)
        del again.input[:], again.output[:]
        again.input.extend(inputs)
        again.output.extend(outputs)
        self._steps.append(again)

    def done(self, result: str = "") -> None:
        """Put the steps where the node was; the last one makes ``result``, where that is given."""
        if result:
            self._steps[-1].output[0] = result
        self._editor.replace(self._node, self._steps)
