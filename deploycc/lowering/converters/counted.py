"""Operators that count rows, with their count (``deploycc.counting``), and ``TopK``.

All of them are C functions: they sort, and they write where the data says.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploycc.counting import COUNT, MOST
from deploycc.lowering.routines import FOLDER, call_routine
from deploycc.relax_graph import constant_value
from deploycc.tvm_api import OnnxOpConverter, relax

COUNTING, SORTING, SUPPRESSION = (FOLDER / f"{name}.c" for name in ("counting", "sorting", "suppression"))

_KINDS = {"uint": 0, "int": 1, "float": 2}
_DEEPEST = 8
"""Axes that ``dcc_nonzero`` takes."""

_TOGETHER = 16
"""Of ``suppression.c``."""


def _shape(expression: Any) -> list[int]:
    return [int(extent) for extent in expression.ty.shape]


def _numbers_of(dtype: str) -> list[int]:
    """How ``sorting.c`` reads a type: kind and bytes."""
    if dtype == "bool":
        return [0, 1]
    kind = next(kind for name, kind in _KINDS.items() if dtype.startswith(name))
    return [kind, np.dtype(dtype).itemsize]


def _parts(shape: list[int], axis: int | None) -> tuple[int, int, int]:
    """Extents before, at and behind the axis; all of it is one axis where that is left out."""
    if axis is None:
        return 1, math.prod(shape), 1
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _axis(attr: Any, rank: int) -> int | None:
    return int(attr["axis"]) % rank if attr.get("axis") is not None and rank else None


def _results(bb: Any, made: Any, count: int) -> Any:
    """The first ``count`` results of a routine; the others are scratch."""
    emitted = bb.emit(made)
    return relax.Tuple([bb.emit(relax.TupleGetItem(emitted, index)) for index in range(count)])


def _scalar(value: float, dtype: str) -> Any:
    return relax.const(np.asarray(value, dtype), dtype)


def _there(inputs: Any, attr: Any, extent: int) -> Any:
    """How many rows of ``extent`` there are."""
    return inputs[len(inputs) - 1] if attr.get(COUNT) else _scalar(extent, "int64")


class NonZero(OnnxOpConverter):  # type: ignore[misc]
    """int64 [rank, most] and the count; a scalar counts as a vector of one."""

    @classmethod
    def _impl_v13(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, most = inputs[0], int(attr[MOST])
        shape = _shape(data) or [1]
        dtype = str(data.ty.dtype)
        flags = (
            data if dtype == "bool" else relax.op.not_equal(data, relax.const(np.asarray(0, dtype), dtype))
        )
        elements = math.prod(shape)
        extents = [*shape, *[1] * (_DEEPEST - len(shape))]
        kinds = [([len(shape), most], "int64"), ([], "int64"), ([len(shape)], "int64")]
        numbers = [len(shape), elements, most, *extents]
        return _results(bb, call_routine(bb, COUNTING, "dcc_nonzero", [bb.emit(flags)], kinds, numbers), 2)


class Compress(OnnxOpConverter):  # type: ignore[misc]
    """The rows whose condition is true, as many as there can be, and the count."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, condition, most = inputs[0], inputs[1], int(attr[MOST])
        shape, dtype = _shape(data), str(data.ty.dtype)
        axis = _axis(attr, len(shape))
        outer, extent, inner = _parts(shape, axis)
        result = [most] if axis is None else [*shape[:axis], most, *shape[axis + 1 :]]
        numbers = [outer, extent, inner * np.dtype(dtype).itemsize, math.prod(_shape(condition)), most]
        kinds = [(result, dtype), ([], "int64")]
        return _results(bb, call_routine(bb, COUNTING, "dcc_compress", [data, condition], kinds, numbers), 2)


class Unique(OnnxOpConverter):  # type: ignore[misc]
    """Values, first indices, inverse indices and numbers of the different rows, and the count of those."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, most = inputs[0], int(attr[MOST])
        shape, dtype = _shape(data), str(data.ty.dtype)
        axis = _axis(attr, len(shape))
        outer, extent, inner = _parts(shape, axis)
        result = [most] if axis is None else [*shape[:axis], most, *shape[axis + 1 :]]
        kinds = [(result, dtype), ([most], "int64"), ([extent], "int64"), ([most], "int64"), ([], "int64")]
        scratch = [([outer * extent * inner], "int64"), ([4 * extent], "int64")]
        numbers = [outer, extent, inner, int(attr.get("sorted", 1)), *_numbers_of(dtype), most]
        given = [data, _there(inputs, attr, extent)]
        return _results(bb, call_routine(bb, SORTING, "dcc_unique", given, [*kinds, *scratch], numbers), 5)


class NonMaxSuppression(OnnxOpConverter):  # type: ignore[misc]
    """int64 [most, 3] and the count."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        boxes, scores, most = inputs[0], inputs[1], int(attr[MOST])
        batches, classes, extent = _shape(scores)
        given = [
            inputs[place] if place < len(inputs) - bool(attr.get(COUNT)) else None for place in (2, 3, 4)
        ]
        filtered = given[2] is not None
        defaults = (_scalar(0, "int64"), _scalar(0.0, "float32"), _scalar(0.0, "float32"))
        limits = [default if value is None else value for value, default in zip(given, defaults, strict=True)]
        room = -(-extent // _TOGETHER) * _TOGETHER
        kinds = [([most, 3], "int64"), ([], "int64"), ([extent], "int64"), ([5 * room], "float32")]
        numbers = [batches, classes, extent, int(attr.get("center_point_box", 0)), int(filtered), most]
        given = [boxes, scores, *limits, _there(inputs, attr, extent)]
        return _results(bb, call_routine(bb, SUPPRESSION, "dcc_suppress", given, kinds, numbers), 2)


class TopK(OnnxOpConverter):  # type: ignore[misc]
    """Values and indices; of equal values the ones that come first, as in ONNX Runtime."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, known = inputs[0], constant_value(inputs[1])
        if known is None:
            raise ValueError("TopK with a k that is computed at run time")
        shape, dtype, k = _shape(data), str(data.ty.dtype), int(known.reshape(-1)[0])
        axis = int(attr.get("axis", -1)) % len(shape)
        if not 0 < k <= shape[axis]:
            raise ValueError(f"TopK of {k} among {shape[axis]}")
        outer, extent, inner = _parts(shape, axis)
        result = [*shape[:axis], k, *shape[axis + 1 :]]
        kinds = [(result, dtype), (result, "int64"), ([2 * k], "int64")]
        numbers = [outer, extent, inner, k, int(attr.get("largest", 1)), *_numbers_of(dtype)]
        return _results(bb, call_routine(bb, SORTING, "dcc_top_k", [data], kinds, numbers), 2)


CONVERTERS: dict[str, type] = {
    "Compress": Compress,
    "NonMaxSuppression": NonMaxSuppression,
    "NonZero": NonZero,
    "TopK": TopK,
    "Unique": Unique,
}
