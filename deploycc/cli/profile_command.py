"""``deploycc profile``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

import click

from deploycc.cli.handing_over import refuse_other_folders
from deploycc.cli.options import chip_option


@click.command(
    "profile",
    epilog="""\b
Examples:
  deploycc profile det-host
  deploycc profile det-host --top 10 --trace det.json
  deploycc profile det-arm64 --runner 'ssh pi' --threads 4 --json -
  deploycc profile det-arm64 --runner qemu-aarch64-static --runs 5

The trace opens in https://ui.perfetto.dev and in chrome://tracing. Packages of another machine run
in its emulator if there is one here, whose times are not those of a device. Of a package for GPUs
nothing is timed without one: its layers get what the chip's description allows at best.""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--runner",
    metavar="COMMAND",
    help="Where it runs: an emulator's command, or 'ssh HOST'; here if not given.",
)
@chip_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Threads of a run, the caller's own included.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 100000),
    metavar="N",
    help="Timed runs; as many as 2 s allow if not given.",
)
@click.option(
    "--inputs",
    metavar="golden|random|PATH",
    default="golden",
    show_default=True,
    help="The package's own, random ones, an .npz file, or a folder of input_I.bin or .npy.",
)
@click.option(
    "--ceilings",
    type=click.Choice(["measured", "target"]),
    default="measured",
    show_default=True,
    help="What the roofline's share is of: measured where it runs, or told by the target, of all cores.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a timeline of runs.",
)
@click.option(
    *("--json", "json_file"), metavar="FILE|-", help="Write all of it as JSON; - in place of the table."
)
@click.option(
    *("--sort", "order"),
    type=click.Choice(["time", "step"]),
    default="time",
    show_default=True,
    help="Slowest layers first, or as they run.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N lines.")
def profile_command(
    package: Path,
    runner: str | None,
    chip: str | None,
    threads: int,
    runs: int | None,
    inputs: str,
    ceilings: Literal["measured", "target"],
    trace: Path | None,
    json_file: str | None,
    order: Literal["time", "step"],
    top: int | None,
) -> None:
    """Time the layers of PACKAGE, and say what each one's time is worth and why it takes that.

    A line a layer: median and spread of its time, its share of all, GFLOP/s, the share of what the machine
    allows (roofline), bytes moved, layout, schedule and knobs, the model's nodes, and the reason.
    """
    # Other commands should not start later for what only this one needs.
    from deploycc.cli.profile_table import profile_lines
    from deploycc.profile import profile, profile_to_json, write

    refuse_other_folders(package)
    result = profile(
        package,
        runner,
        threads=threads,
        runs=runs,
        inputs=inputs,
        ceilings=ceilings,
        trace=trace,
        chip=chip,
    )
    text = json.dumps(profile_to_json(result), indent=2)
    if json_file not in (None, "-"):
        write(str(json_file), text + "\n")
    click.echo(text if json_file == "-" else "\n".join(profile_lines(result, order, top, _width())))


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
