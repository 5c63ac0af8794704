"""Transposition on a GPU: tiles through shared memory, so that memory is read and written along its rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, cast

from deploycc.scheduling.intrinsics import with_own_names
from deploycc.scheduling.primitives import bits_of
from deploycc.scheduling.written.device_threads import TypedWriter
from deploycc.scheduling.written.rows import places_of
from deploycc.scheduling.written.strided_kernel import StridedKernel
from deploycc.scheduling.written.strides import Access
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import tirx

EDGE = 32
"""Elements of a tile each way: a line of 128 bytes of float32."""
_LEAST = 4
"""Elements of an axis below which rows of memory are so short that caches serve as well."""


def write_tiles(kernel: StridedKernel, threads: int) -> Any:
    """The kernel as written code, ``threads`` a tile.

    Raises ``NotWritable`` where nothing is transposed, or not two axes against one another.
    """
    writer = TypedWriter(cast(Any, kernel))  # which asks it for its function, no more
    _Tiles(writer, kernel, threads).write()
    return writer.finish()


class _Tiles:
    def __init__(self, writer: TypedWriter, kernel: StridedKernel, threads: int) -> None:
        self.writer, self.kernel, self.threads = writer, kernel, threads
        across = {number for access in kernel.accesses for number in _innermost(access)}
        if len(across) != 1:
            raise NotWritable(f"operands have {len(across)} innermost axes that are not the result's")
        if any(access.leaves(kernel.extents) for access in kernel.accesses):
            raise NotWritable("an operand is read beyond its ends but for a condition")
        (self.across,) = across
        self.held = [a for a in kernel.accesses if _innermost(a)]
        extents = kernel.extents[self.across], kernel.extents[-1]
        if min(extents) < _LEAST:
            raise NotWritable("an axis so short that caches serve it")
        self.edges = tuple(min(EDGE, 1 << (extent - 1).bit_length()) for extent in extents)
        size = sum(
            self.edges[1] * (self.edges[0] + 1) * bits_of(str(a.buffer.ty.dtype)) // 8 for a in self.held
        )
        if size > 48 << 10:
            raise NotWritable("too many operands are transposed")
        self.outer = [n for n in range(len(kernel.extents) - 1) if n != self.across]

    def write(self) -> None:
        """All of the kernel."""
        writer, kernel = self.writer, self.kernel
        sizes = (kernel.extents[self.across], kernel.extents[-1])
        tiles = [-(-size // edge) for size, edge in zip(sizes, self.edges, strict=True)]
        outer = [kernel.extents[number] for number in self.outer]
        threads = min(self.threads, self.edges[0] * self.edges[1])
        with writer.launch((math.prod(outer) * tiles[0] * tiles[1],), (threads,)) as ((block,), (thread,)):
            *places, p, c = places_of(block, [*outer, *tiles])
            indices: dict[int, Any] = dict(zip(self.outer, places, strict=True))
            p, c = p * self.edges[0], c * self.edges[1]
            shared = [
                writer.shared("tile", (self.edges[1], self.edges[0] + 1), str(access.buffer.ty.dtype))
                for access in self.held
            ]

            def load(column: Any, row: Any) -> None:
                at = {**indices, self.across: p + row, len(kernel.extents) - 1: c + column}
                for access, tile in zip(self.held, shared, strict=True):
                    value = writer.load(writer.flat(access.buffer), self.place(access, at))
                    writer.store(tile, value, column, row)

            self.sweep(thread, threads, self.edges[0], self.edges[1], (p, c), sizes, load)
            writer.sync()

            def store(row: Any, column: Any) -> None:
                at = {**indices, self.across: p + row, len(kernel.extents) - 1: c + column}

                def read(access: Access) -> Any:
                    for other, tile in zip(self.held, shared, strict=True):
                        if other.same_as(access):
                            return writer.load(tile, column, row)
                    return writer.load(writer.flat(access.buffer), self.place(access, at))

                ordered = [at[number] for number in range(len(kernel.extents))]
                value = with_own_names(kernel.element(read, ordered))
                strides = kernel.output_strides()
                place = _sum(index * stride for index, stride in zip(ordered, strides, strict=True))
                writer.store(writer.flat(kernel.output), value, place)

            turned = (c, p), (sizes[1], sizes[0])
            self.sweep(thread, threads, self.edges[1], self.edges[0], turned[0], turned[1], store)

    def sweep(
        self,
        thread: Any,
        threads: int,
        width: int,
        height: int,
        first: Sequence[Any],
        sizes: Sequence[int],
        body: Any,
    ) -> None:
        """``body(line, place)`` for every element of a tile, neighbouring threads along a line."""
        writer = self.writer
        lines = threads // width
        with writer.loop(height // lines, "line", "unrolled") as number:
            place, line = thread % width, number * lines + thread // width
            conditions = []
            if sizes[0] % width:
                conditions.append(first[0] + place < sizes[0])
            if sizes[1] % height:
                conditions.append(first[1] + line < sizes[1])
            with writer.when(tirx.all(*conditions)) if conditions else contextlib.nullcontext():
                body(line, place)

    def place(self, access: Access, indices: dict[int, Any]) -> Any:
        """The element of ``access``."""
        moved = [indices[number] * stride for number, stride in enumerate(access.strides) if stride]
        return _sum([tirx.IntImm("int64", access.offset), *moved])


def _innermost(access: Access) -> list[int]:
    """The axis along which ``access`` is contiguous, if it is one that has to be transposed."""
    if access.strides[-1] in (0, 1):
        return []
    return [number for number, stride in enumerate(access.strides) if stride == 1]


def _sum(terms: Any) -> Any:
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total
