"""``deploycc report``."""

from __future__ import annotations

from pathlib import Path

import click

from deploycc.cli.handing_over import refuse_other_folders
from deploycc.diagnostics import printable
from deploycc.report import PAGE, report
from deploycc.reporting.package_summary import summary_text

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "report",
    epilog="""\b
Examples:
  deploycc report det-host
  deploycc report det-host -o det.html --records ~/.cache/deploycc/tuning/host.jsonl
  deploycc report det-arm64 --no-measure --profile profile.json --verification verification.json

Exit codes: 0 written, 2 wrong usage or broken input, 70 a fault of deploycc.""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=_FILE, default=PAGE, show_default=True, metavar="FILE", help="Where the page goes."
)
@click.option("--profile", type=_FILE, metavar="FILE", help="A profile that was measured before (JSON).")
@click.option("--verification", type=_FILE, metavar="FILE", help="A verification made before (JSON).")
@click.option("--benchmark", type=_FILE, metavar="FILE", help="A benchmark measured before (JSON).")
@click.option(
    "--records", type=_FILE, multiple=True, metavar="FILE", help="A tuning database, for the tuning curves."
)
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Verify and profile the package here where no file is given (the default), or do not.",
)
def report_command(
    package: Path,
    output: Path,
    profile: Path | None,
    verification: Path | None,
    benchmark: Path | None,
    records: tuple[Path, ...],
    measure: bool,
) -> None:
    """Write one self-contained page about PACKAGE, and print what it says first.

    The page has the graph before and after, what each pass did, lint's findings, layers by time, a
    roofline, the arena over the run, tuning curves, sizes, verification and the ABI. It opens
    without a network. Every package has one from its build, without measurements:
    share/NAME/report.html.
    """
    refuse_other_folders(package)
    result = report(
        package,
        output,
        profile=profile,
        verification=verification,
        benchmark=benchmark,
        records=records,
        measure=measure,
    )
    click.echo(printable(summary_text(result)) + f"\n{output}")
