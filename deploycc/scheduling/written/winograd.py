"""Winograd's minimal filtering F(m, 3): transforms, their numerical error, and the vectors that apply them.

One dimension: ``y = A ((G g) * (B d))`` gives the m results of a correlation of m + 2 inputs ``d`` with a
kernel ``g`` of 3 by m + 2 multiplications instead of 3 m.  The matrices are those of Toom and Cook for the
finite points below and infinity (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016).
In two dimensions they are applied along rows, then along columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.scheduling.written.writing import Writer

Matrix = npt.NDArray[np.float64]

Vector = Callable[[Any], Any]
"""The element of a vector at a lane."""

TAPS = 3

POINTS = {2: (1.0,), 4: (0.75, 1.5), 6: (0.5, 1.0, 2.0)}
"""Finite points by m, each with both signs; 0 is one more.

They decide the error.  Of what was tried in float32 these are the best whose matrices have no rounded
entry: 0.75 and 1.5 have a quarter of the error of the usual 1 and 2.
"""

ERROR = {2: 2.5e-7, 4: 1e-6, 6: 6e-6}
"""By m along both axes: half the largest error to expect of the transform of 16 channels, as a share of the
largest result.  Together with ``estimated_error`` about 1.5 times what random data gave in float32."""


@dataclass(frozen=True)
class Transform:
    """The matrices of F(m, 3): ``data`` (B, n x n), ``kernel`` (G, n x 3), ``result`` (A, m x n); n = m + 2.

    Row i and i + 1 of B, for odd i below n - 2, belong to points that differ in sign only.
    """

    m: int
    data: Matrix
    kernel: Matrix
    result: Matrix

    @property
    def size(self) -> int:
        """Inputs and multiplications: n."""
        return self.m + TAPS - 1

    @cached_property
    def data_operations(self) -> int:
        """Vector operations that transform a line of inputs."""
        return operations(self.data)

    @cached_property
    def result_operations(self) -> int:
        """Vector operations that give a line of results."""
        return operations(self.result)

    def kernel_terms(self, tap: int) -> tuple[tuple[int, float], ...]:
        """Rows of G g and factors whose sum is ``g[tap]``: the kernel read back from its transform."""
        if tap == 0:
            return ((0, 1 / self.kernel[0, 0]),)
        if tap == 2:
            return ((self.size - 1, 1 / self.kernel[-1, 2]),)
        return tuple((row, 0.5 / self.kernel[row, 1]) for row in (1, 2))

    def pack(self, kernels: Matrix, axis: int) -> Matrix:
        """``kernels`` with ``axis`` (3 taps) transformed to n."""
        return np.moveaxis(np.tensordot(self.kernel, kernels, (1, axis)), 0, axis)


def estimated_error(down: Transform, along: Transform, channels: int) -> float:
    """Largest error to expect of a convolution of ``channels`` a group, as a share of its largest result.

    Products are added up one channel after the other, so the error grows with the root of their number.
    """
    return math.sqrt(ERROR[down.m] * ERROR[along.m]) * (1 + math.sqrt(channels) / 4)


@cache
def transform_of(m: int) -> Transform:
    """The transform F(m, 3) for an m of ``POINTS``."""
    points = [0.0]
    for point in POINTS[m]:
        points += [point, -point]
    size = m + TAPS - 1
    data, kernel, result = np.zeros((size, size)), np.zeros((size, TAPS)), np.zeros((m, size))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        data[row, :-1] = np.polynomial.polynomial.polyfromroots(others)
        kernel[row] = [point**power / math.prod(point - other for other in others) for power in range(TAPS)]
        result[:, row] = [point**power for power in range(m)]
    data[-1] = np.polynomial.polynomial.polyfromroots(points)
    kernel[-1, -1] = result[-1, -1] = 1.0
    for row in range(size):
        # Powers of two keep every entry exact and the transformed inputs about as large as the inputs.
        scale = 2.0 ** -np.round(np.log2(np.abs(data[row]).max()))
        data[row] *= scale
        kernel[row] /= scale
    return Transform(m, data, kernel, result)


def operations(matrix: Matrix) -> int:
    """Vector operations of one application of ``matrix`` as ``linear`` writes it."""
    if _row_pairs(matrix):
        single = [row for row in range(len(matrix)) if not _in_pair(row, _row_pairs(matrix))]
        terms = sum(int(np.count_nonzero(matrix[row])) - 1 for row in single)
        return terms + sum(int(np.count_nonzero(matrix[row])) for row in _row_pairs(matrix))
    pairs = _column_pairs(matrix)
    return 2 * len(pairs) + sum(int(np.count_nonzero(row)) - 1 - len(pairs) for row in matrix)


def linear(
    writer: Writer,
    matrix: Matrix,
    inputs: Sequence[Vector],
    store: Callable[[int, Vector], None],
    lanes: int,
) -> None:
    """Write ``store(row, vector)`` for every row of ``matrix`` times ``inputs``.

    ``inputs`` are read several times, so they should be registers.  Points of opposite sign share their sums.
    """
    rows, columns = _row_pairs(matrix), _column_pairs(matrix)
    if rows:
        for row in range(len(matrix)):
            if row in rows:
                same = matrix[row] == matrix[row + 1]
                even = register(writer, lanes, _sum(matrix[row] * same, inputs))
                odd = register(writer, lanes, _sum(matrix[row] * ~same, inputs))
                store(row, _sum((1, 1), (even, odd)))
                store(row + 1, _sum((1, -1), (even, odd)))
            elif not _in_pair(row, rows):
                store(row, _sum(matrix[row], inputs))
        return
    sums = {}
    for column in columns:
        pair = inputs[column : column + 2]
        sums[column] = [register(writer, lanes, _sum((1, sign), pair)) for sign in (1, -1)]
    for row, entries in enumerate(matrix):
        factors, values = [], []
        for column, entry in enumerate(entries):
            if column in columns:
                values.append(sums[column][int(entries[column + 1] != entry)])
                factors.append(entry)
            elif not _in_pair(column, columns):
                values.append(inputs[column])
                factors.append(entry)
        store(row, _sum(factors, values))


def register(writer: Writer, lanes: int, value: Vector) -> Vector:
    """``value`` computed once, into a register."""
    buffer = writer.local("register", (lanes,))
    with writer.loop(lanes, "lane", "vectorized") as lane:
        writer.store(buffer, value(lane), lane)
    return lambda lane: writer.load(buffer, lane)


def _row_pairs(matrix: Matrix) -> list[int]:
    """Rows that equal the next one but for signs, in a matrix as wide as high."""
    if matrix.shape[0] != matrix.shape[1]:
        return []
    return list(range(1, len(matrix) - 2, 2))


def _column_pairs(matrix: Matrix) -> list[int]:
    return list(range(1, matrix.shape[1] - 2, 2))


def _in_pair(position: int, pairs: Sequence[int]) -> bool:
    return position in pairs or position - 1 in pairs


def _sum(factors: Sequence[float] | Matrix, values: Sequence[Vector]) -> Vector:
    """The sum of products, those by 1 first: what follows is a multiply-add each."""
    terms = [(float(f), value) for f, value in zip(factors, values, strict=True) if f]
    terms.sort(key=lambda term: (term[0] != 1, abs(term[0]) != 1))

    def total(lane: Any) -> Any:
        (factor, value), *others = terms
        result = value(lane) if factor == 1 else value(lane) * factor
        for factor, value in others:
            if factor in (1, -1):
                result = result + value(lane) if factor == 1 else result - value(lane)
            else:
                result = result + value(lane) * factor
        return result

    return total
