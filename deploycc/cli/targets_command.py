"""``deploycc targets``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from deploycc.targets import load_target, target_names


@click.command(
    "targets",
    epilog="""\b
Examples:
  deploycc targets
  deploycc targets --json | jq '.[] | select(.name == "rpi4")'

A new target is a TOML file: docs/new-target.md.""",
)
@click.option("--json", "as_json", is_flag=True, help="Everything that is known of each, as JSON.")
def targets_command(as_json: bool) -> None:
    """List the machines that packages can be built for."""
    targets = [load_target(name) for name in target_names()]
    if as_json:
        click.echo(json.dumps([asdict(target) for target in targets], indent=2))
        return
    rows = [("NAME", "CPU", "VECTORS", "C LIBRARY", "DESCRIPTION")]
    for target in targets:
        libc = f"{target.linker.libc} {target.linker.glibc_floor}".strip()
        vectors = f"{target.simd.registers} x {target.simd.bits} bit"
        rows.append((target.name, target.llvm.cpu, vectors, libc, target.description))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        click.echo(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        )
