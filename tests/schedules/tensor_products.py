"""Products on tensor cores, run from their PTX on the processor and compared with float64.

Operands are rounded beforehand as the precision stores or multiplies them, so that what is left is the
accumulation in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from deploycc.emulating import EmulatedModule, build_module
from deploycc.operators import Conv2d, Knobs, Match, Operator
from deploycc.planning.cuda.kernels import compile_device_kernels
from deploycc.relax_graph import constant, constant_value
from deploycc.scheduling import schedule_with
from deploycc.scheduling.library import Schedule, Selection, load_schedules
from deploycc.scheduling.placing import ON_DEVICE
from deploycc.scheduling.precision import STORAGE
from deploycc.scheduling.written.tensor_tiles import rounded_to_tf32
from deploycc.tuning.workload import Workload
from deploycc.tvm_api import relax
from deploycc.types import Gpu, KernelFacts, Precision, Program, Target, Task, TensorInfo
from tests.planning.cuda.chips import SM_75, SM_87, SM_90, target_of
from tests.scheduling.graphs import SCHEDULES

Array = np.ndarray[Any, Any]
CHIPS = {"sm_75": SM_75, "sm_87": SM_87, "sm_90": SM_90}
DEVICE = load_schedules([SCHEDULES], target_of(SM_90))
TENSOR_CORES = {schedule.name: schedule for schedule in DEVICE if schedule.name.endswith("tensor_cores")}
EPSILON = {"fp16": 2.0**-11, "bf16": 2.0**-8, "tf32": 2.0**-24}
"""Half a unit of what the precision stores results as."""


def rounded(values: Array, precision: str) -> Array:
    """``values`` as a factor of that precision."""
    if precision == "tf32":
        return rounded_to_tf32(values)
    stored = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}[precision]
    return values.astype(stored).astype(np.float32)


def target(chip: Gpu, precision: Precision) -> Target:
    return replace(target_of(chip), precision=precision)


@dataclass
class Candidate:
    """An operator with a bias, a residual and a ReLU, between two nodes that store as the precision says."""

    operator: Operator
    schedule: Schedule
    knobs: Knobs
    target: Target
    stored_input: bool = True

    def __str__(self) -> str:
        how = f"{self.target.precision} on {self.target.name}"
        return f"{self.schedule.name} {dict(self.knobs)} for {self.operator} in {how}"

    def compiled(self) -> tuple[Any, list[Array], list[bool]]:
        """The kernel, its operands as they are stored, and which of those are the program's own inputs."""
        workload = Workload(self.operator)
        match = self.schedule.answer(self.operator, self.target)
        assert isinstance(match, Match), match
        program = _program(workload, self.stored_input)
        selection = Selection(self.schedule, match, self.knobs, {})
        scheduled = schedule_with(program, self.target, DEVICE, {0: selection})
        (choice,) = [one for one in scheduled.choices if one.operator]
        assert choice.schedule == self.schedule.name, f"{self}: {choice}"
        function = scheduled.module[choice.task]
        call = next(
            binding.value
            for block in scheduled.module["main"].body.blocks
            for binding in block.bindings
            if binding.value.args[0].name_hint == choice.task
        )
        fields = call.args[1].fields
        given = [constant_value(field) for field in fields]
        names = iter([workload.arrays[0], residual(workload)])
        arrays = [next(names) if one is None else one for one in given]
        stored = [
            np.ascontiguousarray(array.astype(_numpy(str(parameter.ty.dtype))))
            for array, parameter in zip(arrays, function.params, strict=False)
        ]
        return function, stored, [one is None for one in given]

    def expected(self) -> Array:
        """Before it is stored, in float64."""
        workload = Workload(self.operator)
        data, weight, bias = workload.arrays
        precision = self.target.precision
        parts = {"arrays": (rounded(data, precision), rounded(weight, precision), bias)}
        made = _Given(self.operator, parts["arrays"], residual(workload), precision)
        return made.result()


@dataclass
class _Given:
    operator: Operator
    arrays: tuple[Array, Array, Array]
    residual: Array
    precision: str

    def result(self) -> Array:
        from deploycc.tuning.workload import _convolve

        data, weight, bias = (array.astype(np.float64) for array in self.arrays)
        added = self.residual if self.precision == "tf32" else rounded(self.residual, self.precision)
        operator = self.operator
        if not isinstance(operator, Conv2d):
            return np.maximum(data @ weight + bias + added, 0)
        image = data.transpose(0, 2, 3, 1) if operator.data_layout == "NCHW" else data
        product = _convolve(operator, image, weight) + bias
        if operator.out_layout == "NCHW":
            product = product.transpose(0, 3, 1, 2)
        return np.maximum(product + added, 0)


