"""Products of two matrices that are both computed, on a GPU's plain cores: tiles in shared memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from deploycc.scheduling.intrinsics import with_own_names
from deploycc.scheduling.primitives import bits_of
from deploycc.scheduling.written.device_elements import bounded
from deploycc.scheduling.written.device_nests import Gathering, Nest, NestedKernel, substituted, variables_in
from deploycc.scheduling.written.device_threads import TypedWriter
from deploycc.scheduling.written.rows import places_of
from deploycc.scheduling.written.strides import loads_of, strides_of
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, structural_map, tirx

DEPTH = 16
"""Steps of the reduction that a tile in shared memory has."""


def write_products(kernel: NestedKernel, rows: int, columns: int, each: int) -> Any:
    """The kernel as written code: blocks of ``rows`` x ``columns`` results, ``each`` x ``each`` a thread.

    Raises ``NotWritable`` for a kernel that is not one product of two matrices.
    """
    if len(kernel.nests) != 1 or len(kernel.nests[0].gatherings) != 1:
        raise NotWritable("not one reduction")
    writer = TypedWriter(cast(Any, kernel))  # which asks it for its function, no more
    _Products(writer, kernel.nests[0], rows, columns, each).write()
    return writer.finish()


class _Products:
    def __init__(self, writer: TypedWriter, nest: Nest, rows: int, columns: int, each: int) -> None:
        self.writer, self.nest, self.each = writer, nest, each
        (self.gathering,) = nest.gatherings
        left, right = _factors(self.gathering)
        inner = [variable for variable, _ in self.gathering.inner]
        if not all(_uses(side, variable) for side in (left, right) for variable in inner):
            raise NotWritable("a factor does not change along the sum")
        self.all = [*nest.variables, *inner]
        sides = [[_uses(side, variable) for variable in nest.variables] for side in (left, right)]
        only = [
            [axis for axis in range(len(nest.variables)) if own[axis] and not other[axis]]
            for own, other in (sides, sides[::-1])
        ]
        if only[0] and only[1] and only[0][-1] > only[1][-1]:
            left, right, only = right, left, only[::-1]
        if not all(only):
            raise NotWritable("a matrix by a vector: every result is a sum along a row")
        self.sides = left, right
        self.axes = only
        self.batches = [axis for axis in range(len(nest.variables)) if axis not in (*only[0], *only[1])]
        self.sizes = [math.prod(nest.extents[axis] for axis in axes) for axes in only]
        self.inner = self.gathering.positions
        self.tile = rows, columns
        self.dtype = str(self.gathering.buffers[0].ty.dtype)
        self.threads = rows * columns // each**2

    def write(self) -> None:
        """All of the kernel."""
        writer, nest, (rows, columns), each = self.writer, self.nest, self.tile, self.each
        tiles = [-(-size // edge) for size, edge in zip(self.sizes, self.tile, strict=True)]
        outer = [nest.extents[axis] for axis in self.batches]
        grid = math.prod(outer) * math.prod(tiles)
        with writer.launch((grid,), (self.threads,)) as ((block,), (thread,)):
            *batch, row, column = places_of(block, [*outer, *tiles])
            self.batch = {
                nest.variables[axis]: place for axis, place in zip(self.batches, batch, strict=True)
            }
            self.first = row * rows, column * columns
            shared = [
                writer.shared(name, (DEPTH, edge + 4), self.dtype)
                for name, edge in zip(("left", "right"), self.tile, strict=True)
            ]
            sums = writer.local("sums", (each, each), self.dtype)
            for i in range(each):
                for j in range(each):
                    writer.store(sums, self.value(self.gathering.starts[0], {}), i, j)
            own = thread // (columns // each), thread % (columns // each)
            steps = -(-self.inner // DEPTH)
            ahead = [
                writer.local("ahead", (-(-edge * DEPTH // self.threads),), self.dtype) for edge in self.tile
            ]
            for side in (0, 1):
                self.fetch(side, ahead[side], tirx.IntImm("int64", 0), thread)
            with writer.loop(steps, "deep") as deep:
                for side in (0, 1):
                    self.fill(side, shared[side], ahead[side], thread)
                writer.sync()
                if steps > 1:
                    with writer.when(deep + 1 < steps):
                        for side in (0, 1):
                            self.fetch(side, ahead[side], (deep + 1) * DEPTH, thread)
                with writer.loop(DEPTH, "k", "unrolled") as k:
                    self.multiply(shared, sums, own, k)
                writer.sync()
            for i in range(each):
                for j in range(each):
                    self.result(sums, own, i, j)

    def parts(self, side: int, thread: Any, body: Callable[[Any, Any, Any], None]) -> None:
        """``body(part, place, k)`` for each element of an operand's tile that is a thread's.

        Threads follow one another along the operand's rows in memory.
        """
        writer, edge = self.writer, self.tile[side]
        total = edge * DEPTH
        along_sum = self.contiguous_along_sum(side)
        with writer.loop(-(-total // self.threads), "part", "unrolled") as part:
            number = part * self.threads + thread
            ragged = total % self.threads != 0
            with writer.when(number < total) if ragged else contextlib.nullcontext():
                if along_sum:
                    body(part, number // DEPTH, number % DEPTH)
                else:
                    body(part, number % edge, number // edge)

    def fill(self, side: int, shared: Any, ahead: Any, thread: Any) -> None:
        """Put what was fetched of an operand into shared memory."""
        writer = self.writer
        self.parts(
            side, thread, lambda part, place, k: writer.store(shared, writer.load(ahead, part), k, place)
        )

    def fetch(self, side: int, ahead: Any, deep: Any, thread: Any) -> None:
        """A tile of one operand into registers, zeros beyond its ends."""
        writer, edge, size = self.writer, self.tile[side], self.sizes[side]

        def fetch(part: Any, place: Any, k: Any) -> None:
            at, step = self.first[side] + place, deep + k
            places = {**self.batch, **self.along(self.axes[side], at)}
            extents = [extent for _, extent in self.gathering.inner]
            for (variable, _), index in zip(self.gathering.inner, places_of(step, extents), strict=True):
                places[variable] = index
            value = self.value(self.sides[side], places)
            conditions = []
            if size % edge:
                conditions.append(at < size)
            if self.inner % DEPTH:
                conditions.append(step < self.inner)
            if conditions:
                value = tirx.if_then_else(tirx.all(*conditions), value, tirx.const(0, self.dtype))
            writer.store(ahead, value, part)

        self.parts(side, thread, fetch)

    def contiguous_along_sum(self, side: int) -> bool:
        """Whether neighbours in memory are neighbours along the sum."""
        last = len(self.all) - 1
        for load in loads_of(self.sides[side]):
            access = strides_of(load, self.all)
            if access is not None and access.strides[last] == 1:
                return True
        return False

    def multiply(self, shared: Sequence[Any], sums: Any, own: Sequence[Any], k: Any) -> None:
        """One step of the sum for a thread's results."""
        writer, each = self.writer, self.each
        lines = []
        for buffer, place in zip(shared, own, strict=True):
            line = writer.local("line", (each,), self.dtype)
            if bits_of(self.dtype) == 32:
                vector = writer.vector(buffer, each, k, place * each)
                writer.store_vector(line, each, vector, tirx.IntImm("int64", 0))
            else:
                for i in range(each):
                    writer.store(line, writer.load(buffer, k, place * each + i), i)
            lines.append(line)
        for i in range(each):
            for j in range(each):
                product = writer.load(lines[0], i) * writer.load(lines[1], j)
                writer.store(sums, writer.load(sums, i, j) + product, i, j)

    def result(self, sums: Any, own: Sequence[Any], i: int, j: int) -> None:
        """What becomes of one sum."""
        writer = self.writer
        ats = [
            first + place * self.each + offset
            for first, place, offset in zip(self.first, own, (i, j), strict=True)
        ]
        conditions = [
            at < size for at, size, edge in zip(ats, self.sizes, self.tile, strict=True) if size % edge
        ]
        places = {**self.batch, **self.along(self.axes[0], ats[0]), **self.along(self.axes[1], ats[1])}
        with writer.when(tirx.all(*conditions)) if conditions else contextlib.nullcontext():
            for store in self.nest.stores:
                value = self.value(store.value, places, writer.load(sums, i, j))
                indices = [substituted(index, places) for index in store.indices]
                writer.store(store.buffer, value, *indices)

    def along(self, axes: Sequence[int], number: Any) -> dict[Any, Any]:
        """The index along each of ``axes`` of element ``number`` of all of them."""
        extents = [self.nest.extents[axis] for axis in axes]
        return {
            self.nest.variables[axis]: place
            for axis, place in zip(axes, places_of(number, extents), strict=True)
        }

    def value(self, expression: Any, places: Mapping[Any, Any], gathered: Any = None) -> Any:
        """``expression`` at ``places``, with ``gathered`` for the sum."""
        writer = self.writer

        def read(load: Any) -> Any:
            if gathered is not None and self.gathering.is_own(load) is not None:
                return gathered
            access = strides_of(load, self.all)
            if access is None:
                return writer.load(load.source, *map(bounded, load.indices, load.source.ty.shape))
            place = tirx.IntImm("int64", access.offset)
            for variable, stride in zip(self.all, access.strides, strict=True):
                if stride:
                    place = place + places[variable] * stride
            return writer.load(writer.flat(load.source), place)

        value = structural_map(expression, (ir.TensorLoad, read), order="post")
        return with_own_names(substituted(value, dict(places)))


