"""What is stored in a model must be what it says it is: types, sizes, references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploycc.importing.limits import HIGHEST_RANK
from deploycc.onnx_graph import all_nodes, dtype_name, subgraphs
from deploycc.types import DeployccError, Diagnostic

_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
}
"""Element types of which several share a byte."""

_MOST_BYTES = 1 << 31


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in a message, however deep: of subgraphs, functions, lists, sparse ones, defaults."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                yield from tensors(item)


def check_stored(proto: ModelProto) -> None:
    """Refuse stored tensors that are not what they say, all of them at once, and stray references.

    Raises ``DeployccError``: DC110 an element type that ONNX does not have, DC164 a tensor that cannot be
    in a file, DC166 data of another size than its shape says, DC169 a node that reads a function's parameter
    outside of a function.
    """
    faults = [fault for owner, tensor in _owned(proto) if (fault := _fault(owner, tensor)) is not None]
    faults += _stray_references(proto.graph)
    if faults:
        raise DeployccError(*faults)


def _owned(proto: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Each tensor with the name it is told by."""
    for graph in (proto.graph, *_inner(proto.graph.node)):
        yield from _stored_in(graph)
    for function in proto.functions:
        for node in function.node:
            yield from _of_node(node)
        for attribute in function.attribute_proto:
            yield from ((tensor.name or function.name, tensor) for tensor in tensors(attribute))
        for graph in _inner(function.node):
            yield from _stored_in(graph)


def _inner(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for graph in subgraphs(node):
            yield graph
            yield from _inner(graph.node)


def _stored_in(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
        yield sparse.values.name, sparse.indices
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: NodeProto) -> Iterator[tuple[str, TensorProto]]:
    name = node.name or node.op_type
    for attribute in node.attribute:
        held = [attribute.t] if attribute.HasField("t") else []
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for part in (*sparse, *attribute.sparse_tensors):
            held += [part.values, part.indices]
        yield from ((name, tensor) for tensor in (*held, *attribute.tensors))


def _fault(owner: str, tensor: TensorProto) -> Diagnostic | None:
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        return Diagnostic(
            "DC110",
            f"the tensor '{owner}' has an element type that ONNX does not have",
            got=f"data_type {tensor.data_type}",
            need="one of TensorProto.DataType",
            help="the file is damaged or comes from a faulty exporter: export it again",
        )
    shape = "x".join(map(str, tensor.dims)) or "scalar"
    if tensor.HasField("segment"):
        return _told(owner, tensor, shape, "a segment of the data", "all of it")
    if min(tensor.dims, default=0) < 0 or len(tensor.dims) > HIGHEST_RANK:
        return _impossible(owner, shape, f"extents of 0 and more, at most {HIGHEST_RANK} of them")
    elements = math.prod(tensor.dims)
    if elements > _MOST_BYTES * 8:
        return _impossible(owner, shape, f"at most {_MOST_BYTES} bytes, which a model file can hold")
    return _wrong_size(owner, tensor, shape, elements)


def _wrong_size(owner: str, tensor: TensorProto, shape: str, elements: int) -> Diagnostic | None:
    if tensor.data_type == TensorProto.STRING:
        wanted, have, unit = elements, len(tensor.string_data), "texts"
    elif tensor.HasField("raw_data"):
        bits = _BITS.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        wanted, have, unit = -(-elements * bits // 8), len(tensor.raw_data), "bytes"
    else:
        field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
        try:
            numpy_helper.to_array(tensor)
        except (ValueError, OverflowError, TypeError):
            return _told(owner, tensor, shape, f"{len(field)} numbers", "as many as its shape has")
        return None
    if wanted == have:
        return None
    return _told(owner, tensor, shape, f"{have} {unit}", f"{wanted} {unit}")


def _told(owner: str, tensor: TensorProto, shape: str, got: str, need: str) -> Diagnostic:
    return Diagnostic(
        "DC166",
        f"the stored data of '{owner}' is not what its shape says",
        tensor=owner,
        got=f"{got} for {dtype_name(tensor.data_type)} {shape}",
        need=need,
        help="the file is damaged or comes from a faulty exporter: export it again",
    )


def _impossible(owner: str, shape: str, need: str) -> Diagnostic:
    return Diagnostic(
        "DC164",
        f"the stored tensor '{owner}' has an impossible shape",
        tensor=owner,
        got=shape,
        need=need,
        help="the file is damaged or comes from a faulty exporter: export it again",
    )


def _stray_references(graph: GraphProto) -> Iterator[Diagnostic]:
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                yield Diagnostic(
                    "DC169",
                    f"the attribute '{attribute.name}' refers to a parameter, and is in no function",
                    node=node.name,
                    op=node.op_type,
                    got=f"ref_attr_name '{attribute.ref_attr_name}'",
                    need="a value",
                    help="the file is damaged or comes from a faulty exporter: export it again",
                )
