"""What is no convolution, beside ONNX Runtime: softmax, norms, reductions, pooling, resizing, activations.

    python -m benchmarks.others [--cases softmax,layer_norm] [--target host] [--peers ort] [--keep]

One small network each, at extents that fill no whole number of vectors as well as at even ones, float32.
Each is built, its result checked against ONNX Runtime without optimisations, and all engines run in turns
on one pinned core; medians count.  Prints a table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

from benchmarks.contest import Arena, Entry, Settings
from benchmarks.convs import schedules_of
from benchmarks.machine import header
from benchmarks.measuring import geometric_mean
from benchmarks.options import add_measuring_options, peers_of, schedule_folders
from benchmarks.pinned import ROOT
from benchmarks.tables import contest_lines
from deploycc.build import build


@dataclass(frozen=True)
class Other:
    """A network of one operator, or of one after another.

    ``constants`` are further operands of the first one, ``second`` the shape of another input in front of
    them, whose last two axes change places where it is ``turned``.
    """

    name: str
    shape: tuple[int, ...]
    operators: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: tuple[Any, ...] = ()
    second: tuple[int, ...] | None = None
    turned: bool = False

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the network's inputs."""
        return {"x": self.shape} if self.second is None else {"x": self.shape, "z": self.second}

    def model(self) -> onnx.ModelProto:
        """The network; ``None`` among the constants is an input left out."""
        rng = np.random.default_rng(0)
        names, weights, nodes = list(self.inputs), [], []
        for index, constant in enumerate(self.constants):
            if constant is None:
                names.append("")
                continue
            drawn = isinstance(constant, int)
            value = rng.standard_normal(constant).astype(np.float32) if drawn else np.asarray(constant)
            weights.append(numpy_helper.from_array(value, f"w{index}"))
            names.append(f"w{index}")
        if self.turned:
            order = [*range(len(self.shape) - 2), len(self.shape) - 1, len(self.shape) - 2]
            nodes.append(helper.make_node("Transpose", ["z"], ["turned"], name="turn", perm=order))
            names[1] = "turned"
        for index, operator in enumerate(self.operators):
            last = index == len(self.operators) - 1
            nodes.append(
                helper.make_node(
                    operator,
                    names if index == 0 else [f"y{index - 1}"],
                    ["y" if last else f"y{index}"],
                    name=f"{operator}_{index}",
                    **(self.attributes if index == 0 else {}),
                )
            )
        graph = helper.make_graph(
            nodes,
            self.name,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in self.inputs.items()
            ],
            [helper.make_empty_tensor_value_info("y")],
            weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


def _pool(name: str, shape: tuple[int, ...], operator: str, size: int, stride: int, pad: int) -> Other:
    attributes = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [pad] * 4}
    return Other(name, shape, (operator,), attributes)


def _resize(name: str, shape: tuple[int, ...], mode: str, size: tuple[int, int] | None = None) -> Other:
    """To ``size``, or to twice the rows and columns."""
    transform = "asymmetric" if mode == "nearest" else "half_pixel"
    attributes = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": "floor"}
    if size is None:
        return Other(name, shape, ("Resize",), attributes, (None, np.array([1, 1, 2, 2], np.float32)))
    return Other(name, shape, ("Resize",), attributes, (None, None, np.array([*shape[:2], *size])))


