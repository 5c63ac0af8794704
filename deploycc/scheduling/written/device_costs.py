"""What GPU kernels are estimated to take: cycles of the chip, from counts and from what its data sheet says.

Nothing here is measured.  A kernel takes its launch, then the longest of what it moves, what it computes and
what it waits for; the figures of a processor (SM) are of NVIDIA's tuning guides and of published
microbenchmarks, and they only have to rank ways to compute one operator, and layouts.
"""

from __future__ import annotations

import functools

from deploycc.gpu_cycles import START_CYCLES, bytes_cycles, launch_cycles
from deploycc.operators import Knobs
from deploycc.scheduling.written.device_product import Cut, Product
from deploycc.types import Gpu

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
STATIC_SHARED = 48 << 10
"""Bytes of shared memory of a block that a kernel has without asking for more."""
SPILL_FREE_REGISTERS = 232
"""Registers that are let to be counted on: 255 less what addresses take beyond the estimate."""
SCATTERED = 2.0
"""How many times the bytes of an NCHW result count: neighbouring threads write parts of lines."""
SCRATCH_BYTES = 256 << 20
"""The most that the sums of slices may take."""


def lanes(gpu: Gpu) -> float:
    """Multiply-adds of fp32 that a processor does in a cycle: 64 on sm_75 and sm_80, 128 on others."""
    return max(32.0, gpu.flops["fp32"] / (2 * gpu.clock_hz * gpu.processors))


def item_bytes(dtype: str) -> int:
    """Bytes of an element."""
    return {"float16": 2, "bfloat16": 2, "int16": 2}.get(dtype, 4)


@functools.cache
def _possible(
    block_rows: int, block_columns: int, thread_rows: int, thread_columns: int, depth: int, split: int
) -> bool:
    """Whether threads can be dealt out like this, and it is not much the same as another way."""
    if block_rows % thread_rows or block_columns % thread_columns:
        return False
    wide = thread_columns == 8 or block_columns == 4
    if (thread_columns == 8 and thread_rows < 4) or (thread_rows == 8 and not wide):
        return False
    members = block_rows // thread_rows * (block_columns // thread_columns)
    threads = members * split
    if members < 16 or not 64 <= threads <= 512 or threads % 32:
        return False
    if threads > 256 and thread_rows * thread_columns > 8:
        return False  # the assembler holds such blocks to 64 registers, and spills
    tiles = 4 * 2 * split * (block_rows * (depth + 4) + depth * block_columns)
    return (split == 1 or members <= 128) and tiles <= STATIC_SHARED


def product_cycles(product: Product, knobs: Knobs, gpu: Gpu) -> float | None:
    """Cycles of a product through tiles, ``None`` where ``knobs`` do not fit the chip or the operator."""
    *shape, slices = (knobs[name] for name in Cut.KNOBS)
    block_rows, block_columns, _, _, depth, split = shape
    if not _possible(*shape):
        return None
    rows, columns = product.rows, product.columns
    if (block_rows >= 2 * rows and block_rows > 16) or (block_columns >= 2 * columns and block_columns > 4):
        return None
    column_blocks, groups = -(-columns // block_columns), product.conv.groups
    blocks = -(-rows // block_rows) * column_blocks * groups
    if column_blocks > 65535 or groups * slices > 65535:
        return None
    if split * slices > 1 and (
        split * slices > -(-product.taps * product.inner // depth)
        # What shares the sums fills a chip that the results alone do not fill.
        or (slices > 1 and blocks * slices >= 8 * gpu.processors)
        or (split > 1 and blocks >= 8 * gpu.processors)
    ):
        return None
    return _tiled_cycles(Cut.of(product, knobs), gpu)


def _tiled_cycles(cut: Cut, gpu: Gpu) -> float | None:
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
    rounds, left = divmod(cut.blocks, gpu.processors * resident)
    compute = rounds * _round_cycles(cut, resident, gpu) if rounds else 0.0
    if left:
        compute += _round_cycles(cut, -(-left // gpu.processors), gpu)
    item, conv = item_bytes(product.operator.dtype), product.conv
    image = item * conv.batch * conv.height * conv.width * conv.in_channels
    weights = item * product.taps * product.inner * conv.out_channels
    written = item * product.rows * conv.out_channels
    scattered = SCATTERED if product.writes("NCHW") else 1.0
    memory = bytes_cycles(image + weights + written * scattered, gpu)
    cycles = launch_cycles(gpu) + max(compute, memory)
    if cut.slices > 1:
        sums = 4.0 * product.rows * conv.out_channels * cut.slices
        if sums > SCRATCH_BYTES:
            return None
        # Written and read again in the level-2 cache, which is about three times as fast as the memory.
        cycles += launch_cycles(gpu) + START_CYCLES + bytes_cycles(2 * sums / 3, gpu)
    return cycles


def _round_cycles(cut: Cut, blocks: int, gpu: Gpu) -> float:
    """Cycles in which a processor is through with ``blocks`` blocks that it has at a time."""
    product, warps = cut.product, cut.threads / 32
    results = cut.thread_rows * cut.thread_columns
    per_load = 4 if product.reads("NHWC") else min(4, cut.thread_rows)
    loads = cut.depth * (cut.thread_rows / per_load + cut.thread_columns / min(4, cut.thread_columns))
    moves = cut.image_loads * (10.0 + 4.0 * (not cut.by_taps)) + cut.weight_loads * 7.0
    instructions = results * cut.depth * 128 / lanes(gpu) + loads + moves + 10
    # Four schedulers; one that has a single warp waits for it to load what it multiplies.
    scheduled = -(-blocks * warps // 4)
    issue = scheduled * instructions / (EFFICIENCY * min(1.0, 0.4 + 0.2 * scheduled))
    serve = blocks * warps * (2.0 * loads + 4.0 * (cut.image_loads + cut.weight_loads))
    tile = cut.split * cut.depth * (cut.block_rows + cut.block_columns)
    feed = blocks * tile * item_bytes(product.operator.dtype) / LEVEL_2_BYTES
    waiting = MEMORY_CYCLES + SHARED_CYCLES * cut.depth / 8 + moves
    once = START_CYCLES + blocks * warps * results * 0.6
    if cut.split > 1:
        once += 100.0 + 2.0 * results * cut.split
    return once + cut.steps * max(issue, serve, feed, waiting)
