"""The networks, ours beside every engine that is installed, measured in turns in one process.

    python -m benchmarks.run [--networks a,b] [--threads 1,2] [--peers ort,mnn] [--repeat 3] [--keep]

Each network is built for the host (``--keep`` reuses the package of an earlier run), every engine's outputs
are checked against ONNX Runtime's, then all run in turns on the same inputs, on as many pinned cores as
threads.  Prints tables and writes ``benchmarks/results/networks-TIME.json`` and, with matplotlib there, a
plot beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from benchmarks import plots
from benchmarks.building import BuildFailed, Built, build_or_keep
from benchmarks.contest import Arena, Entry, Row, Settings, median_of_runs
from benchmarks.machine import header
from benchmarks.measurements import measurement
from benchmarks.measuring import geometric_mean
from benchmarks.networks import fetch, networks
from benchmarks.options import add_measuring_options, peers_of, schedule_folders
from benchmarks.pinned import ROOT, FileUnavailable
from benchmarks.reference import OnnxRuntime, allowed_error
from benchmarks.tables import contest_lines, summary_lines

MEAN_LIMIT, WORST_LIMIT = 3.0, 6.0
"""What an untuned build may take at most, in ONNX Runtime's times: geometric mean, worst network."""


def static_model(name: str) -> Path:
    """The network's ONNX file with the shapes of ``networks.toml`` written in, which some engines need."""
    file = ROOT / "out" / "networks" / "models" / f"{name}.onnx"
    source = fetch(name)
    if file.is_file() and file.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return file
    model = onnx.load(str(source))
    for value in model.graph.input:
        if value.name in networks()[name].inputs:
            for dim, extent in zip(
                value.type.tensor_type.shape.dim, networks()[name].inputs[value.name], strict=True
            ):
                dim.dim_value = extent
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))
    return file


def entry_of(name: str, package: Path | None) -> Entry:
    """The network ready to be measured: random inputs, ONNX Runtime's outputs, the error that is allowed."""
    model = static_model(name)
    engine = OnnxRuntime(model)
    inputs = engine.random_inputs(networks()[name].inputs)
    want = engine.bind(inputs)
    allowed = allowed_error(model, inputs, want, float("inf"))
    return Entry(name, model, package, inputs, want, allowed)


def build_all(
    names: Sequence[str],
    target: str,
    keep: bool,
    schedule_dirs: Sequence[Path] = (),
    words: Sequence[str] = (),
) -> dict[str, Built | str]:
    """The package of each network, or why there is none; ``words`` are more for ``deploycc build``."""
    built: dict[str, Built | str] = {}
    options = [*words] + [word for folder in schedule_dirs for word in ("--schedule-dir", str(folder))]
    for name in names:
        try:
            built[name] = build_or_keep(name, target, keep, options)
        except (BuildFailed, FileUnavailable, OSError) as error:
            built[name] = str(error) or type(error).__name__
            print(f"{name}: {built[name]}", file=sys.stderr, flush=True)
    return built


def measure_all(names: Sequence[str], built: Mapping[str, Built | str], settings: Settings) -> list[Row]:
    """A row for each network; whatever goes wrong is in it."""
    rows = []
    with Arena(settings) as arena:
        for name in names:
            made = built.get(name)
            try:
                entry = entry_of(name, made.package if isinstance(made, Built) else None)
            except (FileUnavailable, OSError) as error:
                rows.append(Row(name, settings.threads, failure=str(error)))
                continue
            row = arena.row(entry)
            if isinstance(made, Built):
                row = dataclasses.replace(row, build_s=made.seconds)
            elif made is not None:
                row = dataclasses.replace(row, failure=made)
            rows.append(row)
            if sys.stderr.isatty():
                print(f"\r{name:30}", end="", file=sys.stderr, flush=True)
    return rows


def within_limits(rows: Sequence[Row]) -> bool:
    """Whether the one-thread rows keep the limits; rows that failed or are wrong break them."""
    one = [row for row in rows if row.threads == 1]
    return (
        bool(one)
        and all(row.speedup("ort") >= 1 / WORST_LIMIT for row in one)
        and geometric_mean(row.speedup("ort") for row in one) >= 1 / MEAN_LIMIT
    )


def main() -> int:
    """Command line; with ``--check`` 1 unless the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", help="names, comma-separated (default: all of networks.toml)")
    parser.add_argument("--check", action="store_true", help="fail unless the limits are kept")
    add_measuring_options(parser, rounds=15)
    arguments = parser.parse_args()
    names = arguments.networks.split(",") if arguments.networks else list(networks())
    unknown = [name for name in names if name not in networks()]
    if unknown:
        parser.error(f"unknown networks: {', '.join(unknown)}; known: {', '.join(networks())}")
    peers = peers_of(arguments, parser)
    built: dict[str, Built | str] = {}
    if not arguments.only_peers:
        words = [] if arguments.shipped_records else ["--no-shipped-records"]
        built = build_all(names, arguments.target, arguments.keep, schedule_folders(arguments), words)
    if arguments.build_only:
        return int(any(isinstance(made, str) for made in built.values()))
    print(header(peers))
    runs = []
    for number in range(arguments.repeat):
        run: list[Row] = []
        for threads in arguments.threads:
            run += measure_all(names, built, Settings(
                peers, threads, arguments.runs, arguments.round_ms / 1e3, arguments.cpu_time,
            ))  # fmt: skip
        runs.append(run)
        if arguments.repeat > 1:
            print(f"\nrun {number + 1} of {arguments.repeat}")
            print("\n".join(summary_lines(run, peers)), flush=True)
    rows = median_of_runs(runs)
    flop = {name: 2e6 * network.mmacs for name, network in networks().items()}
    for threads in arguments.threads:
        print(f"\n{threads} thread(s), ms")
        print("\n".join(contest_lines([row for row in rows if row.threads == threads], peers, flop)))
    print("\n" + "\n".join(summary_lines(rows, peers)))
    measured = measurement("networks", arguments.target, peers, runs)
    file = measured.write()
    print(f"\n{file.relative_to(ROOT)}")
    for plot in plots.draw(measured, file, {}):
        print(plot.relative_to(ROOT))
    return int(arguments.check and not within_limits(rows))


if __name__ == "__main__":
    sys.exit(main())
