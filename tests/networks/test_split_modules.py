"""Detectors made in PyTorch, cut into parts: backbone, host logic, head; the parts equal the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.split import split
from tests.networks.test_exported_modules import deploycc
from tests.packaging.conftest import run, tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detectors(torch_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    source = Path(__file__).parent / "torch_detectors.py"
    found = {}
    for name in ("two_stage", "yolo"):
        found[name] = folder / f"{name}.onnx"
        words = ("export", f"{source}:{name}", "--shape", "1x3x64x64", "-o", found[name])
        deploycc(torch_python, *words)
    return found


def play(folder: Path, name: str, build: Path) -> str:
    """Build the example with CMake and run it: the app's parts play back their records."""
    strict = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"
    run([tool("cmake"), "-S", folder, "-B", build, strict])
    run([tool("cmake"), "--build", build])
    return run([build / f"{name}_example"]).stdout


def test_a_two_stage_detector_is_backbone_host_logic_and_head(
    detectors: dict[str, Path], tmp_path: Path
) -> None:
    whole = split(detectors["two_stage"], "snpe:htp", tmp_path / "whole", build_packages=False)
    assert [part["place"] for part in whole.pipeline["parts"]][::2] == ["accelerator", "host"]
    (promise,) = [d for d in whole.diagnostics if d.code == "DC788"]
    most = {promise.tensor: [256 if word == "?" else int(word) for word in promise.got.split("x")]}
    result = split(detectors["two_stage"], "snpe:htp", tmp_path / "parts", cpu_target="x86-64", shapes=most)
    parts = result.pipeline["parts"]
    assert parts[0]["place"] == parts[-1]["place"] == "accelerator"
    assert "Conv" in parts[0]["operators"]
    assert "Gemm" in parts[-1]["operators"]
    assert any(part["place"] == "host" and "NonZero" in part["operators"] for part in parts)
    assert result.pipeline["check"]["exact"]
    lines = play(tmp_path / "parts", "two_stage", tmp_path / "build").splitlines()
    assert all("max error 0, " in line for line in lines if line.startswith("output"))
    assert sum(line.startswith("output") for line in lines) == 2


def test_a_yolo_ends_with_the_hosts_logic(detectors: dict[str, Path], tmp_path: Path) -> None:
    result = split(detectors["yolo"], "snpe:htp", tmp_path / "parts", cpu_target="x86-64")
    parts = result.pipeline["parts"]
    assert parts[0]["place"] == "accelerator"
    assert parts[0]["macs"] > 0.9 * sum(part["macs"] for part in parts)
    assert [part["place"] for part in parts if "NonMaxSuppression" in part["operators"]] == ["host"]
    assert parts[-1]["place"] == "host"
    assert result.pipeline["check"]["exact"]
    assert "MISMATCH" not in play(tmp_path / "parts", "yolo", tmp_path / "build")
