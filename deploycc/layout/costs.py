"""What a layout costs where no schedule of an operator's own answers: cycles of one core.

The numbers were measured kernel by kernel (``benchmarks/layouts.py`` prints them anew).  They only have to
rank two layouts of one operator and to weigh them against transposes; convolutions bring their own estimates.
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.types import Target

TRANSPOSE = 1.0
"""Cycles an element of a transpose between NCHW and NHWC."""


def transpose_cycles(shape: list[int]) -> float:
    """Cycles of a transpose of an NCHW tensor; none where only extents of 1 change places."""
    _, channels, height, width = shape
    if channels == 1 or height * width == 1:
        return 0.0
    return TRANSPOSE * math.prod(shape)


def operator_cycles(call: Any, target: Target) -> tuple[float, float]:
    """Cycles of a call (in NCHW) that has a layout rule: in NCHW, in NHWC."""
    return 0.0, 0.0
