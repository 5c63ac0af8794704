"""``deploycc inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from deploycc.packaging import inspect

_TOO_LONG = ("calls", "files")
"""Parts of a manifest with a line for each kernel or file: in ``--json`` only."""


@click.command(
    "inspect",
    epilog="""\b
Examples:
  deploycc inspect det-arm64
  deploycc inspect det-arm64 --json | jq .inputs""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The manifest as it is.")
def inspect_command(package: Path, as_json: bool) -> None:
    """Show what is in PACKAGE: inputs, outputs, target, sizes, operators, needed libraries.

    Every file is checked against the hash it was built with.
    """
    manifest = inspect(package)
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
    else:
        shown = {key: value for key, value in manifest.items() if key not in _TOO_LONG}
        click.echo("\n".join(_lines(shown, "")))


def _lines(table: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in table.items():
        label = f"{indent}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield label
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield label
            for item in value:
                yield f"{indent}  " + ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in item.items())
        else:
            yield f"{label}: {_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        extents = all(isinstance(item, int) for item in value)
        return ("x" if extents else ", ").join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
