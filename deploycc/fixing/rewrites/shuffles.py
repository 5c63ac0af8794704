"""Moves of channels and pixels that need no tensor of rank 5 or 6."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import Fix
from deploycc.onnx_editor import Editor, Rewrite, attribute, set_attribute

Chain = tuple[NodeProto, NodeProto, NodeProto]


def _chain(editor: Editor, node: NodeProto) -> Chain | None:
    """``Reshape``, ``Transpose``, ``Reshape`` around ``node``, their inner results read by nobody else."""
    if node.op_type == "Reshape":
        readers = editor.consumers.get(node.output[0], [])
        before = editor.producers.get(node.input[0])
        if before is not None and before.op_type == "Transpose" and _ends(editor, before, node):
            node = before
        elif len(readers) == 1 and readers[0].op_type == "Transpose":
            node = readers[0]
    if node.op_type != "Transpose":
        return None
    first, readers = editor.producers.get(node.input[0]), editor.consumers.get(node.output[0], [])
    if first is None or first.op_type != "Reshape" or len(readers) != 1 or readers[0].op_type != "Reshape":
        return None
    last = readers[0]
    inner = (first.output[0], node.output[0])
    if any(name in editor.outputs or len(editor.consumers.get(name, [])) != 1 for name in inner):
        return None
    return first, node, last


def _ends(editor: Editor, transpose: NodeProto, reshape: NodeProto) -> bool:
    first = editor.producers.get(transpose.input[0])
    return first is not None and first.op_type == "Reshape" and reshape.input[0] == transpose.output[0]


def _shapes(editor: Editor, chain: Chain) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    first, _, last = chain
    found = [editor.shape(name) for name in (first.input[0], first.output[0], last.output[0])]
    if found[0] is None or found[1] is None or found[2] is None:
        return None
    return found[0], found[1], found[2]


def _put(editor: Editor, chain: Chain, op: str, extra: list[str], **attrs: object) -> bool:
    first, transpose, last = chain
    new = Rewrite(editor, last)
    new.add(op, first.input[0], *extra, output=last.output[0], **attrs)
    new.done()
    editor.remove([first, transpose])
    return True


def pixel_shuffle(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but reshape, transpose and reshape of a pixel shuffle, or of its inverse, on 4-D images.

    The node may be any of the three.  Opsets before 11 have no mode.
    """
    chain = _chain(editor, node)
    shapes = _shapes(editor, chain) if chain is not None else None
    if chain is None or shapes is None or len(shapes[0]) != 4 or len(shapes[2]) != 4 or editor.opset < 11:
        return False
    (n, c, h, w), inside, after = shapes
    perm = tuple(attribute(chain[1], "perm", ()))
    if len(inside) != 6:
        return False
    for order, block, split, mode in (
        ((0, 1, 4, 2, 5, 3), inside[2], (n, inside[1], inside[2], inside[3], h, w), "CRD"),
        ((0, 3, 4, 1, 5, 2), inside[1], (n, inside[1], inside[2], inside[3], h, w), "DCR"),
    ):
        square = inside[2] == inside[3] if mode == "CRD" else inside[1] == inside[2]
        if perm == order and inside == split and square:
            if after != (n, c // (block * block), h * block, w * block):
                return False
            return _put(editor, chain, "DepthToSpace", [], blocksize=block, mode=mode)
    block = inside[3]
    gathers = perm == (0, 3, 5, 1, 2, 4) and inside == (n, c, h // block, block, w // block, block)
    if gathers and after == (n, c * block * block, h // block, w // block):
        return _put(editor, chain, "SpaceToDepth", [], blocksize=block)
    return False


def channel_shuffle(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but the reshape, transpose and reshape that only move channels (axis 1).

    The node may be any of the three.
    """
    chain = _chain(editor, node)
    shapes = _shapes(editor, chain) if chain is not None else None
    if chain is None or shapes is None:
        return False
    before, inside, after = shapes
    perm = attribute(chain[1], "perm", ())
    if before != after or len(before) < 3 or len(inside) != len(before) + 1:
        return False
    if list(perm) != [0, 2, 1, *range(3, len(inside))] or inside[0] != before[0] or inside[3:] != before[2:]:
        return False
    order = np.arange(before[1]).reshape(inside[1], inside[2]).T.reshape(-1)
    stored = editor.add_constant(f"{chain[2].name}/channels", order.astype(np.int64))
    return _put(editor, chain, "Gather", [stored], axis=1)


def crd_to_dcr(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but mode CRD behind a convolution of one group, stored weights, and no other reader."""
    convolution = editor.producers.get(node.input[0])
    if attribute(node, "mode", "DCR") != "CRD" or convolution is None or convolution.op_type != "Conv":
        return False
    if convolution.domain or attribute(convolution, "group", 1) != 1:
        return False
    if node.input[0] in editor.outputs or len(editor.consumers.get(node.input[0], [])) != 1:
        return False
    weights = editor.constant(convolution.input[1])
    has_bias = len(convolution.input) > 2 and bool(convolution.input[2])
    bias = editor.constant(convolution.input[2]) if has_bias else None
    if weights is None or (has_bias and bias is None):
        return False
    block = attribute(node, "blocksize")
    order = np.arange(len(weights)).reshape(-1, block * block).T.reshape(-1)
    convolution.input[1] = editor.add_constant(f"{convolution.name}/weights", weights[order])
    if bias is not None:
        convolution.input[2] = editor.add_constant(f"{convolution.name}/bias", bias[order])
    set_attribute(node, "mode", "DCR")
    editor.reindex()
    return True


FIXES = (
    Fix(
        name="pixel-shuffle-to-depth-to-space",
        headline="A pixel shuffle in rank 6 as DepthToSpace, its inverse as SpaceToDepth",
        operators=("Reshape", "Transpose"),
        onnx="DepthToSpace(mode=CRD or DCR) or SpaceToDepth",
        pytorch="F.pixel_shuffle(x, b)",
        apply=pixel_shuffle,
    ),
    Fix(
        name="channel-shuffle-to-gather",
        headline="A channel shuffle in rank 5 as Gather",
        operators=("Reshape", "Transpose"),
        onnx="Gather(axis=1) of the channels in their new order",
        pytorch="x[:, order]",
        apply=channel_shuffle,
    ),
    Fix(
        name="depth-to-space-crd-to-dcr",
        headline="DepthToSpace of mode CRD as DCR, the channels of the convolution before it in that order",
        operators=("DepthToSpace",),
        onnx="Conv with permuted output channels, DepthToSpace(mode=DCR)",
        pytorch="w.reshape(m, b * b, -1).transpose(0, 1).reshape(w.shape) as the convolution's weights",
        apply=crd_to_dcr,
    ),
)
