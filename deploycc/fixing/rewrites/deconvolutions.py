"""Transposed convolutions in the forms that runtimes take and run fast.

``y[s * i + d * k - begin] += x[i] * w[k]``: dilation is zeros in the kernel, stride zeros in the image.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.fixing.rewrites.convolutions import MAX_GROUPS, MAX_KERNEL, stuffed
from deploycc.fixing.windows import Window, attributes_of, window, with_bias
from deploycc.graph_rewrites.forms import pads_of_output_shape
from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import Array


def output_shape(editor: Editor, node: NodeProto) -> bool:
    """Refuses unknown shapes and a size that no padding leads to."""
    return pads_of_output_shape(editor, node)


def _deconvolution(editor: Editor, node: NodeProto) -> tuple[Window, Array, list[int]] | None:
    """Window, weights and output padding; ``None`` where a size or automatic padding hides the pads."""
    if attribute(node, "output_shape") is not None:
        return None
    found = window(editor, node)
    if found is None or found.weights is None:
        return None
    return found, found.weights, list(attribute(node, "output_padding", [0] * found.rank))


def zero_stuff_dilation(editor: Editor, node: NodeProto) -> bool:
    """Refuses no dilation, ``output_shape``, automatic pads, run-time weights, kernels beyond 4096 taps."""
    parts = _deconvolution(editor, node)
    if parts is None:
        return False
    found, weights, extra = parts
    if all(d == 1 for d in found.dilations) or math.prod(found.reach) > MAX_KERNEL:
        return False
    if any(e >= s for e, s in zip(extra, found.strides, strict=True)):
        return False
    new = Rewrite(editor, node)
    attrs = attributes_of(
        found, kernel_shape=list(found.reach), dilations=[1] * found.rank, output_padding=extra
    )
    wide = new.constant(stuffed(weights, found.dilations))
    new.add("ConvTranspose", *with_bias(node.input[0], wide, found.bias), output=node.output[0], **attrs)
    new.done()
    return True


def split_groups(editor: Editor, node: NodeProto) -> bool:
    """Refuses one group, more than 32, ``output_shape``, automatic pads, run-time weights and bias."""
    parts = _deconvolution(editor, node)
    if parts is None:
        return False
    found, weights, extra = parts
    bias = editor.constant(found.bias) if found.bias else None
    if not 1 < found.group <= MAX_GROUPS or (found.bias and bias is None):
        return False
    groups = found.group
    new = Rewrite(editor, node)
    sources = new.parts(node.input[0], [found.data[1] // groups] * groups, 1)
    kernels = np.split(weights, groups)
    biases = np.split(bias, groups) if bias is not None else None
    attrs = attributes_of(found, group=1, output_padding=extra)
    made = []
    for index, source in enumerate(sources):
        stored = [new.constant(kernels[index])]
        if biases is not None:
            stored.append(new.constant(biases[index]))
        made.append(new.add("ConvTranspose", source, *stored, **attrs))
    new.add("Concat", *made, output=node.output[0], axis=1)
    new.done()
    return True


def to_depth_to_space(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but two-dimensional ones of one group with ``kernel = stride > 1`` and no padding.

    Also run-time weights or bias, unknown shapes and opsets before 11, where ``DepthToSpace`` has no mode.
    """
    parts = _deconvolution(editor, node)
    if parts is None:
        return False
    found, weights, extra = parts
    block = found.kernel[0]
    square = found.rank == 2 and found.kernel == found.strides == (block, block) and block > 1
    if not square or found.group != 1 or any((*found.begin, *found.end, *extra)) or editor.opset < 11:
        return False
    if any(d != 1 for d in found.dilations):
        return False
    bias = editor.constant(found.bias) if found.bias else None
    if found.bias and bias is None:
        return False
    new = Rewrite(editor, node)
    # DCR: the block's row and column are in front of the channel.
    flat = weights.transpose(2, 3, 1, 0).reshape(-1, weights.shape[0], 1, 1)
    stored = [new.constant(np.ascontiguousarray(flat))]
    if bias is not None:
        stored.append(new.constant(np.tile(bias, block * block)))
    deep = new.add("Conv", node.input[0], *stored, kernel_shape=[1, 1])
    new.add("DepthToSpace", deep, output=node.output[0], blocksize=block, mode="DCR")
    new.done()
    return True


