"""What shapes a package has variants for: the ranges of ``--shape`` (``1..8x3x640x640``) made into shapes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from deploycc.importing.reading import read_model
from deploycc.types import DeployccError, Diagnostic

MOST_VARIANTS = 16
"""Each is compiled like a network of its own, and an app that needs more has a network for the range."""

Axis = tuple[str, int]
Shapes = dict[str, tuple[int, ...]]


def expand(model: Path, buckets: Mapping[str, tuple[tuple[int, ...], ...]]) -> tuple[Shapes, ...]:
    """The shapes of each variant, by input: all combinations, the last open extent varying fastest.

    ``buckets`` has for each axis of an input the extents that it may have.  Axes that the model gives one
    symbolic name are one dimension: they move together, and are one factor of the combinations.

    Raises ``DeployccError``: DC240 for more than ``MOST_VARIANTS``, DC241 for one dimension with two ranges,
    and what reading the file does.
    """
    names = _symbols(read_model(model)[0], buckets)
    groups: dict[str | Axis, tuple[Axis, tuple[int, ...]]] = {}
    faults = []
    for name, axes in buckets.items():
        for axis, extents in enumerate(axes):
            if len(extents) == 1 and (name, axis) not in names:
                continue
            key = names.get((name, axis), (name, axis))
            place, known = groups.setdefault(key, ((name, axis), extents))
            if known != extents:
                faults.append(
                    Diagnostic(
                        "DC241",
                        f"dimension '{names[name, axis]}' is given two ranges",
                        got=f"{_text(known)} on axis {place[1]} of '{place[0]}', "
                        f"{_text(extents)} on axis {axis} of '{name}'",
                        need="the same extents in the same order: what shares a dimension moves together",
                        help="give both the same range, or leave one input out: it follows from the other",
                    )
                )
    if faults:
        raise DeployccError(*faults)
    count = 1
    for _, extents in groups.values():
        count *= len(extents)
    if count > MOST_VARIANTS:
        raise DeployccError(_too_many(count, buckets))
    found = []
    for chosen in itertools.product(*(extents for _, extents in groups.values())):
        extent_of = dict(zip(groups, chosen, strict=True))
        found.append(
            {
                name: tuple(
                    extent_of.get(names.get((name, axis), (name, axis)), extents[0])
                    for axis, extents in enumerate(axes)
                )
                for name, axes in buckets.items()
            }
        )
    return tuple(found)


def _symbols(proto: ModelProto, buckets: Mapping[str, tuple[tuple[int, ...], ...]]) -> dict[Axis, str]:
    """The names that the model gives to the axes of its inputs, where it gives any."""
    return {
        (info.name, axis): dim.dim_param.strip(" ?")
        for info in proto.graph.input
        if info.name in buckets
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        if axis < len(buckets[info.name]) and dim.dim_param.strip(" ?")
    }


def _text(extents: tuple[int, ...]) -> str:
    return ",".join(map(str, extents))


def _too_many(count: int, buckets: Mapping[str, tuple[tuple[int, ...], ...]]) -> Diagnostic:
    open_axes = [
        f"{len(extents)} on axis {axis} of '{name}'"
        for name, axes in buckets.items()
        for axis, extents in enumerate(axes)
        if len(extents) > 1
    ]
    return Diagnostic(
        "DC240",
        f"--shape declares {count} variants",
        got=", ".join(open_axes),
        need=f"at most {MOST_VARIANTS} in a package",
        help="declare the sizes that the app really has (1,2,4,8), and pad what lies between",
    )
