"""Layer, group and instance normalisation, whatever is fused behind them: all of a row while it is cached.

    for rows (parallel):                        # before: a loop nest over the whole tensor for each step
      s[:] = 0
      for vectors of the row: s[:] += x[..]
      m = sum(s) / n
      v[:] = 0
      for vectors of the row: v[:] += (x[..] - m)**2
      r = 1 / sqrt(sum(v) / n + epsilon)
      for vectors of the row: y[..] = f((x[..] - m) * r * scale[..] + shift[..])

A row is whatever the mean is taken over: the last axes, or an image's channels of a group.  What is the same
for all of it is computed once.  What does not fill a vector at the end of a row is a vector that overlaps the
one before it.  Over axes that do not have the innermost one the vectors lie across columns.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.rows import RowKernel, row_cycles
from deploycc.scheduling.written.sweeps import write_rows

KNOBS = {"vectors": (1, 2, 4), "items": (1, 2, 4)}


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
    """Cycles: a vector in two for each sum and the last step."""
    each = 2.0 * (1 + len(match.kernel.reductions))
    return row_cycles(match.kernel, match.target, knobs["vectors"], knobs["items"], each)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_rows(RowKernel.of(sch), match.target, knobs["vectors"], knobs["items"])
