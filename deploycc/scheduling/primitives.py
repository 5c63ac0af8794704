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


def usable_steps(target: Target, steps: int, inner: int) -> bool:
    """Whether one load of inputs can serve ``steps`` steps of a reduction over ``inner`` of them in a row."""
    return steps == 1 or (target.simd.fma_by_lane and steps == target.simd.lanes() and inner % steps == 0)


def register_tile_cost(target: Target, rows: int, vectors: int, lanes: int, steps: int = 1) -> float | None:
    """Cycles for one step of the reduction of a ``rows`` x ``vectors`` register tile; None if it spills.

    ``steps`` of the reduction are served by one load of inputs, see ``register_tile``.  Two multiply-adds
    and two loads issue per cycle and a multiply-add has a latency of four, as on every core in ``targets/``
    from Cortex-A76 and Haswell on; smaller cores scale all terms alike.
    """
    registers = vectors * registers_of(target, lanes)
    if rows * registers + registers + 1 > target.simd.registers:
        return None
    if lanes == 1 and target.simd.lanes() > 1:
        # LLVM turns a tile of scalars into vectors of its own by shuffles: 4 times slower than two lanes of
        # which one is zeros (1x1, 128 to 1 channel, AVX-512).
        return None
    if target.simd.fma_by_lane:
        return _lane_tile_cost(target, rows, registers, lanes, steps)
    fused = rows * registers / 2
    # Inputs are broadcast from the level-1 cache, two a cycle; weights stream from level 2, one vector a
    # cycle, an odd vector in pieces of powers of two.
    loads = rows / 2 + vectors * (lanes.bit_count() if lanes & (lanes - 1) else 1)
    return max(fused, loads, 4.0) if target.simd.fma else max(2 * fused, loads, 4.0)


def _lane_tile_cost(target: Target, rows: int, registers: int, lanes: int, steps: int) -> float | None:
    """``register_tile_cost`` where loads feed lanes, after llvm-mca's Neoverse N1 (docs/arm64.md).

    A load at an offset is two micro-operations, a pair of vectors three, and the loop itself four
    instructions; 3.6 of the four a cycle are reached.  LLVM holds all inputs of ``steps`` in registers and
    needs a few beyond what the tile does: else it spills or shuffles.
    """
    inputs = rows if steps > 1 else 1
    if rows * registers + registers + inputs > target.simd.registers - (3 if steps > 1 else 2):
        return None
    weights = 1.5 * registers if lanes & (lanes - 1) == 0 else 2.0 * registers * lanes.bit_count()
    return dispatched(rows * registers, weights + (2 * rows + 4) / steps)


def step_cycles(target: Target, rows: int, vectors: int) -> float:
    """Cycles of one step of ``rows`` inputs against ``vectors`` registers of weights, if nothing spills."""
    if target.simd.fma_by_lane:
        return dispatched(rows * vectors, 1.5 * vectors + 2 * rows + 4)
    rate = 1 if target.simd.fma else 2
    return max(rows * vectors / 2 * rate, rows / 2 + vectors, 4.0 * rate)


def dispatched(fused: float, others: float) -> float:
    """Cycles of ``fused`` multiply-adds and ``others``, micro-operations that take places at dispatch."""
    operations = fused + others
    # Of tiles that are bound by multiply-adds the one with fewer instructions: small cores issue fewer.
    return max(fused / 2, operations / 3.6, 4.0) + operations / 100


def register_tile(
    sch: Any, compute: Any, writer: Any, place: Any, lanes: int, reduction: int, steps: int = 1
) -> None:
    """Compute ``compute`` under loop ``place`` of ``writer`` into registers, all vectors of ``lanes``.

    Below ``place`` the writer must have exactly its tile loops: rows, then channels.  ``compute`` has the
    same two as its only spatial loops of extent above 1 there, then ``reduction`` reduction loops; its
    result lives in registers because every access to it is unrolled.  With ``steps`` above 1 as many
    iterations of the innermost reduction are unrolled, and their inputs (the first buffer ``compute`` reads,
    contiguous along that reduction) are loaded as one vector, of which multiply-adds take single lanes.
    """
    sch.compute_at(compute, place, preserve_unit_loops=True)
    sch.set_scope(compute, 0, "local")
    depth = len(sch.get_loops(writer)) - 2
    loops = sch.get_loops(compute)[depth:]
    spatial, reductions = loops[:-reduction], loops[-reduction:]
    *units, lane = spatial
    vector, lane = sch.split(lane, [None, lanes])
    if steps > 1:
        innermost, step = sch.split(reductions.pop(), [None, steps])
        reductions.append(innermost)
        units = [step, *units]
    sch.reorder(*reductions, *units, vector, lane)
    if steps > 1:
        inputs = _cache_inputs(sch, compute)
        sch.compute_at(inputs, innermost, preserve_unit_loops=True)
        _unroll_and_vectorize(sch, sch.get_loops(inputs)[depth + len(reductions) :])
    for loop in (*units, vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    start = sch.decompose_reduction(compute, reductions[0])
    _unroll_and_vectorize(sch, sch.get_loops(start)[depth:])
    row, lane = sch.get_loops(writer)[depth:]
    vector, lane = sch.split(lane, [None, lanes])
    _unroll_and_vectorize(sch, [row, vector, lane])


def _cache_inputs(sch: Any, compute: Any) -> Any:
    """Cache what ``compute`` reads of its first buffer, indexed by its loops: reads may stop at an edge."""
    node = sch.get(compute)
    read = node.reads[0].region
    used = [variable for extent in read for variable in tirx.analysis.undefined_vars(extent.min)]
    kept = [
        number
        for number, variable in enumerate(node.iter_vars)
        if any(variable.var.same_as(other) for other in used)
    ]
    places = tirx.IndexMap.from_func(lambda *i: tuple(i[k] for k in kept), ndim=len(node.iter_vars))
    return sch.reindex_cache_read(compute, 0, "local", places)


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
