"""Convolutions and matrix products of 8-bit integers: sums in int32, exact.

``x - x_zero`` of 8-bit numbers fits int16 whatever their signs are, so all of them become products of int16
with sums in int32: padding is then a plain 0, zero points are gone, and weights are stored as they are
multiplied.  Behind a quantised operator int32 becomes 8 bits as in ONNX Runtime: ``acc * (x_scale * w_scale /
y_scale)``, the bracket and the product in float32, then bounds, rounding (halves to even) and zero point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.lowering.converters.quantising import (
    Quantity,
    cast,
    combined,
    expression,
    saturated,
    stored,
    zero_point,
)
from deploycc.relax_graph import static_shape
from deploycc.tvm_api import OnnxOpConverter, relax

WIDE = "int16"


def _shaped(bb: Any, quantity: Quantity, shape: list[int]) -> Quantity:
    """``quantity`` with another shape, a scalar where it is one number."""
    own = list(quantity.shape) if isinstance(quantity, np.ndarray) else static_shape(quantity)
    shape = [] if int(np.prod(own)) == 1 else shape
    if isinstance(quantity, np.ndarray):
        return quantity.reshape(shape)
    return bb.normalize(relax.op.reshape(quantity, shape))


def _without_zero(bb: Any, data: Any, zero: Any | None, shape: list[int]) -> Any:
    """``data - zero`` as int16; ``shape`` is that of several zero points."""
    wide = cast(bb, stored(data), WIDE)
    if zero is None:
        return expression(wide)
    zeros = _shaped(bb, cast(bb, stored(zero), WIDE), shape)
    if isinstance(zeros, np.ndarray) and not zeros.any():
        return expression(wide)
    return expression(combined(bb, "subtract", wide, zeros))


def _pads(attr: Any, image: list[int], reach: list[int], strides: list[int]) -> list[int]:
    """Zeros in front along each axis, then behind."""
    rank = len(image)
    mode = attr.get("auto_pad", b"NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        return [0] * (2 * rank) if mode == "VALID" else [int(pad) for pad in attr.get("pads", [0] * 2 * rank)]
    totals = [
        max(0, (-(-extent // stride) - 1) * stride + window - extent)
        for extent, window, stride in zip(image, reach, strides, strict=True)
    ]
    small = [total // 2 for total in totals]
    large = [total - part for total, part in zip(totals, small, strict=True)]
    return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]


def convolved(bb: Any, data: Any, weights: Any, attr: Any) -> Any:
    """The convolution of an int16 image with int16 weights, one to three axes, as int32."""
    image, kernel = static_shape(data), static_shape(weights)
    rank = len(image) - 2
    strides = [int(stride) for stride in attr.get("strides", [1] * rank)]
    dilation = [int(step) for step in attr.get("dilations", [1] * rank)]
    reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, kernel[2:], strict=True)]
    pads = _pads(attr, image[2:], reach, strides)
    options: dict[str, Any] = {"groups": int(attr.get("group", 1)), "out_dtype": "int32"}
    if rank == 3:
        return bb.normalize(
            relax.op.nn.conv3d(data, weights, strides=strides, padding=pads, dilation=dilation, **options)
        )
    if rank == 1:
        data = bb.normalize(relax.op.expand_dims(data, 2))
        stored_weights = stored(weights)
        if isinstance(stored_weights, np.ndarray):
            weights = expression(stored_weights[:, :, None])
        else:
            weights = bb.normalize(relax.op.expand_dims(weights, 2))
        strides, dilation, pads = [1, *strides], [1, *dilation], [0, pads[0], 0, pads[1]]
    made = relax.op.nn.conv2d(data, weights, strides=strides, padding=pads, dilation=dilation, **options)
    made = bb.normalize(made)
    return bb.normalize(relax.op.squeeze(made, [2])) if rank == 1 else made


def requantised(bb: Any, total: Any, factor: Quantity, zero: Quantity, dtype: str) -> Any:
    """int32 ``total`` by ``factor`` in float32, rounded and saturated."""
    scaled = combined(bb, "multiply", cast(bb, total, "float32"), factor)
    return saturated(bb, scaled, zero, dtype)


def _factor(bb: Any, first: Quantity, second: Quantity, result: Quantity) -> Quantity:
    return combined(bb, "divide", combined(bb, "multiply", first, second), result)


def _float(bb: Any, given: Any) -> Quantity:
    return cast(bb, stored(given), "float32")


class ConvInteger(OnnxOpConverter):  # type: ignore[misc]
    """A convolution without its zero points, as int32."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, weights, data_zero, weights_zero = [*inputs, None, None][:4]
        channels = [-1, *[1] * (data.ty.ndim - 1)]
        wide = bb.normalize(_without_zero(bb, data, data_zero, []))
        return convolved(bb, wide, bb.normalize(_without_zero(bb, weights, weights_zero, channels)), attr)


