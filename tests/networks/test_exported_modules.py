"""PyTorch modules, exported by ``deploycc export`` and built: they must match ONNX Runtime too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pinned import ROOT
from benchmarks.reference import OnnxRuntime, allowed_error, largest_error
from tests.networks.running import run_package

pytestmark = pytest.mark.slow


def deploycc(python: str, *words: str | Path) -> None:
    command = [python, "-m", "deploycc", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=1800, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v2"])
def exported(
    request: pytest.FixtureRequest, torch_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    model = tmp_path_factory.mktemp("exported") / f"{request.param}.onnx"
    source = Path(__file__).parent / "torch_models.py"
    deploycc(torch_python, "export", f"{source}:{request.param}", "--shape", "1x3x224x224", "-o", model)
    return model


@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_matches_onnx_runtime(exported: Path, target: str, tmp_path: Path) -> None:
    engine = OnnxRuntime(exported)
    inputs = engine.random_inputs({})
    want = engine.bind(inputs)
    package = tmp_path / "package"
    deploycc(sys.executable, "build", exported, "--target", target, "-o", package)
    ran = run_package(package, target, inputs, tmp_path, limit=3600)
    error = largest_error(ran.outputs, want)
    allowed = allowed_error(exported, inputs, want, error)
    assert error <= allowed, f"off by {error:.2g}, allowed are {allowed:.2g}"
