"""Ranges of shapes: what ``--shape images=1..8x3x640x640`` and its counterparts in Python mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from deploycc.types import DeployccError, Diagnostic

Extent: TypeAlias = int | str | Sequence[int]
"""One extent of an axis, or those that it may have: ``range(1, 9)``, ``(1, 2, 4)``, ``"1..8"``."""

MOST_EXTENTS = 16
"""An axis with more has more variants than any package takes."""


def extent_of(text: str) -> Extent | None:
    """``640``, ``1..8`` (both ends count), ``1,2,4`` or a mixture; ``None`` for anything else."""
    parts: list[range] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        ends = (first, last if dots else first)
        if not all(end.isascii() and end.isdigit() and 0 < len(end) < 19 and int(end) > 0 for end in ends):
            return None
        parts.append(range(int(ends[0]), int(ends[1]) + 1))
    if len(parts) > 1:
        # What is too many stays unwritten: the count alone is told.
        return parts[0] if len(parts[0]) > MOST_EXTENTS else tuple(n for one in parts for n in one[:99])
    return parts[0][0] if len(parts[0]) == 1 and ".." not in text else parts[0]


def split_ranges(
    shapes: Mapping[str, Sequence[Extent]],
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[tuple[int, ...], ...]]]:
    """The first shape of each input, and the extents of each axis; none of the latter without any range.

    Raises ``DeployccError``: DC240 for an axis with too many extents, DC243 for one with none, one twice or
    one below 1.
    """
    first: dict[str, tuple[int, ...]] = {}
    axes: dict[str, tuple[tuple[int, ...], ...]] = {}
    faults: list[Diagnostic] = []
    for name, shape in shapes.items():
        found: list[tuple[int, ...]] = []
        for axis, given in enumerate(shape):
            extent = (extent_of(given) or ()) if isinstance(given, str) else given
            if not isinstance(extent, Sequence):  # one of numpy's is no int
                found.append((int(extent),))
                continue
            if len(extent) > MOST_EXTENTS:
                faults.append(
                    Diagnostic(
                        "DC240",
                        f"--shape {name} declares {len(extent)} variants",
                        got=f"{len(extent)} extents on axis {axis}",
                        need=f"at most {MOST_EXTENTS} in a package",
                        help="declare the sizes that the app really has (1,2,4,8), and pad what lies between",
                    )
                )
                continue
            extents = tuple(int(one) for one in extent)
            if not extents or len(set(extents)) < len(extents) or min(extents) < 1:
                faults.append(
                    Diagnostic(
                        "DC243",
                        f"--shape {name}: axis {axis} has no usable range of extents",
                        got=", ".join(map(str, extents)) or "a range without any",
                        need="extents of 1 and more, each once, the smaller end first: 1..8 or 1,2,4",
                    )
                )
                continue
            found.append(extents)
        axes[name] = tuple(found)
        first[name] = tuple(extents[0] for extents in found)
    if faults:
        raise DeployccError(*faults)
    several = any(len(extents) > 1 for one in axes.values() for extents in one)
    return first, axes if several else {}


def text_of(axes: Sequence[Sequence[int]]) -> str:
    """``1..8x3x640x640``: what ``--shape`` takes for these extents."""
    return "x".join(_extents_text(extents) for extents in axes) or "scalar"


def _extents_text(extents: Sequence[int]) -> str:
    run = len(extents) > 2 and list(extents) == list(range(extents[0], extents[-1] + 1))
    return f"{extents[0]}..{extents[-1]}" if run else ",".join(map(str, extents))


def one_shape_only(what: str, shapes: Mapping[str, Sequence[Extent]]) -> dict[str, tuple[int, ...]]:
    """The shapes, none of which is a range.  Raises ``DeployccError`` (DC242) where one is."""
    first, ranges = split_ranges(shapes)
    if ranges:
        raise DeployccError(several_at_once(what, ranges))
    return first


def several_at_once(what: str, buckets: Mapping[str, Sequence[Sequence[int]]]) -> Diagnostic:
    """DC242: ``what`` cannot be had for a package of several shapes."""
    told = ", ".join(f"{name}={text_of(axes)}" for name, axes in buckets.items())
    one = " ".join(f"--shape {name}={text_of([axis[:1] for axis in axes])}" for name, axes in buckets.items())
    return Diagnostic(
        "DC242",
        f"{what} is for one shape at a time",
        got=f"--shape {told}",
        need="one extent for each axis",
        help=f"give one shape, such as {one}",
    )
