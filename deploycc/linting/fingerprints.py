"""What makes two findings the same finding: a hash of rule, target and the graph around the node.

Names and numbers of nodes and tensors change with every export, values of weights with every training.
So a node is known by what it is and what stands around it: its operator, attributes, the dtypes and
shapes of its weights, the same of ``BEFORE`` nodes up every input, and of the ``AFTER`` nodes that read
it.  The depths are bounded so that a change far away leaves a finding what it was.

Nodes that cannot be told apart so are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from deploycc.lint_types import LintTarget
from deploycc.onnx_graph import all_nodes, dtype_name, subgraphs, tensor_type, used_names
from deploycc.types import Diagnostic

BEFORE = 3
"""How many nodes up a node's inputs are part of what it is."""
AFTER = 1
"""How many nodes down its outputs are; few, because a new reader is no change of the node."""

_DIGITS = 24


def with_fingerprints(
    findings: Iterable[Diagnostic], surroundings: Mapping[str, str], target: LintTarget
) -> tuple[Diagnostic, ...]:
    """The findings, each with its fingerprint; those of one rule about alike nodes differ by a count.

    What a finding says is not in it, since that may hold values; the target's version is not either.
    """
    seen: Counter[str] = Counter()
    told = []
    for finding in findings:
        about = surroundings.get(finding.node, finding.op)
        key = _digest(finding.code, finding.rule, target.family, target.unit, about)
        count = seen[key]
        seen[key] += 1
        told.append(replace(finding, fingerprint=_digest(key, str(count)) if count else key))
    return tuple(told)


def surroundings(judged: ModelProto, original: ModelProto) -> dict[str, str]:
    """The structural hash of every node by its name, in ``original`` where it is there."""
    return _Surroundings(judged.graph).all() | _Surroundings(original.graph).all()


class _Surroundings:
    """The structural hashes of a graph's nodes, those of its subgraphs included."""

    def __init__(self, graph: GraphProto) -> None:
        self._nodes = list(graph.node)
        self._producers = {name: node for node in self._nodes for name in node.output if name}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self._nodes:
            for name in used_names(node):
                self._consumers.setdefault(name, []).append(node)
        self._stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs: dict[str, ValueInfoProto] = {info.name: info for info in graph.input}
        self._outputs = {info.name for info in graph.output}
        self._up: dict[tuple[int, int], str] = {}
        self._alone: dict[int, str] = {}

    def all(self) -> dict[str, str]:
        """The hash of every node by its name."""
        found: dict[str, str] = {}
        for node in self._nodes:
            found[node.name] = _digest(self._before(node, BEFORE), *self._after(node, AFTER))
            for inner in subgraphs(node):
                within = _Surroundings(inner).all()
                found |= {name: _digest(found[node.name], text) for name, text in within.items()}
        return found

    def _before(self, node: NodeProto, depth: int) -> str:
        """What the node is, and what makes its inputs."""
        key = (id(node), depth)
        if key not in self._up:
            inputs = [self._input(name, depth) for name in node.input]
            self._up[key] = _digest(self._itself(node), *inputs)
        return self._up[key]

    def _input(self, name: str, depth: int) -> str:
        if not name:
            return "absent"
        weight = self._weight(name)
        if weight:
            return weight
        producer = self._producers.get(name)
        if producer is None:
            return _value(self._inputs[name]) if name in self._inputs else "outer"
        position = f"output {list(producer.output).index(name)}"
        return _digest(position, self._before(producer, depth - 1) if depth else "")

    def _weight(self, name: str) -> str:
        """Dtype and shape of a stored tensor, empty for one that is computed."""
        if name in self._stored:
            return _tensor(self._stored[name])
        producer = self._producers.get(name)
        if producer is None or producer.op_type != "Constant" or producer.domain:
            return ""
        return "; ".join(map(_constant, producer.attribute)) or "constant"

    def _after(self, node: NodeProto, depth: int) -> list[str]:
        """The nodes that read each output, in an order that does not depend on their names."""
        if not depth:
            return []
        told = []
        for name in node.output:
            readers = sorted(
                _digest(
                    self._itself(reader),
                    *(str(i) for i, read in enumerate(reader.input) if read == name),
                    *self._after(reader, depth - 1),
                )
                for reader in self._consumers.get(name, [])
            )
            told.append(_digest("output", str(name in self._outputs), *readers))
        return told

    def _itself(self, node: NodeProto) -> str:
        """The node without its surroundings: operator, attributes, weights."""
        if id(node) not in self._alone:
            weights = map(self._weight, node.input)
            told = sorted(f"{a.name}={_attribute(a)}" for a in node.attribute)
            self._alone[id(node)] = _digest(node.domain, node.op_type, *told, "inputs", *weights)
        return self._alone[id(node)]


def _attribute(attribute: AttributeProto) -> str:
    kind = AttributeProto
    match attribute.type:
        case kind.FLOAT:
            return repr(attribute.f)
        case kind.INT:
            return str(attribute.i)
        case kind.STRING:
            return attribute.s.hex()
        case kind.TENSOR:
            return _tensor(attribute.t)
        case kind.FLOATS:
            return repr(list(attribute.floats))
        case kind.INTS:
            return repr(list(attribute.ints))
        case kind.STRINGS:
            return " ".join(text.hex() for text in attribute.strings)
        case kind.GRAPH:
            return " ".join(node.op_type for node in all_nodes(attribute.g))
    return str(attribute.type)


def _constant(attribute: AttributeProto) -> str:
    """A ``Constant`` as the initializer it could be as well."""
    lengths = {"value_ints": len(attribute.ints), "value_floats": len(attribute.floats)}
    if attribute.type == AttributeProto.TENSOR:
        return _tensor(attribute.t)
    dtype = "int64" if "int" in attribute.name else "float32" if "float" in attribute.name else "string"
    shape = (lengths[attribute.name],) if attribute.name in lengths else ()
    return f"{dtype} {list(shape)}"


def _tensor(tensor: TensorProto) -> str:
    return f"{dtype_name(tensor.data_type)} {list(tensor.dims)}"


def _value(info: ValueInfoProto) -> str:
    """A graph input: its rank, since extents change with what it is exported for."""
    kind = tensor_type(info)
    if kind is None:
        return "input"
    return f"input {kind.dtype} {'?' if kind.shape is None else len(kind.shape)}"


def _digest(*parts: str) -> str:
    """Unambiguous: each part's length is in it."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()[:_DIGITS]
