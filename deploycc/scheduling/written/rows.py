"""Reductions over some axes of a tensor and the elementwise steps around them, as steps over common axes.

Softmax, normalisation and plain reductions are one form: each step gathers over the same reduced axes, or
computes an element for each position of all axes, or one for all positions along the reduced axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.scheduling.kernel import Kernel, child_blocks
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.written.strides import Access, loads_of, strides_of
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, structural_map, structural_walk, tirx
from deploycc.types import Target

GATHERING = (tirx.Add, tirx.Mul, tirx.Max, tirx.Min)


@dataclass(frozen=True)
class Step:
    """One block: ``buffer`` gets ``value``, an expression over the kernel's axes.

    ``combine`` is the operation a reduction gathers with (``None`` for an elementwise step) and ``start``
    what it starts from.  ``full`` says whether there is an element for each position along the reduced axes.
    """

    buffer: Any
    value: Any
    combine: Any | None
    start: Any | None
    full: bool
    output: bool
    access: Access

    @property
    def sweeps(self) -> bool:
        """Whether it goes along the reduced axes."""
        return self.full or self.combine is not None

    def gather(self, one: Any, other: Any) -> Any:
        """Both in one result of the reduction."""
        assert self.combine is not None
        return self.combine(one, other)

    def reads(self) -> list[Any]:
        """The buffers it reads."""
        return [load.source for load in loads_of(self.value)]


@dataclass(frozen=True)
class Sweep:
    """Steps that one walk along the reduced axes computes, and those that follow from its results."""

    steps: tuple[Step, ...]
    after: tuple[Step, ...]


@dataclass(frozen=True)
class RowKernel:
    """A kernel whose steps share the axes of one tensor, in that tensor's order in memory.

    Neighbouring axes along which everything lies as one are a group; ``extents`` are those of the groups and
    ``reduced`` says which of them are reduced.  ``axes`` are the variables of the steps' expressions, one for
    each axis of extent above 1.
    """

    function: Any
    axes: tuple[Any, ...]
    groups: tuple[tuple[int, ...], ...]
    extents: tuple[int, ...]
    reduced: tuple[bool, ...]
    steps: tuple[Step, ...]
    at_least_one: tuple[Any, ...] = ()
    """Buffers of sums that are 1 or more, so that to multiply by the reciprocal is to divide."""

    @classmethod
    def of(cls, sch: Any) -> RowKernel:
        """Read the kernel that ``sch`` is a schedule of; raises ``NotWritable`` for another form."""
        inline_elementwise(sch, single_consumer=True)
        blocks = [sch.get(block) for block in child_blocks(sch)]
        return _Reader(sch.mod["main"], blocks).kernel()

    @property
    def along(self) -> bool:
        """Whether the reduced axes have the innermost one, so that a row of it is contiguous."""
        return self.reduced[-1]

    @property
    def positions(self) -> int:
        """Positions along the reduced axes."""
        return math.prod(e for e, reduced in zip(self.extents, self.reduced, strict=True) if reduced)

    @property
    def rows(self) -> int:
        """Positions along the other axes."""
        return math.prod(self.extents) // self.positions

    def access(self, load: Any) -> Access:
        """Where ``load``, of a step's value, reads: strides over the groups."""
        access = strides_of(load, self.axes)
        assert access is not None, "of() has seen every load"
        return access.over(self.groups)

    def sweeps(self) -> tuple[Sweep, ...]:
        """The steps, in as few walks along the reduced axes as their order allows."""
        sweeps: list[tuple[list[Step], list[Step]]] = [([], [])]
        waiting: list[Any] = []
        for step in self.steps:
            if not step.sweeps:
                sweeps[-1][1].append(step)
                waiting.append(step.buffer)
                continue
            if any(_among(buffer, waiting) for buffer in step.reads()):
                sweeps.append(([], []))
                waiting = []
            sweeps[-1][0].append(step)
            if step.combine is not None:
                waiting.append(step.buffer)
        return tuple(Sweep(tuple(steps), tuple(after)) for steps, after in sweeps)


