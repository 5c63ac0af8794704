"""Matrices of which only a few numbers in a row count: what a resized axis is a product with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Band = tuple[npt.NDArray[np.int32], npt.NDArray[Any]]
"""Where the numbers of each row begin, and they: ``[rows]`` and ``[rows, taps]``."""

_LEAST_GAIN = 12
"""How many zeros a dense product must have for each number that counts: its kernels are that much faster."""


def band_of(matrix: npt.NDArray[Any]) -> Band | None:
    """The band of a matrix ``[rows, columns]``; ``None`` where a dense product is as good."""
    rows, columns = matrix.shape
    if rows * columns < 1 << 12 or np.count_nonzero(matrix) * _LEAST_GAIN > matrix.size:
        return None
    counts = matrix != 0
    first, last = counts.argmax(axis=1), columns - counts[:, ::-1].argmax(axis=1)
    taps = int(np.max(np.where(counts.any(axis=1), last - first, 1)))
    if taps * _LEAST_GAIN > columns:
        return None
    starts = np.minimum(first, columns - taps)
    return starts.astype(np.int32), np.take_along_axis(matrix, starts[:, None] + np.arange(taps), axis=1)
