"""Sweeps of a ``RowKernel`` whose innermost axis is reduced: vectors lie along a row."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from deploycc.scheduling.written.rows import Step, Sweep, places_of
from deploycc.scheduling.written.sweeping import Block, Loops, Sweeps, flat_in, number_of, place_in
from deploycc.tvm_api import tirx


class AlongRows(Sweeps):
    """The innermost axis is reduced: vectors lie along a row."""

    def write(self) -> None:
        """All of the kernel."""
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

    def block(self, rows: Sequence[Any]) -> Block:
        """The indices and the memory of what is computed together."""
        extents = [self.kernel.extents[number] for number in self.outer]
        block = Block([])
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
        """A place for a result of each item that stays the same along the reduced axes."""
        return self.writer.local(name, (self.items,), dtype)

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        """Such a result of one item."""
        return self.writer.load(buffer, item)

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        """Keep such a result of one item."""
        self.writer.store(buffer, value, item)

    def each_lane(self) -> contextlib.AbstractContextManager[Any]:
        """The loop over the lanes of such a result."""
        return contextlib.nullcontext()

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        """Where a result that changes along the reduced axes is kept."""
        return flat_in(within, self.sizes) + lane

    def sweep(self, sweep: Sweep, block: Block) -> None:
        """One walk along the reduced axes."""
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
        with Loops(self.writer, self.sizes[:-1]) as outer:
            read = self.read_ahead(steps, block, outer) if rest else {}
            with self.writer.loop(whole // vectors, "step") as number:
                for vector in range(vectors):
                    place = (number * vectors + vector) * self.lanes
                    self.vector(steps, block, [*outer, place], vector, gathered)
            for vector in range(whole // vectors * vectors, whole):
                self.vector(
                    steps, block, [*outer, number_of(vector * self.lanes)], vector % vectors, gathered
                )
            if rest:
                place = number_of(self.sizes[-1] - self.lanes)
                self.vector(steps, block, [*outer, place], whole % vectors, gathered, self.lanes - rest, read)
        for step in steps:
            if step.combine is not None:
                self.close(step, block, gathered[step.buffer], vectors)

    def vector(
        self,
        steps: Sequence[Step],
        block: Block,
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
                        if placed and self.in_place is not None:
                            self.put(self.in_place[1], block, item, within, lane, value)
                        elif step.output:
                            self.put(step, block, item, within, lane, value)
                    elif again and step.combine in (tirx.Add, tirx.Mul):
                        new = writer.local("last", (self.lanes,), str(step.buffer.ty.dtype))
                        writer.store(new, value, lane)
                        late.append((step, new))
                    else:
                        partial = gathered[step.buffer]
                        value = step.gather(writer.load(partial, item, vector, lane), value)
                        writer.store(partial, value, item, vector, lane)
            for step, new in late:
                self.gather_rest(step, new, gathered[step.buffer], item, vector, again)

    def read_ahead(
        self, steps: Sequence[Step], block: Block, outer: Sequence[Any]
    ) -> dict[int, dict[Any, Any]]:
        """The last vector of each row that is overwritten in place: it overlaps one that is written first."""
        if self.in_place is None or not any(step.buffer.same_as(self.in_place[1].buffer) for step in steps):
            return {}
        kept, last = self.in_place
        read: dict[int, dict[Any, Any]] = {}
        for item in range(len(block.indices)):
            ahead = self.writer.local("ahead", (self.lanes,), str(kept.ty.dtype))
            indices = list(block.indices[item])
            for number, index in zip(
                self.inner, [*outer, number_of(self.sizes[-1] - self.lanes)], strict=True
            ):
                indices[number] = index
            with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
                at = place_in(last.access, [*indices[:-1], indices[-1] + lane])
                self.writer.store(ahead, self.writer.load(self.writer.flat(last.buffer), at), lane)
            read[item] = {kept: ahead}
        return read

    def gather_rest(self, step: Step, new: Any, partial: Any, item: int, vector: int, again: int) -> None:
        """Gather ``new`` without its first ``again`` lanes."""
        writer, lanes = self.writer, self.lanes
        everything = tirx.Ramp(number_of(0), number_of(1), lanes) if lanes > 1 else number_of(0)
        nothing = tirx.const(0 if step.combine is tirx.Add else 1, str(step.buffer.ty.dtype))
        chosen = [tirx.IntImm("int32", lane if lane >= again else lanes) for lane in range(lanes)]
        value = tirx.Shuffle([writer.load(new, everything), tirx.Broadcast(nothing, lanes)], chosen)
        before = writer.load(partial, item, vector, everything)
        writer.store(partial, step.gather(before, value), item, vector, everything)

    def close(self, step: Step, block: Block, partial: Any, vectors: int) -> None:
        """One number for each row from the partial results."""
        writer, dtype = self.writer, str(step.buffer.ty.dtype)
        held = self.hold(str(step.buffer.name), dtype)
        for item in range(len(block.indices)):
            whole = tirx.Ramp(number_of(0), number_of(1), self.lanes) if self.lanes > 1 else number_of(0)
            value = writer.load(partial, item, 0, whole)
            for vector in range(1, vectors):
                value = step.gather(value, writer.load(partial, item, vector, whole))
            lanes = self.lanes
            while lanes > 1:
                halves = writer.local("halves", (lanes,), dtype)
                writer.store(halves, value, tirx.Ramp(number_of(0), number_of(1), lanes))
                value, lanes = writer.load(halves, tirx.Ramp(number_of(0), number_of(1), lanes)), lanes // 2
                sides = [
                    tirx.Shuffle([value], [tirx.IntImm("int32", lane + side) for lane in range(lanes)])
                    for side in (0, lanes)
                ]
                value = step.gather(*sides)
            self.store_held(held, item, None, value)
            if step.output:
                self.put(step, block, item, self.origin(), None, self.load_held(held, item, None))
        block.held[step.buffer] = held
