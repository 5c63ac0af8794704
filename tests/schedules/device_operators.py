"""Operators computed by GPU schedules, run from their PTX on the processor.

Many candidates are compiled as one program, since a compiler's start takes longer than a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deploycc.emulating import EmulatedModule, build_module
from deploycc.operators import Knobs, Match, Operator
from deploycc.planning.cuda.kernels import DeviceKernels, compile_device_kernels
from deploycc.relax_graph import constant_value
from deploycc.scheduling import schedule_with
from deploycc.scheduling.library import Schedule, Selection, load_schedules
from deploycc.scheduling.placing import ON_DEVICE, runs_on_device
from deploycc.tuning.workload import TOLERANCE, Workload
from deploycc.tvm_api import ir, relax, tvm
from deploycc.types import Gpu, KernelFacts, Target
from tests.planning.harness import X86_64
from tests.scheduling.graphs import SCHEDULES

Array = np.ndarray[Any, Any]


def chip(arch: str, processors: int, shared_kib: int, gbytes: float, tflops: float) -> Gpu:
    """A chip of that kind; what is not given is of no account here."""
    return Gpu(
        name=arch,
        description=arch,
        arch=arch,
        processors=processors,
        clock_hz=1.5e9,
        threads_per_processor=1024 if arch == "sm_75" else 2048 if arch != "sm_87" else 1536,
        registers_per_processor=65536,
        shared_bytes_per_processor=shared_kib << 10,
        shared_bytes_per_block=(shared_kib - (1 if shared_kib > 64 else 0)) << 10,
        l2_bytes=4 << 20,
        memory_bytes=16 << 30,
        bytes_per_second=gbytes * 1e9,
        flops={"fp32": tflops * 1e12},
    )


CHIPS = {
    "sm_75": chip("sm_75", 40, 64, 320.0, 8.1),
    "sm_87": chip("sm_87", 16, 164, 204.0, 5.3),
    "sm_90": chip("sm_90", 132, 228, 3352.0, 66.9),
}
TARGETS = {name: replace(X86_64, name=f"cuda-{name}", gpus=(gpu,)) for name, gpu in CHIPS.items()}
DEVICE = load_schedules([SCHEDULES], TARGETS["sm_90"])


@dataclass
class Candidate:
    """An operator as a schedule computes it with some knobs, with a bias and a ReLU behind it."""

    operator: Operator
    schedule: Schedule
    knobs: Knobs
    target: Target
    definition: Any = field(init=False)
    """The kernel before it was scheduled."""
    function: Any = field(init=False)
    arguments: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        match = self.schedule.answer(self.operator, self.target)
        assert isinstance(match, Match), match
        workload = Workload(self.operator)
        selection = Selection(self.schedule, match, self.knobs, {})
        program = schedule_with(workload.program, self.target, DEVICE, {0: selection})
        (choice,) = program.choices
        assert choice.schedule == self.schedule.name, f"{self}: {choice.schedule}, {choice.skipped}"
        (binding,) = program.module["main"].body.blocks[0].bindings[:1]
        self.function = program.module[choice.task]
        self.definition = program.unscheduled[choice.task]
        assert runs_on_device(self.function)
        given = [constant_value(one) for one in _operands(binding.value)]
        self.arguments = [workload.arrays[0] if one is None else one for one in given]
        self.arguments = [np.array(one, order="C") for one in self.arguments]

    def __str__(self) -> str:
        return f"{self.schedule.name} {dict(self.knobs)} for {self.operator} on {self.target.name}"

    def buffers(self) -> list[Array]:
        """The kernel's parameters: operands, the result and scratch memory, both poisoned."""
        made = list(self.arguments)
        for parameter in list(self.function.params)[len(made) :]:
            dtype = np.dtype(str(parameter.ty.dtype))
            size = math.prod(int(extent) for extent in parameter.ty.shape)
            made.append(np.full(size * dtype.itemsize, 0xFF, np.uint8).view(dtype))
        return made


def _operands(call: Any) -> list[Any]:
    """Of a call of a kernel: of ``call_tir`` the second argument is a tuple of them."""
    operands = call.args[1]
    return list(operands.fields) if isinstance(operands, relax.Tuple) else [operands]


