"""What of a plan runs on a GPU; re-exported by ``deploycc.types``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ON_DEVICE = "deploycc.on_device"
"""Attribute of a scheduled PrimFunc with loops bound to a GPU's blocks and threads: how many of its last
parameters are scratch, which one launch leaves for another."""

BOUND_BY_HAND = "deploycc.bound_by_hand"
"""Attribute of one that was written for a GPU: nothing is left to be placed, flattened or synchronised."""

TO_DEVICE, TO_HOST = "to_device", "to_host"
"""In place of a kernel's symbol: the bytes of the host's memory go to the device's, and back.  As with
``memcpy`` the arguments are destination and source."""


@dataclass(frozen=True)
class Launch:
    """One launch of a GPU kernel: ``function`` of the plan's ``images`` with a grid of blocks of threads.

    ``arguments`` are, in the order of its parameters (a pointer each), the numbers of the call's arguments.
    ``shared_bytes`` is the dynamic shared memory that each block gets.
    """

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """GPU code of a plan.

    ``cubin`` is machine code for chips of ``arch`` (``sm_90``) and of its later minor numbers; ``ptx`` is
    text (with a 0 byte at its end) that the driver compiles for any chip of ``arch`` or newer.
    """

    kind: Literal["cubin", "ptx"]
    arch: str
    code: bytes


@dataclass(frozen=True)
class KernelFacts:
    """What the compiler tells of a GPU kernel.

    ``registers`` of a thread, ``shared_bytes`` of static shared memory of a block, ``local_bytes`` of a
    thread's own memory (registers that did not fit, and arrays with indices that are computed).
    """

    function: str
    registers: int
    shared_bytes: int
    local_bytes: int
