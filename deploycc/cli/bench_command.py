"""``deploycc bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deploycc.cli.handing_over import refuse_other_folders
from deploycc.result_types import Benchmark, Timed
from deploycc.timing.baseline import (
    Change,
    benchmarks_as_json,
    changes,
    load_benchmarks,
    measure_text,
    save_benchmarks,
    slowdowns,
    threads_text,
)
from deploycc.timing.schedule import LAUNCHES, SECONDS, Effort
from deploycc.timing.statistics import FEWEST, SHOWN_LEVEL
from deploycc.types import DeployccError


class _Threads(click.ParamType[tuple[int, ...]]):
    """``1`` or ``1,2,4``."""

    name = "threads"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, each once."""
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 1024 for word in words):
            self.fail(f"{value!r} is no list of numbers of threads; write 1 or 1,2,4", param, ctx)
        return tuple(dict.fromkeys(map(int, words)))


@click.command(
    "bench",
    epilog="""\b
Examples:
  deploycc bench out/model
  deploycc bench out/model --model model.onnx --against onnxruntime --threads 1,2
  deploycc bench out/new --against out/old
  deploycc bench out/arm64 --runner 'ssh pi@board' --against out/arm64-before
  deploycc bench out/model --save baseline.json
  deploycc bench out/model --baseline baseline.json

Exit codes: 0 done, 1 slower than the baseline, or results that do not agree, 2 wrong usage or
broken input, 70 a fault of deploycc.""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The ONNX file that the package was built from; engines need it.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="NAME,...",
    help="Engines (onnxruntime, openvino, ncnn, mnn) or folders of other packages to compare with.",
)
@click.option(
    "--threads",
    type=_Threads(),
    default="1",
    show_default=True,
    metavar="N,...",
    help="Threads of a run, the calling one included; each number is measured.",
)
@click.option(
    "--runner",
    metavar="COMMAND",
    help="Where the package runs: an emulator (qemu-aarch64-static) or 'ssh HOST'.",
)
@click.option(
    "--inputs",
    default="golden",
    show_default=True,
    metavar="FILE|FOLDER|random|golden",
    help="What is computed: an .npz file or a folder with an array by each input's name, random "
    "values, or what lies in the package.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01),
    default=SECONDS,
    show_default=True,
    help="Of timed runs, of all contestants together, for each number of threads.",
)
@click.option("--runs", type=click.IntRange(min=1), metavar="N", help="Timed runs of each, not --seconds.")
@click.option(
    "--launches",
    type=click.IntRange(min=1, max=200),
    default=LAUNCHES,
    show_default=True,
    help=f"Fresh processes of each; a verdict needs {FEWEST}.",
)
@click.option(
    "--pin/--no-pin",
    default=None,
    help="Keep to processors of their own; on this machine unless told otherwise, elsewhere if told.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Leave with 1 if slower than this file of --save says.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1000),
    metavar="PERCENT",
    help="How much slower than the baseline is let pass: 5 by the ratio to an engine, 10 by time.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what was measured, as a baseline.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the same as JSON; - for standard output, in place of the text.",
)
@click.option("--quiet", "-q", is_flag=True, help="Errors only.")
def bench_command(
    package: Path,
    model: Path | None,
    against: tuple[str, ...],
    threads: tuple[int, ...],
    runner: str | None,
    inputs: str,
    seconds: float,
    runs: int | None,
    launches: int,
    pin: bool | None,
    baseline: Path | None,
    margin: float | None,
    save: Path | None,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Time PACKAGE: the median of a run, start, memory, and whether it is faster than others.

    Contestants run in processes of their own that take turns, after it was checked that they compute the
    same. The verdict is that of a test: "faster", "slower", or "no difference seen".
    """
    from deploycc.bench import bench

    names = tuple(name for word in against for name in word.split(",") if name)
    if names and launches < FEWEST:
        raise click.UsageError(f"--against needs --launches of {FEWEST} or more: fewer allow no verdict")
    refuse_other_folders(package)
    then = load_benchmarks(baseline) if baseline is not None else ()
    progress = _Progress(quiet=quiet)
    try:
        found = bench(
            package,
            against=names,
            model=model,
            threads=threads,
            runner=runner,
            inputs=inputs,
            effort=Effort(launches, seconds, runs),
            pin=pin,
            on_event=progress,
        )
    finally:
        progress.close()
    as_json = json_file is not None and str(json_file) == "-"
    if as_json:
        click.echo(benchmarks_as_json(found), nl=False)
    elif json_file is not None:
        save_benchmarks(json_file, found)
    if save is not None:
        save_benchmarks(save, found)
    if not (quiet or as_json):
        click.echo("\n\n".join("\n".join(benchmark_lines(benchmark)) for benchmark in found))
    if baseline is None:
        return
    compared = changes(found, then, None if margin is None else margin / 100)
    if not (quiet or as_json):
        click.echo("\n".join(map(_change_line, compared)))
    slower = slowdowns(found[0].package, compared)
    if slower:
        raise DeployccError(*slower)


class _Progress:
    """One line on a terminal that says which launch it is; nothing in a log."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._open = False

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event of a benchmark."""
        if not self._shown or event["event"] != "launch":
            return
        where = threads_text(event["threads"])
        sys.stderr.write(f"\r\x1b[K  {where}: launch {event['number']} of {event['of']}")
        sys.stderr.flush()
        self._open = True

    def close(self) -> None:
        """Remove the line."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False


# ---- text ----

_HEADER = ("", "median", f"{SHOWN_LEVEL:.0%} interval", "first run", "load", "create", "peak memory", "runs")


def benchmark_lines(benchmark: Benchmark) -> list[str]:
    """A table of the contestants and a line for each verdict."""
    pinned = "pinned" if benchmark.pinned else "not pinned"
    where = benchmark.machine
    if benchmark.place not in ("this machine", benchmark.machine):
        where += f" ({benchmark.place})"
    title = f"{benchmark.package} on {where}, {threads_text(benchmark.threads)}, {pinned}"
    if benchmark.inputs != "golden":
        title += f", inputs: {benchmark.inputs}"
    rows = [_HEADER, *(_row(timed) for timed in (benchmark.ours, *benchmark.peers))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [title]
    for name, *cells in rows:
        rest = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(f"  {name.ljust(widths[0])}  {rest}")
    for contest in benchmark.contests:
        factor, low, high = (f"{value:.3f}" for value in (contest.ratio, contest.low, contest.high))
        lines.append(f"{contest.verdict} than {contest.peer}" if contest.verdict != _UNSEEN else
                     f"{_UNSEEN} to {contest.peer}")  # fmt: skip
        lines[-1] += f": its time is {factor} times ours ({low} to {high})"
    if benchmark.contests:
        lines.append(f"by {benchmark.contests[0].test}")
    return lines


_UNSEEN = "no difference seen"


def _row(timed: Timed) -> tuple[str, ...]:
    return (
        f"{timed.name} {timed.version}",
        _duration(timed.median_us),
        f"{_duration(timed.low_us)} .. {_duration(timed.high_us)}",
        _duration(timed.cold_us),
        _duration(timed.load_us),
        _duration(timed.create_us),
        f"{timed.peak_kib / 1024:.1f} MiB",
        str(timed.runs),
    )


def _duration(microseconds: float) -> str:
    if microseconds < 1e3:
        return f"{microseconds:.4g} us"
    return f"{microseconds / 1e3:.4g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.4g} s"


def _change_line(change: Change) -> str:
    what = "slower than the baseline" if change.slower else "not slower than the baseline"
    return (
        f"{what}, {threads_text(change.threads)}: {change.factor:.3f} times its "
        f"{measure_text(change.measure)} (at least {change.low:.3f}, {1 + change.margin:.4g} is let pass)"
    )
