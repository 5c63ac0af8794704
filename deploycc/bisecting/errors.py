"""How far a step's result is from what it should be, quickly: every tensor of a network is looked at."""

from __future__ import annotations

import math

import numpy as np

from deploycc.onnx_graph import Array
from deploycc.result_types import TensorDifference
from deploycc.tolerances import RELATIVE_TOLERANCE
from deploycc.verifying import difference


def tolerance_of(array: Array) -> float:
    """What a scaled error of this dtype may be; 0 for integers, which must be equal."""
    return RELATIVE_TOLERANCE.get(array.dtype.name, 0.0)


def scaled_error(expected: Array, got: Array) -> float:
    """The largest error over the reference's largest finite magnitude.

    Infinite for NaN or infinities in only one of them, and for any error of an integer.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return math.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(expected)
        if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
            return math.inf
        error = float(np.max(np.abs(np.subtract(expected, got)), initial=0.0, where=finite))
        magnitude = float(np.max(np.abs(expected), initial=0.0, where=finite))
    if error == 0.0:
        return 0.0
    return error / magnitude if magnitude and math.isfinite(error) else math.inf


def compared(name: str, expected: Array, got: Array, coarsest: float = 0.0) -> TensorDifference:
    """All measures, with the dtype's own tolerance, of floats ``coarsest`` where that is more."""
    own = tolerance_of(expected)
    return difference(name, expected, got, max(own, coarsest) if own else own)


def finite(value: float) -> float:
    """For sorting and comparing: an infinite error is a very large one."""
    return value if math.isfinite(value) else 1e30
