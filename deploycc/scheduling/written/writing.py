"""Kernels written by hand: TensorIR with explicit vectors, the fused epilogue spliced in.

Loop transformations cannot express the kernels that odd shapes need: vectors that overlap at an edge
instead of masking it, input packed into padded rows on the way, a transposed write.  Such a schedule's
``apply`` reads the fused kernel with ``FusedKernel``, writes another one with ``Writer`` and returns it.
The kernel it started from stays the definition of what has to come out.

Everything is written with one element's indices inside loops of kind *vectorized* and unrolled by hand;
an accumulator buffer whose indices are then all constants lives in registers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploycc.scheduling.kernel import TASK_ANNOTATION, child_blocks
from deploycc.scheduling.primitives import inline_elementwise, output_blocks
from deploycc.tvm_api import ir, s_tir, structural_map, structural_walk, tirx

Index = Any
"""An ``int`` or a TensorIR expression of type int64."""


_RAMP, _INTEGER = tirx.Ramp, tirx.IntImm


class NotWritable(Exception):
    """The fused kernel has a form that a written kernel cannot stand for; the message says which."""


@dataclass(frozen=True)
class FusedKernel:
    """An operator and the elementwise program fused behind it.

    ``data`` and ``weight`` are the operator's operands (buffers; pools and resizes have no weights),
    ``accumulated`` its result before the epilogue, ``output`` the kernel's result, of the same shape.
    """

    function: Any
    data: Any
    weight: Any
    accumulated: Any
    output: Any
    variables: tuple[Any, ...]
    value: Any

    @classmethod
    def of(cls, sch: Any) -> FusedKernel:
        """Read the kernel that ``sch`` is a schedule of; raises ``NotWritable`` for another form.

        That form: the anchor block reads data, then weights; one block follows and writes the element of
        the result that it reads of the anchor's.
        """
        inline_elementwise(sch)
        blocks = [sch.get(block) for block in child_blocks(sch)]
        anchors = [block for block in blocks if TASK_ANNOTATION in block.annotations]
        if len(anchors) != 1:
            raise NotWritable("not one operator")
        anchor = anchors[0]
        reads = [region.source for region in anchor.reads]
        accumulated = anchor.writes[0].source
        reads = [buffer for buffer in reads if not buffer.same_as(accumulated)]
        if len(reads) != 2:
            raise NotWritable(f"the operator reads {len(reads)} buffers")
        data, weight = reads
        return cls.behind(sch, data, weight, anchor, [anchor])

    @classmethod
    def behind(cls, sch: Any, data: Any, weight: Any, last: Any, operator: Sequence[Any]) -> FusedKernel:
        """What follows the blocks of an ``operator``, of which ``last`` writes its result.

        Raises ``NotWritable`` where that is more than one block or reads other elements of the result.
        """
        accumulated = last.writes[0].source
        blocks = [sch.get(block) for block in child_blocks(sch)]
        others = [block for block in blocks if not any(block.same_as(own) for own in operator)]
        if not others:
            variables = tuple(v.var for v in last.iter_vars if v.iter_type == tirx.IterVar.DataPar)
            value = tirx.BufferLoad(accumulated, list(variables))
            return cls(sch.mod["main"], data, weight, accumulated, accumulated, variables, value)
        outputs = [sch.get(block) for block in output_blocks(sch)]
        (node,) = others if len(others) == 1 else (None,)
        if node is None or len(outputs) != 1 or not node.same_as(outputs[0]):
            raise NotWritable("more follows the operator than one elementwise block")
        if not isinstance(node.body, tirx.BufferStore):
            raise NotWritable("what follows the operator is not one statement")
        variables = tuple(v.var for v in node.iter_vars)
        if not _same(node.body.indices, variables):
            raise NotWritable("the result is written in another order")
        kernel = cls(sch.mod["main"], data, weight, accumulated, node.body.buffer, variables, node.body.value)
        kernel._check_reads()
        return kernel

    def _check_reads(self) -> None:
        found = []
        shapes = [[int(extent) for extent in b.ty.shape] for b in (self.accumulated, self.output)]
        same_shape = shapes[0] == shapes[1]

        def visit(load: Any) -> None:
            if load.source.same_as(self.accumulated):
                found.append(same_shape and _same(load.indices, self.variables))

        structural_walk(self.value, (ir.TensorLoad, visit), order="pre")
        if not found or not all(found):
            raise NotWritable("the epilogue reads the operator's result at another place")


def _same(indices: Sequence[Any], variables: Sequence[Any]) -> bool:
    return len(indices) == len(variables) and all(
        index.same_as(variable) or _is_zero(index)  # TVM writes 0 along an extent of 1
        for index, variable in zip(indices, variables, strict=True)
    )


def _is_zero(index: Any) -> bool:
    return isinstance(index, tirx.IntImm) and int(index) == 0


@dataclass(frozen=True)
class _Flat:
    """A buffer as memory: one axis, and how far apart neighbours along each of the original's axes lie.

    ``used_in`` has the variables of the parallel loops that it is read or written in, ``None`` outside.
    """

    buffer: Any
    strides: tuple[int, ...]
    used_in: set[Any] = field(default_factory=set, compare=False)

    @classmethod
    def of(cls, buffer: Any) -> _Flat:
        shape = [int(extent) for extent in buffer.ty.shape]
        if len(shape) == 1:
            return cls(buffer, (1,))
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        size = tirx.IntImm("int64", math.prod(shape))
        flat = tirx.decl_buffer([size], buffer.ty.dtype, buffer.name, scope=buffer.scope())
        return cls(flat, strides)

    def place(self, indices: Sequence[Index]) -> Any:
        """The element's place; of a vector (the last index a ``Ramp``) that of all its lanes."""
        constant, rest, lanes = 0, None, None
        for index, stride in zip(indices, self.strides, strict=True):
            # Types are compared, since ``isinstance`` of TVM's abstract classes is slow.
            if type(index) is _RAMP:
                lanes, index = index, index.base
            if type(index) is int or type(index) is _INTEGER:
                constant += int(index) * stride
            else:
                term = index * stride if stride != 1 else index
                rest = term if rest is None else rest + term
        place = tirx.IntImm("int64", constant)
        if rest is not None:
            place = rest + constant if constant else rest
        return place if lanes is None else tirx.Ramp(place, lanes.stride, lanes.lanes)


