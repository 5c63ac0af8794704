"""What each step of a plan leaves in memory, beside the model's tensor that the step says it is.

``watched`` adds an output to a plan for every tensor of the model that a step writes, filled right behind
that step: the harness runs it as any other plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from deploycc.reference import run
from deploycc.types import Buffer, Call, Plan, Result, Target, TensorInfo
from tests.planning.harness import X86_64, run_plan
from tests.scheduling.graphs import error_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Seen:
    """A tensor of the model as step ``step`` left it, in the model's order of elements but in one row."""

    step: int
    result: Result
    value: Array


def watched(plan: Plan) -> tuple[Plan, list[tuple[int, Result, Buffer]]]:
    """``plan`` with an output of bytes for each tensor of the model that a step writes, and these."""
    calls: list[Call] = []
    outputs = list(plan.outputs)
    found: list[tuple[int, Result, Buffer]] = []
    for step, call in enumerate(plan.calls):
        calls.append(call)
        for buffer, result in zip(call.writes, call.origin.results, strict=False):
            if result is None:
                continue
            copy = Buffer("output", len(outputs), 0, buffer.nbytes)
            calls.append(Call("memcpy", (copy, buffer)))
            outputs.append(TensorInfo(f"step{step}", "uint8", (buffer.nbytes,)))
            found.append((step, result, buffer))
    return replace(plan, calls=tuple(calls), outputs=tuple(outputs)), found


def seen(
    plan: Plan, feeds: Mapping[str, Array], types: Mapping[str, Any], target: Target = X86_64
) -> Iterator[Seen]:
    """Run ``plan`` and tell what its steps wrote; ``types`` are the tensors' dtypes by name."""
    longer, found = watched(plan)
    outputs = run_plan(longer, feeds, target)[len(plan.outputs) :]
    for (step, result, _), data in zip(found, outputs, strict=True):
        value = np.frombuffer(data.tobytes(), types[result.tensor]).reshape(result.shape)
        yield Seen(step, result, (np.moveaxis(value, -1, 1) if result.channels_last else value).reshape(-1))


def tensors_of(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of ``proto``, computed by the reference without optimisations."""
    names = list(dict.fromkeys(name for node in proto.graph.node for name in node.output if name))
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.output[:]
    bare.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    values, _ = run(bare, [feeds[info.name] for info in proto.graph.input], plain=True)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    return weights | dict(feeds) | dict(zip(names, values, strict=True))


def differences(
    plan: Plan,
    proto: onnx.ModelProto,
    feeds: Mapping[str, Array],
    tolerance: float,
    target: Target = X86_64,
) -> list[str]:
    """One line for each tensor that is not what the model has under its name."""
    want = tensors_of(proto, feeds)
    lines = [
        f"step {step} writes {buffer.nbytes} bytes as {result}, of {want[result.tensor].nbytes} in the model"
        for step, result, buffer in watched(plan)[1]
        if buffer.nbytes != want[result.tensor].nbytes or math.prod(result.shape) != want[result.tensor].size
    ]
    if lines:
        return lines
    for one in seen(plan, feeds, {name: array.dtype for name, array in want.items()}, target):
        expected = want[one.result.tensor].reshape(-1)
        finite = np.isfinite(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, bool)
        if expected.dtype.kind == "f" and not np.array_equal(
            expected[~finite], one.value[~finite], equal_nan=True
        ):
            lines.append(f"step {one.step}: {one.result} has NaN or infinities elsewhere")
            continue
        error = error_of(one.value[finite], expected[finite])
        if not error <= tolerance:
            lines.append(
                f"step {one.step} {plan.calls[one.step].operators}: {one.result} is off by {error:.2g}"
            )
    return lines


VIEWS = frozenset(
    "Concat Flatten Identity Reshape Slice Split Squeeze Transpose Unsqueeze Cast Expand".split()
)
"""Operators that may cost no step: their results are parts of others, or others are parts of theirs."""


def without_step(plan: Plan, proto: onnx.ModelProto, views: Sequence[str] = tuple(VIEWS)) -> list[str]:
    """Nodes that compute something from the inputs and belong to no step."""
    known = {name for call in plan.calls for name in call.origin.nodes}
    reached = {info.name for info in proto.graph.input}
    lines = []
    for node in proto.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            if node.name not in known and node.op_type not in views:
                lines.append(f"{node.op_type} '{node.name}'")
    return lines
