"""One step of a network's straight line, and what it works on; re-exported by ``deploycc.types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deploycc.device_types import TO_DEVICE, TO_HOST, Launch

COPIES = ("memcpy", TO_DEVICE, TO_HOST)
"""In place of a kernel's symbol: calls that move bytes."""


@dataclass(frozen=True)
class Result:
    """A tensor of the model as a step leaves it in memory, densely, in ``shape``.

    With ``channels_last`` an image of the model, which is NCHW, lies as NHWC; else the elements have the
    model's order.  ``shape`` may have more or fewer extents of 1 than the model's.  ``dtype`` is numpy's
    name.
    """

    tensor: str
    shape: tuple[int, ...]
    channels_last: bool = False
    dtype: str = "float32"


@dataclass(frozen=True)
class Origin:
    """What a call of a kernel computes of the model: its ``nodes`` by name, in the model's order.

    ``results`` has an entry for each tensor that the call writes, ``None`` where the model has no such.
    """

    nodes: tuple[str, ...] = ()
    results: tuple[Result | None, ...] = ()


@dataclass(frozen=True)
class Buffer:
    """Where a kernel argument lives.

    ``kind`` ``input``/``output``: ``index`` is the position in the caller's list.
    ``arena``: ``offset`` bytes from the 64-byte aligned arena.  ``constant``: ``offset`` bytes
    from the 64-byte aligned start of the weights.  ``nbytes`` is the tensor's size.

    Of a plan with a ``gpu`` these are in the device's memory, but for constants of steps that run on the
    processor; ``host`` is the memory beside it, in which ``offset`` counts from a 64-byte aligned start.
    """

    kind: Literal["input", "output", "arena", "constant", "host"]
    index: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Call:
    """One step of the straight-line call list.

    ``symbol`` is a kernel in ``Plan.kernels`` of C type ``int32_t (void *, ...)`` with one
    pointer an argument, 0 meaning success; the symbol ``memcpy`` is a plain copy
    ``(destination, source)`` of ``arguments[0].nbytes``.  ``written`` says how many of a kernel's arguments,
    the last ones, it writes; it reads the others.  The other fields are those of its ``Choice``.

    With ``launches`` the GPU does it, one launch after the other, and ``symbol`` is no function; a call of
    ``TO_DEVICE`` or ``TO_HOST`` moves bytes; any other one of a plan for a GPU runs on the processor.
    """

    symbol: str
    arguments: tuple[Buffer, ...]
    operators: tuple[str, ...] = ()
    schedule: str = ""
    knobs: Mapping[str, int] = field(default_factory=dict)
    operator: str = ""
    cycles: float = 0.0
    measured_seconds: float | None = None
    written: int = 1
    origin: Origin = Origin()
    launches: tuple[Launch, ...] = ()

    @property
    def copies(self) -> bool:
        """Whether it only moves bytes: its arguments are a destination and a source."""
        return self.symbol in COPIES

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """What it reads."""
        return self.arguments[1:] if self.copies else self.arguments[: -self.written]

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """What it writes."""
        return self.arguments[:1] if self.copies else self.arguments[-self.written :]
