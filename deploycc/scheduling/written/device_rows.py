"""Row kernels on a GPU: softmax, normalisations and reductions in one launch, or few where rows are long.

    block (rows), thread (row, lane):        # before: a launch for each step over the whole tensor
      for steps of the row: x' = x[..]; acc = gather(acc, x')      # x' stays in registers
      acc = all lanes' acc                                         # shuffles, then shared memory
      for steps of the row: y[..] = f(x', acc)

Over axes that do not have the innermost one threads lie across columns, and lanes are slices of a column.
With ``slices`` above 1 a row is cut among as many blocks: each walk along the rows is then a launch that
leaves a partial result a slice, and the next one gathers these first.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, cast

from deploycc.scheduling.intrinsics import with_own_names
from deploycc.scheduling.primitives import bits_of
from deploycc.scheduling.written.device_nests import among
from deploycc.scheduling.written.device_threads import (
    LAUNCH_SECONDS,
    WARP,
    TypedWriter,
    combine_down_block,
    combine_in_block,
    lower_power,
)
from deploycc.scheduling.written.rows import RowKernel, Step, Sweep, places_of
from deploycc.scheduling.written.strides import Access, loads_of
from deploycc.tvm_api import ir, structural_map, tirx
from deploycc.types import Gpu

HELD = 32
"""Elements of a row that a thread keeps in registers."""
_VECTOR = 4


def write_device_rows(kernel: RowKernel, gpu: Gpu, lanes: int, slices: int) -> Any:
    """The kernel as written code: ``lanes`` threads a row, each row cut into ``slices``."""
    writer = TypedWriter(cast(Any, kernel))  # which asks it for its function, no more
    _Rows(writer, kernel, gpu, lanes, slices).write()
    return writer.finish()


class _Rows:
    def __init__(self, writer: TypedWriter, kernel: RowKernel, gpu: Gpu, lanes: int, slices: int) -> None:
        self.writer, self.kernel, self.gpu = writer, kernel, gpu
        self.inner = [number for number, reduced in enumerate(kernel.reduced) if reduced]
        self.outer = [number for number, reduced in enumerate(kernel.reduced) if not reduced]
        self.sweeps = kernel.sweeps()
        self.vector = _VECTOR if self.in_vectors() else 1
        self.positions = kernel.positions // self.vector
        self.along = kernel.along or kernel.rows == 1
        slices = min(slices, self.positions)
        self.share = -(-self.positions // slices)
        self.slices = -(-self.positions // self.share)
        most = 1024 if self.along else WARP
        self.lanes = min(lanes, most, max(1, lower_power(2 * self.share - 1)))
        if self.along:
            threads = max(self.lanes, 128 if kernel.rows * self.lanes >= 128 * gpu.processors else 64)
            self.units = min(threads // self.lanes, kernel.rows)
        else:
            columns = min(WARP, 1 << (kernel.extents[-1] - 1).bit_length())
            self.units = max(columns, 64 // self.lanes) if kernel.rows >= 64 else columns
        self.blocks = -(-kernel.rows // self.units)
        self.each = -(-self.share // self.lanes)
        self.unrolled = self.each * self.vector <= HELD
        self.partials: dict[Any, Any] = {}

    def in_vectors(self) -> bool:
        """Whether rows are contiguous and every operand of it lies as vectors."""
        kernel = self.kernel
        if not kernel.along or kernel.extents[-1] % _VECTOR:
            return False
        accesses = [step.access for step in kernel.steps if step.output and step.full]
        intermediate = [step.buffer for step in kernel.steps]
        for step in kernel.steps:
            for load in loads_of(step.value):
                if not any(load.source.same_as(buffer) for buffer in intermediate):
                    accesses.append(kernel.access(load))
        return all(
            bits_of(str(access.buffer.ty.dtype)) <= 32
            and str(access.buffer.ty.dtype) != "bool"
            and (
                access.strides[-1] == 0
                or (access.offset % _VECTOR == 0 and all(s % _VECTOR == 0 for s in access.strides[:-1]))
            )
            for access in accesses
        )

    def write(self) -> None:
        """All launches."""
        last = self.sweeps[-1]
        if self.slices == 1:
            self.launch(range(len(self.sweeps)), None)
            return
        for number in range(len(self.sweeps)):
            self.launch([], number)
        if any(step.combine is not None for step in last.steps) or last.after:
            self.launch([], len(self.sweeps))

    def launch(self, whole: Sequence[int], sliced: int | None) -> None:
        """One launch: all sweeps one after the other, or one of them for a slice of each row.

        With ``sliced`` the number of sweeps, all that is left is what follows from the last.
        """
        writer, kernel = self.writer, self.kernel
        final = sliced == len(self.sweeps)
        lanes, units = self.lanes, self.units
        if final:
            lanes = min(lanes, WARP)
        slices = 1 if final else self.slices
        grid = (self.blocks, slices) if slices > 1 else (self.blocks,)
        with writer.launch(grid, (units * lanes,)) as (blocks, (thread,)):
            if self.along:
                unit, lane = (thread // lanes, thread % lanes) if lanes > 1 else (thread, _number(0))
            else:
                unit, lane = (thread % units, thread // units) if lanes > 1 else (thread, _number(0))
            row = blocks[0] * units + unit
            self.inside: Any = True
            if self.blocks * units != kernel.rows:
                self.inside = row < kernel.rows
                row = tirx.min(row, _number(kernel.rows - 1))
            self.unit, self.lane, self.now_lanes = unit, lane, lanes
            places = places_of(row, [kernel.extents[number] for number in self.outer])
            self.row_number = row
            self.row = dict(zip(self.outer, places, strict=True))
            self.slice = blocks[1] if slices > 1 else _number(0)
            self.held: dict[Any, Any] = {}
            self.kept: dict[Any, Any] = {}
            for number in whole:
                self.sweep(self.sweeps[number], number)
                self.follow(self.sweeps[number], True)
            if sliced is None:
                return
            for number in range(min(sliced, len(self.sweeps))):
                self.gather_slices(self.sweeps[number])
                self.follow(self.sweeps[number], number == sliced - 1)
            if not final:
                self.sweep(self.sweeps[sliced], sliced)

    def gather_slices(self, sweep: Sweep) -> None:
        """The results of a sweep that an earlier launch left in slices."""
        writer = self.writer
        for step in sweep.steps:
            if step.combine is None:
                continue
            partial = self.partials[step.buffer]
            total = writer.local("total", (1,), str(step.buffer.ty.dtype))
            writer.store(total, step.start, 0)
            steps = -(-self.slices // self.now_lanes)
            with writer.loop(steps, "slice") as number:
                place = number * self.now_lanes + self.lane
                ragged = self.slices % self.now_lanes != 0
                with writer.when(place < self.slices) if ragged else contextlib.nullcontext():
                    value = step.gather(writer.load(total, 0), writer.load(partial, self.row_number, place))
                    writer.store(total, value, 0)
            self.combine(step, total)
            self.held[step.buffer] = total

    def combine(self, step: Step, total: Any) -> None:
        """All lanes of a row get the result of all."""

        def gather(own: Sequence[Any], other: Sequence[Any]) -> list[Any]:
            return [step.gather(own[0], other[0])]

        if self.along:
            combine_in_block(self.writer, [total], self.now_lanes, self.lane, self.unit, self.units, gather)
        else:
            combine_down_block(self.writer, [total], self.now_lanes, self.lane, self.unit, self.units, gather)

    def follow(self, sweep: Sweep, writes: bool) -> None:
        """What is computed once a row from a sweep's results, and written if it ``writes``."""
        writer = self.writer
        if writes:
            for step in sweep.steps:
                if step.combine is not None and step.output:
                    self.put_row(step, writer.load(self.held[step.buffer], 0))
        for step in sweep.after:
            held = writer.local(str(step.buffer.name), (1,), str(step.buffer.ty.dtype))
            writer.store(held, self.value(step.value, self.row, {}), 0)
            self.held[step.buffer] = held
            if step.output and writes:
                self.put_row(step, writer.load(held, 0))

    def put_row(self, step: Step, value: Any) -> None:
        """Write an element of an output that has one a row."""
        conditions = [self.lane == 0] if self.now_lanes > 1 else []
        if self.slices > 1:
            conditions.append(self.slice == 0)
        if self.inside is not True:
            conditions.append(self.inside)
        with self.writer.when(tirx.all(*conditions)) if conditions else contextlib.nullcontext():
            place = self.place(step.access, self.row)
            self.writer.store(self.writer.flat(step.buffer), value, place)

    def sweep(self, sweep: Sweep, number: int) -> None:
        """One walk along the rows."""
        if not sweep.steps:
            return
        writer, width = self.writer, self.vector
        acc = {}
        for step in sweep.steps:
            if step.combine is not None:
                acc[step.buffer] = writer.local("acc", (width,), str(step.buffer.ty.dtype))
                for element in range(width):
                    writer.store(acc[step.buffer], step.start, element)
        shape = (self.each, width) if self.unrolled else (1, width)
        fresh: list[tuple[Any, Access, Any]] = []
        own = [step.buffer for step in sweep.steps]
        for step in sweep.steps:
            for load in loads_of(step.value):
                self.declare(load, shape, fresh, own)
        full = {}
        for step in sweep.steps:
            if step.full:
                full[step.buffer] = writer.local(str(step.buffer.name), shape, str(step.buffer.ty.dtype))
        with writer.loop(self.each, "step", "unrolled" if self.unrolled else "serial") as at:
            within = at * self.now_lanes + self.lane
            position = self.slice * self.share + within if self.slices > 1 else within
            conditions = []
            if self.share % self.now_lanes:
                conditions.append(within < self.share)
            if self.slices > 1 and self.positions % self.share:
                conditions.append(position < self.positions)
            with writer.when(tirx.all(*conditions)) if conditions else contextlib.nullcontext():
                self.step(sweep, position, at if self.unrolled else _number(0), acc, fresh, full)
        if self.unrolled:
            for key, local in full.items():
                self.kept[key] = local
            for key, _, local in fresh:
                self.kept[key] = local
        else:
            self.kept.clear()
        for step in sweep.steps:
            if step.combine is None:
                continue
            total = acc[step.buffer]
            for element in range(1, width):
                writer.store(total, step.gather(writer.load(total, 0), writer.load(total, element)), 0)
            self.combine(step, total)
            self.held[step.buffer] = total
            if self.slices > 1:
                self.leave(step, total)

    def leave(self, step: Step, total: Any) -> None:
        """What a slice of a row adds up to, for the next launch."""
        writer, dtype = self.writer, str(step.buffer.ty.dtype)
        partial = writer.scratch("slices", (self.kernel.rows, self.slices), dtype)
        self.partials[step.buffer] = partial
        conditions = [self.lane == 0] if self.now_lanes > 1 else []
        if self.inside is not True:
            conditions.append(self.inside)
        with writer.when(tirx.all(*conditions)) if conditions else contextlib.nullcontext():
            writer.store(partial, writer.load(total, 0), self.row_number, self.slice)

    def declare(
        self,
        load: Any,
        shape: tuple[int, int],
        fresh: list[tuple[Any, Access, Any]],
        own: Sequence[Any],
    ) -> None:
        """Registers for an operand, if this sweep (which computes ``own``) is the first to read it."""
        step = self.step_of(load.source)
        if step is not None:
            if step.full and step.buffer not in self.kept and not among(step.buffer, own):
                for inner in loads_of(step.value):  # it is computed anew
                    self.declare(inner, shape, fresh, own)
            return
        access = self.kernel.access(load)
        key = _key(access)
        if key in self.kept or any(key == other for other, _, _ in fresh):
            return
        if not any(access.strides[number] for number in self.inner):
            return
        dtype = str(load.source.ty.dtype)
        fresh.append((key, access, self.writer.local(str(load.source.name), shape, dtype)))

    def step(
        self,
        sweep: Sweep,
        position: Any,
        at: Any,
        acc: dict[Any, Any],
        fresh: Sequence[tuple[Any, Access, Any]],
        full: dict[Any, Any],
    ) -> None:
        """One vector of each row."""
        writer, width = self.writer, self.vector
        sizes = [self.kernel.extents[number] for number in self.inner]
        sizes[-1] //= width
        places = places_of(position, sizes)
        if width > 1:
            places[-1] = places[-1] * width
        indices = {**self.row, **dict(zip(self.inner, places, strict=True))}
        now = {**self.kept}
        for key, access, local in fresh:
            place, flat = self.place(access, indices), writer.flat(access.buffer)
            now[key] = local
            if width == 1 or access.strides[-1] == 0:
                for element in range(width):
                    writer.store(local, writer.load(flat, place), at, element)
            else:
                writer.store_vector(local, width, writer.vector(flat, width, place), at, _number(0))
        for step in sweep.steps:
            for element in range(width):
                value = self.value(step.value, indices, now, at, element)
                if step.combine is None:
                    writer.store(full[step.buffer], value, at, element)
                else:
                    before = writer.load(acc[step.buffer], element)
                    writer.store(acc[step.buffer], step.gather(before, value), element)
            if step.combine is None:
                now[step.buffer] = full[step.buffer]
                if step.output:
                    self.put(step, indices, full[step.buffer], at)

    def put(self, step: Step, indices: dict[int, Any], local: Any, at: Any) -> None:
        """Write a vector of an output."""
        writer, width = self.writer, self.vector
        with writer.when(self.inside) if self.inside is not True else contextlib.nullcontext():
            place, flat = self.place(step.access, indices), writer.flat(step.buffer)
            if width == 1:
                writer.store(flat, writer.load(local, at, 0), place)
            else:
                writer.store_vector(flat, width, writer.vector(local, width, at, _number(0)), place)

    def value(
        self, expression: Any, indices: dict[int, Any], now: dict[Any, Any], at: Any = 0, element: int = 0
    ) -> Any:
        """``expression`` of one element."""
        writer = self.writer

        def read(load: Any) -> Any:
            if load.source in self.held:
                return writer.load(self.held[load.source], 0)
            if load.source in now:
                return writer.load(now[load.source], at, element)
            step = self.step_of(load.source)
            if step is not None:  # not kept: computed anew
                return self.value(step.value, indices, now, at, element)
            access = self.kernel.access(load)
            key = _key(access)
            if key in now:
                return writer.load(now[key], at, element)
            place = self.place(access, indices) + element * access.strides[-1]
            return writer.load(writer.flat(access.buffer), place)

        return with_own_names(structural_map(expression, (ir.TensorLoad, read), order="post"))

    def step_of(self, buffer: Any) -> Step | None:
        """The step that computes ``buffer``."""
        return next((step for step in self.kernel.steps if step.buffer.same_as(buffer)), None)

    def place(self, access: Access, indices: dict[int, Any]) -> Any:
        """The element of ``access``."""
        place = _number(access.offset)
        for number, stride in enumerate(access.strides):
            if stride and number in indices:
                place = place + indices[number] * stride
        return place


