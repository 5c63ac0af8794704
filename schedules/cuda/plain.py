"""Any kernel: a thread for each element of a result, a launch for each step that could not be inlined.

    for block, thread (256):            # before: one nest a step
      for reduction: acc += ...
      y[...] = f(acc)

What no other schedule takes runs like this: right, on the GPU, and for reductions slow.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.device_blocks import bind_blocks, on_device
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import inline_elementwise

KNOBS = {"threads": (256,)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles of the chip: a thread reads an operand about every eight; a launch takes some thousand."""
    gpu = match.target.gpu
    lanes = gpu.processors * gpu.threads_per_processor
    work = sum(block.operations for block in match.kernel.blocks)
    return 4000.0 * len(match.kernel.blocks) + 64.0 * work / lanes + 1e12


def apply(sch, match, knobs):
    """Inline, and deal elements out to threads."""
    inline_elementwise(sch)
    bind_blocks(sch, knobs["threads"])
    return on_device(sch.mod["main"])
