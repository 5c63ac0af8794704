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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.scheduling.kernel import TASK_ANNOTATION, child_blocks
from deploycc.scheduling.primitives import inline_elementwise, output_blocks
from deploycc.tvm_api import ir, s_tir, structural_map, structural_walk, tirx

Index = Any
"""An ``int`` or a TensorIR expression of type int64."""


class NotWritable(Exception):
    """The fused kernel has a form that a written kernel cannot stand for; the message says which."""


@dataclass(frozen=True)
class FusedKernel:
    """An operator and the elementwise program fused behind it.

    ``data`` and ``weight`` are the operator's operands (buffers), ``accumulated`` its result before the
    epilogue, ``output`` the kernel's result, of the same shape.
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
        others = [block for block in blocks if not block.same_as(anchor)]
        if not others:
            variables = tuple(v.var for v in anchor.iter_vars if v.iter_type == tirx.IterVar.DataPar)
            value = tirx.BufferLoad(accumulated, list(variables))
            return cls(sch.mod["main"], data, weight, accumulated, accumulated, variables, value)
        (last,) = output_blocks(sch)
        node = sch.get(last)
        if len(others) != 1 or not node.same_as(others[0]) or not isinstance(node.body, tirx.BufferStore):
            raise NotWritable("more follows the operator than one elementwise block")
        variables = tuple(v.var for v in node.iter_vars)
        if not _same(node.body.indices, variables):
            raise NotWritable("the result is written in another order")
        kernel = cls(sch.mod["main"], data, weight, accumulated, node.body.buffer, variables, node.body.value)
        kernel._check_reads()
        return kernel

    def _check_reads(self) -> None:
        found = []

        def visit(load: Any) -> None:
            if load.source.same_as(self.accumulated):
                found.append(_same(load.indices, self.variables))

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


class Writer:
    """Writes one PrimFunc statement by statement.

    ``loop`` and ``when`` are context managers; ``store`` appends.  Indices may be ``int`` or expressions.
    """

    def __init__(self, kernel: FusedKernel) -> None:
        self.kernel = kernel
        self._bodies: list[list[Any]] = [[]]
        self._buffers: list[Any] = []
        self._views: dict[Any, dict[int, Any]] = {}

    @contextlib.contextmanager
    def loop(self, extent: Index, name: str = "i", kind: str = "serial") -> Iterator[Any]:
        """A loop from 0 to ``extent``; kinds: serial, parallel, vectorized, unrolled.  Gives its variable.

        A loop of extent 1 is none: its variable is the number 0.
        """
        if isinstance(extent, int) and extent == 1:
            yield tirx.IntImm("int64", 0)
            return
        variable = tirx.Var(name, "int64")
        self._bodies.append([])
        yield variable
        body = self._bodies.pop()
        if body:
            zero, size = tirx.IntImm("int64", 0), _int64(extent)
            self._bodies[-1].append(
                tirx.For(variable, zero, size, getattr(tirx.ForKind, kind.upper()), _sequence(body))
            )

    @contextlib.contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """What is written within happens only if ``condition`` holds."""
        self._bodies.append([])
        yield
        body = self._bodies.pop()
        if body:
            self._bodies[-1].append(tirx.IfThenElse(condition, _sequence(body), None))

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
        self._buffers.append(buffer)
        return buffer

    def load(self, buffer: Any, *indices: Index) -> Any:
        """The element of ``buffer`` at ``indices``."""
        return tirx.BufferLoad(buffer, [_int64(index) for index in indices])

    def store(self, buffer: Any, value: Any, *indices: Index) -> None:
        """``buffer[indices] = value``."""
        if isinstance(value, int | float):
            value = tirx.const(value, buffer.ty.dtype)
        self._bodies[-1].append(tirx.BufferStore(buffer, value, [_int64(index) for index in indices]))

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
        self.store(self.kernel.output, self._epilogue(value, places), *indices)

    def result_of_pixels(self, value: Any, n: Index, channel: Index, pixel: Index) -> None:
        """As ``result`` for an NCHW result, its rows and columns counted as one axis."""
        row, column = tirx.Var("row", "int64"), tirx.Var("column", "int64")
        places = dict(zip(self.kernel.variables, (_int64(n), _int64(channel), row, column), strict=True))
        image = [int(extent) for extent in self.kernel.output.ty.shape[-2:]]

        def flatten(load: Any) -> Any:
            if [int(extent) for extent in load.source.ty.shape[-2:]] != image:
                return load
            *leading, y, x = load.indices
            if (y.same_as(row) or image[0] == 1) and (x.same_as(column) or image[1] == 1):
                return tirx.BufferLoad(self.merged(load.source), [*leading, _int64(pixel)])
            return load

        epilogue = structural_map(self._epilogue(value, places), (ir.TensorLoad, flatten), order="post")
        if _uses(epilogue, row) or _uses(epilogue, column):  # a division for each element, but rare
            apart = {row: _int64(pixel) // image[1], column: _int64(pixel) % image[1]}
            epilogue = structural_map(epilogue, (ir.Var, lambda node: apart.get(node, node)), order="post")
        self.store(self.merged(self.kernel.output), epilogue, n, channel, pixel)

    def _epilogue(self, value: Any, places: dict[Any, Any]) -> Any:
        def replace(node: Any) -> Any:
            if isinstance(node, ir.TensorLoad):
                return value if node.source.same_as(self.kernel.accumulated) else node
            return places.get(node, node)

        return structural_map(self.kernel.value, ((ir.Var, ir.TensorLoad), replace), order="post")

    def merged(self, buffer: Any) -> Any:
        """The parameter ``buffer`` with its last two axes counted as one."""
        return self._view(buffer, len(buffer.ty.shape) - 1)

    def flat(self, buffer: Any) -> Any:
        """The parameter ``buffer`` with all its axes counted as one."""
        return self._view(buffer, 1)

    def _view(self, buffer: Any, axes: int) -> Any:
        views = self._views.setdefault(buffer, {})
        if axes not in views:
            extents = [int(extent) for extent in buffer.ty.shape]
            shape = [*extents[: axes - 1], math.prod(extents[axes - 1 :])]
            views[axes] = tirx.decl_buffer(
                [tirx.IntImm("int64", extent) for extent in shape], buffer.ty.dtype, buffer.name
            )
        return views[axes]

    def finish(self) -> Any:
        """The PrimFunc, with the parameters of the kernel it stands for in their order."""
        (body,) = self._bodies
        function = self.kernel.function
        statement, flattest = self._with_one_view(_sequence(body))
        parameters = [flattest.get(parameter, parameter) for parameter in function.params]
        root = s_tir.SBlock([], [], [], "root", self._with_buffers(statement))
        realize = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root)
        return tirx.PrimFunc(parameters, realize, function.ret_type, function.attrs)

    def _with_one_view(self, statement: Any) -> tuple[Any, dict[Any, Any]]:
        """``statement`` with one view of each parameter, and that view: the one of the fewest axes."""
        flattest = {buffer: views[min(views)] for buffer, views in self._views.items()}
        used = _counted(statement)
        others = {
            other: flattest[buffer]
            for buffer, views in self._views.items()
            for other in (buffer, *views.values())
            if other in used and not other.same_as(flattest[buffer])
        }
        if not others:
            return statement, flattest

        def load(node: Any) -> Any:
            view = others.get(node.source)
            if view is None:
                return node
            return tirx.BufferLoad(view, _flattened(node.source, node.indices, view))

        def store(node: Any) -> Any:
            view = others.get(node.buffer)
            if view is None:
                return node
            return tirx.BufferStore(view, node.value, _flattened(node.buffer, node.indices, view))

        statement = structural_map(
            statement, ((ir.TensorLoad, load), (tirx.BufferStore, store)), order="post"
        )
        return statement, flattest

    def _with_buffers(self, statement: Any) -> Any:
        """``statement`` with its buffers: each thread's own in its parallel loop, the others in front.

        Buffers of a block would be placed by TVM, which takes seconds for a kernel with many of them.
        """
        everywhere = _counted(statement)
        inside: list[tuple[Any, list[Any]]] = []
        placed: set[Any] = set()

        def visit(loop: Any) -> None:
            if loop.kind == tirx.ForKind.PARALLEL:
                counts = _counted(loop.body)
                own = [
                    b
                    for b in self._buffers
                    if b not in placed and counts.get(b, 0) == everywhere.get(b, 0) > 0
                ]
                placed.update(own)
                inside.append((loop, own))

        structural_walk(statement, (tirx.For, visit), order="pre")

        def allocate(loop: Any) -> Any:
            own = next((own for other, own in inside if other.loop_var.same_as(loop.loop_var)), [])
            if not own:
                return loop
            body = tirx.SeqStmt([*map(tirx.AllocBuffer, own), loop.body])
            return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)

        statement = structural_map(statement, (tirx.For, allocate), order="post")
        shared = [b for b in self._buffers if b not in placed and b in everywhere]
        return tirx.SeqStmt([*map(tirx.AllocBuffer, shared), statement]) if shared else statement


def _counted(statement: Any) -> dict[Any, int]:
    """How often each buffer is read or written in ``statement``."""
    counts: dict[Any, int] = {}

    def load(node: Any) -> None:
        counts[node.source] = counts.get(node.source, 0) + 1

    def store(node: Any) -> None:
        counts[node.buffer] = counts.get(node.buffer, 0) + 1

    structural_walk(statement, ((ir.TensorLoad, load), (tirx.BufferStore, store)), order="pre")
    return counts


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


def _flattened(buffer: Any, indices: Sequence[Any], view: Any) -> list[Any]:
    """``indices`` of ``buffer`` as those of a view of it whose last axis stands for several."""
    axes = len(view.ty.shape)
    place = indices[axes - 1]
    for index, extent in zip(indices[axes:], buffer.ty.shape[axes:], strict=True):
        place = place * int(extent) + index
    return [*indices[: axes - 1], place]


def _int64(index: Index) -> Any:
    return tirx.IntImm("int64", index) if isinstance(index, int) else index


def _sequence(statements: list[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def _uses(node: Any, variable: Any) -> bool:
    found = False

    def visit(other: Any) -> None:
        nonlocal found
        found = found or bool(other.same_as(variable))

    structural_walk(node, (ir.Var, visit), order="pre")
    return found