def row_cycles(kernel: Kernel, target: Target, vectors: int, items: int, each: float) -> float | None:
    """Cycles of ``kernel`` with ``items`` rows side by side and ``vectors`` of each a step.

    ``each`` is what one vector takes where nothing waits.  To close a row takes some 30 cycles of waiting,
    which rows side by side share; below four vectors in flight each waits for the one before, and above
    eight LLVM spills (softmax, layer norm and sums of 97 to 6,625 elements on AVX-512).  Many long rows side
    by side do not stay in the level-1 cache.
    """
    reduction = kernel.reductions[0]
    rows = math.prod(reduction.spatial)
    if items > rows:
        return None
    length = reduction.operations / rows
    in_row = length / target.simd.lanes()
    side = vectors * items
    waits = max(1.0, 1.5 - side / 8) * (1.2 if side > 8 else 1.0) + 0.05 * max(0, items - 2)
    spread = 1.1 if items > 1 and items * length * 8 > target.cache.l1 else 1.0
    short = 1.0 + 0.1 * max(0, vectors - in_row)
    return rows * (in_row * each * waits * spread * short + 30 / min(items, 2))


class _Reader:
    """Finds the common axes of a kernel's blocks."""

    def __init__(self, function: Any, blocks: Sequence[Any]) -> None:
        self.function, self.blocks = function, blocks
        reductions = [block for block in blocks if _reduction_variables(block)]
        if not reductions:
            raise NotWritable("nothing is reduced")
        first = reductions[0]
        reference = _reference(first)
        if reference is None:
            raise NotWritable("no tensor is read as a whole")
        load, variables = reference
        self.extents = [_extent(variable) for variable in variables]
        self.axes = tuple(tirx.Var(f"a{number}", "int64") for number in range(len(variables)))
        places = {variable.var: axis for axis, variable in enumerate(variables)}
        inner = _reduction_variables(first)
        self.reduced = [any(v.var.same_as(other.var) for other in inner) for v in variables]
        if not any(self.reduced):
            raise NotWritable("reduces axes of extent 1 only")
        self.known: dict[Any, tuple[int | None, ...]] = {
            load.source: tuple(places.get(index) for index in load.indices)
        }
        self.stored: dict[Any, Access] = {}

    def kernel(self) -> RowKernel:
        steps = [self.step(block) for block in self.blocks]
        loads = [load for step in steps for load in loads_of(step.value)]
        accesses = [self.strides(load) for load in loads if load.source not in self.stored]
        accesses += [step.access for step in steps if step.output]
        groups = _merged(self.extents, self.reduced, accesses)
        for access in accesses:
            if access.over(groups).strides[-1] not in (0, 1):
                raise NotWritable("an operand is not read along its innermost axis")
        extents = tuple(math.prod(self.extents[axis] for axis in group) for group in groups)
        steps = [
            Step(s.buffer, s.value, s.combine, s.start, s.full, s.output, s.access.over(groups))
            for s in steps
        ]
        reduced = tuple(self.reduced[group[0]] for group in groups)
        return RowKernel(self.function, self.axes, groups, extents, reduced, tuple(steps))

    def step(self, block: Any) -> Step:
        store = block.body
        if not isinstance(store, tirx.BufferStore):
            raise NotWritable("not one statement")
        combine, value, start = None, store.value, None
        inner = _reduction_variables(block)
        if inner:
            combine, value = _gathered(store)
            start = block.init.value
        places = self.places(block, loads_of(value), store)
        axes = {place for place in places.values() if place is not None}
        spatial = {axis for axis, reduced in enumerate(self.reduced) if not reduced}
        if combine is not None:
            within = {places[variable.var] for variable in inner if _extent(variable) > 1}
            if axes != set(range(len(self.axes))) or within != axes - spatial:
                raise NotWritable("steps reduce different axes")
        full = combine is None and len(axes) == len(self.axes)
        if combine is None and not full and axes != spatial:
            raise NotWritable("a step covers some of the axes")
        zero = tirx.IntImm("int64", 0)
        at = {var: zero if place is None else self.axes[place] for var, place in places.items()}

        def placed(expression: Any) -> Any:
            return structural_map(expression, (ir.Var, lambda v: at.get(v, v)), order="post")

        value = placed(value)
        target = self.strides(tirx.BufferLoad(store.buffer, [placed(index) for index in store.indices]))
        self.check(value)
        self.known[store.buffer] = tuple(places.get(index) for index in store.indices)
        self.stored[store.buffer] = target
        output = any(store.buffer.same_as(parameter) for parameter in self.function.params)
        return Step(store.buffer, value, combine, start, full, output, target)

    def places(self, block: Any, loads: Sequence[Any], store: Any) -> Mapping[Any, int | None]:
        """The axis of each of the block's variables, ``None`` for those of extent 1."""
        places: dict[Any, int | None] = {v.var: None for v in block.iter_vars if _extent(v) == 1}
        open_ = {v.var: _extent(v) for v in block.iter_vars if _extent(v) > 1}
        for load in loads:
            for index, axis in zip(load.indices, self.known.get(load.source, ()), strict=False):
                if axis is None or index not in open_:
                    continue
                if places.setdefault(index, axis) != axis or self.extents[axis] != open_[index]:
                    raise NotWritable("steps read a tensor along different axes")
        if any(variable not in places for variable in open_):
            raise NotWritable("a step has axes of its own")
        taken = [place for place in places.values() if place is not None]
        if len(taken) != len(set(taken)):
            raise NotWritable("a step reads a diagonal")
        if not all(index in places or _is_zero(index) for index in store.indices):
            raise NotWritable("a result is written at computed places")
        return places

    def strides(self, load: Any) -> Access:
        access = strides_of(load, self.axes)
        if access is None:
            raise NotWritable("an operand is not read with fixed strides")
        return access

    def check(self, value: Any) -> None:
        """Refuse a value that reads an earlier result elsewhere, or computes with an index."""
        for load in loads_of(value):
            access, stored = self.strides(load), self.stored.get(load.source)
            if stored is not None and not access.same_as(stored):
                raise NotWritable("a step reads another element of an earlier result")
        nothing = tirx.IntImm("int64", 0)
        bare = structural_map(
            value, (ir.TensorLoad, lambda load: tirx.BufferLoad(load.source, [nothing] * len(load.indices)))
        )
        found: list[Any] = []
        structural_walk(bare, (ir.Var, found.append), order="pre")
        if any(variable.same_as(axis) for variable in found for axis in self.axes):
            raise NotWritable("a value depends on its place")


