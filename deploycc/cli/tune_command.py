"""``deploycc tune``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from deploycc.cli.interrupts import Interrupted
from deploycc.cli.options import max_option, op_dir_option, precision_option, shape_option
from deploycc.cli.tuning_progress import TuningProgress, summary
from deploycc.cli.values import TargetOption, counts_of, shapes_of
from deploycc.diagnostics import render
from deploycc.types import DeployccError, Limits

_DEFAULT_LIMITS = Limits()


@click.command(
    "tune",
    epilog="""\b
Examples:
  deploycc tune model.onnx --budget 60s
  deploycc tune det.onnx --target x86-64 --shape x=1x3x640x640 --budget 500trials
  deploycc tune --database all.jsonl --merge mine.jsonl --merge theirs.jsonl
  deploycc build model.onnx --records ~/.cache/deploycc/tuning/host.jsonl

Ctrl-C keeps what was found; the next session goes on from there.""",
)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--target",
    type=TargetOption(),
    default="host",
    show_default=True,
    help="Name of a target, cuda:CHIPS@PROCESSOR, or a TOML file.",
)
@precision_option
@shape_option()
@max_option()
@click.option(
    "--budget",
    default="60s",
    show_default=True,
    metavar="TIME|TRIALS",
    help="How long to search: 60s, 10min, 500trials.",
)
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where records are; ~/.cache/deploycc/tuning/TARGET.jsonl unless given.",
)
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Bring this database's records into --database; without MODEL that is all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search's random choices.")
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=1024),
    metavar="N",
    help="Processes that measure, each on a core; as many as there are cores unless given.",
)
@click.option(
    *("--schedule-dir", "schedule_dirs"),
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="Folder of schedules; a file there replaces the one of its name that comes with deploycc.",
)
@op_dir_option
@click.option(
    *("--no-shipped-records", "shipped_records"),
    is_flag=True,
    flag_value=False,
    default=True,
    help="Search without the records that come with deploycc.",
)
@click.option("--no-compare", is_flag=True, help="Do not run the whole network tuned and untuned at the end.")
@click.option(
    "--stage-seconds",
    type=click.FloatRange(min=0.1),
    default=_DEFAULT_LIMITS.stage_seconds,
    show_default=True,
    help="Longest a stage of reading the model may take.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Also findings that are only for information.")
def tune_command(
    model: Path | None,
    target: str,
    precision: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    max_counts: tuple[tuple[str, int], ...],
    budget: str,
    database: Path | None,
    merge: tuple[Path, ...],
    seed: int,
    workers: int | None,
    schedule_dirs: tuple[Path, ...],
    op_dirs: tuple[Path, ...],
    shipped_records: bool,
    no_compare: bool,
    stage_seconds: float,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Search the fastest schedules for MODEL's operators by measuring them; builds use the records."""
    if model is None and not merge:
        raise click.UsageError("Missing argument 'MODEL' (only --merge does without one).")
    if merge:
        _merge(database, target, merge, quiet)
    if model is None:
        return
    # TVM takes a second to load, which 'deploycc --help' should not.
    from deploycc.tuning import tune

    progress = TuningProgress(quiet=quiet)
    before = _records_in(database, target)
    try:
        result = tune(
            model,
            target,
            budget,
            precision=precision,
            shapes=shapes_of(shapes),
            max_counts=counts_of(max_counts),
            database=database,
            seed=seed,
            workers=workers,
            schedule_dirs=schedule_dirs,
            op_dirs=op_dirs,
            limits=replace(_DEFAULT_LIMITS, stage_seconds=stage_seconds),
            shipped_records=shipped_records,
            compare=not no_compare,
            on_event=progress,
        )
    except Interrupted as interrupt:
        # What was told so far lags behind what was written.
        written = _records_in(database, target) - before
        if written > 0:
            kept = database or _default_database(target)
            interrupt.told = f"interrupted; {written} candidates are kept in {kept}"
        raise
    finally:
        progress.close()
    for diagnostic in result.diagnostics:
        if not quiet and (verbose or diagnostic.severity != "info" or diagnostic.code == "DC604"):
            click.echo(render(diagnostic), err=True)
    if as_json:
        table: dict[str, Any] = {**asdict(result), "database": str(result.database)}
        click.echo(json.dumps({**table, "target": result.target.name}, indent=2))
    elif not quiet:
        click.echo("\n".join(summary(result)))


def _merge(database: Path | None, target: str, sources: tuple[Path, ...], quiet: bool) -> None:
    from deploycc.records import merge

    into = database or _default_database(target)
    count = merge(into, sources)
    if not quiet:
        click.echo(f"{into}: {count} records came in")


def _records_in(database: Path | None, target: str) -> int:
    """How many records the database has; none where it cannot be read, of which the search tells."""
    from deploycc.records import read

    try:
        return len(read(database or _default_database(target))[0])
    except DeployccError:
        return 0


def _default_database(target: str) -> Path:
    from deploycc.records import default_database
    from deploycc.targets import load_target

    return default_database(load_target(target).name)
