"""Reductions over rows or columns.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.stages import schedule_reduction_blocks, schedule_spatial_blocks
from deploycc.scheduling.written.rows import RowKernel
from deploycc.scheduling.written.sweeps import write_rows
from deploycc.scheduling.written.writing import NotWritable
import os

KNOBS = {"vectors": (4,)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not task.reductions:
        return Skip("nothing is reduced")
    return Match(None, target)


def cost(match, knobs):
    """One way only: nothing to estimate."""
    return 0.0


def apply(sch, match, knobs):
    """Tile, fuse the epilogue in, vectorise."""
    try:
        kernel = RowKernel.of(sch)
    except NotWritable as e:
        if os.environ.get("NW"): print("NW", e)
        inline_elementwise(sch, single_consumer=True)
        # In this order: scheduling a reduction makes new blocks (its start, its partial sums).
        schedule_spatial_blocks(sch, match.target)
        schedule_reduction_blocks(sch, match.target, knobs["vectors"])
        return None
    return write_rows(kernel, match.target, int(os.environ.get("VEC", 4)), int(os.environ.get("ITEMS", 1)))
