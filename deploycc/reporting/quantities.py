"""Numbers as a person reads them."""

from __future__ import annotations


def amount(number: float) -> str:
    """A count with its thousands as a letter: ``812``, ``1.2 k``, ``2.44 G``."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{_digits(number / factor)} {letter}"
    return f"{number:.0f}"


def nbytes(number: int) -> str:
    """Bytes in the unit that leaves the fewest digits."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << shift:
            return f"{_digits(number / (1 << shift))} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """Seconds in s, ms or µs."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{_digits(seconds / factor)} {unit}"
    return f"{_digits(seconds * 1e6)} µs"


def share(part: float, whole: float) -> str:
    """Per cent: 100 only for all of it and 0 only for none."""
    if not whole:
        return "0 %"
    if part >= whole:
        return "100 %"
    if part <= 0:
        return "0 %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"


def plural(number: int, one: str, many: str = "") -> str:
    """``1 node``, ``12 nodes``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _digits(number: float) -> str:
    """Three digits, as many as a person compares."""
    if number >= 100:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}".rstrip("0").rstrip(".")
