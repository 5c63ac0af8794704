"""Long names, cut so that a reader still knows which they are."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(name: str, width: int) -> str:
    """``name`` in at most ``width`` characters, its middle left out: scopes begin alike."""
    if len(name) <= width:
        return name
    if width < 3:
        return name[:width]
    end = (width - 1 + 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def shortened_list(names: Sequence[str], width: int, between: str = " + ") -> str:
    """Several names in at most ``width`` characters: as many as have room, and how many more there are.

    Each gets at least sixteen characters; the first is always there.
    """
    whole = between.join(names)
    if len(whole) <= width or not names:
        return whole
    for count in range(len(names), 0, -1):
        rest = f"{between}{len(names) - count} more" if count < len(names) else ""
        room = width - len(rest) - len(between) * (count - 1)
        if room >= 16 * count or count == 1:
            return between.join(_in_room(names[:count], max(room, 1))) + rest
    raise AssertionError


def _in_room(names: Sequence[str], room: int) -> list[str]:
    """Names cut to ``room`` characters together, the longest giving way first."""
    widths = [len(name) for name in names]
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return [shortened(name, width) for name, width in zip(names, widths, strict=True)]
