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
    register_tile_cost,
    round_up,
)
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile": tuple(range(1, 15)),
    "vectors": (1, 2, 3, 4),
    "lanes": (4, 8, 16),
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
    """Cycles: tiles x (reduction steps x cost of a step + epilogue)."""
    batch, rows, inner, columns = shape(match.operator)
    step = register_tile_cost(match.target, knobs["tile"], knobs["vectors"], knobs["lanes"])
    if step is None or knobs["tile"] > rows:
        return None
    width = knobs["vectors"] * knobs["lanes"]
    blocks = -(-columns // width)
    tiles = batch * -(-rows // knobs["tile"]) * blocks
    stores = knobs["tile"] * knobs["vectors"]
    tail = stores * knobs["lanes"] / blocks if columns % width else 0
    partial = 2 * knobs["tile"] if rows % knobs["tile"] else 0
    return tiles * (inner * step + 2 * stores + 2 * tail + partial + 20)


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
    gemm = anchor_block(sch)
    (last,) = output_blocks(sch)
    *leading, column = sch.get_loops(last)
    row = leading.pop() if leading else sch.add_unit_loop(column)
    tiles, row = sch.split(row, [None, tile])
    block, lane = sch.split(column, [None, width])
    if inner * columns * 4 <= match.target.cache.l2 // 2:
        sch.reorder(*leading, tiles, block, row, lane)
        fused, place = [*leading, tiles], block
    else:
        sch.reorder(block, *leading, tiles, row, lane)
        fused, place = [block, *leading], tiles
    if batch * -(-rows // tile) <= 64:
        fused, place = [*fused, place], None
    outer = sch.fuse(*fused) if len(fused) > 1 else fused[0]
    place = outer if place is None else place
    sch.compute_at(gemm, place, preserve_unit_loops=True)
    sch.set_scope(gemm, 0, "local")
    depth = len(sch.get_loops(last)) - 2
    parallelize(sch, outer, batch * rows * inner * columns // lanes)

    *_, row, _, lane, k = sch.get_loops(gemm)
    vector, lane = sch.split(lane, [None, lanes])
    sch.reorder(k, row, vector, lane)
    sch.unroll(row)
    sch.unroll(vector)
    sch.vectorize(lane)
    start = sch.decompose_reduction(gemm, k)
    *unrolled, lane = sch.get_loops(start)[depth:]
    for loop in unrolled:
        sch.unroll(loop)
    sch.vectorize(lane)

    row, lane = sch.get_loops(last)[depth:]
    vector, lane = sch.split(lane, [None, lanes])
    sch.unroll(row)
    sch.unroll(vector)
    sch.vectorize(lane)