class QLinearConv(OnnxOpConverter):  # type: ignore[misc]
    """A convolution of quantised numbers with an int32 bias; scales and zero points of weights a channel."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, data_scale, data_zero, weights, scale, weights_zero, out_scale, out_zero, bias = [
            *inputs,
            None,
        ][:9]
        rank = data.ty.ndim
        wide = bb.normalize(_without_zero(bb, data, data_zero, []))
        filters = bb.normalize(_without_zero(bb, weights, weights_zero, [-1, *[1] * (rank - 1)]))
        total = convolved(bb, wide, filters, attr)
        channels = [1, -1, *[1] * (rank - 2)]
        if bias is not None:
            value = stored(bias)
            added = value.reshape(channels) if isinstance(value, np.ndarray) else _shaped(bb, value, channels)
            total = bb.normalize(relax.op.add(total, expression(added)))
        steps = _shaped(bb, _float(bb, scale), channels)
        first, result = _shaped(bb, _float(bb, data_scale), []), _shaped(bb, _float(bb, out_scale), [])
        zero = _shaped(bb, zero_point(bb, out_zero), [])
        return requantised(bb, total, _factor(bb, first, steps, result), zero, str(out_zero.ty.dtype))


def multiplied(bb: Any, left: Any, right: Any, left_zero: Any | None, right_zero: Any | None) -> Any:
    """The int32 product of two tensors without their zero points (one, or one a row and one a column)."""
    first = bb.normalize(_without_zero(bb, left, left_zero, _rows(left_zero)))
    second = bb.normalize(_without_zero(bb, right, right_zero, _columns(right_zero)))
    return bb.normalize(relax.op.matmul(first, second, out_dtype="int32"))


def _rows(given: Any | None) -> list[int]:
    """The shape in which a parameter of the left side broadcasts: one number for each row."""
    shape = [] if given is None else static_shape(given)
    return [-1, 1] if len(shape) == 1 else shape


def _columns(given: Any | None) -> list[int]:
    return [] if given is None else static_shape(given)


class MatMulInteger(OnnxOpConverter):  # type: ignore[misc]
    """A matrix product without its zero points, as int32."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        left, right, left_zero, right_zero = [*inputs, None, None][:4]
        return multiplied(bb, left, right, left_zero, right_zero)


class QLinearMatMul(OnnxOpConverter):  # type: ignore[misc]
    """A matrix product of quantised numbers; scales one for all, or one a row and one a column."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = inputs
        total = multiplied(bb, left, right, left_zero, right_zero)
        first = _shaped(bb, _float(bb, left_scale), _rows(left_scale))
        second = _shaped(bb, _float(bb, right_scale), _columns(right_scale))
        result = _shaped(bb, _float(bb, scale), _rows(scale))
        zeros = _shaped(bb, zero_point(bb, zero), _rows(zero))
        return requantised(bb, total, _factor(bb, first, second, result), zeros, str(zero.ty.dtype))


CONVERTERS: dict[str, type] = {
    "ConvInteger": ConvInteger,
    "QLinearConv": QLinearConv,
    "MatMulInteger": MatMulInteger,
    "QLinearMatMul": QLinearMatMul,
}
