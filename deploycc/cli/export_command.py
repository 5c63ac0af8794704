"""``deploycc export``."""

from __future__ import annotations

from pathlib import Path

import click

from deploycc.cli.values import ShapeOption, shapes_of
from deploycc.exporting import export


@click.command(
    "export",
    epilog="""\b
Examples:
  deploycc export my_net.py:make_net --shape 1x3x224x224
  deploycc export my_net.py:make_net --shape image=1x3x64x64 --shape mask=1x1x64x64 -o net.onnx

FACTORY is a function without arguments that returns a torch.nn.Module, or a Module class. The file is
Python and is run: export only code you trust. Needs PyTorch: pip install 'deploycc[torch]'.""",
)
@click.argument("source", metavar="FILE.py:FACTORY")
@click.option(
    *("--shape", "shapes"),
    type=ShapeOption(named=False),
    multiple=True,
    required=True,
    metavar="[NAME=]1x3x224x224",
    help="Shape of an input, in the order of forward()'s parameters.",
)
@click.option(
    *("-o", "--output"), type=click.Path(path_type=Path), metavar="FILE", help="FACTORY.onnx unless given."
)
def export_command(source: str, shapes: tuple[tuple[str, tuple[int, ...]], ...], output: Path | None) -> None:
    """Export a PyTorch module to ONNX."""
    named = [shape for shape in shapes if shape[0]]
    shapes_of(tuple(named))
    path = export(source, list(shapes), output)
    click.echo(f"{path}: {path.stat().st_size} bytes")
