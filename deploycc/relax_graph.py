"""Reading a Relax graph: constants, shapes, and the operators that schedules compute themselves.

Shared by the stages that see Relax (lower, layout, schedule).  Everything here only reads or makes leaves.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.tvm_api import ir, relax
from deploycc.types import Task

Array = npt.NDArray[np.generic]

FLOATS = ("float32", "float16")

INTEGERS = ("int16",)
"""Element types of which schedules compute products with sums in int32."""


def constant_value(expression: Any) -> Array | None:
    """The array behind a constant tensor expression, ``None`` for any other expression."""
    if not isinstance(expression, ir.GenericConst) or not isinstance(expression.ty, relax.TensorType):
        return None
    return np.asarray(expression.value.numpy())


def constant(value: Array) -> Any:
    """A constant tensor expression."""
    return relax.const(np.ascontiguousarray(value) if value.ndim else value, str(value.dtype))


def static_shape(expression: Any) -> list[int]:
    """The extents of a tensor expression of static shape."""
    return [int(extent) for extent in expression.ty.shape.values]


def describe(call: Any) -> Operator | None:
    """The operator a Relax call is an instance of, or ``None`` where no schedule computes it itself.

    Weights must be constant: they are packed when the package is built.
    """
    name = getattr(call.op, "name", "")
    if name == "relax.nn.conv2d":
        return _conv2d(call)
    if name == "relax.matmul":
        return _matmul(call)
    return None


def find_tasks(module: Any) -> tuple[Task, ...]:
    """Every distinct operator of ``main``, in program order, with the number of its uses."""
    uses: Counter[Operator] = Counter()

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call):
            operator = describe(expression)
            if operator is not None:
                uses[operator] += 1

    relax.analysis.post_order_visit(module["main"], visit)
    return tuple(
        Task(
            symbol=f"{type(operator).__name__.lower()}_{index}",
            func=operator,
            operators=(repr(operator),),
            uses=count,
        )
        for index, (operator, count) in enumerate(uses.items())
    )


def _dtype(expression: Any) -> str:
    return str(expression.ty.dtype)


def _multiplied(call: Any) -> bool:
    """Whether both operands have a type that schedules multiply, and the result the one they give then."""
    left, right = map(_dtype, call.args)
    wanted = {**{name: name for name in FLOATS}, **dict.fromkeys(INTEGERS, "int32")}
    return left == right and wanted.get(left) == _dtype(call)


def _conv2d(call: Any) -> Conv2d | None:
    attributes = call.attrs
    data, weight = call.args
    data_layout, out_layout = str(attributes.data_layout), str(attributes.out_layout)
    if attributes.kernel_layout != "HWIO" or not {data_layout, out_layout} <= {"NHWC", "NCHW"}:
        return None
    if constant_value(weight) is None or not _multiplied(call):
        return None
    extents = dict(zip(data_layout, static_shape(data), strict=True))
    kernel_h, kernel_w, _, out_channels = static_shape(weight)
    pads = [int(p) for p in attributes.padding]
    return Conv2d(
        batch=extents["N"],
        height=extents["H"],
        width=extents["W"],
        in_channels=extents["C"],
        out_channels=out_channels,
        kernel=(kernel_h, kernel_w),
        strides=(int(attributes.strides[0]), int(attributes.strides[1])),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=(int(attributes.dilation[0]), int(attributes.dilation[1])),
        groups=int(attributes.groups),
        dtype=_dtype(data),
        data_layout="NCHW" if data_layout == "NCHW" else "NHWC",
        out_layout="NCHW" if out_layout == "NCHW" else "NHWC",
    )


def _matmul(call: Any) -> MatMul | None:
    left, right = call.args
    if constant_value(right) is None or not _multiplied(call):
        return None
    right_shape, left_shape = static_shape(right), static_shape(left)
    if len(right_shape) != 2 or not left_shape:
        return None
    return MatMul(
        leading=tuple(left_shape[:-1]),
        inner=right_shape[0],
        columns=right_shape[1],
        dtype=_dtype(left),
    )
