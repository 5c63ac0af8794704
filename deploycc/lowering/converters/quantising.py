"""Between floats and integers: ``QuantizeLinear``, ``DequantizeLinear`` and ``DynamicQuantizeLinear``.

The arithmetic is ONNX Runtime's, to the bit: everything in float32, a division (not a product with the
reciprocal) to quantise, bounds before rounding, halves to the even neighbour, then the zero point as an
integer.  TVM's own converters have no blocks, and another integer for NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.relax_graph import constant, constant_value, static_shape
from deploycc.tvm_api import OnnxOpConverter, relax

_OUTPUT_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}
"""The ONNX element types that ``output_dtype`` may name, as far as there are arrays of them."""

Quantity = Any
"""A scale, a zero point or a bound: an array where it is stored, else a tensor expression."""


def stored(expression: Any) -> Quantity:
    """The array of a constant, the expression itself where it is none."""
    value = constant_value(expression)
    return expression if value is None else value


def expression(quantity: Quantity) -> Any:
    """The tensor expression of a quantity."""
    return constant(np.asarray(quantity)) if isinstance(quantity, np.ndarray | np.generic) else quantity


def cast(bb: Any, quantity: Quantity, dtype: str) -> Quantity:
    """``quantity`` in another type."""
    if isinstance(quantity, np.ndarray | np.generic):
        return np.asarray(quantity).astype(dtype)
    if str(quantity.ty.dtype) == dtype:
        return quantity
    return bb.normalize(relax.op.astype(quantity, dtype))


def combined(bb: Any, operation: str, left: Quantity, right: Quantity) -> Quantity:
    """``add``, ``subtract``, ``multiply`` or ``divide`` of two quantities of one type; arrays by numpy."""
    if isinstance(left, np.ndarray | np.generic) and isinstance(right, np.ndarray | np.generic):
        with np.errstate(all="ignore"):
            return np.asarray(getattr(np, operation)(left, right))
    return bb.normalize(getattr(relax.op, operation)(expression(left), expression(right)))


def placed(bb: Any, quantity: Quantity, shape: list[int], axis: int, block: int = 0) -> Quantity:
    """A scale or zero point so that it broadcasts against a tensor of ``shape``.

    One number becomes a scalar, one an element of ``axis`` a tensor of full rank, and one for each
    ``block`` elements of ``axis`` is repeated as often.
    """
    array = isinstance(quantity, np.ndarray)
    own = list(quantity.shape) if array else static_shape(quantity)
    if block:
        extent = shape[axis % len(shape)]
        axis %= len(shape)
        if array:
            return np.repeat(quantity, block, axis).take(np.arange(extent), axis)
        repeated = bb.normalize(relax.op.repeat(quantity, block, axis))
        return bb.normalize(relax.op.strided_slice(repeated, [axis], [0], [extent]))
    if int(np.prod(own)) == 1:
        target: list[int] = []
    else:
        target = [1] * len(shape)
        target[axis % len(shape)] = own[0]
    return quantity.reshape(target) if array else bb.normalize(relax.op.reshape(quantity, target))


def saturated(bb: Any, value: Any, zero: Quantity, dtype: str) -> Any:
    """float32 ``value`` rounded (halves to even), with the int32 ``zero`` added, as ``dtype``, saturated.

    NaN becomes the least number, as in ONNX Runtime's x86 kernels.
    """
    bounds = np.iinfo(dtype)
    for bound, limit in ((bounds.min, relax.op.maximum), (bounds.max, relax.op.minimum)):
        edge = cast(bb, combined(bb, "subtract", np.asarray(bound, np.int32), zero), "float32")
        value = bb.normalize(limit(value, expression(edge)))
    whole = bb.normalize(relax.op.astype(bb.normalize(relax.op.round(value)), "int32"))
    if not isinstance(zero, np.ndarray) or zero.any():
        whole = bb.normalize(relax.op.add(whole, expression(zero)))
    return bb.normalize(relax.op.astype(whole, dtype))


def zero_point(bb: Any, given: Any | None) -> Quantity:
    """A zero point as int32, 0 where it is left out."""
    return np.zeros((), np.int32) if given is None else cast(bb, stored(given), "int32")


class QuantizeLinear(OnnxOpConverter):  # type: ignore[misc]
    """``saturate(round(x / scale) + zero)``, one scale for a tensor, an element of an axis or a block."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        given = [*inputs, None][:3]
        data, scale, zero = given
        shape, axis, block = static_shape(data), int(attr.get("axis", 1)), int(attr.get("block_size", 0))
        dtype = _OUTPUT_TYPES.get(int(attr.get("output_dtype", 0)), "uint8")
        dtype = dtype if zero is None else str(zero.ty.dtype)
        step = placed(bb, cast(bb, stored(scale), "float32"), shape, axis, block)
        zeros = placed(bb, zero_point(bb, zero), shape, axis, block if zero is not None else 0)
        return saturated(bb, combined(bb, "divide", cast(bb, data, "float32"), step), zeros, dtype)


class DequantizeLinear(OnnxOpConverter):  # type: ignore[misc]
    """``(x - zero) * scale``, the product in float32 also where the scale is float16."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, scale, zero = [*inputs, None][:3]
        shape, axis, block = static_shape(data), int(attr.get("axis", 1)), int(attr.get("block_size", 0))
        dtype = _FLOATS.get(int(attr.get("output_dtype", 0)), str(scale.ty.dtype))
        step = placed(bb, cast(bb, stored(scale), "float32"), shape, axis, block)
        whole = cast(bb, data, "int32")
        if zero is not None:
            zeros = placed(bb, zero_point(bb, zero), shape, axis, block)
            if not isinstance(zeros, np.ndarray) or zeros.any():
                whole = combined(bb, "subtract", whole, zeros)
        return cast(bb, combined(bb, "multiply", cast(bb, whole, "float32"), step), dtype)


_FLOATS = {1: "float32", 10: "float16"}


class DynamicQuantizeLinear(OnnxOpConverter):  # type: ignore[misc]
    """A scale and a zero point from the tensor's own least and greatest element, both widened to hold 0."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data = inputs[0]
        nothing = np.zeros((), np.float32)
        low, high = (
            bb.normalize(limit(bb.normalize(gather(data)), expression(nothing)))
            for gather, limit in ((relax.op.min, relax.op.minimum), (relax.op.max, relax.op.maximum))
        )
        reach = combined(bb, "subtract", high, low)
        step = combined(bb, "divide", reach, np.asarray(255, np.float32))
        flat = bb.normalize(relax.op.equal(reach, expression(nothing)))
        step = bb.emit(relax.op.where(flat, expression(np.ones((), np.float32)), step))
        start = combined(bb, "divide", combined(bb, "subtract", nothing, low), step)
        zero = bb.emit(saturated(bb, start, np.zeros((), np.int32), "uint8"))
        quotient = combined(bb, "divide", data, step)
        result = saturated(bb, quotient, cast(bb, zero, "int32"), "uint8")
        return relax.Tuple([result, step, zero])


CONVERTERS: dict[str, type] = {
    "QuantizeLinear": QuantizeLinear,
    "DequantizeLinear": DequantizeLinear,
    "DynamicQuantizeLinear": DynamicQuantizeLinear,
}
