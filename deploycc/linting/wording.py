"""How numbers and names stand in a finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def shape_text(dims: Sequence[int | None] | None) -> str:
    """``1x3x?x?``; a scalar is ``scalar``."""
    if dims is None:
        return "unknown rank"
    return "x".join("?" if dim is None or dim < 0 else str(dim) for dim in dims) or "scalar"


def bytes_text(count: int) -> str:
    """``1.5 MiB``, with the unit that leaves one to four digits before the point."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def names_text(names: Iterable[str], most: int = 3) -> str:
    """``'a', 'b', 'c' and 4 more``."""
    known = list(names)
    shown = ", ".join(f"'{name}'" for name in known[:most])
    return shown + (f" and {len(known) - most} more" if len(known) > most else "")


def percent_text(share: float) -> str:
    """``12 %``; below 1 % with a digit behind the point."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"


def counted(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def count_text(count: int) -> str:
    """``12.3 million``, ``950``."""
    for unit, name in ((10**9, "thousand million"), (10**6, "million"), (10**3, "thousand")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return str(count)
