"""Ways to make one kernel wrong: functions from a PrimFunc to another one of the same interface.

Each takes the function and a generator of random numbers and returns the wrong one with a word on what was
done, or ``None`` where the function has nothing of the kind.  ``BEFORE`` change what is computed, before a
schedule is applied; ``AFTER`` change the loops that a schedule made.  A place is chosen by numbers of the
kernel alone, so that the same kernel in a smaller network is made wrong in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.tvm_api import ir, s_tir, structural_map, structural_walk, tirx

Wrong = tuple[Any, str] | None
Mutation = Callable[[Any, Random], Wrong]

OVERFLOW_BITS = (8, 12)
"""Powers of two that a value is multiplied by before it passes through float16."""


RACING_WORK = 1 << 9
"""Iterations below which one thread would be done before another has begun."""


def _found(function: Any, kind: Any) -> list[Any]:
    nodes: list[Any] = []
    structural_walk(function.body, (kind, nodes.append), order="pre")
    return nodes


def _with_statement(function: Any, old: Any, new: Any, kind: Any) -> Any:
    """``function`` with one statement or block for another one, which is known by itself."""

    def replace(node: Any) -> Any:
        return new if node.same_as(old) else node

    return function.with_body(structural_map(function.body, (kind, replace), order="pre"))


def _int(value: Any) -> int | None:
    return int(value) if isinstance(value, tirx.IntImm) else None


# ---- wrong schedules ----


def shorter_loop(function: Any, random: Random) -> Wrong:
    """A loop over tiles, rows or a reduction that ends one step early."""
    loops = [
        loop
        for loop in _found(function, tirx.For)
        if loop.kind in (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL) and (_int(loop.extent) or 0) > 1
    ]
    if not loops:
        return None
    chosen = random.choice(loops)
    extent = int(chosen.extent)

    def replace(loop: Any) -> Any:
        if not loop.loop_var.same_as(chosen.loop_var):
            return loop
        shorter = tirx.IntImm(str(loop.extent.ty.dtype), extent - 1)
        return tirx.For(loop.loop_var, loop.min, shorter, loop.kind, loop.body)

    body = structural_map(function.body, (tirx.For, replace), order="post")
    return function.with_body(body), f"loop '{chosen.loop_var.name}' of {extent} ends one step early"


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
        found.append((f"{value.op.name[5:]} of half its operand", tirx.call_intrin("float32", value.op.name, halved)))
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


def wrong_epilogue(function: Any, random: Random) -> Wrong:
    """What follows a convolution or matrix product in its kernel computes something else."""
    places = [
        (block, what, value) for block in _epilogue_blocks(function) for what, value in _wrong_values(block.body)
    ]
    if not places:
        return None
    block, what, value = random.choice(places)
    store = tirx.BufferStore(block.body.buffer, value, block.body.indices)
    changed = _with_statement(function, block.body, store, tirx.BufferStore)
    return changed, f"block '{block.name_hint}': {what}"


def overflowing(function: Any, random: Random) -> Wrong:
    """A value of the epilogue, or the operator's own sum, passes through float16, scaled."""
    blocks = _epilogue_blocks(function) or [
        block
        for block in _found(function, s_tir.SBlock)
        if isinstance(block.body, tirx.BufferStore) and not _reduces(block)
    ]
    blocks = [block for block in blocks if str(block.body.buffer.ty.dtype) == "float32"]
    if not blocks:
        return None
    block = random.choice(blocks)
    bits = random.randint(*OVERFLOW_BITS)
    scaled = block.body.value * tirx.const(2.0**bits, "float32")
    value = scaled.astype("float16").astype("float32") * tirx.const(2.0**-bits, "float32")
    store = tirx.BufferStore(block.body.buffer, value, block.body.indices)
    changed = _with_statement(function, block.body, store, tirx.BufferStore)
    return changed, f"block '{block.name_hint}' passes through float16, scaled by 2^{bits}"


# ---- wrong padding ----


