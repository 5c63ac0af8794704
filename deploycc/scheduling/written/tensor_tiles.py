"""Products on tensor cores: what a block computes, what that takes, and the kernel around it.

The inner part is ``device/tensor_cores.cuh``; here are its parameters, an estimate of its time, and the
launches: one for the product with the fused epilogue on its sums in registers, or, where the sum is dealt out
over blocks too, one that leaves parts of sums in memory and one that adds them up.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.operators import Knobs, Skip
from deploycc.scheduling.precision import STORAGE
from deploycc.scheduling.written.device import DeviceWriter
from deploycc.scheduling.written.writing import FusedKernel, Index, NotWritable
from deploycc.tvm_api import te
from deploycc.types import Gpu, Precision, Target

KNOBS: Mapping[str, tuple[int, ...]] = {
    "rows": (16, 32, 64, 128),
    "columns": (32, 64, 128, 256),
    "warps": (1, 2, 4, 8),
    "slices": (1, 2),
    "pieces": (4, 8),
    "stages": (2, 3, 4),
    "parts": (1, 2, 4, 8, 16),
}
"""A block computes ``rows`` x ``columns`` with ``warps`` warps, times ``slices`` that share the steps of a
stage.  A stage is so many ``pieces`` of 16 bytes of each row, and ``stages`` are in shared memory.  Blocks of
``parts`` share a sum."""

_FACTORS = {"fp16": "__half", "bf16": "__nv_bfloat16", "tf32": "dcc::tf32"}
_C_TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}

PIECE = 16
"""Bytes that are copied at once."""

MMA_SYNC_SHARE = {9: 0.6}
"""What ``mma.sync`` reaches of the tensor cores' rate, by the major number of the compute capability; 0.85
elsewhere.  From Hopper on only ``wgmma`` reaches all of it (Luo et al., Benchmarking and Dissecting the
Nvidia Hopper GPU Architecture through Microbenchmarking, 2024: about 62 % of the peak)."""

_LAUNCH_SECONDS = 2.5e-6
_NEXT_LAUNCH_SECONDS = 1.5e-6
"""Of a second launch that waits for the first."""

_LATENCY = 600.0
"""Cycles until a load from memory is there."""

_L2_BYTES = 32.0
"""Bytes a cycle that a processor gets from the level-2 cache, about."""


@dataclass(frozen=True)
class Product:
    """``groups`` products of ``rows`` x ``inner`` with ``inner`` x ``columns`` factors, side by side.

    ``source`` is the type in ``tensor_cores.cuh`` that finds the left factors, in an image or matrix of
    ``left_elements``; ``run`` of them lie one behind the other in memory, at multiples of ``aligned_to``.
    """

    rows: int
    columns: int
    inner: int
    groups: int
    source: str
    run: int
    aligned_to: int
    left_elements: int
    planar: bool = False
    """Whether neighbouring columns of the result are not neighbours in memory."""

    @property
    def pairs(self) -> bool:
        """Whether two columns of the result go into one store."""
        return self.columns % 2 == 0 and not self.planar

    @property
    def flops(self) -> float:
        """Two a multiply-add."""
        return 2.0 * self.rows * self.columns * self.inner * self.groups


def refusal(target: Target, dtype: str) -> Skip | None:
    """Why products of ``dtype`` are not for tensor cores on ``target``; ``None`` where they can be."""
    gpu, precision = target.gpu, target.precision
    if gpu is None or precision == "fp32":
        return Skip("fp32 is computed without tensor cores")
    if not gpu.has_tensor_cores(precision) or precision not in gpu.flops:
        return Skip(f"{gpu.name} has no tensor cores for {precision}")
    if dtype not in ("float32", STORAGE[precision]):
        return Skip(f"{dtype} factors, where products are of {precision}")
    return None


def factors_in_piece(precision: Precision) -> int:
    """How many factors 16 bytes hold."""
    return PIECE // (4 if STORAGE[precision] == "float32" else 2)


def packed(weights: npt.NDArray[Any], precision: Precision) -> npt.NDArray[Any]:
    """``weights`` (groups, inner, columns) as (groups * columns, inner rounded up to whole pieces).

    For ``tf32`` they are rounded here; the other precisions round what is stored.
    """
    groups, inner, columns = weights.shape
    each = factors_in_piece(precision)
    made = np.zeros((groups * columns, -(-inner // each) * each), weights.dtype)
    made[:, :inner] = weights.transpose(0, 2, 1).reshape(groups * columns, inner)
    return rounded_to_tf32(made) if precision == "tf32" else made


def rounded_to_tf32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 with 10 bits of mantissa, ties away from zero, as ``cvt.rna.tf32.f32`` rounds."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return np.where(special, bits, (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def rounded(result: Any, dtype: str) -> Any:
    """float32 sums as the operator gives them; a tensor expression."""
    if dtype == "float32":
        return result
    return te.compute(result.shape, lambda *i: result[i].astype(dtype), name="rounded")


@dataclass(frozen=True)
class Tile:
    """What the knobs make of a product: warps of (down, across, slices), fragments of (tall, wide)."""

    rows: int
    columns: int
    down: int
    across: int
    slices: int
    pieces: int
    stages: int
    parts: int

    @classmethod
    def of(cls, knobs: Knobs) -> Tile | None:
        """``None`` where the warps cannot share the block's product, or hold more than registers do."""
        return _tile(*(knobs[name] for name in KNOBS))

    @property
    def tall(self) -> int:
        """Fragments of 16 rows in a warp's share."""
        return self.rows // self.down // 16

    @property
    def wide(self) -> int:
        """Fragments of 8 columns."""
        return self.columns // self.across // 8

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.down * self.across * self.slices

    @property
    def shared_bytes(self) -> int:
        """Of a block: the stages, or where the slices meet."""
        stages = self.stages * (self.rows + self.columns) * self.pieces * PIECE
        return max(stages, (self.slices - 1) * self.rows * self.columns * 4)

    def registers(self, staged: bool) -> int:
        """About as many as a thread takes; ``staged`` where loads pass through registers."""
        at_once = self.threads // self.pieces
        left, right = -(-self.rows // at_once), -(-self.columns // at_once)
        held = 4 * (left + right) if staged else 0
        return 40 + 4 * self.tall * self.wide + 4 * self.tall + 2 * self.wide + 3 * left + held


@functools.cache
def _tile(
    rows: int, columns: int, warps: int, slices: int, pieces: int, stages: int, parts: int
) -> Tile | None:
    best: tuple[int, int, int] | None = None
    for down in (1, 2, 4, 8):
        across = warps // down
        if not across or rows % (16 * down) or columns % (8 * across):
            continue
        read = rows // down + columns // across
        if best is None or read < best[0]:
            best = (read, down, across)
    if best is None or pieces // 2 % slices or warps * slices > 16:
        return None
    tile = Tile(rows, columns, best[1], best[2], slices, pieces, stages, parts)
    return None if tile.tall * tile.wide > 32 else tile


@functools.cache
def _resident(
    tile: Tile, staged: bool, threads: int, registers: int, shared: int, shared_of_block: int
) -> int:
    """How many blocks a processor of so many threads, registers and bytes of shared memory takes at once."""
    used = tile.registers(staged)
    if used > 240 or tile.shared_bytes > shared_of_block:
        return 0
    of_registers = registers // (used * tile.threads)
    return min(threads // tile.threads, of_registers, shared // (tile.shared_bytes + 1024), 16)


def cost(product: Product, target: Target, knobs: Knobs) -> float | None:
    """Cycles of the chip, ``None`` for knobs that do not fit it or the product.

    A processor takes its blocks in rounds of as many as fit.  In a round the slowest of tensor cores, shared
    memory, level-2 cache and waiting for the next stage decides; memory bounds it all from below.
    """
    rows, columns, parts = knobs["rows"], knobs["columns"], knobs["parts"]
    if (rows > 16 and rows >= 2 * product.rows) or (columns > 32 and columns >= 2 * product.columns):
        return None
    gpu = target.gpu
    assert gpu is not None
    each = factors_in_piece(target.precision)
    stages = -(-product.inner // (knobs["pieces"] * each))
    asynchronous = gpu.capability >= (8, 0)
    if knobs["stages"] > max(2, min(stages + 1, 4 if asynchronous else 2)):
        return None
    blocks = -(-product.rows // rows) * -(-product.columns // columns) * product.groups
    if parts > 1 and (stages // parts < 2 or blocks * parts > 4 * gpu.processors):
        return None
    tile = Tile.of(knobs)
    if tile is None:
        return None
    lanes = _lanes(product, each)
    resident = _resident(
        tile,
        not asynchronous or lanes * (16 // each) < 4,
        gpu.threads_per_processor,
        gpu.registers_per_processor,
        gpu.shared_bytes_per_processor,
        gpu.shared_bytes_per_block,
    )
    if not resident:
        return None
    own = -(-stages // parts)
    stores = rows * columns / (4 if product.planar else 32)
    total, left = 0.0, -(-blocks * parts // gpu.processors)
    while left > 0:
        together = min(left, resident)
        rounds = left // together
        step = _step_cycles(tile, gpu, target.precision, each, lanes, together)
        total += rounds * (_LATENCY + own * step + 200 + together * stores)
        left -= rounds * together
    size = 16 // each
    results = product.rows * product.columns * product.groups
    moved = size * (product.left_elements + product.groups * product.columns * product.inner + results)
    memory = moved / gpu.bytes_per_second * gpu.clock_hz
    cycles = max(total, memory) + min(total, memory) / 4  # they overlap, but never wholly
    if parts > 1:
        cycles += _NEXT_LAUNCH_SECONDS * gpu.clock_hz
        cycles += 2 * results * 4 * parts / (_L2_BYTES * gpu.processors)
    return _LAUNCH_SECONDS * gpu.clock_hz + cycles


def _lanes(product: Product, each: int) -> int:
    """How many left factors one load takes."""
    return math.gcd(math.gcd(product.run, product.aligned_to), each)


def _step_cycles(tile: Tile, gpu: Gpu, precision: Precision, each: int, lanes: int, together: int) -> float:
    """Cycles for a stage of ``together`` blocks on one processor."""
    rate = gpu.flops[precision] / (gpu.processors * gpu.clock_hz)
    rate *= MMA_SYNC_SHARE.get(gpu.capability[0], 0.85)
    warps = together * tile.threads // 32
    busy = min(1.0, warps / 4) * (1.0 if warps >= 8 else 0.75)
    multiply = 2 * tile.rows * tile.columns * tile.pieces * each / (rate * busy)
    read = tile.down * tile.across * tile.pieces / 2 * (512 * tile.tall + 256 * tile.wide)
    written = (tile.rows + tile.columns) * tile.pieces * PIECE
    found = tile.rows * tile.pieces * (each // lanes) * 10 / 128  # instructions that find the factors
    slowest = max(multiply, (read + written) / 128, written / _L2_BYTES) + found
    waiting = _LATENCY / (tile.stages - 1 if gpu.capability >= (8, 0) else 0.7)
    # Latencies vary: what waits little at best still waits at times, unless other blocks have work.
    return max(together * slowest, waiting) + 0.15 * waiting / together + 30


Place = Callable[[Any, Any], tuple[Index, ...]]
"""Where (row, column of all groups) of a product lies in the operator's result."""


def write(sch: Any, product: Product, target: Target, knobs: Knobs, place: Place) -> Any:
    """The kernel that ``sch`` is a schedule of, on tensor cores; raises ``NotWritable`` for other forms."""
    tile = Tile.of(knobs)
    assert tile is not None
    kernel = FusedKernel.of(sch)
    if str(kernel.weight.ty.dtype) != STORAGE[target.precision]:
        raise NotWritable(f"its weights are stored as {kernel.weight.ty.dtype}")
    w = DeviceWriter(kernel)
    all_columns = product.groups * product.columns
    sums_of = w.scratch("parts", (tile.parts, product.rows, all_columns)) if tile.parts > 1 else None
    down, across = -(-product.rows // tile.rows), -(-product.columns // tile.columns)
    grid = (down, across * product.groups, tile.parts)
    with w.launch(grid, (tile.threads,)) as ((block, beside, part), (thread,)):
        sums = w.local("sums", (4 * tile.tall * tile.wide,))
        memory = w.dynamic_shared("memory", (tile.shared_bytes,), "uint8")
        group, column = beside // across, beside % across * tile.columns
        w.call(
            _function(product, tile, target.precision, str(kernel.data.ty.dtype)),
            w.address(sums, 0),
            w.address(memory, 0),
            w.address(kernel.data, *[0] * len(kernel.data.ty.shape)),
            w.address(kernel.weight, 0, 0),
            block * tile.rows,
            group,
            column,
            part,
        )
        with _sums(w, product, tile, block, column, thread) as (row, of_group, number):
            value, at = w.load(sums, number), group * product.columns + of_group
            if sums_of is None:
                w.result(value, *place(row, at))
            else:
                w.store(sums_of, value, part, row, at)
    if sums_of is not None:
        _add_up(w, product, tile.parts, sums_of, place)
    return w.finish()


def _function(product: Product, tile: Tile, precision: Precision, stored: str) -> str:
    numbers = (product.columns, tile.rows, tile.columns, tile.pieces, tile.down, tile.across, tile.slices)
    types = (_FACTORS[precision], _C_TYPES[stored], product.source)
    return f"dcc::multiply_block<{', '.join(map(str, (*types, *numbers, tile.stages, tile.parts)))}>"


@contextlib.contextmanager
def _sums(
    w: DeviceWriter, product: Product, tile: Tile, block: Any, column: Any, thread: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """For each of a thread's sums: its row, its column of the group, its number; two neighbours as a vector.

    PTX ISA, "Matrix Fragments for mma.m16n8k16", accumulators: lane 4 g + t has the columns 2 t and 2 t + 1
    of the rows g and g + 8.
    """
    warp, lane = thread // 32, thread % 32
    first_row = block * tile.rows + warp % tile.down * (16 * tile.tall) + lane // 4
    first_column = column + warp // tile.down % tile.across * (8 * tile.wide) + lane % 4 * 2
    with contextlib.ExitStack() as stack:
        if tile.slices > 1:  # the others have handed theirs over
            stack.enter_context(w.when(warp < tile.down * tile.across))
        tall = min(tile.tall, -(-product.rows // 16)) if tile.down == 1 else tile.tall
        i = stack.enter_context(w.loop(tall, "i", "unrolled"))
        few_rows, few_columns = product.rows <= 8, tile.across == 1 and product.columns <= tile.columns
        below = stack.enter_context(w.loop(1 if few_rows else 2, "below", "unrolled"))
        row = first_row + i * 16 + below * 8
        if product.rows % tile.rows:
            stack.enter_context(w.when(row < product.rows))
        wide = -(-product.columns // 8) if few_columns else tile.wide
        j = stack.enter_context(w.loop(wide, "j", "unrolled"))
        first = first_column + j * 8
        if product.columns % tile.columns and product.pairs:
            stack.enter_context(w.when(first < product.columns))
        lane = stack.enter_context(w.loop(2, "lane", "vectorized" if product.pairs else "unrolled"))
        if not product.pairs and product.columns % tile.columns:
            stack.enter_context(w.when(first + lane < product.columns))
        yield row, first + lane, (i * tile.wide + j) * 4 + below * 2 + lane


def _add_up(w: DeviceWriter, product: Product, parts: int, sums_of: Any, place: Place) -> None:
    """The launch that adds up the parts of every sum."""
    columns = product.groups * product.columns
    width = 2 if product.pairs else 1
    count = product.rows * columns // width
    threads = min(128, -(-count // 32) * 32)
    with w.launch((-(-count // threads),), (threads,)) as ((block,), (thread,)):
        total = w.local("total", (width,))
        number = block * threads + thread
        with w.when(number < count):
            row, first = number // (columns // width), number % (columns // width) * width
            with w.loop(width, "lane", "vectorized") as lane:
                w.store(total, 0.0, lane)
            with w.loop(parts, "part", "unrolled") as part, w.loop(width, "lane", "vectorized") as lane:
                w.store(total, w.load(total, lane) + w.load(sums_of, part, row, first + lane), lane)
            with w.loop(width, "lane", "vectorized") as lane:
                w.result(w.load(total, lane), *place(row, first + lane))
