"""Direct convolution, NHWC, vectorised over output channels, a tile of output columns in registers.

    for n, oc_block, oh (parallel):                    # before:  for n, oh, ow, oc:
      for ow_tile:                                     #              for kh, kw, ic: acc += x * w
        acc[tile][vectors * lanes] = 0                 #
        for kh, kw, ic:                                #
          for t in tile (unrolled):                    #
            acc[t][:] += x[..., ow*s + kw, ic] * w[oc_block, kh, kw, ic, :]
        y[..., ow_tile, oc_block] = epilogue(acc)

One input element is broadcast against ``vectors`` registers of weights and serves them all; one
register of weights serves ``tile`` columns.  Weights are packed as [oc_block, kh, kw, ic, lanes]
and padded with zeros to whole vectors, so that the reduction has no tail; where channels do not fill
whole vectors the epilogue is a second pass over a buffer of whole vectors.  Columns past the
width are computed and dropped: they read zeros where the input is padded anyway, else the
last column again.  The blocks of all groups are one outer loop.
"""

from __future__ import annotations

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import (
    anchor_block,
    inline_elementwise,
    output_blocks,
    parallelize,
    register_tile,
    register_tile_cost,
    registers_of,
    round_up,
    usable_lanes,
    usable_steps,
)
from deploycc.scheduling.stages import schedule_spatial_block
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile": tuple(range(1, 15)),
    "vectors": (1, 2, 3, 4),
    "lanes": tuple(range(1, 17)),
    "steps": (1, 4),
}


NARROW = 4
"""Images narrower than this and at least as tall are tiled over rows instead of columns."""


def tiled_rows(conv):
    """Whether the register tile runs down the image (one-dimensional data often lies that way)."""
    return conv.out_width < NARROW <= conv.out_height


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if (task.data_layout, task.out_layout) != ("NHWC", "NHWC"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NHWC")
    if task.pointwise:
        return Skip("a pointwise convolution is a matrix product (gemm)")
    if task.depthwise and task.out_channels == task.in_channels:
        return Skip("depthwise: one input channel a group leaves nothing to broadcast (depthwise_channels)")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: tiles x (reduction steps x cost of a step + epilogue), plus the second pass if there is one."""
    conv = match.operator
    tile, vectors, lanes, steps = knobs["tile"], knobs["vectors"], knobs["lanes"], knobs["steps"]
    channels = conv.out_channels // conv.groups
    tiled, other = (
        (conv.out_height, conv.out_width) if tiled_rows(conv) else (conv.out_width, conv.out_height)
    )
    inner = conv.in_channels // conv.groups
    if tile > tiled or not usable_lanes(match.target, lanes, channels):
        return None
    if not usable_steps(match.target, steps, inner):
        return None
    step = register_tile_cost(match.target, tile, vectors, lanes, steps)
    width = vectors * lanes
    if step is None or (vectors > 1 and width >= channels + lanes):
        return None
    blocks = -(-channels // width)
    lines = conv.batch * conv.groups * other
    tiles = lines * -(-tiled // tile) * blocks
    taps = conv.kernel[0] * conv.kernel[1]
    stores = tile * vectors * registers_of(match.target, lanes)
    second = lines * tiled * channels / 4 if channels % width else 0
    return tiles * (taps * inner * step + 2 * stores + 20) + second


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    conv = match.operator
    width, tile = knobs["vectors"] * knobs["lanes"], knobs["tile"]
    groups = conv.groups
    in_group, out_group = conv.in_channels // groups, conv.out_channels // groups
    blocks = -(-out_group // width)
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    rows, columns = conv.out_height, conv.out_width
    if tiled_rows(conv):
        rows = round_up(rows, tile)
    else:
        columns = round_up(columns, tile)
    top, left, bottom, right = conv.pads
    missing_rows = max(0, (rows - 1) * stride_h + dil_h * (kernel_h - 1) + 1 - (conv.height + top + bottom))
    missing_columns = max(
        0, (columns - 1) * stride_w + dil_w * (kernel_w - 1) + 1 - (conv.width + left + right)
    )
    if any(conv.pads):
        bottom, right, missing_rows, missing_columns = bottom + missing_rows, right + missing_columns, 0, 0
    last_row, last_column = conv.height + top + bottom - 1, conv.width + left + right - 1

    def pack(weight):
        packed = np.zeros((kernel_h, kernel_w, in_group, groups, blocks * width), np.float32)
        packed[..., :out_group] = weight.reshape(kernel_h, kernel_w, in_group, groups, out_group)
        packed = packed.reshape(kernel_h, kernel_w, in_group, groups * blocks, width)
        return np.ascontiguousarray(packed.transpose(3, 0, 1, 2, 4))

    def define(data, weight):
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")
        ic = te.reduce_axis((0, in_group), "ic")

        def at(n, oh, ow, block):
            row, column = oh * stride_h + kh * dil_h, ow * stride_w + kw * dil_w
            row = tirx.min(row, last_row) if missing_rows else row
            column = tirx.min(column, last_column) if missing_columns else column
            return data[n, row, column, block // blocks * in_group + ic].astype("float32")

        accumulated = te.compute(
            (conv.batch, rows, columns, groups * blocks, width),
            lambda n, oh, ow, o, b: te.sum(at(n, oh, ow, o) * weight[o, kh, kw, ic, b], axis=[kh, kw, ic]),
            name="conv",
            attrs={TASK_ANNOTATION: match.task},
        )

        def out(n, oh, ow, c):
            # Groups of whole vectors lie without gaps: TVM cannot follow a channel through three divisions.
            block, lane = (
                (c // width, c % width)
                if out_group % width == 0
                else (
                    c // out_group * blocks + c % out_group // width,
                    c % out_group % width,
                )
            )
            return accumulated[n, oh, ow, block, lane].astype(conv.dtype)

        image = (conv.batch, conv.out_height, conv.out_width, conv.out_channels)
        return te.compute(image, out, name="conv_out")

    return Algorithm(pads=(top, left, bottom, right), pack=pack, define=define)


def apply(sch, match, knobs):
    """Tile, fuse the epilogue in, vectorise."""
    conv = match.operator
    width, tile, lanes = knobs["vectors"] * knobs["lanes"], knobs["tile"], knobs["lanes"]
    channels = conv.out_channels // conv.groups
    inline_elementwise(sch)
    accumulate = anchor_block(sch)
    (last,) = output_blocks(sch)
    if channels % width:
        # Whole vectors go to a buffer of whole vectors; a second pass does the epilogue.
        writer = sch.cache_write(accumulate, 0, "local")
        n, oh, ow, block, lane = sch.get_loops(writer)
        schedule_spatial_block(sch, last, match.target)
    else:
        writer = last
        n, oh, ow, oc = sch.get_loops(last)
        block, lane = sch.split(oc, [None, width])
    along, across = (oh, ow) if tiled_rows(conv) else (ow, oh)
    tiles, pixel = sch.split(along, [None, tile])
    sch.reorder(n, block, across, tiles, pixel, lane)
    outer = sch.fuse(n, block, across)
    steps = conv.kernel[0] * conv.kernel[1] * (conv.in_channels // conv.groups)
    parallelize(
        sch, outer, conv.batch * conv.out_height * conv.out_width * conv.out_channels * steps // lanes
    )
    register_tile(sch, accumulate, writer, tiles, lanes, 3, knobs["steps"])
