"""Converters that keep run-time indices inside their tensor.

ONNX calls an index out of range an error; TVM's kernels check nothing and would read, or for a
scatter write, foreign memory.  An index that is a run-time value is clamped to
``[-extent, extent - 1]``: a caller's mistake then gives a wrong element, never a fault.

``Gather`` besides knows its tensor's extents when it is converted: TVM's converter asks for them at run
time, in three kernels, and with constant indices in a row it is a slice, which needs no kernel at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from deploycc.relax_graph import constant_value
from deploycc.tvm_api import importer_converter, relax

Extents = Callable[[list[int], list[int], Any], list[int]]


def _along_axis(data: list[int], indices: list[int], attributes: Any) -> list[int]:
    return [data[int(attributes.get("axis", 0)) % len(data)]]


def _by_coordinate(data: list[int], indices: list[int], attributes: Any) -> list[int]:
    start = int(attributes.get("batch_dims", 0))
    return data[start : start + indices[-1]]


def _shape(expression: Any) -> list[int] | None:
    """The static extents of a tensor; ``None`` for a shape expression or an unknown extent."""
    if not isinstance(getattr(expression, "ty", None), relax.TensorType) or expression.ty.shape is None:
        return None
    values = [getattr(extent, "value", None) for extent in expression.ty.shape]
    return [int(v) for v in values if isinstance(v, int)] if all(isinstance(v, int) for v in values) else None


def clamped(bb: Any, inputs: Any, attributes: Any, extents: Extents) -> Any:
    """``inputs`` with the second one, the indices, clamped; unchanged where it is constant and in range."""
    data, indices = _shape(inputs[0]), _shape(inputs[1])
    if not data or indices is None:
        return inputs
    limits = np.asarray(extents(data, indices, attributes), np.int64)
    known = constant_value(inputs[1])
    if known is not None and (np.less(known, limits) & np.greater_equal(known, -limits)).all():
        return inputs
    dtype = str(inputs[1].ty.dtype)
    limits = limits.reshape(()) if limits.size == 1 else limits
    upper = bb.normalize(relax.op.minimum(inputs[1], relax.const((limits - 1).astype(dtype), dtype)))
    if not dtype.startswith("uint"):
        upper = bb.normalize(relax.op.maximum(upper, relax.const((-limits).astype(dtype), dtype)))
    result = copy.copy(inputs)
    result[1] = upper
    return result


def _clamping(operator: str, extents: Extents) -> type:
    base = importer_converter(operator)

    def guard(version: str) -> Any:
        def convert(cls: Any, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            return getattr(base, version)(bb, clamped(bb, inputs, attr, extents), attr, params)

        return classmethod(convert)

    versions = [name for name in dir(base) if name.startswith("_impl_v")]
    return type(operator, (base,), {version: guard(version) for version in versions})


class Gather(importer_converter("Gather")):  # type: ignore[misc]
    """A slice for constant indices that follow each other, else a take of indices that are not negative."""

    @classmethod
    def _impl_v13(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, extents = inputs[0], _shape(inputs[0])
        known = constant_value(inputs[1])
        if (
            not extents
            or _shape(inputs[1]) is None
            or (known is not None and constant_value(data) is not None)
        ):
            return super()._impl_v13(bb, clamped(bb, inputs, attr, _along_axis), attr, params)
        axis = int(attr.get("axis", 0)) % len(extents)
        extent = extents[axis]
        dtype = str(inputs[1].ty.dtype)
        if known is None or known.size == 0:
            indices = clamped(bb, inputs, attr, _along_axis)[1]
            if not dtype.startswith("uint"):
                negative = bb.normalize(relax.op.less(indices, relax.const(np.asarray(0, dtype), dtype)))
                turned = bb.normalize(relax.op.add(indices, relax.const(np.asarray(extent, dtype), dtype)))
                indices = bb.normalize(relax.op.where(negative, turned, indices))
            return relax.op.take(data, indices, axis)
        bounded = np.clip(known.astype(np.int64), -extent, extent - 1) % extent
        places = bounded.reshape(-1)
        if (np.diff(places) == 1).all():
            first, last = int(places[0]), int(places[-1]) + 1
            part = bb.normalize(relax.op.strided_slice(data, [axis], [first], [last]))
            shape = [*extents[:axis], *known.shape, *extents[axis + 1 :]]
            return relax.op.reshape(part, shape)
        return relax.op.take(data, relax.const(bounded, "int64"), axis)


CONVERTERS: dict[str, type] = {
    "Gather": Gather,
    "GatherElements": _clamping("GatherElements", _along_axis),
    "GatherND": _clamping("GatherND", _by_coordinate),
    "Scatter": _clamping("Scatter", _along_axis),
    "ScatterElements": _clamping("ScatterElements", _along_axis),
    "ScatterND": _clamping("ScatterND", _by_coordinate),
}