def _turned(weights: Array, groups: int) -> Array:
    """Weights ``[C, M/g, ...]`` of a transposed convolution as those of a convolution, ``[M, C/g, ...]``."""
    spatial = weights.shape[2:]
    grouped = weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], *spatial)
    turned = np.swapaxes(grouped, 1, 2).reshape(-1, weights.shape[0] // groups, *spatial)
    return np.ascontiguousarray(np.flip(turned, tuple(range(2, turned.ndim))))


def stride1_to_conv(editor: Editor, node: NodeProto) -> bool:
    """Refuses strides, output padding, more padding than the kernel reaches, run-time weights."""
    parts = _deconvolution(editor, node)
    if parts is None:
        return False
    found, weights, extra = parts
    if any(s != 1 for s in found.strides) or any(extra):
        return False
    begin = [reach - 1 - pad for reach, pad in zip(found.reach, found.begin, strict=True)]
    end = [reach - 1 - pad for reach, pad in zip(found.reach, found.end, strict=True)]
    if min((*begin, *end)) < 0:
        return False
    new = Rewrite(editor, node)
    stored = new.constant(_turned(weights, found.group))
    attrs = attributes_of(found, pads=[*begin, *end])
    new.add("Conv", *with_bias(node.input[0], stored, found.bias), output=node.output[0], **attrs)
    new.done()
    return True


def zero_insert(editor: Editor, node: NodeProto) -> bool:
    """Refuses stride 1, more padding than the kernel reaches, ``output_shape``, run-time weights."""
    parts = _deconvolution(editor, node)
    if parts is None or editor.opset < 10:
        return False
    found, weights, extra = parts
    if all(s == 1 for s in found.strides):
        return False
    begin = [reach - 1 - pad for reach, pad in zip(found.reach, found.begin, strict=True)]
    end = [
        reach - 1 - pad + more - (stride - 1)
        for reach, pad, more, stride in zip(found.reach, found.end, extra, found.strides, strict=True)
    ]
    if min(begin) < 0 or any(e + s - 1 < 0 for e, s in zip(end, found.strides, strict=True)):
        return False
    new = Rewrite(editor, node)
    at, shape = node.input[0], list(found.data)
    for axis, stride in enumerate(found.strides, start=2):
        if stride == 1:
            continue
        apart = new.reshape(at, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
        widths = [0] * (2 * (len(shape) + 1))
        widths[len(shape) + 1 + axis + 1] = stride - 1
        shape[axis] *= stride
        at = new.reshape(new.pad(apart, widths), shape)
        if end[axis - 2] < 0:
            # The zeros behind the last pixel are more than the padding takes.
            at = new.slice(at, [0], [shape[axis] - stride + 1], [axis])
            shape[axis] -= stride - 1
            end[axis - 2] += stride - 1
    stored = new.constant(_turned(weights, found.group))
    attrs = attributes_of(found, strides=[1] * found.rank, pads=[*begin, *end])
    new.add("Conv", *with_bias(at, stored, found.bias), output=node.output[0], **attrs)
    new.done()
    return True


FIXES = (
    Fix(
        name="deconv-output-shape-to-pads",
        headline="The size a transposed convolution asks for as pads and output padding",
        operators=("ConvTranspose",),
        onnx="ConvTranspose(pads, output_padding)",
        pytorch="nn.ConvTranspose2d(..., padding=p, output_padding=op), called without output_size",
        apply=output_shape,
    ),
    Fix(
        name="deconv-zero-stuff-dilation",
        headline="A dilated transposed convolution as a dense one with zeros between its taps",
        operators=("ConvTranspose",),
        onnx="ConvTranspose(kernel=(k - 1) * d + 1, dilations=1)",
        pytorch="nn.ConvTranspose2d(c, m, (k - 1) * d + 1) with zeros between the weights",
        apply=zero_stuff_dilation,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="deconv-split-groups",
        headline="A grouped transposed convolution as one for each group",
        operators=("ConvTranspose",),
        onnx="Split, ConvTranspose a group, Concat",
        pytorch="torch.cat([deconv(part) for deconv, part in zip(deconvs, x.chunk(groups, 1))], 1)",
        apply=split_groups,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="deconv-to-depth-to-space",
        headline="A transposed convolution of disjoint windows as a 1x1 convolution and DepthToSpace",
        operators=("ConvTranspose",),
        onnx="Conv(kernel=1), DepthToSpace(mode=DCR)",
        pytorch="F.pixel_shuffle(nn.Conv2d(c, m * b * b, 1)(x), b)",
        apply=to_depth_to_space,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="deconv-stride1-to-conv",
        headline="A transposed convolution of stride 1 as a convolution with its weights turned",
        operators=("ConvTranspose",),
        onnx="Conv(pads = reach - 1 - p)",
        pytorch="F.conv2d(x, w.flip(2, 3).transpose(0, 1), padding=k - 1 - p)",
        apply=stride1_to_conv,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="deconv-zero-insert",
        headline="A strided transposed convolution as zeros between the pixels and a convolution",
        operators=("ConvTranspose",),
        onnx="Reshape, Pad, Reshape an axis, Conv",
        pytorch="F.conv2d(zeros_between(x, s), w.flip(2, 3).transpose(0, 1), padding=k - 1 - p)",
        apply=zero_insert,
        effect=ROUNDING + " It multiplies by the zeros too: stride^2 times the work.",
        bound=2e-6,
    ),
)
