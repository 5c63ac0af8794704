"""What a layout costs on a GPU: cycles of the chip for what is moved, and for every launch.

A GPU reads whole lines in either layout, so that pools, resizes and reductions cost the same in both and are
left out.  What counts is whether an operator is a kernel of its own: a transpose, a concatenation or a part
that does not lie in one piece, an elementwise operator behind a producer of another layout.
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.contiguous import CUTS, joins_runs, regions_of
from deploycc.gpu_cycles import copy_cycles
from deploycc.layout.rules import AXIS_IN_NHWC, TO_NHWC
from deploycc.relax_graph import static_shape
from deploycc.types import Gpu

Shape = list[int]

TRANSPOSE_PASSES = 1.3
"""Passes over memory that a transpose is counted as: through shared memory, lines are not always whole."""


def transpose_cycles(shape: Shape, gpu: Gpu) -> float:
    """Cycles of a transpose of an NCHW float32 tensor; none where only extents of 1 change places."""
    _, channels, height, width = shape
    if channels == 1 or height * width == 1:
        return 0.0
    return copy_cycles(TRANSPOSE_PASSES * math.prod(shape), gpu)


def apart_cycles(shape: Shape, gpu: Gpu) -> float:
    """Cycles of not being fused behind a producer of another layout."""
    return copy_cycles(math.prod(shape), gpu)


def operator_cycles(call: Any, gpu: Gpu) -> tuple[float, float]:
    """Cycles of a call (in NCHW) that has a layout rule: in NCHW, in NHWC."""
    name = getattr(call.op, "name", "")
    if name == "relax.concat":
        shape, axis = static_shape(call), int(call.attrs.axis) % 4
        joined = joins_runs(shape, axis), joins_runs([shape[a] for a in TO_NHWC], AXIS_IN_NHWC[axis])
        first, last = (0.0 if one else copy_cycles(math.prod(shape), gpu) for one in joined)
        return first, last
    if name in CUTS:
        return _cut(call, gpu)
    return 0.0, 0.0


def _cut(call: Any, gpu: Gpu) -> tuple[float, float]:
    shape = static_shape(call.args[0])
    shape_in_nhwc = [shape[axis] for axis in TO_NHWC]
    first = last = 0.0
    for part in regions_of(call) or ():
        cycles = copy_cycles(math.prod(part.extents), gpu)
        first += 0.0 if part.offset_in(shape) is not None else cycles
        last += 0.0 if part.permuted(TO_NHWC).offset_in(shape_in_nhwc) is not None else cycles
    return first, last
