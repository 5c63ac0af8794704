"""``deploycc build``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from deploycc.build import build
from deploycc.cli.handing_over import hand_over_and_tell, refuse_options_of_packages
from deploycc.cli.memory_table import trade
from deploycc.cli.options import (
    limit_options,
    limits_of,
    max_option,
    op_dir_option,
    precision_option,
    ranges_option,
)
from deploycc.cli.pipeline_building import build_and_tell, is_pipeline, refuse_options_of_models
from deploycc.cli.progress import Progress
from deploycc.cli.tuning_progress import TuningProgress
from deploycc.cli.values import BytesOption, TargetOption, counts_of, shapes_of
from deploycc.diagnostics import one_line, render
from deploycc.identifiers import suggest_library_name
from deploycc.lint_targets import is_external
from deploycc.memory_use import Arena
from deploycc.ranges import Extent, one_shape_only
from deploycc.tolerances import precision_text
from deploycc.types import Package


@click.command(
    "build",
    epilog="""\b
Examples:
  deploycc build model.onnx --target arm64
  deploycc build det.onnx --target rpi4 --shape x=1x3x640x640 -o out/det
  deploycc build det.onnx --target rpi4 --shape x=1..4x3x640x640 -o out/det
  deploycc build model.onnx --target ./my-board.toml --name detector --emit static
  deploycc build model.onnx --target ./my-board.toml --arena smallest --max-memory 64MiB
  deploycc build model.onnx --target cuda
  deploycc build model.onnx --target cuda:sm_75,h200 --precision fp16
  deploycc build model.onnx --target snpe:htp
  deploycc build parts/pipeline.json --target rpi4 --verify

For another compiler's target (snpe) the folder has what its converter needs, and no library. Of a
pipeline.json ('deploycc split') all parts for the CPU are built, with one runtime and one arena.

Without -o the package is the folder NAME-TARGET. It is complete or absent: a build that fails or
is interrupted leaves nothing.""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=TargetOption(),
    default="host",
    show_default=True,
    help="Name of a target, cuda:CHIPS@PROCESSOR, or a TOML file.",
)
@precision_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the package goes."
)
@ranges_option()
@max_option()
@click.option("--name", help="C identifier that prefixes every symbol; made from the file name if not given.")
@click.option(
    *("--emit", "emit"),
    type=click.Choice(["shared", "static"]),
    default="shared",
    show_default=True,
    help="libNAME.so or libNAME.a.",
)
@click.option(
    "--runtime",
    type=click.Choice(["private", "shared"]),
    default="private",
    show_default=True,
    help="The C runtime inside the library, or as libdeploycc_rt.so, one pool for several networks.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the golden inputs.")
