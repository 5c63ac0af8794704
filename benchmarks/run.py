"""Times of compiled networks beside ONNX Runtime's, measured in turns in one process.

    python -m benchmarks.run [--networks a,b] [--threads 1] [--runs 30] [--keep] [--check]

Each network is built for the host (``--keep`` reuses the package of an earlier run), its outputs are
checked against ONNX Runtime's, then both run in turns on the same inputs, on as many pinned cores as
threads.  Prints a table and writes ``benchmarks/results/run-TIME.json`` and, with matplotlib there,
a plot beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from benchmarks.building import BuildFailed, build_or_keep
from benchmarks.library import PackageLibrary, RunFailed
from benchmarks.measuring import geometric_mean, interleave, median_ms, pin, spread_percent
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT, FileUnavailable
from benchmarks.reference import TOLERANCE, OnnxRuntime, allowed_error, largest_error

MEAN_LIMIT, WORST_LIMIT = 3.0, 6.0
"""What an untuned build may take at most, in ONNX Runtime's times: geometric mean, worst network."""

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Row:
    """One network: medians in milliseconds, the largest error as a share of the largest output.

    ``allowed`` is the largest error a right result may have (``benchmarks.reference.allowed_error``).
    """

    network: str
    threads: int
    ours_ms: float = math.nan
    peer_ms: float = math.nan
    ours_spread: float = math.nan
    peer_spread: float = math.nan
    error: float = math.nan
    allowed: float = TOLERANCE
    build_s: float = 0.0
    failure: str = ""

    @property
    def ratio(self) -> float:
        """Our time over ONNX Runtime's."""
        return self.ours_ms / self.peer_ms

    @property
    def counts(self) -> bool:
        """Whether it ran and its result is right: a wrong result is not fast."""
        return not self.failure and self.error <= self.allowed


def measure(name: str, package: Path, threads: int, runs: int, round_seconds: float, cpu_time: bool) -> Row:
    """Check and time one network on ``threads`` pinned cores.  Raises RunFailed.

    ``cpu_time`` leaves out the time that other processes had the core; with one thread only.
    """
    pin(threads)
    model = fetch(name)
    peer = OnnxRuntime(model, threads)
    inputs = peer.random_inputs(networks()[name].inputs)
    want = peer.bind(inputs)
    ours = PackageLibrary(package, threads)
    error = largest_error(ours.bind(inputs), want)
    allowed = allowed_error(model, inputs, want, error)
    # Both engines' idle workers spin for a while and would take the other's core.
    rest = 0.02 if threads > 1 else 0.0
    mine, theirs = interleave(
        [ours.run, peer.run], runs, round_seconds, rest,
        time.thread_time if cpu_time and threads == 1 else time.perf_counter,
    )  # fmt: skip
    return Row(
        network=name, threads=threads, ours_ms=median_ms(mine), peer_ms=median_ms(theirs),
        ours_spread=spread_percent(mine), peer_spread=spread_percent(theirs), error=error, allowed=allowed,
    )  # fmt: skip


def row_of(name: str, threads: int, arguments: argparse.Namespace, keep: bool) -> Row:
    """Build and measure; whatever goes wrong is the row's ``failure``.

    The measuring process is one of its own: a library that crashes takes only its row with it.
    """
    try:
        built = build_or_keep(name, arguments.target, keep)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds = arguments.round_ms / 1e3
            future = pool.submit(
                measure, name, built.package, threads, arguments.runs, seconds, arguments.cpu_time
            )
            row = future.result(timeout=1800)
        return dataclasses.replace(row, build_s=built.seconds)
    except (BuildFailed, FileUnavailable, RunFailed, OSError, ValueError, TimeoutError) as error:
        return Row(name, threads, failure=str(error) or type(error).__name__)
    except BrokenProcessPool:
        return Row(name, threads, failure="the measuring process crashed")


HEADING = (
    f"{'network':26}{'threads':>8}{'deploycc':>11}{'ORT':>10}"
    f"{'ratio':>7}{'error':>10}{'spread':>12}{'build':>8}"
)


def line_of(row: Row) -> str:
    """One line of the table."""
    if row.failure:
        return f"{row.network:26}{row.threads:8d}  failed: {row.failure.splitlines()[0]}"
    wrong = "" if row.counts else "  WRONG"
    return (
        f"{row.network:26}{row.threads:8d}{row.ours_ms:11.3f}{row.peer_ms:10.3f}{row.ratio:7.2f}{row.error:10.1e}"
        f"{row.ours_spread:6.0f}/{row.peer_spread:<3.0f} %{row.build_s:7.1f}s{wrong}"
    )


