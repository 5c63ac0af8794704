"""The convolution suite: single convolutions with bias and ReLU, ours beside every engine that is installed.

    python -m benchmarks.convs [--convs a,b] [--target host] [--threads 1,2] [--peers ort,ncnn] [--repeat 3]
    python -m benchmarks.convs --drawn 40 [--draw-seed 1] ...

Each one is a network of one convolution, bias and ReLU, float32, NCHW in and out, so that what a change of
layout costs is in everybody's time.  It is built, every result is checked against float64, and all engines
run in turns on pinned cores; medians count.  Prints tables and writes ``benchmarks/results/convs-TIME.json``
and, with matplotlib there, plots beside it.  ``--drawn`` takes shapes drawn at random (``drawn.py``)
in place of the suite: none of them has a tuning record, so they tell what the static costs are worth.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks import plots
from benchmarks.contest import Arena, Entry, Row, Settings, median_of_runs
from benchmarks.library import manifest_of
from benchmarks.machine import header
from benchmarks.measurements import measurement
from benchmarks.options import add_measuring_options, peers_of, schedule_folders
from benchmarks.pinned import ROOT
from benchmarks.tables import contest_lines, summary_lines
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

    @property
    def bytes(self) -> int:
        """What must be moved at least: input, weights, bias and output once, in float32."""
        weights = self.channels * (self.input[1] // self.group * math.prod(self.kernel) + 1)
        return 4 * (math.prod(self.input) + weights + math.prod(self.output))

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

    def reference(self, x: NDArray[Any], model: onnx.ModelProto) -> NDArray[np.float64]:
        """The output for ``x`` in float64, one product of matrices for each position of the kernel."""
        weight, bias = (numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer)
        batch, _, height, width = self.output
        top, left, bottom, right = self.pads
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
        weight = weight.reshape(self.group, self.channels // self.group, -1, *self.kernel)
        total = np.zeros((batch, self.group, self.channels // self.group, height * width))
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                y, z = row * self.dilations[0], column * self.dilations[1]
                window = padded[:, :, y : y + (height - 1) * self.strides[0] + 1 : self.strides[0]]
                window = window[..., z : z + (width - 1) * self.strides[1] + 1 : self.strides[1]]
                total += weight[..., row, column] @ window.reshape(batch, self.group, -1, height * width)
        return np.maximum(total.reshape(self.output) + bias[:, None, None], 0)


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


def dense() -> tuple[Conv, ...]:
    """The ten with one group, 32 channels or more in and out, and the most operations, most first."""
    able = [conv for conv in convs().values() if conv.group == 1 and min(conv.input[1], conv.channels) >= 32]
    return tuple(sorted(able, key=lambda conv: -conv.flop)[:10])


def model_file(conv: Conv) -> Path:
    """The ONNX file of ``conv`` under ``out/convs``, written when it is not there as it should be."""
    file = ROOT / "out" / "convs" / "models" / f"{conv.name}.onnx"
    content = conv.model().SerializeToString()
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return file


def package_of(
    conv: Conv,
    target: str,
    keep: bool,
    schedule_dirs: Sequence[Path] = (),
    variant: str = "",
    shipped_records: bool = True,
) -> Path:
    """The package of ``conv`` under ``out/convs``; ``variant`` keeps builds with other choices apart."""
    folder = ROOT / "out" / "convs" / (f"{target}-{variant}" if variant else target) / conv.name
    if keep and folder.is_dir():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return build(
        model_file(conv),
        target,
        folder,
        name=conv.name,
        schedule_dirs=schedule_dirs,
        shipped_records=shipped_records,
    ).path


def entry_of(conv: Conv, package: Path | None) -> Entry:
    """``conv`` ready to be measured: its inputs in [-1, 1) and what is right for them."""
    x = np.random.default_rng(1).uniform(-1, 1, conv.input).astype(np.float32)
    return Entry(conv.name, model_file(conv), package, [x], [conv.reference(x, conv.model())])


def schedules_of(package: Path) -> str:
    """The schedules and knobs of a package's kernels, as the tables show them."""
    used = [call for call in manifest_of(package)["calls"] if call["schedule"]]
    return "; ".join(
        " ".join([call["schedule"], *(f"{key}={value}" for key, value in sorted(call["knobs"].items()))])
        for call in used
    )


