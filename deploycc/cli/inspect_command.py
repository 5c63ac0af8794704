"""``deploycc inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deploycc.manifest import describe, read_manifest


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
    """Show what is in PACKAGE: inputs, outputs, target, sizes, operators, needed libraries."""
    manifest = read_manifest(package)
    click.echo(json.dumps(manifest, indent=2) if as_json else "\n".join(describe(manifest)))
