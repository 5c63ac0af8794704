"""What a schedule without an operator of its own sees: the blocks of one fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploycc.tvm_api import tirx

TASK_ANNOTATION = "deploycc.task"
"""On the anchor block of a kernel whose algorithm a schedule computed: the index of its selection."""


@dataclass(frozen=True)
class BlockView:
    """One block: its name, spatial and reduction extents, and whether it is the kernel's anchor."""

    name: str
    spatial: tuple[int, ...]
    reduction: tuple[int, ...]
    anchor: int | None

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
        block.name_hint, tuple(spatial), tuple(reduction), None if anchor is None else int(anchor)
    )
