"""What GPU kernels are estimated to take: cycles of the chip, from counts and from what its data sheet says.

Nothing here is measured.  A kernel takes its launch, then the longest of what it moves, what it computes and
what it waits for; the figures of a processor (SM) are of NVIDIA's tuning guides and of published
microbenchmarks, and they only have to rank ways to compute one operator, and layouts.
"""

from __future__ import annotations

from deploycc.scheduling.written.device_product import Cut
from deploycc.types import Gpu

LAUNCH_SECONDS = 2.5e-6
"""From the end of a small kernel to the start of the next in a stream, launched one by one."""
START_CYCLES = 1000.0
"""Of a block before its first step and after its last: addresses, first loads, results on their way."""
MEMORY_CYCLES = 600.0
"""From a load that misses the first cache to its value, and the barrier behind it (level-2 cache of sm_75 to
sm_90: 200 to 270 cycles, device memory 450 to 600)."""
LEVEL_2_BYTES = 24.0
"""Bytes a cycle that the level-2 cache gives to each processor when all ask (H100: 5.5 TB/s for 132)."""
SHARED_CYCLES = 30.0
"""From a load of shared memory to its value."""
EFFICIENCY = 0.75
"""Share of a processor's issue slots that a good kernel uses."""
BLOCKS_PER_PROCESSOR = 16
"""The least of all chips (CUDA C++ Programming Guide, compute capabilities 7.5 to 9.0: 16 to 32)."""
MEMORY_EFFICIENCY = 0.8
"""Share of the data sheet's bytes a second that a kernel reaches."""
STATIC_SHARED = 48 << 10
"""Bytes of shared memory of a block that a kernel has without asking for more."""
SPILL_FREE_REGISTERS = 232
"""Registers that are let to be counted on: 255 less what addresses take beyond the estimate."""
SCRATCH_BYTES = 256 << 20
"""The most that the sums of slices may take."""


def launch_cycles(gpu: Gpu) -> float:
    """Cycles of one launch."""
    return LAUNCH_SECONDS * gpu.clock_hz


def lanes(gpu: Gpu) -> float:
    """Multiply-adds of fp32 that a processor does in a cycle: 64 on sm_75 and sm_80, 128 on others."""
    return max(32.0, gpu.flops["fp32"] / (2 * gpu.clock_hz * gpu.processors))


def bytes_cycles(amount: float, gpu: Gpu) -> float:
    """Cycles in which the device's memory moves that many bytes."""
    return amount / (gpu.bytes_per_second * MEMORY_EFFICIENCY) * gpu.clock_hz


def item_bytes(dtype: str) -> int:
    """Bytes of an element."""
    return {"float16": 2, "bfloat16": 2, "int16": 2}.get(dtype, 4)


def product_cycles(cut: Cut, gpu: Gpu) -> float | None:
    """Cycles of a product through tiles, ``None`` where ``cut`` does not fit the chip or the operator."""
    if not _fits(cut):
        return None
    product = cut.product
    threads, results = cut.threads, cut.thread_rows * cut.thread_columns
    deep = 1 if product.reads("NCHW") else 4
    moved = cut.image_loads * (cut.vector + 4) + cut.weight_loads * 4
    registers = results + cut.thread_rows * deep + cut.thread_columns + moved + 40
    shared = 4 * cut.shared_elements
    if registers > SPILL_FREE_REGISTERS or registers * threads > gpu.registers_per_processor:
        return None
    if shared > min(STATIC_SHARED, gpu.shared_bytes_per_block):
        return None
    resident = min(
        BLOCKS_PER_PROCESSOR,
        gpu.threads_per_processor // threads,
        gpu.registers_per_processor // (registers * threads),
        gpu.shared_bytes_per_processor // (shared + 1024),
    )
    # A step: instructions of a thread, cycles in which shared memory serves them, and the waiting.
    loads = cut.depth * (cut.thread_rows / (4 if deep == 4 else min(4, cut.thread_rows)))
    loads += cut.depth * cut.thread_columns / min(4, cut.thread_columns)
    moves = cut.image_loads * (10.0 + 4.0 * (not cut.by_taps)) + cut.weight_loads * 5.0
    multiplies = float(results * cut.depth)
    warps = threads / 32
    issue = warps * (multiplies * 128 / lanes(gpu) + loads + moves + 10) / (4 * EFFICIENCY)
    serve = warps * (2.0 * loads + 4.0 * (cut.image_loads + cut.weight_loads))
    feed = item_bytes(product.operator.dtype) * cut.split * cut.depth / LEVEL_2_BYTES
    feed *= cut.block_rows + cut.block_columns
    waiting = MEMORY_CYCLES + SHARED_CYCLES * cut.depth / 8
    rounds, left = divmod(cut.blocks, gpu.processors * resident)
    total = 0.0
    for blocks in [resident] * min(rounds, 1) + ([-(-left // gpu.processors)] if left else []):
        step = max(blocks * max(issue, serve, feed), waiting)
        once = cut.steps * step + START_CYCLES + blocks * warps * results * 0.6
        total += once * (rounds if blocks == resident and rounds and total == 0.0 else 1)
    compute = total
    if cut.split > 1:
        compute += 100.0 + results * cut.split * 2
    item, conv = item_bytes(product.operator.dtype), product.conv
    image = item * conv.batch * conv.height * conv.width * conv.in_channels
    weights = item * cut.padded_steps * cut.weight_tile * cut.column_blocks * conv.groups
    written = item * product.rows * conv.out_channels
    scattered = 2.0 if product.writes("NCHW") else 1.0
    memory = bytes_cycles(image + weights + written * scattered, gpu)
    cycles = launch_cycles(gpu) + max(compute, memory)
    if cut.slices > 1:
        sums = 4.0 * product.rows * conv.out_channels * cut.slices
        if sums > SCRATCH_BYTES:
            return None
        # Written and read again in the level-2 cache, which is about three times as fast as the memory.
        cycles += launch_cycles(gpu) + START_CYCLES + bytes_cycles(2 * sums / 3, gpu)
    return cycles


def _fits(cut: Cut) -> bool:
    if cut.block_rows % cut.thread_rows or cut.block_columns % cut.thread_columns:
        return False
    if cut.set_threads < 16 or not 64 <= cut.threads <= 512 or cut.threads % 32:
        return False
    product = cut.product
    if cut.block_rows >= 2 * product.rows and cut.block_rows > 16:
        return False
    if cut.block_columns >= 2 * product.columns and cut.block_columns > 4:
        return False
    if cut.column_blocks > 65535 or product.conv.groups * cut.slices > 65535:
        return False
    return cut.split * cut.slices <= cut.whole_steps
