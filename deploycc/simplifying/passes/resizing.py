"""``Resize`` in the one form the importer reads."""

from __future__ import annotations

from deploycc.simplifying.editor import Editor


def drop_empty_resize_inputs(editor: Editor) -> int:
    """Empty ``roi``, ``scales`` and ``sizes`` constants become absent inputs.

    Old exporters write them; the importer takes an empty ``scales`` beside ``sizes`` for a
    present one.  Refuses nothing: ONNX gives an empty tensor and an absent input one meaning.
    """
    changed = 0
    for node in editor.nodes:
        if node.op_type != "Resize" or node.domain:
            continue
        for index in range(1, len(node.input)):
            value = editor.constant(node.input[index]) if node.input[index] else None
            if value is not None and value.size == 0:
                node.input[index] = ""
                changed += 1
        while node.input and not node.input[-1]:
            del node.input[-1]
    return changed
