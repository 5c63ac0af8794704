"""Softmax and log-softmax, whatever is fused behind them, over any axes: a row in registers.

    block (rows), thread (row, lane):             # before: a launch for each step over the whole tensor
      x' = x[..]; m = max over lanes of x'
      e = exp(x' - m); s = sum over lanes of e
      y[..] = f(e / s)

A row is a few threads', a warp's or a block's; one too long for registers is read again.  Over an axis that
is not the innermost one threads lie across columns.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_rows import row_device_cycles, write_device_rows
from deploycc.scheduling.written.rows import RowKernel

KNOBS = {"lanes": (1, 2, 4, 8, 16, 32, 128, 256, 1024), "slices": (1, 8, 32)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if [block.combines for block in task.reductions] != ["max", "sum"]:
        return Skip("not a maximum followed by a sum")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: three walks along each row."""
    block = match.kernel.reductions[0]
    rows, positions = math.prod(block.spatial), math.prod(block.reduction)
    return row_device_cycles(match.target.gpu, rows, positions, 3, False, knobs["lanes"], knobs["slices"])


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_device_rows(RowKernel.of(sch), match.target.gpu, knobs["lanes"], knobs["slices"])
