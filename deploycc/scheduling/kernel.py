"""What a schedule without an operator of its own sees: the blocks of one fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploycc.scheduling.written.strides import loads_of, strides_of
from deploycc.tvm_api import ir, tirx

TASK_ANNOTATION = "deploycc.task"
"""On the anchor block of a kernel whose algorithm a schedule computed: the index of its selection."""

WRITTEN = "deploycc.written"
"""Attribute of a kernel that was written before schedules are asked: its name and knobs, as JSON."""

DEVICE_CELL = "deploycc.device_cell"
"""Attribute of the kernel of a recurrent layer that a GPU is to compute: its ``Cell`` as text."""


@dataclass(frozen=True)
class BlockView:
    """One block: its name, spatial and reduction extents, and whether it is the kernel's anchor.

    ``strided`` says whether it reads an operand with a stride along its last axis, as transpositions do.
    """

    name: str
    spatial: tuple[int, ...]
    reduction: tuple[int, ...]
    anchor: int | None
    strided: bool = False
    combines: str | None = None
    """What a reduction gathers with: ``sum``, ``product``, ``max`` or ``min``."""
    product: bool = False
    """Whether it sums up products of an element of one operand with one of another."""

    @property
    def operations(self) -> int:
        """Executions of the block's statement."""
        product = 1
        for extent in (*self.spatial, *self.reduction):
            product *= extent
        return product


@dataclass(frozen=True)
class Kernel:
    """A fused tensor program, block by block in program order."""

    name: str
    blocks: tuple[BlockView, ...]
    opaque: bool = False
    """Whether a block hides what it reads and writes (scans and scatters are loops written by hand)."""

    @property
    def anchor(self) -> int | None:
        """The selection index of the operator in this kernel, ``None`` where it has none."""
        return next((block.anchor for block in self.blocks if block.anchor is not None), None)

    @property
    def reductions(self) -> tuple[BlockView, ...]:
        """The blocks that reduce."""
        return tuple(block for block in self.blocks if block.reduction)


def child_blocks(sch: Any) -> list[Any]:
    """The blocks of the schedule's only function, in program order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def view(name: str, sch: Any) -> Kernel:
    """Read the kernel that ``sch`` is a schedule of."""
    body = sch.mod["main"].body.block
    # A program that is one hand-written block has no root around it.
    nodes = [sch.get(block) for block in child_blocks(sch)] if body.name_hint == "root" else [body]
    opaque = any(len(node.writes) == 0 for node in nodes)
    return Kernel(name, tuple(map(_view_block, nodes)), opaque)


def _view_block(block: Any) -> BlockView:
    spatial: list[int] = []
    reduction: list[int] = []
    for variable in block.iter_vars:
        extent = variable.dom.extent
        value = int(extent) if isinstance(extent, int | tirx.IntImm) else 1
        (reduction if variable.iter_type == tirx.IterVar.CommReduce else spatial).append(value)
    anchor = block.annotations.get(TASK_ANNOTATION)
    return BlockView(
        block.name_hint,
        tuple(spatial),
        tuple(reduction),
        None if anchor is None else int(anchor),
        _strided(block),
        _combines(block) if reduction else None,
        bool(reduction) and _sums_products(block),
    )


def _combines(block: Any) -> str | None:
    names = {tirx.Add: "sum", tirx.Mul: "product", tirx.Max: "max", tirx.Min: "min"}
    return names.get(type(block.body.value)) if isinstance(block.body, tirx.BufferStore) else None


def _sums_products(block: Any) -> bool:
    value = block.body.value if isinstance(block.body, tirx.BufferStore) else None
    if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return False
    return all(isinstance(factor, ir.TensorLoad) for factor in (value.b.a, value.b.b))


def _strided(block: Any) -> bool:
    if not isinstance(block.body, tirx.BufferStore):
        return False
    shape = block.body.buffer.ty.shape
    last = max((axis for axis, extent in enumerate(shape) if int(extent) > 1), default=-1)
    variables = [variable.var for variable in block.iter_vars]
    number = next(
        (n for n, v in enumerate(variables) if last >= 0 and block.body.indices[last].same_as(v)), -1
    )
    if number < 0:
        return False
    accesses = [strides_of(load, variables) for load in loads_of(block.body.value)]
    return any(access is not None and access.strides[number] not in (0, 1) for access in accesses)
