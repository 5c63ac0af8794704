"""Matrix product with constant right side, and pointwise convolution: rows x inner times inner x columns.

    for row_tile x column_block (parallel):            # before:  for i, j: for k: acc += a[i,k] * b[k,j]
        acc[tile][vectors * lanes] = 0
        for k:
          for t in tile (unrolled):
            acc[t][:] += a[row + t, k] * b[column_block, k, :]
        y[row_tile, column_block] = epilogue(acc)

All pixels of a 1x1 convolution are rows of one matrix.  ``b`` is packed as
[column_block, k, lanes] and padded with zeros to whole vectors.  Rows past the end read the
last row again and are dropped.  Which loop is outermost depends on which operand should stay in
the level-2 cache.
"""

from __future__ import annotations

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, MatMul, Skip
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
)
from deploycc.scheduling.stages import schedule_spatial_block
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile": tuple(range(1, 15)),
    "vectors": (1, 2, 3, 4),
    "lanes": tuple(range(1, 17)),
}


def shape(operator):
    """(batch, rows, inner, columns) of the product; a convolution's image rows are its batch."""
    if isinstance(operator, MatMul):
        return operator.batch, operator.rows, operator.inner, operator.columns
    return operator.batch * operator.height, operator.width, operator.in_channels, operator.out_channels


def match(task, target):
    if isinstance(task, MatMul) or (isinstance(task, Conv2d) and task.pointwise):
        return Match(task, target)
    return Skip("neither a matrix product nor a 1x1 convolution of stride 1 without padding and groups")


def cost(match, knobs):
    """Cycles: tiles x (reduction steps x cost of a step + epilogue), and a second pass if columns do not fit."""
    batch, rows, inner, columns = shape(match.operator)
    tile, vectors, lanes = knobs["tile"], knobs["vectors"], knobs["lanes"]
    if tile > rows or not usable_lanes(match.target, lanes, columns):
        return None
    step = register_tile_cost(match.target, tile, vectors, lanes)
    width = vectors * lanes
    if step is None or (vectors > 1 and width >= columns + lanes):
        return None
    tiles = batch * -(-rows // tile) * -(-columns // width)
    stores = tile * vectors * registers_of(match.target, lanes)
    partial = 2 * tile if rows % tile else 0
    second = batch * rows * columns / 4 if columns % width else 0
    return tiles * (inner * step + 2 * stores + partial + 20) + second


def compute(match, knobs):
    operator = match.operator
    batch, rows, inner, columns = shape(operator)
    width, tile = knobs["vectors"] * knobs["lanes"], knobs["tile"]
    blocks = -(-columns // width)

    def pack(weight):
        packed = np.zeros((inner, blocks * width), np.float32)
        packed[:, :columns] = weight.reshape(inner, columns)
        return np.ascontiguousarray(packed.reshape(inner, blocks, width).transpose(1, 0, 2))

    def define(data, weight):
        leading = [int(extent) for extent in data.shape[:-1]] or [1]
        k = te.reduce_axis((0, inner), "k")

        def element(*index):
            *outer, row = index
            row = tirx.min(row, rows - 1) if rows % tile else row
            return data[(*outer, row, k) if len(data.shape) > 1 else (k,)].astype("float32")

        accumulated = te.compute(
            (*leading[:-1], round_up(rows, tile), blocks, width),
            lambda *i: te.sum(element(*i[:-2]) * weight[i[-2], k, i[-1]], axis=[k]),
            name="gemm",
            attrs={TASK_ANNOTATION: match.task},
        )

        def out(*index):
            row = index[:-1] or (0,)
            return accumulated[(*row, index[-1] // width, index[-1] % width)].astype(operator.dtype)

        return te.compute((*data.shape[:-1], columns), out, name="gemm_out")

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    batch, rows, inner, columns = shape(match.operator)
    width, tile, lanes = knobs["vectors"] * knobs["lanes"], knobs["tile"], knobs["lanes"]
    inline_elementwise(sch)
    accumulate = anchor_block(sch)
    (last,) = output_blocks(sch)
    if columns % width:
        # Whole vectors go to a buffer of whole vectors; a second pass does the epilogue.
        writer = sch.cache_write(accumulate, 0, "local")
        *leading, row, block, lane = sch.get_loops(writer)
        schedule_spatial_block(sch, last, match.target)
    else:
        writer = last
        *leading, column = sch.get_loops(last)
        row = leading.pop() if leading else sch.add_unit_loop(column)
        block, lane = sch.split(column, [None, width])
    tiles, row = sch.split(row, [None, tile])
    if inner * columns * 4 <= match.target.cache.l2 // 2:
        sch.reorder(*leading, tiles, block, row, lane)
        fused, place = [*leading, tiles], block
    else:
        sch.reorder(block, *leading, tiles, row, lane)
        fused, place = [block, *leading], tiles
    if batch * -(-rows // tile) <= 64:
        fused, place = [*fused, place], None
    outer = sch.fuse(*fused) if len(fused) > 1 else fused[0]
    parallelize(sch, outer, batch * rows * inner * columns // lanes)
    register_tile(sch, accumulate, writer, outer if place is None else place, lanes, reduction=1)
