"""Transposition, with elementwise operators before and behind it, in tiles of 32 x 32 in shared memory.

    block (outer, tile):                           # before:  for outer, p, c:
      for c, threads p: t[c][p] = x[c, p]          #            y[p, c] = f(x[c, p], z[p, c])
      sync
      for p, threads c: y[p, c] = f(t[c][p], z[p, c])

``c`` is the result's innermost axis and ``p`` the operand's; neighbours that lie as one in all operands (rows
and columns of an image) are one axis.  Lines of a tile are one element longer than it is wide, so that a
column of it lies in 32 banks.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_threads import device_cycles
from deploycc.scheduling.written.device_transposing import write_tiles
from deploycc.scheduling.written.strided_kernel import StridedKernel

KNOBS = {"threads": (128, 256)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if task.reductions:
        return Skip("the kernel reduces")
    if not any(block.strided for block in task.blocks):
        return Skip("nothing is transposed: no operand is read across its innermost axis")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: everything is read and written once; the barrier costs a little."""
    elements = match.kernel.blocks[-1].operations
    threads = elements * knobs["threads"] / 1024
    return device_cycles(match.target.gpu, 1, 8.0 * elements, threads, 1.0 + 64.0 / knobs["threads"])


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_tiles(StridedKernel.of(sch), knobs["threads"])
