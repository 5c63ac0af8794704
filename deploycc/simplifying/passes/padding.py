"""Padding by zeros as an attribute of the convolution that reads it, not as a copy of the image."""

from __future__ import annotations

from onnx import NodeProto

from deploycc.onnx_editor import Editor, attribute, drop_attribute, set_attribute


def fold_pad_into_convolution(editor: Editor) -> int:
    """A ``Conv`` that reads a ``Pad`` by zeros pads by as much itself; the ``Pad`` stays for other readers.

    Refuses other modes and values, negative or unknown widths, padded batches or channels, and
    convolutions with ``auto_pad`` of ``SAME``.
    """
    changed = 0
    for node in list(editor.nodes):
        widths = _zero_pad(editor, node)
        if widths is None:
            continue
        rank = len(widths) // 2
        for reader in list(editor.consumers.get(node.output[0], [])):
            if reader.op_type != "Conv" or reader.domain or list(reader.input).count(node.output[0]) != 1:
                continue
            if reader.input[0] != node.output[0] or attribute(reader, "auto_pad", "NOTSET") not in (
                "NOTSET",
                "VALID",
            ):
                continue
            own = attribute(reader, "pads", [0] * (2 * (rank - 2)))
            spatial = [*widths[2:rank], *widths[rank + 2 :]]
            set_attribute(reader, "pads", [a + b for a, b in zip(own, spatial, strict=True)])
            drop_attribute(reader, "auto_pad")
            reader.input[0] = node.input[0]
            changed += 1
    if changed:
        editor.refresh()
    return changed


def _zero_pad(editor: Editor, node: NodeProto) -> list[int] | None:
    """The widths of a constant zero padding of the spatial axes alone: all in front, then all behind."""
    if node.op_type != "Pad" or node.domain or attribute(node, "mode", "constant") != "constant":
        return None
    kind = editor.types.get(node.input[0])
    if kind is None or kind.shape is None or len(kind.shape) < 3:
        return None
    rank = len(kind.shape)
    if editor.opset < 11:
        given, value = attribute(node, "pads"), attribute(node, "value", 0.0)
    else:
        stored = editor.constant(node.input[1])
        given = None if stored is None else [int(width) for width in stored.reshape(-1)]
        value = 0.0
        if len(node.input) > 2 and node.input[2]:
            number = editor.constant(node.input[2])
            value = None if number is None else number.item()
    axes = list(range(rank))
    if len(node.input) > 3 and node.input[3]:
        chosen = editor.constant(node.input[3])
        if chosen is None:
            return None
        axes = [int(axis) % rank for axis in chosen.reshape(-1)]
    if given is None or value != 0.0 or len(given) != 2 * len(axes) or min(given, default=0) < 0:
        return None
    widths = [0] * (2 * rank)
    for index, axis in enumerate(axes):
        widths[axis], widths[rank + axis] = given[index], given[len(axes) + index]
    outside = [widths[axis] for axis in (0, 1, rank, rank + 1)]
    return None if any(outside) or not any(widths) else widths