@click.option(
    "--dump-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep what each stage made in this folder.",
)
@click.option(
    "--keep-kernels",
    is_flag=True,
    help="Put every kernel as text into the package, for inspect --kernel.",
)
@click.option("--profile", is_flag=True, help="Timers in the library: the app can ask what each step took.")
@click.option(
    "--debug-runtime", is_flag=True, help="The library tells calls with a handle that was destroyed."
)
@click.option(
    "--arena",
    type=click.Choice(["fast", "smallest"]),
    default="fast",
    show_default=True,
    help="smallest: as little memory as possible at some cost in speed, the same results to the bit.",
)
@click.option(
    "--max-memory",
    type=BytesOption(),
    metavar="SIZE",
    help="Fail before kernels are compiled if a handle takes more: arena and workspaces for all cores of the "
    "target, not weights and the caller's buffers. 64MiB, 1GB, 65536.",
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
    "--records",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Tuning database to use over the one that comes with deploycc; a later one over an earlier.",
)
@click.option(
    *("--no-shipped-records", "shipped_records"),
    is_flag=True,
    flag_value=False,
    default=True,
    help="Leave out the tuning records that come with deploycc.",
)
@click.option(
    "--tune",
    metavar="TIME|TRIALS",
    help="Tune first, for 60s or 500trials, into the last of --records or the default database.",
)
@click.option(
    *("--verify", "verified"),
    is_flag=True,
    help="Run the package on its golden inputs before it appears; fail where it is wrong.",
)
@limit_options("the build")
@click.option("--quiet", "-q", is_flag=True, help="Errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Also findings that are only for information.")
def build_command(
    model: Path,
    target: str,
    precision: str,
    output: Path | None,
    shapes: tuple[tuple[str, tuple[Extent, ...]], ...],
    max_counts: tuple[tuple[str, int], ...],
    name: str | None,
    emit: Literal["shared", "static"],
    runtime: Literal["private", "shared"],
    seed: int,
    dump_dir: Path | None,
    keep_kernels: bool,
    arena: Arena,
    max_memory: int | None,
    profile: bool,
    debug_runtime: bool,
    schedule_dirs: tuple[Path, ...],
    op_dirs: tuple[Path, ...],
    records: tuple[Path, ...],
    shipped_records: bool,
    tune: str | None,
    verified: bool,
    stage_seconds: float,
    memory_mib: int,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compile MODEL (an ONNX file) into a package that a C++ program links."""
    given_shapes = shapes_of(shapes)
    limits = limits_of(stage_seconds, memory_mib)
    if is_pipeline(model):
        refuse_options_of_models()
        build_and_tell(
            model,
            target,
            output,
            quiet=quiet,
            verbose=verbose,
            seed=seed,
            limits=limits,
            verify=verified,
            schedule_dirs=schedule_dirs,
            records=records,
            shipped_records=shipped_records,
        )
        return
    if is_external(target):
        refuse_options_of_packages(target)
        one = one_shape_only(f"a hand-over to {target}", given_shapes)
        hand_over_and_tell(model, target, output, one, name, limits, quiet=quiet, verbose=verbose)
        return
    progress: Progress | TuningProgress = Progress(quiet=quiet)
    if tune is not None:
        progress = TuningProgress(quiet=quiet)
    if not quiet:
        click.echo(f"{model} -> {name or suggest_library_name(model.stem)}, target {target}", err=True)
    try:
        package = build(
            model,
            target,
            output,
            precision=precision,
            shapes=given_shapes,
            max_counts=counts_of(max_counts),
            name=name,
            dump_dir=dump_dir,
            emit=emit,
            runtime=runtime,
            seed=seed,
            limits=limits,
            schedule_dirs=schedule_dirs,
            op_dirs=op_dirs,
            keep_kernels=keep_kernels,
            arena=arena,
            max_memory=max_memory,
            profile=profile,
            debug_runtime=debug_runtime,
            records=records,
            shipped_records=shipped_records,
            tune=tune,
            verify=verified,
            on_event=progress,
        )
    finally:
        progress.close()
    if quiet:
        return
    for diagnostic in package.diagnostics:
        if verbose or diagnostic.severity != "info":
            click.echo(render(diagnostic), err=True)
    click.echo("\n".join(map(one_line, summary(package, progress.seconds()))))


def summary(package: Package, seconds: float) -> list[str]:
    """The lines that say what was built: path, sizes, memory, needs, time."""
    try:
        shown = package.path.relative_to(Path.cwd())
    except ValueError:
        shown = package.path
    manifest: Any = package.manifest
    library, memory = manifest["library"], manifest["memory"]
    sizes = (library["code_bytes"], memory["weight_bytes"], memory["arena_bytes"])
    lines = [
        f"{shown}: {manifest['name']} for {manifest['target']['name']}, built in {seconds:.1f} s",
        "  "
        + ", ".join(
            f"{what} {kib(size)}" for what, size in zip(("code", "weights", "arena"), sizes, strict=True)
        ),
    ]
    if cost := precision_text(manifest):
        lines.append(f"  {cost}")
    if memory["arena"] == "smallest":
        lines.append(f"  {trade(memory)}")
    variants = manifest.get("variants", [manifest])
    for number, variant in enumerate(variants):
        for role in ("inputs", "outputs"):
            tensors = [
                f"{t['name']} {t['dtype']} {'x'.join(map(str, t['shape'])) or 'scalar'}"
                for t in variant[role]
            ]
            which = f"variant {number} " if len(variants) > 1 else ""
            lines.append(f"  {which}{role} {', '.join(tensors)}")
    if gpus := manifest["target"].get("gpus"):
        chips = ", ".join(f"{gpu['name']} ({gpu['arch']})" for gpu in gpus)
        lines.append(f"  kernels for {chips}; newer GPUs compile its PTX")
    if library["needed"]:
        glibc = f" (glibc {library['highest_glibc']} or newer)" if library["highest_glibc"] else ""
        lines.append(f"  needs {', '.join(library['needed'])}{glibc}")
    return lines


def kib(count: int) -> str:
    """A number of bytes as a person reads it: KiB, or MiB from 10 MiB on."""
    return f"{count / (1 << 20):.1f} MiB" if count >= 10 << 20 else f"{count / 1024:.1f} KiB"