def _reference(block: Any) -> tuple[Any, list[Any]] | None:
    """A tensor that the reduction reads once for each of its iterations, and the variables in its order."""
    variables = {v.var: v for v in block.iter_vars if _extent(v) > 1}
    unit = [v.var for v in block.iter_vars if _extent(v) == 1]
    for load in loads_of(_gathered(block.body)[1]):
        order = [variables[index] for index in load.indices if index in variables]
        plain = all(index in variables or index in unit or _is_zero(index) for index in load.indices)
        if plain and len(order) == len(variables) and len({id(v) for v in order}) == len(order):
            return load, order
    return None


def _gathered(store: Any) -> tuple[Any, Any]:
    """The operation that ``store`` gathers with, and what."""
    if isinstance(store, tirx.BufferStore) and isinstance(store.value, GATHERING):
        for own, other in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
            if isinstance(own, ir.TensorLoad) and own.source.same_as(store.buffer):
                return type(store.value), other
    raise NotWritable("another reduction than a sum, product, maximum or minimum")


def _reduction_variables(block: Any) -> list[Any]:
    return [v for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce]


def _extent(variable: Any) -> int:
    return int(variable.dom.extent)


def _is_zero(index: Any) -> bool:
    return isinstance(index, tirx.IntImm) and int(index) == 0


def _among(buffer: Any, buffers: Sequence[Any]) -> bool:
    return any(buffer.same_as(other) for other in buffers)


def _merged(
    extents: Sequence[int], reduced: Sequence[bool], accesses: Sequence[Access]
) -> tuple[tuple[int, ...], ...]:
    """Neighbouring axes, both reduced or neither, along which every operand lies as one."""
    groups: list[tuple[int, ...]] = []
    for axis, extent in enumerate(extents):
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and reduced[last] == reduced[axis]
            and all(a.strides[last] == extent * a.strides[axis] for a in accesses)
        ):
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
    return tuple(groups)


def places_of(number: Any, extents: Sequence[int]) -> list[Any]:
    """The index along each of ``extents`` of element ``number`` of all, the first axis first."""
    rest: list[Any] = []
    for extent in reversed(extents[1:]):
        rest.append(number % extent)
        number = number // extent
    if extents:
        rest.append(number)
    return rest[::-1]
