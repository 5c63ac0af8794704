"""Matrix product with constant right side: rows x inner times inner x columns, by tiles in shared memory.

    block (rows, columns and slice):                   # before:  for i, j: for k: acc += a[i,k] * b[k,j]
      for step (double-buffered in shared memory):
        tile of a[rows][depth], tile of b[depth][columns]
        for k: acc[thread_rows][thread_columns] += tile of a[., k] * tile of b[k, .]
      y[rows, columns] = epilogue(acc)

All arithmetic is of fp32.  ``split`` shares a block's sum among sets of threads, ``slices`` shares it among
blocks, and a second launch adds those up.  Few rows are better read by ``gemv``.
"""

from __future__ import annotations

from deploycc.operators import Match, MatMul, Skip
from deploycc.scheduling.written.device_costs import product_cycles
from deploycc.scheduling.written.device_product import Cut, product_of
from deploycc.scheduling.written.device_tiles import write_product

DTYPES = ("float32", "float16", "int16")
KNOBS = {
    "block_rows": (16, 32, 64, 128),
    "block_columns": (4, 8, 16, 32, 64, 128),
    "thread_rows": (1, 2, 4, 8),
    "thread_columns": (4, 8),
    "depth": (8, 16, 32),
    "split": (1, 2, 4, 8),
    "slices": (1, 2, 4, 8),
}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, MatMul):
        return Skip("not a matrix product")
    return Match(task, target)


def cost(match, knobs):
    """Cycles of the chip (``device_costs``)."""
    return product_cycles(product_of(match.operator), knobs, match.target.gpu)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    cut = Cut.of(product_of(match.operator), knobs)
    return cut.product.algorithm(match.task, cut.pack, cut.weight_of)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_product(sch, Cut.of(product_of(match.operator), knobs))
