"""Where a kernel of a package for a GPU runs: there, or on the processor beside it."""

from __future__ import annotations

from typing import Any

from deploycc.device_types import ON_DEVICE
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
