"""Reductions: sums, means, products, maxima and minima with elementwise steps in front of and behind them.

    block (rows), thread (row, lane):             # before: a launch a step, a thread for each result
      for steps of a row: acc += x[..]            # in vectors of four where the row is contiguous
      acc = sum over lanes of acc                 # shuffles, then shared memory
      y = f(acc)

Over axes that do not have the innermost one threads lie across columns and lanes are slices of them, combined
through shared memory.  Few long rows are cut into slices that a second launch adds up.  Partial sums are
added in another order than one after the other.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_rows import row_device_cycles, write_device_rows
from deploycc.scheduling.written.rows import RowKernel

KNOBS = {"lanes": (1, 2, 4, 8, 16, 32, 128, 256, 1024), "slices": (1, 4, 16, 64, 256)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not task.reductions:
        return Skip("nothing is reduced")
    if any(block.combines is None for block in task.reductions):
        return Skip("more is gathered than a sum, product, maximum or minimum")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a walk along each row for every reduction."""
    block, sweeps = match.kernel.reductions[0], len(match.kernel.reductions)
    rows, positions = math.prod(block.spatial), math.prod(block.reduction)
    gpu, last = match.target.gpu, match.kernel.blocks[-1]
    full = not last.reduction and last.operations == block.operations
    return row_device_cycles(
        gpu, rows, positions, sweeps + full, not full, knobs["lanes"], knobs["slices"], 0.01
    )


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_device_rows(RowKernel.of(sch), match.target.gpu, knobs["lanes"], knobs["slices"])
