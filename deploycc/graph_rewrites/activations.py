"""Activations in the form that layout and fusion passes see through."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from deploycc.onnx_editor import Editor, attribute
from deploycc.onnx_graph import Array


def clip_to_min_max(editor: Editor) -> int:
    """``Clip`` with constant bounds becomes ``Max`` and ``Min`` with scalar constants.

    The importer makes of ``Clip`` an opaque kernel call that stops layout conversion.  ``Relu``
    is used where the lower bound is 0.  Refuses bounds computed at run time and NaN bounds.
    A lower bound above the upper one gives the upper one, as ONNX defines ``Min(Max(x, a), b)``.
    """
    return sum(clip_as_min_max(editor, node) for node in list(editor.nodes))


def clip_as_min_max(editor: Editor, node: NodeProto) -> bool:
    """One node of ``clip_to_min_max``."""
    bounds = _bounds(editor, node) if node.op_type == "Clip" and not node.domain else None
    if bounds is None:
        return False
    editor.replace(node, _clamped(editor, node, *bounds))
    return True


def _bounds(editor: Editor, node: NodeProto) -> tuple[Array | None, Array | None] | None:
    if editor.opset < 11:
        dtype = editor.dtype(node.input[0]) or "float32"
        given = [attribute(node, name) for name in ("min", "max")]
        low, high = (None if value is None else np.array(value, dtype) for value in given)
        return low, high
    found: list[Array | None] = []
    for index in (1, 2):
        name = node.input[index] if len(node.input) > index else ""
        value = editor.constant(name) if name else None
        if name and (value is None or value.size != 1 or (value.dtype.kind == "f" and np.isnan(value).any())):
            return None
        found.append(value.reshape(()) if value is not None else None)
    return found[0], found[1]


def _clamped(editor: Editor, node: NodeProto, low: Array | None, high: Array | None) -> list[NodeProto]:
    steps: list[tuple[str, Array | None]] = []
    if low is not None and not (low.dtype.kind == "f" and low == -np.inf):
        steps.append(("Relu", None) if low.dtype == np.float32 and low == 0 else ("Max", low))
    if high is not None and not (high.dtype.kind == "f" and high == np.inf):
        steps.append(("Min", high))
    made: list[NodeProto] = []
    at = node.input[0]
    for index, (op, value) in enumerate(steps or [("Identity", None)]):
        last = index == max(len(steps), 1) - 1
        output = node.output[0] if last else editor.fresh(f"{node.output[0]}/{op.lower()}")
        inputs = (
            [at] if value is None else [at, editor.add_constant(f"{node.name}/{op.lower()}_bound", value)]
        )
        made.append(editor.node(op, inputs, [output], like=node))
        at = output
    return made
