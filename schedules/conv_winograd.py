"""Winograd's 3x3 convolution, stride 1: F(2, 3), F(4, 3) or F(6, 3) along rows and along columns.

    for strip of output tiles (parallel):              # before:  for n, k, oh, ow:
      for chunk of one vector of input channels:       #            for c, kh, kw: acc += x * w
        pixels[:][lanes] = input with padding          #
        for tile: v[xi][tile][chunk] = B pixels B'     #
      for block of output channels:                    #
        for xi in n x n:                               #
          m[xi][tile][block] = v[xi][tile] * u[xi][block]
        for vector in block:                           #
          for tile: image[tile] = A m A'               #
          y[...] = epilogue(image)                     #

A tile of p x q results takes (p + 2) (q + 2) multiplications for each pair of channels instead of 9 p q.
Weights are transformed when the package is built.  The transforms are vectors of channels and the products a
register tile of ``rows`` tiles x ``vectors`` vectors of output channels, so that nothing depends on how wide
the image is; an NCHW image is transposed on its way into ``pixels`` and out of ``image``, which fit
the level-1 cache.  What lies outside the image is computed and dropped.  Where there are fewer strips
than threads want, chunks and blocks run in parallel instead.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, register_tile_cost, usable_steps
from deploycc.scheduling.written.winograd import POINTS, estimated_error
from deploycc.scheduling.written.winograd_kernel import Strip
from deploycc.scheduling.written.winograd_tiling import PARALLEL_TASKS, strip_of, tiling_of
from deploycc.scheduling.written.writing import FusedKernel, Writer
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile_rows": tuple(POINTS),
    "tile_columns": tuple(POINTS),
    "strip": (8, 12, 16, 24, 32, 48, 64),
    "rows": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16),
    "vectors": (1, 2, 3, 4),
    "steps": (1, 4),
}

TOLERANCE = 5e-5
"""Transforms whose error may exceed this share of the largest result are left out: half of what may be."""

NEAR, FAR = 24, 7
"""Bytes of weights a cycle from the level-2 cache and from beyond, beside the products."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if task.kernel != (3, 3) or task.strides != (1, 1) or task.dilation != (1, 1):
        return Skip("not a 3x3 convolution of stride 1 without dilation")
    if task.dtype != "float32":
        return Skip(f"transformed weights of {task.dtype} would lose too many digits")
    if min(task.in_channels, task.out_channels) // task.groups < 4:
        return Skip("groups of fewer than four channels: the transforms cost more than they save")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: products, transforms and copies of all strips; weights as fast as the cache they lie in."""
    target, conv, rows, vectors = match.target, match.operator, knobs["rows"], knobs["vectors"]
    lanes = target.simd.lanes()
    in_group, out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    if not usable_steps(target, knobs["steps"], in_group):
        return None
    step = register_tile_cost(target, rows, vectors, lanes, knobs["steps"])
    if step is None or (vectors > 1 and vectors * lanes >= out_group + lanes):
        return None
    strip = strip_cost(conv, target.simd, knobs["tile_rows"], knobs["tile_columns"], knobs["strip"])
    if strip is None or rows > strip[0].tiles:
        return None
    (tiling, fixed), blocks = strip, -(-out_group // (vectors * lanes))
    products = tiling.products * -(-tiling.tiles // rows) * (in_group * step + 2 * rows * vectors + 20)
    weights = tiling.products * in_group * vectors * lanes * 4
    stream = weights / (FAR if blocks * weights > target.cache.l2 // 2 else NEAR)
    total = fixed + blocks * (max(products, stream) + min(products, stream) / 10)
    scratch = tiling.scratch_bytes + 4 * tiling.products * tiling.tiles * (vectors - 1) * lanes
    if scratch > target.cache.l2 // 8:
        total += scratch / (16 if scratch < target.cache.l2 * 3 // 4 else 4)
    return tiling.strips * total


@lru_cache(maxsize=4096)
def strip_cost(conv, simd, tile_rows, tile_columns, strip):
    """A strip and its cycles beside the products, whatever its register tile (the tiling's own is 1 x 1).

    ``None`` where a smaller ``strip`` stands for the same or the result would be too inexact.
    """
    if min(conv.out_height, conv.out_width) < 2:
        return None
    shape = strip_of(conv, tile_rows, tile_columns, strip)
    smaller = [most for most in KNOBS["strip"] if most < strip]
    if any(strip_of(conv, tile_rows, tile_columns, most) == shape for most in smaller):
        return None
    knobs = {"tile_rows": tile_rows, "tile_columns": tile_columns, "strip": strip, "rows": 1, "vectors": 1}
    tiling = tiling_of(conv, simd.lanes(), knobs)
    if estimated_error(tiling.down, tiling.along, tiling.in_group) > TOLERANCE:
        return None
    read, written = transform_costs(tiling, simd.registers)
    return tiling, tiling.chunks * read + tiling.out_vectors * written


def transform_costs(tiling, registers):
    """Cycles for one vector of input channels of a strip, and for one of output channels."""
    down, along, conv = tiling.down, tiling.along, tiling.conv
    data = along.size * down.data_operations + down.size * along.data_operations
    result = along.size * down.result_operations + down.m * along.result_operations
    # Two operations a cycle, a load and a store each; what finds no register between rows and columns goes
    # to memory and back, in the way of all else.
    moved = 2 * tiling.products + 6 * max(0, tiling.products - registers)
    copied, transposed = 2, 2 + 0.3 * tiling.lanes
    read = tiling.tiles * (data / 2 + moved)
    read += tiling.in_rows * tiling.in_columns * (copied if conv.data_layout == "NHWC" else transposed)
    written = tiling.tiles * (result / 2 + moved)
    written += tiling.tiles * down.m * along.m * (copied if conv.out_layout == "NHWC" else transposed)
    return read, written


def compute(match, knobs):
    """The transformed weights, and the convolution with the kernel read back from them."""
    tiling = tiling_of(match.operator, match.target.simd.lanes(), knobs)
    conv, down, along = tiling.conv, tiling.down, tiling.along
    in_group, out_group, width, blocks = tiling.in_group, tiling.out_group, tiling.width, tiling.blocks
    top, left, _, _ = conv.pads

    def pack(weight):
        # HWIO -> [group, block, coefficient, channel, channel of the block]
        exact = along.pack(down.pack(weight.astype(np.float64), 0), 1)
        packed = np.zeros((tiling.products, in_group, conv.groups, blocks * width), np.float32)
        packed[..., :out_group] = exact.reshape(tiling.products, in_group, conv.groups, out_group)
        packed = packed.reshape(tiling.products, in_group, conv.groups, blocks, width)
        return np.ascontiguousarray(packed.transpose(2, 3, 0, 1, 4))

    def define(data, weight):
        ic = te.reduce_axis((0, in_group), "ic")
        kh, kw = te.reduce_axis((0, 3), "kh"), te.reduce_axis((0, 3), "kw")
        row_term, column_term = te.reduce_axis((0, 2), "row_term"), te.reduce_axis((0, 2), "column_term")

        def pixel(n, channel, y, x):
            row, column = y + kh - top, x + kw - left
            inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            row = tirx.max(0, tirx.min(row, conv.height - 1))
            column = tirx.max(0, tirx.min(column, conv.width - 1))
            place = (row, column, channel) if conv.data_layout == "NHWC" else (channel, row, column)
            return tirx.if_then_else(inside, data[(n, *place)], tirx.const(0, "float32"))

        def term(transform, tap, number):
            """Row of the transformed kernel and its factor for one of two terms of a tap."""
            rows, factors = [], []
            for k in range(3):
                terms = [*transform.kernel_terms(k), (0, 0.0)][:2]
                rows.append(tirx.Select(number == 0, *(tirx.const(r, "int64") for r, _ in terms)))
                factors.append(tirx.Select(number == 0, *(tirx.const(f, "float32") for _, f in terms)))
            return tuple(
                tirx.Select(tap == 0, v[0], tirx.Select(tap == 1, v[1], v[2])) for v in (rows, factors)
            )

        def weight_of(channel):
            row, row_factor = term(down, kh, row_term)
            column, column_factor = term(along, kw, column_term)
            inside = channel % out_group
            place = (channel // out_group, inside // width, row * along.size + column, ic, inside % width)
            return weight[place] * (row_factor * column_factor)

        def product(n, channel, y, x):
            return pixel(n, channel // out_group * in_group + ic, y, x) * weight_of(channel)

        axes = [ic, kh, kw, row_term, column_term]
        if conv.out_layout == "NHWC":
            shape = (conv.batch, conv.out_height, conv.out_width, conv.out_channels)
            body = lambda n, y, x, o: te.sum(product(n, o, y, x), axis=axes)  # noqa: E731
        else:
            shape = (conv.batch, conv.out_channels, conv.out_height, conv.out_width)
            body = lambda n, o, y, x: te.sum(product(n, o, y, x), axis=axes)  # noqa: E731
        return te.compute(shape, body, name="conv", attrs={TASK_ANNOTATION: match.task})

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    tiling = tiling_of(match.operator, match.target.simd.lanes(), knobs)
    writer = Writer(FusedKernel.of(sch))
    work = tiling.strips * tiling.tiles * tiling.products * tiling.in_group * tiling.blocks * tiling.vectors
    parallel = "parallel" if work >= PARALLEL_OPERATIONS else "serial"
    by_strips = tiling.strips >= PARALLEL_TASKS
    with writer.loop(tiling.strips, "strip", parallel if by_strips else "serial") as strip:
        kernel = Strip(writer, tiling, strip, knobs["steps"])
        inner = "serial" if by_strips else parallel
        pixels = kernel.clear() if by_strips else None
        with writer.loop(tiling.chunks, "chunk", inner) as chunk:
            kernel.read(kernel.clear() if pixels is None else pixels, chunk)
        with writer.loop(tiling.blocks, "block", inner) as block:
            kernel.multiply(block)
            with writer.loop(tiling.vectors, "vector") as vector:
                kernel.write(block, vector)
    return writer.finish()
