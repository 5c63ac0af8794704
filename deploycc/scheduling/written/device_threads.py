"""What kernels for a GPU have in common: results gathered from several threads, and a model of their time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from deploycc.scheduling.written.device import DeviceWriter
from deploycc.scheduling.written.writing import Writer
from deploycc.tvm_api import tirx
from deploycc.types import Gpu

WARP = 32
"""Threads that run in step and can exchange registers."""

LAUNCH_SECONDS = 2.5e-6
"""Of one launch after another on one stream, with nothing to compute (2 to 3 us on every recent chip)."""


class TypedWriter(DeviceWriter):
    """Loads and stores elements as they are: expressions that are put together anew keep their types."""

    load = Writer.load
    store = Writer.store


Combine = Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]
"""Two partial results, each of one value or of several, in one."""


def shuffled(writer: DeviceWriter, value: Any, distance: int) -> Any:
    """``value`` of the thread whose number in the warp differs in the bit ``distance``."""
    everybody = tirx.const(0xFFFFFFFF, "uint32")
    return writer.value_of(
        "__shfl_xor_sync", everybody, value, tirx.IntImm("int32", distance), dtype=str(value.ty.dtype)
    )


def combine_in_warp(writer: DeviceWriter, held: Sequence[Any], threads: int, combine: Combine) -> None:
    """Each of ``threads`` neighbours (a power of two up to 32) gets the result of all of them.

    ``held`` are ``local`` buffers of one element.  All threads of the warp have to come here.
    """
    distance = threads // 2
    while distance:
        own = [writer.load(buffer, 0) for buffer in held]
        other = [writer.local("other", (1,), str(buffer.ty.dtype)) for buffer in held]
        for buffer, value in zip(other, own, strict=True):
            writer.store(buffer, shuffled(writer, value, distance), 0)
        _replace(writer, held, combine(own, [writer.load(buffer, 0) for buffer in other]))
        distance //= 2


def combine_in_block(
    writer: DeviceWriter,
    held: Sequence[Any],
    threads: int,
    lane: Any,
    unit: Any,
    units: int,
    combine: Combine,
) -> None:
    """The same for the ``threads`` (a power of two) of each of a block's ``units``.

    Threads are numbered along a unit first; ``lane`` and ``unit`` say which one this is.
    """
    combine_in_warp(writer, held, min(threads, WARP), combine)
    if threads <= WARP:
        return
    warps = threads // WARP
    shared = [writer.shared("partial", (units, warps), str(buffer.ty.dtype)) for buffer in held]
    with writer.when(lane % WARP == 0):
        for buffer, local in zip(shared, held, strict=True):
            writer.store(buffer, writer.load(local, 0), unit, lane // WARP)
    writer.sync()
    _gather_shared(writer, held, warps, combine, lambda buffer, i: writer.load(buffer, unit, i), shared)


def combine_down_block(
    writer: DeviceWriter,
    held: Sequence[Any],
    threads: int,
    lane: Any,
    column: Any,
    columns: int,
    combine: Combine,
) -> None:
    """The same where threads are numbered across a block's ``columns`` first."""
    if threads == 1:
        return
    shared = [writer.shared("partial", (threads, columns), str(buffer.ty.dtype)) for buffer in held]
    for buffer, local in zip(shared, held, strict=True):
        writer.store(buffer, writer.load(local, 0), lane, column)
    writer.sync()
    _gather_shared(writer, held, threads, combine, lambda buffer, i: writer.load(buffer, i, column), shared)


def _gather_shared(
    writer: DeviceWriter, held: Sequence[Any], count: int, combine: Combine, read: Any, shared: Sequence[Any]
) -> None:
    for local, buffer in zip(held, shared, strict=True):
        writer.store(local, read(buffer, 0), 0)
    with writer.loop(count - 1, "partial") as number:
        _replace(
            writer,
            held,
            combine(
                [writer.load(local, 0) for local in held], [read(buffer, number + 1) for buffer in shared]
            ),
        )


def _replace(writer: DeviceWriter, held: Sequence[Any], values: Sequence[Any]) -> None:
    """``held`` gets new values, each of which may be made of all old ones."""
    if len(held) == 1:
        writer.store(held[0], values[0], 0)
        return
    new = [writer.local("new", (1,), str(buffer.ty.dtype)) for buffer in held]
    for buffer, value in zip(new, values, strict=True):
        writer.store(buffer, value, 0)
    for buffer, value in zip(held, new, strict=True):
        writer.store(buffer, writer.load(value, 0), 0)


def device_cycles(
    gpu: Gpu, launches: int, moved: float, threads: float, steps: float, each: float = 150.0
) -> float:
    """Cycles of the chip for ``launches`` of together ``threads`` threads that move ``moved`` bytes.

    A thread makes ``steps`` steps, each of which waits for memory: some 600 cycles with four loads on their
    way at once (``each``).  Waves of threads follow one another; a wave of few threads leaves memory idle.
    """
    resident = gpu.processors * gpu.threads_per_processor
    waves = max(1.0, math.ceil(threads / resident))
    memory = moved / (gpu.bytes_per_second / gpu.clock_hz)
    return launches * LAUNCH_SECONDS * gpu.clock_hz + max(memory, waves * steps * each) + 0.1 * waves * steps


def block_threads(gpu: Gpu, threads: int) -> int:
    """Threads of a block where ``threads`` altogether are independent: small blocks reach more processors."""
    for size in (256, 128):
        if threads >= size * gpu.processors:
            return size
    return 64


def lower_power(number: int) -> int:
    """The largest power of two that is at most ``number``."""
    return 1 << (max(1, number).bit_length() - 1)
