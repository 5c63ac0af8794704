"""Writing the sweeps of a ``RowKernel``: along contiguous rows, or down columns a vector wide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, bits_of
from deploycc.scheduling.written.rows import RowKernel, Step, Sweep, places_of
from deploycc.scheduling.written.strides import loads_of
from deploycc.scheduling.written.writing import Writer
from deploycc.tvm_api import ir, structural_map, tirx
from deploycc.types import Target

BINARY = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)

ACCUMULATORS = 8
"""Partial results of a reduction that are gathered side by side: an addition's latency times two a cycle."""


def write_rows(kernel: RowKernel, target: Target, vectors: int, items: int) -> Any:
    """The kernel as written code, ``items`` rows (or vectors of columns) side by side, ``vectors`` a step.

    A step that is needed again along a row is kept in the result's own memory where the last one allows it.
    """
    bits = max(bits_of(str(step.buffer.ty.dtype)) for step in kernel.steps)
    lanes = target.simd.lanes(bits)
    while lanes > kernel.extents[-1]:
        lanes //= 2
    writer = Writer(kernel)
    write = _Rows if kernel.along else _Columns
    write(writer, kernel, lanes, vectors, items).write()
    return writer.finish()


@dataclass
class _Block:
    """Rows, or vectors of columns, that are computed together.

    ``indices`` has for each of them the index along every group (0 along the reduced ones), ``held`` where
    results that do not change along the reduced axes are kept, ``kept`` where those that do are.
    """

    indices: list[list[Any]]
    held: dict[Any, Any] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)


