"""Kernels whose result may lie over one of their operands: proved access by access, then rewritten.

A kernel that goes through memory in order, as most elementwise ones, pools, pads and resizes do, has read
an operand's element long before it writes the place some distance on.  So the operand may begin that
distance behind the result and share the rest of its bytes with it (Blacker, Bridges and Hadfield, "Rapid
Development of Embedded Deep Learning: Diagonal Memory Optimisation", 2020).  An elementwise kernel has
distance 0: it works in place.

Nothing is guessed from an operator's name.  Every access of the lowered loops is enumerated with the time at
which it happens; what cannot be enumerated is refused.  The rewritten kernel reads the operand through the
result's pointer.  So the compiler sees one buffer, orders its accesses as it must, and the promise that
arguments do not alias stays true: the operand's own pointer is not used any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploycc.planning.index_values import Array, NotKnownError, monotone, values_of, variables_of
from deploycc.tvm_api import ir, structural_map, structural_walk, tirx

SHARED = "deploycc.shared"
"""Attribute of a PrimFunc: numbers of an operand and a result among its parameters, and the distance."""

MOST_ACCESSES = 1 << 24
"""How many accesses of one kernel are enumerated at most: a second or two."""

_UNITS = 64
"""Distances are multiples of this many bytes, so that vectors stay as aligned as they were."""


@dataclass(frozen=True)
class Sharing:
    """``distance`` in bytes from the start of a result to that of the operand it may share memory with.

    ``serial``: only if the kernel's parallel loop runs on one thread.
    """

    distance: int
    serial: bool


def shared(func: Any, operand: int, result: int, sharing: Sharing, width: int) -> Any:
    """``func``, marked so that its code reads parameter ``operand`` in parameter ``result``'s memory."""
    elements = sharing.distance // width
    return func.with_attr(SHARED, [operand, result, elements, int(sharing.serial)])


def rewrite_shared(func: Any) -> Any:
    """The body of a lowered ``func`` as its mark says."""
    operand, result, distance, serial = (int(value) for value in func.attrs[SHARED])
    sources = _flat_views(func.body, func.params[operand])
    target = _flat_views(func.body, func.params[result])[-1]

    def load(node: Any) -> Any:
        if not any(node.source.same_as(source) for source in sources):
            return node
        return tirx.BufferLoad(target, [_moved(index, distance) for index in node.indices])

    def loop(node: Any) -> Any:
        if node.kind != tirx.ForKind.PARALLEL:
            return node
        return tirx.For(node.loop_var, node.min, node.extent, tirx.ForKind.SERIAL, node.body)

    body = structural_map(func.body, (ir.TensorLoad, load), order="post")
    if serial:
        body = structural_map(body, (tirx.For, loop), order="post")
    return body


def _moved(index: Any, distance: int) -> Any:
    """``index`` so much further on: a ramp stays one, since any other vector is loaded element by element."""
    if isinstance(index, tirx.Ramp):
        return tirx.Ramp(index.base + distance, index.stride, index.lanes)
    return index + distance


