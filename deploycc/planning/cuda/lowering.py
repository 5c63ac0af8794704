"""From TensorIR with thread bindings to CUDA C, with TVM's code generator behind our own prelude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycc.device_types import BOUND_BY_HAND
from deploycc.tvm_api import cuda_target, ir, s_tir, structural_walk, tirx, transform, tvm
from deploycc.types import Gpu, Launch

_DEVICE = Path(__file__).resolve().parent.parent.parent / "device"
PRELUDE = (
    _DEVICE / "prelude.cuh",
    *sorted(path for path in _DEVICE.glob("*.cuh") if path.name != "prelude.cuh"),
)
"""What stands before every program: what kernels call besides CUDA's own functions."""

_AXES = ("blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x", "threadIdx.y", "threadIdx.z")
_SHARED = "tirx.use_dyn_shared_memory"


@dataclass(frozen=True)
class DeviceSource:
    """CUDA C of kernels: ``text`` without the prelude, and the launches of each PrimFunc by its symbol.

    A launch's ``arguments`` are numbers of the PrimFunc's parameters.
    """

    text: str
    launches: dict[str, tuple[Launch, ...]]


def to_cuda(functions: Sequence[tuple[str, Any]], gpu: Gpu) -> DeviceSource:
    """CUDA C of ``functions`` (symbol, PrimFunc whose loops are bound to blocks and threads)."""
    target = cuda_target(gpu)
    split = _to_kernels(functions, target)
    launches = {symbol: _launches(split[symbol]) for symbol, _ in functions}
    kernels = {
        variable: function
        for variable, function in split.functions.items()
        if "tirx.kernel_launch_params" in (function.attrs or ())
    }
    finish = [
        tirx.transform.FP8StorageLegalize(),
        tirx.transform.BF16StorageLegalize(),
        tirx.transform.LowerWarpMemory(),
        tirx.transform.StmtSimplify(),
        tirx.transform.LowerIntrin(),
    ]
    module = transform.Sequential(finish)(tvm.IRModule(kernels))
    text = str(tvm.get_global_func("target.build.cuda")(module, target).inspect_source())
    # TVM's own preamble includes headers of the C++ library for CUDA, which kernels need nothing of.
    return DeviceSource(text[text.index('extern "C" __global__') :], launches)


def _to_kernels(functions: Sequence[tuple[str, Any]], target: Any) -> Any:
    """A module with a kernel for each launch, and for each of ``functions`` what launches them."""
    of_loops, plain = s_tir.transform, tirx.transform
    flatten = [
        of_loops.CanonicalizeLoop(),
        of_loops.LowerCrossThreadReduction(),
        of_loops.LowerInitBlock(),
        of_loops.PlanAndUpdateBufferAllocationLocation(),
        of_loops.ConvertBlocksToOpaque(),
        of_loops.LiftThreadBinding(),
        of_loops.CompactBufferAllocation(),
        of_loops.UnifyThreadBinding(),
        of_loops.LowerMatchBuffer(),
        plain.StmtSimplify(),
        of_loops.LowerOpaqueBlock(),
        plain.FlattenBuffer(),
        plain.BF16ComputeLegalize(),
        plain.NarrowDataType(32),
        of_loops.LoopPartition(),
    ]
    # What is written loop by loop has no blocks, and its buffers one axis.
    written_only = [
        of_loops.LowerOpaqueBlock(),
        plain.StmtSimplify(),
        plain.BF16ComputeLegalize(),
        plain.NarrowDataType(32),
    ]
    merge = [plain.StorageRewrite()]
    finish = [
        plain.VectorizeLoop(True),
        plain.UnrollLoop(),
        of_loops.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        of_loops.RewriteUnsafeSelect(),
        plain.FP8ComputeLegalize(),
        plain.VerifyMemory(),
        plain.AnnotateEntryFunc(),
    ]
    synchronize = [
        of_loops.ThreadSync("shared"),
        of_loops.ThreadSync("shared.dyn"),
        of_loops.InferFragment(),
        of_loops.LowerThreadAllreduce(),
        of_loops.MergeSharedMemoryAllocations(),
    ]
    split = [plain.SplitHostDevice()]
    written: dict[Any, Any] = {}
    others: dict[Any, Any] = {}
    bound = tirx.transform.BindTarget(target)(
        tvm.IRModule({ir.GlobalVar(symbol): _stripped(func, symbol) for symbol, func in functions})
    )
    for variable, func in bound.functions.items():
        if BOUND_BY_HAND in (func.attrs or ()):
            written[variable] = func.with_body(func.body.block.body)
        else:
            others[variable] = func
    # Loops are told to the compiler (#pragma unroll), not written out.
    with transform.PassContext(config={"tirx.UnrollLoop": {"explicit_unroll": False}}):
        by_hand = transform.Sequential([*written_only, *finish, *split])(tvm.IRModule(written))
        scheduled = [*flatten, *merge, *finish, *synchronize, *split]
        by_loops = transform.Sequential(scheduled)(tvm.IRModule(others))
    return tvm.IRModule({**by_hand.functions, **by_loops.functions})


