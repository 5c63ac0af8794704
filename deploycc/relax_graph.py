"""Reading a Relax graph: constants, shapes, and the operators that schedules compute themselves.

Shared by the stages that see Relax (lower, schedule).  Everything here only reads or makes leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.tvm_api import ir, relax

Array = npt.NDArray[np.generic]

FLOATS = ("float32", "float16")


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


def _dtype(expression: Any) -> str:
    return str(expression.ty.dtype)


def _conv2d(call: Any) -> Conv2d | None:
    attributes = call.attrs
    data, weight = call.args
    layouts = (attributes.data_layout, attributes.kernel_layout, attributes.out_layout)
    if layouts != ("NHWC", "HWIO", "NHWC"):
        return None
    if constant_value(weight) is None or _dtype(data) not in FLOATS or _dtype(weight) != _dtype(data):
        return None
    batch, height, width, channels = static_shape(data)
    kernel_h, kernel_w, _, out_channels = static_shape(weight)
    pads = [int(p) for p in attributes.padding]
    return Conv2d(
        batch=batch,
        height=height,
        width=width,
        in_channels=channels,
        out_channels=out_channels,
        kernel=(kernel_h, kernel_w),
        strides=(int(attributes.strides[0]), int(attributes.strides[1])),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=(int(attributes.dilation[0]), int(attributes.dilation[1])),
        groups=int(attributes.groups),
        dtype=_dtype(data),
    )


def _matmul(call: Any) -> MatMul | None:
    left, right = call.args
    if constant_value(right) is None or _dtype(left) not in FLOATS or _dtype(right) != _dtype(left):
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