OTHERS = (
    Other("softmax_40x6625", (1, 40, 6625), ("Softmax",), {"axis": -1}),
    Other("softmax_40x97", (1, 40, 97), ("Softmax",), {"axis": -1}),
    Other("softmax_196x196", (8, 196, 196), ("Softmax",), {"axis": -1}),
    Other("softmax_axis1_97x240", (1, 97, 240), ("Softmax",), {"axis": 1}),
    Other("log_softmax_40x331", (40, 331), ("LogSoftmax",), {"axis": -1}),
    Other("layer_norm_240x120", (1, 240, 120), ("LayerNormalization",), {"axis": -1}, (120, 120)),
    Other("layer_norm_97x331", (1, 97, 331), ("LayerNormalization",), {"axis": -1}, (331, 331)),
    Other("instance_norm_37x29", (1, 24, 37, 29), ("InstanceNormalization",), {}, (24, 24)),
    Other("mean_hw_13x17", (1, 97, 13, 17), ("GlobalAveragePool",)),
    Other("mean_hw_56x56", (1, 64, 56, 56), ("GlobalAveragePool",)),
    Other("mean_hw_ragged", (1, 331, 19, 23), ("ReduceMean",), {"axes": [2, 3]}),
    Other("max_axis1_97x331", (8, 97, 331), ("ReduceMax",), {"axes": [1]}),
    Other("sum_last_6625", (40, 6625), ("ReduceSum",), {}, (np.array([1]),)),
    Other("matmul_scores_197", (8, 197, 64), ("MatMul",), second=(8, 64, 197)),
    Other("matmul_values_197", (8, 197, 197), ("MatMul",), second=(8, 197, 64)),
    Other("matmul_turned_129", (4, 129, 80), ("MatMul",), second=(4, 129, 80), turned=True),
    Other("matmul_331x97x131", (331, 97), ("MatMul",), second=(97, 131)),
    Other("matmul_512", (512, 512), ("MatMul",), second=(512, 512)),
    Other("matmul_tall_6625x40x24", (6625, 40), ("MatMul",), second=(40, 24)),
    Other("matmul_row_1x331x997", (1, 331), ("MatMul",), second=(331, 997)),
    _pool("maxpool_3x3s2_61x47", (1, 31, 61, 47), "MaxPool", 3, 2, 1),
    _pool("maxpool_3x3s2_112", (1, 64, 112, 112), "MaxPool", 3, 2, 1),
    _pool("maxpool_2x2s2_37x53", (1, 32, 37, 53), "MaxPool", 2, 2, 0),
    _pool("maxpool_5x5s1_20", (1, 128, 20, 20), "MaxPool", 5, 1, 2),
    _pool("maxpool_13x13s1_20", (1, 128, 20, 20), "MaxPool", 13, 1, 6),
    _pool("maxpool_3x3s2_13x13", (1, 97, 13, 13), "MaxPool", 3, 2, 0),
    _pool("avgpool_3x3s1_19x43", (1, 48, 19, 43), "AveragePool", 3, 1, 1),
    _pool("avgpool_2x2s2_37x53", (1, 32, 37, 53), "AveragePool", 2, 2, 0),
    _resize("resize_nearest_x2_37x29", (1, 24, 37, 29), "nearest"),
    _resize("resize_linear_x2_37x29", (1, 24, 37, 29), "linear"),
    _resize("resize_linear_to_90x101", (1, 24, 37, 29), "linear", (90, 101)),
    _resize("resize_linear_to_17x13", (1, 24, 37, 29), "linear", (17, 13)),
    _resize("resize_nearest_x2_160x120", (1, 32, 160, 120), "nearest"),
    _resize("resize_cubic_x2_37x29", (1, 24, 37, 29), "cubic"),
    Other("sigmoid_99991", (99991,), ("Sigmoid",)),
    Other("tanh_erf_61x77", (1, 24, 61, 77), ("Tanh", "Erf")),
    Other("hardswish_61x77", (1, 24, 61, 77), ("HardSwish",)),
)


def entry_of(other: Other, target: str, keep: bool, schedule_dirs: Sequence[Path]) -> Entry:
    """``other`` built and ready to be measured."""
    folder = ROOT / "out" / "others" / target / other.name
    model = folder.with_suffix(".onnx")
    if not (keep and folder.is_dir()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(other.model(), model)
        build(model, target, folder, name=other.name, schedule_dirs=schedule_dirs)
    random = np.random.default_rng(1)
    feeds = {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in other.inputs.items()}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    return Entry(other.name, model, folder, list(feeds.values()), session.run(None, feeds))


def main() -> int:
    """Command line; 1 if one of our results is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default="", help="parts of names, comma-separated (default: all)")
    add_measuring_options(parser, rounds=9)
    arguments = parser.parse_args()
    parts = arguments.cases.split(",")
    others = [other for other in OTHERS if any(part in other.name for part in parts)]
    if not others:
        parser.error(f"no such case; there are {', '.join(other.name for other in OTHERS)}")
    peers = peers_of(arguments, parser)
    folders = schedule_folders(arguments)
    entries = [entry_of(other, arguments.target, arguments.keep, folders) for other in others]
    if arguments.build_only:
        return 0
    print(header(peers))
    settings = Settings(peers, 1, arguments.runs, arguments.round_ms / 1e3, arguments.cpu_time)
    with Arena(settings) as arena:
        rows = [arena.row(entry) for entry in entries]
    print("\n".join(contest_lines(rows, peers, {row.name: 0.0 for row in rows})))
    counted = [row for row in rows if row.counts]
    if counted and peers:
        mean = geometric_mean(row.lead for row in counted)
        print(f"{len(counted)} of {len(rows)} right; geometric mean of best peer / ours {mean:.2f}")
    for entry in entries:
        print(f"{entry.name}: {schedules_of(entry.package) if entry.package else ''}")
    return int(len(counted) < len(rows))


if __name__ == "__main__":
    sys.exit(main())
