"""Products of few rows: each warp reads some columns of the matrix from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.scheduling.written.device import DeviceWriter
from deploycc.scheduling.written.device_product import Product
from deploycc.scheduling.written.device_tiles import as_written, both, guarded
from deploycc.scheduling.written.writing import FusedKernel
from deploycc.tvm_api import tirx

LANES = 32
"""Threads of a warp."""


@dataclass(frozen=True)
class VectorCut:
    """How a product of few rows is dealt out: ``split`` of a block's ``warps`` share ``columns`` columns.

    A lane reads ``unroll`` times four elements of each column at once.
    """

    product: Product
    columns: int
    split: int
    warps: int
    unroll: int

    @classmethod
    def of(cls, product: Product, knobs: Mapping[str, int]) -> VectorCut:
        """As the knobs of a schedule say."""
        return cls(product, *(knobs[name] for name in ("columns", "split", "warps", "unroll")))

    @property
    def block_columns(self) -> int:
        """Columns of a block."""
        return self.warps // self.split * self.columns

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return -(-self.product.columns // self.block_columns)

    @property
    def padded_inner(self) -> int:
        """Elements of a packed column: whole vectors of four."""
        return -(-self.product.inner // 4) * 4

    @property
    def rounds(self) -> int:
        """Vectors of a lane in each column."""
        return -(-self.padded_inner // (4 * LANES * self.split))

    @cached_property
    def lanes(self) -> int:
        """Elements of a row that are read at once: rows begin at any place."""
        return next(lanes for lanes in (4, 2, 1) if self.product.inner % lanes == 0)

    def pack(self, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """K x N weights as [column, k], zeros added; no knob changes that."""
        inner, columns = self.product.inner, self.product.columns
        packed = np.zeros((columns, self.padded_inner), weight.dtype)
        packed[:, :inner] = weight.reshape(inner, columns).T
        return packed.reshape(-1)

    def weight_of(self, weight: Any, tap: Any, inner: Any, channel: Any) -> Any:
        """The element of packed weights; an expression."""
        return weight[channel * self.padded_inner + inner]


def write_vectors(sch: Any, cut: VectorCut) -> Any:
    """The kernel of ``cut``, with what is fused behind the operator; raises ``NotWritable``."""
    kernel = FusedKernel.of(sch)
    writer, product = DeviceWriter(kernel), cut.product
    data, weight = writer.flat(kernel.data), writer.flat(kernel.weight)
    accumulator = product.accumulator
    rows, columns = product.rows, cut.columns
    count, sets = rows * columns, cut.warps // cut.split
    with writer.launch((cut.blocks,), (cut.warps * LANES,)) as ((block,), (thread,)):
        acc = writer.local("acc", (count,), accumulator)
        left = writer.local("left", (cut.unroll * rows * 4,), str(data.ty.dtype))
        right = writer.local("right", (cut.unroll * columns * 4,), str(weight.ty.dtype))
        sums = writer.shared("sums", (cut.split, sets * count), accumulator)
        lane, warp = thread % LANES, thread // LANES
        part, own = warp % cut.split, warp // cut.split
        first = (block * sets + own) * columns
        with writer.loop(count, "i", "unrolled") as i:
            writer.store(acc, 0, i)
        with writer.loop(-(-cut.rounds // cut.unroll), "round") as number:
            for u in range(cut.unroll):
                k = (((number * cut.unroll + u) * cut.split + part) * LANES + lane) * 4
                exact = cut.padded_inner % (4 * LANES * cut.split * cut.unroll) == 0
                inside = None if exact else k < cut.padded_inner
                _clear(writer, left, u * rows * 4, rows * 4, inside is not None or cut.lanes < 4)
                _clear(writer, right, u * columns * 4, columns * 4, inside is not None)
                with guarded(writer, inside):
                    for column in range(columns):
                        at = first + column
                        if product.columns % cut.block_columns:  # the last one again, and its sum is dropped
                            at = tirx.min(at, product.columns - 1)
                        value = writer.vector(weight, 4, at * cut.padded_inner + k)
                        writer.store_vector(right, 4, value, (u * columns + column) * 4)
                for row in range(rows):
                    for piece in range(0, 4, cut.lanes):
                        ends = cut.lanes < 4 and piece > 0
                        more = k + piece < product.inner if ends else None
                        with guarded(writer, both(inside, more)):
                            value = writer.vector(data, cut.lanes, row * product.inner + k + piece)
                            writer.store_vector(left, cut.lanes, value, (u * rows + row) * 4 + piece)
            for u in range(cut.unroll):
                for row in range(rows):
                    for column in range(columns):
                        with writer.loop(4, "k", "unrolled") as k:
                            term = writer.load(left, (u * rows + row) * 4 + k).astype(accumulator)
                            term = term * writer.load(right, (u * columns + column) * 4 + k).astype(
                                accumulator
                            )
                            place = row * columns + column
                            writer.store(acc, writer.load(acc, place) + term, place)
        for distance in (16, 8, 4, 2, 1):
            with writer.loop(count, "i", "unrolled") as i:
                mask = tirx.const(0xFFFFFFFF, "uint32")
                other = writer.value_of(
                    "__shfl_xor_sync",
                    mask,
                    writer.load(acc, i),
                    tirx.const(distance, "int32"),
                    dtype=accumulator,
                )
                writer.store(acc, writer.load(acc, i) + other, i)
        with writer.when(lane < 1), writer.loop(count, "i", "unrolled") as i:
            writer.store(sums, writer.load(acc, i), part, own * count + i)
        writer.sync()
        results = cut.warps * LANES
        for start in range(0, sets * count, results):
            place = start + thread
            number, row, column = place // count, place % count // columns, place % columns
            channel = (block * sets + number) * columns + column
            partial = start + results > sets * count
            exact = product.columns % cut.block_columns == 0
            with guarded(
                writer,
                both(place < sets * count if partial else None, None if exact else channel < product.columns),
            ):
                writer.store(acc, writer.load(sums, 0, place), 0)
                for other_part in range(1, cut.split):
                    writer.store(acc, writer.load(acc, 0) + writer.load(sums, other_part, place), 0)
                writer.result(as_written(writer, writer.load(acc, 0)), *product.place(row, channel))
    return writer.finish()


def _clear(writer: DeviceWriter, buffer: Any, first: int, count: int, needed: bool) -> None:
    if needed:
        with writer.loop(count, "i", "unrolled") as i:
            writer.store(buffer, 0, first + i)
