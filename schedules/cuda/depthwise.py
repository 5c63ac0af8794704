"""Depthwise convolution: each channel by its own kernel.

    thread (``pixels`` of a row, ``vector`` channels):  # before:  for pixel, c: for tap: acc += ...
      for kh: for input in the row: for the pixels and taps that read it: acc[pixel][:] += input * weights
      y[pixels, channels] = epilogue(acc)

NHWC as told; in NCHW a thread's pixels are of a column, so that neighbouring threads read a row's neighbours.
There are few products for each byte, so that memory is what takes the time: lines are read whole, and what
neighbouring pixels share comes from registers.
"""

from __future__ import annotations

from deploycc.gpu_cycles import START_CYCLES, bytes_cycles, launch_cycles
from deploycc.operators import Conv2d, Match, Skip
from deploycc.scheduling.written.device_costs import MEMORY_CYCLES, item_bytes, lanes
from deploycc.scheduling.written.device_depthwise import DepthwiseCut, write_depthwise
from deploycc.scheduling.written.device_product import Product

DTYPES = ("float32", "float16", "int16")
KNOBS = {"pixels": (1, 2, 4, 8), "vector": (1, 2, 4), "threads": (64, 128, 256)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d) or not task.depthwise:
        return Skip("not a depthwise convolution")
    if task.data_layout != task.out_layout:
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}: other threads would do either")
    return Match(task, target)


def cost(match, knobs):
    """Cycles: what is moved, or instructions, or rows of taps that wait for memory."""
    cut, gpu = DepthwiseCut.of(Product(match.operator), knobs), match.target.gpu
    conv = cut.product.conv
    whole = conv.in_channels % cut.vector == 0 and cut.multiplier == 1 and cut.in_rows
    if cut.vector > 1 and not whole:
        return None
    extent = (conv.out_height, conv.out_width)[cut.axis]
    if cut.pixels >= 2 * extent and cut.pixels > 1:
        return None
    held = cut.along if cut.unrolled else 1
    registers = cut.vector * (cut.pixels + held + 4) + 40
    if registers > 160:
        return None
    reads = len(list(cut.positions())) if cut.unrolled else cut.along * cut.pixels
    multiplies = cut.along * cut.pixels * cut.vector
    instructions = cut.across * (reads * 6.0 + held * 2.0 + multiplies) + cut.pixels * cut.vector * 4.0 + 40
    warps = cut.threads / 32
    resident = min(16, gpu.threads_per_processor // cut.threads, 65536 // (registers * cut.threads))
    together = -(-cut.blocks // gpu.processors)
    cycles_of_read = 1.5 * cut.vector  # a warp's 128 bytes in a cycle or two, for each element of a vector
    each = warps * max(instructions * 128 / lanes(gpu) / 3.0, cut.across * (reads + held) * cycles_of_read)
    waves = -(-together // resident)
    exposed = 0.3 * cut.across if cut.unrolled else 0.1 * cut.across * cut.along
    waiting = MEMORY_CYCLES * (1.0 + exposed) + instructions
    compute = max(together * each, waves * waiting)
    item = item_bytes(conv.dtype)
    read = conv.batch * conv.height * conv.width * conv.in_channels
    written = conv.batch * conv.out_height * conv.out_width * conv.out_channels
    memory = bytes_cycles(item * (read + written), gpu)
    return launch_cycles(gpu) + START_CYCLES + max(compute, memory)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    cut = DepthwiseCut.of(Product(match.operator), knobs)
    return cut.product.algorithm(match.task, cut.pack, cut.weight_of)


def apply(sch, match, knobs):
    """Write the kernel."""
    return write_depthwise(sch, DepthwiseCut.of(Product(match.operator), knobs))
