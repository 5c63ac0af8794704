"""Sums of products of int16 in int32: two at once where the machine has an instruction for pairs.

x86-64 multiplies neighbouring pairs of int16 and adds the two products (``pmaddwd``); for a target that
declares VNNI, LLVM makes one instruction of it and the addition behind (``vpdpwssd``).  Other machines
multiply int16 by int16 to int32 and add (``smlal``), which LLVM finds by itself.
"""

from __future__ import annotations

from typing import Any

from deploycc.scheduling.written.writing import Index, Writer
from deploycc.tvm_api import tirx
from deploycc.types import Target

_PAIRWISE = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
"""By int32 lanes of the result."""


def takes_pairs(target: Target, lanes: int) -> bool:
    """Whether a vector of ``lanes`` sums takes two products at a time."""
    return target.llvm.triple.startswith("x86_64") and lanes in _PAIRWISE and lanes <= target.simd.lanes()


def _ramp(start: Index, lanes: int) -> Any:
    first = tirx.IntImm("int64", start) if isinstance(start, int) else start
    return first if lanes == 1 else tirx.Ramp(first, tirx.IntImm("int64", 1), lanes)


def vector(writer: Writer, buffer: Any, start: Index, lanes: int) -> Any:
    """``lanes`` neighbours of the flat ``buffer``."""
    return writer.load(buffer, _ramp(start, lanes))


def store_vector(writer: Writer, buffer: Any, value: Any, start: Index, lanes: int) -> None:
    """The opposite of ``vector``."""
    writer.store(buffer, value, _ramp(start, lanes))


def pair(writer: Writer, buffer: Any, place: Index, lanes: int, *, single: bool) -> Any:
    """Two neighbours of ``buffer`` in each of ``lanes``; of a ``single`` one the second is its sign."""
    if single:
        both = tirx.Cast("int32", vector(writer, buffer, place, 1))
    else:
        both = tirx.reinterpret("int32", vector(writer, buffer, place, 2))
    return tirx.reinterpret(f"int16x{2 * lanes}", tirx.Broadcast(both, lanes))


def pairwise(weights: Any, values: Any, lanes: int) -> Any:
    """The sums of the products of neighbours: int32, ``lanes`` of them."""
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", _PAIRWISE[lanes], weights, values)


def widened(value: Any, lanes: int) -> Any:
    """``lanes`` int16 as int32."""
    return tirx.Cast("int32" if lanes == 1 else f"int32x{lanes}", value)
