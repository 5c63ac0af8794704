"""Public networks as ONNX Runtime's optimiser saves them: with its own operators, built all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.networks import networks
from benchmarks.reference import OnnxRuntime
from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.reference import compare
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, Limits
from tests.planning.harness import X86_64, run_plan
from tests.sweep.worker import compile_model


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mtcnn_onet", "silero_vad_openvino_16k", "espcn_bsd300_nnresize", "ppocr_cls_v2"]
)
def test_network_saved_by_onnx_runtime(name: str, network: Callable[[str], Path], tmp_path: Path) -> None:
    saved = tmp_path / "saved.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(saved)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(network(name)), options, providers=["CPUExecutionProvider"])
    engine = OnnxRuntime(network(name))
    inputs = engine.random_inputs(networks()[name].inputs)
    proto = onnx.load(saved)
    weights = {tensor.name for tensor in proto.graph.initializer}
    shapes = dict(
        zip(
            (info.name for info in proto.graph.input if info.name not in weights),
            (value.shape for value in inputs),
            strict=True,
        )
    )
    model = simplify(load(BuildRequest(saved, X86_64, tmp_path / "out", "net", shapes)), Limits())
    lint(model, compiled_lint_target(X86_64)).raise_if_errors()
    assert not any(node.domain for node in model.proto.graph.node)
    got = run_plan(compile_model(model, []), [np.asarray(value) for value in inputs])
    for want, have in zip(engine.bind(inputs), got, strict=True):
        assert compare(want, have).ok
