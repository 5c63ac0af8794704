"""What a layout costs where no schedule of an operator's own answers: cycles of one core.

The figures are of kernels that ``schedules/`` gave on an AVX-512 server core (``python -m
benchmarks.layouts`` measures them anew).  They only have to rank two layouts of one operator and to weigh
them against transposes; convolutions bring their own estimates.  Operators that are not named cost the
same in both (elementwise ones are fused behind their producer in either).
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.contiguous import CUTS, joins_runs, regions_of
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

POOL_TAP = 1.6
"""Cycles of one tap of one window by one element: NCHW of stride above 1, NHWC by lanes of channels."""
POOL_TAP_IN_ROW = 0.5
"""The same in NCHW and stride 1."""

BY_RESULT = {"relax.reshape": (2.7, 1.3)}
"""Cycles an element of the result, NCHW and NHWC; a reshape is the end of a regrouping."""
MOVED = (0.9, 1.1)
"""Cycles an element of a concatenation, NCHW and NHWC, where it has a kernel; parts that are cut out are
taken to cost the same.  Neither costs anything where the parts are runs of memory (``contiguous.py``)."""
RESIZE = {"nearest_neighbor": (2.4, 0.7)}
RESIZE_OTHERS = (14.0, 2.5)
"""Cycles an element of the result by method: an interpolated pixel of NHWC is one of all channels."""
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
    _, channels, height, width = shape
    if channels == 1 or height * width == 1:
        return 0.0
    elements = math.prod(shape)
    cached = 2 * 4 * elements <= target.cache.l2
    return TRANSPOSE_CALL + elements * (TRANSPOSE if cached else TRANSPOSE_FROM_MEMORY)


def apart_cycles(shape: Shape) -> float:
    """Cycles of not being fused behind a producer of another layout."""
    return TRANSPOSE_CALL + APART * math.prod(shape)


def operator_cycles(call: Any, target: Target) -> tuple[float, float]:
    """Cycles of a call (in NCHW) that has a layout rule: in NCHW, in NHWC."""
    name = getattr(call.op, "name", "")
    if name in ("relax.nn.max_pool2d", "relax.nn.avg_pool2d"):
        return _pool(static_shape(call), call.attrs, target)
    if name in REDUCTIONS:
        axes = getattr(call.attrs, "axis", None)
        channels = axes is not None and [int(axis) % 4 for axis in axes] == [1]
        return _by_element(static_shape(call.args[0]), REDUCE_CHANNELS if channels else REDUCE_IMAGE)
    if name == "relax.image.resize2d":
        return _by_element(static_shape(call), RESIZE.get(call.attrs.method, RESIZE_OTHERS))
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


def _pool(shape: Shape, attributes: Any, target: Target) -> tuple[float, float]:
    taps = math.prod(shape) * math.prod(int(extent) for extent in attributes.pool_size)
    channels, lanes = shape[1], target.simd.lanes()
    while channels % lanes:
        lanes //= 2
    first = POOL_TAP_IN_ROW if int(attributes.strides[1]) == 1 else POOL_TAP
    return taps * first, taps * POOL_TAP / lanes
