"""How far a tensor is from its reference, in all the measures that people ask for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.result_types import TensorDifference

Array = npt.NDArray[Any]

BOUNDS = (0.0, *(10.0**exponent for exponent in range(-9, 1)), math.inf)
"""Upper bounds of the histogram's bins: no error at all, then decades of the scaled error."""

_ORDERED = {2: (np.int16, 1 << 15), 4: (np.int32, 1 << 31), 8: (np.int64, 1 << 63)}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def difference(name: str, expected: Array, got: Array, tolerance: float) -> TensorDifference:
    """How far ``got`` is from ``expected``, and whether by no more than ``tolerance``.

    ``tolerance`` bounds the largest absolute error as a share of the largest finite magnitude of
    ``expected``, as ``deploycc.reference.compare`` does; 0 asks for equal values.  NaN must meet NaN and an
    infinity the same one.  Both have the same shape and dtype, else the result is not ``ok``, says so in
    ``reason``, and its errors are infinite.

    Of the errors, ``max_rel`` is taken where the reference is not 0.  ``max_ulp`` of integers is their
    difference.  ``nan`` and ``infinite`` count elements of ``got``.  In the histogram an element that is NaN
    or infinite in one only is in the last bin, so all bins together have every element.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return _unlike(name, expected, got, tolerance)
    floats = expected.dtype.name in _FLOATS
    if floats:
        want, have = expected.astype(np.float64), got.astype(np.float64)
        unexpected = _unexpected(want, have)
        finite = np.isfinite(want) & np.isfinite(have)
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.where(finite, np.abs(want - have), 0.0)
        ulps = np.where(finite, _ulps(expected, got), np.uint64(0))
    else:
        want, have = expected.astype(np.float64), got.astype(np.float64)
        unexpected = np.zeros(want.shape, bool)
        finite = np.ones(want.shape, bool)
        ulps = _distance(expected, got)
        error = ulps.astype(np.float64)
    magnitude = float(np.max(np.abs(want), initial=0.0, where=np.isfinite(want)))
    scaled = _over(error, np.full_like(error, magnitude))
    max_scaled = float(np.max(scaled, initial=0.0))
    wrong = int(np.count_nonzero(unexpected))
    worst = _worst(error, unexpected)
    nonzero = finite & (want != 0)
    ok = wrong == 0 and max_scaled <= tolerance
    cosine, sqnr = _signal(want, have, finite, magnitude) if floats else (None, None)
    return TensorDifference(
        tensor=name,
        dtype=expected.dtype.name,
        elements=int(expected.size),
        ok=ok,
        tolerance=tolerance,
        max_abs=float(np.max(error, initial=0.0)),
        max_rel=float(np.max(_over(error, np.abs(want)), initial=0.0, where=nonzero)),
        max_scaled=max_scaled,
        max_ulp=int(np.max(ulps, initial=0)),
        cosine=cosine,
        sqnr_db=sqnr,
        histogram=_histogram(np.where(unexpected, math.inf, scaled)),
        nan=int(np.count_nonzero(np.isnan(have))),
        infinite=int(np.count_nonzero(np.isinf(have))),
        unexpected=wrong,
        worst_index=worst,
        worst_expected=float(want[worst]) if expected.size else 0.0,
        worst_got=float(have[worst]) if expected.size else 0.0,
        reason=_reason(ok, wrong, error, max_scaled, tolerance, floats=floats),
    )


def _unlike(name: str, expected: Array, got: Array, tolerance: float) -> TensorDifference:
    return TensorDifference(
        tensor=name,
        dtype=expected.dtype.name,
        elements=int(expected.size),
        ok=False,
        tolerance=tolerance,
        max_abs=math.inf,
        max_rel=math.inf,
        max_scaled=math.inf,
        max_ulp=0,
        cosine=None,
        sqnr_db=None,
        histogram=(),
        nan=0,
        infinite=0,
        unexpected=0,
        worst_index=(),
        worst_expected=0.0,
        worst_got=0.0,
        reason=f"{got.dtype.name}{list(got.shape)} instead of {expected.dtype.name}{list(expected.shape)}",
    )


def _reason(ok: bool, wrong: int, error: Array, max_scaled: float, tolerance: float, *, floats: bool) -> str:
    if ok:
        return ""
    if wrong:
        return (
            f"{wrong} of {error.size} values NaN or infinite where the reference has another, or the reverse"
        )
    if not floats and tolerance == 0.0:
        return f"{np.count_nonzero(error)} of {error.size} values differ"
    return f"largest scaled error {max_scaled:.3g}, allowed {tolerance:.3g}"


def _unexpected(want: Array, have: Array) -> Array:
    special = ~(np.isfinite(want) & np.isfinite(have))
    same = (want == have) | (np.isnan(want) & np.isnan(have))
    return np.asarray(special & ~same)


def _over(error: Array, whole: Array) -> Array:
    """``error / whole``: no error is 0 of anything, any error infinitely much of 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(error == 0.0, 0.0, error / whole)


def _ulps(expected: Array, got: Array) -> Array:
    """Representable values in between, +0 and -0 being one."""
    kind, sign = _ORDERED[expected.dtype.itemsize]
    return _distance(*(_ordered(array.view(kind).astype(np.int64), sign) for array in (expected, got)))


def _ordered(bits: Array, sign: int) -> Array:
    """Floats' bits, as integers in the order of the floats: negative ones count downwards from 0."""
    lowest = np.int64(-sign)
    with np.errstate(over="ignore"):
        return np.where(bits < 0, lowest - bits, bits)


def _distance(a: Array, b: Array) -> Array:
    """``|a - b|`` of integers or booleans as uint64, exact over the whole range."""
    wide = np.uint64 if a.dtype == np.uint64 else np.int64
    a, b = a.astype(wide), b.astype(wide)
    return np.where(a > b, a.view(np.uint64) - b.view(np.uint64), b.view(np.uint64) - a.view(np.uint64))


def _signal(want: Array, have: Array, finite: Array, magnitude: float) -> tuple[float | None, float | None]:
    """Cosine, and signal to error power in decibels, over what is finite in both."""
    if magnitude == 0.0:
        return None, None
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = want[finite] / magnitude, have[finite] / magnitude  # squares of large values would overflow
        signal, error = float(np.sum(a * a)), float(np.sum((a - b) ** 2))
        norms = math.sqrt(signal) * math.sqrt(float(np.sum(b * b)))
        cosine = float(np.sum(a * b)) / norms if 0.0 < norms < math.inf else None
    sqnr = 10.0 * math.log10(signal / error) if 0.0 < error < math.inf and signal > 0.0 else None
    return None if cosine is None else max(-1.0, min(1.0, cosine)), sqnr


def _histogram(scaled: Array) -> tuple[tuple[float, int], ...]:
    bins = np.searchsorted(np.asarray(BOUNDS), scaled.ravel(), side="left")
    counts = np.bincount(bins, minlength=len(BOUNDS))
    return tuple((bound, int(count)) for bound, count in zip(BOUNDS, counts, strict=True))


def _worst(error: Array, unexpected: Array) -> tuple[int, ...]:
    if error.size == 0:
        return ()
    flat = int(np.argmax(np.where(unexpected, math.inf, error)))
    return tuple(int(index) for index in np.unravel_index(flat, error.shape))
