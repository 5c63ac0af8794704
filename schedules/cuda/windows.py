"""Reductions in one launch, a thread or several for each result: pools, arg-maxima, sums of products.

    for block, thread (result, lane):         # before: a launch for each step, a thread for each result
      for steps of the reduction: acc = gather(acc, x[..])
      acc = all lanes' acc
      y = f(acc)

Windows are written out; where channels are innermost a thread computes four of them, with loads of 128 bits.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_elements import write_elements
from deploycc.scheduling.written.device_nests import NestedKernel
from deploycc.scheduling.written.device_threads import device_cycles

KNOBS = {"lanes": (1, 4, 8, 16, 32, 256), "vector": (1, 4)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not task.reductions:
        return Skip("nothing is reduced")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a step of a lane waits for memory, and lanes for one another at the end."""
    lanes, vector = knobs["lanes"], knobs["vector"]
    if lanes > 1 and vector > 1:
        return None
    gpu, cycles = match.target.gpu, 0.0
    for block in match.kernel.reductions:
        results = math.prod(block.spatial)
        positions = math.prod(block.reduction)
        steps = -(-positions // lanes) * (0.5 + 0.125 * vector)
        if positions <= 32 and lanes == 1:
            steps /= 4.0  # written out: all loads are on their way at once
        closing = 0.3 * math.log2(lanes) + (1.0 if lanes > 32 else 0.0)
        moved = 4.0 * results * (1 + min(positions, 4))
        if block.product:  # what lies across a warp's threads comes a sector for each, from level 2
            moved += 16.0 * results * positions
        cycles += device_cycles(gpu, 1, moved, results * lanes / vector, 0.5 * steps + closing)
    # Where the shape allows a special form, that one is better.
    return 1.5 * cycles + 1000.0


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_elements(NestedKernel.of(sch), match.target.gpu, knobs["lanes"], knobs["vector"])