def build_all(chosen: Mapping[str, Conv], arguments: argparse.Namespace) -> dict[str, Path | str]:
    """The package of each, or why there is none."""
    built: dict[str, Path | str] = {}
    folders = schedule_folders(arguments)
    variant = "-".join([*arguments.without, *([] if arguments.shipped_records else ["static"])])
    for name, conv in chosen.items():
        try:
            built[name] = package_of(
                conv, arguments.target, arguments.keep, folders, variant, arguments.shipped_records
            )
        except (DeployccError, InternalError, OSError, ValueError) as error:
            built[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"{name}: {built[name]}", file=sys.stderr, flush=True)
    return built


def measure_all(chosen: Mapping[str, Conv], built: Mapping[str, Path | str], settings: Settings) -> list[Row]:
    """A row for each."""
    rows = []
    with Arena(settings) as arena:
        for name, conv in chosen.items():
            package = built.get(name)
            entry = entry_of(conv, package if isinstance(package, Path) else None)
            row = arena.row(entry)
            if isinstance(package, str):
                row = dataclasses.replace(row, failure=package)
            elif package is not None:
                row = dataclasses.replace(row, schedule=schedules_of(package))
            rows.append(row)
            if sys.stderr.isatty():
                print(f"\r{name:30}", end="", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Command line; 1 if one of our results is wrong or a build fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--convs", help="names, comma-separated (default: all of convs.toml)")
    parser.add_argument("--drawn", type=int, default=0, metavar="N", help="N shapes drawn at random instead")
    parser.add_argument("--draw-seed", type=int, default=1)
    add_measuring_options(parser, rounds=15)
    arguments = parser.parse_args()
    suite = convs()
    if arguments.drawn:
        from benchmarks.drawn import drawn  # which draws what this module defines

        suite = drawn(arguments.drawn, arguments.draw_seed)
    names = arguments.convs.split(",") if arguments.convs else list(suite)
    unknown = [name for name in names if name not in suite]
    if unknown:
        parser.error(f"unknown convolutions: {', '.join(unknown)}; known: {', '.join(suite)}")
    chosen = {name: suite[name] for name in names}
    peers = peers_of(arguments, parser)
    built = {} if arguments.only_peers else build_all(chosen, arguments)
    if arguments.build_only:
        return int(any(isinstance(package, str) for package in built.values()))
    print(header(peers))
    runs = []
    for number in range(arguments.repeat):
        run: list[Row] = []
        for threads in arguments.threads:
            run += measure_all(chosen, built, Settings(
                peers, threads, arguments.runs, arguments.round_ms / 1e3, arguments.cpu_time,
            ))  # fmt: skip
        runs.append(run)
        if arguments.repeat > 1:
            print(f"\nrun {number + 1} of {arguments.repeat}")
            print("\n".join(summary_lines(run, peers)), flush=True)
    rows = median_of_runs(runs)
    flop = {name: conv.flop for name, conv in chosen.items()}
    for threads in arguments.threads:
        print(f"\n{threads} thread(s), ms")
        print("\n".join(contest_lines([row for row in rows if row.threads == threads], peers, flop)))
    print("\n" + "\n".join(summary_lines(rows, peers)))
    measured = measurement("drawn" if arguments.drawn else "convs", arguments.target, peers, runs)
    file = measured.write()
    print(f"\n{file.relative_to(ROOT)}")
    work = {name: (float(conv.flop), float(conv.bytes)) for name, conv in chosen.items()}
    for plot in plots.draw(measured, file, work):
        print(plot.relative_to(ROOT))
    return int(not (arguments.only_peers or all(row.counts for row in rows)))


if __name__ == "__main__":
    sys.exit(main())
