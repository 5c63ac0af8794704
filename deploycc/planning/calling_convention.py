"""From scheduled TensorIR to functions of C type ``int32_t (void *, ...)``, and what they need.

TVM 0.27 has one calling convention left, its packed one, which needs TVM's runtime.  The passes
here are its CPU pipeline with ``MakePackedAPI`` replaced by ``_make_c_api`` and without the passes
for GPUs and for entry functions (``AnnotateEntryFunc`` would emit a second copy of a lone kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.planning.memory import aligned
from deploycc.planning.sharing import SHARED, rewrite_shared
from deploycc.tvm_api import ir, s_tir, structural_map, structural_walk, tirx, transform, tvm

_CPU = 1
"""``kDLCPU`` of DLPack."""

STACK_BUFFER = 4096
"""Largest buffer in bytes that a kernel keeps on the stack."""
STACK_FUNCTION = 32768
"""Most bytes of buffers that one kernel keeps on the stack; musl's threads have 128 KiB of it."""

_PACKED_CALLS = frozenset(
    f"tirx.{name}"
    for name in ("tvm_call_packed", "tvm_call_cpacked", "tvm_call_packed_lowered", "tvm_call_cpacked_lowered")
)


@dataclass(frozen=True)
class Workspace:
    """Most bytes taken from ``TVMBackendAllocWorkspace`` at a time, each block rounded up to 64.

    ``call`` on the thread that calls the kernel, ``worker`` inside a parallel loop (there by every
    thread for itself, the calling one too).
    """

    call: int
    worker: int


def packed_callees(func: Any) -> tuple[str, ...]:
    """Names of the packed functions of TVM's runtime that a PrimFunc calls, in order, each once."""
    found: dict[str, None] = {}

    def visit(call: Any) -> None:
        if isinstance(call.op, ir.Op) and call.op.name in _PACKED_CALLS:
            callee = call.args[0]
            found[str(callee.value) if isinstance(callee, ir.StringImm) else str(callee)] = None

    structural_walk(func.body, (ir.Call, visit), order="pre")
    return tuple(found)


def to_c_functions(functions: Sequence[tuple[str, Any]], target: Any) -> Any:
    """An IRModule of lowered functions named as given, ready for LLVM code generation.

    ``functions`` are (symbol, PrimFunc) with static shapes; ``target`` is a TVM target with host.
    """
    tvm_tirx = tirx.transform
    to_llvm = [
        tvm_tirx.FP8ComputeLegalize(),
        tvm_tirx.VerifyMemory(),
        tvm_tirx.SkipAssert(),
        _make_c_api(),
        _small_buffers_on_stack(),
        tvm_tirx.FP8StorageLegalize(),
        tvm_tirx.BF16StorageLegalize(),
        tvm_tirx.LowerTVMBuiltin(),
        tvm_tirx.LowerIntrin(),
    ]
    return transform.Sequential(to_llvm)(to_loops(functions, target))


