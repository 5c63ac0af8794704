"""What a layout costs where no schedule of an operator's own answers: cycles of one core.

For a GPU ``gpu_costs`` answers.  The figures are of kernels that ``schedules/`` gave on an AVX-512 server
core (``python -m benchmarks.layouts`` measures them anew).  They only have to rank two layouts of one
operator and to weigh them against transposes; convolutions bring their own estimates.  Operators that are
not named cost the same in both (elementwise ones are fused behind their producer in either).
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.contiguous import CUTS, joins_runs, regions_of
from deploycc.layout import gpu_costs
from deploycc.layout.rules import AXIS_IN_NHWC, TO_NHWC
from deploycc.relax_graph import static_shape
from deploycc.types import Target

Shape = list[int]

TRANSPOSE = 0.6
"""Cycles an element of a transpose between NCHW and NHWC: 0.45 to 0.67 for tensors in the cache."""
TRANSPOSE_FROM_MEMORY = 1.2
"""The same where source and result together do not fit the level-2 cache."""
TRANSPOSE_CALL = 200.0
"""Cycles of a kernel call that does nothing else."""

APART = 0.1
"""Cycles an element where an elementwise operator reads another layout than its producer writes, beside the
transpose (or view) and a call: it can no longer be fused behind it."""

POOL_ELEMENT = 0.15
"""Cycles of a pool for an element that it reads or writes."""
POOL_TAP = (2.9, 1.9)
"""Cycles of a vector of a pool's result for each row and each column of the window, NCHW and NHWC: windows
are gathered by rows, then by columns."""

BY_RESULT = {"relax.reshape": (2.7, 1.3)}
"""Cycles an element of the result, NCHW and NHWC; a reshape is the end of a regrouping."""
MOVED = (0.9, 1.1)
"""Cycles an element of a concatenation, NCHW and NHWC, where it has a kernel; parts that are cut out are
taken to cost the same.  Neither costs anything where the parts are runs of memory (``contiguous.py``)."""
RESIZE_TAPS = {"nearest_neighbor": 1, "linear": 2, "cubic": 4}
RESIZE = ((0.18, 0.27), (0.27, 0.18))
"""Cycles an element of the result of a resize, and of one that it is made of: in NCHW one by rows and one by
columns, in NHWC all of a square."""
REDUCE_IMAGE = (0.8, 0.2)
"""Cycles an element read where rows and columns are reduced."""
REDUCE_CHANNELS = (0.4, 1.0)
"""Cycles an element read where channels are reduced: one after the other in the last axis."""
REDUCTIONS = frozenset(
    f"relax.{name}"
    for name in ("nn.adaptive_avg_pool2d", "mean", "sum", "max", "min", "prod", "variance", "std")
)


def transpose_cycles(shape: Shape, target: Target) -> float:
    """Cycles of a transpose of an NCHW float32 tensor; none where only extents of 1 change places."""
    if target.gpu is not None:
        return gpu_costs.transpose_cycles(shape, target.gpu)
    _, channels, height, width = shape
    if channels == 1 or height * width == 1:
        return 0.0
    elements = math.prod(shape)
    cached = 2 * 4 * elements <= target.cache.l2
    return TRANSPOSE_CALL + elements * (TRANSPOSE if cached else TRANSPOSE_FROM_MEMORY)


def apart_cycles(shape: Shape, target: Target) -> float:
    """Cycles of not being fused behind a producer of another layout."""
    if target.gpu is not None:
        return gpu_costs.apart_cycles(shape, target.gpu)
    return TRANSPOSE_CALL + APART * math.prod(shape)


def operator_cycles(call: Any, target: Target) -> tuple[float, float]:
    """Cycles of a call (in NCHW) that has a layout rule: in NCHW, in NHWC."""
    if target.gpu is not None:
        return gpu_costs.operator_cycles(call, target.gpu)
    name = getattr(call.op, "name", "")
    if name in ("relax.nn.max_pool2d", "relax.nn.avg_pool2d"):
        return _pool(static_shape(call.args[0]), static_shape(call), call.attrs, target)
    if name in REDUCTIONS:
        axes = getattr(call.attrs, "axis", None)
        channels = axes is not None and [int(axis) % 4 for axis in axes] == [1]
        return _by_element(static_shape(call.args[0]), REDUCE_CHANNELS if channels else REDUCE_IMAGE)
    if name == "relax.image.resize2d":
        return _resize(static_shape(call), RESIZE_TAPS.get(str(call.attrs.method), 4), target)
    if name == "relax.concat":
        return _concatenation(static_shape(call), int(call.attrs.axis) % 4)
    if name in CUTS:
        return _cut(call)
    if name in BY_RESULT:
        return _by_element(static_shape(call), BY_RESULT[name])
    return 0.0, 0.0


def _by_element(shape: Shape, cycles: tuple[float, float]) -> tuple[float, float]:
    elements = math.prod(shape)
    return elements * cycles[0], elements * cycles[1]


def _concatenation(shape: Shape, axis: int) -> tuple[float, float]:
    first = joins_runs(shape, axis)
    last = joins_runs([shape[a] for a in TO_NHWC], AXIS_IN_NHWC[axis])
    return _by_element(shape, (0.0 if first else MOVED[0], 0.0 if last else MOVED[1]))


def _cut(call: Any) -> tuple[float, float]:
    shape = static_shape(call.args[0])
    shape_in_nhwc = [shape[axis] for axis in TO_NHWC]
    first = last = 0.0
    for part in regions_of(call) or ():
        elements = math.prod(part.extents)
        first += 0.0 if part.offset_in(shape) is not None else elements * MOVED[0]
        last += 0.0 if part.permuted(TO_NHWC).offset_in(shape_in_nhwc) is not None else elements * MOVED[1]
    return first, last


def _pool(read: Shape, shape: Shape, attributes: Any, target: Target) -> tuple[float, float]:
    elements = math.prod(shape)
    moved = POOL_ELEMENT * (math.prod(read) + elements)
    taps = elements * sum(int(extent) for extent in attributes.pool_size)
    _, channels, _, width = shape
    first, last = (
        moved + cycles * taps / _lanes(extent, target)
        for cycles, extent in zip(POOL_TAP, (width, channels), strict=True)
    )
    return first, last


def _resize(shape: Shape, taps: int, target: Target) -> tuple[float, float]:
    (first, each), (last, square) = RESIZE
    elements, filled = math.prod(shape), _lanes(shape[1], target) / target.simd.lanes()
    return elements * (first + each * taps), elements * (last + square * taps**2) / filled


def _lanes(extent: int, target: Target) -> int:
    """Lanes of the vectors that ``extent`` elements fill."""
    return min(target.simd.lanes(), 1 << (extent.bit_length() - 1))
