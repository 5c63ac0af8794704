"""What a chip or converter sets for every node: the ``[limits]`` of its support table.

``max_rank``, ``max_extent``, ``max_elements``: of any tensor that a node reads or writes.
``static_shapes``: every extent is known before the network runs.  ``batch``: the first extent of
tensors of rank 4 and more; ``any_batch_operators`` are free of it.  ``quantised``: the data is between
QuantizeLinear and DequantizeLinear.  ``per_channel_operators``: those that take a scale for each channel.
``dtypes``: the element types of the data, as the quantised program has them.  ``opsets``: the model's
opset, ``operator_versions``: the opset that brought this form of the operator, both as ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx
from onnx import NodeProto

from deploycc.linting.quantisation import quantised_dtype
from deploycc.onnx_graph import DEFAULT_DOMAINS, GraphView, TensorType, used_names
from deploycc.op_support import Limit, SupportTable, version_in

_CONVERTING = ("QuantizeLinear", "DequantizeLinear")
_INTEGERS = ("int", "uint")

NEEDS: dict[str, str] = {
    "opsets": "a model of opset {}",
    "operator_versions": "a form of opset {}",
    "static_shapes": "extents that are known before the network runs",
    "max_rank": "rank {} or lower",
    "max_extent": "extents of {} or less",
    "max_elements": "{} elements or fewer",
    "batch": "batch {}",
    "per_channel_operators": "one scale for the whole tensor; for each channel only in {}",
    "quantised": "data between QuantizeLinear and DequantizeLinear",
    "dtypes": "{}",
}
"""The limits of single nodes, in the order they are looked at, and what each asks for."""


def need(name: str, limit: Limit) -> str:
    """What a limit asks for, in words."""
    value = limit.value
    return NEEDS[name].format(", ".join(map(str, value)) if isinstance(value, list) else value)


def broken_limits(
    node: NodeProto, view: GraphView, table: SupportTable, unit: str, version: str = ""
) -> Iterator[tuple[str, str, Limit]]:
    """The limits that a node is beyond: name, what the node has, and the limit.

    A fact that is not known breaks none, but for an extent under ``static_shapes``.
    """
    for name in NEEDS:
        limit = table.limit(name, unit, version)
        if limit is None:
            continue
        if name == "batch":
            free = table.limit("any_batch_operators", unit, version)
            if free is not None and node.op_type in free.value:
                continue
        got = _CHECKS[name](node, view, limit)
        if got:
            yield name, got, limit
            if name == "quantised":
                # Its element type is then another one as well, for the same reason.
                return


def _tensors(node: NodeProto, view: GraphView) -> Iterator[tuple[str, TensorType]]:
    for name in (*sorted(used_names(node)), *node.output):
        kind = view.types.get(name)
        if name and kind is not None:
            yield name, kind


def _data(node: NodeProto, view: GraphView) -> str:
    """The name of the node's data: its first input that is computed, else its first; empty for none."""
    names = [name for name in node.input if name]
    return next((name for name in names if not view.is_constant(name)), names[0] if names else "")


def _data_type(node: NodeProto, view: GraphView) -> tuple[str, str]:
    """Element type and name of the data as the quantised program has them; empty where not known.

    Of a Conv and the Relu behind it, which stand between one DequantizeLinear and one QuantizeLinear,
    the Relu has its type from what it gives out.
    """
    name = _data(node, view)
    dtype = quantised_dtype(name, view)
    if not dtype.startswith(_INTEGERS) and name in view.producers and node.output:
        result = quantised_dtype(node.output[0], view)
        if result.startswith(_INTEGERS):
            return result, node.output[0]
    return dtype, name


def _opsets(_: NodeProto, view: GraphView, limit: Limit) -> str:
    return "" if version_in(str(view.opset), limit.value) else f"opset {view.opset}"


def since_version(node: NodeProto, view: GraphView) -> int:
    """The opset that brought this form of a standard operator; 0 for one that is none."""
    if node.domain not in DEFAULT_DOMAINS:
        return 0
    try:
        return int(onnx.defs.get_schema(node.op_type, max(view.opset, 1), "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _operator_versions(node: NodeProto, view: GraphView, limit: Limit) -> str:
    since = since_version(node, view)
    return "" if not since or version_in(str(since), limit.value) else f"the form of opset {since}"


def _static_shapes(node: NodeProto, view: GraphView, limit: Limit) -> str:
    if limit.value:
        for name, kind in _tensors(node, view):
            if kind.shape is None:
                return f"'{name}' of unknown rank"
            if None in kind.shape:
                return f"'{name}' of {_shown(kind.shape)}"
    return ""


def _max_rank(node: NodeProto, view: GraphView, limit: Limit) -> str:
    for name, kind in _tensors(node, view):
        if kind.shape is not None and len(kind.shape) > limit.value:
            return f"rank {len(kind.shape)} of '{name}'"
    return ""


def _max_extent(node: NodeProto, view: GraphView, limit: Limit) -> str:
    for name, kind in _tensors(node, view):
        if any(dim is not None and dim > limit.value for dim in kind.shape or ()):
            return f"'{name}' of {_shown(kind.shape or ())}"
    return ""


def _max_elements(node: NodeProto, view: GraphView, limit: Limit) -> str:
    for name, kind in _tensors(node, view):
        dims = [dim for dim in kind.shape or () if dim is not None]
        if kind.shape is not None and len(dims) == len(kind.shape) and math.prod(dims) > limit.value:
            return f"{math.prod(dims)} elements of '{name}'"
    return ""


def _batch(node: NodeProto, view: GraphView, limit: Limit) -> str:
    data = _data(node, view)
    if view.is_constant(data):
        return ""  # The first extent of weights is no batch.
    for name in (data, *node.output[:1]):
        kind = view.types.get(name)
        shape = kind.shape if kind is not None else None
        if shape is not None and len(shape) >= 4 and shape[0] not in (None, limit.value):
            return f"batch {shape[0]} of '{name}'"
    return ""


def _quantised(node: NodeProto, view: GraphView, limit: Limit) -> str:
    if not limit.value or node.op_type in _CONVERTING:
        return ""
    dtype, name = _data_type(node, view)
    return "" if not dtype or dtype.startswith(_INTEGERS) else f"{dtype} in '{name}'"


def _dtypes(node: NodeProto, view: GraphView, limit: Limit) -> str:
    if node.op_type in _CONVERTING:
        return ""
    dtype, name = _data_type(node, view)
    return "" if not dtype or dtype in limit.value else f"{dtype} in '{name}'"


def _per_channel(node: NodeProto, view: GraphView, limit: Limit) -> str:
    if node.op_type in limit.value or node.op_type in _CONVERTING:
        return ""
    for name in node.input:
        producer = view.producers.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            scale = view.types.get(producer.input[1])
            count = math.prod(dim or 1 for dim in scale.shape or ()) if scale is not None else 1
            if count > 1:
                return f"{count} scales of '{name}'"
    return ""


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


_CHECKS: dict[str, Callable[[NodeProto, GraphView, Limit], str]] = {
    "opsets": _opsets,
    "operator_versions": _operator_versions,
    "static_shapes": _static_shapes,
    "max_rank": _max_rank,
    "max_extent": _max_extent,
    "max_elements": _max_elements,
    "batch": _batch,
    "per_channel_operators": _per_channel,
    "quantised": _quantised,
    "dtypes": _dtypes,
}
