"""Kernels that reduce nothing: elementwise chains, broadcasts, padding, gathers, concatenation, resizing.

    for block, thread:                   # before: one nest a step
      for vector (4): y[...] = f(g(h(x...)))

Every step is inlined into the one that writes the result.  Axes along which all operands lie as one are
counted as one, so that an index that is not needed takes no division.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_elements import write_elements
from deploycc.scheduling.written.device_nests import NestedKernel
from deploycc.scheduling.written.device_threads import device_cycles

KNOBS = {"vector": (1, 4)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if task.reductions:
        return Skip("the kernel reduces")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: what is read and written once; threads of one element each make four times as many."""
    gpu, elements = match.target.gpu, match.kernel.blocks[-1].operations
    # A warp that reads along no row of memory waits for 32 lines, of which a part is of use.
    strided = 4.0 if any(block.strided for block in match.kernel.blocks) else 1.0
    # Few elements are better spread over all processors.
    threads = elements / knobs["vector"]
    steps = (1.0 + 0.1 * knobs["vector"]) * math.sqrt(strided)
    return device_cycles(gpu, 1, 8.0 * elements * strided, threads, steps)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_elements(NestedKernel.of(sch), match.target.gpu, 1, knobs["vector"])
