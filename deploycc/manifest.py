"""The manifest of a finished package, read back and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploycc.types import DeployccError, Diagnostic


def read_manifest(package: Path) -> dict[str, Any]:
    """The parsed ``share/NAME/manifest.json`` of a package folder; DC759 if there is none."""
    found = sorted(package.glob("share/*/manifest.json"))
    why = "no share/NAME/manifest.json in it" if package.is_dir() else "no such folder"
    if found:
        try:
            manifest = json.loads(found[0].read_text(encoding="utf-8"))
            if isinstance(manifest, dict) and "deploycc" in manifest:
                return manifest
            why = f"{found[0]} is not deploycc's"
        except (OSError, ValueError) as error:
            why = f"{found[0]}: {error}"
    raise DeployccError(
        Diagnostic("DC759", f"{package} is no package", got=why, need="a folder that 'deploycc build' wrote")
    )


def describe(manifest: Mapping[str, Any], indent: str = "") -> list[str]:
    """The manifest as lines of text, nested tables indented."""
    lines = []
    for key, value in manifest.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{label}", *describe(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines.append(f"{indent}{label}")
            for item in value:
                lines.append(f"{indent}  " + ", ".join(f"{k} {_plain(v)}" for k, v in item.items()))
        else:
            lines.append(f"{indent}{label}: {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, list):
        numbers = all(isinstance(item, int) for item in value)
        return ("x" if numbers else ", ").join(map(str, value)) or "-"
    return "-" if value in ("", None) else str(value)