class _Sweeps:
    """What rows and columns share: values, and what is computed once before a sweep."""

    def __init__(self, writer: Writer, kernel: RowKernel, lanes: int, vectors: int, items: int) -> None:
        self.writer, self.kernel, self.lanes = writer, kernel, lanes
        self.vectors, self.items = vectors, items
        self.inner = [number for number, reduced in enumerate(kernel.reduced) if reduced]
        self.outer = [number for number, reduced in enumerate(kernel.reduced) if not reduced]
        self.sizes = [kernel.extents[number] for number in self.inner]
        reads = [buffer for step in kernel.steps for buffer in step.reads()]
        self.wanted = [s.buffer for s in kernel.steps if any(s.buffer.same_as(b) for b in reads)]
        self.in_place: tuple[Any, Step] | None = None

    def kind(self, operations: int) -> str:
        """How the outermost loop runs."""
        return "parallel" if operations // self.lanes >= PARALLEL_OPERATIONS else "serial"

    @property
    def operations(self) -> int:
        """Executions of the statements of all steps."""
        return math.prod(self.kernel.extents) * sum(step.sweeps for step in self.kernel.steps)

    def is_wanted(self, buffer: Any) -> bool:
        """Whether a later step reads ``buffer``."""
        return any(buffer.same_as(other) for other in self.wanted)

    def value(
        self, expression: Any, block: _Block, item: int, within: Sequence[Any], lane: Any, now: dict[Any, Any]
    ) -> Any:
        """``expression`` for one element: ``within`` are the indices along the reduced groups."""
        indices = list(block.indices[item])
        for number, index in zip(self.inner, within, strict=True):
            indices[number] = index
        if lane is not None:
            indices[-1] = indices[-1] + lane

        def read(load: Any) -> Any:
            if load.source in now:
                return self.writer.load(now[load.source], lane)
            if load.source in block.held:
                return self.load_held(block.held[load.source], item, lane)
            if load.source in block.kept:
                return self.writer.load(block.kept[load.source], item, self.flat(within, lane))
            if self.in_place is not None and load.source.same_as(self.in_place[0]):
                access = self.in_place[1].access
            else:
                access = self.kernel.access(load)
            return self.writer.load(self.writer.flat(access.buffer), _place(access, indices))

        return structural_map(expression, (ir.TensorLoad, read), order="post")

    def put(self, step: Step, block: _Block, item: int, within: Sequence[Any], lane: Any, value: Any) -> None:
        """Write an element of an output."""
        indices = list(block.indices[item])
        for number, index in zip(self.inner, within, strict=True):
            indices[number] = index
        if lane is not None:
            indices[-1] = indices[-1] + lane
        self.writer.store(self.writer.flat(step.buffer), value, _place(step.access, indices))

    def hoisted(self, sweep: Sweep, block: _Block) -> list[Step]:
        """The steps of ``sweep`` with whatever is the same all along computed here, once."""
        steps = []
        for step in sweep.steps:
            value = self._hoist(step.value, block)
            steps.append(
                Step(step.buffer, value, step.combine, step.start, step.full, step.output, step.access)
            )
        return steps

    def _hoist(self, value: Any, block: _Block) -> Any:
        loads = loads_of(value)
        if not loads or isinstance(value, ir.TensorLoad):
            return value
        if not any(self.varies(load, block) for load in loads):
            dtype = str(value.ty.dtype)
            stand_in = tirx.decl_buffer([1], dtype, "same")
            held = self.hold("same", dtype)
            for item in range(len(block.indices)):
                with self.each_lane() as lane:
                    self.store_held(held, item, lane, self.value(value, block, item, self.origin(), lane, {}))
            block.held[stand_in] = held
            return tirx.BufferLoad(stand_in, [tirx.IntImm("int64", 0)])
        if isinstance(value, tirx.Div) and self.is_sum(value.b):
            one = tirx.const(1, str(value.ty.dtype))
            return self._hoist(tirx.Mul(value.a, tirx.Div(one, value.b)), block)
        if isinstance(value, BINARY):
            left, right = self._hoist(value.a, block), self._hoist(value.b, block)
            return type(value)(left, right)
        return value

    def is_sum(self, value: Any) -> bool:
        """Whether ``value`` is a sum of positive terms of which one is 1: its reciprocal cannot overflow."""
        if not isinstance(value, ir.TensorLoad):
            return False
        return any(value.source.same_as(buffer) for buffer in self.kernel.at_least_one)

    def varies(self, load: Any, block: _Block) -> bool:
        """Whether what ``load`` reads changes along the reduced axes."""
        if load.source in block.held:
            return False
        if any(step.full and step.buffer.same_as(load.source) for step in self.kernel.steps):
            return True
        strides = self.kernel.access(load).strides
        return any(strides[number] for number in self.inner)

    def origin(self) -> list[Any]:
        """The first position along the reduced groups."""
        return [tirx.IntImm("int64", 0)] * len(self.inner)

    def starts(self, step: Step) -> Any:
        """What a reduction starts from."""
        dtype = str(step.buffer.ty.dtype)
        if step.combine in (tirx.Max, tirx.Min) and np.dtype(dtype).kind == "f":
            return tirx.FloatImm(dtype, float("-inf") if step.combine is tirx.Max else float("inf"))
        return step.start

    # What differs between rows and columns.
    def write(self) -> None:
        raise NotImplementedError

    def hold(self, name: str, dtype: str) -> Any:
        raise NotImplementedError

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        raise NotImplementedError

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        raise NotImplementedError

    def each_lane(self) -> Any:
        raise NotImplementedError

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        raise NotImplementedError

    def sweep(self, sweep: Sweep, block: _Block) -> None:
        raise NotImplementedError

    def all_sweeps(self, block: _Block) -> None:
        """All steps for one block."""
        for sweep in self.kernel.sweeps():
            self.sweep(sweep, block)
            for step in sweep.after:
                held = self.hold(str(step.buffer.name), str(step.buffer.ty.dtype))
                for item in range(len(block.indices)):
                    with self.each_lane() as lane:
                        value = self.value(step.value, block, item, self.origin(), lane, {})
                        self.store_held(held, item, lane, value)
                        if step.output:
                            result = self.load_held(held, item, lane)
                            self.put(step, block, item, self.origin(), lane, result)
                block.held[step.buffer] = held


