"""Packages for several shapes: what their manifest says of each variant, and a package as one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploycc.packaging.interface import Interface
from deploycc.packaging.manifest import VARYING, call_entry, golden_table, memory_table, tensor_entry
from deploycc.types import DeployccError, Diagnostic, Golden, Plan, Variant


def variant_tables(
    interface: Interface, plan: Plan, golden: Golden, others: Sequence[Variant]
) -> list[dict[str, Any]]:
    """``"variants"`` of a manifest, the first one too; a handle's arena is that of the largest."""
    folder = f"share/{interface.name}/golden"
    return [
        {
            "calls": [call_entry(call) for call in one.plan.calls],
            "golden": golden_table(one.golden, f"{folder}/variant_{number}" if number else folder),
            "inputs": [tensor_entry(tensor) for tensor in inputs],
            "memory": memory_table(one.plan),
            "outputs": [tensor_entry(tensor) for tensor in outputs],
        }
        for number, (one, (inputs, outputs)) in enumerate(
            zip((Variant(plan, golden), *others), interface.variants, strict=True)
        )
    ]


def count_of(manifest: Mapping[str, Any]) -> int:
    """How many variants a package has; 1 for one of one shape."""
    return len(manifest.get("variants", ())) or 1


def view_of(manifest: Mapping[str, Any], number: int, shown: str) -> dict[str, Any]:
    """The manifest as if the package were variant ``number`` alone; ``"variant"`` says which it is.

    Raises ``DeployccError`` (DC244) if there is no such variant; ``shown`` is the package's name for people.
    """
    count = count_of(manifest)
    if number >= count:
        raise DeployccError(
            Diagnostic(
                "DC244",
                f"{shown} has no variant {number}",
                got=f"@{number}",
                need=f"a number from 0 to {count - 1}"
                if count > 1
                else "a package built for a range of shapes",
                help="'deploycc inspect' lists the variants" if count > 1 else f"leave out @{number}",
            )
        )
    if "variants" not in manifest:
        return dict(manifest)
    tables = {key: value for key, value in manifest["variants"][number].items() if key in VARYING}
    return {
        **{key: value for key, value in manifest.items() if key != "variants"},
        **tables,
        "variant": number,
    }


def parted(path: str | Path) -> tuple[Path, int | None]:
    """``PACKAGE@3`` as the folder and the variant's number, ``None`` where none is named."""
    found = re.fullmatch(r"(.+)@(\d{1,4})/?", str(path), re.DOTALL | re.ASCII)
    if found is None or Path(path).exists():
        return Path(path), None
    return Path(found[1]), int(found[2])
