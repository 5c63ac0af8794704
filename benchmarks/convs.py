"""Single convolutions beside ONNX Runtime: the shapes of convs.toml, among them many odd ones.

    python -m benchmarks.convs [--convs a,b] [--target host] [--runs 15] [--keep] [--schedule-dir DIR]

Each one is a network of one convolution, bias and ReLU, NCHW in and out, so that what the change of layout
costs is in the time of both.  It is built, checked against ONNX Runtime, and both run in turns on one pinned
core; medians of processor time count.  Prints a table and writes ``benchmarks/results/convs-TIME.json``.
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
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.library import PackageLibrary, RunFailed, manifest_of
from benchmarks.measuring import geometric_mean, interleave, median_ms, pin, spread_percent
from benchmarks.pinned import ROOT
from benchmarks.reference import TOLERANCE, OnnxRuntime, largest_error
from benchmarks.run import RESULTS, cpu_model
from deploycc.build import InternalError, build
from deploycc.types import DeployccError


@dataclass(frozen=True)
class Conv:
    """A convolution: ``input`` is N, C, H, W, ``pads`` are top, left, bottom, right."""

    name: str
    input: tuple[int, int, int, int]
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1

    @property
    def output(self) -> tuple[int, int, int, int]:
        """Its output's shape: floor((extent + pads - dilated kernel) / stride) + 1."""
        size = []
        for axis in (0, 1):
            reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            room = self.input[2 + axis] + self.pads[axis] + self.pads[axis + 2] - reach
            size.append(room // self.strides[axis] + 1)
        return (self.input[0], self.channels, size[0], size[1])

    @property
    def flop(self) -> int:
        """Floating-point operations of the products alone, two a multiply-add."""
        return 2 * math.prod(self.output) * self.input[1] // self.group * math.prod(self.kernel)

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """The network: convolution, bias, ReLU; weights such that results are about 1."""
        generator = np.random.default_rng(seed)
        shape = (self.channels, self.input[1] // self.group, *self.kernel)
        scale = 1 / math.sqrt(math.prod(shape[1:]))
        weight = (generator.standard_normal(shape) * scale).astype(np.float32)
        bias = (generator.standard_normal(self.channels) * 0.1).astype(np.float32)
        nodes = [
            helper.make_node(
                "Conv", ["x", "weight", "bias"], ["sum"], name="conv", kernel_shape=self.kernel,
                strides=self.strides, pads=self.pads, dilations=self.dilations, group=self.group,
            ),
            helper.make_node("Relu", ["sum"], ["y"], name="relu"),
        ]  # fmt: skip
        graph = helper.make_graph(
            nodes,
            self.name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, self.output)],
            [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@cache
def convs() -> Mapping[str, Conv]:
    """All of ``convs.toml`` by name, in the file's order."""
    table = tomllib.loads((Path(__file__).parent / "convs.toml").read_text(encoding="utf-8"))
    found = {}
    for entry in table["conv"]:
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        found[entry["name"]] = Conv(**plain)
    return found


@dataclass(frozen=True)
class Row:
    """One convolution: medians in milliseconds, the largest error as a share of the largest output."""

    conv: str
    ours_ms: float = math.nan
    peer_ms: float = math.nan
    ours_spread: float = math.nan
    peer_spread: float = math.nan
    error: float = math.nan
    schedule: str = ""
    failure: str = ""

    @property
    def ratio(self) -> float:
        """Our time over ONNX Runtime's."""
        return self.ours_ms / self.peer_ms

    @property
    def counts(self) -> bool:
        """Whether it ran and its result is right: a wrong result is not fast."""
        return not self.failure and self.error <= TOLERANCE


def package_of(conv: Conv, target: str, keep: bool, schedule_dirs: Sequence[Path] = ()) -> Path:
    """The package of ``conv`` under ``out/convs``, with its model beside it."""
    folder = ROOT / "out" / "convs" / target / conv.name
    if keep and folder.is_dir():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(conv.model(), folder.with_suffix(".onnx"))
    return build(
        folder.with_suffix(".onnx"), target, folder, name=conv.name, schedule_dirs=schedule_dirs
    ).path


def measure(conv: Conv, package: Path, runs: int, round_seconds: float) -> Row:
    """Check and time ``conv`` on one pinned core.  Raises RunFailed."""
    pin(1)
    peer = OnnxRuntime(package.with_suffix(".onnx"), 1)
    inputs = peer.random_inputs({})
    ours = PackageLibrary(package, 1)
    error = largest_error(ours.bind(inputs), peer.bind(inputs))
    mine, theirs = interleave([ours.run, peer.run], runs, round_seconds, clock=time.thread_time)
    used = [call for call in manifest_of(package)["calls"] if call["knobs"]]
    schedule = "; ".join(
        f"{call['schedule']} {' '.join(f'{k}={v}' for k, v in sorted(call['knobs'].items()))}"
        for call in used
    )
    return Row(
        conv.name, median_ms(mine), median_ms(theirs), spread_percent(mine), spread_percent(theirs), error,
        schedule,
    )  # fmt: skip


def row_of(conv: Conv, arguments: argparse.Namespace) -> Row:
    """Build and measure in a process of its own; whatever goes wrong is the row's ``failure``."""
    try:
        package = package_of(conv, arguments.target, arguments.keep, arguments.schedule_dir)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            future = pool.submit(measure, conv, package, arguments.runs, arguments.round_ms / 1e3)
            return future.result(timeout=600)
    except (DeployccError, InternalError, RunFailed, OSError, ValueError, TimeoutError) as error:
        return Row(conv.name, failure=str(error) or type(error).__name__)
    except BrokenProcessPool:
        return Row(conv.name, failure="the measuring process crashed")


HEADING = f"{'convolution':22}{'deploycc':>10}{'ORT':>9}{'ratio':>7}{'GFLOP/s':>9}{'error':>9}{'spread':>11}"


def line_of(row: Row) -> str:
    """One line of the table."""
    if row.failure:
        return f"{row.conv:22}  failed: {row.failure.splitlines()[0]}"
    rate = convs()[row.conv].flop / row.ours_ms / 1e6
    spread = f"{row.ours_spread:.0f}/{row.peer_spread:.0f} %"
    wrong = "" if row.counts else "  WRONG"
    return (
        f"{row.conv:22}{row.ours_ms:10.4f}{row.peer_ms:9.4f}{row.ratio:7.2f}{rate:9.1f}{row.error:9.0e}"
        f"{spread:>11}  {row.schedule}{wrong}"
    )


def summary_of(rows: Sequence[Row]) -> str:
    """How many are right, faster, and by how much."""
    right = [row for row in rows if row.counts]
    if not right:
        return f"none of {len(rows)} right"
    slower = sorted((row for row in right if row.ratio > 1), key=lambda row: -row.ratio)
    text = (
        f"{len(right)} of {len(rows)} right, {len(right) - len(slower)} not slower than ONNX Runtime, "
        f"geometric mean of the ratios {geometric_mean(row.ratio for row in right):.2f}"
    )
    if slower:
        text += "; slower: " + ", ".join(f"{row.conv} {row.ratio:.2f}" for row in slower)
    return text


def write_results(rows: Sequence[Row], target: str) -> Path:
    """JSON with the machine, the versions and all rows."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    file = RESULTS / f"convs-{now:%Y%m%dT%H%M%S}.json"
    content = {
        "time": now.isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "target": target,
        "rows": [
            {**dataclasses.asdict(row), "ratio": row.ratio, "flop": convs()[row.conv].flop} for row in rows
        ],
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return file


def main() -> int:
    """Command line; 1 if a result is wrong or a build fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--convs", help="names, comma-separated (default: all of convs.toml)")
    parser.add_argument("--target", default="host")
    parser.add_argument("--runs", type=int, default=15, help="rounds (default 15); the median counts")
    parser.add_argument("--round-ms", type=float, default=4.0, help="at least so long a turn (default 4)")
    parser.add_argument("--schedule-dir", type=Path, action="append", default=[])
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    arguments = parser.parse_args()
    names = arguments.convs.split(",") if arguments.convs else list(convs())
    unknown = [name for name in names if name not in convs()]
    if unknown:
        parser.error(f"unknown convolutions: {', '.join(unknown)}; known: {', '.join(convs())}")
    print(f"{cpu_model()}, ONNX Runtime {onnxruntime.__version__}, one core, medians, ms")
    print(HEADING)
    rows = []
    for name in names:
        rows.append(row_of(convs()[name], arguments))
        print(line_of(rows[-1]), flush=True)
    print("\n" + summary_of(rows))
    print(f"\n{write_results(rows, arguments.target).relative_to(ROOT)}")
    return int(not all(row.counts for row in rows))


if __name__ == "__main__":
    sys.exit(main())
