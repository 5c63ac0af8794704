"""PyTorch modules, exported by ``deploycc export`` and built: they must match ONNX Runtime too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import run_package

from benchmarks.pinned import ROOT
from benchmarks.reference import TOLERANCE, OnnxRuntime, largest_error

pytestmark = pytest.mark.slow


def deploycc(*words: str | Path) -> None:
    command = [sys.executable, "-m", "deploycc", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v2"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: torch)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra: torch)")
    model = tmp_path_factory.mktemp("exported") / f"{request.param}.onnx"
    source = Path(__file__).parent / "torch_models.py"
    deploycc("export", f"{source}:{request.param}", "--shape", "1x3x224x224", "-o", model)
    return model


@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_matches_onnx_runtime(exported: Path, target: str, tmp_path: Path) -> None:
    engine = OnnxRuntime(exported)
    inputs = engine.random_inputs({})
    want = engine.bind(inputs)
    package = tmp_path / "package"
    deploycc("build", exported, "--target", target, "-o", package)
    ran = run_package(package, target, inputs, tmp_path, limit=3600)
    error = largest_error(ran.outputs, want)
    assert error <= TOLERANCE, f"off by {error:.2g} of the largest output"
