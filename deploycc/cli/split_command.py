"""``deploycc split``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click

from deploycc.cli.options import limit_options, limits_of, shape_option
from deploycc.cli.progress import Progress
from deploycc.cli.values import TargetOption, shapes_of
from deploycc.diagnostics import render
from deploycc.split import Split, split


@click.command(
    "split",
    epilog="""\b
Examples:
  deploycc split detector.onnx --target snpe:htp
  deploycc split detector.onnx --target snpe:htp --cpu-target android-arm64 --shape rois=100x4
  deploycc split model.onnx --target snpe --no-build -o out/parts

The folder has an ONNX file for each part, what the converter needs for the accelerator's, a package for
each of the CPU's, and a C++ pipeline that calls them in order; the app implements an interface for each of
the accelerator's parts and the host's. It is written only if the parts compute what the whole does.""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target", type=TargetOption(), required=True, help="The accelerator: another compiler's target."
)
@click.option(
    "--cpu-target",
    type=TargetOption(),
    default="arm64",
    show_default=True,
    help="What the rest is compiled for: the name of a target or a TOML file.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="NAME-TARGET-split unless given."
)
@shape_option("Static shape of an input, or the most of a tensor inside whose extents only a run can tell.")
@click.option("--name", help="C++ namespace and prefix; made from the file name if not given.")
@click.option(
    *("--emit", "emit"),
    type=click.Choice(["shared", "static"]),
    default="shared",
    show_default=True,
    help="Form of the CPU's packages.",
)
@click.option(
    *("--no-build", "build_packages"),
    is_flag=True,
    flag_value=False,
    default=True,
    help="Check the CPU's parts and leave their packages out.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the inputs of the check.")
@limit_options()
@click.option("--quiet", "-q", is_flag=True, help="Errors only.")
def split_command(
    model: Path,
    target: str,
    cpu_target: str,
    output: Path | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    name: str | None,
    emit: Literal["shared", "static"],
    build_packages: bool,
    seed: int,
    stage_seconds: float,
    memory_mib: int,
    quiet: bool,
) -> None:
    """Cut MODEL (an ONNX file) into parts for an accelerator, the CPU and the app."""
    given_shapes = shapes_of(shapes)
    progress = Progress(quiet=quiet)
    try:
        result = split(
            model,
            target,
            output,
            cpu_target=cpu_target,
            shapes=given_shapes,
            name=name,
            emit=emit,
            build_packages=build_packages,
            seed=seed,
            limits=limits_of(stage_seconds, memory_mib),
            on_event=progress,
        )
    finally:
        progress.close()
    if quiet:
        return
    for diagnostic in result.diagnostics:
        click.echo(render(diagnostic), err=True)
    click.echo("\n".join(_summary(result)))


def _summary(result: Split) -> Iterator[str]:
    try:
        shown = result.path.relative_to(Path.cwd())
    except ValueError:
        shown = result.path
    pipeline: Any = result.pipeline
    parts, check = pipeline["parts"], pipeline["check"]
    count = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    yield f"{shown}: {pipeline['name']} in {count}"
    total = sum(part["macs"] for part in parts) or 1
    for part in parts:
        where = part["target"] or "the app"
        what = part.get("package") or part.get("handover") or part["interface"]
        nodes = len(part["node_names"])
        share = part["macs"] / total
        yield f"  {part['number']:>2}  {where:<14} {nodes:>4} nodes {share:>5.0%} of MACs  {what}"
    same = "the same bytes" if check["exact"] else f"at most {check['error']:.2g} off"
    yield f"  checked: {check['compared']} random inputs, {same} ({check['engine']})"
