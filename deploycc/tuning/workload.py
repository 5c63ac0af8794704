"""An operator as a workload of its own: a tiny network, its inputs, and what it must compute.

The network is the operator with random weights, then a bias and a ReLU, so that the epilogue that real
networks have is fused into the kernel that is measured.  It goes through the same functions as a build:
legalise, fuse, schedule, plan.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deploycc.operators import Conv2d, Knobs, Operator, Skip
from deploycc.planning import plan, plan_chips
from deploycc.relax_graph import constant, describe, static_shape
from deploycc.scheduling import schedule_with
from deploycc.scheduling.library import Schedule, Selection
from deploycc.tuning.runner import Array, Job
from deploycc.tvm_api import relax
from deploycc.types import Program, Target, Task, TensorInfo

TOLERANCE = {"float32": 1e-4, "float16": 2e-3, "int16": 0.0}
PRECISION_TOLERANCE = {"fp32": 0.0, "tf32": 4e-3, "fp16": 4e-3, "bf16": 3e-2}
"""Largest error of a candidate as a share of the largest expected value, by the operator's type.

Products of integers are exact; float16 keeps 11 bits (half a unit is 2.4e-4 of the value), and weights that
a schedule transforms are rounded once more.  A GPU that computes in less than single precision rounds both
factors and the result, to 10 bits of mantissa (tf32, fp16) or 7 (bf16).
"""


def tolerance_of(operator: Operator, target: Target) -> float:
    """What a candidate for ``operator`` may be off by on ``target``."""
    return max(TOLERANCE[operator.dtype], PRECISION_TOLERANCE[target.precision] if target.gpus else 0.0)


class NotScheduled(Exception):
    """The selected schedule does not schedule this operator's kernel; the message says why."""


@dataclass(frozen=True)
class Workload:
    """One operator with its data.  Equal operators have equal data, whatever the process."""

    operator: Operator

    @cached_property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Input, weights (HWIO or K x N) and bias (one an output channel).

        Standard normal values; integers are differences of two 8-bit ones.
        """
        generator = np.random.default_rng(zlib.crc32(repr(self.operator).encode()))
        data, weight, channels = _shapes(self.operator)
        dtype = self.operator.dtype
        if dtype == "int16":
            shapes = ((data, "int16"), (weight, "int16"), ((channels,), "int32"))
            return tuple(generator.integers(-255, 255, shape, kind, endpoint=True) for shape, kind in shapes)  # type: ignore[return-value]
        return tuple(generator.standard_normal(shape).astype(dtype) for shape in (data, weight, (channels,)))  # type: ignore[return-value]

    @cached_property
    def flops(self) -> float:
        """Multiplications and additions of the operator's definition (not what an algorithm saves)."""
        return flops(self.operator)

    @property
    def out_dtype(self) -> str:
        """Element type of the result."""
        return "int32" if self.operator.dtype == "int16" else self.operator.dtype

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        operator = self.operator
        if not isinstance(operator, Conv2d):
            return (*operator.leading, operator.columns)
        rows, columns = operator.out_height, operator.out_width
        if operator.out_layout == "NCHW":
            return (operator.batch, operator.out_channels, rows, columns)
        return (operator.batch, rows, columns, operator.out_channels)

    def expected(self) -> Array:
        """What the network must give, computed in float64 by the definition of the operator."""
        data, weight, bias = (array.astype(np.float64) for array in self.arrays)
        operator = self.operator
        if not isinstance(operator, Conv2d):
            return np.maximum(data @ weight + bias, 0).astype(self.out_dtype)
        image = data.transpose(0, 2, 3, 1) if operator.data_layout == "NCHW" else data
        result = np.maximum(_convolve(operator, image, weight) + bias, 0).astype(self.out_dtype)
        return np.ascontiguousarray(result.transpose(0, 3, 1, 2) if operator.out_layout == "NCHW" else result)

    @cached_property
    def program(self) -> Program:
        """The network in Relax, with its one task."""
        data, weight, bias = self.arrays
        operator = self.operator
        if isinstance(operator, Conv2d) and operator.out_layout == "NCHW":
            bias = bias.reshape(1, -1, 1, 1)
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType(data.shape, operator.dtype))
        with builder.function("main", [x]):
            with builder.dataflow():
                call = builder.normalize(self._call(x, constant(weight)))
                found = describe(call)
                if found != operator:
                    raise NotScheduled(f"the graph has {found} where {operator} is wanted")
                value = builder.emit(relax.op.add(builder.emit(call), constant(bias)))
                zero = constant(np.zeros((), self.out_dtype))
                result = builder.emit_output(relax.op.maximum(value, zero))
            builder.emit_func_output(result)
        shape = tuple(static_shape(result))
        task = Task("operator", operator, (repr(operator),))
        inputs = (TensorInfo("x", operator.dtype, data.shape),)
        return Program(builder.get(), (task,), inputs, (TensorInfo("y", self.out_dtype, shape),))

    def _call(self, x: Any, weight: Any) -> Any:
        operator = self.operator
        if not isinstance(operator, Conv2d):
            return relax.op.matmul(x, weight, self.out_dtype)
        return relax.op.nn.conv2d(
            x,
            weight,
            operator.strides,
            operator.pads,
            operator.dilation,
            operator.groups,
            operator.data_layout,
            "HWIO",
            operator.out_layout,
            self.out_dtype,
        )

    def job(
        self, schedule: Schedule, knobs: Knobs, target: Target, schedules: Sequence[Schedule], expected: Array
    ) -> Job:
        """The candidate, compiled.  Raises ``NotScheduled``, and what TVM and a schedule raise."""
        match = schedule.answer(self.operator, target)
        if isinstance(match, Skip):
            raise NotScheduled(match.reason)
        selection = Selection(schedule, match, knobs, {})
        program = schedule_with(self.program, target, schedules, {0: selection})
        # A schedule that fails is passed over in a build; here that would measure another one's code.
        failures = [c.skipped[schedule.name] for c in program.choices if schedule.name in c.skipped]
        if not any(choice.schedule == schedule.name for choice in program.choices):
            raise NotScheduled("; ".join(failures) or "it got no kernel")
        made = plan_chips((program,), target)[0] if target.gpus else plan(program, target)
        return Job(made, (self.arrays[0],), (expected,), tolerance_of(self.operator, target))


