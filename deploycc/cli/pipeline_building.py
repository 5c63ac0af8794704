"""``deploycc build`` of a ``pipeline.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from deploycc.cli.options import given_of
from deploycc.cli.progress import Progress
from deploycc.diagnostics import render
from deploycc.types import DeployccError, Diagnostic, Limits

_OF_MODELS = (
    *("shapes", "name", "emit", "runtime", "dump_dir", "precision"),
    *("keep_kernels", "profile", "debug_runtime", "arena", "max_memory", "max_counts", "op_dirs", "tune"),
)
"""Options of ``build`` that are for one model."""


def is_pipeline(model: Path) -> bool:
    """Whether ``build`` is given a pipeline in place of a model: models are never JSON."""
    return model.suffix == ".json"


def refuse_options_of_models() -> None:
    """Raise DC768 for options on the command line that a pipeline has no use for."""
    given = given_of(_OF_MODELS)
    if given:
        raise DeployccError(
            Diagnostic(
                "DC768",
                f"the parts of a pipeline are built together: {', '.join(given)} cannot be followed",
                got=" ".join(given),
                need="shapes and names as pipeline.json has them, the shared runtime",
                help="leave them out, or build one part alone: deploycc build parts/NN-cpu.onnx",
            )
        )


def build_and_tell(
    model: Path,
    target: str,
    output: Path | None,
    *,
    quiet: bool,
    verbose: bool,
    seed: int,
    limits: Limits,
    verify: bool,
    schedule_dirs: Sequence[Path],
    records: Sequence[Path],
    shipped_records: bool,
) -> None:
    """Build all parts, show the progress of each, and what came of it."""
    from deploycc.pipelines import build_pipeline  # what a build of one model need not load

    progress = Progress(quiet=quiet)
    if not quiet:
        click.echo(f"{model} -> target {target}", err=True)
    try:
        built = build_pipeline(
            model,
            target,
            output,
            seed=seed,
            limits=limits,
            verify=verify,
            schedule_dirs=schedule_dirs,
            records=records,
            shipped_records=shipped_records,
            on_event=progress,
        )
    finally:
        progress.close()
    if quiet:
        return
    for diagnostic in built.diagnostics:
        if verbose or diagnostic.severity != "info":
            click.echo(render(diagnostic), err=True)
    try:
        shown = built.path.relative_to(Path.cwd())
    except ValueError:
        shown = built.path
    of_build = built.pipeline["built"]
    click.echo(f"{shown}: {built.pipeline['name']}, {len(built.parts)} parts")
    for number, (place, what) in enumerate(built.parts):
        click.echo(f"  {number:>2}  {place:<14} {what}")
    apart = of_build["arena_bytes_apart"]
    click.echo(f"  one arena of {of_build['arena_bytes']} bytes for all packages, instead of {apart}")
