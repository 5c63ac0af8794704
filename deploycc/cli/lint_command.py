"""``deploycc lint``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploycc.cli.values import ShapeOption, TargetOption, shapes_of
from deploycc.diagnostics import render
from deploycc.lint import lint_model


@click.command(
    "lint",
    epilog="""\b
Examples:
  deploycc lint model.onnx --target arm64
  deploycc lint model.onnx --target snpe:htp --target arm64""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    *("--target", "targets"),
    type=TargetOption(),
    multiple=True,
    default=("host",),
    help="What to check against; once for each target.",
)
@click.option(*("--shape", "shapes"), type=ShapeOption(named=True), multiple=True, metavar="NAME=1x3x224x224")
def lint_command(
    model: Path, targets: tuple[str, ...], shapes: tuple[tuple[str, tuple[int, ...]], ...]
) -> None:
    """Say whether MODEL (an ONNX file) can run on targets, and what to write instead where it cannot."""
    result = lint_model(model, targets, shapes=shapes_of(shapes))
    for report in result.reports:
        click.echo(f"{report.target}: {report.coverage}")
        for diagnostic in report.diagnostics:
            click.echo(render(diagnostic))
        for hint in report.hints:
            click.echo(str(hint))
    sys.exit(any(d.severity == "error" for report in result.reports for d in report.diagnostics))
