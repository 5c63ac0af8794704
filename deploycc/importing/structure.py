"""What must hold of a model's form before anything looks at what it computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import onnx
from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto

from deploycc.onnx_graph import (
    DEFAULT_DOMAINS,
    NEWEST_IR,
    NEWEST_OPSET,
    OLDEST_OPSET,
    all_nodes,
    checker_complaint,
    dtype_name,
    opset_of,
    used_names,
)
from deploycc.types import DeployccError, Diagnostic

TENSOR_DTYPES = frozenset(
    {
        "float16",
        "float32",
        "float64",
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    }
)
"""Element types a graph input or output may have: those with a plain C type in the header."""


AnyMessage = TypeVar("AnyMessage", bound=Message)

_OPSET_WITHOUT_STANDARD_OPERATORS = 18
"""The opset of a model that has no operator of it; functions of its domain may have some inside."""


def tidy(proto: ModelProto) -> list[Diagnostic]:
    """Put an odd but lawful form into the usual one, in place; returns what is worth telling.

    Weights leave the list of inputs, unused opset imports go, ``ai.onnx`` becomes the empty
    domain, training graphs and documentation strings are dropped, the IR version is brought
    into 8 to 13, nodes are put into topological order.  A model that has no standard operators, and
    names no version of them, gets one: lint then tells of its operators.
    """
    notes: list[Diagnostic] = []
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [info for info in graph.input if info.name not in weights]
    if len(inputs) < len(graph.input):
        kept = [copy_of(info) for info in inputs]
        del graph.input[:]
        graph.input.extend(kept)
    for node in all_nodes(graph):
        if node.domain in DEFAULT_DOMAINS:
            node.domain = ""
        if node.op_type == "STFT" and not node.domain and all(a.name != "onesided" for a in node.attribute):
            # onnx infers a shape as if the default were 0.
            node.attribute.append(onnx.helper.make_attribute("onesided", 1))
    keep_used_opsets(proto)
    if opset_of(proto) == 0 and all(node.domain for node in all_nodes(graph)) and graph.node:
        proto.opset_import.append(onnx.helper.make_opsetid("", _OPSET_WITHOUT_STANDARD_OPERATORS))
    if len(proto.training_info):
        del proto.training_info[:]
        notes.append(
            Diagnostic(
                "DC118",
                "the model's training graphs are left out",
                severity="info",
                verdict="info",
            )
        )
    notes += [
        _always_there(info)
        for info in graph.input
        if info.type.optional_type.elem_type.HasField("tensor_type")
    ]
    proto.ir_version = min(max(proto.ir_version, 8), NEWEST_IR)
    _sort(graph)
    return notes


def _always_there(info: ValueInfoProto) -> Diagnostic:
    """Make an optional tensor a tensor, in place; what is worth telling of that."""
    kind = TypeProto()
    kind.CopyFrom(info.type.optional_type.elem_type)
    info.type.CopyFrom(kind)
    return Diagnostic(
        "DC130",
        f"input '{info.name}' is optional in the model and always there in the package",
        got="an optional tensor",
        need="a dense tensor",
        help="for the case that it is left out build another package, of the model without that input",
        severity="info",
        verdict="info",
    )


def keep_used_opsets(proto: ModelProto) -> None:
    """Drop opset imports of domains no operator comes from, in place."""
    used = {node.domain for node in all_nodes(proto.graph)} | {
        function.domain for function in proto.functions
    }
    used |= {node.domain for function in proto.functions for node in function.node}
    used = {"" if domain in DEFAULT_DOMAINS else domain for domain in used} | {""}
    kept: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in DEFAULT_DOMAINS else entry.domain
        if domain in used:
            kept[domain] = max(kept.get(domain, 0), entry.version)
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in kept.items())


def _sort(graph: GraphProto) -> None:
    """Topological order that keeps the given order where it already is one; cycles are left."""
    produced = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    reads = [{produced[name] for name in used_names(node) if name in produced} for node in graph.node]
    if all(max(before, default=-1) < i for i, before in enumerate(reads)):
        return
    order: list[int] = []
    state = [0] * len(reads)
    for root in range(len(reads)):
        stack = [(root, iter(sorted(reads[root])))] if state[root] == 0 else []
        if stack:
            state[root] = 1
        while stack:
            at, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                state[at] = 2
                order.append(at)
                stack.pop()
            elif state[step] == 1:
                return
            elif state[step] == 0:
                state[step] = 1
                stack.append((step, iter(sorted(reads[step]))))
    nodes = [graph.node[i] for i in order]
    copies = [copy_of(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def copy_of(message: AnyMessage) -> AnyMessage:
    """A copy that outlives the list the message is in."""
    fresh: AnyMessage = type(message)()
    fresh.CopyFrom(message)
    return fresh


def check_structure(proto: ModelProto) -> None:
    """Refuse what is not a well-formed network of dense tensors, all findings at once.

    Raises ``DeployccError``: DC111 no nodes, DC112 duplicate names, DC113
    cycle, DC114 a tensor nothing produces, DC115 opset out of range, DC116 no opset, DC117
    no outputs, DC130 sequence/optional/sparse/map values, DC131 strings, DC300 element type.
    """
    graph = proto.graph
    faults = [
        *_opset_faults(proto),
        *_emptiness(graph),
        *_value_kinds(graph),
        *_duplicates(graph),
        *_split_counts(proto),
    ]
    faults += _undefined(graph)
    if not faults:
        faults += _cycle(graph)
    if faults:
        raise DeployccError(*faults)


def check_form(proto: ModelProto) -> None:
    """Refuse what the ONNX checker refuses.

    Raises ``DeployccError`` DC110 with the checker's first finding; it stops at that one.
    """
    reason = checker_complaint(proto)
    if reason:
        raise DeployccError(_checker_fault(reason))


def _checker_fault(text: str) -> Diagnostic:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else "no reason given"
    return Diagnostic(
        "DC110",
        "the model does not pass the ONNX checker",
        got=first[:500],
        need="a model that onnx.checker.check_model accepts",
        help="export it again with a current exporter, or mend the graph that made it",
    )


def _opset_faults(proto: ModelProto) -> Iterable[Diagnostic]:
    opset = opset_of(proto)
    if opset == 0:
        yield Diagnostic(
            "DC116",
            "the model names no version of the standard operators",
            got="no opset_import of the default domain",
            need=f"opset {OLDEST_OPSET} to {NEWEST_OPSET}",
        )
    elif not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        old = opset < OLDEST_OPSET
        yield Diagnostic(
            "DC115",
            f"opset {opset} is {'too old' if old else 'newer than this compiler knows'}",
            got=f"opset {opset}",
            need=f"opset {OLDEST_OPSET} to {NEWEST_OPSET}",
            help="export the model again with a current exporter"
            if old
            else f"export the model with opset {NEWEST_OPSET} or older",
        )


def _emptiness(graph: GraphProto) -> Iterable[Diagnostic]:
    if not graph.node:
        yield Diagnostic(
            "DC111",
            "the model has no nodes",
            got="an empty graph",
            need="a network that computes something",
        )
    if not graph.output:
        yield Diagnostic(
            "DC117",
            "the model has no outputs",
            got="a graph without outputs",
            need="at least one output",
        )


def _value_kinds(graph: GraphProto) -> Iterable[Diagnostic]:
    for where, infos in (("input", graph.input), ("output", graph.output)):
        for info in infos:
            kind = info.type.WhichOneof("value")
            if kind is None and where == "output":
                continue
            if kind != "tensor_type":
                yield Diagnostic(
                    "DC130",
                    f"{where} '{info.name}' is not a dense tensor",
                    got=_kind_name(info.type),
                    need="a dense tensor",
                    help="take it apart outside the network, or cut the graph before it",
                )
                continue
            elem_type = info.type.tensor_type.elem_type
            if elem_type == TensorProto.STRING:
                yield Diagnostic(
                    "DC131",
                    f"{where} '{info.name}' holds strings",
                    got="tensor(string)",
                    need="numbers or booleans",
                    help="do the text processing in the app and cut it off the graph",
                )
            elif elem_type == TensorProto.UNDEFINED and where == "output":
                continue
            elif dtype_name(elem_type) not in TENSOR_DTYPES:
                yield Diagnostic(
                    "DC300",
                    f"{where} '{info.name}' has an element type that C has no plain type for",
                    got=dtype_name(elem_type),
                    need=", ".join(sorted(TENSOR_DTYPES)),
                    help="put a Cast inside the graph and a plain type at its edge",
                )


def _split_counts(proto: ModelProto) -> Iterable[Diagnostic]:
    """A ``Split`` that counts other outputs than it has: onnx 1.23.2 aborts when it infers their shapes."""
    nodes = [*all_nodes(proto.graph), *(node for function in proto.functions for node in function.node)]
    for node in nodes:
        told = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
        if node.op_type == "Split" and not node.domain and told != len(node.output):
            yield Diagnostic(
                "DC110",
                "a Split counts other outputs than it has",
                node=node.name,
                op=node.op_type,
                got=f"num_outputs {told}, {len(node.output)} outputs",
                need="as many as it has",
                help="export it again with a current exporter, or mend the graph that made it",
            )


def _kind_name(type_proto: TypeProto) -> str:
    kind = type_proto.WhichOneof("value")
    return kind.removesuffix("_type").replace("_", " ") if kind else "no type at all"


def _duplicates(graph: GraphProto) -> Iterable[Diagnostic]:
    seen: dict[str, str] = {}
    for name, what in _definitions(graph):
        if not name:
            continue
        if name in seen:
            yield Diagnostic(
                "DC112",
                f"tensor '{name}' is defined twice",
                got=f"by {seen[name]} and by {what}",
                need="one definition a tensor",
            )
        else:
            seen[name] = what


def _definitions(graph: GraphProto) -> Iterable[tuple[str, str]]:
    for info in graph.input:
        yield info.name, "a graph input"
    for tensor in graph.initializer:
        yield tensor.name, "an initializer"
    for node in graph.node:
        for name in node.output:
            yield name, f"{node.op_type} '{node.name}'"


def _undefined(graph: GraphProto) -> Iterable[Diagnostic]:
    defined = {name for name, _ in _definitions(graph)} | {s.values.name for s in graph.sparse_initializer}
    for node in graph.node:
        for name in sorted(used_names(node) - defined):
            yield Diagnostic(
                "DC114",
                f"tensor '{name}' is read and never produced",
                node=node.name,
                op=node.op_type,
                got=f"input '{name}'",
                need="a graph input, an initializer or another node's output of that name",
            )
    for info in graph.output:
        if info.name not in defined:
            yield Diagnostic(
                "DC114",
                f"graph output '{info.name}' is never produced",
                got=f"output '{info.name}'",
                need="the output of a node",
            )


def _cycle(graph: GraphProto) -> Iterable[Diagnostic]:
    produced = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    stuck = [
        node
        for i, node in enumerate(graph.node)
        if any(produced.get(name, -1) >= i for name in used_names(node))
    ]
    for node in stuck[:1]:
        yield Diagnostic(
            "DC113",
            "the graph has a cycle",
            node=node.name,
            op=node.op_type,
            got=f"an output of this node is needed to compute '{', '.join(sorted(used_names(node)))}'",
            need="a graph without cycles",
            help="recurrence belongs into the app or into an unrolled graph",
        )


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own, in place: its own, else ``Op_index``; doubles get a suffix."""
    taken: set[str] = set()
    suffixes: dict[str, int] = {}
    for index, node in enumerate(all_nodes(graph)):
        base = node.name or f"{node.op_type}_{index}"
        name = base
        while name in taken:
            suffixes[base] = suffixes.get(base, 1) + 1
            name = f"{base}_{suffixes[base]}"
        taken.add(name)
        node.name = name
