"""LSTM, GRU and RNN layers beside ONNX Runtime's, one and two threads.

    python -m benchmarks.recurrent [--target host] [--layers lstm_256,gru_64] [--threads 1,2] [--runs 15]
                                   [--keep] [--build-only]

One layer is one network with constant weights.  The engines take turns in one process; a row is the median,
the ratio ONNX Runtime's time over ours (above 1 we are faster).  With one thread the thread's own processor
time counts, so a neighbour on the core costs little; with more the clock's, which needs a quiet machine.
Prints a table and writes ``benchmarks/results/recurrent-TIME.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.library import PackageLibrary, RunFailed
from benchmarks.machine import machine
from benchmarks.measurements import write_results
from benchmarks.measuring import geometric_mean, interleave, median_ms, pin, spread_percent
from benchmarks.pinned import ROOT
from benchmarks.reference import TOLERANCE, OnnxRuntime, largest_error
from deploycc.build import InternalError, build
from deploycc.recurrent_cells import GATES
from deploycc.types import DeployccError


@dataclass(frozen=True)
class Layer:
    """``steps`` of ``batch`` rows of ``width`` features, ``hidden`` units a direction."""

    name: str
    kind: str
    steps: int
    batch: int
    width: int
    hidden: int
    direction: str = "forward"
    late_reset: bool = False

    def model(self) -> onnx.ModelProto:
        """The network of this layer alone, its result Y."""
        generator = np.random.default_rng(self.hidden)
        count = 2 if self.direction == "bidirectional" else 1
        gates = GATES[self.kind] * self.hidden
        bound = self.hidden**-0.5
        shapes = {"w": (count, gates, self.width), "r": (count, gates, self.hidden), "b": (count, 2 * gates)}
        weights = [
            numpy_helper.from_array(generator.uniform(-bound, bound, shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ]
        extra = {"linear_before_reset": int(self.late_reset)} if self.kind == "GRU" else {}
        node = helper.make_node(
            self.kind,
            ["x", "w", "r", "b"],
            ["y"],
            name=self.name,
            hidden_size=self.hidden,
            direction=self.direction,
            **extra,
        )
        info = helper.make_tensor_value_info
        inputs = [info("x", TensorProto.FLOAT, [self.steps, self.batch, self.width])]
        outputs = [info("y", TensorProto.FLOAT, [self.steps, count, self.batch, self.hidden])]
        graph = helper.make_graph([node], self.name, inputs, outputs, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


LAYERS = (
    Layer("lstm_step_128", "LSTM", 1, 1, 128, 128),
    Layer("lstm_32", "LSTM", 50, 1, 16, 32),
    Layer("lstm_128", "LSTM", 100, 1, 64, 128),
    Layer("lstm_ocr_256", "LSTM", 80, 1, 256, 256, "bidirectional"),
    Layer("lstm_512", "LSTM", 20, 1, 256, 512),
    Layer("lstm_batch8_100", "LSTM", 32, 8, 80, 100),
    Layer("lstm_batch32_256", "LSTM", 16, 32, 128, 256),
    Layer("lstm_long_64", "LSTM", 1000, 1, 40, 64),
    Layer("gru_64", "GRU", 100, 1, 40, 64, late_reset=True),
    Layer("gru_standard_64", "GRU", 100, 1, 40, 64),
    Layer("gru_both_128", "GRU", 60, 1, 96, 128, "bidirectional", late_reset=True),
    Layer("gru_batch7_37", "GRU", 25, 7, 13, 37, late_reset=True),
    Layer("gru_256", "GRU", 60, 1, 256, 256, late_reset=True),
    Layer("rnn_64", "RNN", 100, 1, 32, 64),
    Layer("rnn_batch16_256", "RNN", 40, 16, 64, 256),
)


@dataclass(frozen=True)
class Comparison:
    """Median milliseconds of both, our spread in percent, the error as a share of the largest value."""

    layer: str
    threads: int
    ours: float = float("nan")
    onnxruntime: float = float("nan")
    spread: float = float("nan")
    error: float = float("nan")
    failure: str = ""

    @property
    def ratio(self) -> float:
        """ONNX Runtime's time over ours."""
        return self.onnxruntime / self.ours


