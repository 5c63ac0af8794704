"""Convolution without tiles: for groups of few channels, and images of few.

    thread (``pixels``, ``vector`` output channels):   # before:  for pixel, o: for tap, c: acc += ...
      for kh, kw: for some input channels: acc[pixel][:] += input * weights
      y[pixels, channels] = epilogue(acc)

Inputs and weights come from the first cache, which neighbouring threads share.
"""

from __future__ import annotations

from deploycc.operators import Conv2d, Match, Skip
from deploycc.scheduling.written.device_costs import (
    MEMORY_CYCLES,
    START_CYCLES,
    bytes_cycles,
    item_bytes,
    lanes,
    launch_cycles,
)
from deploycc.scheduling.written.device_direct import DirectCut, write_direct
from deploycc.scheduling.written.device_product import Product

DTYPES = ("float32", "float16", "int16")
KNOBS = {"pixels": (1, 2, 4, 8), "vector": (1, 2, 4), "threads": (64, 128, 256)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: instructions, what the first cache serves, or taps that wait for memory."""
    cut, gpu = DirectCut.of(Product(match.operator), knobs), match.target.gpu
    product, conv = cut.product, cut.product.conv
    if product.columns % cut.vector:
        return None
    extent = (conv.out_height, conv.out_width)[cut.axis]
    if (cut.pixels >= 2 * extent and cut.pixels > 1) or cut.pixels * cut.vector > 32:
        return None
    chunks = product.taps * product.inner // cut.deep
    registers = cut.pixels * (cut.vector + cut.deep) + cut.vector * cut.deep + 40
    instructions = chunks * (cut.pixels * 6.0 + cut.deep * 2.0 + cut.pixels * cut.vector * cut.deep)
    instructions += cut.pixels * cut.vector * 4.0 + 40
    # Cycles in which the first cache serves a warp: lines of neighbours, or one place for all.
    apart = 1.0 if product.reads("NCHW") else min(8.0, product.inner / 4.0 + 1.0)
    of_pixel = apart if not cut.in_rows else max(1.0, 32.0 * cut.vector / conv.out_channels)
    of_weight = 1.0 if not cut.in_rows else min(cut.vector, conv.out_channels / 32.0) + 1.0
    serve = chunks * (cut.pixels * of_pixel * cut.deep / 2.0 + cut.deep * of_weight)
    warps = cut.threads / 32
    resident = min(16, gpu.threads_per_processor // cut.threads, 65536 // (registers * cut.threads))
    together = -(-cut.blocks // gpu.processors)
    each = warps * max(instructions * 128 / lanes(gpu) / 3.0, serve)
    waiting = MEMORY_CYCLES * (1.0 + 0.25 * chunks)
    compute = max(together * each, -(-together // resident) * waiting)
    read = conv.batch * conv.height * conv.width * conv.in_channels
    written = conv.batch * conv.out_height * conv.out_width * conv.out_channels
    memory = bytes_cycles(item_bytes(conv.dtype) * (read + written), gpu)
    return launch_cycles(gpu) + START_CYCLES + max(compute, memory)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    cut = DirectCut.of(Product(match.operator), knobs)
    return cut.product.algorithm(match.task, cut.pack, cut.weight_of)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_direct(sch, DirectCut.of(Product(match.operator), knobs))
