"""Moves that several schedules make: inlining, vectorising, tiling into registers.

All of them work on a ``Schedule`` of one fused kernel.  They change loops only, never results,
except that a sum may be split over the lanes of a vector (stated where it is).
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.scheduling.kernel import TASK_ANNOTATION, child_blocks
from deploycc.tvm_api import s_tir, tirx
from deploycc.types import Target

PARALLEL_OPERATIONS = 1 << 17
"""Below about 131 thousand vector operations (some 40 us) handing work to threads costs more than it saves:
with 32 thousand, two threads were slower than one on MTCNN's and PP-OCR's small networks."""

ScheduleError = s_tir.ScheduleError


def is_reduction(sch: Any, block: Any) -> bool:
    """Whether the block has a reduction variable."""
    return any(v.iter_type != tirx.IterVar.DataPar for v in sch.get(block).iter_vars)


def anchor_block(sch: Any) -> Any:
    """The block that carries the operator of this kernel."""
    return next(block for block in child_blocks(sch) if TASK_ANNOTATION in sch.get(block).annotations)


def output_blocks(sch: Any) -> list[Any]:
    """The blocks that write the kernel's results."""
    return list(sch.get_output_blocks(sch.get_sblock("root")))


def names(sch: Any, blocks: list[Any]) -> set[str]:
    """The names of blocks (unique within a kernel)."""
    return {str(sch.get(block).name_hint) for block in blocks}


def inline_elementwise(sch: Any, single_consumer: bool = False) -> None:
    """Inline every block that neither reduces, nor carries the operator, nor writes a result.

    With ``single_consumer`` a block read by several others stays, since inlining would compute it
    once a reader (the exponential of a softmax is the case in point).
    """
    kept = names(sch, output_blocks(sch))
    for block in child_blocks(sch):
        node = sch.get(block)
        if node.name_hint in kept or TASK_ANNOTATION in node.annotations or is_reduction(sch, block):
            continue
        if single_consumer and len(sch.get_consumers(block)) > 1:
            continue
        try:
            sch.compute_inline(block)
        except ScheduleError:
            continue  # an opaque or non-affine block: it stays a loop nest of its own


def extent(sch: Any, loop: Any) -> int:
    """The loop's static extent."""
    return int(sch.get(loop).extent)


def parallelize(sch: Any, loop: Any, operations: int) -> None:
    """Run ``loop`` on the thread pool if the kernel's work is worth it."""
    if operations >= PARALLEL_OPERATIONS and extent(sch, loop) > 1:
        sch.parallel(loop)


def vector_lanes(target: Target, dtype_bits: int, available: int) -> int:
    """The widest power of two of lanes that the target has and ``available`` elements fill."""
    lanes = target.simd.lanes(dtype_bits)
    while lanes > 1 and lanes > available:
        lanes //= 2
    return lanes


def registers_of(target: Target, lanes: int) -> int:
    """Registers LLVM uses for a float32 vector of ``lanes`` (odd ones are widened to a power of two)."""
    return max(1, (1 << (lanes - 1).bit_length()) // target.simd.lanes())


def usable_lanes(target: Target, lanes: int, channels: int) -> bool:
    """Whether vectors of ``lanes`` make sense: a power of two, or all of ``channels`` in one register."""
    if lanes > target.simd.lanes() or (lanes > channels and lanes > 4):
        return False
    # LLVM handles an odd vector well where it is alone, badly in rows of several.
    return lanes & (lanes - 1) == 0 or channels == lanes


def register_tile_cost(target: Target, rows: int, vectors: int, lanes: int) -> float | None:
    """Cycles for one step of the reduction of a ``rows`` x ``vectors`` register tile; None if it spills.

    Two multiply-adds and two loads issue per cycle and a multiply-add has a latency of four, as on
    every core in ``targets/`` from Cortex-A76 and Haswell on; smaller cores scale all terms alike.
    """
    registers = vectors * registers_of(target, lanes)
    if rows * registers + registers + 1 > target.simd.registers:
        return None
    if lanes == 1 and target.simd.lanes() > 1:
        # LLVM turns a tile of scalars into vectors of its own by shuffles: 4 times slower than two lanes of
        # which one is zeros (1x1, 128 to 1 channel, AVX-512).
        return None
    fused = rows * registers / 2
    # Inputs are broadcast from the level-1 cache, two a cycle; weights stream from level 2, one vector a
    # cycle, an odd vector in pieces of powers of two.
    loads = rows / 2 + vectors * (lanes.bit_count() if lanes & (lanes - 1) else 1)
    return max(fused, loads, 4.0) if target.simd.fma else max(2 * fused, loads, 4.0)


def register_tile(sch: Any, compute: Any, writer: Any, place: Any, lanes: int, reduction: int) -> None:
    """Compute ``compute`` under loop ``place`` of ``writer`` into registers, all vectors of ``lanes``.

    Below ``place`` the writer must have exactly its tile loops: rows, then channels.  ``compute`` has the
    same two as its only spatial loops of extent above 1 there, then ``reduction`` reduction loops; its
    result lives in registers because every access to it is unrolled.
    """
    sch.compute_at(compute, place, preserve_unit_loops=True)
    sch.set_scope(compute, 0, "local")
    depth = len(sch.get_loops(writer)) - 2
    loops = sch.get_loops(compute)[depth:]
    spatial, reductions = loops[:-reduction], loops[-reduction:]
    *units, lane = spatial
    vector, lane = sch.split(lane, [None, lanes])
    sch.reorder(*reductions, *units, vector, lane)
    for loop in (*units, vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    start = sch.decompose_reduction(compute, reductions[0])
    _unroll_and_vectorize(sch, sch.get_loops(start)[depth:])
    row, lane = sch.get_loops(writer)[depth:]
    vector, lane = sch.split(lane, [None, lanes])
    _unroll_and_vectorize(sch, [row, vector, lane])


def _unroll_and_vectorize(sch: Any, loops: list[Any]) -> None:
    *unrolled, lane = loops
    for loop in unrolled:
        sch.unroll(loop)
    sch.vectorize(lane)


def round_up(value: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``value``."""
    return math.ceil(value / multiple) * multiple


def bits_of(dtype: str) -> int:
    """Width of a dtype name in bits; bool counts as 8."""
    digits = "".join(c for c in dtype if c.isdigit())
    return int(digits) if digits else 8