def package_of(layer: Layer, target: str, keep: bool) -> tuple[Path, Path]:
    """The layer's ONNX file and its package under ``out/recurrent``."""
    folder = ROOT / "out" / "recurrent" / target / layer.name
    file = folder.with_suffix(".onnx")
    if keep and folder.is_dir() and file.is_file():
        return file, folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(layer.model(), file)
    return file, build(file, target, folder, name=layer.name).path


def measure(layer: Layer, file: Path, package: Path, threads: int, rounds: int) -> Comparison:
    """Check and time both, pinned, in this process.  Raises RunFailed."""
    pin(threads)
    x = np.random.default_rng(1).uniform(-1, 1, (layer.steps, layer.batch, layer.width)).astype(np.float32)
    ours, theirs = PackageLibrary(package, threads), OnnxRuntime(file, threads)
    error = largest_error(ours.bind([x]), theirs.bind([x]))
    clock = time.thread_time if threads == 1 else time.perf_counter
    rest = 0.0 if threads == 1 else 0.02
    mine, other = interleave([ours.run, theirs.run], rounds, 0.02, rest, clock, rest)
    return Comparison(layer.name, threads, median_ms(mine), median_ms(other), spread_percent(mine), error)


def compared(layer: Layer, arguments: argparse.Namespace, threads: int) -> Comparison:
    """Build and measure in a process of its own; whatever goes wrong is the row's ``failure``."""
    try:
        file, package = package_of(layer, arguments.target, arguments.keep or threads != arguments.threads[0])
        if arguments.build_only:
            return Comparison(layer.name, threads, failure="built, not measured")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, layer, file, package, threads, arguments.runs).result(timeout=300)
    except (DeployccError, InternalError, RunFailed, OSError, ValueError, TimeoutError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Comparison(layer.name, threads, failure=reason)
    except BrokenProcessPool:
        return Comparison(layer.name, threads, failure="the measuring process crashed")


def line_of(row: Comparison) -> str:
    """One line of the table."""
    if row.failure:
        return f"{row.layer:20}{row.threads:>8}  {row.failure}"
    wrong = "" if row.error <= TOLERANCE else "  WRONG"
    return (
        f"{row.layer:20}{row.threads:>8}{row.ours:10.4f}{row.onnxruntime:13.4f}{row.ratio:8.2f}"
        f"{row.spread:7.0f}%{row.error:9.0e}{wrong}"
    )


def main() -> int:
    """Command line; 1 if a result is wrong or a build fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="host")
    parser.add_argument("--layers", help="names, comma-separated (default: all)")
    parser.add_argument(
        "--threads", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2]
    )
    parser.add_argument("--runs", type=int, default=15, help="rounds (default 15); the median counts")
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    parser.add_argument("--build-only", action="store_true", help="build the packages and stop")
    arguments = parser.parse_args()
    names = arguments.layers.split(",") if arguments.layers else [layer.name for layer in LAYERS]
    print(machine()["cpu"])
    print(f"{'':20}{'threads':>8}{'ms':>10}{'onnxruntime':>13}{'ratio':>8}{'spread':>8}{'error':>9}")
    rows = []
    for threads in arguments.threads:
        for layer in LAYERS:
            if layer.name in names:
                rows.append(compared(layer, arguments, threads))
                print(line_of(rows[-1]), flush=True)
        ratios = [row.ratio for row in rows if row.threads == threads and not row.failure]
        if ratios:
            print(f"{threads} threads: geometric mean {geometric_mean(ratios):.2f}\n")
    if arguments.build_only:
        return 0
    content = {"target": arguments.target, "rows": [dataclasses.asdict(row) for row in rows]}
    print(write_results("recurrent", content).relative_to(ROOT))
    return int(any(row.failure or not row.error <= TOLERANCE for row in rows))


if __name__ == "__main__":
    sys.exit(main())