def find_sharing(func: Any, operand: int, result: int, width: int) -> Sharing | None:
    """How parameter ``operand`` of a lowered ``func`` may share memory with parameter ``result``, if at all.

    ``func`` has flat buffers of elements of ``width`` bytes, its loops as they are compiled.
    """
    source, target = func.params[operand], func.params[result]
    if str(source.ty.dtype) != str(target.ty.dtype):
        return None
    try:
        reader = _Reader(_flat_views(func.body, source), _flat_views(func.body, target))
        root = reader.read(func.body)
        if root is None or reader.seen != {False, True}:
            return None
        times = _Times(_elements(source), _elements(target))
        times.walk(root, 0, (), ())
    except NotKnownError:
        return None
    if times.regions and times.together(0) and times.safe(0):
        return Sharing(0, serial=False)
    distance = times.least_distance(_UNITS // width)
    return None if distance is None else Sharing(distance * width, serial=bool(times.regions))


def _elements(buffer: Any) -> int:
    return math.prod(int(extent.value) for extent in buffer.ty.shape)


def _flat_views(body: Any, parameter: Any) -> list[Any]:
    """``parameter`` and the buffers of one axis that are declared to be the same memory."""
    views = [parameter]

    def declared(statement: Any) -> None:
        data, buffer = statement.data, statement.buffer
        if not any(_among(variable, views) for variable in variables_of(data)):
            return
        flat = (
            len(buffer.ty.shape) == 1
            and not len(buffer.ty.strides)
            and str(buffer.ty.dtype) == str(parameter.ty.dtype)
            and isinstance(buffer.ty.elem_offset, tirx.IntImm)
            and int(buffer.ty.elem_offset.value) == 0
        )
        plain = isinstance(data, ir.Call) and data.op.name == "tirx.buffer_data"
        if not flat or not plain or not _among(data.args[0], views):
            raise NotKnownError
        views.append(buffer)

    structural_walk(body, (tirx.DeclBuffer, declared), order="pre")
    return views


@dataclass(frozen=True)
class _Access:
    """One load of the operand or one store to the result."""

    store: bool
    index: Any


@dataclass
class _Node:
    """Statements that touch the operand or the result.  ``duration`` counts accesses, one after the other.

    A loop has a ``var``, an ``extent`` (its largest) and perhaps a ``limit``, the expression it comes from.
    """

    children: list[_Node | _Access]
    duration: int
    var: Any = None
    start: int = 0
    extent: int = 1
    limit: Any = None
    parallel: bool = False
    condition: Any = None
    binds: dict[Any, Any] = field(default_factory=dict)


class _Reader:
    """Makes ``_Node``s of statements; ``None`` for those that touch neither."""

    def __init__(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        self.sources, self.targets = sources, targets
        self.seen: set[bool] = set()
        """Whether loads of the operand (``False``) and stores to the result (``True``) were found."""
        self.binds: dict[Any, Any] = {}
        self.extents: dict[Any, tuple[int, int]] = {}

    def read(self, statement: Any) -> _Node | None:
        if isinstance(statement, tirx.SeqStmt):
            return self._node([self.read(part) for part in statement.seq])
        if isinstance(statement, tirx.AttrStmt):
            return self.read(statement.body)
        if isinstance(statement, tirx.For):
            return self._loop(statement)
        if isinstance(statement, tirx.IfThenElse):
            self._refuse_stores(statement.condition)
            before = self._loads(statement.condition)
            then = self.read(statement.then_case)
            other = None if statement.else_case is None else self.read(statement.else_case)
            if then is not None:
                then = _Node([then], then.duration, condition=statement.condition)
            return self._node([*before, then, other])
        if isinstance(statement, tirx.BufferStore):
            parts: list[Any] = self._loads(statement.value)
            for index in statement.indices:
                parts += self._loads(index)
            if _among(statement.buffer, self.sources):
                raise NotKnownError
            if _among(statement.buffer, self.targets):
                parts.append(self._access(True, statement.indices))
            return self._node(parts)
        if isinstance(statement, tirx.Bind):
            self.binds[statement.var] = statement.value
            return self._node(self._loads(statement.value))
        if isinstance(statement, tirx.Evaluate):
            return self._node(self._loads(statement.value))
        if isinstance(statement, tirx.AllocBuffer | tirx.DeclBuffer | tirx.Return):
            return None
        raise NotKnownError

    def _loop(self, statement: Any) -> _Node | None:
        if not isinstance(statement.min, tirx.IntImm):
            raise NotKnownError
        start, limit = int(statement.min.value), None
        if isinstance(statement.extent, tirx.IntImm):
            extent = int(statement.extent.value)
        else:
            limit = statement.extent
            extent = self._largest(limit)
        self.extents[statement.loop_var] = (start, max(extent, 0))
        body = self.read(statement.body)
        if body is None or extent <= 0:
            return None
        parallel = statement.kind == tirx.ForKind.PARALLEL
        return _Node([body], body.duration * extent, statement.loop_var, start, extent, limit, parallel)

    def _largest(self, limit: Any) -> int:
        """The largest value of an expression of loops around it, each taken by itself at its ends."""
        values = []
        variables = [variable for variable in self.extents if _among(variable, variables_of(limit))]
        for ends in np.ndindex(*(2 for _ in variables)):
            known = {
                variable: np.int64(start + (max(extent, 1) - 1) * end)
                for (variable, (start, extent)), end in zip(
                    ((variable, self.extents[variable]) for variable in variables), ends, strict=True
                )
            }
            values.append(int(values_of(limit, known, self.binds)))
        if not monotone(limit):
            raise NotKnownError
        return max(values)

    def _node(self, children: Sequence[Any]) -> _Node | None:
        kept = [child for child in children if child is not None]
        if not kept:
            return None
        duration = sum(child.duration if isinstance(child, _Node) else 1 for child in kept)
        return _Node(kept, duration, binds=self.binds)

    def _loads(self, expression: Any) -> list[Any]:
        found: list[Any] = []

        def load(node: Any) -> None:
            if _among(node.source, self.sources):
                found.append(self._access(False, node.indices))

        self._refuse_stores(expression)
        structural_walk(expression, (ir.TensorLoad, load), order="pre")
        return found

    def _access(self, store: bool, indices: Sequence[Any]) -> _Access:
        if len(indices) != 1:
            raise NotKnownError
        self.seen.add(store)
        return _Access(store, indices[0])

    def _refuse_stores(self, expression: Any) -> None:
        """Pointers to the two must not leave: what is done with them could not be seen."""

        def call(node: Any) -> None:
            name = node.op.name if isinstance(node.op, ir.Op) else ""
            taken = name.endswith(("address_of", "access_ptr")) or not name
            both = (*self.sources, *self.targets)
            arguments = [a for a in node.args if isinstance(a, ir.Var)]
            if any(_among(argument, both) for argument in arguments):
                raise NotKnownError
            if taken and any(_among(variable, both) for variable in variables_of(node)):
                raise NotKnownError

        structural_walk(expression, (ir.Call, call), order="pre")


class _Times:
    """When each element of the operand is read at last, and each of the result is written first."""

    def __init__(self, source: int, target: int) -> None:
        never = np.iinfo(np.int64).max
        self.last_load = np.full(source, -1, np.int64)
        self.first_load = np.full(source, never, np.int64)
        self.first_store = np.full(target, never, np.int64)
        self.last_store = np.full(target, -1, np.int64)
        self.regions: list[tuple[int, int, int]] = []
        """Of each parallel loop: when it starts, how long one of its rounds takes, when it ends."""
        self.left = MOST_ACCESSES

    def walk(self, node: _Node, start: int, loops: tuple[Any, ...], masks: tuple[Any, ...]) -> None:
        if node.var is not None:
            each = node.duration // node.extent
            if node.parallel:
                if loops:
                    raise NotKnownError
                self.regions.append((start, each, start + node.duration))
            loops = (*loops, (node.var, node.start, node.extent, each))
            if node.limit is not None:
                masks = (*masks, node.var - node.start < node.limit)
        if node.condition is not None:
            masks = (*masks, node.condition)
        now = start
        for child in node.children:
            if isinstance(child, _Node):
                child.binds = child.binds or node.binds
                self.walk(child, now, loops, masks)
                now += child.duration
            else:
                self._note(child, now, loops, masks, node.binds)
                now += 1

    def _note(
        self, access: _Access, now: int, loops: tuple[Any, ...], masks: tuple[Any, ...], binds: dict[Any, Any]
    ) -> None:
        known: dict[Any, Array] = {}
        time: Array = np.array(now, np.int64)
        for axis, (variable, start, extent, each) in enumerate(loops):
            rounds = np.arange(extent, dtype=np.int64).reshape(
                [extent if position == axis else 1 for position in range(len(loops) + 1)]
            )
            known[variable] = rounds + start
            time = time + rounds * each
        index = access.index
        lanes = np.zeros(1, np.int64)
        if isinstance(index, tirx.Ramp):
            stride = values_of(index.stride, known, binds)
            lanes = np.arange(_lanes(index), dtype=np.int64) * stride
            index = index.base
        places = values_of(index, known, binds) + lanes
        shape = np.broadcast_shapes(places.shape, time.shape)
        self.left -= int(np.prod(shape))
        if self.left < 0:
            raise NotKnownError
        times = np.broadcast_to(time, shape)
        places = np.broadcast_to(places, shape)
        size = len(self.first_store if access.store else self.last_load)
        happens = (places >= 0) & (places < size)
        for mask in masks:
            try:
                happens = happens & values_of(mask, known, binds).astype(bool)
            except NotKnownError:
                continue  # it may happen
        times, places = times[happens], places[happens]
        first, last = (
            (self.first_store, self.last_store) if access.store else (self.first_load, self.last_load)
        )
        np.minimum.at(first, places, times)
        np.maximum.at(last, places, times)

    def safe(self, distance: int) -> bool:
        """Whether no element of the operand is read after the result's at its place was written."""
        count = min(len(self.last_load), len(self.first_store) - distance)
        return count <= 0 or bool(
            (self.last_load[:count] < self.first_store[distance : distance + count]).all()
        )

    def together(self, distance: int) -> bool:
        """Whether all that happens at one place in a parallel loop happens in one of its rounds."""
        count = min(len(self.last_load), len(self.first_store) - distance)
        first, last = self.first_load[:count], self.last_store[distance : distance + count]
        both = (self.last_load[:count] >= 0) & (last >= 0)
        for start, each, end in self.regions:
            inside = both & (self.last_load[:count] >= start) & (self.first_store[distance:][:count] < end)
            rounds = ((first >= start) & (last < end)) & ((first - start) // each == (last - start) // each)
            if bool((inside & ~rounds).any()):
                return False
        return True

    def least_distance(self, unit: int) -> int | None:
        """The least multiple of ``unit`` elements that is safe, by halving; ``None`` if none saves."""
        low, high = 0, -(-len(self.first_store) // unit)
        while low < high:
            middle = (low + high) // 2
            if self.safe(middle * unit):
                high = middle
            else:
                low = middle + 1
        distance = low * unit
        return distance if distance < len(self.first_store) and self.safe(distance) else None


def _lanes(ramp: Any) -> int:
    lanes = ramp.lanes
    return int(lanes.value) if isinstance(lanes, tirx.IntImm) else int(lanes)


def _among(variable: Any, buffers: Sequence[Any]) -> bool:
    return any(variable.same_as(buffer) for buffer in buffers)
