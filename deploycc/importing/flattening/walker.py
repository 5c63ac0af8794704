"""Walks a graph in order and writes down the straight one: values known are computed, the rest is emitted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
)

from deploycc.importing.flattening.knowledge import Knowledge
from deploycc.importing.flattening.values import (
    Refused,
    Scope,
    Unknown,
    Value,
    at_run_time,
    division_by_chance,
    does_not_fit,
    malformed,
    nested_too_deep,
    random_by_chance,
    too_large,
)
from deploycc.importing.functions import body_of, with_attributes
from deploycc.importing.opsets import COMMON_OPSET
from deploycc.onnx_graph import constant_tensor, opset_of, subgraphs, used_names
from deploycc.op_support import converted_operators
from deploycc.types import Diagnostic

MAX_NODES = 10_000
"""Nodes that unrolling may add: each is a kernel to compile and a call to make, minutes at that number."""

MAX_STEPS = 60_000
"""Nodes of bodies looked at, those whose values are known included: a counting loop adds no node."""

MAX_DEPTH = 32
"""Bodies inside bodies; exporters nest three or four."""

RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Dropout".split()
)
"""Operators that give something else every time."""

Operator = tuple[str, str]
"""Domain and name."""

Handler = Callable[["Walker", NodeProto, list[Value], Scope], list[Value]]


class Walker(Knowledge):
    """One graph being flattened.

    ``handlers`` are the operators that never reach the flat graph, by domain and name.  ``misfits`` are
    nodes that do not take the shapes they get, ``doubts`` those where only a run decides whether they run.
    """

    def __init__(self, model: ModelProto, handlers: Mapping[Operator, Handler]) -> None:
        graph = model.graph
        super().__init__(opset_of(model))
        self.types.update((info.name, info.type) for info in graph.input)
        self.nodes: list[NodeProto] = []
        self.refused: list[Diagnostic] = []
        self.misfits: list[Diagnostic] = []
        self.doubts: list[Diagnostic] = []
        self.notes: list[Diagnostic] = []
        self._handlers = handlers
        self._functions = frozenset(converted_operators() - {"CastLike"})
        self._made: dict[tuple[object, ...], list[str]] = {}
        self._renamed: dict[str, str] = {}
        self._guards: list[NodeProto] = []
        self._steps = 0
        self._added: Counter[str] = Counter()
        self._depth: list[str] = []
        self.taken |= {info.name for info in graph.input} | {node.name for node in graph.node}
        self.taken |= {name for node in graph.node for name in node.output}
        for tensor in graph.initializer:
            self.store(tensor)

    def misfit(self, node: NodeProto, reason: str) -> None:
        """Note a node that does not take the shapes it gets."""
        (self.doubts if self._guards else self.misfits).append(does_not_fit(node, reason))

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

    def check_length(self, owner: NodeProto, length: int) -> None:
        """Refuse as many parts as there may be nodes, before anything is made of them."""
        if length > MAX_NODES:
            raise too_large(f"{owner.op_type} '{owner.name}'", length, MAX_NODES, "nodes")

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
            try:
                outputs = self._handlers[node.domain, node.op_type](self, node, inputs, scope)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                # The checker looks at a node and at its body, and not at whether they fit together.
                raise malformed(node, f"{type(error).__name__}: {error}") from None
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
        types = self.inferred(copied)
        key = (
            node.op_type,
            node.domain,
            tuple(inputs),
            b"".join(attribute.SerializeToString() for attribute in node.attribute),
            len(node.output),
        )
        if renamed and not random and key in self._made:
            return [self._renamed.get(name, name) for name in self._made[key]]
        values = None if random else self.computed(copied, types)
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
        made.initializer.extend(tensor for name, tensor in self.stored.items() if name in read)
        return made
