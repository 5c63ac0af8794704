"""Which concatenations and slices of row-major tensors are runs of memory.

A tensor cut or joined along an axis with nothing but extents of 1 in front of it is so many runs of bytes
one behind the other: a part is then a view, and a join is no more than a place for what makes its parts.
Shared by the stages that count on it (layout, schedule).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.relax_graph import static_shape
from deploycc.tvm_api import ir, relax, tirx

CUTS = ("relax.split", "relax.strided_slice")
"""Relax operators whose results are parts of their operand."""


@dataclass(frozen=True)
class Region:
    """A part of a tensor: where it begins and how far it reaches, by axis; its elements lie side by side."""

    begin: tuple[int, ...]
    extents: tuple[int, ...]

    def permuted(self, axes: Sequence[int]) -> Region:
        """The same part of the tensor with its axes in another order."""
        return Region(tuple(self.begin[a] for a in axes), tuple(self.extents[a] for a in axes))

    def offset_in(self, shape: Sequence[int]) -> int | None:
        """Its first element's position in a row-major tensor of ``shape`` if it is one run, else ``None``."""
        if 0 in self.extents:
            return None
        first = next((axis for axis, extent in enumerate(self.extents) if extent != 1), len(shape))
        if list(self.extents[first + 1 :]) != list(shape[first + 1 :]):
            return None
        return sum(begin * math.prod(shape[axis + 1 :]) for axis, begin in enumerate(self.begin))


def regions_of(call: Any) -> tuple[Region, ...] | None:
    """The parts that a call of one of ``CUTS`` gives, ``None`` where they are not known.

    A strided slice has one, and none where it leaves elements out in between.
    """
    shape = static_shape(call.args[0])
    if call.op.name == "relax.split":
        axis = int(call.attrs.axis) % len(shape)
        results = [list(map(int, part.shape.values)) for part in call.ty.fields]
        starts = itertools.accumulate((part[axis] for part in results[:-1]), initial=0)
        return tuple(_along(axis, start, part) for start, part in zip(starts, results, strict=True))
    numbers = [_numbers(argument) for argument in call.args[1:]]
    if len(numbers) != 4 or any(part is None for part in numbers):
        return None
    axes, begins, _, steps = (part or [] for part in numbers)
    if any(step != 1 for step in steps):
        return None
    begin = [0] * len(shape)
    for axis, start in zip(axes, begins, strict=True):
        extent = shape[axis % len(shape)]
        begin[axis % len(shape)] = min(max(start + extent if start < 0 else start, 0), extent)
    return (Region(tuple(begin), tuple(static_shape(call))),)


def joins_runs(shape: Sequence[int], axis: int) -> bool:
    """Whether a row-major tensor of ``shape``, joined along ``axis``, is its parts one behind the other."""
    return math.prod(shape) > 0 and all(extent == 1 for extent in shape[: axis % len(shape)])


def _along(axis: int, start: int, extents: Sequence[int]) -> Region:
    begin = [0] * len(extents)
    begin[axis] = start
    return Region(tuple(begin), tuple(extents))


def _numbers(expression: Any) -> list[int] | None:
    """The integers of a tuple of constants."""
    if not isinstance(expression, relax.Tuple):
        return None
    values = [_integer(field) for field in expression.fields]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _integer(field: Any) -> int | None:
    value = getattr(field, "value", None)
    if isinstance(field, tirx.IntImm) or (isinstance(value, int) and not isinstance(field, ir.Var)):
        return int(value)  # type: ignore[arg-type]
    return None
