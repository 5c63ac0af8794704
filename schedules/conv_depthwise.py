"""Depthwise convolution, NHWC, vectorised over channels, a tile of output columns in registers.

    for n, oh (parallel):                              # before:  for n, oh, ow, c:
      for ow_tile, channel_block:                      #              for kh, kw: acc += x * w
        acc[tile][vectors * lanes] = 0
        for kh: for kw, t in tile (unrolled):
            acc[t][:] += x[oh*s + kh, (ow + t)*s + kw, channels] * w[kh, kw, channels]
        y[oh, ow_tile, channel_block] = epilogue(acc)

Every access is contiguous over channels, whatever the stride and kernel.  Columns past the width are
computed from the padding (or from the last column) and dropped.
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
    registers_of,
    round_up,
    usable_lanes,
)
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile": (1, 2, 3, 4, 5, 6, 7, 8),
    "vectors": (1, 2, 4),
    "lanes": tuple(range(1, 17)),
}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d) or not task.depthwise:
        return Skip("not a depthwise convolution")
    if (task.data_layout, task.out_layout) != ("NHWC", "NHWC"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NHWC")
    if task.out_channels != task.in_channels:
        return Skip("a channel multiplier is a grouped convolution (conv_direct)")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: tiles x (taps x multiply-adds and loads + epilogue)."""
    conv = match.operator
    tile, vectors, lanes = knobs["tile"], knobs["vectors"], knobs["lanes"]
    width = vectors * lanes
    if tile > conv.out_width or conv.in_channels % width:
        return None
    if not usable_lanes(match.target, lanes, conv.in_channels):
        return None
    registers = vectors * registers_of(match.target, lanes)
    if tile * registers + 2 * registers > match.target.simd.registers:
        return None
    tiles = conv.batch * conv.out_height * -(-conv.out_width // tile) * (conv.in_channels // width)
    taps = conv.kernel[0] * conv.kernel[1]
    return tiles * (taps * max((tile + 1) * registers / 2, 4.0) + 2 * tile * registers + 20)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    conv = match.operator
    tile = knobs["tile"]
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    columns = round_up(conv.out_width, tile)
    top, left, bottom, right = conv.pads
    needed = (columns - 1) * stride_w + dil_w * (kernel_w - 1) + 1
    missing = max(0, needed - (conv.width + left + right))
    if any(conv.pads):
        right, missing = right + missing, 0
    last = conv.width + left + right - 1

    def pack(weight):
        return np.ascontiguousarray(weight.reshape(kernel_h, kernel_w, conv.in_channels).astype(np.float32))

    def define(data, weight):
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")

        def at(n, oh, ow, c):
            column = ow * stride_w + kw * dil_w
            column = tirx.min(column, last) if missing else column
            return data[n, oh * stride_h + kh * dil_h, column, c].astype("float32")

        accumulated = te.compute(
            (conv.batch, conv.out_height, columns, conv.out_channels),
            lambda n, oh, ow, c: te.sum(at(n, oh, ow, c) * weight[kh, kw, c], axis=[kh, kw]),
            name="depthwise",
            attrs={TASK_ANNOTATION: match.task},
        )
        return te.compute(
            (conv.batch, conv.out_height, conv.out_width, conv.out_channels),
            lambda n, oh, ow, c: accumulated[n, oh, ow, c].astype(conv.dtype),
            name="depthwise_out",
        )

    return Algorithm(pads=(top, left, bottom, right), pack=pack, define=define)


def apply(sch, match, knobs):
    """Tile, fuse the epilogue in, vectorise."""
    conv = match.operator
    width, tile, lanes = knobs["vectors"] * knobs["lanes"], knobs["tile"], knobs["lanes"]
    inline_elementwise(sch)
    accumulate = anchor_block(sch)
    (last,) = output_blocks(sch)
    n, oh, ow, oc = sch.get_loops(last)
    tiles, column = sch.split(ow, [None, tile])
    block, lane = sch.split(oc, [None, width])
    sch.reorder(n, oh, tiles, block, column, lane)
    outer = sch.fuse(n, oh)
    taps = conv.kernel[0] * conv.kernel[1]
    parallelize(sch, outer, conv.batch * conv.out_height * conv.out_width * conv.out_channels * taps // lanes)
    register_tile(sch, accumulate, last, block, lanes, reduction=2)
