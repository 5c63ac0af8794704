"""Products of two matrices that are both computed, one or a batch of them, as attention has them.

    block (batch, row tile, column tile):        # before: a thread for each result, both operands from memory
      for 16 steps of the sum:
        shared l[16][rows], r[16][columns] = x[b, .., k], w[b, k, ..]
        sync
        thread: acc[each][each] += l[k][..] * r[k][..]
        sync
      y[b, .., ..] = f(acc)

Operands may lie along rows, columns or any other way, and may be computed from others on the way.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.device_batched_products import product_cycles, write_products
from deploycc.scheduling.written.device_nests import NestedKernel
from deploycc.scheduling.written.device_threads import LAUNCH_SECONDS

KNOBS = {"rows": (16, 32, 64), "columns": (16, 32, 64), "each": (2, 4)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if len(task.reductions) != 1 or task.reductions[0].combines != "sum":
        return Skip("not a product of two matrices")
    block = task.reductions[0]
    if len(block.reduction) != 1 or len(block.spatial) < 2:
        return Skip("a sum of products, but of no two matrices")
    if block.spatial[-1] < 2:
        return Skip("a matrix by a vector: every result is a sum along a row")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: multiply-adds of whole tiles, at the rate that a thread's tile allows."""
    block, gpu = match.kernel.reductions[0], match.target.gpu
    (inner,), (*batch, height, width) = block.reduction, block.spatial
    rows, columns, each = knobs["rows"], knobs["columns"], knobs["each"]
    if not 32 <= rows * columns // each**2 <= 512:
        return None
    if (rows > 16 and rows >= 2 * height) or (columns > 16 and columns >= 2 * width):
        return None
    rate = gpu.flops.get("fp32", gpu.processors * 128 * gpu.clock_hz) / 2 / gpu.clock_hz
    threads = gpu.processors * gpu.threads_per_processor * (0.5 if each == 4 else 0.75)
    blocks = math.prod(batch) * -(-height // rows) * -(-width // columns)
    cycles = product_cycles(rate, threads, math.prod(block.spatial), inner, blocks, rows, columns, each)
    return LAUNCH_SECONDS * gpu.clock_hz + cycles


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_products(NestedKernel.of(sch), knobs["rows"], knobs["columns"], knobs["each"])
