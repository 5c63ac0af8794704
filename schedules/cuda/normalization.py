"""Layer, group, instance and RMS normalisation, whatever is fused behind them: a row in registers.

    block (rows), thread (row, lane):             # before: a launch for each step over the whole tensor
      x' = x[..]; m = sum over lanes of x' / n
      v = sum over lanes of (x' - m)**2
      r = 1 / sqrt(v / n + epsilon)
      y[..] = f((x' - m) * r * scale[..] + shift[..])

A row is whatever the mean is taken over.  One too long for registers is read again; few long rows are cut
into slices, and each walk is a launch.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_rows import row_device_cycles, write_device_rows
from deploycc.scheduling.written.rows import RowKernel

KNOBS = {"lanes": (1, 2, 4, 8, 16, 32, 128, 256, 1024), "slices": (1, 8, 32, 128)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not task.reductions or any(block.combines != "sum" for block in task.reductions):
        return Skip("not a normalisation by sums")
    if task.blocks[-1].reduction or task.blocks[-1].operations != task.reductions[0].operations:
        return Skip("its result is not of the size of what is summed up")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a walk along each row for every sum, and one for the result."""
    block, sums = match.kernel.reductions[0], len(match.kernel.reductions)
    rows, positions = math.prod(block.spatial), math.prod(block.reduction)
    gpu = match.target.gpu
    return row_device_cycles(gpu, rows, positions, sums + 1, False, knobs["lanes"], knobs["slices"])


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_device_rows(RowKernel.of(sch), match.target.gpu, knobs["lanes"], knobs["slices"])
