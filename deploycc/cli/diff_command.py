"""``deploycc diff``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from deploycc.cli.options import limit_options, limits_of
from deploycc.diff import FAIL_ON, FailOn, diff, failures
from deploycc.diffing.rendering import as_json, as_markdown, as_text
from deploycc.text_file import write_text
from deploycc.timing.schedule import SECONDS, Effort


@click.command(
    "diff",
    epilog="""\b
Examples:
  deploycc diff det-before det-after
  deploycc diff det-x86-64 det-arm64 --model det.onnx
  deploycc diff det-before det-after --times --threads 4
  deploycc diff det-before det-after --format markdown --fail-on numbers --fail-on sizes --growth 1
  deploycc diff det-arm64 det-small-arena --runner 'ssh board' --times

A is the package before, B the one after: 'merged' are several kernels of A that are one in B. Without
--all only what differs is shown. Where a package cannot be run here only what the packages say of
themselves is compared, and the last lines say so. More in docs/diff.md.

Exit codes: 0 compared, 1 something of --fail-on holds or a package failed, 2 wrong usage or broken input,
70 a fault of deploycc.""",
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The ONNX file: how far either package is from the model itself, tensor by tensor.",
)
@click.option(
    "--inputs",
    default="golden",
    show_default=True,
    metavar="WHAT",
    help="What both run on: golden (A's), random[:SEED], or an .npz file or a folder as verify takes it.",
)
@click.option(
    *("--runner", "runners"),
    multiple=True,
    metavar="COMMAND",
    help="Where both run ('ssh HOST', an emulator); given twice, where A and where B runs.",
)
@click.option("--no-run", is_flag=True, help="Compare only what the packages say of themselves.")
@click.option("--times", is_flag=True, help="Let both take turns in one place, and compare their times.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=SECONDS,
    show_default=True,
    help="With --times: how long is measured, about.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each package.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    metavar="T",
    help="Largest error of an output, as a share of its largest value in A; 0 asks for equal values. "
    "Unless given it is that of the output's type.",
)
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    multiple=True,
    help="End with exit code 1 if outputs differ by more than the tolerance (numbers), a layer is another "
    "(layers), B takes more bytes (sizes) or is slower (times).",
)
@click.option(
    "--growth",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    metavar="PERCENT",
    help="What --fail-on sizes lets through.",
)
@click.option("--all", "everything", is_flag=True, help="Show also what is the same.")
@click.option(
    *("--format", "shape"),
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="Of what is printed; markdown is for the comment of a pull request.",
)
@click.option(
    *("--json", "json_file"),
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Also write everything as JSON; - is standard output, in place of --format.",
)
@limit_options("the child process that runs --model")
def diff_command(
    a: Path,
    b: Path,
    model: Path | None,
    inputs: str,
    runners: tuple[str, ...],
    no_run: bool,
    times: bool,
    seconds: float,
    threads: int,
    tolerance: float | None,
    fail_on: tuple[FailOn, ...],
    growth: float,
    everything: bool,
    shape: str,
    json_file: Path | None,
    stage_seconds: float,
    memory_mib: int,
) -> None:
    """Compare packages A and B: layers, schedules, sizes, interface, numbers and times."""
    if len(runners) > 2:
        raise click.UsageError("--runner is given more than twice: once for both, or for A and for B")
    times = times or "times" in fail_on
    found = diff(
        a,
        b,
        model=model,
        inputs=inputs,
        runners=runners,
        run=not no_run,
        numbers="numbers" in fail_on or tolerance is not None,
        times=times,
        tolerance=tolerance,
        threads=threads,
        effort=replace(Effort(), seconds=seconds),
        limits=limits_of(stage_seconds, memory_mib),
    )
    lines = failures(found, fail_on, growth / 100)
    if json_file is not None and str(json_file) != "-":
        write_text(json_file, as_json(found))
    if shape == "json" or str(json_file) == "-":
        text = as_json(found)
    else:
        text = as_markdown(found, everything) if shape == "markdown" else as_text(found, everything)
    click.echo(text, nl=False)
    for line in lines:
        click.echo(f"failed: {line}", err=True)
    if lines:
        sys.exit(1)
