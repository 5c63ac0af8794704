"""How large a model may be, looked at before anything is done with it.

A model is untrusted input.  What is small in the file can be endless when it is written out (functions that
call functions that call functions), and what no machine can hold is said here and not found out by trying.
Nothing in this module takes longer than the file is long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from google.protobuf.message import Message
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from deploycc.onnx_graph import subgraphs
from deploycc.types import DeployccError, Diagnostic, Limits

DEEPEST = 24
"""Branches and bodies inside one another; protobuf reads about thirty."""

LONGEST_NAME = 4000
"""Bytes of a name in UTF-8: C compilers have to take string literals of 4,095 characters (C11 5.2.4.1)."""

HIGHEST_RANK = 32
"""Dimensions of a tensor; numpy takes 64, and no network has ten."""

MOST_VALUES = 1 << 24
"""Numbers or texts in one attribute; tensors are for more."""

_ELEMENT_BYTES: dict[int, int] = {
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64, TensorProto.COMPLEX64), 8),
    TensorProto.COMPLEX128: 16,
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 2),
    **dict.fromkeys((TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8), 1),
}
"""Bytes of an element; those that are not here count as four, which is what the widest of them has."""


Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


def check_size(proto: ModelProto, limits: Limits) -> None:
    """Refuse a model that is too large in any way that counting tells.

    Raises ``DeployccError``: DC161 too many nodes (of branches and bodies too, and with every call of the
    model's own functions written out), DC162 subgraphs nested too deeply, DC163 functions that call
    themselves, DC165 a name that is too long, DC167 one with a zero byte, DC168 an attribute of too many
    values.
    """
    faults = [*_depth(proto), *_long_names(proto), *_long_attributes(proto)]
    if not faults:
        faults = [*_count(proto, limits.nodes)]
    if faults:
        raise DeployccError(*faults)


def check_count(proto: ModelProto, limits: Limits) -> None:
    """Refuse (DC161) a model that inlining has made too large."""
    faults = [*_count(proto, limits.nodes)]
    if faults:
        raise DeployccError(*faults)


def check_tensors(proto: ModelProto, limits: Limits) -> None:
    """Refuse (DC164) tensors, of which inference knows, that no stage could hold; the largest is told."""
    fault = _largest(proto, limits.memory_bytes)
    if fault is not None:
        raise DeployccError(fault)


def _graphs_of(nodes: Iterator[NodeProto] | list[NodeProto]) -> Iterator[tuple[GraphProto, int]]:
    """Every graph inside these nodes with its depth, without recursion."""
    todo = [(graph, 1) for node in nodes for graph in subgraphs(node)]
    while todo:
        graph, depth = todo.pop()
        yield graph, depth
        todo += [(inner, depth + 1) for node in graph.node for inner in subgraphs(node)]


def _depth(proto: ModelProto) -> Iterator[Diagnostic]:
    for owner in (proto.graph, *proto.functions):
        deepest = max((depth for _, depth in _graphs_of(list(owner.node))), default=0)
        if deepest > DEEPEST:
            yield Diagnostic(
                "DC162",
                f"branches and bodies are nested {deepest} deep",
                got=f"{deepest} subgraphs inside one another, in {owner.name!r}",
                need=f"at most {DEEPEST}",
                help="export the model with its control flow resolved",
            )


def _nodes_of(owner: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    yield from owner.node
    for graph, _ in _graphs_of(list(owner.node)):
        yield from graph.node


def _count(proto: ModelProto, most: int) -> Iterator[Diagnostic]:
    bodies = {(body.domain, body.name, body.overload): body for body in proto.functions}
    counts: dict[Key, int] = {}
    # Post-order over the calls, without recursion: a function's count needs those of what it calls.
    for start in bodies:
        stack, path = [(start, False)], set[Key]()
        while stack:
            key, called = stack.pop()
            if called:
                path.discard(key)
                counts[key] = _written_out(bodies[key], counts)
            elif key in path:
                yield _recursive(key[0], key[1])
                return
            elif key not in counts:
                path.add(key)
                stack.append((key, True))
                calls = {_called(node) for node in _nodes_of(bodies[key])}
                stack += [(call, False) for call in sorted(calls & bodies.keys())]
    total = _written_out(proto.graph, counts)
    if total > most:
        inside = sum(1 for _ in _nodes_of(proto.graph))
        yield Diagnostic(
            "DC161",
            "the model has too many nodes",
            got=f"{total} nodes"
            + (f", {inside} before its functions are inlined" if inside != total else ""),
            need=f"at most {most}",
            help="of a model that you trust, from Python: deploycc.build(..., limits=Limits(nodes=...))",
        )


def _called(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _written_out(owner: GraphProto | FunctionProto, counts: dict[Key, int]) -> int:
    return sum(counts.get(_called(node), 1) for node in _nodes_of(owner))


def _recursive(domain: str, name: str) -> Diagnostic:
    return Diagnostic(
        "DC163",
        "a function of the model calls itself",
        op=name,
        got=f"function '{name}' of the domain '{domain}', directly or through others",
        need="functions without recursion",
        help="ONNX has none: the file is damaged or hostile",
    )


def _long_names(proto: ModelProto) -> Iterator[Diagnostic]:
    """The longest text that is a name; documentation and metadata may be of any length."""
    longest = max(_names(proto), key=lambda name: len(name.encode()), default="")
    cut = next((name for name in _names(proto) if "\0" in name), None)
    if cut is not None:
        yield Diagnostic(
            "DC167",
            "a name in the model has a zero byte in it",
            got=repr(cut)[:100],
            need="names without one: in C they would end there",
            help="rename it, or export the model again",
        )
    size = len(longest.encode())
    if size > LONGEST_NAME:
        yield Diagnostic(
            "DC165",
            "a name in the model is too long",
            got=f"{size} bytes: '{longest[:60]}...'",
            need=f"at most {LONGEST_NAME} bytes",
            help="rename it, or export the model again",
        )


def _names(message: Message) -> Iterator[str]:
    skipped = ("doc_string", "metadata_props", "external_data", "string_data", "s", "strings", "dim_param")
    for field, value in message.ListFields():
        if field.name in skipped or field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for item in value if field.is_repeated else [value]:
            if isinstance(item, str):
                yield item
            else:
                yield from _names(item)


def _long_attributes(proto: ModelProto) -> Iterator[Diagnostic]:
    for owner in (proto.graph, *proto.functions):
        for node in _nodes_of(owner):
            for attribute in node.attribute:
                count = max(len(attribute.ints), len(attribute.floats), len(attribute.strings))
                if count > MOST_VALUES:
                    yield Diagnostic(
                        "DC168",
                        f"the attribute '{attribute.name}' has too many values",
                        node=node.name,
                        op=node.op_type,
                        got=f"{count} values",
                        need=f"at most {MOST_VALUES}",
                        help="store them as a tensor",
                    )


def _largest(proto: ModelProto, most: int) -> Diagnostic | None:
    found: tuple[int, ValueInfoProto] | None = None
    for info in (*proto.graph.value_info, *proto.graph.output, *proto.graph.input):
        tensor = info.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim if dim.dim_value > 0]
        if len(shape) > HIGHEST_RANK:
            return _too_large(proto, info, f"{len(shape)} dimensions", f"at most {HIGHEST_RANK}")
        size = math.prod(shape) * _ELEMENT_BYTES.get(tensor.elem_type, 4)
        if size > most and (found is None or size > found[0]):
            found = (size, info)
    if found is None:
        return None
    dims = "x".join(str(dim.dim_value or "?") for dim in found[1].type.tensor_type.shape.dim)
    return _too_large(proto, found[1], f"{dims}, {found[0]} bytes", f"at most {most} bytes (--memory-mib)")


def _too_large(proto: ModelProto, info: ValueInfoProto, got: str, need: str) -> Diagnostic:
    producer = next((node for node in proto.graph.node if info.name in node.output), NodeProto())
    return Diagnostic(
        "DC164",
        f"the tensor '{info.name}' is too large",
        node=producer.name,
        op=producer.op_type,
        tensor=info.name,
        got=got,
        need=need,
        help="an extent may be far too large: check the shapes that the model is given",
    )
