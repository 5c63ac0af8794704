"""Many small graphs in one ONNX model, compiled as one plan and compared output by output.

A ``Case`` adds its nodes to a ``Graph`` and returns its results.  ``check`` puts cases into one model
(one link instead of one a case), runs lower, choose_layouts, choose and plan on it, and compares with
ONNX Runtime without its optimisations.  Inputs and weights are new in every run; the seed is in every
failure and ``DEPLOYCC_TEST_SEED`` sets it.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference

from deploycc.layout import choose_layouts
from deploycc.lowering import lower
from deploycc.operators import Conv2d, Operator
from deploycc.planning import plan, plan_chips
from deploycc.scheduling import choose, estimator
from deploycc.types import Model, Plan, Program, Target, TensorInfo
from tests.planning.harness import X86_64, run_plan

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = ROOT / "schedules"
SEED = int(os.environ.get("DEPLOYCC_TEST_SEED", secrets.randbelow(1 << 32)))
TOLERANCE = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 1e-5, np.dtype(np.float16): 8 * 2.0**-11}
"""Largest error as a share of the output's largest value: float32 sums in another order, and the transforms
of Winograd's convolutions (tests/schedules/test_winograd.py has their own bounds).  Of float16 what rounding
four operators in a row gives, in ONNX Runtime and here: 2**-11 each."""


@dataclass
class Graph:
    """The nodes, inputs and weights of one model while it is put together."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    prefix: str = ""

    def _name(self, kind: str) -> str:
        return f"{self.prefix}_{kind}{len(self.nodes) + len(self.inputs) + len(self.weights)}"

    def input(self, *shape: int, dtype: str = "float32") -> str:
        """A graph input with standard normal values."""
        name = self._name("in")
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        self.feeds[name] = self.rng.standard_normal(shape).astype(dtype)
        return name

    def weight(self, *shape: int, dtype: str = "float32") -> str:
        """A constant of standard normal values."""
        return self.constant(self.rng.standard_normal(shape).astype(dtype))

    def constant(self, value: Array | Sequence[int]) -> str:
        """A constant; a list of integers is an int64 tensor."""
        name = self._name("w")
        array = np.asarray(value, np.int64) if isinstance(value, list) else np.asarray(value)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, results: int = 1, **attributes: Any) -> Any:
        """A node; its result's name, or a tuple of names."""
        name = self._name(operator.lower())
        outputs = [name] if results == 1 else [f"{name}_{i}" for i in range(results)]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name=name, **attributes))
        return name if results == 1 else tuple(outputs)

    def conv(
        self, x: str, channels: int, out: int, kernel: Sequence[int], bias: bool = True, **attributes: Any
    ) -> str:
        """A convolution of any rank whose results are about 1; ``group`` and the rest as ONNX has them."""
        group = attributes.get("group", 1)
        fan_in = channels // group * math.prod(kernel)
        scaled = self.rng.standard_normal((out, channels // group, *kernel)) / math.sqrt(fan_in)
        inputs = [x, self.constant(scaled.astype(np.float32))]
        if bias:
            inputs.append(self.weight(out))
        result: str = self.add("Conv", *inputs, kernel_shape=list(kernel), **attributes)
        return result


@dataclass(frozen=True)
class Case:
    """One small graph: ``build`` adds it and returns the name of its result, or several names."""

    name: str
    build: Callable[[Graph], Any]

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Built:
    """A model, its inputs' values and which outputs belong to which case."""

    model: Model
    feeds: dict[str, Array]
    owners: tuple[str, ...]


def build(cases: Sequence[Case], seed: int = SEED, opset: int = 17) -> Built:
    """One model of all ``cases``; case number i draws from the seed (``seed``, i)."""
    graph = Graph(np.random.default_rng(seed))
    results: list[str] = []
    owners: list[str] = []
    for number, case in enumerate(cases):
        graph.prefix = f"c{number}"
        graph.rng = np.random.default_rng([seed, number])
        made = case.build(graph)
        for result in [made] if isinstance(made, str) else made:
            results.append(result)
            owners.append(case.name)
    outputs = [helper.make_empty_tensor_value_info(name) for name in results]
    onnx_graph = helper.make_graph(graph.nodes, "cases", graph.inputs, outputs, graph.weights)
    proto = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    proto = shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    return Built(to_model(proto), graph.feeds, tuple(owners))


def to_model(proto: onnx.ModelProto) -> Model:
    """What the stages in front of "lower" would hand over."""

    def describe(values: Any) -> tuple[TensorInfo, ...]:
        found = []
        for value in values:
            kind = value.type.tensor_type
            dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
            found.append(TensorInfo(value.name, dtype, tuple(d.dim_value for d in kind.shape.dim)))
        return tuple(found)

    (opset,) = (o.version for o in proto.opset_import)
    return Model(proto, describe(proto.graph.input), describe(proto.graph.output), opset, "0" * 64)


def reference(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's results on one thread, the graph as it is."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    results: list[Array] = session.run(None, feeds)
    return results


def in_layouts(
    model: Model, target: Target = X86_64, *more: Path, layouts: str | None = None, ours: Path = SCHEDULES
) -> Program:
    """``model`` lowered and laid out by the estimates of ``ours`` and the folders in ``more``.

    With ``layouts`` (such as ``"NHWC->NHWC"``) every convolution gets these if any schedule takes them.
    """
    estimate = estimator(target, (ours, *more))

    def preferring(operator: Operator) -> float | None:
        cycles = estimate(operator)
        if cycles is None or layouts is None or not isinstance(operator, Conv2d):
            return cycles
        return 0.0 if f"{operator.data_layout}->{operator.out_layout}" == layouts else 1e12

    return choose_layouts(lower(model, target), target, preferring)


def schedule(
    model: Model, target: Target = X86_64, *more: Path, layouts: str | None = None, ours: Path = SCHEDULES
) -> Program:
    """Lower ``model`` and choose layouts and schedules (from ``ours`` and the folders in ``more``)."""
    return choose(in_layouts(model, target, *more, layouts=layouts, ours=ours), target, (ours, *more))


def compile_cases(built: Built, target: Target = X86_64, *more: Path, layouts: str | None = None) -> Plan:
    """The plan of a model made by ``build``; no schedule may have failed on a kernel."""
    program = schedule(built.model, target, *more, layouts=layouts)
    failed = [
        f"{choice.task}: {name} {why}"
        for choice in program.choices
        for name, why in choice.skipped.items()
        if why.startswith("failed")
    ]
    assert not failed, "\n".join(failed)
    return plan_chips((program,), target)[0] if target.gpus else plan(program, target)


def error_of(got: Array, want: Array) -> float:
    """Largest difference as a share of the largest expected value; infinite for NaN, another shape or type.

    A few results can all be near 0 by cancellation while their terms are about 1: the scale is 0.5 at least.
    """
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(got, want) else float("inf")
    if want.size == 0:
        return 0.0
    scale = np.abs(want.astype(np.float64)).max()
    error = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    return float(error / max(scale, 0.5)) if np.isfinite(error) else float("inf")


def wrong(built: Built, got: Sequence[Array], want: Sequence[Array]) -> list[str]:
    """One line for each output that is not as expected."""
    lines = []
    for owner, info, ours, theirs in zip(built.owners, built.model.outputs, got, want, strict=True):
        error = error_of(ours, theirs)
        if not error <= TOLERANCE.get(theirs.dtype, 0.0):
            lines.append(f"{owner}: {info.name} {theirs.dtype}{theirs.shape}, off by {error:.2g}")
    return lines


def check(
    cases: Sequence[Case],
    target: Target = X86_64,
    seed: int = SEED,
    opset: int = 17,
    layouts: str | None = None,
) -> Plan:
    """Compile and run ``cases`` on ``target``; AssertionError names every wrong case, and the seed."""
    built = build(cases, seed, opset)
    planned = compile_cases(built, target, layouts=layouts)
    got = run_plan(planned, built.feeds, target)
    lines = wrong(built, got, reference(built.model.proto, built.feeds))
    assert not lines, f"seed {seed}, {target.name}:\n" + "\n".join(lines)
    return planned
