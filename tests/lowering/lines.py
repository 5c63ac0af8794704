"""Small graphs through the whole line, from the file to numbers: import, simplify, lint, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, Limits, Plan, Target
from tests.planning.harness import X86_64, find_emulator, run_plan
from tests.scheduling.graphs import SEED, Array, Case, Graph, build, reference, wrong
from tests.sweep.worker import compile_model


def given(graph: Graph, value: Array) -> str:
    """A graph input that gets ``value``."""
    name = f"{graph.prefix}_given{len(graph.inputs)}"
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    graph.inputs.append(helper.make_tensor_value_info(name, kind, value.shape))
    graph.feeds[name] = value
    return name


def normal(graph: Graph, *shape: int, dtype: str = "float32", scale: float = 1.0) -> str:
    """A graph input of normally distributed values, of integers too."""
    return given(graph, (graph.rng.standard_normal(shape) * scale).astype(dtype))


def through(proto: onnx.ModelProto, folder: Path, target: Target = X86_64) -> Plan:
    """The plan of a model that goes the whole way, as ``deploycc build`` goes it; lint may find no error."""
    path = folder / "model.onnx"
    onnx.save(proto, path)
    model = simplify(load(BuildRequest(path, target, folder / "out", "net", {})), Limits())
    lint(model, compiled_lint_target(target)).raise_if_errors()
    return compile_model(model, [""], target)


def check_line(
    cases: Sequence[Case], folder: Path, target: Target = X86_64, opset: int = 20, evaluator: bool = False
) -> Plan:
    """Each case computes what ONNX Runtime does, or onnx's ``evaluator`` where that has no kernel."""
    if target.emulator and find_emulator(target) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    built = build(cases, SEED, opset)
    planned = through(built.model.proto, folder, target)
    got = run_plan(planned, [built.feeds[info.name] for info in planned.inputs], target)
    want = (
        _evaluated(built.model.proto, built.feeds) if evaluator else reference(built.model.proto, built.feeds)
    )
    described = [
        replace(info, shape=value.shape) for info, value in zip(built.model.outputs, want, strict=True)
    ]
    lines = wrong(replace(built, model=replace(built.model, outputs=tuple(described))), got, want)
    assert not lines, f"seed {SEED}, {target.name}:\n" + "\n".join(lines)
    return planned


def _evaluated(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    made: list[Any] = list(ReferenceEvaluator(proto).run(None, dict(feeds)))
    return [np.asarray(value) for value in made]
