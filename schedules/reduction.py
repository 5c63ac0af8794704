"""Kernels with reductions: pooling, means, softmax, normalisation, products of two variable matrices.

    for outer (parallel):                # before: one nest a step, innermost loop the reduction
      acc[rows][vectors * lanes] = 0
      for reduction: acc[:][:] += x[...]
      y[outer, :] = acc

Each step is a stage of its own.  A reduction over outer dimensions is vectorised over the innermost
spatial one; a reduction over the innermost dimension is split over the lanes of a vector, which adds
in a different order (rounding differs in the last bits, as between any two libraries).
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.stages import schedule_reduction_blocks, schedule_spatial_blocks

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
    inline_elementwise(sch, single_consumer=True)
    # In this order: scheduling a reduction makes new blocks (its start, its partial sums).
    schedule_spatial_blocks(sch, match.target)
    schedule_reduction_blocks(sch, match.target, knobs["vectors"])
