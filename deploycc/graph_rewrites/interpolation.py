"""Where the samples of a resized axis lie, and the weights of what they are made of.

Formulas: the ONNX specification of Resize (coordinate transformations, nearest modes, cubic weights after
Keys 1981 with ``cubic_coeff_a``, antialiasing by a filter as wide as the image shrinks).  Coordinates are
computed in float32, as ONNX Runtime does, so that ties round the same way.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def coordinates(before: int, after: int, scale: float, mode: str) -> Floats:
    """Where each of the ``after`` samples lies among the ``before`` ones."""
    at = np.arange(after, dtype=np.float32)
    factor = np.float32(scale)
    half = np.float32(0.5)
    if mode == "asymmetric":
        return (at / factor).astype(np.float32)
    if mode == "align_corners":
        return (at * np.float32(before - 1) / np.float32(max(after - 1, 1))).astype(np.float32)
    if mode == "pytorch_half_pixel" and after == 1:
        return np.zeros(1, np.float32)
    places = (at + half) / factor
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(after) / np.float32(factor * np.float32(before))
        places = np.float32(before) / np.float32(2) * (np.float32(1) - adjustment) + places
    return (places - half).astype(np.float32)


def cropped_coordinates(before: int, after: int, start: float, end: float) -> Floats:
    """Where the samples of a part of an axis lie, ``start`` to ``end`` as shares of its extent."""
    first, last, most = np.float32(start), np.float32(end), np.float32(before - 1)
    if after == 1:
        return np.asarray([np.float32(0.5) * (first + last) * most], np.float32)
    at = np.arange(after, dtype=np.float32)
    return np.asarray(first * most + at * (last - first) * most / np.float32(after - 1), np.float32)


def nearest(where: Floats, rounding: str, extent: int) -> npt.NDArray[np.int64]:
    """The index read for each sample: rounded as ``nearest_mode`` says, and inside the image."""
    half = np.float32(0.5)
    rounded = {
        "floor": np.floor(where),
        "ceil": np.ceil(where),
        "round_prefer_ceil": np.floor(where + half),
    }.get(rounding, np.ceil(where - half))
    indices: npt.NDArray[np.int64] = np.clip(rounded, 0, extent - 1).astype(np.int64)
    return indices


def interpolation_matrix(where: Floats, extent: int, cubic: float | None, exclude_outside: bool) -> Floats:
    """Weights ``[samples, extent]`` of linear (``cubic=None``) or cubic interpolation at ``where``.

    Taps beyond the edge take the edge's value, or are left out with the rest scaled to sum 1.
    """
    weights = np.zeros((len(where), extent), np.float64)
    for row, x in enumerate(where):
        base = math.floor(x)
        ratio = float(x) - base
        if cubic is None:
            taps = {base: 1.0 - ratio, base + 1: ratio}
        else:
            taps = dict(zip(range(base - 1, base + 3), _cubic_weights(ratio, cubic), strict=True))
        if exclude_outside and cubic is not None:
            taps = {index: weight for index, weight in taps.items() if 0 <= index < extent}
            total = sum(taps.values())
            taps = {index: weight / total for index, weight in taps.items()}
        for index, weight in taps.items():
            weights[row, min(max(index, 0), extent - 1)] += weight
    return weights.astype(np.float32)


def antialias_matrix(
    where: Floats, extent: int, scale: float, cubic: float | None, exclude_outside: bool
) -> Floats:
    """Weights ``[samples, extent]`` of a filter that is ``1 / scale`` as wide where the image shrinks.

    Every pixel under the filter counts, by its distance from the sample; their weights sum up to 1.  Taps
    beyond the edge take the edge's value, or are left out.
    """
    shrinking = np.float32(max(1.0, float(np.float32(1) / np.float32(scale))))
    support = np.float32(1 if cubic is None else 2) * shrinking
    weights = np.zeros((len(where), extent), np.float64)
    for row, x in enumerate(where):
        first = math.floor(np.float32(x) + np.float32(0.5) - support + np.float32(0.5))
        last = math.floor(np.float32(x) + np.float32(0.5) + support + np.float32(0.5))
        taps = np.arange(first, last)
        if exclude_outside:
            taps = taps[(taps >= 0) & (taps < extent)]
        distances = np.abs(taps - float(x)) / float(shrinking)
        shares = np.maximum(0, 1 - distances) if cubic is None else _keys(distances, cubic)
        total = shares.sum()
        np.add.at(weights[row], np.clip(taps, 0, extent - 1), shares / (total if total != 0 else 1))
    return weights.astype(np.float32)


def _keys(x: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _cubic_weights(t: float, a: float) -> list[float]:
    return [
        ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
        ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a,
    ]