class _Rows(_Sweeps):
    """The innermost axis is reduced: vectors lie along a row."""

    def write(self) -> None:
        self.in_place = self._in_place()
        extents = [self.kernel.extents[number] for number in self.outer]
        rows = math.prod(extents)
        items = min(self.items, rows)
        kind = self.kind(self.operations)
        done = rows // items * items
        with self.writer.loop(rows // items, "rows", kind) as number:
            self.all_sweeps(self.block([number * items + item for item in range(items)]))
        if done < rows:
            with self.writer.loop(rows - done, "row", kind) as number:
                self.all_sweeps(self.block([number + done]))

    def _in_place(self) -> tuple[Any, Step] | None:
        """A step whose elements are kept in the memory of the result, and the one step that reads them.

        That step must be the last and go over the row for nothing else: it overwrites what it has read.
        """
        kept = [s for s in self.kernel.steps if s.full and self.is_wanted(s.buffer)]
        last = self.kernel.steps[-1]
        if len(kept) != 1 or not (last.full and last.output) or len(self.kernel.sweeps()[-1].steps) != 1:
            return None
        (step,) = kept
        readers = [s for s in self.kernel.steps if any(b.same_as(step.buffer) for b in s.reads())]
        within = self.kernel.sweeps()[-2].steps if len(self.kernel.sweeps()) > 1 else ()
        early = [s for s in readers if s is not last and not any(s is other for other in within)]
        same = str(step.buffer.ty.dtype) == str(last.buffer.ty.dtype)
        if step.output or early or not same or not any(s is step for s in within):
            return None
        return step.buffer, last

    def block(self, rows: Sequence[Any]) -> _Block:
        extents = [self.kernel.extents[number] for number in self.outer]
        block = _Block([])
        for row in rows:
            indices = [tirx.IntImm("int64", 0)] * len(self.kernel.extents)
            for number, index in zip(self.outer, places_of(row, extents), strict=True):
                indices[number] = index
            block.indices.append(indices)
        for step in self.kernel.steps:
            if self.in_place is not None and step.buffer.same_as(self.in_place[0]):
                continue
            if step.full and self.is_wanted(step.buffer):
                shape = (len(rows), self.kernel.positions)
                block.kept[step.buffer] = self.writer.scratch("row", shape, str(step.buffer.ty.dtype))
        return block

    def hold(self, name: str, dtype: str) -> Any:
        return self.writer.local(name, (self.items,), dtype)

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        return self.writer.load(buffer, item)

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        self.writer.store(buffer, value, item)

    def each_lane(self) -> Any:
        return _Nothing()

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        return _flat(within, self.sizes) + lane

    def sweep(self, sweep: Sweep, block: _Block) -> None:
        if not sweep.steps:
            return
        steps = self.hoisted(sweep, block)
        whole, rest = divmod(self.sizes[-1], self.lanes)
        vectors = min(self.vectors, whole)
        shape = (len(block.indices), vectors, self.lanes)
        gathered = {}
        for step in steps:
            if step.combine is not None:
                buffer = self.writer.local("partial", shape, str(step.buffer.ty.dtype))
                gathered[step.buffer] = buffer
                for item in range(len(block.indices)):
                    for vector in range(vectors):
                        with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
                            self.writer.store(buffer, self.starts(step), item, vector, lane)
        with _loops(self.writer, self.sizes[:-1]) as outer:
            read = self.read_ahead(steps, block, outer) if rest else {}
            with self.writer.loop(whole // vectors, "step") as number:
                for vector in range(vectors):
                    place = (number * vectors + vector) * self.lanes
                    self.vector(steps, block, [*outer, place], vector, gathered)
            for vector in range(whole // vectors * vectors, whole):
                self.vector(steps, block, [*outer, _int(vector * self.lanes)], vector % vectors, gathered)
            if rest:
                place = _int(self.sizes[-1] - self.lanes)
                self.vector(
                    steps, block, [*outer, place], whole % vectors, gathered, self.lanes - rest, read
                )
        for step in steps:
            if step.combine is not None:
                self.close(step, block, gathered[step.buffer], vectors)

    def vector(
        self,
        steps: Sequence[Step],
        block: _Block,
        within: Sequence[Any],
        vector: int,
        gathered: dict[Any, Any],
        again: int = 0,
        read: dict[int, dict[Any, Any]] | None = None,
    ) -> None:
        """All steps for a vector of each row; the first ``again`` lanes were gathered before.

        ``read`` has for each row what was read of it ahead.
        """
        writer = self.writer
        for item in range(len(block.indices)):
            now: dict[Any, Any] = dict((read or {}).get(item, {}))
            late: list[tuple[Step, Any]] = []
            with writer.loop(self.lanes, "lane", "vectorized") as lane:
                for step in steps:
                    value = self.value(step.value, block, item, within, lane, now)
                    if step.combine is None:
                        placed = self.in_place is not None and step.buffer.same_as(self.in_place[0])
                        if step.buffer in block.kept or placed:
                            now[step.buffer] = writer.local("now", (self.lanes,), str(step.buffer.ty.dtype))
                            writer.store(now[step.buffer], value, lane)
                            value = writer.load(now[step.buffer], lane)
                        if step.buffer in block.kept:
                            writer.store(block.kept[step.buffer], value, item, self.flat(within, lane))
                        if placed:
                            self.put(self.in_place[1], block, item, within, lane, value)
                        elif step.output:
                            self.put(step, block, item, within, lane, value)
                    elif again and step.combine in (tirx.Add, tirx.Mul):
                        new = writer.local("last", (self.lanes,), str(step.buffer.ty.dtype))
                        writer.store(new, value, lane)
                        late.append((step, new))
                    else:
                        partial = gathered[step.buffer]
                        value = step.combine(writer.load(partial, item, vector, lane), value)
                        writer.store(partial, value, item, vector, lane)
            for step, new in late:
                self.gather_rest(step, new, gathered[step.buffer], item, vector, again)

    def read_ahead(
        self, steps: Sequence[Step], block: _Block, outer: Sequence[Any]
    ) -> dict[int, dict[Any, Any]]:
        """The last vector of each row that is overwritten in place: it overlaps one that is written first."""
        if self.in_place is None or not any(step.buffer.same_as(self.in_place[1].buffer) for step in steps):
            return {}
        kept, last = self.in_place
        read: dict[int, dict[Any, Any]] = {}
        for item in range(len(block.indices)):
            ahead = self.writer.local("ahead", (self.lanes,), str(kept.ty.dtype))
            indices = list(block.indices[item])
            for number, index in zip(self.inner, [*outer, _int(self.sizes[-1] - self.lanes)], strict=True):
                indices[number] = index
            with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
                at = _place(last.access, [*indices[:-1], indices[-1] + lane])
                self.writer.store(ahead, self.writer.load(self.writer.flat(last.buffer), at), lane)
            read[item] = {kept: ahead}
        return read

    def gather_rest(self, step: Step, new: Any, partial: Any, item: int, vector: int, again: int) -> None:
        """Gather ``new`` without its first ``again`` lanes."""
        writer, lanes = self.writer, self.lanes
        everything = tirx.Ramp(_int(0), _int(1), lanes) if lanes > 1 else _int(0)
        nothing = tirx.const(0 if step.combine is tirx.Add else 1, str(step.buffer.ty.dtype))
        chosen = [tirx.IntImm("int32", lane if lane >= again else lanes) for lane in range(lanes)]
        value = tirx.Shuffle([writer.load(new, everything), tirx.Broadcast(nothing, lanes)], chosen)
        before = writer.load(partial, item, vector, everything)
        writer.store(partial, step.combine(before, value), item, vector, everything)

    def close(self, step: Step, block: _Block, partial: Any, vectors: int) -> None:
        """One number for each row from the partial results."""
        writer, dtype = self.writer, str(step.buffer.ty.dtype)
        held = self.hold(str(step.buffer.name), dtype)
        for item in range(len(block.indices)):
            whole = tirx.Ramp(_int(0), _int(1), self.lanes) if self.lanes > 1 else _int(0)
            value = writer.load(partial, item, 0, whole)
            for vector in range(1, vectors):
                value = step.combine(value, writer.load(partial, item, vector, whole))
            lanes = self.lanes
            while lanes > 1:
                halves = writer.local("halves", (lanes,), dtype)
                writer.store(halves, value, tirx.Ramp(_int(0), _int(1), lanes))
                value, lanes = writer.load(halves, tirx.Ramp(_int(0), _int(1), lanes)), lanes // 2
                sides = [
                    tirx.Shuffle([value], [tirx.IntImm("int32", lane + side) for lane in range(lanes)])
                    for side in (0, lanes)
                ]
                value = step.combine(*sides)
            self.store_held(held, item, None, value)
            if step.output:
                self.put(step, block, item, self.origin(), None, self.load_held(held, item, None))
        block.held[step.buffer] = held


class _Columns(_Sweeps):
    """The innermost axis stays: vectors lie across columns, and the reduced axes are walked down."""

    def write(self) -> None:
        extents = [self.kernel.extents[number] for number in self.outer]
        *others, width = extents
        whole, rest = divmod(width, self.lanes)
        starts = [_int(vector * self.lanes) for vector in range(whole)]
        if rest:
            starts.append(_int(width - self.lanes))
        items = min(self.items, len(starts))
        blocks = whole // items
        kind = self.kind(self.operations)
        if blocks:
            with self.writer.loop(math.prod(others) * blocks, "block", kind) as number:
                first = number % blocks * (items * self.lanes) if blocks > 1 else _int(0)
                columns = [first + item * self.lanes for item in range(items)]
                self.all_sweeps(self.block(number // blocks, columns))
        left = starts[blocks * items :]
        if left:
            with self.writer.loop(math.prod(others), "rest", kind) as number:
                self.all_sweeps(self.block(number, left))

    def block(self, number: Any, columns: Sequence[Any]) -> _Block:
        extents = [self.kernel.extents[group] for group in self.outer[:-1]]
        block = _Block([])
        for column in columns:
            indices = [_int(0)] * len(self.kernel.extents)
            for group, index in zip(self.outer[:-1], places_of(number, extents), strict=True):
                indices[group] = index
            indices[-1] = column
            block.indices.append(indices)
        for step in self.kernel.steps:
            if step.full and self.is_wanted(step.buffer):
                shape = (len(columns), self.kernel.positions * self.lanes)
                block.kept[step.buffer] = self.writer.scratch("column", shape, str(step.buffer.ty.dtype))
        return block

    def hold(self, name: str, dtype: str) -> Any:
        return self.writer.local(name, (self.items + 1, self.lanes), dtype)

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        return self.writer.load(buffer, item, lane)

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        self.writer.store(buffer, value, item, lane)

    def each_lane(self) -> Any:
        return self.writer.loop(self.lanes, "lane", "vectorized")

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        return _flat(within, self.sizes) * self.lanes + lane

    def sweep(self, sweep: Sweep, block: _Block) -> None:
        if not sweep.steps:
            return
        steps = self.hoisted(sweep, block)
        writer, items, size = self.writer, len(block.indices), self.sizes[-1]
        reduces = any(step.combine is not None for step in steps)
        vectors = min(max(1, ACCUMULATORS // items if reduces else 1), self.vectors, size)
        gathered = {}
        for step in steps:
            if step.combine is not None:
                buffer = writer.local("partial", (items, vectors, self.lanes), str(step.buffer.ty.dtype))
                gathered[step.buffer] = buffer
                for item in range(items):
                    for vector in range(vectors):
                        with self.each_lane() as lane:
                            writer.store(buffer, self.starts(step), item, vector, lane)
        with _loops(writer, self.sizes[:-1]) as outer:
            with writer.loop(size // vectors, "step") as number:
                for vector in range(vectors):
                    self.vectors_of(steps, block, [*outer, number * vectors + vector], vector, gathered)
            for position in range(size // vectors * vectors, size):
                self.vectors_of(steps, block, [*outer, _int(position)], position % vectors, gathered)
        for step in steps:
            if step.combine is None:
                continue
            held = self.hold(str(step.buffer.name), str(step.buffer.ty.dtype))
            for item in range(items):
                with self.each_lane() as lane:
                    value = writer.load(gathered[step.buffer], item, 0, lane)
                    for vector in range(1, vectors):
                        value = step.combine(value, writer.load(gathered[step.buffer], item, vector, lane))
                    self.store_held(held, item, lane, value)
                    if step.output:
                        self.put(
                            step, block, item, self.origin(), lane, self.load_held(held, item, lane)
                        )
            block.held[step.buffer] = held

    def vectors_of(
        self,
        steps: Sequence[Step],
        block: _Block,
        within: Sequence[Any],
        vector: int,
        gathered: dict[Any, Any],
    ) -> None:
        """All steps at one position along the reduced axes."""
        writer = self.writer
        for item in range(len(block.indices)):
            now: dict[Any, Any] = {}
            with self.each_lane() as lane:
                for step in steps:
                    value = self.value(step.value, block, item, within, lane, now)
                    if step.combine is not None:
                        partial = gathered[step.buffer]
                        value = step.combine(writer.load(partial, item, vector, lane), value)
                        writer.store(partial, value, item, vector, lane)
                        continue
                    if step.buffer in block.kept:
                        now[step.buffer] = writer.local("now", (self.lanes,), str(step.buffer.ty.dtype))
                        writer.store(now[step.buffer], value, lane)
                        value = writer.load(now[step.buffer], lane)
                        writer.store(block.kept[step.buffer], value, item, self.flat(within, lane))
                    if step.output:
                        self.put(step, block, item, within, lane, value)


class _Nothing:
    """Stands in for a loop over lanes where there is one element."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class _loops:
    """Nested loops; gives their variables."""

    def __init__(self, writer: Writer, extents: Sequence[int]) -> None:
        self.loops = [writer.loop(extent, "outer") for extent in extents]

    def __enter__(self) -> list[Any]:
        return [loop.__enter__() for loop in self.loops]

    def __exit__(self, *error: Any) -> None:
        for loop in reversed(self.loops):
            loop.__exit__(*error)


def _place(access: Any, indices: Sequence[Any]) -> Any:
    place = _int(access.offset)
    for index, stride in zip(indices, access.strides, strict=True):
        if stride:
            place = place + index * stride
    return place


def _flat(within: Sequence[Any], sizes: Sequence[int]) -> Any:
    place = _int(0)
    for index, size in zip(within, sizes, strict=True):
        place = place * size + index
    return place


def _int(value: int) -> Any:
    return tirx.IntImm("int64", value)
