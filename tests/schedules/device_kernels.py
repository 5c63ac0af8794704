"""Kernels for a GPU against the kernels that they stand for: the former's PTX, the latter by LLVM.

``differences`` takes a program whose kernels are scheduled, draws operands for each and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deploycc.emulating import EmulatedModule, build_module
from deploycc.layout import choose_layouts
from deploycc.lowering import lower
from deploycc.operators import Skip
from deploycc.planning.cuda.kernels import compile_device_kernels
from deploycc.scheduling import choose, estimator
from deploycc.scheduling.apply import schedule_kernels
from deploycc.scheduling.identities import infinite_identities
from deploycc.scheduling.kernel import child_blocks, view
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.scheduling.placing import ON_DEVICE, runs_on_device
from deploycc.scheduling.primitives import is_reduction
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, s_tir, structural_equal, structural_map, tirx, tvm
from deploycc.types import Choice, Gpu, KernelFacts, Model, Program, Target
from tests.planning.harness import X86_64
from tests.scheduling.graphs import SCHEDULES

Array = np.ndarray[Any, Any]

CHIP = Gpu(
    name="sm_80",
    description="a chip to compile for",
    arch="sm_80",
    processors=108,
    clock_hz=1.4e9,
    threads_per_processor=2048,
    registers_per_processor=65536,
    shared_bytes_per_processor=167936,
    shared_bytes_per_block=166912,
    l2_bytes=40 << 20,
    memory_bytes=40 << 30,
    bytes_per_second=1.5e12,
    flops={"fp32": 19e12},
)
CUDA = replace(X86_64, name="cuda", gpus=(CHIP,))


@dataclass(frozen=True)
class Kernel:
    """A kernel that was compiled: what it stands for, and how it was made."""

    name: str
    definition: Any
    scheduled: Any
    choice: Choice


def scheduled_for(model: Model, target: Target = CUDA, schedules: Sequence[Any] = (SCHEDULES,)) -> Program:
    """``model`` through layout and schedules for the one chip of ``target``."""
    one = target.for_gpu(target.gpus[0])
    directories = tuple(schedules)
    program = choose_layouts(lower(model, target), one, estimator(one, directories, ()))
    return choose(program, one, directories, ())


def kernels_of(program: Program) -> list[Kernel]:
    """The kernels that run on the GPU, one of each kind."""
    found: list[Kernel] = []
    choices = {choice.task: choice for choice in program.choices}
    for variable, function in program.module.functions.items():
        name = variable.name_hint
        definition = program.unscheduled.get(name)
        if definition is None or not runs_on_device(function):
            continue
        if not any(structural_equal(definition, kernel.definition) for kernel in found):
            found.append(Kernel(name, definition, function, choices[name]))
    return found


class Compiled:
    """Kernels compiled for ``gpu`` and translated."""

    def __init__(self, kernels: Sequence[tuple[str, Any]], gpu: Gpu = CHIP) -> None:
        self.compiled = compile_device_kernels(list(kernels), gpu, "t")
        (ptx,) = [image for image in self.compiled.images if image.kind == "ptx"]
        self.module = EmulatedModule(build_module(ptx.code.rstrip(b"\0").decode()))

    @property
    def facts(self) -> tuple[KernelFacts, ...]:
        """Of all kernels."""
        return self.compiled.facts

    def launches(self, name: str) -> int:
        """How many launches a kernel is."""
        return len(self.compiled.launches[self.compiled.symbols[name]])

    def run(self, name: str, arguments: Sequence[Array], seed: int) -> None:
        """Launch a kernel with its parameters; threads run in an order that ``seed`` makes."""
        for launch in self.compiled.launches[self.compiled.symbols[name]]:
            self.module.launch(
                launch.function,
                launch.grid,
                launch.block,
                launch.shared_bytes,
                [arguments[number] for number in launch.arguments],
                seed=seed,
            )


def drawn(buffer: Any, rng: np.random.Generator, bounds: Mapping[str, int] | None = None) -> Array:
    """Contents for a parameter: indices and flags are small numbers."""
    shape, dtype = [int(extent) for extent in buffer.ty.shape], str(buffer.ty.dtype)
    if dtype.startswith("float"):
        return np.asarray(rng.standard_normal(shape), dtype)
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), dtype)
    return np.asarray(rng.integers(0, 2, shape), dtype)


def run_definition(function: Any, arguments: Sequence[Array]) -> None:
    """Run a kernel that nobody scheduled on the processor, results in place."""
    named = function.with_attr("global_symbol", "main")
    library = tvm.compile(ir.IRModule({"main": named}), target="llvm")
    device = tvm.cpu()
    tensors = [tvm.runtime.tensor(array, device) for array in arguments]
    library["main"](*tensors)
    for array, tensor in zip(arguments, tensors, strict=True):
        array[...] = tensor.numpy()


def differences(
    kernels: Sequence[Kernel], seed: int, draw: Callable[[Any, np.random.Generator], Array] = drawn
) -> dict[str, str]:
    """What is wrong with each of ``kernels``, by name; empty where all is well."""
    compiled = Compiled([(kernel.name, kernel.scheduled) for kernel in kernels])
    wrong = {}
    for number, kernel in enumerate(kernels):
        told = f"{kernel.choice.schedule} {dict(kernel.choice.knobs)}"
        rng = np.random.default_rng([seed, number])
        buffers = list(kernel.definition.params)
        arrays = [draw(buffer, rng) for buffer in buffers]
        want = [array.copy() for array in arrays]
        run_definition(kernel.definition, want)
        extra = list(kernel.scheduled.params)[len(buffers) :]
        assert len(extra) == int(kernel.scheduled.attrs[ON_DEVICE])
        got = [np.ascontiguousarray(array).copy() for array in arrays]
        passed = [
            np.full(int(np.prod([int(e) for e in b.ty.shape])), 0, str(b.ty.dtype)).view(np.uint8)
            for b in extra
        ]
        for array in passed:
            array[...] = 0xFF
        try:
            compiled.run(kernel.name, [*got, *passed], seed or 1)
        except Exception as error:
            wrong[kernel.name] = f"{told}: {error}"
            continue
        for place, (a, b) in enumerate(zip(got, want, strict=True)):
            problem = compared(a, b)
            if problem:
                wrong[kernel.name] = f"{told}: parameter {place} {problem}"
    return wrong


def compared(got: Array, want: Array, tolerance: float = 2e-5) -> str:
    """What is different, empty if nothing."""
    if not np.issubdtype(want.dtype, np.floating):
        different = int((got != want).sum())
        return f"{different} of {want.size} differ" if different else ""
    a, b = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "other elements are not a number"
    if want.dtype == np.float16:
        tolerance = 4e-3
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite & ~np.isnan(b)], b[~finite & ~np.isnan(b)]):
        return "other infinities"
    if not finite.any():
        return ""
    error = float(np.abs(a[finite] - b[finite]).max() / max(1e-30, np.abs(b[finite]).max()))
    return f"off by {error:.2e}" if not error <= tolerance else ""


def with_knobs(kernel: Kernel, schedule: Schedule, knobs: Mapping[str, int], target: Target = CUDA) -> Kernel:
    """``kernel`` as ``schedule`` makes it with ``knobs``.  Raises ``NotWritable`` as it does."""
    one = target.for_gpu(target.gpus[0])
    sch = s_tir.Schedule(ir.IRModule({"main": kernel.definition}))
    match = schedule.answer(view(kernel.name, sch), one)
    if isinstance(match, Skip):
        raise NotWritable(match.reason)
    sch = s_tir.Schedule(ir.IRModule({"main": kernel.definition}))
    made = schedule.apply(sch, match, knobs)
    made = infinite_identities(made.with_attrs({**kernel.definition.attrs, **(made.attrs or {})}))
    return Kernel(kernel.name, kernel.definition, made, Choice(kernel.name, schedule.name, dict(knobs)))


def stored_as(kernel: Kernel, dtype: str, target: Target = CUDA) -> Kernel:
    """``kernel`` with float32 parameters stored as ``dtype``: cast where loaded, rounded where stored.

    A parameter that a reduction gathers in stays as it is.
    """
    function = kernel.definition
    sch = s_tir.Schedule(ir.IRModule({"main": function}))
    gathered = [
        region.source
        for block in child_blocks(sch)
        if is_reduction(sch, block)
        for region in sch.get(block).writes
    ]
    new = {
        parameter: tirx.decl_buffer(parameter.ty.shape, dtype, parameter.name)
        for parameter in function.params
        if str(parameter.ty.dtype) == "float32" and not any(parameter.same_as(own) for own in gathered)
    }

    def replaced(node: Any) -> Any:
        if isinstance(node, ir.Var):
            return new.get(node, node)
        if isinstance(node, ir.TensorLoad):
            if not any(node.source.same_as(own) for own in new.values()):
                return node
            return tirx.Cast("float32", tirx.BufferLoad(node.source, list(node.indices)))
        if not any(node.buffer.same_as(own) for own in new.values()):
            return node
        return tirx.BufferStore(node.buffer, tirx.Cast(dtype, node.value), node.indices)

    body = structural_map(function.body, ((ir.Var, ir.TensorLoad, tirx.BufferStore), replaced), order="post")
    parameters = [new.get(parameter, parameter) for parameter in function.params]
    made = tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)
    name, one = kernel.name, target.for_gpu(target.gpus[0])
    chosen = schedule_kernels(ir.IRModule({name: made}), load_schedules([SCHEDULES], one), {}, one, {})
    ((variable, scheduled),) = chosen[0].functions.items()
    return Kernel(variable.name_hint, made, scheduled, chosen[1][0])
