"""Convolution without tiles: for groups of few channels, and images of few.

    thread (``pixels``, ``vector`` output channels):   # before:  for pixel, o: for tap, c: acc += ...
      for kh, kw: for some input channels: acc[pixel][:] += input * weights
      y[pixels, channels] = epilogue(acc)

Inputs and weights come from the first cache, which neighbouring threads share.
"""

from __future__ import annotations

from deploycc.gpu_cycles import START_CYCLES, bytes_cycles, launch_cycles
from deploycc.operators import Conv2d, Match, Skip
from deploycc.scheduling.written.device_costs import LEVEL_2_BYTES, MEMORY_CYCLES, item_bytes, lanes
from deploycc.scheduling.written.device_direct import DirectCut, write_direct
from deploycc.scheduling.written.device_product import Product

DTYPES = ("float32", "float16", "int16")
KNOBS = {"pixels": (1, 2, 4, 8), "vector": (1, 2, 3, 4), "threads": (64, 128, 256)}

ISSUED = 2.0
"""Instructions of a processor in a cycle, of four at best: every other one waits for the first cache."""
FIRST_CACHE = 64 << 10
"""Bytes that stay in the first cache on all chips."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if task.depthwise and task.data_layout == task.out_layout:
        return Skip("depthwise convolutions have a schedule of their own")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: instructions, what the first cache serves, or taps that wait for memory."""
    cut, gpu = DirectCut.of(Product(match.operator), knobs), match.target.gpu
    product, conv = cut.product, cut.product.conv
    if product.columns % cut.vector or (cut.vector == 3 and product.columns > 3):
        return None
    extent = (conv.out_height, conv.out_width)[cut.axis]
    if (cut.pixels >= 2 * extent and cut.pixels > 1) or cut.pixels * cut.vector > 32:
        return None
    chunks = product.taps * product.inner // cut.deep
    registers = cut.pixels * (cut.vector + cut.deep) + cut.vector * cut.deep + 40
    instructions = chunks * (cut.pixels * 6.0 + cut.deep * 2.0 + cut.pixels * cut.vector * cut.deep)
    instructions += cut.pixels * cut.vector * 4.0 + 40
    # Cycles in which the first cache serves a warp: lines of neighbours, or one place for all.
    if product.reads("NHWC"):
        line = min(1.0, conv.in_channels * conv.strides[1] / 32.0)
        pixels = 32.0 if not cut.in_rows else max(1.0, 32.0 * cut.vector / conv.out_channels)
        of_pixel = max(1.0, pixels * line)
    else:
        of_pixel = float(min(4, conv.strides[1]))
    of_weight = 1.0 if not cut.in_rows else min(cut.vector, conv.out_channels / 32.0) + 1.0
    serve = chunks * (cut.pixels * of_pixel + cut.deep * of_weight)
    warps = cut.threads / 32
    resident = min(16, gpu.threads_per_processor // cut.threads, 65536 // (registers * cut.threads))
    together = -(-cut.blocks // gpu.processors)
    each = warps * max(instructions * 128 / lanes(gpu) / ISSUED, serve)
    weights = 4.0 * product.taps * product.inner * conv.out_channels
    if weights > FIRST_CACHE:  # each block reads its channels' weights anew
        columns = min(conv.out_channels, 32 * cut.vector if cut.in_rows else cut.vector)
        each = max(each, weights * columns / conv.out_channels / LEVEL_2_BYTES)
    waiting = MEMORY_CYCLES * (1.0 + 0.1 * chunks)
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