def flops(operator: Operator) -> float:
    """Multiplications and additions of the operator's definition."""
    return float(operator.flops)


def _shapes(operator: Operator) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shapes of the data and the weights, and the number of output channels."""
    if not isinstance(operator, Conv2d):
        return (*operator.leading, operator.inner), (operator.inner, operator.columns), operator.columns
    image = (operator.batch, operator.height, operator.width, operator.in_channels)
    if operator.data_layout == "NCHW":
        image = (image[0], image[3], image[1], image[2])
    weight = (*operator.kernel, operator.in_channels // operator.groups, operator.out_channels)
    return image, weight, operator.out_channels


def _convolve(conv: Conv2d, image: Array, weight: Array) -> Array:
    """The convolution of an NHWC image with HWIO weights, tap by tap."""
    top, left, bottom, right = conv.pads
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows, columns = conv.out_height, conv.out_width
    groups, inner = conv.groups, conv.in_channels // conv.groups
    outer = conv.out_channels // groups
    result = np.zeros((groups, conv.batch * rows * columns, outer))
    for kh in range(conv.kernel[0]):
        for kw in range(conv.kernel[1]):
            y, x = kh * conv.dilation[0], kw * conv.dilation[1]
            part = padded[
                :,
                y : y + (rows - 1) * conv.strides[0] + 1 : conv.strides[0],
                x : x + (columns - 1) * conv.strides[1] + 1 : conv.strides[1],
            ]
            pixels = part.reshape(-1, groups, inner).transpose(1, 0, 2)
            matrices = weight[kh, kw].reshape(inner, groups, outer).transpose(1, 0, 2)
            result += pixels * matrices if inner == 1 and outer == 1 else pixels @ matrices
    image_shape = (conv.batch, rows, columns, conv.out_channels)
    return np.asarray(result.transpose(1, 0, 2).reshape(image_shape))


def space(
    schedules: Sequence[Schedule], operator: Operator, target: Target
) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Every feasible candidate by schedule: static cost in cycles and knobs, cheapest first.

    Raises ``DeployccError`` (DC460) for a schedule that fails instead of answering.
    """
    found: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for schedule in schedules:
        if schedule.compute is None:
            continue
        with schedule.blamed("match"):
            match = schedule.answer(operator, target)
        if isinstance(match, Skip):
            continue
        with schedule.blamed("cost"):
            costs = [(schedule.cost(match, knobs), dict(knobs)) for knobs in schedule.space()]
            feasible = [(float(cost), knobs) for cost, knobs in costs if cost is not None]
        if feasible:
            found[schedule.name] = sorted(feasible, key=lambda item: item[0])
    return found
