"""A convolution as a product of matrices on tensor cores: pixels times surroundings, by output channels.

    for block of pixels x block of channels (x part of the sum):   # before: for y, x, o: for kh, kw, c
      for stage of the sum:                       # through shared memory, the next ones on their way
        acc[pixels, channels] += surroundings[pixels, stage] * weights[stage, channels]     # mma.sync
      y[pixels, channels] = epilogue(acc)

Nothing is written out: a load finds its factor (kh, kw, c) of a pixel in the image, or a zero; of an image
with its channels first it takes one at a time.  The weights are packed channel by channel, the sum one behind
the other.
"""

from __future__ import annotations

import functools

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.written import tensor_tiles
from deploycc.tvm_api import te, tirx

KNOBS = tensor_tiles.KNOBS

LEAST_CHANNELS = 16
"""Of a group: with fewer of them most of a fragment would be zeros."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    no = tensor_tiles.refusal(target, task.dtype)
    if no is not None:
        return no
    each = task.in_channels // task.groups, task.out_channels // task.groups
    if task.groups > 1 and min(each) < LEAST_CHANNELS:
        return Skip(f"groups of {each[0]} to {each[1]} channels: fewer than {LEAST_CHANNELS}")
    made = product(task)
    if max(made.left_elements, made.rows * task.out_channels) >> 31:
        return Skip("more elements than 32 bits count")
    return Match(task, target)


@functools.cache
def product(conv):
    """The product of matrices that the convolution is, group by group."""
    inside, outside = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    pixels = conv.batch * conv.out_height * conv.out_width
    planar = conv.data_layout == "NCHW"
    if conv.pointwise and not planar:
        source = f"dcc::Rows<{pixels}, {inside}>"
    else:
        numbers = (
            *(
                str(planar).lower(),
                pixels,
                conv.height,
                conv.width,
                conv.in_channels,
                inside,
                *conv.kernel,
                *conv.strides,
            ),
            *(*conv.dilation, *conv.pads[:2], conv.out_height, conv.out_width),
        )
        source = f"dcc::Surroundings<{', '.join(map(str, numbers))}>"
    return tensor_tiles.Product(
        rows=pixels,
        columns=outside,
        inner=conv.kernel[0] * conv.kernel[1] * inside,
        groups=conv.groups,
        source=source,
        run=1 if planar else inside,
        aligned_to=conv.in_channels,
        planar=conv.out_layout == "NCHW",
        left_elements=conv.batch * conv.height * conv.width * conv.in_channels,
    )


def cost(match, knobs):
    """Cycles of the chip; see ``tensor_tiles.cost``."""
    return tensor_tiles.cost(product(match.operator), match.target, knobs)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    conv = match.operator
    (kernel_h, kernel_w), inside = conv.kernel, conv.in_channels // conv.groups
    outside = conv.out_channels // conv.groups
    (sh, sw), (dh, dw), (top, left, _, _) = conv.strides, conv.dilation, conv.pads

    def pack(weight):
        apart = weight.reshape(kernel_h * kernel_w * inside, conv.groups, outside).transpose(1, 0, 2)
        return tensor_tiles.packed(apart, match.target.precision)

    def define(data, weight):
        extents = (("kh", kernel_h), ("kw", kernel_w), ("c", inside))
        kh, kw, c = (te.reduce_axis((0, extent), name) for name, extent in extents)

        def term(n, y, x, o):
            row, column = y * sh + kh * dh - top, x * sw + kw * dw - left
            there = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            channel = c if conv.groups == 1 else o // outside * inside + c
            at = (channel, row, column) if conv.data_layout == "NCHW" else (row, column, channel)
            value = tirx.if_then_else(there, data[(n, *at)], tirx.const(0.0, data.dtype))
            return value.astype("float32") * weight[o, (kh * kernel_w + kw) * inside + c].astype("float32")

        image, attrs = (conv.out_height, conv.out_width), {TASK_ANNOTATION: match.task}
        if conv.out_layout == "NCHW":
            result = te.compute(
                (conv.batch, conv.out_channels, *image),
                lambda n, o, y, x: te.sum(term(n, y, x, o), axis=[kh, kw, c]),
                name="conv",
                attrs=attrs,
            )
        else:
            result = te.compute(
                (conv.batch, *image, conv.out_channels),
                lambda n, y, x, o: te.sum(term(n, y, x, o), axis=[kh, kw, c]),
                name="conv",
                attrs=attrs,
            )
        return tensor_tiles.rounded(result, conv.dtype)

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv = match.operator
    image = conv.out_height * conv.out_width

    def place(row, column):
        n, pixel = (0, row) if conv.batch == 1 else (row // image, row % image)
        y, x = pixel // conv.out_width, pixel % conv.out_width
        return (n, column, y, x) if conv.out_layout == "NCHW" else (n, y, x, column)

    return tensor_tiles.write(sch, product(conv), match.target, knobs, place)
