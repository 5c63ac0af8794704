"""Which nodes give their first input again, as it is.

Exporters leave them where shapes were unknown: a slice of everything, a reshape or broadcast to the shape
that the tensor has.  They keep operators apart that would be one kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto, helper

from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import attributes


def gives_its_input(editor: Editor, node: NodeProto) -> bool:
    """Whether ``node`` passes its first input on unchanged: value, shape and dtype.

    Refuses everything whose types are not static, and a ``Dropout`` in training mode or with its mask read.
    """
    if node.domain or not node.input or not node.input[0]:
        return False
    if node.op_type == "Identity":
        return node.input[0] in editor.types or node.input[0] in editor.producers
    if node.op_type == "Dropout":
        return _drops_nothing(editor, node)
    rule = _RULES.get(node.op_type)
    before, after = editor.types.get(node.input[0]), editor.types.get(node.output[0])
    if rule is None or before is None or after is None or not before.static:
        return False
    return before == after and rule(editor, node)


def _drops_nothing(editor: Editor, node: NodeProto) -> bool:
    if len(node.output) > 1 and editor.used(node.output[1]):
        return False
    if len(node.input) > 2 and node.input[2]:
        training = editor.constant(node.input[2])
        return training is not None and not training.any()
    return True


def _always(editor: Editor, node: NodeProto) -> bool:
    return True


def _alone(editor: Editor, node: NodeProto) -> bool:
    return len(node.input) == 1


def _forwards(editor: Editor, node: NodeProto) -> bool:
    """A slice of the same extents whose steps are all 1 begins at 0."""
    if len(node.input) < 5 or not node.input[4]:
        return True
    steps = editor.constant(node.input[4])
    return steps is not None and bool((steps == 1).all())


def _in_order(editor: Editor, node: NodeProto) -> bool:
    order = attributes(node).get("perm")
    return order is not None and list(helper.get_attribute_value(order)) == sorted(order.ints)


def _adds_nothing(editor: Editor, node: NodeProto) -> bool:
    """Equal extents are not enough: it may cut off at one end what it adds at the other."""
    if len(node.input) < 2:
        widths = attributes(node).get("pads")
        return widths is not None and not any(widths.ints)
    amounts = editor.constant(node.input[1])
    return amounts is not None and not amounts.any()


_RULES: dict[str, Callable[[Editor, NodeProto], bool]] = {
    "Cast": _always,
    "Concat": _alone,
    "Expand": _always,
    "Flatten": _always,
    "Max": _alone,
    "Mean": _alone,
    "Min": _alone,
    "Pad": _adds_nothing,
    "Reshape": _always,
    "Slice": _forwards,
    "Sum": _alone,
    "Tile": _always,
    "Transpose": _in_order,
}
"""What must hold besides equal types."""
