"""Convolutions without groups, dilation or uneven padding; and slices that are a convolution."""

from __future__ import annotations

import math
from types import EllipsisType

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.fixing.windows import attributes_of, window, with_bias
from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import Array

MAX_GROUPS = 32
"""More parts than this are more copies and calls than the groups cost."""

MAX_KERNEL = 4096
"""Elements of a kernel's plane after zeros were put between its taps."""


def split_groups(editor: Editor, node: NodeProto) -> bool:
    """Refuses one group, more than 32 (a depthwise layer stays one), run-time weights and unknown shapes."""
    found = window(editor, node)
    if found is None or found.weights is None or not 1 < found.group <= MAX_GROUPS:
        return False
    bias = editor.constant(found.bias) if found.bias else None
    if found.bias and bias is None:
        return False
    new = Rewrite(editor, node)
    groups = found.group
    parts = new.parts(node.input[0], [found.data[1] // groups] * groups, 1)
    weights = np.split(found.weights, groups)
    biases = np.split(bias, groups) if bias is not None else None
    made = []
    for index, part in enumerate(parts):
        stored = [new.constant(weights[index])]
        if biases is not None:
            stored.append(new.constant(biases[index]))
        made.append(new.add("Conv", part, *stored, **attributes_of(found, group=1)))
    new.add("Concat", *made, output=node.output[0], axis=1)
    new.done()
    return True


def stuffed(weights: Array, dilations: tuple[int, ...]) -> Array:
    """The kernel with zeros between its taps: what a dilated one multiplies by."""
    reach = [(k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilations, strict=True)]
    wide = np.zeros((*weights.shape[:2], *reach), weights.dtype)
    taps: tuple[EllipsisType | slice, ...] = (..., *(slice(None, None, d) for d in dilations))
    wide[taps] = weights
    return wide


def zero_stuff_dilation(editor: Editor, node: NodeProto) -> bool:
    """Refuses no dilation, kernels that would grow beyond 4096 taps, run-time weights and unknown shapes."""
    found = window(editor, node)
    if found is None or found.weights is None or all(d == 1 for d in found.dilations):
        return False
    if math.prod(found.reach) > MAX_KERNEL:
        return False
    new = Rewrite(editor, node)
    wide = new.constant(stuffed(found.weights, found.dilations))
    attrs = attributes_of(found, kernel_shape=list(found.reach), dilations=[1] * found.rank)
    new.add("Conv", *with_bias(node.input[0], wide, found.bias), output=node.output[0], **attrs)
    new.done()
    return True


def pads_to_pad(editor: Editor, node: NodeProto) -> bool:
    """Refuses explicit pads that are the same on both sides, run-time weights and unknown shapes."""
    found = window(editor, node)
    automatic = attribute(node, "auto_pad", "NOTSET") != "NOTSET"
    if found is None or not (automatic or found.begin != found.end):
        return False
    new = Rewrite(editor, node)
    source, attrs = node.input[0], attributes_of(found)
    if found.begin != found.end:
        source = new.pad(source, [0, 0, *found.begin, 0, 0, *found.end])
        del attrs["pads"]
    new.add("Conv", *with_bias(source, node.input[1], found.bias), output=node.output[0], **attrs)
    new.done()
    return True


def focus(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but a ``Concat`` on channels of every slice of a 4-D image with steps of its block's size.

    The node may be the ``Concat``, one of its slices, or the convolution behind it.
    """
    joint = _joint(editor, node)
    if joint is None:
        return False
    phases = [_phase(editor, name) for name in joint.input]
    first = phases[0]
    if first is None or any(phase is None or phase[0] != first[0] for phase in phases):
        return False
    source = first[0]
    shape = editor.shape(source)
    offsets = [phase[1] for phase in phases if phase is not None]
    blocks = {phase[2] for phase in phases if phase is not None}
    if (
        shape is None
        or len(shape) != 4
        or len(blocks) != 1
        or editor.dtype(source) not in ("float16", "float32")
    ):
        return False
    block = blocks.pop()
    if block < 2 or len(offsets) != block * block or len(set(offsets)) != len(offsets):
        return False
    if shape[2] % block or shape[3] % block:
        return False
    channels = shape[1]
    picks = np.zeros((len(offsets), channels, channels, block, block), editor.dtype(source))
    for index, (row, column) in enumerate(offsets):
        picks[index, range(channels), range(channels), row, column] = 1
    new = Rewrite(editor, joint)
    weights = new.constant(picks.reshape(-1, channels, block, block))
    new.add(
        "Conv",
        source,
        weights,
        output=joint.output[0],
        kernel_shape=[block, block],
        strides=[block, block],
    )
    new.done()
    return True


def _joint(editor: Editor, node: NodeProto) -> NodeProto | None:
    if node.op_type == "Conv":
        node = editor.producers.get(node.input[0], node)
    for _ in range(3):
        if node.op_type != "Slice":
            break
        readers = editor.consumers.get(node.output[0], [])
        if len(readers) != 1:
            return None
        node = readers[0]
    if node.op_type != "Concat" or node.domain or attribute(node, "axis") not in (1, -3):
        return None
    return node


def _phase(editor: Editor, name: str) -> tuple[str, tuple[int, int], int] | None:
    """Source, first row and column, and step of what strided slices take of an image."""
    begin, steps = {2: 0, 3: 0}, {2: 1, 3: 1}
    for _ in range(2):
        node = editor.producers.get(name)
        if node is None or node.op_type != "Slice" or len(node.input) < 5:
            break
        given = [editor.constant(part) for part in node.input[1:5]]
        shape = editor.shape(node.input[0])
        if shape is None or len(shape) != 4:
            return None
        starts, ends, axes, strides = (
            None if value is None else value.reshape(-1).tolist() for value in given
        )
        if starts is None or ends is None or axes is None or strides is None:
            return None
        for start, end, axis, step in zip(starts, ends, axes, strides, strict=True):
            place = int(axis) % 4
            if place not in steps or steps[place] != 1 or step < 2 or not 0 <= start < step:
                return None
            if end < shape[place] - (step - 1 - start):
                return None
            begin[place], steps[place] = int(start), int(step)
        name = node.input[0]
    if steps[2] != steps[3] or steps[2] < 2:
        return None
    return name, (begin[2], begin[3]), steps[2]


FIXES = (
    Fix(
        name="conv-split-groups",
        headline="A grouped convolution as one for each group",
        operators=("Conv",),
        onnx="Split, Conv a group, Concat",
        pytorch="torch.cat([conv(part) for conv, part in zip(convs, x.chunk(groups, 1))], 1)",
        apply=split_groups,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="conv-zero-stuff-dilation",
        headline="A dilated convolution as a dense one with zeros between its taps",
        operators=("Conv",),
        onnx="Conv(kernel=(k - 1) * d + 1, dilations=1)",
        pytorch="nn.Conv2d(c, m, (k - 1) * d + 1) with zeros between the weights",
        apply=zero_stuff_dilation,
        effect=ROUNDING + " It multiplies by the zeros too, so it is slower where dilation runs.",
        bound=1e-6,
    ),
    Fix(
        name="conv-pads-to-pad",
        headline="Uneven or automatic padding of a convolution spelled out",
        operators=("Conv",),
        onnx="Pad, Conv(pads=0); explicit pads where both sides are the same",
        pytorch="conv(F.pad(x, (left, right, top, bottom))) with padding=0",
        apply=pads_to_pad,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="focus-to-conv",
        headline="Strided slices joined on channels (YOLO's focus) as one convolution",
        operators=("Concat", "Slice", "Conv"),
        onnx="Conv(kernel=b, strides=b) with weights of 0 and 1",
        pytorch="nn.Conv2d(c, c * b * b, b, stride=b, bias=False) with weights of 0 and 1",
        apply=focus,
        effect="The same numbers but for infinities, which become NaN in their neighbours.",
    ),
)
