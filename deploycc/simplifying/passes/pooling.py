"""Pooling in the form the schedules know."""

from __future__ import annotations

from deploycc.onnx_editor import Editor, attribute


def spatial_mean_to_global_average_pool(editor: Editor) -> int:
    """``ReduceMean`` over all spatial axes with ``keepdims=1`` becomes ``GlobalAveragePool``.

    Refuses integer data, ranks other than 4, axes computed at run time, and ``keepdims=0``.
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "ReduceMean" or node.domain or attribute(node, "keepdims", 1) != 1:
            continue
        shape = editor.shape(node.input[0])
        if shape is None or len(shape) != 4 or not editor.dtype(node.input[0]).startswith("float"):
            continue
        axes = attribute(node, "axes")
        if len(node.input) > 1 and node.input[1]:
            stored = editor.constant(node.input[1])
            axes = None if stored is None else stored.tolist()
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        editor.replace(
            node,
            [editor.node("GlobalAveragePool", [node.input[0]], list(node.output), like=node)],
        )
        changed += 1
    return changed
