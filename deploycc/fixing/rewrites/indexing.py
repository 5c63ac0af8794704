"""Indexed reads and writes as slices, comparisons and reductions."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.fixing.record import Fix
from deploycc.graph_rewrites.forms import hot_where_equal
from deploycc.onnx_editor import Editor, Rewrite, attribute


def scatter_nd(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but stored indices of a box, in order, that leaves one axis of the data partly unwritten.

    Also reductions, unknown shapes and opsets before 10.
    """
    indices, shape = editor.constant(node.input[1]), editor.shape(node.input[0])
    if indices is None or shape is None or editor.opset < 10 or not indices.size:
        return False
    if attribute(node, "reduction", "none") != "none":
        return False
    depth = indices.shape[-1]
    rows = indices.reshape(-1, depth).astype(np.int64)
    extents = np.array(shape[:depth])
    rows = np.where(rows < 0, rows + extents, rows)
    begin, end = rows.min(axis=0), rows.max(axis=0) + 1
    box = np.stack(np.meshgrid(*map(np.arange, begin, end), indexing="ij"), axis=-1).reshape(-1, depth)
    if box.shape != rows.shape or not np.array_equal(box, rows) or begin.min() < 0 or (end > extents).any():
        return False
    partly = [axis for axis in range(depth) if begin[axis] > 0 or end[axis] < shape[axis]]
    if len(partly) > 1:
        return False
    new = Rewrite(editor, node)
    target = [int(b - a) for a, b in zip(begin, end, strict=True)] + list(shape[depth:])
    if not partly:
        new.reshape(node.input[2], target, output=node.output[0])
        new.done()
        return True
    axis = partly[0]
    low, high = int(begin[axis]), int(end[axis])
    written = node.input[2]
    if editor.shape(written) != tuple(target):
        written = new.reshape(written, target)
    parts = [new.slice(node.input[0], [0], [low], [axis])] if low else []
    parts.append(written)
    if high < shape[axis]:
        parts.append(new.slice(node.input[0], [high], [shape[axis]], [axis]))
    new.add("Concat", *parts, output=node.output[0], axis=axis)
    new.done()
    return True


def one_hot(editor: Editor, node: NodeProto) -> bool:
    """Refuses a depth or values computed at run time, unknown ranks and opsets before 9."""
    return hot_where_equal(editor, node)


def top_one(editor: Editor, node: NodeProto) -> bool:
    """Refuses more than one, a count computed at run time, and opsets before 10."""
    count = editor.constant(node.input[1]) if len(node.input) > 1 else None
    if count is None or count.reshape(-1).tolist() != [1] or editor.opset < 10:
        return False
    axis = attribute(node, "axis", -1)
    kind = "Max" if attribute(node, "largest", 1) else "Min"
    new = Rewrite(editor, node)
    values, places = [*node.output, ""][:2]
    if editor.used(values):
        new.reduce(f"Reduce{kind}", node.input[0], [axis], output=values)
    if editor.used(places):
        new.add(f"Arg{kind}", node.input[0], output=places, axis=axis, keepdims=1)
    new.done()
    return True


def where(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is not float32 or float16."""
    kinds = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}
    dtype = editor.dtype(node.input[1])
    if dtype not in kinds:
        return False
    new = Rewrite(editor, node)
    condition, a, b = node.input
    stored = editor.constant(condition)
    one = new.constant(np.array(1, dtype))
    if stored is not None:
        mask = new.constant(stored.astype(dtype))
        rest = new.constant(np.logical_not(stored).astype(dtype))
    else:
        mask = new.add("Cast", condition, to=kinds[dtype])
        rest = new.add("Sub", one, mask)
    new.add("Add", new.add("Mul", a, mask), new.add("Mul", b, rest), output=node.output[0])
    new.done()
    return True


def flip(editor: Editor, node: NodeProto) -> bool:
    """Refuses slices without a negative step, bounds computed at run time and unknown shapes."""
    shape = editor.shape(node.input[0])
    if shape is None or len(node.input) < 5 or not node.input[3] or not node.input[4]:
        return False
    given = [editor.constant(name) for name in node.input[1:5]]
    starts, ends, axes, steps = (None if value is None else value.reshape(-1).tolist() for value in given)
    if starts is None or ends is None or axes is None or steps is None or min(steps, default=1) > 0:
        return False
    new = Rewrite(editor, node)
    rows = list(zip(starts, ends, axes, steps, strict=True))
    backwards = [row for row in rows if row[3] < 0]
    forwards = [row for row in rows if row[3] > 0]
    at = node.input[0]
    if forwards:
        starts, ends, axes, steps = (list(column) for column in zip(*forwards, strict=True))
        at = new.slice(at, starts, ends, axes, steps)
    for index, (start, end, axis, step) in enumerate(backwards):
        extent = shape[axis]
        first = min(max(start + extent if start < 0 else start, 0), extent - 1)
        last = min(max(end + extent if end < 0 else end, -1), extent - 1)
        order = np.arange(first, last, step, dtype=np.int64)
        output = node.output[0] if index == len(backwards) - 1 else ""
        at = new.add("Gather", at, new.constant(order), output=output, axis=axis)
    new.done()
    return True


FIXES = (
    Fix(
        name="scatternd-to-concat",
        headline="An assignment to a slice (ScatterND with stored indices) as slices and Concat",
        operators=("ScatterND",),
        onnx="Concat(Slice(x, :a), updates, Slice(x, b:))",
        pytorch="torch.cat((y, x[..., 2:]), -1) in place of x[..., :2] = y",
        apply=scatter_nd,
    ),
    Fix(
        name="onehot-to-equal",
        headline="OneHot as a comparison with 0, 1, 2 and so on",
        operators=("OneHot",),
        onnx="Where(Equal(Unsqueeze(x), [0 .. depth - 1]), on, off)",
        pytorch="(x.unsqueeze(-1) == torch.arange(depth)).float()",
        apply=one_hot,
    ),
    Fix(
        name="topk1-to-argmax",
        headline="TopK of one as a maximum and its place",
        operators=("TopK",),
        onnx="ReduceMax, ArgMax",
        pytorch="x.amax(-1, keepdim=True), x.argmax(-1, keepdim=True)",
        apply=top_one,
        effect="The same numbers; of equal values both take the first.",
    ),
    Fix(
        name="where-to-mul",
        headline="Where as products with a mask of 0 and 1",
        operators=("Where",),
        onnx="a * m + b * (1 - m)",
        pytorch="a * m + b * (1 - m)",
        apply=where,
        effect="The same numbers while both sides are finite: an infinity or NaN on the side that is not "
        "taken comes through as NaN.",
        safety="unsafe",
    ),
    Fix(
        name="flip-to-gather",
        headline="A slice that goes backwards as Gather",
        operators=("Slice",),
        onnx="Gather(indices in reverse)",
        pytorch="x[:, order]",
        apply=flip,
    ),
)
