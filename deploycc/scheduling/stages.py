"""Scheduling each block of a kernel as a loop nest of its own."""

from __future__ import annotations

from typing import Any

from deploycc.scheduling.kernel import child_blocks
from deploycc.scheduling.primitives import (
    ScheduleError,
    bits_of,
    extent,
    is_reduction,
    parallelize,
    vector_lanes,
)
from deploycc.tvm_api import structural_equal, tirx
from deploycc.types import Target

_PARTITION = "pragma_loop_partition_hint"
"""Makes of a loop whose last iteration is not whole one without a condition in it, and that iteration."""


def schedule_spatial_blocks(sch: Any, target: Target) -> None:
    """Parallelise and vectorise every block that does not reduce."""
    for block in child_blocks(sch):
        if not is_reduction(sch, block):
            schedule_spatial_block(sch, block, target)


def schedule_reduction_blocks(sch: Any, target: Target, vectors: int) -> None:
    """Parallelise and vectorise every reducing block (see ``schedules/reduction.py``)."""
    for block in child_blocks(sch):
        if is_reduction(sch, block):
            _schedule_reduction(sch, block, target, vectors)


def _element_bits(sch: Any, block: Any) -> int:
    return bits_of(str(sch.get(block).writes[0].source.ty.dtype))


def _identical_indices(sch: Any, block: Any) -> bool:
    """Whether every tensor read is indexed exactly as the one written (scalars aside)."""
    node = sch.get(block)
    written = node.writes[0]
    if len(node.writes) != 1:
        return False
    variables = [v.var for v in node.iter_vars]
    if not _plain(written, variables):
        return False
    shape = list(written.source.ty.shape)
    for read in node.reads:
        if len(read.source.ty.shape) == 0:
            continue
        if not _plain(read, variables) or not structural_equal(list(read.source.ty.shape), shape):
            return False
    return True


def _plain(region: Any, variables: list[Any]) -> bool:
    """Whether the region is one element indexed by the block's variables in order."""
    if len(region.region) != len(variables):
        return False
    return all(
        int(r.extent) == 1 and r.min.same_as(v) if isinstance(r.extent, tirx.IntImm) else False
        for r, v in zip(region.region, variables, strict=True)
    )


