"""``deploycc build`` for targets of other compilers, and the folders that are no packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from deploycc.cli.options import given_of
from deploycc.cli.progress import Progress
from deploycc.diagnostics import render
from deploycc.handover import hand_over, is_handover, with_converter
from deploycc.split import is_split
from deploycc.types import DeployccError, Diagnostic, Limits

_OF_PACKAGES = (
    *("emit", "runtime", "seed", "dump_dir", "keep_kernels", "profile", "debug_runtime"),
    *("arena", "max_memory", "max_counts", "schedule_dirs", "op_dirs", "records", "shipped_records", "tune"),
    *("verified", "precision"),
)
"""Options of ``build`` that decide how deploycc compiles."""


def refuse_options_of_packages(target: str) -> None:
    """Raise DC511 for options on the command line that only make sense where deploycc compiles.

    DC512 comes first: for a target that nobody compiles for no option would help.
    """
    with_converter(target)
    given = given_of(_OF_PACKAGES)
    if given:
        raise DeployccError(
            Diagnostic(
                "DC511",
                f"the target '{target}' is another compiler's: {', '.join(given)} cannot be followed",
                got=" ".join(given),
                need="only --shape, --name, -o and limits",
                help="give what the converter needs to convert.sh in the folder; it passes it on",
            )
        )


def hand_over_and_tell(
    model: Path,
    target: str,
    output: Path | None,
    shapes: Mapping[str, tuple[int, ...]],
    name: str | None,
    limits: Limits,
    *,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write the hand-over, show its progress and what lint has to say, and how to go on."""
    progress = Progress(quiet=quiet)
    try:
        result = hand_over(model, target, output, shapes=shapes, name=name, limits=limits, on_event=progress)
    finally:
        progress.close()
    if quiet:
        return
    for diagnostic in result.report.diagnostics:
        if verbose or diagnostic.severity != "info":
            click.echo(render(diagnostic), err=True)
    try:
        shown = result.path.relative_to(Path.cwd())
    except ValueError:
        shown = result.path
    click.echo(f"{shown}: {result.manifest['model']['file']}, checked for {target}, not compiled")
    click.echo(f"  next: sh {shown}/convert.sh, where the converter is")


def refuse_other_folders(folder: Path) -> None:
    """Raise DC787 for a folder that another command than ``build`` for a machine wrote."""
    if is_handover(folder):
        what, read = "a hand-over to another compiler", "manifest.json, lint-report.txt and README.txt"
    elif is_split(folder):
        what, read = "a network in parts", "pipeline.json; its packages are in packages/"
    else:
        return
    raise DeployccError(
        Diagnostic(
            "DC787",
            f"{folder} is {what}, no package",
            got=what,
            need="a folder that 'deploycc build' wrote for a target that deploycc compiles for",
            help=f"read {read}",
        )
    )
