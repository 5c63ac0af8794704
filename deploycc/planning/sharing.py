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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploycc.tvm_api import ir, structural_map, structural_walk, tirx

SHARED = "deploycc.shared"
"""Attribute of a PrimFunc: numbers of an operand and a result among its parameters, and the distance."""

MOST_ACCESSES = 1 << 25
"""How many accesses of one kernel are enumerated at most: about two seconds, 1 GiB."""

_UNITS = 64
"""Distances are multiples of this many bytes, so that vectors stay as aligned as they were."""

Array = np.ndarray[Any, Any]


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
    source, target = func.params[operand], func.params[result]

    def load(node: Any) -> Any:
        if not node.source.same_as(source):
            return node
        return tirx.BufferLoad(target, [index + distance for index in node.indices])

    def loop(node: Any) -> Any:
        if node.kind != tirx.ForKind.PARALLEL:
            return node
        return tirx.For(node.loop_var, node.min, node.extent, tirx.ForKind.SERIAL, node.body)

    body = structural_map(func.body, (ir.TensorLoad, load), order="post")
    if serial:
        body = structural_map(body, (tirx.For, loop), order="post")
    return body


def find_sharing(func: Any, operand: int, result: int, width: int) -> Sharing | None:
    """How parameter ``operand`` of a lowered ``func`` may share memory with parameter ``result``, if at all.

    ``func`` has flat buffers of elements of ``width`` bytes, its loops as they are compiled.
    """
    source, target = func.params[operand], func.params[result]
    if str(source.ty.dtype) != str(target.ty.dtype):
        return None
    sizes = [int(buffer.ty.shape[0].value) for buffer in (source, target)]
    try:
        root = _Reader(source, target).read(func.body)
        times = _Times(*sizes)
        if root is not None:
            times.walk(root, 0, (), ())
    except _NotKnownError:
        return None
    if times.regions and times.together(0) and times.safe(0):
        return Sharing(0, serial=False)
    distance = times.least_distance(_UNITS // width)
    return None if distance is None else Sharing(distance * width, serial=bool(times.regions))


class _NotKnownError(Exception):
    """Something that cannot be enumerated."""


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

    def __init__(self, source: Any, target: Any) -> None:
        self.source, self.target = source, target
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
            if statement.buffer.same_as(self.source):
                raise _NotKnownError
            if statement.buffer.same_as(self.target):
                parts.append(_Access(True, statement.indices[0]))
            return self._node(parts)
        if isinstance(statement, tirx.Bind):
            self.binds[statement.var] = statement.value
            return self._node(self._loads(statement.value))
        if isinstance(statement, tirx.Evaluate):
            return self._node(self._loads(statement.value))
        if isinstance(statement, tirx.AllocBuffer | tirx.DeclBuffer | tirx.Return):
            return None
        raise _NotKnownError

    def _loop(self, statement: Any) -> _Node | None:
        if not isinstance(statement.min, tirx.IntImm):
            raise _NotKnownError
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
        variables = [variable for variable in self.extents if _mentions(limit, variable)]
        for ends in np.ndindex(*(2 for _ in variables)):
            known = {
                variable: np.int64(start + (max(extent, 1) - 1) * end)
                for (variable, (start, extent)), end in zip(
                    ((variable, self.extents[variable]) for variable in variables), ends, strict=True
                )
            }
            values.append(int(_value(limit, known, self.binds)))
        if not _monotone(limit):
            raise _NotKnownError
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
            if node.source.same_as(self.source):
                found.append(_Access(False, node.indices[0]))

        self._refuse_stores(expression)
        structural_walk(expression, (ir.TensorLoad, load), order="pre")
        return found

    def _refuse_stores(self, expression: Any) -> None:
        """Pointers to the two must not leave: what is done with them could not be seen."""

        def call(node: Any) -> None:
            name = node.op.name if isinstance(node.op, ir.Op) else ""
            taken = name.endswith(("address_of", "access_ptr")) or not name
            arguments = [a for a in node.args if isinstance(a, ir.Var)]
            if taken and (_mentions(node, self.source) or _mentions(node, self.target)):
                raise _NotKnownError
            if any(a.same_as(self.source) or a.same_as(self.target) for a in arguments):
                raise _NotKnownError

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
                    raise _NotKnownError
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
            stride = _value(index.stride, known, binds)
            lanes = np.arange(_lanes(index), dtype=np.int64) * stride
            index = index.base
        places = _value(index, known, binds) + lanes
        shape = np.broadcast_shapes(places.shape, time.shape)
        self.left -= int(np.prod(shape))
        if self.left < 0:
            raise _NotKnownError
        times = np.broadcast_to(time, shape)
        places = np.broadcast_to(places, shape)
        size = len(self.first_store if access.store else self.last_load)
        happens = (places >= 0) & (places < size)
        for mask in masks:
            try:
                happens = happens & _value(mask, known, binds).astype(bool)
            except _NotKnownError:
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


def _mentions(expression: Any, variable: Any) -> bool:
    return any(found.same_as(variable) for found in _variables(expression))


def _variables(expression: Any) -> Iterator[Any]:
    found: list[Any] = []
    structural_walk(expression, (ir.Var, found.append), order="pre")
    return iter(found)


def _monotone(expression: Any) -> bool:
    """Whether sums, differences, products with constants, minima and maxima are all there is."""
    if isinstance(expression, tirx.IntImm | ir.Var):
        return True
    if isinstance(expression, tirx.Add | tirx.Sub | tirx.Min | tirx.Max):
        return _monotone(expression.a) and _monotone(expression.b)
    if isinstance(expression, tirx.Mul):
        constant = isinstance(expression.a, tirx.IntImm) or isinstance(expression.b, tirx.IntImm)
        return constant and _monotone(expression.a) and _monotone(expression.b)
    return isinstance(expression, tirx.Cast) and _monotone(expression.value)


_BINARY: tuple[tuple[Any, Any], ...] = (
    (tirx.Add, np.add),
    (tirx.Sub, np.subtract),
    (tirx.Mul, np.multiply),
    (tirx.Min, np.minimum),
    (tirx.Max, np.maximum),
    (tirx.FloorDiv, np.floor_divide),
    (tirx.FloorMod, np.mod),
    (tirx.LT, np.less),
    (tirx.LE, np.less_equal),
    (tirx.GT, np.greater),
    (tirx.GE, np.greater_equal),
    (tirx.EQ, np.equal),
    (tirx.NE, np.not_equal),
    (tirx.And, np.logical_and),
    (tirx.Or, np.logical_or),
)


def _value(expression: Any, known: dict[Any, Any], binds: dict[Any, Any]) -> Array:
    """An integer expression's values over all rounds of the loops around it."""
    if isinstance(expression, tirx.IntImm):
        return np.array(int(expression.value), np.int64)
    if isinstance(expression, ir.Var):
        if expression in known:
            return np.asarray(known[expression])
        if expression in binds:
            return _value(binds[expression], known, binds)
        raise _NotKnownError
    for kind, function in _BINARY:
        if isinstance(expression, kind):
            result = function(_value(expression.a, known, binds), _value(expression.b, known, binds))
            return np.asarray(result)
    if isinstance(expression, tirx.Div | tirx.Mod):
        a, b = _value(expression.a, known, binds), _value(expression.b, known, binds)
        quotient = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
        return np.asarray(quotient if isinstance(expression, tirx.Div) else a - b * quotient)
    if isinstance(expression, tirx.Cast):
        return _value(expression.value, known, binds)
    if isinstance(expression, tirx.Not):
        return np.logical_not(_value(expression.a, known, binds))
    if isinstance(expression, tirx.Select):
        parts = (expression.condition, expression.true_value, expression.false_value)
        return np.where(*(_value(part, known, binds) for part in parts))
    raise _NotKnownError