def padded_before(function: Any, random: Random) -> Wrong:
    """Padding of the program itself is 1 where it should be 0."""
    del random
    pads: list[Any] = []

    def visit(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.if_then_else" and _is_float(call.args[2], 0.0):
            pads.append(call)

    structural_walk(function.body, (ir.Call, visit), order="pre")
    pads = [call for call in pads if isinstance(call.args[1], ir.TensorLoad)]
    if not pads:
        return None

    def replace(call: Any) -> Any:
        if getattr(call.op, "name", "") == "tirx.if_then_else" and _is_float(call.args[2], 0.0):
            return tirx.if_then_else(call.args[0], call.args[1], _like(call.args[2], 1.0))
        return call

    body = structural_map(function.body, (ir.Call, replace), order="post")
    return function.with_body(body), "padding is 1"


def padded_after(function: Any, random: Random) -> Wrong:
    """Zeros that a written kernel stores around the input that it packs are 1."""
    zeros: list[Any] = []
    accumulated: set[Any] = set()
    parameters = {variable for variable in function.params}

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
        return padded_before(function, random)
    buffers = {store.buffer for store in zeros}

    def replace(store: Any) -> Any:
        if store.buffer in buffers and _is_zero(store.value):
            return tirx.BufferStore(store.buffer, _one(store.value), store.indices)
        return store

    body = structural_map(function.body, (tirx.BufferStore, replace), order="post")
    return function.with_body(body), "the border of the packed input is 1"


def _is_zero(value: Any) -> bool:
    return _is_float(value, 0.0) or (isinstance(value, tirx.Broadcast) and _is_float(value.value, 0.0))


def _one(value: Any) -> Any:
    if isinstance(value, tirx.Broadcast):
        return tirx.Broadcast(_like(value.value, 1.0), value.lanes)
    return _like(value, 1.0)


# ---- wrong layout transforms ----


def transposed_wrong(function: Any, random: Random) -> Wrong:
    """A transpose that exchanges two axes of one extent, or is one row off."""
    blocks = [
        block
        for block in _found(function, s_tir.SBlock)
        if "transpose" in block.name_hint
        and isinstance(block.body, tirx.BufferStore)
        and isinstance(block.body.value, ir.TensorLoad)
    ]
    if not blocks:
        return None
    block = random.choice(blocks)
    load = block.body.value
    shape = [int(extent) for extent in load.source.ty.shape]
    axes = [axis for axis, extent in enumerate(shape) if extent > 1]
    pairs = [(a, b) for a in axes for b in axes if a < b and shape[a] == shape[b]]
    indices = list(load.indices)
    if pairs and random.random() < 0.6:
        one, other = random.choice(pairs)
        indices[one], indices[other] = indices[other], indices[one]
        what = f"axes {one} and {other} are exchanged"
    else:
        axis = random.choice(axes)
        indices[axis] = tirx.FloorMod(indices[axis] + 1, tirx.IntImm("int64", shape[axis]))
        what = f"axis {axis} is shifted by one"
    store = tirx.BufferStore(block.body.buffer, tirx.BufferLoad(load.source, indices), block.body.indices)
    return _with_statement(function, block.body, store, tirx.BufferStore), f"block '{block.name_hint}': {what}"


# ---- races ----


def racing(function: Any, random: Random) -> Wrong:
    """A scratch that every thread should have for itself is shared, or threads gather in one sum."""
    shared = _shared_scratch(function)
    return shared if shared is not None else _gathered_by_threads(function, random)


def _shared_scratch(function: Any) -> Wrong:
    moved: list[Any] = []

    def hoist(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.PARALLEL or not isinstance(loop.body, tirx.SeqStmt):
            return loop
        own = [s for s in loop.body.seq if isinstance(s, tirx.AllocBuffer) and s.buffer.scope() != "local"]
        if not own:
            return loop
        moved.extend(own)
        rest = [s for s in loop.body.seq if not any(s.same_as(one) for one in own)]
        inner = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, tirx.SeqStmt(rest))
        return tirx.SeqStmt([*own, inner])

    body = structural_map(function.body, (tirx.For, hoist), order="post")
    if not moved:
        return None
    return function.with_body(body), f"{len(moved)} scratch buffers are shared by the threads"


def _gathered_by_threads(function: Any, random: Random) -> Wrong:
    """A serial loop in which something is summed up becomes a parallel one."""
    if any(loop.kind == tirx.ForKind.PARALLEL for loop in _found(function, tirx.For)):
        return None
    loops = [
        loop
        for loop in _found(function, tirx.For)
        if loop.kind == tirx.ForKind.SERIAL
        and (_int(loop.extent) or 0) > 7
        and _sums(loop)
        and _work(loop) >= RACING_WORK
    ]
    if not loops:
        return None
    chosen = random.choice(loops)

    def replace(loop: Any) -> Any:
        if not loop.loop_var.same_as(chosen.loop_var):
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.PARALLEL, loop.body)

    body = structural_map(function.body, (tirx.For, replace), order="post")
    return function.with_body(body), f"threads sum up over '{chosen.loop_var.name}' without waiting"


def _work(loop: Any) -> int:
    """Iterations of the innermost loops in a loop, its own counted; unrolled statements are not."""
    most = 1

    def visit(inner: Any) -> None:
        nonlocal most
        most = max(most, _int(inner.extent) or 1)

    structural_walk(loop.body, (tirx.For, visit), order="pre")
    return most * int(loop.extent)


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


BEFORE: Mapping[str, Mutation] = {
    "epilogue": wrong_epilogue,
    "fp16 overflow": overflowing,
    "layout transform": transposed_wrong,
}
AFTER: Mapping[str, Mutation] = {"schedule": shorter_loop, "padding": padded_after, "race": racing}
