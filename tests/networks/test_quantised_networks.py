"""Public networks quantised to 8 bits in QDQ form give ONNX Runtime's results, on x86-64 and arm64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.quantised import network_files
from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.reference import own_error, run
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, Limits, Model, Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.sweep.worker import compile_model

INTEGER = {"mtcnn_onet": 8, "ppocr_cls_v2": 54, "espcn_bsd300_nnresize": 4}
"""How many operators of each compute on integers: those between two quantised tensors."""


@cache
def quantised(name: str, folder: Path) -> tuple[Path, Model]:
    """The file, and the model in front of lowering."""
    _, path = network_files(name, folder)
    return path, simplify(load(BuildRequest(path, X86_64, folder / "out", "net")), Limits())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantised")


@pytest.mark.slow
@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64], ids=lambda target: target.name)
@pytest.mark.parametrize("name", INTEGER)
def test_matches_onnx_runtime(
    network: Callable[[str], Path], folder: Path, name: str, target: Target
) -> None:
    """To the bit, but where ONNX Runtime itself is a step off what it computes without its fusions."""
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"{target.name} cannot run here")
    network(name)
    path, model = quantised(name, folder)
    assert not model.diagnostics
    lint(model, compiled_lint_target(target)).raise_if_errors()
    count = sum(node.op_type in ("QLinearConv", "QLinearMatMul") for node in model.proto.graph.node)
    assert count == INTEGER[name]
    rng = np.random.default_rng(7)
    feeds = [rng.standard_normal(info.shape).astype(np.float32) for info in model.inputs]
    original = onnx.load(path)
    wanted, _ = run(original, feeds)
    got = run_plan(compile_model(model, [""], target), feeds, target)
    for want, have, share in zip(wanted, got, own_error(original, feeds, wanted), strict=True):
        assert np.max(np.abs(want - have)) <= share * np.max(np.abs(want))
