"""Walks a graph in order and writes down the straight one: values known are computed, the rest is emitted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.shape_inference import InferenceError, infer_node_outputs

from deploycc.importing.flattening.evaluating import Evaluator, as_tensor
from deploycc.importing.flattening.values import (
    Refused,
    Scope,
    Unknown,
    Value,
    at_run_time,
    division_by_chance,
    does_not_fit,
    nested_too_deep,
    random_by_chance,
    too_large,
)
from deploycc.importing.functions import body_of, with_attributes
from deploycc.importing.opsets import COMMON_OPSET
from deploycc.onnx_graph import SHAPE_OF_INPUT, Array, constant_tensor, opset_of, subgraphs, used_names
from deploycc.op_support import converted_operators
from deploycc.types import Diagnostic

MAX_NODES = 10_000
"""Nodes that unrolling may add: each is a kernel to compile and a call to make, minutes at that number."""

MAX_STEPS = 300_000
"""Nodes of bodies looked at, those whose values are known included: a counting loop adds no node."""

MAX_DEPTH = 32
"""Bodies inside bodies; exporters nest three or four."""

MAX_KNOWN = 1 << 20
"""Elements of a value that is computed here; larger ones are left to the simplifier."""

RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Dropout".split()
)
"""Operators that give something else every time."""

_GROWING = frozenset("ConstantOfShape Expand Tile Range OneHot Pad EyeLike Resize Upsample".split())
"""Operators whose result can be far larger than their inputs: computed only where its size is known first."""

Operator = tuple[str, str]
"""Domain and name."""

Handler = Callable[["Walker", NodeProto, list[Value], Scope], list[Value]]


class Walker:
    """One graph being flattened.

    ``handlers`` are the operators that never reach the flat graph, by domain and name.  ``misfits`` are
    nodes that do not take the shapes they get, ``doubts`` those where only a run decides whether they run.
    """

    def __init__(self, model: ModelProto, handlers: Mapping[Operator, Handler]) -> None:
        graph = model.graph
        self.opset = opset_of(model)
        self.nodes: list[NodeProto] = []
        self.types: dict[str, TypeProto] = {info.name: info.type for info in graph.input}
        self.refused: list[Diagnostic] = []
        self.misfits: list[Diagnostic] = []
        self.doubts: list[Diagnostic] = []
        self.notes: list[Diagnostic] = []
        self._handlers = handlers
        self._functions = frozenset(converted_operators() - {"CastLike"})
        self._evaluator = Evaluator(self.opset)
        self._opsets = [helper.make_opsetid("", self.opset)]
        self._stored: dict[str, TensorProto] = {}
        self._known: dict[str, Array] = {}
        self._interned: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._made: dict[tuple[object, ...], list[str]] = {}
        self._renamed: dict[str, str] = {}
        self._guards: list[NodeProto] = []
        self._steps = 0
        self._added: Counter[str] = Counter()
        self._depth: list[str] = []
        self._taken = {info.name for info in graph.input} | {node.name for node in graph.node}
        self._taken |= {name for node in graph.node for name in node.output}
        for tensor in graph.initializer:
            self.store(tensor)

    # What is known of values

    def store(self, tensor: TensorProto) -> None:
        """A weight, under its own name."""
        self._stored[tensor.name] = tensor
        self._taken.add(tensor.name)
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))

    def known(self, name: str) -> Array | None:
        """The value of a small stored or computed tensor, ``None`` for any other."""
        if name not in self._known and name in self._stored:
            tensor = self._stored[name]
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
        name, suffix = hint, 1
        while name in self._taken:
            suffix += 1
            name = f"{hint}_{suffix}"
        self._taken.add(name)
        return name

    # Walking

    def walk_main(self, graph: GraphProto) -> list[tuple[ValueInfoProto, Value]]:
        """Every node of the main graph; what its outputs are.  Refused nodes are told in ``refused``."""
        scope = Scope("")
        for node in graph.node:
            try:
                self._step(node, scope)
            except Refused as refusal:
                self.refused.append(refusal.diagnostic)
                scope.names.update({name: Unknown() for name in node.output if name})
        return [(info, scope.look_up(info.name)) for info in graph.output]

    def inline(
        self,
        graph: GraphProto,
        scope: Scope,
        where: str,
        owner: NodeProto,
        given: Sequence[Value] = (),
    ) -> list[Value]:
        """The nodes of a body as part of the flat graph, named ``where/...``; what its outputs are."""
        inner = Scope(f"{scope.prefix}{where}/", outer=scope)
        inner.names.update(zip((info.name for info in graph.input), given, strict=False))
        for tensor in graph.initializer:
            value = TensorProto()
            value.CopyFrom(tensor)
            value.name = self.fresh(inner.prefix + tensor.name)
            self.store(value)
            inner.names[tensor.name] = value.name
        with self._inside(owner):
            for node in graph.node:
                self._step(node, inner)
        return [inner.look_up(info.name) for info in graph.output]

    def mark(self) -> tuple[int, dict[tuple[object, ...], list[str]]]:
        """Where the flat graph stands, for ``roll_back``."""
        return len(self.nodes), dict(self._made)

    def roll_back(self, mark: tuple[int, dict[tuple[object, ...], list[str]]]) -> None:
        """Take back every node that was emitted since ``mark``."""
        del self.nodes[mark[0] :]
        self._made = mark[1]

    @contextlib.contextmanager
    def guarded(self, owner: NodeProto) -> Iterator[None]:
        """What is emitted here runs though ``owner`` may have decided that it does not."""
        self._guards.append(owner)
        try:
            yield
        finally:
            self._guards.pop()

    @contextlib.contextmanager
    def _inside(self, owner: NodeProto) -> Iterator[None]:
        if len(self._depth) >= MAX_DEPTH:
            raise nested_too_deep(owner, MAX_DEPTH, self._depth)
        self._depth.append(f"{owner.op_type} '{owner.name}'")
        try:
            yield
        finally:
            self._depth.pop()

    def _count(self, node: NodeProto, added: int = 0) -> None:
        self._steps += 1
        if not self._depth:
            return
        self._added[self._depth[0]] += added
        total = sum(self._added.values())
        if total <= MAX_NODES and self._steps <= MAX_STEPS:
            return
        most, number = (self._added + Counter({self._depth[0]: 1})).most_common(1)[0]
        limit = (MAX_NODES, "nodes") if total > MAX_NODES else (MAX_STEPS, "steps")
        raise too_large(most, number, *limit)

    def one_more_trip(self, owner: NodeProto) -> None:
        """Counts a trip of a loop, however little is in it."""
        with self._inside(owner):
            self._count(owner)

    def _step(self, node: NodeProto, scope: Scope) -> None:
        inputs = [scope.look_up(name) if name else "" for name in node.input]
        if any(isinstance(value, Unknown) for value in inputs):
            outputs: Sequence[Value] = [Unknown()] * len(node.output)
        elif (node.domain, node.op_type) in self._handlers:
            self._count(node)
            first = len(self.nodes)
            outputs = self._handlers[node.domain, node.op_type](self, node, inputs, scope)
            if not scope.prefix:
                outputs = self._named(node.output, outputs, first)
        else:
            names = [value for value in inputs if isinstance(value, str)]
            if len(names) < len(inputs):
                raise at_run_time(
                    node,
                    f"operator {node.op_type} reads a sequence or an optional",
                    "a value that is no tensor",
                    "a tensor",
                    "take the tensors out of it first",
                )
            called = self._called(node, names, scope)
            outputs = [] if called is None else called
            if called is None:
                outputs = self.emit(node, names, scope.prefix, renamed=bool(scope.prefix), scope=scope)
        for name, value in zip(node.output, outputs, strict=False):
            if name:
                scope.names[name] = value

    def _named(self, names: Sequence[str], values: Sequence[Value], first: int) -> list[Value]:
        """The values, those that nodes from ``first`` on make under the model's own ``names``."""
        made = {name for node in self.nodes[first:] for name in node.output}
        outputs = list(values)
        for index, (name, value) in enumerate(zip(names, values, strict=False)):
            if not name or not isinstance(value, str) or value not in made:
                continue
            made.discard(value)
            for node in self.nodes[first:]:
                for side in (node.input, node.output):
                    for place, found in enumerate(side):
                        if found == value:
                            side[place] = name
            if value in self.types:
                self.types[name] = self.types[value]
            self._renamed[value] = name
            outputs = [name if other == value else other for other in outputs]
            outputs[index] = name
        return outputs

    def _called(self, node: NodeProto, inputs: list[str], scope: Scope) -> Sequence[Value] | None:
        """The body of a function operator without a converter; ``None`` where it has none.

        Bodies are written for a current opset: an older model's are left until it is lifted.
        """
        if node.domain or node.op_type in self._functions or self.opset < COMMON_OPSET:
            return None
        if inputs and all(self.known(name) is not None for name in inputs if name):
            return None
        pairs = zip(node.input, inputs, strict=True)
        types = {name: self.types[value] for name, value in pairs if value in self.types}
        body = body_of(node, self.opset, types)
        if body is None:
            return None
        self._count(node)
        inner = Scope(f"{scope.prefix}{node.name or node.op_type}/")
        inner.names.update(zip(body.input, [*inputs, *[""] * len(body.input)], strict=False))
        given = with_attributes(node, body, self.opset)
        main = not self._depth
        with self._inside(node) if not main else contextlib.nullcontext():
            for part in given:
                self._step(part, inner)
        return [inner.look_up(name) for name in body.output]

    def emit(
        self,
        node: NodeProto,
        inputs: Sequence[str],
        prefix: str,
        *,
        renamed: bool,
        scope: Scope | None = None,
    ) -> list[Value]:
        """One standard node into the flat graph, or its value where that is known.

        ``renamed`` nodes and their outputs get names of their own behind ``prefix``, and are not made
        twice: what does not change from one trip of a loop to the next is there once.  ``scope`` tells
        what the subgraphs of a node read that keeps them.
        """
        self._count(node)
        copied = NodeProto()
        copied.CopyFrom(node)
        del copied.input[:]
        copied.input.extend(inputs)
        random = node.op_type in RANDOM
        if node.op_type == "Constant" and not node.domain:
            value = constant_tensor(node)
            if value is not None:
                return [self.constant(value, prefix + node.output[0])]
        types = self._inferred(copied)
        key = (
            node.op_type,
            node.domain,
            tuple(inputs),
            b"".join(attribute.SerializeToString() for attribute in node.attribute),
            len(node.output),
        )
        if renamed and not random and key in self._made:
            return [self._renamed.get(name, name) for name in self._made[key]]
        values = None if random else self._computed(copied, types)
        if values is not None:
            return [
                self.constant(value, prefix + name) if name else ""
                for name, value in zip(node.output, values, strict=True)
            ]
        self._check_guarded(copied)
        if scope is not None and any(subgraphs(node)):
            self._keep_captured(node, scope)
        if renamed:
            copied.name = self.fresh(prefix + (node.name or node.op_type))
        outputs = ["" if not name else self.fresh(prefix + name) if renamed else name for name in node.output]
        for name, given in zip(outputs, node.output, strict=True):
            if given in types:
                self.types[name] = types[given]
        del copied.output[:]
        copied.output.extend(outputs)
        self.nodes.append(copied)
        self._count(node, 1)
        if not random:
            self._made.setdefault(key, outputs)
        return list(outputs)

    def _keep_captured(self, node: NodeProto, scope: Scope) -> None:
        """A node that keeps its subgraphs finds what they read under the names that they read."""
        for name in sorted(used_names(node) - set(node.input)):
            value = scope.look_up(name)
            if isinstance(value, str) and value != name:
                self.nodes.append(
                    helper.make_node("Identity", [value], [name], name=self.fresh(f"{name}/kept"))
                )
                scope.names[name] = name
                self.types[name] = self.types.get(value, TypeProto())

    def add(
        self, scope: Scope, like: NodeProto, op: str, *inputs: str, outputs: int = 1, **attrs: Any
    ) -> list[str]:
        """A standard node of ours, named after ``like``; the names of its outputs."""
        stem = f"{like.name}/{op.lower()}"
        names = [stem if outputs == 1 else f"{stem}_{index}" for index in range(outputs)]
        made = helper.make_node(op, list(inputs), names, name=f"{like.name}/{op}", **attrs)
        made.metadata_props.extend(like.metadata_props)
        values = self.emit(made, inputs, scope.prefix, renamed=True)
        return [value for value in values if isinstance(value, str)]

    def _inferred(self, node: NodeProto) -> dict[str, TypeProto]:
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
                    data[name] = self._stored[name]
            found = infer_node_outputs(schema, node, types, data, opset_imports=self._opsets, ir_version=10)
        except InferenceError as error:
            (self.doubts if self._guards else self.misfits).append(does_not_fit(node, str(error)))
            return {}
        except (onnx.defs.SchemaError, ValueError, RuntimeError):
            return {}
        if node.op_type in SHAPE_OF_INPUT:
            found = {**found, node.output[0]: types[node.input[0]]}
        return dict(found)

    def _computed(self, node: NodeProto, types: Mapping[str, TypeProto]) -> list[Array] | None:
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

    def _check_guarded(self, node: NodeProto) -> None:
        """Refuse what has an effect or may fail where it would not have run."""
        if not self._guards:
            return
        if node.op_type in RANDOM:
            raise random_by_chance(self._guards[-1], node)
        whole = node.op_type in ("Div", "Mod") and self._whole(node.input[0])
        if whole and self.known(node.input[1]) is None:
            raise division_by_chance(self._guards[-1], node)

    def _whole(self, name: str) -> bool:
        return self.elem_type(name) not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)

    def boolean(self, name: str) -> bool | None:
        """The value of a condition that is known."""
        value = self.known(name)
        return None if value is None or value.size != 1 else bool(value.reshape(-1)[0])

    def result(self, graph: GraphProto, outputs: Sequence[tuple[ValueInfoProto, Value]]) -> GraphProto:
        """The flat graph: ``outputs`` under their own names, and the weights that something reads."""
        made = GraphProto(name=graph.name)
        made.input.extend(graph.input)
        for info, value in outputs:
            if isinstance(value, str) and value != info.name:
                self.nodes.append(
                    helper.make_node(
                        "Identity", [value], [info.name], name=self.fresh(f"{info.name}/Identity")
                    )
                )
            if isinstance(value, str) and value in self.types:
                info.type.CopyFrom(self.types[value])
        made.output.extend(info for info, _ in outputs)
        made.node.extend(self.nodes)
        read = {name for node in self.nodes for name in used_names(node)}
        made.initializer.extend(tensor for name, tensor in self._stored.items() if name in read)
        return made


def _elements(kind: TypeProto | None) -> int | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if any(dim.WhichOneof("value") != "dim_value" for dim in dims):
        return None
    return int(np.prod([dim.dim_value for dim in dims], dtype=np.int64))
