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

import math

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


MANY_ROWS = 8
"""Rows enough for a register tile; a last axis shorter than this is not tiled if a longer one exists."""


def shape(operator):
    """(leading extents, which of them is tiled, inner, columns) of the product."""
    if isinstance(operator, MatMul):
        leading, inner, columns = operator.leading or (1,), operator.inner, operator.columns
    else:
        leading = (operator.batch, operator.height, operator.width)
        inner, columns = operator.in_channels, operator.out_channels
    axis = len(leading) - 1
    if leading[axis] < MANY_ROWS:
        axis = max(range(len(leading)), key=lambda position: (leading[position], position))
    return leading, axis, inner, columns


def match(task, target):
    """Say which tasks are taken."""
    if isinstance(task, Conv2d) and (task.data_layout, task.out_layout) != ("NHWC", "NHWC"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NHWC")
    if isinstance(task, MatMul) or (isinstance(task, Conv2d) and task.pointwise):
        return Match(task, target)
    return Skip("neither a matrix product nor a 1x1 convolution of stride 1 without padding and groups")


def cost(match, knobs):
    """Cycles: tiles x (reduction steps x cost of a step + epilogue), plus the second pass if there is one."""
    leading, axis, inner, columns = shape(match.operator)
    rows, batch = leading[axis], math.prod(leading) // leading[axis]
    tile, vectors, lanes, steps = knobs["tile"], knobs["vectors"], knobs["lanes"], knobs["steps"]
    if tile > rows or not usable_lanes(match.target, lanes, columns):
        return None
    if not usable_steps(match.target, steps, inner):
        return None
    step = register_tile_cost(match.target, tile, vectors, lanes, steps)
    width = vectors * lanes
    if step is None or (vectors > 1 and width >= columns + lanes):
        return None
    tiles = batch * -(-rows // tile) * -(-columns // width)
    stores = tile * vectors * registers_of(match.target, lanes)
    partial = 2 * tile if rows % tile else 0
    second = batch * rows * columns / 4 if columns % width else 0
    return tiles * (inner * step + 2 * stores + partial + 20) + second


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    operator = match.operator
    leading, axis, inner, columns = shape(operator)
    width, tile = knobs["vectors"] * knobs["lanes"], knobs["tile"]
    blocks, rows = -(-columns // width), leading[axis]

    def pack(weight):
        packed = np.zeros((inner, blocks * width), np.float32)
        packed[:, :columns] = weight.reshape(inner, columns)
        return np.ascontiguousarray(packed.reshape(inner, blocks, width).transpose(1, 0, 2))

    def define(data, weight):
        k = te.reduce_axis((0, inner), "k")
        vector = len(data.shape) == 1

        def element(*index):
            index = list(index)
            if rows % tile:
                index[axis] = tirx.min(index[axis], rows - 1)
            return data[(k,) if vector else (*index, k)].astype("float32")

        padded = [round_up(n, tile) if position == axis else n for position, n in enumerate(leading)]
        accumulated = te.compute(
            (*padded, blocks, width),
            lambda *i: te.sum(element(*i[:-2]) * weight[i[-2], k, i[-1]], axis=[k]),
            name="gemm",
            attrs={TASK_ANNOTATION: match.task},
        )

        def out(*index):
            row = (0,) if vector else index[:-1]
            return accumulated[(*row, index[-1] // width, index[-1] % width)].astype(operator.dtype)

        return te.compute((*data.shape[:-1], columns), out, name="gemm_out")

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Tile, fuse the epilogue in, vectorise."""
    leading, axis, inner, columns = shape(match.operator)
    width, tile, lanes = knobs["vectors"] * knobs["lanes"], knobs["tile"], knobs["lanes"]
    inline_elementwise(sch)
    accumulate = anchor_block(sch)
    (last,) = output_blocks(sch)
    if columns % width:
        # Whole vectors go to a buffer of whole vectors; a second pass does the epilogue.
        writer = sch.cache_write(accumulate, 0, "local")
        *outer, block, lane = sch.get_loops(writer)
        schedule_spatial_block(sch, last, match.target)
    else:
        writer = last
        *outer, column = sch.get_loops(last)
        block, lane = sch.split(column, [None, width])
        outer = outer or [sch.add_unit_loop(block)]
    tiles, row = sch.split(outer.pop(axis), [None, tile])
    if inner * columns * 4 <= match.target.cache.l2 // 2:
        sch.reorder(*outer, tiles, block, row, lane)
        fused, place = [*outer, tiles], block
    else:
        sch.reorder(block, *outer, tiles, row, lane)
        fused, place = [block, *outer], tiles
    if math.prod(leading) <= 64 * tile:
        fused, place = [*fused, place], None
    head = sch.fuse(*fused) if len(fused) > 1 else fused[0]
    parallelize(sch, head, math.prod(leading) * inner * columns // lanes)
    register_tile(sch, accumulate, writer, head if place is None else place, lanes, 1, knobs["steps"])
