"""``deploycc verify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploycc.cli.handing_over import refuse_other_folders
from deploycc.cli.options import chip_option, limit_options, limits_of, op_dir_option
from deploycc.cli.progress import Progress
from deploycc.diagnostics import exit_code, printable, render
from deploycc.running import chips_to_run, variants_of
from deploycc.text_file import write_text
from deploycc.types import Diagnostic
from deploycc.verify import Verified, failures, verify_package
from deploycc.verifying.report import json_report, text_report


class ToleranceOption(click.ParamType[tuple[str, float]]):
    """``VALUE`` for all outputs, or ``NAME=VALUE``; the last ``=`` separates."""

    name = "tolerance"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """The output's name (``""`` for all) and the tolerance."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).rpartition("=")
        try:
            return name, float(number)
        except ValueError:
            self.fail(f"{value!r} is no tolerance; write 1e-4 or NAME=1e-4", param, ctx)


@click.command(
    "verify",
    epilog="""\b
Examples:
  deploycc verify det-arm64
  deploycc verify det-arm64 --model det.onnx --inputs random --samples 3
  deploycc verify det-arm64 --model det.onnx --inputs image.npz --runner "ssh pi@raspberrypi"
  deploycc verify det-arm64 --runner "qemu-aarch64-static" --tolerance 1e-3 --json -
  deploycc verify det-arm64 --model det.onnx --bisect --reduced first-wrong
  deploycc verify det-cuda --chip sm_75

Without --model the golden inputs and outputs in the package are compared, with it random inputs.
A package for another machine runs under qemu where that is installed; --runner "ssh [OPTIONS] HOST"
copies it to a device and runs it there. Without a GPU the PTX of a package for GPUs runs on the
processor, which says whether it is right and not how fast it is.

Exit codes: 0 every output within its tolerance, 1 not so, or the package fails, 2 wrong usage or broken
input, 70 a fault of deploycc.""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The ONNX file, which ONNX Runtime then runs for comparison.",
)
@click.option(
    "--inputs",
    metavar="INPUTS",
    help="golden, random, an .npz file, or a folder of .npy, .bin or .pb files.",
)
@click.option(
    "--runner",
    metavar="COMMAND",
    help="An emulator with its options, or ssh with its options and a host.",
)
@chip_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random inputs.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Sets of random inputs."
)
@click.option(
    *("--tolerance", "tolerances"),
    type=ToleranceOption(),
    multiple=True,
    metavar="[NAME=]VALUE",
    help="Largest error allowed, over the output's largest magnitude; by dtype and depth unless given.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the package."
)
@click.option(
    *("--json", "json_file"),
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Also write the result as JSON; - is standard output, in place of the text.",
)
@click.option("--bisect", is_flag=True, help="Where it is wrong, find the first node that is.")
@click.option(
    "--reduced",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --bisect: where a minimal model that shows the fault goes.",
)
@op_dir_option
@limit_options("the reference")
@click.option("--quiet", "-q", is_flag=True, help="Errors only.")
def verify_command(
    package: Path,
    model: Path | None,
    inputs: str | None,
    runner: str | None,
    chip: str | None,
    seed: int,
    samples: int,
    tolerances: tuple[tuple[str, float], ...],
    threads: int,
    json_file: Path | None,
    bisect: bool,
    reduced: Path | None,
    op_dirs: tuple[Path, ...],
    stage_seconds: float,
    memory_mib: int,
    quiet: bool,
) -> None:
    """Run PACKAGE and say how far its outputs are from those of ONNX Runtime."""
    if reduced is not None and not bisect:
        raise click.UsageError("--reduced needs --bisect")
    overrides: dict[str, float] = {}
    for name, value in tolerances:
        if name in overrides:
            raise click.UsageError(f"--tolerance is given twice for {name or 'all outputs'}")
        overrides[name] = value
    refuse_other_folders(package)
    verified_all: list[Verified] = []
    wrong_all: list[Diagnostic] = []
    turns = [(one, c) for one in variants_of(package) for c in chips_to_run(one, runner, chip)]
    for opened, of_chip in turns:
        progress = Progress(quiet=quiet)
        try:
            verified = verify_package(
                opened,
                model,
                inputs,
                runner,
                seed=seed,
                samples=samples,
                tolerance=overrides,
                threads=threads,
                op_dirs=op_dirs,
                limits=limits_of(stage_seconds, memory_mib),
                on_event=progress,
                chip=of_chip,
            )
        finally:
            progress.close()
        wrong = failures(verified.verification)
        verified_all.append(verified)
        wrong_all += wrong
        _tell(verified, as_json=str(json_file) == "-", quiet=quiet)
        if bisect and not wrong:
            click.echo("nothing to bisect: every output is within its tolerance", err=True)
        for diagnostic in wrong:
            click.echo(render(diagnostic), err=True)
        if bisect and wrong:
            from deploycc.cli.verify_bisecting import bisect_and_tell

            bisect_and_tell(opened, model, verified.inputs, runner, reduced, of_chip)
    _write_json(verified_all, json_file)
    sys.exit(exit_code(wrong_all))


def _tell(verified: Verified, *, as_json: bool, quiet: bool) -> None:
    for diagnostic in verified.diagnostics:
        click.echo(render(diagnostic), err=True)
    if not quiet and not as_json:
        text = text_report(verified.verification)
        click.echo("\n".join(map(printable, text.split("\n"))), nl=False)


def _write_json(verified: list[Verified], json_file: Path | None) -> None:
    """One result, or a list with one for each variant and emulated chip."""
    if json_file is None:
        return
    texts = [json_report(one.verification) for one in verified]
    text = texts[0] if len(texts) == 1 else "[" + ",\n".join(one.rstrip("\n") for one in texts) + "]\n"
    if str(json_file) == "-":
        click.echo(text, nl=False)
    else:
        write_text(json_file, text)
