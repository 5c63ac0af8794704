"""What an operator without a schedule of its own costs in NCHW and in NHWC: the figures of the layout choice.

    python -m benchmarks.layouts [OPERATOR ...] [--target host]

Cycles are of one core and for one element: of the result, of what is read by reductions and transposes, of
one tap by pools.  A cycle is what two vector multiply-adds take, as in the schedules' estimates.  The
constants in ``deploycc/layout/costs.py`` are rounded from this table; run it again when a schedule of these
operators changes.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from benchmarks.machine import fma_gflops
from benchmarks.measuring import pin
from benchmarks.reference import TOLERANCE, OnnxRuntime
from deploycc.importing import load
from deploycc.layout.graph import Graph, Layouts, bindings_of
from deploycc.layout.rewriting import rewrite
from deploycc.lowering import lower
from deploycc.planning import plan
from deploycc.resources import data_dir
from deploycc.scheduling import choose
from deploycc.targets import load_target
from deploycc.tuning.local import LocalRunner
from deploycc.tuning.runner import Effort, Job
from deploycc.types import BuildRequest, Program, Target

SHAPES = ((16, 80, 80), (24, 40, 40), (64, 28, 28), (96, 56, 56), (256, 14, 14), (23, 40, 40))
"""Channels, rows and columns: in and beyond a level-2 cache, whole vectors of channels and odd ones."""


@dataclass(frozen=True)
class Operator:
    """An ONNX operator on ``inputs`` images of one shape; ``per`` says by what its time is divided."""

    name: str
    per: str = "result"
    inputs: int = 1
    constants: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def label(self) -> str:
        """The operator and its attributes in a few words."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.attributes.items())])


def _pool(name: str, kernel: int, stride: int, pad: int) -> Operator:
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    return Operator(name, "tap", attributes=attributes)


def _resize(**attributes: str) -> Operator:
    sizes = (np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32))
    return Operator("Resize", constants=sizes, attributes=attributes)


def _mean(axes: list[int]) -> Operator:
    return Operator("ReduceMean", "read", constants=(np.array(axes, np.int64),))


OPERATORS = (
    _pool("MaxPool", 3, 2, 1),
    _pool("MaxPool", 2, 2, 0),
    _pool("MaxPool", 3, 1, 1),
    _pool("AveragePool", 3, 1, 1),
    Operator("GlobalAveragePool", "read"),
    _mean([2, 3]),
    _mean([1]),
    Operator("Concat", inputs=2, attributes={"axis": 1}),
    _resize(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    _resize(mode="linear", coordinate_transformation_mode="half_pixel"),
    Operator("DepthToSpace", attributes={"blocksize": 2}),
    Operator("Softmax", attributes={"axis": 1}),
    Operator("Relu"),
    Operator("Transpose", "read", attributes={"perm": [0, 2, 3, 1]}),
)


def model_of(operator: Operator, shape: Sequence[int], last: bool) -> onnx.ModelProto:
    """The operator alone; with ``last`` its images come and go as NHWC, between transposes."""
    image = [1, *shape]
    names = [f"x{i}" for i in range(operator.inputs)]
    given = [image[axis] for axis in (0, 2, 3, 1)] if last else image
    constants = [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(operator.constants)]
    nodes = [
        helper.make_node("Transpose", [name], [f"{name}_first"], perm=[0, 3, 1, 2]) for name in names if last
    ]
    operands = [f"{name}_first" if last else name for name in names]
    nodes.append(
        helper.make_node(
            operator.name, [*operands, *(c.name for c in constants)], ["y"], **operator.attributes
        )
    )
    if last:
        nodes.append(helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        nodes,
        operator.name,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, given) for name in names],
        [helper.make_tensor_value_info("z" if last else "y", TensorProto.FLOAT, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 18)]
    return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def program_of(file: Path, target: Target, last: bool) -> Program | None:
    """The model in ``file``, in NHWC with ``last``; ``None`` where that has no rule."""
    program = lower(load(BuildRequest(file, target, file.parent / "out", "operator")), target)
    if last:
        bindings = bindings_of(program.module["main"]) or []
        graph = Graph(program.module["main"], bindings, target, lambda operator: None)
        every = {variable: rule for variable, (_, rule) in graph.rules.items()}
        module = rewrite(program.module, bindings, Layouts({}, every, ()))
        program = Program(module, (), program.inputs, program.outputs)
        if "permute_dims" in module.script() and "DepthToSpace" not in file.stem:
            return None
    return choose(program, target, [data_dir("schedules")])


def measure(operator: Operator, target: Target, runner: LocalRunner, hertz: float) -> Iterator[str]:
    """A line for every shape."""
    for shape in SHAPES:
        if operator.name == "DepthToSpace" and shape[0] % 4:
            continue
        times, divisor = [], math.prod(shape)
        for last in (False, True) if operator.name != "Transpose" else (False,):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"{operator.name}.onnx"
                onnx.save(model_of(operator, shape, last), file)
                program = program_of(file, target, last)
                if program is None:
                    times.append(math.nan)
                    continue
                peer = OnnxRuntime(file)
                given = {info.name: info.shape for info in program.inputs}
                inputs = [np.ascontiguousarray(array) for array in peer.random_inputs(given)]
                job = Job(plan(program, target), tuple(inputs), tuple(peer.bind(inputs)), TOLERANCE)
                peer.run()
                (found,) = runner.measure([job], Effort(5, 0.01))
                times.append(found.value if found.status == "ok" else math.nan)
                if operator.per != "read":
                    divisor = math.prod(program.outputs[0].shape)
        if operator.per == "tap":
            divisor *= math.prod(operator.attributes["kernel_shape"])
        cycles = " ".join(f"{seconds * hertz / divisor:8.2f}" for seconds in times)
        yield f"{operator.label():84.84} {'x'.join(map(str, shape)):>10}  {cycles}  a {operator.per}"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help="ONNX operators (default all)")
    parser.add_argument("--target", default="host")
    arguments = parser.parse_args()
    target = load_target(arguments.target)
    pin(1)
    runner = LocalRunner(target)
    hertz = fma_gflops(target.simd.bits, 0.2) * 1e9 / (4 * target.simd.lanes())
    print(f"{hertz / 1e9:.2f} GHz; cycles in NCHW and in NHWC")
    for operator in OPERATORS:
        if not arguments.operators or operator.name in arguments.operators:
            for line in measure(operator, target, runner, hertz):
                print(line, flush=True)
    runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