def _key(access: Access) -> tuple[Any, ...]:
    """Two accesses of one key read the same elements."""
    return (access.buffer, access.strides, access.offset)


def _number(value: int) -> Any:
    return tirx.IntImm("int64", value)


def row_device_cycles(
    gpu: Gpu,
    rows: int,
    positions: int,
    sweeps: int,
    reduces_last: bool,
    lanes: int,
    slices: int,
    more: float = 0.0,
) -> float | None:
    """Cycles for ``rows`` of ``positions`` with ``lanes`` threads each, cut into ``slices``.

    A step of a thread (a vector of four) waits for memory some 600 cycles, of which four overlap; an
    exchange in a warp takes five times 30, through shared memory 100 more.  ``more`` is added where a
    schedule is less special than another.
    """
    share = -(-positions // slices)
    if lanes > 1 and lanes // 2 >= share:
        return None
    if slices > 1 and (share < 2048 or share < lanes * 4):
        return None
    launches = 1 if slices == 1 else sweeps + int(reduces_last)
    threads = float(rows) * lanes * slices
    waves = max(1, math.ceil(threads / (gpu.processors * gpu.threads_per_processor)))
    steps = -(-share // (4 * lanes))
    closing = 30.0 * math.log2(min(lanes, WARP)) + (100.0 + lanes / WARP * 10 if lanes > WARP else 0.0)
    held = steps * 4 <= HELD
    passes = (1.0 + 0.1 * (sweeps - 1)) if held and slices == 1 else float(sweeps)
    waiting = waves * (600.0 + 150.0 * steps * passes + sweeps * closing)
    moved = 4.0 * rows * positions * (1 if sweeps == 1 else passes + 1)
    memory = moved / (gpu.bytes_per_second / gpu.clock_hz)
    return (
        more
        + launches * LAUNCH_SECONDS * gpu.clock_hz
        + max(memory, waiting)
        + 0.05 * memory
        + 0.01 * waiting
    )
