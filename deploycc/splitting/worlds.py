"""A network seen twice: with the shapes it has, and with those that ``--shape`` promises.

How many boxes a detector finds is known when it runs.  Where the app promises a most, everything
behind can be computed for that many: one view of the network has the true, open shapes (``exact``), the
other has the most (``most``).  Parts with static shapes are cut from the second, the host's from the first.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from functools import cached_property

from onnx import ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, helper

from deploycc.element_types import ELEMENT_TYPES
from deploycc.onnx_graph import DEFAULT_DOMAINS, GraphView, TensorType, infer_shapes, tensor_type, used_names
from deploycc.splitting.parts import CutTensor, Row
from deploycc.types import DeployccError, Diagnostic

Shape = tuple[int, ...]

_SHAPE_ELEMENTS = 64
"""A constant of more elements than this is no shape."""
_SHAPE_READERS = ("Shape", "Size")
_DRAWN = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"})


class Worlds:
    """``proto`` is a folded model with static inputs and inferred types; ``promised`` are its open tensors.

    Raises ``DeployccError`` (DC784) for a promise about a tensor that is not there, or not of that shape.
    """

    def __init__(self, proto: ModelProto, promised: Mapping[str, Shape]) -> None:
        self.proto = _with_computed_outputs(proto)
        self.view = GraphView(self.proto)
        self.nodes: list[NodeProto] = list(self.proto.graph.node)
        self.producer = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.inputs = tuple(info.name for info in self.proto.graph.input)
        self.outputs = tuple(info.name for info in self.proto.graph.output)
        self.exact = self.view.types
        self.infos: dict[str, ValueInfoProto] = {
            info.name: info
            for info in (*self.proto.graph.value_info, *self.proto.graph.output, *self.proto.graph.input)
        }
        self.promised = self._checked(promised)
        self.stand_ins = self._stand_ins()
        self.bounded_model = self._bounded(self.proto, self.promised)
        self.most = self._types_of(self.bounded_model)

    def learn(self, folded: ModelProto) -> None:
        """Take static types from a folded form of ``bounded_model``: folding knows more than inference."""
        for name, kind in self._types_of(folded).items():
            if kind.static and name in self.most and not self.most[name].static:
                self.most[name] = kind

    def static(self, name: str) -> bool:
        """Whether the tensor has a known type and, with what was promised, a known shape."""
        kind = self.most.get(name)
        return kind is not None and kind.static and bool(kind.dtype)

    @cached_property
    def free(self) -> frozenset[int]:
        """Nodes whose results follow from shapes and constants alone: every part computes them anew."""
        found: set[int] = set()
        for index, node in enumerate(self.nodes):
            if node.op_type == "Constant":
                found.add(index)
                continue
            if any(name in self.outputs for name in node.output) or node.op_type in _DRAWN:
                continue
            of_shape = node.op_type in _SHAPE_READERS and node.domain in DEFAULT_DOMAINS
            if (of_shape and self.static(node.input[0])) or (
                used_names(node) and all(self._known(name, found) for name in used_names(node))
            ):
                found.add(index)
        return frozenset(found)

    def _known(self, name: str, free: set[int]) -> bool:
        return name in self.view.initializers or self.producer.get(name, -1) in free

    def reads(self, index: int, *, static: bool) -> set[str]:
        """The computed tensors a node reads, through free nodes in front of it as well.

        With ``static`` shapes what only a shape is taken of is not read.
        """
        found: set[str] = set()
        for name in used_names(self.nodes[index]):
            made_by = self.producer.get(name, -1)
            if name in self.view.initializers:
                continue
            if made_by not in self.free:
                found.add(name)
            elif self.shape_value(made_by, static=static) is None:
                found |= self.reads(made_by, static=static)
        return found

    def shape_value(self, index: int, *, static: bool) -> list[int] | int | None:
        """What a ``Shape`` or ``Size`` gives where that is known; ``None`` for everything else."""
        node = self.nodes[index]
        if node.op_type not in _SHAPE_READERS or node.domain not in DEFAULT_DOMAINS:
            return None
        kind = (self.most if static else self.exact).get(node.input[0])
        if kind is None or kind.shape is None or not kind.static:
            return None
        shape = [int(dim or 0) for dim in kind.shape]
        if node.op_type == "Size":
            return math.prod(shape)
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return shape[bounds.get("start", 0) : bounds.get("end", len(shape))]

    def tensor(self, name: str) -> CutTensor:
        """The tensor as the pipeline hands it from part to part.

        Raises ``DeployccError`` (DC781) where it is no plain tensor, or its type or rank is not known.
        """
        exact, most = self.exact.get(name), self.most.get(name)
        if exact is None or exact.dtype not in ELEMENT_TYPES:
            raise DeployccError(
                Diagnostic(
                    "DC781",
                    f"the tensor '{name}' would cross between parts and cannot",
                    node=self.nodes[self.producer[name]].name if name in self.producer else "",
                    tensor=name,
                    got=exact.dtype if exact is not None else "no plain tensor, or of unknown type",
                    need=f"a dense tensor of {', '.join(ELEMENT_TYPES)}",
                    help="cut the model by hand around the nodes that make and read it",
                )
            )
        known = most if most is not None and most.shape is not None else exact
        if known.shape is None:
            return CutTensor(name, exact.dtype, (-1,), (0,), ranked=False)
        open_axes = tuple(
            axis
            for axis in range(len(known.shape))
            if exact.shape is None or exact.shape[axis] is None or known.shape[axis] is None
        )
        shape = tuple(-1 if dim is None else dim for dim in known.shape)
        rows = {axis: self._rows(name, axis) for axis in open_axes} if -1 not in shape else None
        return CutTensor(name, exact.dtype, shape, open_axes, rows)

    def _rows(self, name: str, axis: int) -> tuple[Row, ...]:
        """What the extent follows from: the promised extents with which it grows."""
        if name in self.promised:
            return (Row(name, axis, 1, self.promised[name][axis]),)
        found = []
        for (tensor, other), types in self._grown.items():
            kind, most = types.get(name), self.most[name]
            if kind is None or kind.shape is None or most.shape is None:
                continue
            grown, before = kind.shape[axis], most.shape[axis]
            if grown is not None and before is not None and grown != before:
                found.append(Row(tensor, other, grown - before, self.promised[tensor][other]))
        return tuple(found)

    @cached_property
    def _grown(self) -> dict[tuple[str, int], dict[str, TensorType]]:
        """For every open axis of a promised tensor the types when it has one element more there."""
        found = {}
        for name, shape in self.promised.items():
            exact = self.exact[name].shape
            for axis, extent in enumerate(shape):
                if exact is None or exact[axis] is None:
                    longer = {**self.promised, name: (*shape[:axis], extent + 1, *shape[axis + 1 :])}
                    found[name, axis] = self._types_of(self._bounded(self.without_weights, longer))
        return found

    def _checked(self, promised: Mapping[str, Shape]) -> dict[str, Shape]:
        faults, kept = [], {}
        for name, shape in promised.items():
            exact = self.exact.get(name) if name in self.producer else None
            text = "x".join(map(str, shape))
            if exact is None:
                names = [n for n in self.producer if n in self.exact and not self.exact[n].static]
                near = difflib.get_close_matches(name, names, n=1)
                listed = ", ".join(repr(n) for n in names[:8])
                faults.append(
                    Diagnostic(
                        "DC784",
                        f"--shape {name}: neither an input nor a tensor of the network has that name",
                        got=f"'{name}'",
                        need=f"one whose shape is open: {listed}" if names else "no tensor's shape is open",
                        help=f"did you mean '{near[0]}'?" if near else "",
                    )
                )
                continue
            known = exact.shape
            fits = known is None or (
                len(known) == len(shape)
                and all(dim in (None, extent) for dim, extent in zip(known, shape, strict=True))
            )
            if not fits or any(extent < 1 for extent in shape):
                shown = "x".join("?" if dim is None else str(dim) for dim in known or ())
                faults.append(
                    Diagnostic(
                        "DC784",
                        f"--shape {name}: the tensor has another shape",
                        got=text,
                        need=shown,
                        tensor=name,
                        help="give the most there can be where the shape has a ?",
                    )
                )
            elif not exact.static:
                kept[name] = shape
        if faults:
            raise DeployccError(*faults)
        return kept

    def _stand_ins(self) -> dict[str, str]:
        taken = {*self.producer, *self.inputs, *self.view.initializers}
        found = {}
        for name in self.promised:
            stand_in = f"{name}/most"
            while stand_in in taken:
                stand_in += "_"
            taken.add(stand_in)
            found[name] = stand_in
        return found

    @cached_property
    def without_weights(self) -> ModelProto:
        """The network with large weights as inputs: enough to infer shapes, and quickly copied."""
        result = ModelProto()
        graph = self.proto.graph
        result.CopyFrom(ModelProto(ir_version=self.proto.ir_version, opset_import=self.proto.opset_import))
        result.graph.name = graph.name
        for field in ("node", "input", "output", "value_info"):
            getattr(result.graph, field).extend(getattr(graph, field))
        for tensor in graph.initializer:
            if math.prod(tensor.dims) <= _SHAPE_ELEMENTS:
                result.graph.initializer.add().CopyFrom(tensor)
            else:
                result.graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                )
        return result

    def _bounded(self, proto: ModelProto, promised: Mapping[str, Shape]) -> ModelProto:
        """The network whose nodes read promised tensors as graph inputs of that shape."""
        if not promised:
            return proto
        result = ModelProto()
        result.CopyFrom(proto)
        for node in result.graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = self.stand_ins.get(name, name)
        del result.graph.value_info[:]
        for info in result.graph.output:
            if tensor_type(info) is not None:
                info.type.tensor_type.ClearField("shape")
        for name, shape in promised.items():
            kind = TensorType(self.exact[name].dtype, shape)
            result.graph.input.append(with_shape(self.infos[name], self.stand_ins[name], kind))
            if name not in self.outputs:
                result.graph.output.add().CopyFrom(self.infos[name])
        return infer_shapes(result)

    def _types_of(self, proto: ModelProto) -> dict[str, TensorType]:
        """The types in a bounded model, under the names that the tensors have in the network."""
        types = GraphView(proto).types
        stood_for = {stand_in: name for name, stand_in in self.stand_ins.items()}
        found = {name: kind for name, kind in types.items() if name not in self.stand_ins}
        found.update((stood_for[name], kind) for name, kind in types.items() if name in stood_for)
        return found


def with_shape(info: ValueInfoProto, name: str, kind: TensorType) -> ValueInfoProto:
    """A copy of ``info`` called ``name`` with the shape of ``kind``."""
    copy = ValueInfoProto()
    copy.CopyFrom(info)
    copy.name = name
    if kind.shape is not None and kind.static:
        dims = [TensorShapeProto.Dimension(dim_value=int(dim or 0)) for dim in kind.shape]
        copy.type.tensor_type.shape.CopyFrom(TensorShapeProto(dim=dims))
    return copy


def _with_computed_outputs(proto: ModelProto) -> ModelProto:
    """A copy in which a node makes every output that was a constant: parts return what they compute."""
    result = ModelProto()
    result.CopyFrom(proto)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    taken = {name for node in result.graph.node for name in (node.name, *node.input, *node.output)}
    for info in result.graph.output:
        tensor = constants.get(info.name)
        if tensor is None:
            continue
        fresh = f"{info.name}/value"
        while fresh in taken or fresh in constants:
            fresh += "_"
        taken.add(fresh)
        for node in result.graph.node:
            for position, name in enumerate(node.input):
                if name == info.name:
                    node.input[position] = fresh
        tensor.name = fresh
        result.graph.node.append(helper.make_node("Identity", [fresh], [info.name], name=fresh))
    return result
