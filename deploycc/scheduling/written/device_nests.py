"""A fused kernel as launches: each computes elements of a result from operands and what it gathers itself.

A reduction whose result one elementwise block reads, each element once, becomes part of that block's launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from deploycc.scheduling.kernel import child_blocks
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.written.strides import loads_of
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, structural_equal, structural_map, structural_walk, tirx

GATHERING = (tirx.Add, tirx.Mul, tirx.Max, tirx.Min)


@dataclass(frozen=True)
class Gathering:
    """A reduction at one element: over ``inner`` (variables, extents) ``values`` replace ``starts``.

    There are several of them where an index goes with a maximum.  ``values`` read the elements of ``buffers``
    that are gathered; ``terms`` are what is new in each.
    """

    buffers: tuple[Any, ...]
    starts: tuple[Any, ...]
    values: tuple[Any, ...]
    terms: tuple[Any, ...]
    inner: tuple[tuple[Any, int], ...]

    @property
    def positions(self) -> int:
        """How much is gathered for an element."""
        return math.prod(extent for _, extent in self.inner)

    def is_own(self, load: Any) -> int | None:
        """Which of ``buffers`` a ``load`` reads."""
        return next((n for n, own in enumerate(self.buffers) if load.source.same_as(own)), None)

    def after(self, own: Sequence[Any], terms: Sequence[Any] | None = None) -> list[Any]:
        """``values`` with ``own`` for what was gathered, and ``terms`` for what is new."""
        values = list(self.values)
        if terms is not None:
            # What stands in another's term goes last: a maximum is read at the place that is its index.
            for number in sorted(range(len(terms)), key=lambda n: isinstance(self.terms[n], ir.Var)):
                values = [_replaced(value, self.terms[number], terms[number]) for value in values]

        def read(load: Any) -> Any:
            number = self.is_own(load)
            return load if number is None else own[number]

        return [structural_map(value, (ir.TensorLoad, read), order="post") for value in values]

    def mapped(self, places: dict[Any, Any]) -> Gathering:
        """The same with expressions in place of variables."""
        each = [
            tuple(substituted(value, places) for value in values)
            for values in (self.starts, self.values, self.terms)
        ]
        return replace(self, starts=each[0], values=each[1], terms=each[2])


@dataclass(frozen=True)
class Store:
    """``buffer[indices] = value``."""

    buffer: Any
    indices: tuple[Any, ...]
    value: Any


@dataclass(frozen=True)
class Nest:
    """One launch: for every position of ``variables``, what is gathered and then ``stores``."""

    variables: tuple[Any, ...]
    extents: tuple[int, ...]
    gatherings: tuple[Gathering, ...]
    stores: tuple[Store, ...]

    @property
    def elements(self) -> int:
        """Positions of ``variables``."""
        return math.prod(self.extents)


@dataclass(frozen=True)
class NestedKernel:
    """``nests`` in order, and the buffers that one leaves for another."""

    function: Any
    nests: tuple[Nest, ...]
    passed: tuple[Any, ...]

    @classmethod
    def of(cls, sch: Any) -> NestedKernel:
        """Read the kernel that ``sch`` is a schedule of; raises ``NotWritable`` for another form."""
        inline_elementwise(sch)
        function = sch.mod["main"]
        blocks = [_Block.of(sch.get(block)) for block in child_blocks(sch)]
        nests = _joined(blocks, list(function.params))
        stored = [store.buffer for nest in nests for store in nest.stores]
        passed = [buffer for buffer in stored if not among(buffer, function.params)]
        return cls(function, tuple(nests), tuple(passed))


@dataclass(frozen=True)
class _Block:
    variables: tuple[Any, ...]
    extents: tuple[int, ...]
    inner: tuple[tuple[Any, int], ...]
    stores: tuple[Store, ...]
    starts: tuple[Any, ...]

    @classmethod
    def of(cls, node: Any) -> _Block:
        spatial = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.DataPar]
        reduced = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
        if len(spatial) + len(reduced) != len(node.iter_vars):
            raise NotWritable("a loop that neither reduces nor is parallel")
        for variable in node.iter_vars:
            if not isinstance(variable.dom.extent, int | tirx.IntImm):
                raise NotWritable("an extent that is not known")
        stores = _stores(node.body)
        starts = _stores(node.init) if node.init is not None else ()
        if bool(reduced) != bool(starts) or (reduced and len(starts) != len(stores)):
            raise NotWritable("a reduction without a start")
        variables, extents, places = [], [], {}
        for v in spatial:
            if int(v.dom.extent) == 1:
                places[v.var] = tirx.IntImm("int64", 0)
            else:
                variables.append(v.var)
                extents.append(int(v.dom.extent))
        for v in reduced:
            if int(v.dom.extent) == 1:
                places[v.var] = tirx.IntImm("int64", 0)
        inner = tuple((v.var, int(v.dom.extent)) for v in reduced if int(v.dom.extent) > 1)
        by_buffer = {store.buffer: substituted(store.value, places) for store in starts}
        stores = tuple(
            Store(s.buffer, tuple(substituted(i, places) for i in s.indices), substituted(s.value, places))
            for s in stores
        )
        ordered = tuple(by_buffer[store.buffer] for store in stores) if starts else ()
        return cls(tuple(variables), tuple(extents), inner, stores, ordered)

    @property
    def reduces(self) -> bool:
        return bool(self.starts)

    @property
    def elements(self) -> int:
        return math.prod(self.extents)

    def reads(self) -> list[Any]:
        """The buffers read, but for what a reduction gathers."""
        loads = [load for store in self.stores for load in loads_of(store.value)]
        own = [store.buffer for store in self.stores] if self.reduces else []
        return [load.source for load in loads if not among(load.source, own)]

    def gathering(self) -> Gathering:
        values = tuple(store.value for store in self.stores)
        buffers = tuple(store.buffer for store in self.stores)
        for store in self.stores:
            for load in loads_of(store.value):
                if among(load.source, buffers) and not _same_indices(load.indices, store.indices):
                    raise NotWritable("a reduction reads another of its results")
        terms = tuple(_term(store, buffers) for store in self.stores)
        return Gathering(buffers, self.starts, values, terms, self.inner)


def _stores(body: Any) -> tuple[Store, ...]:
    """The stores of a block, what it binds put in."""
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    bound: dict[Any, Any] = {}
    stores: list[Store] = []
    for statement in statements:
        if isinstance(statement, tirx.BufferStore):
            value = substituted(statement.value, bound)
            stores.append(Store(statement.buffer, tuple(statement.indices), value))
        elif isinstance(statement, tirx.Bind):
            if stores:
                raise NotWritable("a value is bound between stores")
            bound[statement.var] = substituted(statement.value, bound)
        else:
            raise NotWritable("a block of other statements than stores")
    return tuple(stores)


def _term(store: Store, buffers: Sequence[Any]) -> Any:
    """What is new in the value of a reduction."""
    value = store.value

    def own(node: Any) -> bool:
        return isinstance(node, ir.TensorLoad) and bool(node.source.same_as(store.buffer))

    if isinstance(value, GATHERING):
        choices = (value.a, value.b)
    elif isinstance(value, tirx.Select):
        choices = (value.true_value, value.false_value)
    else:
        raise NotWritable("another reduction than a sum, product, maximum or minimum")
    for one, other in (choices, choices[::-1]):
        if own(one) and not any(among(load.source, buffers) for load in loads_of(other)):
            return other
    raise NotWritable("a reduction of another form")


def _joined(blocks: Sequence[_Block], parameters: Sequence[Any]) -> list[Nest]:
    nests: list[Nest] = []
    waiting: list[_Block] = []
    for number, block in enumerate(blocks):
        if block.reduces:
            if _reader(block, blocks, parameters) is not None:
                waiting.append(block)
            else:
                nests.append(_alone(block))
            continue
        gatherings = []
        for reduction in [r for r in waiting if _reader(r, blocks, parameters) == number]:
            waiting.remove(reduction)
            gatherings.append(_at_reader(reduction, block))
        nest = Nest(block.variables, block.extents, tuple(gatherings), block.stores)
        before = nests[-1] if nests else None
        if before is not None and _together(before, nest):
            nests[-1] = _merged(before, nest)
        else:
            nests.append(nest)
    return nests


def _alone(block: _Block) -> Nest:
    # What a reduction writes is stored as what it reads of itself when done.
    stores = tuple(
        Store(store.buffer, store.indices, tirx.BufferLoad(store.buffer, list(store.indices)))
        for store in block.stores
    )
    return Nest(block.variables, block.extents, (block.gathering(),), stores)


def _reader(reduction: _Block, blocks: Sequence[_Block], parameters: Sequence[Any]) -> int | None:
    """The number of the one elementwise block that the results of ``reduction`` are for."""
    buffers = [store.buffer for store in reduction.stores]
    if any(among(buffer, parameters) for buffer in buffers):
        return None
    readers = [
        number
        for number, block in enumerate(blocks)
        if block is not reduction and any(among(buffer, buffers) for buffer in block.reads())
    ]
    if len(readers) != 1:
        return None
    reader = blocks[readers[0]]
    if reader.reduces or reader.elements > reduction.elements or _indices_read(reduction, reader) is None:
        return None
    return readers[0]


def _indices_read(reduction: _Block, reader: _Block) -> Sequence[Any] | None:
    """Where ``reader`` reads the results, if that is one place for each of its elements."""
    buffers = [store.buffer for store in reduction.stores]
    loads = [load for store in reader.stores for load in loads_of(store.value) if among(load.source, buffers)]
    first = loads[0].indices
    if not all(_same_indices(load.indices, first) for load in loads):
        return None
    if any(among(load.source, buffers) for index in first for load in loads_of(index)):
        return None
    for store in reduction.stores:
        for index in store.indices:
            if not isinstance(index, ir.Var) and not _is_zero(index):
                return None
    return list(first)


def _at_reader(reduction: _Block, reader: _Block) -> Gathering:
    first = _indices_read(reduction, reader)
    assert first is not None, "asked for before"
    places: dict[Any, Any] = {}
    for store in reduction.stores:
        for index, place in zip(store.indices, first, strict=True):
            if isinstance(index, ir.Var):
                places[index] = place
    if any(variable not in places for variable in reduction.variables):
        raise NotWritable("a reduction is written at computed places")
    return reduction.gathering().mapped(places)


def _together(before: Nest, nest: Nest) -> bool:
    """Whether ``nest`` may run in the launch before it."""
    if before.extents != nest.extents or before.gatherings or nest.gatherings:
        return False
    written = [store.buffer for store in before.stores]
    return not any(among(load.source, written) for s in nest.stores for load in loads_of(s.value))


def _merged(before: Nest, nest: Nest) -> Nest:
    places = dict(zip(nest.variables, before.variables, strict=True))
    stores = [
        Store(s.buffer, tuple(substituted(i, places) for i in s.indices), substituted(s.value, places))
        for s in nest.stores
    ]
    return replace(before, stores=(*before.stores, *stores))


def substituted(value: Any, places: dict[Any, Any]) -> Any:
    """``value`` with expressions in place of variables."""
    if not places:
        return value
    return structural_map(value, (ir.Var, lambda v: places.get(v, v)), order="post")


def variables_in(value: Any) -> list[Any]:
    """Every variable that occurs in ``value``."""
    found: list[Any] = []
    structural_walk(value, (ir.Var, found.append), order="pre")
    return found


def among(buffer: Any, buffers: Sequence[Any]) -> bool:
    """Whether ``buffer`` is one of ``buffers``."""
    return any(buffer.same_as(other) for other in buffers)


def _replaced(value: Any, old: Any, new: Any) -> Any:
    def visit(node: Any) -> Any:
        return new if structural_equal(node, old) else node

    return structural_map(value, (type(old), visit), order="post")


def _same_indices(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(
        a.same_as(b) or structural_equal(a, b) for a, b in zip(one, other, strict=True)
    )


def _is_zero(index: Any) -> bool:
    return isinstance(index, tirx.IntImm) and int(index) == 0
