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
    """(rows, inner, columns) of the product."""
    if isinstance(operator, MatMul):
        return operator.rows, operator.inner, operator.columns
    return operator.batch * operator.height * operator.width, operator.in_channels, operator.out_channels


def match(task, target):
    if isinstance(task, MatMul) or (isinstance(task, Conv2d) and task.pointwise):
        return Match(task, target)
    return Skip("neither a matrix product nor a 1x1 convolution of stride 1 without padding and groups")


def cost(match, knobs):
    """Cycles: tiles x (reduction steps x cost of a step + epilogue)."""
    rows, inner, columns = shape(match.operator)
    step = register_tile_cost(match.target, knobs["tile"], knobs["vectors"], knobs["lanes"])
    if step is None or knobs["tile"] > rows:
        return None
    width = knobs["vectors"] * knobs["lanes"]
    blocks = -(-columns // width)
    tiles = -(-rows // knobs["tile"]) * blocks
    stores = knobs["tile"] * knobs["vectors"]
    tail = stores * knobs["lanes"] / blocks if columns % width else 0
    partial = 2 * knobs["tile"] if rows % knobs["tile"] else 0
    return tiles * (inner * step + 2 * stores + 2 * tail + partial + 20)


def compute(match, knobs):
    operator = match.operator
    rows, inner, columns = shape(operator)
    width, tile = knobs["vectors"] * knobs["lanes"], knobs["tile"]
    blocks = -(-columns // width)

    def pack(weight):
        packed = np.zeros((inner, blocks * width), np.float32)
        packed[:, :columns] = weight.reshape(inner, columns)
        return np.ascontiguousarray(packed.reshape(inner, blocks, width).transpose(1, 0, 2))

    def define(data, weight):
        leading = [int(extent) for extent in data.shape[:-1]]
        k = te.reduce_axis((0, inner), "k")

        def element(row):
            row = tirx.min(row, rows - 1) if rows % tile else row
            index = []
            for extent in reversed(leading):
                index.insert(0, row % extent if len(index) < len(leading) - 1 else row)
                row = row // extent
            return data[(*index, k)].astype("float32")

        accumulated = te.compute(
            (round_up(rows, tile), blocks, width),
            lambda i, o, b: te.sum(element(i) * weight[o, k, b], axis=[k]),
            name="gemm",
            attrs={TASK_ANNOTATION: match.task},
        )

        def out(*index):
            row = index[0]
            for extent, position in zip(leading[1:], index[1:-1], strict=True):
                row = row * extent + position
            return accumulated[row, index[-1] // width, index[-1] % width].astype(operator.dtype)

        return te.compute((*leading, columns), out, name="gemm_out")

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    rows, inner, columns = shape(match.operator)
    width, tile, lanes = knobs["vectors"] * knobs["lanes"], knobs["tile"], knobs["lanes"]
    inline_elementwise(sch)
    gemm = anchor_block(sch)
    (last,) = output_blocks(sch)
    *leading, column = sch.get_loops(last)
    row = sch.fuse(*leading) if len(leading) > 1 else leading[0]
    tiles, row = sch.split(row, [None, tile])
    block, lane = sch.split(column, [None, width])
    if inner * columns * 4 <= match.target.cache.l2 // 2:
        sch.reorder(tiles, block, row, lane)
        outer, place = tiles, block
    else:
        sch.reorder(block, tiles, row, lane)
        outer, place = block, tiles
    if -(-rows // tile) * -(-columns // width) <= 64:
        outer = place = sch.fuse(outer, place)
    sch.compute_at(gemm, place, preserve_unit_loops=True)
    sch.set_scope(gemm, 0, "local")
    depth = len(sch.get_loops(last)) - 2
    parallelize(sch, outer, rows * inner * columns // lanes)

    row, _, lane, k = sch.get_loops(gemm)[depth:]
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
