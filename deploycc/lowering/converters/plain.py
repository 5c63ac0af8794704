"""Arithmetic, padding and normalisation that TVM's importer lowers badly.

* ``Max``, ``Min`` and ``Sum`` of several inputs become a stack and a reduction there, which copies every
  operand; ``Clip`` and ``Pad`` become opaque kernels that the layout and fusion passes cannot see through.
* ``InstanceNormalization`` becomes a mean, a variance that computes the mean anew, and elementwise steps:
  three kernels that each read the whole image.
* ``BitShift`` becomes the machine's shift, which is undefined by the type's width and more.
* ``PRelu`` with one slope for all becomes a kernel of its own, because its operands have different ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from deploycc.relax_graph import constant_value
from deploycc.tvm_api import OnnxOpConverter, importer_converter, relax


def _pairwise(operator: Callable[[Any, Any], Any]) -> type:
    class Pairwise(OnnxOpConverter):  # type: ignore[misc]
        """The operator applied pairwise, each pair broadcasting as ONNX's multidirectional rule says."""

        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            return reduce(lambda left, right: bb.normalize(operator(left, right)), list(inputs))

    return Pairwise


class Clip(OnnxOpConverter):  # type: ignore[misc]
    """``min(max(x, lower), upper)``; an absent or NaN bound does not bound (as ONNX Runtime has it)."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        bounds = [attr.get("min"), attr.get("max")]
        dtype = str(inputs[0].ty.dtype)
        constants = [
            None if bound is None else relax.const(np.asarray(bound, dtype), dtype) for bound in bounds
        ]
        return cls._clip(bb, inputs[0], constants[0], constants[1])

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        lower, upper = inputs[1], inputs[2]
        return cls._clip(bb, inputs[0], lower, upper)

    @classmethod
    def _clip(cls, bb: Any, data: Any, lower: Any, upper: Any) -> Any:
        result = data
        for bound, operator in ((lower, relax.op.maximum), (upper, relax.op.minimum)):
            if bound is None:
                continue
            value = constant_value(bound)
            if value is not None and value.dtype.kind == "f" and bool(np.isnan(value).any()):
                continue
            if value is not None and value.size == 1:
                bound = relax.const(value.reshape(()), str(value.dtype))
            result = bb.normalize(operator(result, bound))
        return result


class BitShift(importer_converter("BitShift")):  # type: ignore[misc]
    """Shifts by any amount: one that is negative, or the type's width and more, leaves only the sign.

    The machine's own shift has no defined result there; ONNX (opset 28) says -1 for a negative number
    shifted to the right and 0 for the rest.
    """

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, amount = inputs
        if not isinstance(data.ty, relax.TensorType):
            return super()._impl_v11(bb, inputs, attr, params)  # arithmetic on extents
        right = attr["direction"] == b"RIGHT"
        shift = relax.op.right_shift if right else relax.op.left_shift
        dtype = str(data.ty.dtype)
        last = np.iinfo(dtype).bits - 1
        known = constant_value(amount)
        if known is not None and bool((np.greater_equal(known, 0) & np.less_equal(known, last)).all()):
            return shift(data, amount)
        most, zero = (relax.const(np.asarray(value, dtype), dtype) for value in (last, 0))
        inside = bb.normalize(relax.op.less_equal(amount, most))
        if dtype.startswith("int"):
            inside = bb.normalize(relax.op.logical_and(inside, relax.op.greater_equal(amount, zero)))
        shifted = bb.normalize(shift(data, bb.normalize(relax.op.where(inside, amount, most))))
        if right and dtype.startswith("int"):
            return shifted
        return relax.op.where(inside, shifted, relax.const(np.asarray(0, dtype), dtype))


class Mod(importer_converter("Mod")):  # type: ignore[misc]
    """On floats with ``fmod`` 0 the remainder with the divisor's sign, from that with the dividend's.

    TVM computes ``x - floor(x / y) * y``, which is NaN for an infinite divisor and loses all digits
    where the quotient is large.
    """

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, divisor = inputs
        kind = data.ty
        if attr.get("fmod", 0) or not isinstance(kind, relax.TensorType) or "float" not in str(kind.dtype):
            return super()._impl_v10(bb, inputs, attr, params)
        zero = relax.const(np.zeros((), str(kind.dtype)), str(kind.dtype))
        rest = bb.normalize(relax.op.mod(data, divisor))
        below = [bb.normalize(relax.op.less(value, zero)) for value in (rest, divisor)]
        across = bb.normalize(relax.op.logical_xor(*below))
        across = bb.normalize(relax.op.logical_and(across, bb.normalize(relax.op.not_equal(rest, zero))))
        return relax.op.where(across, bb.normalize(relax.op.add(rest, divisor)), rest)


class PRelu(importer_converter("PRelu")):  # type: ignore[misc]
    """A slope of one element as ``max(x, 0) + slope * min(x, 0)``: TVM's own form of it is not fused."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, slope = inputs[0], inputs[1]
        value = constant_value(slope)
        if value is None or value.size != 1:
            return super()._impl_v1(bb, inputs, attr, params)
        zero = relax.const(np.zeros((), value.dtype), str(value.dtype))
        slope = relax.const(value.reshape((1,) * data.ty.ndim), str(value.dtype))
        above, below = relax.op.maximum(data, zero), relax.op.minimum(data, zero)
        return relax.op.add(above, relax.op.multiply(below, slope))


class Pad(importer_converter("Pad")):  # type: ignore[misc]
    """Constant padding as one Relax operator, which keeps layouts and fuses; other modes unchanged."""

    @classmethod
    def _lower_pad(cls, bb: Any, inputs: Any, attr: Any, params: Any, allowed_modes: Any) -> Any:
        before, after, value = cls._parse_pads_and_axes(inputs, params)
        plain = isinstance(value, int | float) and min([*before, *after], default=0) >= 0
        if attr.get("mode", b"constant") != b"constant" or not plain:
            return super()._lower_pad(bb, inputs, attr, params, allowed_modes)
        pairs = [int(width) for pair in zip(before, after, strict=True) for width in pair]
        return relax.op.nn.pad(inputs[0], pairs, "constant", float(value))


class InstanceNormalization(OnnxOpConverter):  # type: ignore[misc]
    """Relax's own operator, which is one kernel with one row for each channel of an image."""

    @classmethod
    def _impl_v6(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, scale, shift = inputs
        axes = list(range(2, data.ty.ndim))
        epsilon = float(attr.get("epsilon", 1e-5))
        return relax.op.nn.instance_norm(data, scale, shift, 1, axes, epsilon)


CONVERTERS: dict[str, type] = {
    "BitShift": BitShift,
    "Max": _pairwise(relax.op.maximum),
    "Min": _pairwise(relax.op.minimum),
    "Sum": _pairwise(relax.op.add),
    "Clip": Clip,
    "Mod": Mod,
    "InstanceNormalization": InstanceNormalization,
    "Pad": Pad,
    "PRelu": PRelu,
}
