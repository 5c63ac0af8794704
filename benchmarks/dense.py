"""The ten dense convolutions of the suite as a share of what one core's multiply-adds can do at best.

    python -m benchmarks.dense [--targets host,x86-64] [--without conv_winograd] [--runs 15] [--keep]

The suite has NCHW in and out; here it is the kernel alone in the layout it is best in, which for us is
channels last, in and out (other engines' would be blocks of channels).  Winograd is left out: it does fewer
operations than are counted.  The peak is measured around each kernel with registers only (``peak.c``), with
vectors as wide as the target's.  Prints a table and writes ``benchmarks/results/dense-TIME.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.convs import Conv, convs, dense, schedules_of
from benchmarks.library import PackageLibrary, RunFailed, manifest_of
from benchmarks.machine import fma_gflops, machine
from benchmarks.measurements import write_results
from benchmarks.measuring import interleave, median_ms, pin, spread_percent
from benchmarks.options import add_schedule_options, schedule_folders
from benchmarks.pinned import ROOT
from benchmarks.reference import TOLERANCE, relative_error
from deploycc.build import InternalError, build
from deploycc.targets import load_target
from deploycc.types import DeployccError


@dataclass(frozen=True)
class Share:
    """One kernel: the median time in ms, the peak in GFLOP/s around it, how many kernels the time is of."""

    conv: str
    target: str
    ms: float = float("nan")
    spread: float = float("nan")
    error: float = float("nan")
    peak: float = float("nan")
    kernels: int = 0
    schedule: str = ""
    failure: str = ""

    @property
    def gflops(self) -> float:
        """What it did in a second."""
        return convs()[self.conv].flop / self.ms / 1e6

    @property
    def share(self) -> float:
        """Of the peak; nan for a wrong result."""
        return self.gflops / self.peak if not self.failure and self.error <= TOLERANCE else float("nan")


def channels_last(conv: Conv) -> onnx.ModelProto:
    """The suite's network with transposes around it: N, H, W, C in and out."""
    model = conv.model()
    graph = model.graph
    nodes = [
        helper.make_node("Transpose", ["image"], ["x"], name="to_nchw", perm=(0, 3, 1, 2)),
        *graph.node,
        helper.make_node("Transpose", ["y"], ["result"], name="to_nhwc", perm=(0, 2, 3, 1)),
    ]
    whole = helper.make_graph(
        nodes,
        conv.name,
        [
            helper.make_tensor_value_info(
                "image", TensorProto.FLOAT, [conv.input[axis] for axis in (0, 2, 3, 1)]
            )
        ],
        [
            helper.make_tensor_value_info(
                "result", TensorProto.FLOAT, [conv.output[axis] for axis in (0, 2, 3, 1)]
            )
        ],
        list(graph.initializer),
    )
    return helper.make_model(whole, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def package_of(
    conv: Conv, target: str, keep: bool, schedule_dirs: Sequence[Path], shipped_records: bool
) -> Path:
    """The package of ``channels_last`` under ``out/dense``."""
    folder = ROOT / "out" / "dense" / target / conv.name
    if keep and folder.is_dir():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".onnx")
    onnx.save(channels_last(conv), file)
    return build(
        file, target, folder, name=conv.name, schedule_dirs=schedule_dirs, shipped_records=shipped_records
    ).path


def measure(conv: Conv, package: Path, target: str, bits: int, rounds: int) -> Share:
    """Check and time one kernel on one pinned core, in this process.  Raises RunFailed."""
    pin(1)
    x = np.random.default_rng(1).uniform(-1, 1, conv.input).astype(np.float32)
    library = PackageLibrary(package, 1)
    (got,) = library.bind([np.ascontiguousarray(x.transpose(0, 2, 3, 1))])
    error = relative_error(got.transpose(0, 3, 1, 2), conv.reference(x, conv.model()))
    peaks = [fma_gflops(bits, 0.05)]
    (times,) = interleave([library.run], rounds)
    peaks.append(fma_gflops(bits, 0.05))
    return Share(
        conv.name, target, median_ms(times), spread_percent(times), error, max(peaks),
        len(manifest_of(package)["calls"]), schedules_of(package),
    )  # fmt: skip


def share_of(conv: Conv, target: str, arguments: argparse.Namespace, folders: Sequence[Path]) -> Share:
    """Build and measure in a process of its own; whatever goes wrong is the row's ``failure``."""
    try:
        package = package_of(conv, target, arguments.keep, folders, arguments.shipped_records)
        if arguments.build_only:
            return Share(conv.name, target, failure="built, not measured")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            bits = load_target(target).simd.bits
            return pool.submit(measure, conv, package, target, bits, arguments.runs).result(timeout=300)
    except (DeployccError, InternalError, RunFailed, OSError, ValueError, TimeoutError) as error:
        return Share(conv.name, target, failure=(str(error).strip() or type(error).__name__).splitlines()[0])
    except BrokenProcessPool:
        return Share(conv.name, target, failure="the measuring process crashed")


def line_of(row: Share) -> str:
    """One line of the table."""
    if row.failure:
        return f"{row.conv:20}{row.target:>10}  {row.failure}"
    share = f"{row.share:7.1%}" if row.share == row.share else "  WRONG"
    return (
        f"{row.conv:20}{row.target:>10}{row.ms:10.4f}{row.gflops:9.1f}{row.peak:8.1f}{share}{row.error:9.0e}"
        f"{row.spread:6.0f}%{row.kernels:8d}  {row.schedule}"
    )


def main() -> int:
    """Command line; 1 if a result is wrong or a build fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--targets", default="host,x86-64", help="comma-separated (default host,x86-64)")
    parser.add_argument("--convs", help="names, comma-separated (default: the ten)")
    parser.add_argument("--runs", type=int, default=15, help="rounds (default 15); the median counts")
    add_schedule_options(parser)
    parser.set_defaults(without=["conv_winograd"])
    arguments = parser.parse_args()
    chosen = [convs()[name] for name in arguments.convs.split(",")] if arguments.convs else dense()
    folders = schedule_folders(arguments)
    print(f"{machine()['cpu']}, one core")
    print(
        f"{'':20}{'target':>10}{'ms':>10}{'GFLOP/s':>9}{'peak':>8}{'share':>7}{'error':>9}{'spread':>7}{'kernels':>8}"
    )
    rows = []
    for target in arguments.targets.split(","):
        for conv in chosen:
            rows.append(share_of(conv, target, arguments, folders))
            print(line_of(rows[-1]), flush=True)
        of_it = [row.share for row in rows if row.target == target]
        if arguments.build_only:
            continue
        print(f"{target}: least {min(of_it):.1%}, mean {sum(of_it) / len(of_it):.1%}\n")
    if arguments.build_only:
        return 0
    content = {"without": arguments.without, "rows": [dataclasses.asdict(row) for row in rows]}
    file = write_results("dense", content)
    print(file.relative_to(ROOT))
    return int(not all(row.share == row.share for row in rows))


if __name__ == "__main__":
    sys.exit(main())
