"""Sweeps of a ``RowKernel`` whose innermost axis stays: vectors lie across columns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from deploycc.scheduling.written.rows import Step, Sweep, places_of
from deploycc.scheduling.written.sweeping import Block, Loops, Sweeps, flat_in, number_of

ACCUMULATORS = 8
"""Partial results of a reduction that are gathered side by side: an addition's latency times two a cycle."""


class DownColumns(Sweeps):
    """The innermost axis stays: vectors lie across columns, and the reduced axes are walked down."""

    def write(self) -> None:
        """All of the kernel."""
        extents = [self.kernel.extents[number] for number in self.outer]
        *others, width = extents
        whole, rest = divmod(width, self.lanes)
        starts = [number_of(vector * self.lanes) for vector in range(whole)]
        if rest:
            starts.append(number_of(width - self.lanes))
        items = min(self.items, len(starts))
        blocks = whole // items
        kind = self.kind(self.operations)
        if blocks:
            with self.writer.loop(math.prod(others) * blocks, "block", kind) as number:
                first = number % blocks * (items * self.lanes) if blocks > 1 else number_of(0)
                columns = [first + item * self.lanes for item in range(items)]
                self.all_sweeps(self.block(number // blocks, columns))
        left = starts[blocks * items :]
        if left:
            with self.writer.loop(math.prod(others), "rest", kind) as number:
                self.all_sweeps(self.block(number, left))

    def block(self, number: Any, columns: Sequence[Any]) -> Block:
        """The indices and the memory of what is computed together."""
        extents = [self.kernel.extents[group] for group in self.outer[:-1]]
        block = Block([])
        for column in columns:
            indices = [number_of(0)] * len(self.kernel.extents)
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
        """A place for a result of each item that stays the same along the reduced axes."""
        return self.writer.local(name, (self.items + 1, self.lanes), dtype)

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        """Such a result of one item."""
        return self.writer.load(buffer, item, lane)

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        """Keep such a result of one item."""
        self.writer.store(buffer, value, item, lane)

    def each_lane(self) -> contextlib.AbstractContextManager[Any]:
        """The loop over the lanes of such a result."""
        return self.writer.loop(self.lanes, "lane", "vectorized")

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        """Where a result that changes along the reduced axes is kept."""
        return flat_in(within, self.sizes) * self.lanes + lane

    def sweep(self, sweep: Sweep, block: Block) -> None:
        """One walk along the reduced axes."""
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
        with Loops(writer, self.sizes[:-1]) as outer:
            with writer.loop(size // vectors, "step") as number:
                for vector in range(vectors):
                    self.vectors_of(steps, block, [*outer, number * vectors + vector], vector, gathered)
            for position in range(size // vectors * vectors, size):
                self.vectors_of(steps, block, [*outer, number_of(position)], position % vectors, gathered)
        for step in steps:
            if step.combine is None:
                continue
            held = self.hold(str(step.buffer.name), str(step.buffer.ty.dtype))
            for item in range(items):
                with self.each_lane() as lane:
                    value = writer.load(gathered[step.buffer], item, 0, lane)
                    for vector in range(1, vectors):
                        value = step.gather(value, writer.load(gathered[step.buffer], item, vector, lane))
                    self.store_held(held, item, lane, value)
                    if step.output:
                        self.put(step, block, item, self.origin(), lane, self.load_held(held, item, lane))
            block.held[step.buffer] = held

    def vectors_of(
        self,
        steps: Sequence[Step],
        block: Block,
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
                        value = step.gather(writer.load(partial, item, vector, lane), value)
                        writer.store(partial, value, item, vector, lane)
                        continue
                    if step.buffer in block.kept:
                        now[step.buffer] = writer.local("now", (self.lanes,), str(step.buffer.ty.dtype))
                        writer.store(now[step.buffer], value, lane)
                        value = writer.load(now[step.buffer], lane)
                        writer.store(block.kept[step.buffer], value, item, self.flat(within, lane))
                    if step.output:
                        self.put(step, block, item, within, lane, value)
