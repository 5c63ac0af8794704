"""Reductions: sums, means, products, maxima and minima with elementwise steps in front of and behind them.

    for rows (parallel):                        # before: one nest a step, innermost loop the reduction
      acc[vectors][:] = 0
      for steps of a row: acc[0][:] += x[..]; acc[1][:] += x[..]
      acc[..][:] += x[..]                       # what is left, the last vector overlapping the one before
      y = f(sum(acc))

Over axes that do not have the innermost one the vectors lie across columns, each a number of its own.
Partial sums are added in another order than one after the other (rounding differs in the last bits, as
between any two libraries).

A kernel of another form (windows, an arg-maximum, a product of two tensors) gets a loop nest for each step:
over outer dimensions vectorised over the innermost spatial one, over the innermost one split over lanes.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.stages import schedule_reduction_blocks, schedule_spatial_blocks
from deploycc.scheduling.written.rows import RowKernel
from deploycc.scheduling.written.sweeps import write_rows
from deploycc.scheduling.written.writing import NotWritable

KNOBS = {"vectors": (1, 2, 4, 8), "items": (1, 2, 4)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not task.reductions:
        return Skip("nothing is reduced")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: as if every step were a nest of its own; four vectors in flight hide an addition's latency."""
    blocks = match.kernel.blocks
    work = 8.0 * sum(block.operations for block in blocks) / match.target.simd.lanes()
    rows = math.prod(match.kernel.reductions[0].spatial)
    side = knobs["vectors"] * knobs["items"]
    return (work + 60.0 * rows) * (1.0 + abs(side - 4) / 100 + knobs["items"] / 1000)


def apply(sch, match, knobs):
    """Write the kernel, or tile, fuse the epilogue in and vectorise."""
    try:
        kernel = RowKernel.of(sch)
    except NotWritable:  # it has inlined what can be
        # In this order: scheduling a reduction makes new blocks (its start, its partial sums).
        schedule_spatial_blocks(sch, match.target)
        schedule_reduction_blocks(sch, match.target, knobs["vectors"])
        return None
    return write_rows(kernel, match.target, knobs["vectors"], knobs["items"])