def _factors(gathering: Gathering) -> tuple[Any, Any]:
    if len(gathering.values) != 1 or not isinstance(gathering.values[0], tirx.Add):
        raise NotWritable("not a sum")
    (term,) = gathering.terms
    if not isinstance(term, tirx.Mul):
        raise NotWritable("not a sum of products")
    if str(term.ty.dtype) != str(gathering.buffers[0].ty.dtype):
        raise NotWritable("products of another type than their sum")
    return term.a, term.b


def _uses(value: Any, variable: Any) -> bool:
    return any(variable.same_as(other) for other in variables_in(value))


def product_cycles(
    rate: float, threads: float, results: float, inner: int, blocks: int, rows: int, columns: int, each: int
) -> float:
    """Cycles of a chip that does ``rate`` multiply-adds a cycle with ``threads`` threads in flight.

    A step of a thread reads 2 x ``each`` numbers of shared memory for ``each``^2 multiply-adds; one block
    alone waits for what of memory (some 600 cycles every 16 steps) its own computing does not hide.
    """
    tile = rows * columns
    waves = math.ceil(blocks * (tile / each**2) / threads)
    efficiency = each / (each + 1.5)
    computing = blocks * tile * inner / (rate * efficiency)
    step = max(600.0, DEPTH * (each**2 + 4.0 * each)) + 60.0
    alone = waves * (math.ceil(inner / DEPTH) * step + 600.0)
    return max(computing, alone) + 0.05 * computing + 0.1 * results / threads
