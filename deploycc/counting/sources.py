"""The operators that count: how many rows they can put out, and where in their outputs those are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import NodeProto

from deploycc.onnx_graph import DEFAULT_DOMAINS, GraphView, attributes

SOURCES = ("Compress", "NonMaxSuppression", "NonZero", "Unique")


def is_source(node: NodeProto) -> bool:
    """Whether the sizes of its results depend on the data."""
    return node.op_type in SOURCES and node.domain in DEFAULT_DOMAINS


def axis_attribute(node: NodeProto, rank: int) -> int | None:
    """``axis``, counted from the front; ``None`` where it is left out."""
    given = attributes(node).get("axis")
    return None if given is None or not rank else given.i % rank


INVERSE = 2
"""The output of ``Unique`` that has as many rows as its input."""


def counted_shapes(node: NodeProto, view: GraphView) -> dict[int, tuple[tuple[int, ...], int | None]] | None:
    """Shape with the most rows of each output by its number, and the axis of rows that are counted.

    ``None`` while a shape that this depends on is not known.  Outputs that are left out are there too.
    """
    shapes = [_shape(view, name) for name in node.input]
    if not shapes or any(shape is None for shape, name in zip(shapes, node.input, strict=True) if name):
        return None
    data = shapes[0] or ()
    if node.op_type == "NonZero":
        return {0: ((max(len(data), 1), math.prod(data)), 1)}
    if node.op_type == "NonMaxSuppression":
        scores = shapes[1] if len(shapes) > 1 else None
        if scores is None or len(scores) != 3:
            return {0: ((0, 3), 0)}  # onnx infers the result's type without a look at these: there are none
        batches, classes, boxes = scores
        most = boxes
        limit = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if limit is not None:
            most = min(boxes, max(int(limit.reshape(-1)[0]), 0))
        elif len(node.input) < 3 or not node.input[2]:
            most = 0
        return {0: ((batches * classes * most, 3), 0)}
    axis = axis_attribute(node, len(data))
    extent = math.prod(data) if axis is None else data[axis]
    if node.op_type == "Compress":
        most = min(extent, math.prod(shapes[1] or (1,)))
        return {0: (_replaced(data, axis, most), axis or 0)}
    rows = {0: (_replaced(data, axis, extent), axis or 0)}
    return {**rows, **dict.fromkeys((1, 3), ((extent,), 0)), INVERSE: ((extent,), None)}


def declared(nodes: Sequence[NodeProto], most: Mapping[str, int]) -> int | None:
    """The most rows that the user wants of nodes that count the same."""
    names = [name for node in nodes for name in (node.name, *node.output)]
    return min((most[name] for name in names if name in most), default=None)


def condition_of(node: NodeProto, view: GraphView) -> str:
    """What decides which rows it selects: nodes with the same find equally many among equally many.

    The name of a vector for ``Compress`` and ``NonZero``, of its own result for others.
    """
    if node.op_type in ("Compress", "NonZero"):
        condition = node.input[1] if node.op_type == "Compress" else node.input[0]
        kind = view.types.get(condition)
        if kind is not None and kind.shape is not None and len(kind.shape) == 1:
            return str(condition)
    return str(node.output[0])


def _replaced(shape: tuple[int, ...], axis: int | None, extent: int) -> tuple[int, ...]:
    return (extent,) if axis is None else (*shape[:axis], extent, *shape[axis + 1 :])


def _shape(view: GraphView, name: str) -> tuple[int, ...] | None:
    kind = view.types.get(name)
    if kind is None or kind.shape is None or not kind.static:
        return None
    return tuple(dim for dim in kind.shape if dim is not None)