def _stripped(func: Any, symbol: str) -> Any:
    """``func`` under a new name with only the attributes that matter to code generation."""
    kept = {
        key: func.attrs[key] for key in ("tirx.noalias", "s_tir", BOUND_BY_HAND) if key in (func.attrs or ())
    }
    bare = tirx.PrimFunc(func.params, func.body, func.ret_type, ir.make_node("ir.DictAttrs"))
    return bare.with_attrs({"global_symbol": symbol, **kept})


def _launches(host: Any) -> tuple[Launch, ...]:
    """The launches that a function of the host makes, in order."""
    parameters = {parameter: number for number, parameter in enumerate(host.params)}
    found: list[Launch] = []

    def declare(declared: Any) -> None:
        parameters[declared.buffer] = _parameter(declared.data, parameters)

    def visit(call: Any) -> None:
        if isinstance(call.op, ir.Op) and call.op.name == "tirx.call_ffi_kernel":
            found.append(_launch(call, parameters))

    structural_walk(host.body, (tirx.DeclBuffer, declare), order="pre")
    for statement, times in _repeated(host.body):
        before = len(found)
        structural_walk(statement, (ir.Call, visit), order="pre")
        found.extend(found[before:] * (times - 1))
    return tuple(found)


def _repeated(body: Any) -> list[tuple[Any, int]]:
    """The statements of a host function in order, and how often each runs."""
    if isinstance(body, tirx.SeqStmt):
        return [pair for statement in body.seq for pair in _repeated(statement)]
    if isinstance(body, tirx.AttrStmt):
        return _repeated(body.body)
    if isinstance(body, tirx.For):
        return [(body.body, int(body.extent))]
    return [(body, 1)]


def _launch(call: Any, parameters: dict[Any, int]) -> Launch:
    names = [str(name) for name in call.attrs["launch_params"]]
    function, *rest = call.args
    pointers, sizes = rest[: len(rest) - len(names)], rest[len(rest) - len(names) :]
    extents = dict(zip(names, (int(size) for size in sizes), strict=True))
    unknown = set(extents) - {*_AXES, _SHARED}
    if unknown:
        raise ValueError(f"a kernel is launched with {unknown}")
    sizes_of = [extents.get(axis, 1) for axis in _AXES]
    return Launch(
        function=str(function.value),
        grid=(sizes_of[0], sizes_of[1], sizes_of[2]),
        block=(sizes_of[3], sizes_of[4], sizes_of[5]),
        shared_bytes=extents.get(_SHARED, 0),
        arguments=tuple(_parameter(pointer, parameters) for pointer in pointers),
    )


def _parameter(pointer: Any, parameters: dict[Any, int]) -> int:
    """The number of the parameter whose memory ``pointer`` (``buffer_data`` of a buffer) is."""
    buffer = pointer.args[0] if isinstance(pointer, ir.Call) else pointer
    if buffer not in parameters:
        raise ValueError(f"a kernel gets {pointer}, which is no parameter of its function")
    return parameters[buffer]