def residual(workload: Workload) -> Array:
    made = np.random.default_rng(5).standard_normal(workload.out_shape)
    return made.astype(workload.operator.dtype)


def _numpy(dtype: str) -> Any:
    return ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)


def _program(workload: Workload, stored_input: bool) -> Program:
    """x, stored, -> operator + bias + residual, stored, -> ReLU -> stored."""
    data, weight, bias = workload.arrays
    operator = workload.operator
    builder = relax.BlockBuilder()
    if isinstance(operator, Conv2d) and operator.out_layout == "NCHW":
        bias = bias.reshape(1, -1, 1, 1)
    dtype = operator.dtype
    x = relax.Var("x", relax.TensorType(data.shape, dtype))
    r = relax.Var("r", relax.TensorType(workload.out_shape, dtype))

    def kept(value: Any, bound: float) -> Any:
        """What changes nothing, as a kernel of its own."""
        return builder.emit(relax.op.maximum(value, constant(np.array(bound, dtype))))

    with builder.function("main", [x, r]):
        with builder.dataflow():
            first = kept(x, -1e3) if stored_input else x
            more = kept(r, -2e3)
            call = builder.normalize(workload._call(first, constant(weight)))
            value = builder.emit(relax.op.add(builder.emit(call), constant(bias)))
            value = builder.emit(relax.op.add(value, more))
            value = builder.emit(relax.op.maximum(value, constant(np.zeros((), dtype))))
            # Two readers each: neither is fused.
            results = [kept(value, -1.0), kept(value, -2.0), kept(more, -3e3)]
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    task = Task("operator", operator, (repr(operator),))
    inputs = (
        TensorInfo("x", dtype, data.shape),
        TensorInfo("r", dtype, workload.out_shape),
    )
    outputs = tuple(TensorInfo(name, dtype, workload.out_shape) for name in "yzr")
    return Program(builder.get(), (task,), inputs, outputs)


def run(
    candidates: Sequence[Candidate], gpu: Gpu, seed: int = 1
) -> tuple[list[str], tuple[KernelFacts, ...]]:
    """What is wrong with each candidate, and what the compiler says of all kernels."""
    made = [one.compiled() for one in candidates]
    named = [(f"kernel{number}", function) for number, (function, _, _) in enumerate(made)]
    compiled = compile_device_kernels(named, gpu, "t")
    (ptx,) = [image for image in compiled.images if image.kind == "ptx"]
    module = EmulatedModule(build_module(ptx.code.rstrip(b"\0").decode()))
    problems = []
    for (name, function), candidate, (_, stored, _) in zip(named, candidates, made, strict=True):
        buffers = list(stored)
        for parameter in list(function.params)[len(stored) :]:
            size = math.prod(int(extent) for extent in parameter.ty.shape)
            dtype = np.dtype(_numpy(str(parameter.ty.dtype)))
            buffers.append(np.full(size * dtype.itemsize, 0xFF, np.uint8).view(dtype))
        given = [buffer.reshape(-1).view(np.uint8) for buffer in buffers]
        try:
            for launch in compiled.launches[compiled.symbols[name]]:
                places = [given[number] for number in launch.arguments]
                module.launch(
                    launch.function, launch.grid, launch.block, launch.shared_bytes, places, seed=seed
                )
        except Exception as error:
            problems.append(f"{candidate}: {error}")
            continue
        result = buffers[-1 - int(function.attrs[ON_DEVICE])].astype(np.float64)
        problems.append(_compared(candidate, result))
    return [problem for problem in problems if problem], compiled.facts


def _compared(candidate: Candidate, result: Array) -> str:
    expected = candidate.expected().reshape(-1)
    operator = candidate.operator
    inner = (
        math.prod(operator.kernel) * operator.in_channels // operator.groups
        if isinstance(operator, Conv2d)
        else operator.inner
    )
    largest = float(np.abs(expected).max()) or 1.0
    roundings = 1 if operator.dtype == "float32" else 4  # a model in float16 rounds after every operator
    allowed = (
        roundings * largest * EPSILON[candidate.target.precision]
        + 2.0**-24 * 4 * math.sqrt(inner) * inner**0.5
    )
    error = float(np.abs(result - expected).max())
    assert STORAGE[candidate.target.precision]
    return "" if error <= allowed else f"{candidate}: off by {error / largest:.2e}, largest {largest:.3g}"
