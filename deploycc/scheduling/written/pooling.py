"""Pools as numbers: window, padding and divisors, read from the tensor program that TVM makes of a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.scheduling.kernel import TASK_ANNOTATION, child_blocks
from deploycc.scheduling.primitives import inline_elementwise, is_reduction
from deploycc.scheduling.written.pixels import Axis
from deploycc.scheduling.written.strides import linear
from deploycc.scheduling.written.writing import FusedKernel, NotWritable
from deploycc.tvm_api import ir, tirx

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """A maximum or a sum over the windows of an image, NCHW or with ``last`` NHWC.

    A sum is divided by ``rows[y] * columns[x]`` (not at all where these are empty).
    """

    batch: int
    channels: int
    across: Axis
    along: Axis
    maximum: bool
    last: bool
    rows: tuple[float, ...] = ()
    columns: tuple[float, ...] = ()

    @property
    def identity(self) -> Any:
        """What padding is filled with."""
        return tirx.const(float("-inf") if self.maximum else 0.0, "float32")

    def gather(self, a: Any, b: Any) -> Any:
        """Both as one."""
        return tirx.max(a, b) if self.maximum else a + b


def read_pool(sch: Any) -> tuple[Pool, FusedKernel]:
    """The pool of the kernel that ``sch`` is a schedule of, and what is fused behind it.

    Raises ``NotWritable`` where the kernel is no pool of a float32 image in this form: a block that pads or
    none, one that reduces over a window, one that divides or none, elementwise ones.
    """
    blocks = child_blocks(sch)
    nodes = [sch.get(block) for block in blocks]
    found = [number for number, block in enumerate(blocks) if is_reduction(sch, block)]
    if len(found) != 1:
        raise NotWritable(f"{len(found)} blocks reduce")
    window = nodes[found[0]]
    source = _window_source(window)
    own = {found[0]: window}
    before, data = (0, 0), source.source
    pad = next((n for n, node in enumerate(nodes) if _writes(node, source.source)), None)
    if pad is not None:
        own[pad] = nodes[pad]
    divisor, last = None, window
    for number, node in enumerate(nodes):
        if _annotated(node, "pool_avg"):
            divisor, last = _divisor(node, window), node
            own[number] = node
    for number in own:
        sch.annotate(blocks[number], TASK_ANNOTATION, 0)
    inline_elementwise(sch)
    blocks = child_blocks(sch)
    names = {str(node.name_hint) for node in own.values()}
    kept = {str(sch.get(b).name_hint): sch.get(b) for b in blocks if str(sch.get(b).name_hint) in names}
    if len(kept) != len(own):
        raise NotWritable("a block of the pool was inlined")
    channels_last = _layout(window, source)
    if pad is not None:
        data, before = _padding(nodes[pad], channels_last, not _is_sum(window))
    kernel = FusedKernel.behind(sch, data, None, kept[str(last.name_hint)], list(kept.values()))
    if not any(data.same_as(parameter) for parameter in kernel.function.params):
        raise NotWritable("what is pooled is computed in the same kernel")
    return _pool(window, source, data, before, divisor, channels_last), kernel


def _annotated(node: Any, rule: str) -> bool:
    return str(node.annotations.get("schedule_rule", "")).endswith(rule)


def _writes(node: Any, buffer: Any) -> bool:
    return len(node.writes) == 1 and bool(node.writes[0].source.same_as(buffer))


def _is_sum(window: Any) -> bool:
    return isinstance(window.body.value, tirx.Add)


def _window_source(window: Any) -> Any:
    """The load of the image in the reducing block."""
    store = window.body
    kinds = [variable.iter_type == tirx.IterVar.DataPar for variable in window.iter_vars]
    if kinds != [True] * 4 + [False] * 2 or not isinstance(store, tirx.BufferStore):
        raise NotWritable("not a window over rows and columns of an image")
    if str(store.buffer.ty.dtype) != "float32" or not isinstance(store.value, tirx.Add | tirx.Max):
        raise NotWritable("not a sum or maximum of float32")
    sides = [store.value.a, store.value.b]
    if not all(isinstance(side, ir.TensorLoad) for side in sides) or not sides[0].source.same_as(
        store.buffer
    ):
        raise NotWritable("more than the elements of an image is gathered")
    return sides[1]


def _factors(window: Any, source: Any) -> list[list[int]]:
    """Of every axis read: the factors of the block's variables, then what is added."""
    variables = [variable.var for variable in window.iter_vars]
    found = [linear(index, variables) for index in source.indices]
    if len(found) != 4 or any(part is None for part in found):
        raise NotWritable("the image is not read with fixed strides")
    return [[*part[0], part[1]] for part in found if part is not None]


def _layout(window: Any, source: Any) -> bool:
    """Whether channels lie last."""
    factors = _factors(window, source)
    for last, image in ((False, (2, 3)), (True, (1, 2))):
        allowed = {axis: {axis} for axis in range(4)}
        for number, axis in enumerate(image):
            allowed[axis].add(4 + number)
        if all(
            not factor or place in allowed[axis]
            for axis, row in enumerate(factors)
            for place, factor in enumerate(row)
        ):
            return last
    raise NotWritable("windows are not of rows and columns")


