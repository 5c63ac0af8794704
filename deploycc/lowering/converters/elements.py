"""Operators on single elements and along one axis that TVM's importer has not, or not for all types."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.relax_graph import constant_value, static_shape
from deploycc.tvm_api import OnnxOpConverter, importer_converter, relax, te, tirx, topi


def _dtype(expression: Any) -> str:
    return str(expression.ty.dtype)


class BitCast(OnnxOpConverter):  # type: ignore[misc]
    """The same bits under a type of the same width."""

    @classmethod
    def _impl_v26(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        dtype = np.dtype(_TYPES[int(attr["to"])]).name
        if "bool" in (dtype, _dtype(inputs[0])):  # one bit inside a kernel, a byte of 0 or 1 in memory
            return relax.op.astype(inputs[0], dtype)
        return bb.call_te(lambda data: topi.reinterpret(data, dtype), inputs[0])


_TYPES = {
    number: name
    for number, name in enumerate(
        ["", "f4", "u1", "i1", "u2", "i2", "i4", "i8", "", "?", "f2", "f8", "u4", "u8"]
    )
    if name
}
"""Element types by ONNX's number (``TensorProto.DataType``)."""


class CumProd(OnnxOpConverter):  # type: ignore[misc]
    """Running products, as ``CumSum`` is running sums; backwards by turning the axis round twice."""

    @classmethod
    def _impl_v26(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, axis = inputs[0], int(np.asarray(constant_value(inputs[1])).reshape(-1)[0])
        backwards = bool(attr.get("reverse", 0))
        if backwards:
            data = bb.normalize(relax.op.flip(data, axis))
        product = bb.normalize(relax.op.cumprod(data, axis, exclusive=bool(attr.get("exclusive", 0))))
        return relax.op.flip(product, axis) if backwards else product


class Pow(importer_converter("Pow")):  # type: ignore[misc]
    """Powers with an integer on either side: C's ``pow`` in float64, cut to the base's type.

    ONNX Runtime has it so (``std::pow`` of two arithmetic types is that of two doubles).
    """

    @classmethod
    def _impl_v7(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        base, exponent = inputs
        kinds = [_dtype(value) for value in inputs]
        if kinds[0] == kinds[1] and "float" in kinds[0]:
            return super()._impl_v7(bb, inputs, attr, params)
        wide = [bb.normalize(relax.op.astype(value, "float64")) for value in (base, exponent)]
        power = bb.normalize(relax.op.power(*wide))
        return relax.op.astype(power, kinds[0])


class ReverseSequence(OnnxOpConverter):  # type: ignore[misc]
    """The first ``lengths[b]`` steps of batch entry ``b`` in reverse order; a length is cut to the axis."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, lengths = inputs
        time, batch = int(attr.get("time_axis", 0)), int(attr.get("batch_axis", 1))
        steps = static_shape(data)[time]

        def reversed_steps(data: Any, lengths: Any) -> Any:
            def element(*indices: Any) -> Any:
                count = tirx.min(lengths[indices[batch]].astype("int64"), tirx.IntImm("int64", steps))
                at = indices[time].astype("int64")
                source = tirx.if_then_else(at < count, count - 1 - at, at)
                return data[tuple(source if axis == time else i for axis, i in enumerate(indices))]

            return te.compute(data.shape, element, name="reverse_sequence")

        return bb.call_te(reversed_steps, data, lengths)


class TensorScatter(OnnxOpConverter):  # type: ignore[misc]
    """``past`` with ``update`` written from step ``starts[b]`` on, round the end in a circular cache."""

    @classmethod
    def _impl_v24(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        past, update = inputs[0], inputs[1]
        batch, rank = static_shape(past)[0], past.ty.ndim
        starts = inputs[2] if len(inputs) > 2 and inputs[2] is not None else None
        if starts is None:
            starts = relax.const(np.zeros(batch, np.int64), "int64")
        axis = int(attr.get("axis", -2)) % rank
        circular = attr.get("mode", b"linear") == b"circular"
        size, count = static_shape(past)[axis], static_shape(update)[axis]

        def scattered(past: Any, update: Any, starts: Any) -> Any:
            def element(*indices: Any) -> Any:
                step = indices[axis].astype("int64") - starts[indices[0]].astype("int64")
                if circular:
                    step = tirx.floormod(step, tirx.IntImm("int64", size))
                inside = tirx.all(step >= 0, step < count)
                # Both sides of the choice may be computed: the index stays inside either way.
                source = tirx.max(tirx.min(step, tirx.IntImm("int64", count - 1)), tirx.IntImm("int64", 0))
                fresh = update[tuple(source if at == axis else i for at, i in enumerate(indices))]
                return tirx.if_then_else(inside, fresh, past[indices])

            return te.compute(past.shape, element, name="tensor_scatter")

        return bb.call_te(scattered, past, update, starts)


CONVERTERS: dict[str, type] = {
    "BitCast": BitCast,
    "CumProd": CumProd,
    "Pow": Pow,
    "ReverseSequence": ReverseSequence,
    "TensorScatter": TensorScatter,
}
