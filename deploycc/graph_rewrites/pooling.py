"""Pooling in the forms that shape inference and the lowering know."""

from __future__ import annotations

from deploycc.onnx_editor import Editor, attribute


def drop_default_unpool_shape(editor: Editor) -> int:
    """``MaxUnpool`` with an ``output_shape`` that is the default one loses that input.

    onnx infers no shape from it.  Refuses shapes computed at run time and any other size, of which ONNX
    Runtime and onnx's tests are not of one mind.
    """
    changed = 0
    for node in editor.nodes:
        if node.op_type != "MaxUnpool" or node.domain or len(node.input) < 3 or not node.input[2]:
            continue
        shape, wanted = editor.shape(node.input[0]), editor.constant(node.input[2])
        if shape is None or wanted is None:
            continue
        kernel = attribute(node, "kernel_shape")
        rank = len(kernel)
        strides, pads = attribute(node, "strides", [1] * rank), attribute(node, "pads", [0] * (2 * rank))
        default = [
            (shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)
        ]
        if wanted.tolist() == [*shape[:2], *default]:
            del node.input[2]
            changed += 1
    return changed
