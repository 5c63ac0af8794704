"""Product of few rows with a constant matrix: what a network computes of one vector, a layer at its end.

    block, warp:                                       # before:  for i, j: for k: acc += a[i,k] * b[k,j]
      for k (32 lanes of the warp, four elements each, ``unroll`` of them at once):
        acc[rows][columns] += a[., k] * b[k, .]
      sum over lanes by shuffles, over the ``split`` warps that share columns in shared memory
      y[rows, columns] = epilogue(acc)

Each weight is read once, so that the device's memory is what takes the time: the matrix is packed column
after column, and a warp reads 512 bytes in a row.
"""

from __future__ import annotations

from deploycc.gpu_cycles import START_CYCLES, bytes_cycles, launch_cycles
from deploycc.operators import Conv2d, Match, MatMul, Skip
from deploycc.scheduling.written.device_costs import MEMORY_CYCLES, item_bytes
from deploycc.scheduling.written.device_product import Product
from deploycc.scheduling.written.device_vectors import LANES, VectorCut, write_vectors

DTYPES = ("float32", "float16", "int16")
KNOBS = {"columns": (1, 2, 4), "split": (1, 2, 4, 8), "warps": (4, 8), "unroll": (1, 2, 4)}

MOST_ROWS = 8
"""Rows that are worth reading the weights for without tiles."""


def match(task, target):
    """Say which tasks are taken."""
    if isinstance(task, Conv2d):
        pixels = task.height * task.width
        if not task.pointwise or (pixels > 1 and task.data_layout != "NHWC"):
            return Skip("no matrix product of rows that lie in one piece")
    elif not isinstance(task, MatMul):
        return Skip("neither a convolution nor a matrix product")
    if Product(task).rows > MOST_ROWS:
        return Skip(f"more than {MOST_ROWS} rows")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: the weights' way from memory, or the loads that wait for each other."""
    cut, gpu = VectorCut.of(Product(match.operator), knobs), match.target.gpu
    product = cut.product
    if cut.split > cut.warps or product.rows * cut.columns * (1 + cut.unroll) > 64:
        return None
    if (cut.split > 1 and cut.rounds < 1) or cut.unroll > cut.rounds * 2:
        return None
    if cut.columns >= 2 * product.columns and cut.columns > 1:
        return None
    resident = min(16, gpu.threads_per_processor // (cut.warps * LANES))
    waves = -(-cut.blocks // (gpu.processors * resident))
    rounds = -(-cut.rounds // cut.unroll)
    each = 4 * cut.unroll * (product.rows * cut.columns + product.rows + cut.columns)
    together = min(resident, -(-cut.blocks // gpu.processors)) * cut.warps
    compute = waves * rounds * max(MEMORY_CYCLES, together * each / 3)
    reduced = 12.0 * product.rows * cut.columns + 100.0
    item = item_bytes(product.operator.dtype)
    memory = bytes_cycles(item * product.columns * cut.padded_inner, gpu)
    return launch_cycles(gpu) + START_CYCLES + waves * reduced + max(compute, memory)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    cut = VectorCut.of(Product(match.operator), knobs)
    return cut.product.algorithm(match.task, cut.pack, cut.weight_of)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_vectors(sch, VectorCut.of(Product(match.operator), knobs))
