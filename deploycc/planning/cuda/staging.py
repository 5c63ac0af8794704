"""What the processor computes of a network on a GPU, and how its operands get there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploycc.planning.memory import aligned
from deploycc.types import TO_DEVICE, TO_HOST, Buffer, Call, Origin


def with_transfers(calls: Sequence[Call], arena_bytes: int) -> tuple[tuple[Call, ...], int]:
    """``calls`` with those that are neither launches nor copies moved to buffers of the kind ``host``.

    What such a call reads is copied from the device before it, and what it writes back behind it.  The memory
    ``host`` has the arena's places, so that live ranges hold there too, and one for each input and output
    behind them; its size in bytes is the second result, 0 where nothing needs it.
    """
    places: dict[tuple[str, int], int] = {}
    end = aligned(arena_bytes)
    made: list[Call] = []
    there: set[Buffer] = set()
    used = False

    def mirrored(buffer: Buffer) -> Buffer:
        nonlocal end
        if buffer.kind == "arena":
            return replace(buffer, kind="host")
        key = (buffer.kind, buffer.index)
        if key not in places:
            places[key] = end
            end += aligned(_extent(calls, key))
        return Buffer("host", 0, places[key] + buffer.offset, buffer.nbytes)

    for call in calls:
        if call.launches or call.copies:
            there.clear()
            made.append(call)
            continue
        used = True
        for buffer in dict.fromkeys(call.reads):
            if buffer.kind != "constant" and buffer not in there:
                there.add(buffer)
                made.append(_transfer(TO_HOST, mirrored(buffer), buffer))
        arguments = tuple(one if one.kind == "constant" else mirrored(one) for one in call.arguments)
        made.append(replace(call, arguments=arguments))
        for buffer in call.writes:
            there = {one for one in there if not _overlap(one, buffer)} | {buffer}
            made.append(_transfer(TO_DEVICE, buffer, mirrored(buffer)))
    return tuple(made), end if used else 0


def _transfer(symbol: str, destination: Buffer, source: Buffer) -> Call:
    return Call(symbol, (destination, source), ("Copy",), origin=Origin(results=(None,)))


def _extent(calls: Sequence[Call], key: tuple[str, int]) -> int:
    """Bytes of an input or output that any call uses."""
    found = (b for call in calls for b in call.arguments if (b.kind, b.index) == key)
    return max(buffer.offset + buffer.nbytes for buffer in found)


def _overlap(one: Buffer, other: Buffer) -> bool:
    if (one.kind, one.index) != (other.kind, other.index):
        return False
    return one.offset < other.offset + other.nbytes and other.offset < one.offset + one.nbytes