def run(
    candidates: Sequence[Candidate], gpu: Gpu, seed: int = 1
) -> tuple[list[str], tuple[KernelFacts, ...]]:
    """What is wrong with each candidate ("" for nothing), and what the compiler says of all kernels."""
    named = [(f"kernel{number}", one.function) for number, one in enumerate(candidates)]
    compiled = compile_device_kernels(named, gpu, "t")
    (ptx,) = [image for image in compiled.images if image.kind == "ptx"]
    module = EmulatedModule(build_module(ptx.code.rstrip(b"\0").decode()))
    problems = []
    for (name, function), candidate in zip(named, candidates, strict=True):
        buffers = candidate.buffers()
        try:
            for launch in compiled.launches[compiled.symbols[name]]:
                given = [buffers[number] for number in launch.arguments]
                module.launch(
                    launch.function, launch.grid, launch.block, launch.shared_bytes, given, seed=seed
                )
        except Exception as error:
            problems.append(f"{candidate}: {error}")
            continue
        result = buffers[-1 - int(function.attrs[ON_DEVICE])]
        problems.append(_compared(candidate, result))
    return problems, compiled.facts


def run_kernel(
    compiled: DeviceKernels,
    name: str,
    function: Any,
    operator: Operator,
    pack: Callable[[Array], Array],
    rng: np.random.Generator,
) -> str:
    """What is wrong with a kernel of an operator alone whose tensors are of sixteen bits ("" for nothing)."""
    wide = replace(operator, dtype="float32")
    data, weight, _ = Workload(wide).arrays
    rounded = [
        from_stored(stored(one, operator.dtype), operator.dtype).reshape(one.shape) for one in (data, weight)
    ]
    known = Workload(wide)
    known.__dict__["arrays"] = (*rounded, np.full(known.arrays[2].shape, 1e3, np.float32))
    expected = known.expected().reshape(-1).astype(np.float64) - 1e3  # the bias keeps off the ReLU
    buffers = [stored(rounded[0], operator.dtype), stored(pack(rounded[1]), operator.dtype)]
    for parameter in list(function.params)[2:]:
        size = math.prod(int(extent) for extent in parameter.ty.shape)
        width = 2 if "16" in str(parameter.ty.dtype) else 4
        buffers.append(np.full(size * width, 0xFF, np.uint8).view(np.uint16 if width == 2 else np.uint32))
    (ptx,) = [image for image in compiled.images if image.kind == "ptx"]
    module = EmulatedModule(build_module(ptx.code.rstrip(b"\0").decode()))
    seed = int(rng.integers(1, 1 << 30))
    for launch in compiled.launches[compiled.symbols[name]]:
        given = [buffers[number] for number in launch.arguments]
        module.launch(launch.function, launch.grid, launch.block, launch.shared_bytes, given, seed=seed)
    got = from_stored(buffers[2], operator.dtype).astype(np.float64)
    error = float(np.abs(got - expected).max() / np.abs(expected).max())
    return "" if error < (2.0**-10 if operator.dtype == "float16" else 2.0**-7) else f"off by {error:.2e}"


def stored(values: Array, dtype: str) -> Array:
    """Numbers as sixteen bits each (``uint16``), rounded to ``dtype``."""
    if dtype == "float16":
        return np.ascontiguousarray(values.astype(np.float16)).view(np.uint16).reshape(-1)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).reshape(-1).copy()


def from_stored(bits: Array, dtype: str) -> Array:
    """The numbers again, as fp32."""
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def wrong_definition(candidate: Candidate) -> str:
    """What is wrong with what the kernel stands for, on the processor: other schedules may take it."""
    named = candidate.definition.with_attr("global_symbol", "main")
    library = tvm.compile(ir.IRModule({"main": named}), target="llvm")
    shape, dtype = named.params[-1].ty.shape, np.dtype(str(named.params[-1].ty.dtype))
    arrays = [*candidate.arguments, np.zeros([int(extent) for extent in shape], dtype)]
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    library["main"](*tensors)
    return _compared(candidate, tensors[-1].numpy().reshape(-1))


def _compared(candidate: Candidate, result: Array) -> str:
    expected = Workload(candidate.operator).expected().reshape(-1).astype(np.float64)
    error = float(np.abs(result.astype(np.float64) - expected).max())
    largest = max(1.0, float(np.abs(expected).max()))  # a few results can all be near 0
    tolerance = TOLERANCE[candidate.operator.dtype]
    return "" if error <= tolerance * largest else f"{candidate}: off by {error / largest:.2e}"
