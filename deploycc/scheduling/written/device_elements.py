"""Kernels for a GPU with threads for elements of the result: whatever has no structure to make more of.

    thread (unit, lane):                     # lanes: threads that share an element's reduction
      acc = start
      for steps of the reduction: acc = gather(acc, x[..])
      acc = all lanes' acc                   # by shuffles, and through shared memory beyond a warp
      y[unit] = f(acc, z[..])

Where every operand allows it a thread computes four elements in a row, with loads and stores of 128 bits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from deploycc.scheduling.intrinsics import with_own_names
from deploycc.scheduling.written.device_nests import (
    Gathering,
    Nest,
    NestedKernel,
    Store,
    among,
    substituted,
    variables_in,
)
from deploycc.scheduling.written.device_threads import WARP, TypedWriter, block_threads, combine_in_block
from deploycc.scheduling.written.rows import places_of
from deploycc.scheduling.written.strides import Access, linear, loads_of, strides_of
from deploycc.tvm_api import ir, structural_map, tirx
from deploycc.types import Gpu

VECTOR = 4
"""Elements of a vector: 128 bits of float32, the most that one instruction loads."""

_VECTOR_TYPES = ("float32", "float16", "bfloat16")
_UNROLLED = 32
"""Steps of a reduction that are written out."""


def write_elements(kernel: NestedKernel, gpu: Gpu, lanes: int, vector: int) -> Any:
    """The kernel as written code: ``lanes`` threads for a reduction, ``vector`` elements a thread.

    A nest whose operands do not lie as vectors gets one element a thread, one that reduces nothing one lane.
    """
    writer = TypedWriter(cast(Any, kernel))  # which asks it for its function, no more
    for buffer in kernel.passed:
        writer.pass_on(buffer)
    for nest in kernel.nests:
        _Elements(writer, nest, gpu, lanes, vector).write()
    return writer.finish()


class _Elements:
    """One launch."""

    def __init__(self, writer: TypedWriter, nest: Nest, gpu: Gpu, lanes: int, vector: int) -> None:
        self.writer, self.nest, self.gpu = writer, nest, gpu
        self.reduced = [variable for g in nest.gatherings for variable, _ in g.inner]
        self.all = [*nest.variables, *self.reduced]
        positions = max((g.positions for g in nest.gatherings), default=1)
        while lanes > 1 and lanes // 2 >= positions:
            lanes //= 2
        self.lanes = lanes
        self.stored = [self.store_access(store) for store in nest.stores]
        self.loads = [
            load
            for value in (
                *(store.value for store in nest.stores),
                *(value for g in nest.gatherings for value in g.values),
            )
            for load in loads_of(value)
            if not self.is_gathered(load)
        ]
        self.groups = self.merged()
        self.extents = [math.prod(nest.extents[axis] for axis in group) for group in self.groups]
        self.vector = vector if lanes == 1 and self.vectors(vector) else 1

    def is_gathered(self, load: Any) -> bool:
        return any(g.is_own(load) is not None for g in self.nest.gatherings)

    def store_access(self, store: Store) -> Access:
        target = tirx.BufferLoad(store.buffer, list(store.indices))
        access = strides_of(target, self.all)
        if access is None:
            # Written at computed places: read as one that moves with every axis on its own.
            return Access(store.buffer, (0,) * len(self.all), -1)
        return access

    def bare(self) -> set[int]:
        """The axes that occur in more than fixed strides: conditions, computed places, values."""
        zero = tirx.IntImm("int64", 0)

        def hide(load: Any) -> Any:
            if self.is_gathered(load) or strides_of(load, self.all) is not None:
                return tirx.BufferLoad(load.source, [zero] * len(load.indices))
            return load

        values = [store.value for store in self.nest.stores]
        values += [value for g in self.nest.gatherings for value in g.values]
        values += [
            index
            for store, access in zip(self.nest.stores, self.stored, strict=True)
            if access.offset < 0
            for index in store.indices
        ]
        found = [
            variable
            for value in values
            for variable in variables_in(structural_map(value, (ir.TensorLoad, hide), order="post"))
        ]
        return {n for n, own in enumerate(self.nest.variables) if any(own.same_as(v) for v in found)}

    def merged(self) -> list[list[int]]:
        """The axes of the result, those together along which all operands lie as one."""
        accesses = [access for load in self.loads if (access := strides_of(load, self.all)) is not None]
        accesses += self.stored
        bare, groups = self.bare(), list[list[int]]()
        self.bare_axes = bare
        for axis, extent in enumerate(self.nest.extents):
            last = groups[-1][-1] if groups else -1
            alone = not groups or last in bare or axis in bare
            if not alone and all(a.strides[last] == extent * a.strides[axis] for a in accesses):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        return groups

    def vectors(self, vector: int) -> bool:
        """Whether ``vector`` elements in a row are read and written as vectors, or are the same."""
        if vector == 1 or not self.groups or self.extents[-1] % vector:
            return False
        last = self.groups[-1][-1]
        if last in self.bare_axes and not all(self.only_last_index(load, vector) for load in self.loads):
            return False
        buffers = [store.buffer for store in self.nest.stores]
        buffers += [load.source for load in self.loads]
        buffers += [buffer for g in self.nest.gatherings for buffer in g.buffers]
        if any(str(buffer.ty.dtype) not in _VECTOR_TYPES for buffer in buffers):
            return False
        return all(
            access is None or self.in_vectors(access, vector)
            for access in (*self.stored, *(strides_of(load, self.all) for load in self.loads))
        ) and all(access.offset >= 0 and access.strides[last] == 1 for access in self.stored)

    def in_vectors(self, access: Access, vector: int) -> bool:
        """Whether neighbours along the last axis are a whole vector of memory, or all the same element."""
        last = self.groups[-1][-1]
        if access.strides[last] == 0:
            return True
        others = [access.strides[group[-1]] for group in self.groups[:-1]]
        others += access.strides[len(self.nest.variables) :]
        return (
            access.strides[last] == 1
            and access.offset % vector == 0
            and all(stride % vector == 0 for stride in others)
        )

    def only_last_index(self, load: Any, vector: int) -> bool:
        """Whether the last axis is, but for fixed strides, only ever the last index of computed places."""
        last = self.nest.variables[self.groups[-1][-1]]

        def uses(value: Any) -> bool:
            return any(variable.same_as(last) for variable in variables_in(value))

        zero = tirx.IntImm("int64", 0)

        def hide(other: Any) -> Any:
            if self.is_gathered(other) or strides_of(other, self.all) is not None:
                return tirx.BufferLoad(other.source, [zero] * len(other.indices))
            *leading, index = other.indices
            found = linear(index, [last])
            aligned = int(other.source.ty.shape[-1]) % vector == 0
            if aligned and found is not None and found[0] == [1] and found[1] % vector == 0:
                return tirx.BufferLoad(other.source, [*leading, zero])
            return other

        values = [store.value for store in self.nest.stores]
        values += [value for g in self.nest.gatherings for value in g.values]
        return not any(uses(structural_map(value, (ir.TensorLoad, hide), order="post")) for value in values)

    def write(self) -> None:
        """All of the launch."""
        writer, elements = self.writer, self.nest.elements // self.vector
        threads = block_threads(self.gpu, elements * self.lanes)
        if self.lanes > WARP:
            threads = max(threads, self.lanes)
        units = threads // self.lanes
        if elements < units:
            units = elements
        blocks = -(-elements // units)
        # Lanes that exchange partial results have to be there all, also behind the end.
        with writer.launch((blocks,), (units * self.lanes,)) as ((block,), (thread,)):
            lane = thread % self.lanes if self.lanes > 1 else tirx.IntImm("int64", 0)
            unit = thread // self.lanes if self.lanes > 1 else thread
            number = block * units + unit
            inside = number < elements
            ragged = blocks * units != elements
            if self.lanes == 1:
                with writer.when(inside) if ragged else contextlib.nullcontext():
                    self.element(number, lane, unit, units, True)
                return
            if ragged:
                number = tirx.min(number, tirx.IntImm("int64", elements - 1))
            self.element(number, lane, unit, units, inside if ragged else True)

    def element(self, number: Any, lane: Any, unit: Any, units: int, inside: Any) -> None:
        """What one thread computes."""
        sizes = list(self.extents)
        if self.vector > 1:
            sizes[-1] //= self.vector
        self.indices = places_of(number, sizes)
        if self.vector > 1:
            self.indices[-1] = self.indices[-1] * self.vector
        held: dict[Any, Any] = {}
        for gathering in self.nest.gatherings:
            gathered = self.gather(gathering, lane, unit, units)
            held.update(zip(gathering.buffers, gathered, strict=True))
        writer = self.writer
        condition = inside
        if self.lanes > 1:
            first = lane == 0
            condition = first if inside is True else tirx.all(first, inside)
        with writer.when(condition) if condition is not True else contextlib.nullcontext():
            for store, access in zip(self.nest.stores, self.stored, strict=True):
                with writer.loop(self.vector, "element", "vectorized") as element:
                    value = self.value(store.value, {}, element, held)
                    if access.offset < 0:
                        indices = [self.value(index, {}, element, held) for index in store.indices]
                        writer.store(store.buffer, value, *indices)
                    else:
                        place = self.place(access, {}, element)
                        writer.store(writer.flat(store.buffer), value, place)

    def gather(self, gathering: Gathering, lane: Any, unit: Any, units: int) -> list[Any]:
        """Local buffers with what is gathered for this thread's elements."""
        writer = self.writer
        held = [writer.local("acc", (self.vector,), str(buffer.ty.dtype)) for buffer in gathering.buffers]
        with writer.loop(self.vector, "element", "vectorized") as element:
            for local, start in zip(held, gathering.starts, strict=True):
                writer.store(local, self.value(start, {}, element, {}), element)
        if self.lanes == 1:
            with contextlib.ExitStack() as loops:
                inner, left = {}, _UNROLLED
                kinds = []
                for _, extent in reversed(gathering.inner):
                    kinds.append("unrolled" if extent <= left else "serial")
                    left = left // extent if extent <= left else 0
                for (variable, extent), kind in zip(gathering.inner, kinds[::-1], strict=True):
                    inner[variable] = loops.enter_context(writer.loop(extent, "k", kind))
                self.step(gathering, held, inner)
            return held
        positions = gathering.positions
        steps = -(-positions // self.lanes)
        with writer.loop(steps, "step") as step:
            place = step * self.lanes + lane
            inside = writer.when(place < positions) if positions % self.lanes else contextlib.nullcontext()
            with inside:
                extents = [extent for _, extent in gathering.inner]
                places = places_of(place, extents)
                inner = {v: p for (v, _), p in zip(gathering.inner, places, strict=True)}
                self.step(gathering, held, inner)

        def combine(own: Sequence[Any], other: Sequence[Any]) -> Sequence[Any]:
            return gathering.after(own, other)

        combine_in_block(writer, held, self.lanes, lane, unit, units, combine)
        return held

    def step(self, gathering: Gathering, held: list[Any], inner: dict[Any, Any]) -> None:
        """Gather one more."""
        writer = self.writer
        with writer.loop(self.vector, "element", "vectorized") as element:
            own = dict(zip(gathering.buffers, held, strict=True))
            values = [self.value(value, inner, element, own) for value in gathering.values]
            if len(values) == 1:
                writer.store(held[0], values[0], element)
                return
            new = [writer.local("new", (self.vector,), str(local.ty.dtype)) for local in held]
            for buffer, value in zip(new, values, strict=True):
                writer.store(buffer, value, element)
            for buffer, local in zip(new, held, strict=True):
                writer.store(local, writer.load(buffer, element), element)

    def value(self, expression: Any, inner: dict[Any, Any], element: Any, held: dict[Any, Any]) -> Any:
        """``expression`` at this thread's element: flat loads, and what was gathered."""
        writer = self.writer

        def read(load: Any) -> Any:
            for buffer, local in held.items():
                if load.source.same_as(buffer):
                    return writer.load(local, element)
            access = strides_of(load, self.all)
            if access is None:
                return writer.load(load.source, *map(bounded, load.indices, load.source.ty.shape))
            return writer.load(writer.flat(load.source), self.place(access, inner, element))

        places = {**self.axes(element), **inner}
        value = structural_map(expression, (ir.TensorLoad, read), order="post")
        return with_own_names(substituted(value, places))

    def place(self, access: Access, inner: dict[Any, Any], element: Any) -> Any:
        """The element of ``access``."""
        place = tirx.IntImm("int64", access.offset)
        for group, index in zip(self.groups, self.indices, strict=True):
            if access.strides[group[-1]]:
                place = place + index * access.strides[group[-1]]
        last = self.groups[-1][-1] if self.groups else 0
        if self.groups and access.strides[last] and self.vector > 1:
            place = place + element * access.strides[last]
        for number, variable in enumerate(self.reduced):
            stride = access.strides[len(self.nest.variables) + number]
            if stride and variable in inner:
                place = place + inner[variable] * stride
        return place

    def axes(self, element: Any) -> dict[Any, Any]:
        """The index along each axis of the result."""
        places = {}
        for number, (group, index) in enumerate(zip(self.groups, self.indices, strict=True)):
            rest = index
            if number == len(self.groups) - 1 and self.vector > 1:
                rest = index + element
            for axis in reversed(group[1:]):
                places[self.nest.variables[axis]] = rest % self.nest.extents[axis]
                rest = rest // self.nest.extents[axis]
            places[self.nest.variables[group[0]]] = rest
        return places


def bounded(index: Any, extent: Any) -> Any:
    """``index`` within an axis of ``extent``, if it was loaded: what is known to be small takes 32 bits."""
    if not loads_of(index):
        return index
    last = tirx.IntImm(str(index.ty.dtype), int(extent) - 1)
    return tirx.max(tirx.min(index, last), tirx.IntImm(str(index.ty.dtype), 0))


Reader = Callable[[Any], Any]
__all__ = ["VECTOR", "among", "write_elements"]
