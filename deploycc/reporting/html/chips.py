"""A package's GPU chips: what each gets, and what its kernels take of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploycc.chip_facts import ChipFacts, chips_told
from deploycc.reporting.html.chart import folded, table
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.quantities import nbytes, plural

_HEAD = ("chip", "code", "steps", "kernels launched", "on the processor", "arena", "weights")
_KERNELS = ("kernel", "registers", "shared memory", "local memory", "launches")


def chips(result: PackageResult) -> Section | None:
    """A table of the chips, and one of each chip's kernels; nothing for a package without GPUs."""
    found = chips_told(result.manifest)
    if not found:
        return None
    rows = [
        (
            f"{one.arch} ({one.name})",
            ", ".join(one.code) or "-",
            str(one.steps),
            str(one.launches),
            plural(one.on_processor, "step") if one.on_processor else "-",
            nbytes(one.arena_bytes),
            nbytes(one.weights_bytes),
        )
        for one in found
    ]
    precision = str(result.manifest["target"].get("precision", "fp32"))
    parts = [
        element("p", f"Computed in {precision}.  The steps on this page are those of {found[0].arch}."),
        table(_HEAD, rows),
    ]
    for one, chip in zip(found, result.manifest["chips"], strict=True):
        if one.kernels:
            title = f"{plural(len(one.kernels), 'kernel')} of {one.arch}"
            parts.append(folded(title, table(_KERNELS, _rows(one, chip))))
    return Section("chips", "GPU chips", joined(*parts))


def _rows(one: ChipFacts, chip: Mapping[str, Any]) -> list[tuple[str | Markup, ...]]:
    launches: dict[str, int] = {}
    for call in chip["calls"]:
        for launch in call.get("launches", ()):
            launches[launch["function"]] = launches.get(launch["function"], 0) + 1
    return [
        (
            element("code", kernel.function),
            str(kernel.registers),
            nbytes(kernel.shared_bytes),
            nbytes(kernel.local_bytes),
            str(launches.get(kernel.function, 0)),
        )
        for kernel in one.kernels
    ]
