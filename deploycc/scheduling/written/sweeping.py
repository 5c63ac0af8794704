"""What sweeps along rows and down columns share: values, and what is computed once before a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploycc.scheduling.intrinsics import with_own_names
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.scheduling.written.rows import RowKernel, Step, Sweep
from deploycc.scheduling.written.strides import loads_of
from deploycc.scheduling.written.writing import Writer
from deploycc.tvm_api import ir, structural_map, tirx

BINARY = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)


@dataclass
class Block:
    """Rows, or vectors of columns, that are computed together.

    ``indices`` has for each of them the index along every group (0 along the reduced ones), ``held`` where
    results that do not change along the reduced axes are kept, ``kept`` where those that do are.
    """

    indices: list[list[Any]]
    held: dict[Any, Any] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)


class Sweeps:
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
        self, expression: Any, block: Block, item: int, within: Sequence[Any], lane: Any, now: dict[Any, Any]
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
            return self.writer.load(self.writer.flat(access.buffer), place_in(access, indices))

        return with_own_names(structural_map(expression, (ir.TensorLoad, read), order="post"))

    def put(self, step: Step, block: Block, item: int, within: Sequence[Any], lane: Any, value: Any) -> None:
        """Write an element of an output."""
        indices = list(block.indices[item])
        for number, index in zip(self.inner, within, strict=True):
            indices[number] = index
        if lane is not None:
            indices[-1] = indices[-1] + lane
        self.writer.store(self.writer.flat(step.buffer), value, place_in(step.access, indices))

    def hoisted(self, sweep: Sweep, block: Block) -> list[Step]:
        """The steps of ``sweep`` with whatever is the same all along computed here, once."""
        steps = []
        for step in sweep.steps:
            value = self._hoist(step.value, block)
            steps.append(
                Step(step.buffer, value, step.combine, step.start, step.full, step.output, step.access)
            )
        return steps

    def _hoist(self, value: Any, block: Block) -> Any:
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

    def varies(self, load: Any, block: Block) -> bool:
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
        """All of the kernel."""
        raise NotImplementedError

    def hold(self, name: str, dtype: str) -> Any:
        """A place for a result of each item that stays the same along the reduced axes."""
        raise NotImplementedError

    def load_held(self, buffer: Any, item: int, lane: Any) -> Any:
        """Such a result of one item."""
        raise NotImplementedError

    def store_held(self, buffer: Any, item: int, lane: Any, value: Any) -> None:
        """Keep such a result of one item."""
        raise NotImplementedError

    def each_lane(self) -> AbstractContextManager[Any]:
        """The loop over the lanes of such a result."""
        raise NotImplementedError

    def flat(self, within: Sequence[Any], lane: Any) -> Any:
        """Where a result that changes along the reduced axes is kept."""
        raise NotImplementedError

    def sweep(self, sweep: Sweep, block: Block) -> None:
        """One walk along the reduced axes."""
        raise NotImplementedError

    def all_sweeps(self, block: Block) -> None:
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


class Loops:
    """Nested loops; gives their variables."""

    def __init__(self, writer: Writer, extents: Sequence[int]) -> None:
        self.loops = [writer.loop(extent, "outer") for extent in extents]

    def __enter__(self) -> list[Any]:
        return [loop.__enter__() for loop in self.loops]

    def __exit__(self, *error: Any) -> None:
        for loop in reversed(self.loops):
            loop.__exit__(*error)


def place_in(access: Any, indices: Sequence[Any]) -> Any:
    """Where an operand's or result's element lies; ``indices`` are those along the groups."""
    place = number_of(access.offset)
    for index, stride in zip(indices, access.strides, strict=True):
        if stride:
            place = place + index * stride
    return place


def flat_in(within: Sequence[Any], sizes: Sequence[int]) -> Any:
    """The number of a position along the reduced groups."""
    place = number_of(0)
    for index, size in zip(within, sizes, strict=True):
        place = place * size + index
    return place


def number_of(value: int) -> Any:
    """``value`` as an index."""
    return tirx.IntImm("int64", value)
