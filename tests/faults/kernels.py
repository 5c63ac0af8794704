"""Ways to make one kernel wrong: functions from a PrimFunc to another one of the same interface.

Each takes the function and lists the wrong ones it could be made into.  ``BEFORE`` change what is computed,
before a schedule is applied; ``AFTER`` change the loops that a schedule made.  A change has a name that
holds in another kernel of the same operator too, where less may be fused behind it, so that a smaller network
is made wrong in the same way or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.tvm_api import ir, s_tir, structural_map, structural_walk, tirx


@dataclass(frozen=True)
class Change:
    """One way to make a kernel wrong: ``name`` tells it from others, ``block`` is the one that it is in.

    ``behind`` has the names of the blocks after that one.
    """

    name: str
    block: str
    make: Callable[[], Any]
    behind: tuple[str, ...] = ()


Changes = Callable[[Any], list[Change]]

OVERFLOW_BITS = (12, 14, 16)
"""Powers of two that a value is multiplied by before it passes through float16."""


RACING_WORK = 1 << 14
"""Iterations below which one thread would be done before another has begun."""


def _found(function: Any, kind: Any) -> list[Any]:
    nodes: list[Any] = []
    structural_walk(function.body, (kind, nodes.append), order="pre")
    return nodes


def _int(value: Any) -> int | None:
    return int(value) if isinstance(value, tirx.IntImm) else None


# ---- wrong schedules ----


def shorter_loop(function: Any) -> list[Change]:
    """A loop over tiles, rows or a reduction that ends one step early."""
    return [
        Change(
            f"loop {number} '{loop.loop_var.name}' of {int(loop.extent)} ends one step early",
            "",
            lambda loop=loop: _with_loop(function, loop, extent=int(loop.extent) - 1),
        )
        for number, loop in enumerate(_found(function, tirx.For))
        if loop.kind in (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL) and (_int(loop.extent) or 0) > 1
    ]


def _with_loop(function: Any, chosen: Any, *, extent: int | None = None, kind: Any = None) -> Any:
    """``function`` with one loop of another extent or kind."""

    def replace(loop: Any) -> Any:
        if not loop.loop_var.same_as(chosen.loop_var):
            return loop
        steps = loop.extent if extent is None else tirx.IntImm(str(loop.extent.ty.dtype), extent)
        return tirx.For(loop.loop_var, loop.min, steps, loop.kind if kind is None else kind, loop.body)

    return function.with_body(structural_map(function.body, (tirx.For, replace), order="post"))


# ---- wrong epilogues ----


def _epilogue_blocks(function: Any) -> list[Any]:
    """The blocks behind the operator of a kernel that has one."""
    blocks = [block for block in _found(function, s_tir.SBlock) if block.name_hint != "root"]
    anchors = [n for n, block in enumerate(blocks) if TASK_ANNOTATION in block.annotations]
    if not anchors:
        return []
    behind = blocks[anchors[0] + 1 :]
    return [b for b in behind if isinstance(b.body, tirx.BufferStore) and not _reduces(b)]


def _reduces(block: Any) -> bool:
    return any(v.iter_type != tirx.IterVar.DataPar for v in block.iter_vars)


def _is_float(node: Any, value: float | None = None) -> bool:
    return isinstance(node, tirx.FloatImm) and (value is None or float(node.value) == value)


def _wrong_values(store: Any) -> list[tuple[str, Any]]:
    """Other values for what an elementwise statement stores."""
    value = store.value
    found: list[tuple[str, Any]] = []
    if isinstance(value, tirx.Max) and _is_float(value.b, 0.0):
        found.append(("the rectifier is left out", value.a))
    if isinstance(value, tirx.Max | tirx.Min) and isinstance(value.b, tirx.FloatImm):
        bound = float(value.b.value)
        if bound != 0.0:
            found.append((f"the bound {bound:g} is halved", type(value)(value.a, _like(value.b, bound / 2))))
    if isinstance(value, tirx.Add):
        for this, other in ((value.a, value.b), (value.b, value.a)):
            moved = _next_channel(other)
            if moved is not None:
                found.append(("an operand is added from the next channel", tirx.Add(this, moved)))
        found.append(("an addition is a subtraction", tirx.Sub(value.a, value.b)))
    if isinstance(value, tirx.Mul):
        found.append(("a product is a sum", tirx.Add(value.a, value.b)))
    if isinstance(value, tirx.Select):
        found.append(("a selection takes its first value always", value.true_value))
    if isinstance(value, ir.Call) and getattr(value.op, "name", "") in ("tirx.sigmoid", "tirx.tanh"):
        halved = tirx.Mul(value.args[0], tirx.const(0.5, "float32"))
        found.append(
            (f"{value.op.name[5:]} of half its operand", tirx.call_intrin("float32", value.op.name, halved))
        )
    return found


def _like(number: Any, value: float) -> Any:
    return tirx.FloatImm(str(number.ty.dtype), value)


def _next_channel(load: Any) -> Any | None:
    """The load of a vector of one value a channel, one channel on (the last takes the first)."""
    if not isinstance(load, ir.TensorLoad):
        return None
    shape = [int(extent) for extent in load.source.ty.shape]
    axes = [axis for axis, extent in enumerate(shape) if extent > 1]
    if len(axes) != 1:
        return None
    indices = list(load.indices)
    indices[axes[0]] = tirx.FloorMod(indices[axes[0]] + 1, tirx.IntImm("int64", shape[axes[0]]))
    return tirx.BufferLoad(load.source, indices)


def wrong_epilogue(function: Any) -> list[Change]:
    """What follows a convolution or matrix product in its kernel computes something else."""
    blocks = _epilogue_blocks(function)
    return [
        Change(
            f"{_block_name(number, block)}: {what}",
            block.name_hint,
            lambda block=block, value=value: _with_value(function, block, value),
            tuple(other.name_hint for other in blocks[number + 1 :]),
        )
        for number, block in enumerate(blocks)
        for what, value in _wrong_values(block.body)
    ]


def _block_name(number: int, block: Any) -> str:
    """A block by its place behind the operator: names are numbered by the kernel as a whole."""
    return f"block {number} '{re.sub(r'(_intermediate.*|_?[0-9]+)$', '', block.name_hint)}'"


def _with_value(function: Any, block: Any, value: Any) -> Any:
    """``function`` in which a block stores another value."""
    store = tirx.BufferStore(block.body.buffer, value, block.body.indices)

    def replace(node: Any) -> Any:
        return store if node.same_as(block.body) else node

    return function.with_body(structural_map(function.body, (tirx.BufferStore, replace), order="pre"))


def overflowing(function: Any) -> list[Change]:
    """A value behind the operator, or one of a kernel without, passes through float16, scaled."""
    blocks = _epilogue_blocks(function) or [
        block
        for block in _found(function, s_tir.SBlock)
        if isinstance(block.body, tirx.BufferStore) and not _reduces(block)
    ]
    return [
        Change(
            f"{_block_name(number, block)} passes through float16, scaled by 2^{bits}",
            block.name_hint,
            lambda block=block, bits=bits: _with_value(
                function, block, _through_float16(block.body.value, bits)
            ),
            tuple(other.name_hint for other in blocks[number + 1 :]),
        )
        for number, block in enumerate(blocks)
        if str(block.body.buffer.ty.dtype) == "float32"
        for bits in OVERFLOW_BITS
    ]


def _through_float16(value: Any, bits: int) -> Any:
    scaled = value * tirx.const(2.0**bits, "float32")
    return scaled.astype("float16").astype("float32") * tirx.const(2.0**-bits, "float32")


# ---- wrong padding ----


def padded_by_condition(function: Any) -> list[Change]:
    """Padding that the program chooses by a condition is 1 where it should be 0."""
    pads: list[Any] = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.if_then_else" and _is_float(call.args[2], 0.0):
            pads.append(call)

    structural_walk(function.body, (ir.Call, visit), order="pre")
    pads = [call for call in pads if isinstance(call.args[1], ir.TensorLoad)]
    if not pads:
        return []

    def replace(call: Any) -> Any:
        if getattr(call.op, "name", "") == "tirx.if_then_else" and _is_float(call.args[2], 0.0):
            return tirx.if_then_else(call.args[0], call.args[1], _like(call.args[2], 1.0))
        return call

    def make() -> Any:
        return function.with_body(structural_map(function.body, (ir.Call, replace), order="post"))

    return [Change("padding is 1", "", make)]


def padded(function: Any) -> list[Change]:
    """Zeros that a written kernel stores around the input that it packs are 1."""
    zeros: list[Any] = []
    accumulated: set[Any] = set()
    parameters = set(function.params)

    def visit(store: Any) -> None:
        if store.buffer.scope() != "local" and store.buffer not in parameters and _is_zero(store.value):
            zeros.append(store)
        loads: list[Any] = []
        structural_walk(store.value, (ir.TensorLoad, loads.append), order="pre")
        if any(load.source.same_as(store.buffer) for load in loads):
            accumulated.add(store.buffer)

    structural_walk(function.body, (tirx.BufferStore, visit), order="pre")
    zeros = [store for store in zeros if store.buffer not in accumulated]
    if not zeros:
        return padded_by_condition(function)
    buffers = {store.buffer for store in zeros}

    def replace(store: Any) -> Any:
        if store.buffer in buffers and _is_zero(store.value):
            return tirx.BufferStore(store.buffer, _one(store.value), store.indices)
        return store

    def make() -> Any:
        return function.with_body(structural_map(function.body, (tirx.BufferStore, replace), order="post"))

    return [Change("padding is 1", "", make)]


def _is_zero(value: Any) -> bool:
    return _is_float(value, 0.0) or (isinstance(value, tirx.Broadcast) and _is_float(value.value, 0.0))


def _one(value: Any) -> Any:
    if isinstance(value, tirx.Broadcast):
        return tirx.Broadcast(_like(value.value, 1.0), value.lanes)
    return _like(value, 1.0)


# ---- wrong layout transforms ----


def transposed_wrong(function: Any) -> list[Change]:
    """A transpose that exchanges two axes of one extent, or is one row off."""
    found = []
    blocks = [block for block in _found(function, s_tir.SBlock) if "transpose" in block.name_hint]
    for number, block in enumerate(blocks):
        if not isinstance(block.body, tirx.BufferStore) or not isinstance(block.body.value, ir.TensorLoad):
            continue
        load = block.body.value
        shape = [int(extent) for extent in load.source.ty.shape]
        axes = [axis for axis, extent in enumerate(shape) if extent > 1]
        places: list[tuple[str, list[Any]]] = []
        for axis in axes:
            indices = list(load.indices)
            indices[axis] = tirx.FloorMod(indices[axis] + 1, tirx.IntImm("int64", shape[axis]))
            places.append((f"axis {axis} is shifted by one", indices))
        for one, other in ((a, b) for a in axes for b in axes if a < b and shape[a] == shape[b]):
            indices = list(load.indices)
            indices[one], indices[other] = indices[other], indices[one]
            places.append((f"axes {one} and {other} are exchanged", indices))
        for what, chosen in places:
            value = tirx.BufferLoad(load.source, chosen)
            found.append(
                Change(
                    f"transpose {number}: {what}",
                    block.name_hint,
                    lambda block=block, value=value: _with_value(function, block, value),
                )
            )
    return found


# ---- races ----


def racing(function: Any) -> list[Change]:
    """A scratch that every thread should have for itself is shared, or threads gather in one sum."""
    loops = _found(function, tirx.For)
    if any(_own_scratch(loop) for loop in loops):
        return [Change("scratch is shared by the threads", "", lambda: _shared_scratch(function))]
    if any(loop.kind == tirx.ForKind.PARALLEL for loop in loops):
        return []
    return [
        Change(
            f"threads sum up over loop {number} '{loop.loop_var.name}' without waiting",
            "",
            lambda loop=loop: _with_loop(function, loop, kind=tirx.ForKind.PARALLEL),
        )
        for number, loop in enumerate(loops)
        if loop.kind == tirx.ForKind.SERIAL
        and (_int(loop.extent) or 0) > 7
        and _sums(loop)
        and _work(loop) >= RACING_WORK
    ]


def _own_scratch(loop: Any) -> list[Any]:
    """The buffers in memory that every thread of a parallel loop has for itself."""
    if loop.kind != tirx.ForKind.PARALLEL or not isinstance(loop.body, tirx.SeqStmt):
        return []
    return [s for s in loop.body.seq if isinstance(s, tirx.AllocBuffer) and s.buffer.scope() != "local"]


def _shared_scratch(function: Any) -> Any:
    def hoist(loop: Any) -> Any:
        own = _own_scratch(loop)
        if not own:
            return loop
        rest = [s for s in loop.body.seq if not any(s.same_as(one) for one in own)]
        inner = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, tirx.SeqStmt(rest))
        return tirx.SeqStmt([*own, inner])

    return function.with_body(structural_map(function.body, (tirx.For, hoist), order="post"))


def _work(loop: Any) -> int:
    """Iterations of a loop and those nested in it; statements that were unrolled are not counted."""
    inner: list[Any] = []
    structural_walk(loop.body, (tirx.For, inner.append), order="pre")
    steps = int(loop.extent)
    for other in inner:
        steps = max(steps, int(loop.extent) * (_int(other.extent) or 1))
    return steps


def _sums(loop: Any) -> bool:
    """Whether a store in the loop adds to what it stores to, at a place that the loop does not move."""
    found: list[bool] = []

    def visit(store: Any) -> None:
        loads: list[Any] = []
        structural_walk(store.value, (ir.TensorLoad, loads.append), order="pre")
        if any(load.source.same_as(store.buffer) for load in loads):
            used: list[Any] = []
            for index in store.indices:
                structural_walk(index, (ir.Var, used.append), order="pre")
            found.append(not any(variable.same_as(loop.loop_var) for variable in used))

    structural_walk(loop.body, (tirx.BufferStore, visit), order="pre")
    return any(found)


BEFORE: Mapping[str, Changes] = {
    "epilogue": wrong_epilogue,
    "fp16 overflow": overflowing,
    "layout transform": transposed_wrong,
}
AFTER: Mapping[str, Changes] = {"schedule": shorter_loop, "padding": padded, "race": racing}
