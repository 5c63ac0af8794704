"""Where a kernel of a package for a GPU runs: there, or on the processor beside it."""

from __future__ import annotations

from typing import Any

from deploycc.scheduling.kernel import DEVICE_CELL, WRITTEN, view
from deploycc.tvm_api import ir, s_tir
from deploycc.types import ROUTINE_FILE


def runs_on_host(function: Any) -> bool:
    """Whether a fused PrimFunc is left to the processor: a routine in C, or loops written by hand.

    Nothing can be known of the order in which such loops read and write, so no threads can share them.
    """
    attributes = function.attrs or {}
    if DEVICE_CELL in attributes:
        return False
    if ROUTINE_FILE in attributes or WRITTEN in attributes:
        return True
    return view("kernel", s_tir.Schedule(ir.IRModule({"main": function}))).opaque


def runs_on_device(function: Any) -> bool:
    """Whether a scheduled PrimFunc has loops that are bound to the threads of a GPU."""
    return ON_DEVICE in (function.attrs or {})


ON_DEVICE = "deploycc.on_device"
"""Attribute of a scheduled PrimFunc whose outer loops are bound to blocks and threads of a GPU."""

BOUND_BY_HAND = "deploycc.bound_by_hand"
"""Attribute of one that ``DeviceWriter`` wrote: nothing is left to be placed, flattened or synchronised."""
