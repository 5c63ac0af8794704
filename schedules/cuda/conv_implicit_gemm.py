"""Convolution as a matrix product whose left side is never written: pixels x taps times taps x channels.

    block (rows, columns, group and slice):            # before:  for pixel, o: for tap, c: acc += ...
      for step (double-buffered in shared memory):
        image tile[rows][depth], weight tile[depth][columns]
        for k: acc[thread_rows][thread_columns] += image tile[., k] * weight tile[k, .]
      y[rows, columns] = epilogue(acc)

All arithmetic is of fp32.  Small images do not fill a chip with large tiles: ``split`` shares a block's sum
among sets of threads, ``slices`` shares it among blocks, and a second launch adds those up.
"""

from __future__ import annotations

from deploycc.operators import Conv2d, Match, Skip
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
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if task.depthwise and task.out_channels == task.in_channels:
        return Skip("a depthwise convolution has nothing to share between channels")
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
