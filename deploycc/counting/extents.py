"""Finds the tensors of a model whose extents depend on data, and how many rows they can have."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from deploycc.counting.node import Refused
from deploycc.counting.padding import with_numbers
from deploycc.counting.row_wise import follow
from deploycc.counting.sources import condition_of, counted_shapes, declared, is_source
from deploycc.onnx_graph import GraphView, all_nodes, tensor_info, used_names
from deploycc.types import Counts, DeployccError, Diagnostic, Extent, Model, Rows

MOST_ELEMENTS = 1 << 31
"""As many elements a tensor with the most rows may have, as an input may."""


def count_rows(model: Model) -> Model:
    """``model`` with its ``counts``, and outputs of the most rows followed by the numbers of rows.

    A model without such operators is given back as it is.

    Raises ``DeployccError`` with DC230 where ``model.max_counts`` names nothing that is counted.
    """
    graph = model.proto.graph
    sources = [node for node in graph.node if is_source(node)]
    _check_names(model, sources)
    if not any(is_source(node) for node in all_nodes(graph)):
        return model
    bounded, rows, faults = _bounded(model)
    rows, more = _followed(bounded, rows)
    counts = Counts(bounded, rows, (*faults, *more))
    outputs = tuple(tensor_info(info) for info in bounded.graph.output)
    return replace(model, counts=counts, outputs=with_numbers(outputs, rows))


def _check_names(model: Model, sources: list[NodeProto]) -> None:
    names = {name for node in sources for name in (node.name, *node.output) if name}
    faults = []
    for name, most in model.max_counts.items():
        if name not in names:
            faults.append(
                Diagnostic(
                    "DC230",
                    f"--max {name}: the model has nothing of that name whose size depends on data",
                    got=f"'{name}'",
                    need=f"one of {', '.join(repr(n) for n in sorted(names))}"
                    if names
                    else "an operator such as NonZero or NonMaxSuppression, which this model has not",
                    help="name the operator's result or the node, as 'deploycc lint' shows them",
                )
            )
        elif most < 1:
            faults.append(
                Diagnostic("DC230", f"--max {name}: no rows at all", got=str(most), need="1 or more")
            )
    if faults:
        raise DeployccError(*faults)


def _bounded(model: Model) -> tuple[ModelProto, dict[str, Rows], list[Diagnostic]]:
    """A copy with the most rows as extents, as far as they follow; what is counted at its source."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for info in proto.graph.output:
        if not _static(info):
            info.type.tensor_type.ClearField("shape")
    static = [info for info in proto.graph.value_info if _static(info)]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(static)
    rows: dict[str, Rows] = {}
    faults: list[Diagnostic] = []
    named: dict[tuple[object, ...], str] = {}
    sources = [node for node in proto.graph.node if is_source(node)]
    for node in sources:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        view = GraphView(proto)
        shapes = counted_shapes(node, view)
        if shapes is None:
            continue  # what its own inputs depend on is told where that begins
        same = [other for other in sources if condition_of(other, view) == condition_of(node, view)]
        limit = declared(same, model.max_counts)
        rows_at = shapes[0][1] or 0
        source = named.setdefault((condition_of(node, view), shapes[0][0][rows_at]), node.output[0])
        for place, (shape, axis) in shapes.items():
            if place >= len(node.output) or not node.output[place]:
                continue
            if axis is not None:
                cap = shape[axis] if limit is None else min(shape[axis], limit)
                shape = (*shape[:axis], cap, *shape[axis + 1 :])
                rows[node.output[place]] = Rows(axis, Extent(source, cap))
            if math.prod(shape) > MOST_ELEMENTS or 0 in shape:
                faults.append(_out_of_range(node, shape))
            _write_shape(proto, node, place, shape, view)
    return onnx.shape_inference.infer_shapes(proto, data_prop=True), rows, faults


def _out_of_range(node: NodeProto, shape: tuple[int, ...]) -> Diagnostic:
    return Diagnostic(
        "DC234",
        f"the most rows of {node.op_type} are {'none' if 0 in shape else 'too many'}",
        node=node.name,
        op=node.op_type,
        got="x".join(map(str, shape)),
        need=f"at least one row, at most {MOST_ELEMENTS} elements",
        help="give NonMaxSuppression a max_output_boxes_per_class above 0, its default, or cut the graph here"
        if 0 in shape
        else f"declare how many rows there can be: --max {node.output[0]}=N",
        verdict="unsupported",
    )


def _write_shape(
    proto: ModelProto, node: NodeProto, place: int, shape: tuple[int, ...], view: GraphView
) -> None:
    name = node.output[place]
    infos = {info.name: info for info in (*proto.graph.value_info, *proto.graph.output)}
    info = infos.get(name)
    if info is None:
        info = proto.graph.value_info.add(name=name)
    if not info.type.tensor_type.elem_type:
        counts = node.op_type in ("NonZero", "NonMaxSuppression") or place > 0
        first = view.types.get(node.input[0])
        kind = TensorProto.INT64 if counts or first is None else _elem_type(view, node.input[0])
        info.type.tensor_type.elem_type = kind
    info.type.tensor_type.shape.CopyFrom(
        helper.make_tensor_type_proto(info.type.tensor_type.elem_type, shape).tensor_type.shape
    )


def _elem_type(view: GraphView, name: str) -> int:
    for info in (*view.model.graph.value_info, *view.model.graph.input, *view.model.graph.output):
        if info.name == name:
            return int(info.type.tensor_type.elem_type)
    return int(view.initializers[name].data_type)


def _static(info: ValueInfoProto) -> bool:
    tensor = info.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _followed(bounded: ModelProto, given: dict[str, Rows]) -> tuple[dict[str, Rows], list[Diagnostic]]:
    """The rows of every tensor behind the sources, and the nodes that mix them."""
    view = GraphView(bounded)
    rows = dict(given)
    indices: set[str] = set()
    faults = []
    lost: set[str] = set()
    for node in bounded.graph.node:
        names = used_names(node)
        if names & lost:
            lost.update(node.output)  # one finding for a chain, at its beginning
            continue
        try:
            follow(node, view, rows, indices)
        except Refused as refused:
            lost.update(node.output)
            faults.append(refused.diagnostic)
    return rows, faults
