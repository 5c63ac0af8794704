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

PARALLEL_OPERATIONS = 1 << 15
"""Below about 32 thousand statement executions (some 10 us) handing work to threads costs more than it saves."""

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


def split_exact(sch: Any, loop: Any, factor: int) -> tuple[Any, Any]:
    """Split into (outer, inner of ``factor``)."""
    outer, inner = sch.split(loop, [None, factor])
    return outer, inner


def parallelize(sch: Any, loop: Any, operations: int) -> None:
    """Run ``loop`` on the thread pool if the kernel's work is worth it."""
    if operations >= PARALLEL_OPERATIONS and extent(sch, loop) > 1:
        sch.parallel(loop)


def vector_lanes(target: Target, dtype_bits: int, available: int) -> int:
    """The widest power of two of lanes that the target has and that divides into ``available`` at least once."""
    lanes = target.simd.lanes(dtype_bits)
    while lanes > 1 and lanes > available:
        lanes //= 2
    return lanes


def register_tile_cost(target: Target, rows: int, vectors: int, lanes: int) -> float | None:
    """Cycles for one step of the reduction of a ``rows`` x ``vectors`` register tile; None if it spills.

    Two multiply-adds and two loads issue per cycle and a multiply-add has a latency of four, as on
    every core in ``targets/`` from Cortex-A76 and Haswell on; smaller cores scale all terms alike.
    """
    if lanes > target.simd.lanes() or rows * vectors + vectors + 1 > target.simd.registers:
        return None
    fused = rows * vectors / 2
    loads = (rows + vectors) / 2
    return max(fused, loads, 4.0) if target.simd.fma else max(2 * fused, loads, 4.0)


def round_up(value: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``value``."""
    return math.ceil(value / multiple) * multiple


def bits_of(dtype: str) -> int:
    """Width of a dtype name in bits; bool counts as 8."""
    digits = "".join(c for c in dtype if c.isdigit())
    return int(digits) if digits else 8
