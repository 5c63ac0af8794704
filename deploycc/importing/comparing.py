"""Whether another form of a model computes what the model does."""

from __future__ import annotations

from onnx import ModelProto

from deploycc.onnx_graph import tensor_info
from deploycc.reference import ReferenceFailed, compare, run, sample

_SLACK = 10.0
"""Decomposed operators round otherwise; a wrong meaning is off by far more."""


def difference(before: ModelProto, after: ModelProto, *, by_runtime: bool = False) -> str:
    """How the outputs differ on random inputs; empty where they do not, or nothing could be run.

    With ``by_runtime`` only ONNX Runtime's results count: onnx's evaluator stacks the scalars of a loop
    with an axis too many.
    """
    names = [info.name for info in before.graph.output]
    if [info.name for info in after.graph.output] != names:
        return "its outputs have other names"
    try:
        taken = sample(before, [tensor_info(info) for info in before.graph.input], seed=0)
    except ReferenceFailed:
        # Nothing to compare with: the simplifier's own check and the golden run come later.
        return ""
    if by_runtime and not taken.engine.startswith("onnxruntime"):
        return ""
    try:
        got, _ = run(after, taken.inputs)
    except ReferenceFailed as error:
        return str(error)
    for name, want, have in zip(names, taken.outputs, got, strict=True):
        result = compare(want, have, slack=_SLACK)
        if not result.ok:
            return f"output '{name}': {result.reason}"
    return ""
