"""Kernels of one block that read all their operands with fixed strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.scheduling.kernel import child_blocks
from deploycc.scheduling.primitives import inline_elementwise, output_blocks
from deploycc.scheduling.written.strides import Access, loads_of, strides_of
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, structural_map, tirx


@dataclass(frozen=True)
class StridedKernel:
    """A kernel of one block that computes each element of its result from operands read with fixed strides.

    Axes of extent 1 are left out, and neighbours along which all operands lie as one are counted as one:
    ``groups`` says which of the result's axes (``variables``) are in each.  ``accesses`` has the strides over
    these groups for every operand read, ``extents`` the groups' sizes.
    """

    function: Any
    output: Any
    variables: tuple[Any, ...]
    value: Any
    groups: tuple[tuple[int, ...], ...]
    extents: tuple[int, ...]
    accesses: tuple[Access, ...]

    @classmethod
    def of(cls, sch: Any) -> StridedKernel:
        """Read the kernel that ``sch`` is a schedule of; raises ``NotWritable`` for another form."""
        inline_elementwise(sch)
        blocks = child_blocks(sch)
        if len(blocks) != 1 or len(output_blocks(sch)) != 1:
            raise NotWritable("more than one block is left")
        node = sch.get(blocks[0])
        if not isinstance(node.body, tirx.BufferStore):
            raise NotWritable("not one statement")
        variables = tuple(v.var for v in node.iter_vars)
        shape = [int(extent) for extent in node.body.buffer.ty.shape]
        if any(v.iter_type != tirx.IterVar.DataPar for v in node.iter_vars) or len(shape) != len(variables):
            raise NotWritable("it reduces")
        for index, variable, extent in zip(node.body.indices, variables, shape, strict=True):
            if not index.same_as(variable) and extent != 1:
                raise NotWritable("the result is written in another order")
        accesses: list[Access] = []
        for load in loads_of(node.body.value):
            access = strides_of(load, variables)
            if access is None:
                raise NotWritable("an operand is not read with fixed strides")
            if not any(access.same_as(other) for other in accesses):
                accesses.append(access)
        groups = _merged(shape, accesses)
        extents = tuple(math.prod(shape[axis] for axis in group) for group in groups)
        return cls(
            sch.mod["main"],
            node.body.buffer,
            variables,
            node.body.value,
            groups,
            extents,
            tuple(access.over(groups) for access in accesses),
        )

    def output_strides(self) -> tuple[int, ...]:
        """The result's strides over the groups."""
        return tuple(math.prod(self.extents[number + 1 :]) for number in range(len(self.extents)))

    def element(self, read: Callable[[Access], Any], indices: Sequence[Any]) -> Any:
        """The value at ``indices`` (one a group), with what ``read`` gives for each operand."""

        def replace(load: Any) -> Any:
            access = strides_of(load, self.variables)
            assert access is not None, "of() has seen every load"
            return read(access.over(self.groups))

        value = structural_map(self.value, (ir.TensorLoad, replace), order="post")
        shape = [int(extent) for extent in self.output.ty.shape]
        places: dict[Any, Any] = {variable: tirx.IntImm("int64", 0) for variable in self.variables}
        for group, index in zip(self.groups, indices, strict=True):
            rest = index
            for axis in reversed(group[1:]):
                places[self.variables[axis]] = rest % shape[axis]
                rest = rest // shape[axis]
            places[self.variables[group[0]]] = rest
        return structural_map(value, (ir.Var, lambda v: places.get(v, v)), order="post")


def _merged(shape: Sequence[int], accesses: Sequence[Access]) -> tuple[tuple[int, ...], ...]:
    groups: list[tuple[int, ...]] = []
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        last = groups[-1][-1] if groups else -1
        together = groups and all(a.strides[last] == extent * a.strides[axis] for a in accesses)
        if together:
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
    return tuple(groups)
