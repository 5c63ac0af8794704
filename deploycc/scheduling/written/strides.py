"""Operands of a block as flat memory: how far each one moves when an axis of the result moves by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.tvm_api import ir, structural_walk, tirx


@dataclass(frozen=True, eq=False)
class Access:
    """Where ``buffer`` is read: element ``offset`` + the sum of stride x index over the axes."""

    buffer: Any
    strides: tuple[int, ...]
    offset: int

    def same_as(self, other: Access) -> bool:
        """Whether both read the same element."""
        same = (self.strides, self.offset) == (other.strides, other.offset)
        return same and bool(self.buffer.same_as(other.buffer))

    def leaves(self, extents: Sequence[int]) -> bool:
        """Whether an element before or behind ``buffer`` is read, over axes of these ``extents``."""
        reaches = [stride * (extent - 1) for stride, extent in zip(self.strides, extents, strict=True)]
        first = self.offset + sum(min(0, reach) for reach in reaches)
        last = self.offset + sum(max(0, reach) for reach in reaches)
        return first < 0 or last >= math.prod(int(extent) for extent in self.buffer.ty.shape)

    def over(self, groups: Sequence[tuple[int, ...]]) -> Access:
        """The same with one stride for each group of axes that lie as one."""
        return Access(self.buffer, tuple(self.strides[group[-1]] for group in groups), self.offset)


def loads_of(value: Any) -> list[Any]:
    """Every operand read in ``value``."""
    loads: list[Any] = []
    structural_walk(value, (ir.TensorLoad, loads.append), order="post")
    return loads


def strides_of(load: Any, variables: Sequence[Any]) -> Access | None:
    """How ``load`` moves with ``variables``; ``None`` where that is not by fixed strides."""
    strides, offset, size = [0] * len(variables), 0, 1
    for index, extent in zip(reversed(load.indices), reversed(load.source.ty.shape), strict=True):
        parts = linear(index, variables)
        if parts is None or not isinstance(extent, int | tirx.IntImm):
            return None
        strides = [stride + size * part for stride, part in zip(strides, parts[0], strict=True)]
        offset += size * parts[1]
        size *= int(extent)
    return Access(load.source, tuple(strides), offset)


def linear(index: Any, variables: Sequence[Any]) -> tuple[list[int], int] | None:
    """Factors of ``variables`` in ``index``, and what is added; ``None`` for an index of another form."""
    zero = [0] * len(variables)
    if isinstance(index, tirx.IntImm | int):
        return zero, int(index)
    for number, variable in enumerate(variables):
        if index.same_as(variable):
            return [1 if other == number else 0 for other in range(len(variables))], 0
    if isinstance(index, tirx.Add | tirx.Sub):
        a, b = linear(index.a, variables), linear(index.b, variables)
        if a is None or b is None:
            return None
        sign = 1 if isinstance(index, tirx.Add) else -1
        return [x + sign * y for x, y in zip(a[0], b[0], strict=True)], a[1] + sign * b[1]
    if isinstance(index, tirx.Mul):
        a, b = linear(index.a, variables), linear(index.b, variables)
        if a is None or b is None or (any(a[0]) and any(b[0])):
            return None
        if any(a[0]):
            a, b = b, a
        return [a[1] * y for y in b[0]], a[1] * b[1]
    return None