def summary_of(rows: Sequence[Row]) -> list[str]:
    """Geometric mean and worst ratio for each thread count, over the rows whose results are right."""
    lines = []
    for threads in sorted({row.threads for row in rows}):
        of_them = [row for row in rows if row.threads == threads]
        right = [row for row in of_them if row.counts]
        if right:
            worst = max(right, key=lambda row: row.ratio)
            lines.append(
                f"{threads} thread(s): geometric mean {geometric_mean(row.ratio for row in right):.2f}, "
                f"worst {worst.ratio:.2f} ({worst.network}), {len(right)} of {len(of_them)} right"
            )
        else:
            lines.append(f"{threads} thread(s): none of {len(of_them)} right")
    return lines


def within_limits(rows: Sequence[Row]) -> bool:
    """Whether the one-thread rows keep the limits; rows that failed or are wrong break them."""
    one = [row for row in rows if row.threads == 1]
    return (
        bool(one)
        and all(row.counts and row.ratio <= WORST_LIMIT for row in one)
        and geometric_mean(row.ratio for row in one) <= MEAN_LIMIT
    )


def cpu_model() -> str:
    """The processor's name as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_results(rows: Sequence[Row], target: str) -> Path:
    """JSON with the machine, the versions and all rows."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    file = RESULTS / f"run-{now:%Y%m%dT%H%M%S}.json"
    file.write_text(
        json.dumps(
            {
                "time": now.isoformat(timespec="seconds"),
                "cpu": cpu_model(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "onnxruntime": onnxruntime.__version__,
                "target": target,
                "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows],
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    return file


def draw(rows: Sequence[Row], file: Path) -> bool:
    """A bar for each network's ratio; False without matplotlib (it comes with the extra ``bench``)."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    shown = sorted((row for row in rows if row.counts), key=lambda row: (row.threads, row.ratio))
    figure = Figure(figsize=(8, 1 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    labels = [f"{row.network} ({row.threads})" for row in shown]
    axes.barh(
        labels,
        [row.ratio for row in shown],
        color=["#4878a8" if r.threads == 1 else "#a87848" for r in shown],
    )
    axes.set_xscale("log", base=2)
    for limit, style in ((1.0, "-"), (MEAN_LIMIT, "--"), (WORST_LIMIT, ":")):
        axes.axvline(limit, color="black", linewidth=0.8, linestyle=style)
    axes.set_xlabel("time over ONNX Runtime's (shorter is faster); in brackets: threads")
    figure.savefig(file)
    return True


def main() -> int:
    """Command line; with ``--check`` 1 unless the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", help="names, comma-separated (default: all of networks.toml)")
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", default="1", help="thread counts, comma-separated (default 1)")
    parser.add_argument("--runs", type=int, default=30, help="rounds (default 30); the median counts")
    parser.add_argument("--round-ms", type=float, default=4.0, help="at least so long a turn (default 4)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="processor time instead of wall time (one thread only): for machines others use too",
    )
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    parser.add_argument("--check", action="store_true", help="fail unless the limits are kept")
    arguments = parser.parse_args()
    names = arguments.networks.split(",") if arguments.networks else list(networks())
    unknown = [name for name in names if name not in networks()]
    if unknown:
        parser.error(f"unknown networks: {', '.join(unknown)}; known: {', '.join(networks())}")
    thread_counts = [int(count) for count in arguments.threads.split(",")]
    print(f"{cpu_model()}, ONNX Runtime {onnxruntime.__version__}, medians of {arguments.runs} rounds, ms")
    print(HEADING)
    rows = []
    for name in names:
        for position, threads in enumerate(thread_counts):
            rows.append(row_of(name, threads, arguments, keep=arguments.keep or position > 0))
            print(line_of(rows[-1]), flush=True)
    print("\n" + "\n".join(summary_of(rows)))
    for row in rows:
        if "\n" in row.failure:
            print(f"\n{row.failure}")
    file = write_results(rows, arguments.target)
    print(f"\n{file.relative_to(ROOT)}")
    if not draw(rows, file.with_suffix(".svg")):
        print("no plot: matplotlib is not installed (pip install deploycc[bench])")
    return int(arguments.check and not within_limits(rows))


if __name__ == "__main__":
    sys.exit(main())
