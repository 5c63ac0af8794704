"""A reference's results in the form that a package gives them: the most rows, zeros behind the true ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deploycc.onnx_graph import Array
from deploycc.types import Counted, Extent, Rows, TensorInfo


def with_numbers(outputs: Sequence[TensorInfo], rows: Mapping[str, Rows]) -> tuple[TensorInfo, ...]:
    """``outputs``, those with rows marked, and behind them an int64 scalar for each number of rows.

    It is called after the first output that has so many (``boxes_count``), with as many underscores behind
    as make it a new name.
    """
    taken = {info.name for info in outputs}
    marked, numbers = [], []
    known: dict[Extent, str] = {}
    for info in outputs:
        if info.name in rows:
            axis, extent = rows[info.name].axis, rows[info.name].extent
            if extent not in known:
                name = f"{info.name}_count"
                while name in taken:
                    name += "_"
                taken.add(name)
                numbers.append(TensorInfo(name, "int64", ()))
                known[extent] = name
            info = TensorInfo(info.name, info.dtype, info.shape, Counted(axis, known[extent]))
        marked.append(info)
    return (*marked, *numbers)


def padded(values: Iterable[Array], outputs: Sequence[TensorInfo]) -> list[Array]:
    """What a reference computed for the graph's own outputs, as ``outputs`` (of ``with_numbers``) has it.

    Rows beyond the most are left out; their number is told all the same.
    """
    made: list[Array] = []
    numbers: dict[str, int] = {}
    for value, info in zip(values, outputs, strict=False):
        if info.counted is not None:
            axis = info.counted.axis
            numbers[info.counted.output] = value.shape[axis]
            value = np.take(value, range(min(value.shape[axis], info.shape[axis])), axis)
            missing = info.shape[axis] - value.shape[axis]
            value = np.pad(value, [(0, missing if place == axis else 0) for place in range(value.ndim)])
        made.append(value)
    return made + [np.asarray(numbers[info.name], np.int64) for info in outputs[len(made) :]]


def tensor_from_manifest(tensor: Mapping[str, Any]) -> TensorInfo:
    """An output as a package's manifest describes it."""
    counted = tensor.get("counted")
    return TensorInfo(
        tensor["name"],
        tensor["dtype"],
        tuple(tensor["shape"]),
        None if counted is None else Counted(counted["axis"], counted["output"]),
    )