def to_loops(functions: Sequence[tuple[str, Any]], target: Any) -> Any:
    """The same before they get C's calling convention: loops over flat buffers, which are the parameters."""
    tvm_s_tir, tvm_tirx = s_tir.transform, tirx.transform
    module = tvm.IRModule({ir.GlobalVar(symbol): _stripped(func, symbol) for symbol, func in functions})
    flatten = [
        tvm_s_tir.CanonicalizeLoop(),
        tvm_s_tir.LowerInitBlock(),
        tvm_s_tir.PlanAndUpdateBufferAllocationLocation(),
        tvm_s_tir.ConvertBlocksToOpaque(),
        tvm_s_tir.CompactBufferAllocation(),
        tvm_s_tir.LowerMatchBuffer(),
        tvm_tirx.StmtSimplify(),
        tvm_s_tir.AnnotateIrregularLoop(),
        tvm_s_tir.InjectSoftwarePipeline(),
        tvm_s_tir.LowerOpaqueBlock(),
        tvm_tirx.FlattenBuffer(),
    ]
    lower_loops = [
        tvm_tirx.BF16ComputeLegalize(),
        tvm_tirx.NarrowDataType(32),
        tvm_s_tir.LoopPartition(),
        tvm_tirx.VectorizeLoop(True),
        tvm_s_tir.InjectVirtualThread(),
        tvm_s_tir.InjectDoubleBuffer(),
        tvm_tirx.StorageRewrite(),
        tvm_s_tir.HoistIfThenElse(),
        tvm_tirx.UnrollLoop(),
        tvm_s_tir.RenormalizeSplitPattern(),
        tvm_tirx.StmtSimplify(),
        tvm_tirx.RemoveNoOp(),
        tvm_s_tir.RewriteUnsafeSelect(),
        # What repeats in a written kernel are sums of indices: LLVM finds them in a tenth of the time.
        tvm_tirx.CommonSubexprElim(),
    ]
    # There is nothing to partition, hoist or remove in what was written loop by loop: the code is the same.
    lower_written = [
        tvm_tirx.StmtSimplify(),
        tvm_tirx.BF16ComputeLegalize(),
        tvm_tirx.NarrowDataType(32),
        tvm_tirx.VectorizeLoop(True),
        tvm_tirx.StorageRewrite(),
        tvm_tirx.UnrollLoop(),
        tvm_s_tir.RenormalizeSplitPattern(),
        tvm_tirx.StmtSimplify(),
        tvm_s_tir.RewriteUnsafeSelect(),
    ]
    written, others = {}, {}
    for variable, func in tvm_tirx.BindTarget(target)(module).functions.items():
        if _is_flat(func):
            written[variable] = func.with_body(func.body.block.body)
        else:
            others[variable] = func
    lowered = transform.Sequential(lower_written)(tvm.IRModule(written))
    flattened = transform.Sequential([*flatten, *lower_loops])(tvm.IRModule(others))
    return tvm.IRModule({**lowered.functions, **flattened.functions})


def _stripped(func: Any, symbol: str) -> Any:
    """``func`` under a new name with only the attributes that matter to code generation."""
    kept = {key: func.attrs[key] for key in ("tirx.noalias", "s_tir", SHARED) if key in func.attrs}
    attributes = {"global_symbol": symbol, **kept}
    bare = tirx.PrimFunc(func.params, func.body, func.ret_type, ir.make_node("ir.DictAttrs"))
    return bare.with_attrs(attributes)


def _is_flat(func: Any) -> bool:
    """Whether a PrimFunc has no block but its root and all its buffers one axis, as written ones have.

    ``FlattenBuffer`` has nothing left to do for it but would take seconds: it simplifies every index
    with all loops of the function in view.  It also makes booleans bytes, which no other pass does.
    """
    root = func.body.block if isinstance(func.body, s_tir.SBlockRealize) else None
    if root is None or len(root.iter_vars) or len(root.alloc_buffers) or len(root.match_buffers):
        return False
    others: list[Any] = []

    def allocation(statement: Any) -> None:
        if not _plain(statement.buffer):
            others.append(statement)

    rules = ((s_tir.SBlock, others.append), (tirx.AllocBuffer, allocation))
    structural_walk(root.body, rules, order="pre")
    return not others and all(map(_plain, func.params))


def _plain(buffer: Any) -> bool:
    return len(buffer.ty.shape) == 1 and str(buffer.ty.dtype) != "bool"


def _make_c_api() -> Any:
    """A pass: every buffer parameter becomes a raw pointer, the function returns 0."""

    def convert(func: Any, _module: Any, _context: Any) -> Any:
        if SHARED in func.attrs:
            func = func.with_body(rewrite_shared(func))
        parameters, declarations = [], []
        for buffer in func.params:
            pointer = tirx.Var(f"{buffer.name}_ptr", ir.PointerType(buffer.ty.dtype, "global"))
            parameters.append(pointer)
            offset = buffer.ty.elem_offset
            if isinstance(offset, tirx.Var):
                declarations.append(tirx.Bind(offset, tirx.IntImm(str(offset.ty.dtype), 0)))
            declarations.append(tirx.DeclBuffer(buffer, data=pointer))
        body = tirx.SeqStmt([*declarations, func.body])
        # The device attributes must end before the return: workspace is freed where their scope ends.
        for key, value in (("device_type", _CPU), ("device_id", 0)):
            body = tirx.AttrStmt(ir.StringImm("default"), key, tirx.IntImm("int32", value), body)
        body = tirx.SeqStmt([body, tirx.Return(tirx.IntImm("int32", 0))])
        return tirx.PrimFunc(parameters, body, ret_type=ir.PrimType("int32"), attrs=func.attrs)

    return tirx.transform.prim_func_pass(convert, opt_level=0, name="deploycc.MakeCAPI")


