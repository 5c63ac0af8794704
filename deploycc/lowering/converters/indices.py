"""Converters that keep run-time indices inside their tensor.

ONNX calls an index out of range an error; TVM's kernels check nothing and would read, or for a
scatter write, foreign memory.  An index that is a run-time value is clamped to
``[-extent, extent - 1]``: a caller's mistake then gives a wrong element, never a fault.
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


CONVERTERS: dict[str, type] = {
    "Gather": _clamping("Gather", _along_axis),
    "GatherElements": _clamping("GatherElements", _along_axis),
    "GatherND": _clamping("GatherND", _by_coordinate),
    "Scatter": _clamping("Scatter", _along_axis),
    "ScatterElements": _clamping("ScatterElements", _along_axis),
    "ScatterND": _clamping("ScatterND", _by_coordinate),
}