def schedule_spatial_block(sch: Any, block: Any, target: Target) -> None:
    """Parallelise and vectorise one block that does not reduce."""
    loops = list(sch.get_loops(block))
    if not loops:
        return
    operations = 1
    for loop in loops:
        operations *= extent(sch, loop)
    if _identical_indices(sch, block) and len(loops) > 1:
        loops = [sch.fuse(*loops)]
    # Trailing dimensions of extent 1 hide the contiguous one.
    while len(loops) > 1 and extent(sch, loops[-1]) == 1:
        last = loops.pop()
        loops[-1] = sch.fuse(loops[-1], last)
    inner = loops[-1]
    size = extent(sch, inner)
    lanes = vector_lanes(target, _element_bits(sch, block), size)
    if lanes > 1 and size % lanes and size <= 2 * lanes:
        lanes = size  # LLVM cuts an odd vector into registers better than a loop over its remainder
    if lanes > 1 and size % lanes == 0:
        outer, lane = sch.split(inner, [None, lanes])
        sch.vectorize(lane)
        loops[-1] = outer
    elif lanes > 1 and size > 4 * lanes:
        # A ragged extent: LLVM's loop vectoriser handles the remainder better than a masked vector.
        if len(loops) == 1:
            outer, _ = sch.split(inner, [None, 16 * lanes])
            loops = [outer]
        else:
            loops.pop()
    else:
        loops = loops[:-1] or loops
    if loops:
        head = sch.fuse(*loops) if len(loops) > 1 else loops[0]
        parallelize(sch, head, operations // max(lanes, 1))


def _schedule_reduction(sch: Any, block: Any, target: Target, vectors: int) -> None:
    loops = list(sch.get_loops(block))
    kinds = [v.iter_type == tirx.IterVar.DataPar for v in sch.get(block).iter_vars]
    if len(kinds) != len(loops):
        return
    spatial = [loop for loop, is_spatial in zip(loops, kinds, strict=True) if is_spatial]
    reduction = [loop for loop, is_spatial in zip(loops, kinds, strict=True) if not is_spatial]
    operations = 1
    for loop in loops:
        operations *= extent(sch, loop)
    bits = _element_bits(sch, block)
    last = max((i for i, loop in enumerate(spatial) if extent(sch, loop) > 1), default=-1)
    lanes = vector_lanes(target, bits, extent(sch, spatial[last])) if last >= 0 else 1
    if last >= 0 and lanes > 1 and _contiguous_over(sch, block, spatial, last, kinds):
        _vectorize_spatial(sch, block, spatial, reduction, last, lanes, vectors, operations)
    else:
        _vectorize_reduction(sch, block, spatial, reduction, target, bits, operations)


def _contiguous_over(sch: Any, block: Any, spatial: list[Any], last: int, kinds: list[bool]) -> bool:
    """Whether ``last`` is some tensor's innermost index, so that a vector of it is one load."""
    node = sch.get(block)
    variables = [v.var for v, is_spatial in zip(node.iter_vars, kinds, strict=True) if is_spatial]
    variable = variables[last]
    return any(len(read.region) and read.region[-1].min.same_as(variable) for read in node.reads)


def _vectorize_spatial(
    sch: Any,
    block: Any,
    spatial: list[Any],
    reduction: list[Any],
    last: int,
    lanes: int,
    vectors: int,
    operations: int,
) -> None:
    size = extent(sch, spatial[last])
    if size % lanes and size <= 2 * lanes:
        lanes = size  # LLVM cuts an odd vector into registers better than a loop over its remainder
    lanes = _lanes_of_ragged(size, lanes)
    width = lanes
    while width < vectors * lanes and size % (2 * width) == 0:
        width *= 2
    chunk, inner = sch.split(spatial[last], [None, width])
    vector, lane = sch.split(inner, [None, lanes])
    outer = [*spatial[:last], *spatial[last + 1 :]]
    sch.reorder(*outer, chunk, *reduction, vector, lane)
    sch.vectorize(lane)
    sch.unroll(vector)
    if size % width == 0:
        outer.append(chunk)
    else:
        sch.annotate(chunk, _PARTITION, 1)
    if outer:
        head = sch.fuse(*outer) if len(outer) > 1 else outer[0]
        parallelize(sch, head, operations // lanes)
    if reduction:
        start = sch.decompose_reduction(block, reduction[0])
        start_loops = sch.get_loops(start)
        sch.vectorize(start_loops[-1])


def _reads_in_order(sch: Any, block: Any) -> bool:
    """Whether the reduction runs over the whole innermost axes of the one tensor read, in their order."""
    node = sch.get(block)
    variables = [v.var for v in node.iter_vars if v.iter_type != tirx.IterVar.DataPar]
    extents = [v.dom.extent for v in node.iter_vars if v.iter_type != tirx.IterVar.DataPar]
    if len(node.reads) != 1 or len(node.reads[0].region) < len(variables):
        return False
    innermost = list(node.reads[0].region)[-len(variables) :]
    shape = list(node.reads[0].source.ty.shape)[-len(variables) :]
    return all(
        region.min.same_as(variable) and structural_equal(extent, size)
        for region, variable, extent, size in zip(innermost, variables, extents, shape, strict=True)
    )


def _vectorize_reduction(
    sch: Any, block: Any, spatial: list[Any], reduction: list[Any], target: Target, bits: int, operations: int
) -> None:
    if spatial:
        head = sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
        parallelize(sch, head, operations)
    if len(reduction) > 1 and _reads_in_order(sch, block):
        reduction = [sch.fuse(*reduction)]
    if len(reduction) != 1:
        return
    size = extent(sch, reduction[0])
    lanes = vector_lanes(target, bits, size)
    if lanes < 2 or len(sch.get(block).writes) != 1:
        return
    width = _width_of_sum(size, lanes)
    if width < 2:
        return
    try:
        chunk, lane = sch.split(reduction[0], [None, width])
        partial = sch.rfactor(lane, len(spatial))
    except ScheduleError:
        return  # a reduction without an identity TVM knows stays one element at a time
    *_, chunk, lane = sch.get_loops(partial)
    sch.vectorize(lane)
    if size % width:
        sch.annotate(chunk, _PARTITION, 1)


def _lanes_of_ragged(size: int, lanes: int) -> int:
    """Lanes of the vectors of ``size`` elements in a row; a remainder takes about two steps an element."""
    choices = [lanes >> shift for shift in range(lanes.bit_length())]
    return min(choices, key=lambda width: size // width + (2 * width if size % width else 0))


def _width_of_sum(size: int, lanes: int) -> int:
    """In how many partial sums ``size`` elements are added: up to four vectors of ``lanes``.

    The terms are cycles: the latency of an addition for every step, 14 for every lane of a last step that is
    not whole (measured on softmax over 196: conditions, and scalars read back from a stored vector), the
    latency again for every partial sum at the end.
    """
    choices = [4 * lanes >> shift for shift in range((4 * lanes).bit_length())]
    return min(
        (width for width in choices if width <= size),
        key=lambda width: 4 * (size // width) + (14 * width if size % width else 0) + 4 * width,
    )
