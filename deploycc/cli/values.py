"""Values of options: shapes and targets."""

from __future__ import annotations

import re
from typing import ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from deploycc.gpu_targets import ARCHITECTURES, CUDA, gpu_names
from deploycc.lint_targets import external, external_names
from deploycc.ranges import Extent, extent_of
from deploycc.targets import target_names

Shape = TypeVar("Shape", bound=tuple[object, ...])


class ShapeOption(click.ParamType[tuple[str, tuple[int, ...]]]):
    """``NAME=EXTENTxEXTENT...``, such as ``x=1x3x224x224``; without ``NAME=`` where ``named`` is false.

    Tensor names may hold any character, ``=`` too: the last ``=`` separates.
    """

    name = "shape"

    def __init__(self, *, named: bool) -> None:
        self._form = "NAME=1x3x224x224" if named else "[NAME=]1x3x224x224"
        self._named = named

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """The input's name (``""`` if none is given) and its extents."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        if ".." in text or "," in text:
            self.fail(f"{value!r} has a range, which only 'deploycc build' takes; give one shape", param, ctx)
        extents = text.split("x")
        valid = all(extent.isascii() and extent.isdigit() and int(extent) > 0 for extent in extents)
        if not valid or (self._named and not name):
            self.fail(f"{value!r} is no shape; write {self._form}, each extent a number above 0", param, ctx)
        return name, tuple(int(extent) for extent in extents)


class CountOption(click.ParamType[tuple[str, int]]):
    """``NAME=N``, such as ``boxes=300``; the last ``=`` separates."""

    name = "count"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The name and the number."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        if not (name and text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
            self.fail(f"{value!r} is no number of rows; write NAME=300, a number above 0", param, ctx)
        return name, int(text)


class RangesOption(click.ParamType[tuple[str, tuple[Extent, ...]]]):
    """As ``ShapeOption``, where an extent may be a range (``1..8``) or a list (``1,2,4``)."""

    name = "shape"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[Extent, ...]]:
        """The input's name and its extents."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        extents = [extent_of(part) for part in text.split("x")]
        known = tuple(extent for extent in extents if extent is not None)
        if not name or len(known) < len(extents):
            form = "NAME=1x3x224x224, or NAME=1..8x3x224x224 and NAME=1,2,4x3x224x224 for a variant of each"
            self.fail(f"{value!r} is no shape; write {form}, each extent a number above 0", param, ctx)
        return name, known


class TargetOption(click.ParamType[str]):
    """A target's name or the path of its TOML file."""

    name = "target"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is; ``load_target`` checks it."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of targets, or files."""
        known = (*target_names(), *_with_chips())
        names = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


def _with_chips() -> list[str]:
    return [f"{CUDA}:{chip}" for chip in (*ARCHITECTURES, *gpu_names())]


class BytesOption(click.ParamType[int]):
    """A number of bytes: ``65536``, ``64KiB``, ``1.5GiB``; ``kB``, ``MB`` and ``GB`` are powers of 1000."""

    name = "size"
    _UNITS: ClassVar = {
        "": 1,
        "b": 1,
        "bytes": 1,
        **{
            unit: 1024**power
            for power, units in enumerate(("", "ki", "mi", "gi"))
            for unit in (units, units + "b")
            if units
        },
        **{
            unit: 1000**power
            for power, units in enumerate(("", "k", "m", "g"))
            for unit in (units + "b",)
            if units
        },
    }

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The size in bytes, above 0."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", str(value).strip(), re.ASCII)
        factor = self._UNITS.get(found[2].lower()) if found else None
        size = int(float(found[1]) * factor) if found and factor else 0
        if size <= 0:
            self.fail(
                f"{value!r} is no size above 0; write 64MiB, 1.5GiB, 64MB or a number of bytes", param, ctx
            )
        return size


class LintTargetOption(TargetOption):
    """As ``TargetOption``, or another compiler's target with a unit and a version: ``snpe:htp@2.10``."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of targets and units, or files."""
        externals = [
            name
            for family in external_names()
            for name in (family, *(f"{family}:{unit}" for unit in external(family).units))
        ]
        names = (*target_names(), *_with_chips(), *externals)
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


def shapes_of(options: tuple[tuple[str, Shape], ...]) -> dict[str, Shape]:
    """The shapes given, by input; an input given twice is a usage error."""
    shapes: dict[str, Shape] = {}
    for name, shape in options:
        if name in shapes:
            raise click.UsageError(f"--shape is given twice for {name!r}")
        shapes[name] = shape
    return shapes


def counts_of(options: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """The numbers of rows given, by name; one given twice is a usage error."""
    counts: dict[str, int] = {}
    for name, count in options:
        if name in counts:
            raise click.UsageError(f"--max is given twice for {name!r}")
        counts[name] = count
    return counts