def _padding(node: Any, last: bool, maximum: bool) -> tuple[Any, tuple[int, int]]:
    """The image that a block pads, and how many rows and columns it puts in front of it."""
    value = node.body.value if isinstance(node.body, tirx.BufferStore) else None
    if not str(node.name_hint).startswith("pad_temp") or not isinstance(value, ir.Call):
        raise NotWritable("the image is computed in the same kernel")
    load, filling = value.args[1], value.args[2]
    if not isinstance(load, ir.TensorLoad) or not isinstance(filling, tirx.FloatImm):
        raise NotWritable("the image is padded with something else than a number")
    if float(filling.value) > float(np.finfo("float32").min) if maximum else float(filling.value) != 0:
        raise NotWritable("the padding counts")
    variables = [variable.var for variable in node.iter_vars]
    before = []
    for axis, index in enumerate(load.indices):
        found = linear(index, variables)
        if found is None or (found[0][axis] != 1 and int(node.iter_vars[axis].dom.extent) > 1):
            raise NotWritable("padding of another form")
        before.append(-found[1])
    rows, columns = (1, 2) if last else (2, 3)
    if any(amount for axis, amount in enumerate(before) if axis not in (rows, columns)):
        raise NotWritable("channels are padded")
    return load.source, (before[rows], before[columns])


def _pool(
    window: Any, source: Any, data: Any, before: tuple[int, int], divisor: _Divisor | None, last: bool
) -> Pool:
    factors = _factors(window, source)
    extents = [int(variable.dom.extent) for variable in window.iter_vars]
    shape = [int(extent) for extent in data.ty.shape]
    axes = []
    for number, axis in enumerate((1, 2) if last else (2, 3)):
        stride, dilation = factors[axis][axis], factors[axis][4 + number]
        axes.append(
            Axis(
                shape[axis],
                extents[axis],
                extents[4 + number],
                stride if extents[axis] > 1 else 1,
                dilation if extents[4 + number] > 1 else 1,
                before[number],
            )
        )
    if any(axis.stride < 1 or axis.dilation < 1 for axis in axes):
        raise NotWritable("a window does not move")
    rows, columns = divisor.parts(last, extents) if divisor is not None else ((), ())
    channels = shape[3] if last else shape[1]
    return Pool(shape[0], channels, axes[0], axes[1], not _is_sum(window), last, rows, columns)


@dataclass(frozen=True)
class _Divisor:
    """What a sum is divided by, an expression of the ``variables`` of a block."""

    expression: Any
    variables: tuple[Any, ...]

    def parts(self, last: bool, extents: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The divisor of every row and that of every column, whose product it is."""
        y, x = (1, 2) if last else (2, 3)
        at: dict[Any, Integers] = {variable: np.zeros((1, 1), np.int64) for variable in self.variables}
        at[self.variables[y]] = np.arange(extents[y])[:, None]
        at[self.variables[x]] = np.arange(extents[x])[None, :]
        table = np.broadcast_to(_evaluated(self.expression, at), (extents[y], extents[x])).astype(float)
        rows, columns = table[:, 0], table[0] / table[0, 0]
        if not (table > 0).all() or not np.allclose(rows[:, None] * columns, table, 1e-9, 0):
            raise NotWritable("the divisor is no product of one for rows and one for columns")
        return tuple(rows.tolist()), tuple(columns.tolist())


def _divisor(node: Any, window: Any) -> _Divisor:
    value = node.body.value
    if not isinstance(value, tirx.Div) or not isinstance(value.a, ir.TensorLoad):
        raise NotWritable("an average of another form")
    variables = tuple(variable.var for variable in node.iter_vars)
    if not _writes(window, value.a.source) or not all(
        index.same_as(variable) or isinstance(index, tirx.IntImm)
        for index, variable in zip(value.a.indices, variables, strict=True)
    ):
        raise NotWritable("an average of another window")
    return _Divisor(value.b, variables)


def _evaluated(node: Any, at: Mapping[Any, Integers]) -> Any:
    """The value of an index expression, with arrays for variables."""
    if isinstance(node, tirx.IntImm):
        return np.int64(int(node))
    if isinstance(node, tirx.FloatImm):
        return float(node.value)
    if isinstance(node, ir.Var):
        return at[node]
    if isinstance(node, tirx.Cast):
        return _evaluated(node.value, at)
    operations: dict[Any, Any] = {
        tirx.Add: np.add,
        tirx.Sub: np.subtract,
        tirx.Mul: np.multiply,
        tirx.Min: np.minimum,
        tirx.Max: np.maximum,
        tirx.FloorDiv: np.floor_divide,
        tirx.Div: lambda a, b: np.trunc(a / b).astype(np.int64),
    }
    for kind, operation in operations.items():
        if isinstance(node, kind):
            return operation(_evaluated(node.a, at), _evaluated(node.b, at))
    raise NotWritable(f"a divisor with {type(node).__name__}")
