"""Kernels that reduce nothing: elementwise chains, padding, transposes, concatenation, resizing.

    for outer (parallel):                # before: one loop a dimension, one nest a step
      for inner (vectorised): y[...] = f(g(h(x...)))

Every step is inlined into the one that writes the result.  If all tensors are indexed alike, all
loops become one; otherwise the innermost dimension is the vector and the rest are fused.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.stages import schedule_spatial_blocks

KNOBS = {}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if task.reductions:
        return Skip("the kernel reduces")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a vector in about two, an element that is read with a stride in about eleven."""
    lanes = match.target.simd.lanes()
    return sum(block.operations * (11.0 if block.strided else 2 / lanes) for block in match.kernel.blocks)


def apply(sch, match, knobs):
    """Tile, fuse the epilogue in, vectorise."""
    inline_elementwise(sch)
    schedule_spatial_blocks(sch, match.target)