def _small_buffers_on_stack() -> Any:
    """A pass: buffers of up to ``STACK_BUFFER`` bytes become stack variables.

    TVM's own limit is 1 KiB, less than the accumulators of a register tile of 16 AVX-512 vectors.
    Memory from a call cannot be promoted to registers; a stack variable can.
    """

    def convert(func: Any, _module: Any, _context: Any) -> Any:
        left = STACK_FUNCTION

        def visit(stmt: Any) -> Any:
            nonlocal left
            nbytes = _constant_bytes(stmt.buffer.ty)
            if nbytes is None or nbytes > min(STACK_BUFFER, left):
                return stmt
            left -= nbytes
            kept = {**stmt.annotations, "disable_lower_builtin": tirx.IntImm("bool", 1)}
            return tirx.AllocBuffer(stmt.buffer, annotations=kept)

        return func.with_body(structural_map(func.body, (tirx.AllocBuffer, visit), order="post"))

    return tirx.transform.prim_func_pass(convert, opt_level=0, name="deploycc.SmallBuffersOnStack")


def _constant_bytes(buffer: Any) -> int | None:
    dtype = tvm.DataType(str(buffer.dtype))
    nbytes = -(-dtype.bits // 8) * dtype.lanes
    for extent in buffer.shape:
        if not isinstance(extent, tirx.IntImm):
            return None
        nbytes *= int(extent.value)
    return int(nbytes)


def workspace(func: Any) -> Workspace:
    """The worst case of a lowered PrimFunc, found by following its statements in order.

    Blocks are of constant size and are freed at the end of their scope, so the most that is live at
    one statement is exact, except that both branches of a condition are counted as alternatives.
    """
    blocks: dict[bool, list[Any]] = {False: [], True: []}
    sizes: dict[Any, int] = {}
    freed: set[Any] = set()
    most = {False: 0, True: 0}

    def take(buffer: Any, size: int, parallel: bool) -> None:
        sizes[buffer] = size
        blocks[parallel].append(buffer)
        most[parallel] = max(most[parallel], sum(sizes[block] for block in blocks[parallel]))

    def give(buffer: Any, parallel: bool) -> None:
        freed.add(buffer)
        # like the runtime's stack of blocks: room comes back when everything above is free too
        while blocks[parallel] and blocks[parallel][-1] in freed:
            blocks[parallel].pop()

    def block_of(expr: Any) -> int | None:
        if _calls(expr, "tirx.TVMBackendAllocWorkspace"):
            return aligned(int(expr.args[2].value))
        return None

    def walk(stmt: Any, parallel: bool) -> None:
        if isinstance(stmt, tirx.SeqStmt):
            for part in stmt.seq:
                walk(part, parallel)
        elif isinstance(stmt, tirx.For):
            walk(stmt.body, parallel or stmt.kind == tirx.ForKind.PARALLEL)
        elif isinstance(stmt, tirx.While | tirx.AttrStmt):
            walk(stmt.body, parallel)
        elif isinstance(stmt, tirx.DeclBuffer | tirx.Bind):
            source = stmt.data if isinstance(stmt, tirx.DeclBuffer) else stmt.value
            size = block_of(source)
            if size is not None:
                take(stmt.buffer if isinstance(stmt, tirx.DeclBuffer) else stmt.var, size, parallel)
        elif isinstance(stmt, tirx.IfThenElse):
            released = _freed(stmt.condition)
            if released is not None:
                give(released, parallel)
            walk(stmt.then_case, parallel)
            if stmt.else_case is not None:
                walk(stmt.else_case, parallel)

    walk(func.body, False)
    if blocks[False] or blocks[True]:
        raise ValueError(f"workspace of {func.attrs['global_symbol']} is not freed: {blocks}")
    return Workspace(most[False], most[True])


def _freed(condition: Any) -> Any:
    """The buffer that ``if (TVMBackendFreeWorkspace(…, buffer.data) != 0)`` frees, if it is that."""
    found = []

    def visit(call: Any) -> None:
        if _calls(call, "tirx.TVMBackendFreeWorkspace"):
            pointer = call.args[2]
            found.append(pointer.args[0] if isinstance(pointer, ir.Call) else pointer)

    structural_walk(condition, (ir.Call, visit), order="pre")
    return found[0] if found else None


def _calls(expr: Any, name: str) -> bool:
    return isinstance(expr, ir.Call) and isinstance(expr.op, ir.Op) and expr.op.name == name
