"""Kernels for a GPU by loop transformations alone: each block of a fused kernel becomes a launch."""

from __future__ import annotations

import math
from typing import Any

from deploycc.device_types import ON_DEVICE
from deploycc.scheduling.kernel import child_blocks
from deploycc.scheduling.primitives import extent
from deploycc.tvm_api import s_tir, tirx


def bind_blocks(sch: Any, threads: int = 256) -> None:
    """A thread for each element that a block writes, in their order in memory; its reductions are its own."""
    for block in child_blocks(sch):
        loops = list(sch.get_loops(block))
        kinds = [v.iter_type for v in sch.get(block).iter_vars]
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
        rest = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != tirx.IterVar.DataPar]
        if not spatial:
            spatial, rest = [sch.add_unit_loop(loops[0] if loops else block)], loops
        sch.reorder(*spatial, *rest)
        head = sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
        size = extent(sch, head)
        outer, inner = sch.split(head, [None, min(threads, max(1, size))])
        sch.bind(outer, "blockIdx.x")
        sch.bind(inner, "threadIdx.x")


def on_device(function: Any) -> Any:
    """A PrimFunc with bound loops, marked; what a launch leaves for another is a parameter at its end."""
    root = function.body.block
    passed = [buffer for buffer in root.alloc_buffers if buffer.scope() == "global"]
    kept = [buffer for buffer in root.alloc_buffers if buffer.scope() != "global"]
    block = s_tir.SBlock(
        list(root.iter_vars),
        list(root.reads),
        list(root.writes),
        root.name_hint,
        root.body,
        root.init,
        kept,
        list(root.match_buffers),
        root.annotations,
    )
    body = s_tir.SBlockRealize(list(function.body.iter_values), function.body.predicate, block)
    made = tirx.PrimFunc([*function.params, *passed], body, function.ret_type, function.attrs)
    return made.with_attr(ON_DEVICE, len(passed))


def elements(buffer: Any) -> int:
    """How many elements a buffer of static shape has."""
    return math.prod(int(size) for size in buffer.ty.shape)