@dataclass(frozen=True)
class _Loop:
    """A loop that statements may still be added to."""

    variable: Any
    extent: Index
    kind: str
    body: list[Any]

    def continued_by(self, kind: str, extent: Index) -> bool:
        """Whether the statements of a neighbouring loop may go into this one."""
        return self.kind == kind == "vectorized" and isinstance(extent, int) and self.extent == extent

    def statement(self) -> Any:
        """The loop as it is now."""
        kind = getattr(tirx.ForKind, self.kind.upper())
        return tirx.For(self.variable, _int64(0), _int64(self.extent), kind, sequence(self.body))


class Writer:
    """Writes one PrimFunc statement by statement.

    ``loop`` and ``when`` are context managers; ``store`` appends.  Indices may be ``int`` or expressions.
    What is written has buffers of one axis and no block but the root: to flatten the buffers of an unrolled
    kernel TVM takes seconds, since it simplifies every index with all loops of the kernel in view.
    """

    def __init__(self, kernel: FusedKernel) -> None:
        self.kernel = kernel
        self._bodies: list[list[Any]] = [[]]
        self._buffers: list[_Flat] = []
        self._parallel: list[Any] = []
        self._flat: dict[Any, _Flat] = {}
        self._merged: dict[Any, Any] = {}

    @contextlib.contextmanager
    def loop(self, extent: Index, name: str = "i", kind: str = "serial") -> Iterator[Any]:
        """A loop from 0 to ``extent``; kinds: serial, parallel, vectorized, unrolled.  Gives its variable.

        A loop of extent 1 is none: its variable is the number 0.  Neighbouring vectorized loops of one extent
        become one, with all their statements: each is vectorized on its own, so that the order of reads and
        writes stays, and TVM takes long for every loop.
        """
        if isinstance(extent, int) and extent == 1:
            yield tirx.IntImm("int64", 0)
            return
        before = self._bodies[-1][-1] if self._bodies[-1] else None
        if isinstance(before, _Loop) and before.continued_by(kind, extent):
            self._bodies.append(before.body)
            yield before.variable
            self._bodies.pop()
            return
        loop = _Loop(tirx.Var(name, "int64"), extent, kind, [])
        self._bodies.append(loop.body)
        if kind == "parallel":
            self._parallel.append(loop.variable)
        yield loop.variable
        if kind == "parallel":
            self._parallel.pop()
        self._bodies.pop()
        if loop.body:
            self._bodies[-1].append(loop)

    @contextlib.contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """What is written within happens only if ``condition`` holds."""
        self._bodies.append([])
        yield
        body = self._bodies.pop()
        if body:
            self._bodies[-1].append(tirx.IfThenElse(condition, sequence(body), None))

    def local(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """A buffer that should live in registers: every index of it a constant or a vector's lane."""
        return self._allocate(name, shape, dtype, "local")

    def scratch(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """A buffer in memory, of each thread its own where it is used inside a parallel loop."""
        return self._allocate(name, shape, dtype, "global")

    def _allocate(self, name: str, shape: Sequence[int], dtype: str, scope: str) -> Any:
        buffer = tirx.decl_buffer(
            [tirx.IntImm("int64", extent) for extent in shape], dtype, name, scope=scope
        )
        self._buffers.append(self._flat_of(buffer))
        return buffer

    def load(self, buffer: Any, *indices: Index) -> Any:
        """The element of ``buffer`` at ``indices``."""
        flat = self._used(buffer)
        return tirx.BufferLoad(flat.buffer, [flat.place(indices)])

    def store(self, buffer: Any, value: Any, *indices: Index) -> None:
        """``buffer[indices] = value``."""
        if isinstance(value, int | float):
            value = tirx.const(value, buffer.ty.dtype)
        flat = self._used(buffer)
        self._bodies[-1].append(tirx.BufferStore(flat.buffer, value, [flat.place(indices)]))

    def store_strided(
        self,
        buffer: Any,
        place: Index,
        source: Any,
        indices: Sequence[Index],
        lanes: int,
        stride: int,
        first: int,
    ) -> None:
        """``buffer[place + i] = source[indices + first + i * stride]`` for ``lanes`` of the last axis.

        Whole vectors are read, ``lanes * stride`` elements from ``indices`` on, and shuffled: processors have
        no fast strided load.
        """
        one = tirx.IntImm("int64", 1)
        wide = self.load(source, *indices[:-1], tirx.Ramp(_int64(indices[-1]), one, lanes * stride))
        chosen = [tirx.IntImm("int32", first + lane * stride) for lane in range(lanes)]
        value = tirx.Shuffle([wide], chosen)
        self.store(buffer, value, tirx.Ramp(_int64(place), one, lanes) if lanes > 1 else place)

    def interleaved(self, buffer: Any, indices: Sequence[int], count: int, lanes: int) -> Any:
        """A ``local`` vector of ``buffer[indices, 0 ... count, i]`` for i = 0, 1 and so on."""
        one, zero = _int64(1), _int64(0)
        lines = [
            self.load(buffer, *indices, line, tirx.Ramp(zero, one, lanes) if lanes > 1 else 0)
            for line in range(count)
        ]
        chosen = [tirx.IntImm("int32", lane % count * lanes + lane // count) for lane in range(count * lanes)]
        result = self.local("interleaved", (count * lanes,))
        self.store(result, tirx.Shuffle(lines, chosen), tirx.Ramp(zero, one, count * lanes))
        return result

    def shift(self, vector: Any, lanes: int, by: int) -> None:
        """``vector[i] = vector[i + by]`` for a ``local`` vector of ``lanes``; zeros move in."""
        whole = tirx.Ramp(_int64(0), _int64(1), lanes)
        zeros = tirx.Broadcast(tirx.const(0, vector.ty.dtype), lanes)
        chosen = [lane + by if 0 <= lane + by < lanes else lanes for lane in range(lanes)]
        value = tirx.Shuffle([self.load(vector, whole), zeros], [tirx.IntImm("int32", i) for i in chosen])
        self.store(vector, value, whole)

    def prefetch(self, buffer: Any, *indices: Index) -> None:
        """Ask for the cache line of ``buffer[indices]`` ahead of its use; it may lie behind the end."""
        address = tirx.address_of(self.load(buffer, *indices))
        read, near, data = (tirx.IntImm("int32", value) for value in (0, 3, 1))
        call = tirx.call_intrin("void", "tirx.prefetch", address, read, near, data)
        self._bodies[-1].append(tirx.Evaluate(call))

    def result(self, value: Any, *indices: Index) -> None:
        """Write the kernel's result at ``indices`` (one an axis), ``value`` being the operator's."""
        places = dict(zip(self.kernel.variables, map(_int64, indices), strict=True))
        epilogue = self._epilogue(value, places, lambda load: self.load(load.source, *load.indices))
        self.store(self.kernel.output, epilogue, *indices)

    def result_of_pixels(self, value: Any, n: Index, channel: Index, pixel: Index) -> None:
        """As ``result`` for an NCHW result, its rows and columns counted as one axis."""
        row, column = tirx.Var("row", "int64"), tirx.Var("column", "int64")
        places = dict(zip(self.kernel.variables, (_int64(n), _int64(channel), row, column), strict=True))
        image = [int(extent) for extent in self.kernel.output.ty.shape[-2:]]

        def read(load: Any) -> Any:
            if [int(extent) for extent in load.source.ty.shape[-2:]] == image:
                *leading, y, x = load.indices
                if (y.same_as(row) or image[0] == 1) and (x.same_as(column) or image[1] == 1):
                    return self.load(self.merged(load.source), *leading, pixel)
            return self.load(load.source, *load.indices)

        epilogue = self._epilogue(value, places, read)
        if _uses(epilogue, row) or _uses(epilogue, column):  # a division for each element, but rare
            apart = {row: _int64(pixel) // image[1], column: _int64(pixel) % image[1]}
            epilogue = structural_map(epilogue, (ir.Var, lambda node: apart.get(node, node)), order="post")
        self.store(self.merged(self.kernel.output), epilogue, n, channel, pixel)

    def _epilogue(self, value: Any, places: dict[Any, Any], read: Callable[[Any], Any]) -> Any:
        def replace(node: Any) -> Any:
            if isinstance(node, ir.TensorLoad):
                return value if node.source.same_as(self.kernel.accumulated) else read(node)
            return places.get(node, node)

        return structural_map(self.kernel.value, ((ir.Var, ir.TensorLoad), replace), order="post")

    def merged(self, buffer: Any) -> Any:
        """The parameter ``buffer`` with its last two axes counted as one."""
        if buffer not in self._merged:
            *leading, rows, columns = (int(extent) for extent in buffer.ty.shape)
            shape = [tirx.IntImm("int64", extent) for extent in (*leading, rows * columns)]
            merged = tirx.decl_buffer(shape, buffer.ty.dtype, buffer.name)
            flat = self._flat_of(buffer)
            self._flat[merged] = _Flat(flat.buffer, (*flat.strides[:-2], 1), flat.used_in)
            self._merged[buffer] = merged
        return self._merged[buffer]

    def flat(self, buffer: Any) -> Any:
        """The parameter ``buffer`` with all its axes counted as one."""
        return self._flat_of(buffer).buffer

    def _used(self, buffer: Any) -> _Flat:
        """``buffer`` as memory, noted as read or written in the loop that is open."""
        flat = self._flat_of(buffer)
        flat.used_in.add(self._parallel[0] if self._parallel else None)
        return flat

    def _flat_of(self, buffer: Any) -> _Flat:
        if buffer not in self._flat:
            self._flat[buffer] = _Flat.of(buffer)
        return self._flat[buffer]

    def finish(self) -> Any:
        """The PrimFunc, with the parameters of the kernel it stands for in their order."""
        (body,) = self._bodies
        function = self.kernel.function
        parameters = [self.flat(parameter) for parameter in function.params]
        root = s_tir.SBlock([], [], [], "root", self._with_buffers(sequence(body)))
        realize = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root)
        return tirx.PrimFunc(parameters, realize, function.ret_type, function.attrs)

    def _with_buffers(self, statement: Any) -> Any:
        """``statement`` with its buffers: each thread's own in its parallel loop, the others in front.

        Buffers of a block would be placed by TVM, which takes seconds for a kernel with many of them.
        """
        own: dict[Any, list[Any]] = {}
        shared = []
        for flat in self._buffers:
            places = list(flat.used_in)
            if len(places) == 1 and places[0] is not None:
                own.setdefault(places[0], []).append(tirx.AllocBuffer(flat.buffer))
            elif places:
                shared.append(tirx.AllocBuffer(flat.buffer))

        def allocate(loop: Any) -> Any:
            if loop.kind != tirx.ForKind.PARALLEL or loop.loop_var not in own:
                return loop
            body = tirx.SeqStmt([*own[loop.loop_var], loop.body])
            return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)

        if own:
            statement = structural_map(statement, (tirx.For, allocate), order="post")
        return tirx.SeqStmt([*shared, statement]) if shared else statement


def row_vectors(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """Cut ``extent`` elements into vectors of at most ``lanes``: (first, lanes, how many in a row).

    Nothing is masked: what is left over is covered by a vector that overlaps the one before it, so that some
    elements are written twice, with the same value.
    """
    while lanes > extent:
        lanes //= 2
    cuts = [(0, lanes, extent // lanes)]
    if extent % lanes:
        cuts.append((extent - lanes, lanes, 1))
    return cuts


def _int64(index: Index) -> Any:
    return tirx.IntImm("int64", index) if isinstance(index, int) else index


def sequence(statements: list[Any]) -> Any:
    """One statement of several, open loops closed."""
    made = [one.statement() if isinstance(one, _Loop) else one for one in statements]
    return made[0] if len(made) == 1 else tirx.SeqStmt(made)


def _uses(node: Any, variable: Any) -> bool:
    found = False

    def visit(other: Any) -> None:
        nonlocal found
        found = found or bool(other.same_as(variable))

    structural_walk(node, (ir.Var, visit), order="pre")
    return found
