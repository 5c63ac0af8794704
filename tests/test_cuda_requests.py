"""What is asked of a build and of lint for a GPU: precision, folders, a compiler that is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc import nvrtc
from deploycc.build import reproduce_command, resolve_request
from deploycc.diagnostics import render
from deploycc.lint import lint_model, resolve_lint_targets
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import Report
from deploycc.linting import lint
from deploycc.policy.applying import Policy, apply_policy
from deploycc.policy.file import Ignore
from deploycc.profiling.ceilings import target_ceilings
from deploycc.reporting.summary import headline
from deploycc.request import (
    lint_target_from_json,
    lint_target_to_json,
    request_from_json,
    request_to_json,
)
from deploycc.targets import load_target
from deploycc.types import DeployccError, Peak
from tests.linting.graphs import model
from tests.models import write_small_net

SORTED = (
    "g (float[1,8,64] x, float[64,64] w) => (float[1,8,3] y) <int64[1] k = {3}>"
    " { a = MatMul(x, w) b = Relu(a) y, i = TopK(b, k) }"
)


def told(error: pytest.ExceptionInfo[DeployccError]) -> str:
    return "\n".join(map(render, error.value.diagnostics))


def test_precision_ends_in_the_target_and_in_the_folders_name() -> None:
    request = resolve_request("net.onnx", "cuda:sm_90", precision="fp16")
    assert request.target.precision == "fp16"
    assert request.output.name == "net-cuda-sm_90-fp16"
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request
    assert "--target cuda:sm_90 --name net --precision fp16" in reproduce_command(request, "cuda:sm_90")


def test_single_precision_is_not_spelled_out() -> None:
    request = resolve_request("net.onnx", "cuda:sm_90", precision="fp32")
    assert (request.target.precision, request.output.name) == ("fp32", "net-cuda-sm_90")
    assert "--precision" not in reproduce_command(request, "cuda:sm_90")
    assert resolve_request("net.onnx", "arm64", precision="fp32") == resolve_request("net.onnx", "arm64")


def test_a_targets_own_precision_holds_unless_another_is_given() -> None:
    target = replace(load_target("h200"), precision="bf16")
    assert resolve_request("net.onnx", target).target.precision == "bf16"
    assert resolve_request("net.onnx", target, precision="tf32").target.precision == "tf32"


def test_everything_wrong_with_a_request_at_once() -> None:
    with pytest.raises(DeployccError) as raised:
        resolve_request("net.onnx", "arm64", precision="fp16", name="3d")
    assert [d.code for d in raised.value.diagnostics] == ["DC704", "DC516"]


def test_no_compiler_is_told_before_the_model_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_find", lambda: None)
    with pytest.raises(DeployccError) as raised:
        resolve_request("nowhere.onnx", "cuda")
    assert "error[DC524]" in told(raised)
    assert "pip install 'deploycc[cuda]'" in told(raised)
    resolve_request("nowhere.onnx", "arm64")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "cuda:sm_75", "--precision", "bf16"], "error[DC517]: the tensor cores of NVIDIA T4"),
        (["--target", "arm64", "--precision", "fp16"], "error[DC516]: the target 'arm64' computes in"),
        (["--target", "snpe", "--precision", "fp16"], "--precision cannot be followed"),
        (["--target", "cuda", "--precision", "int8"], "'int8' is not one of 'fp32', 'tf32', 'fp16', 'bf16'"),
    ],
)
def test_the_command_refuses(arguments: list[str], message: str, tmp_path: Path) -> None:
    write_small_net(tmp_path / "model.onnx")
    command = [sys.executable, "-m", "deploycc", "build", "model.onnx", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_lint_at_a_precision() -> None:
    (target,) = resolve_lint_targets(["cuda:h200"], "fp16")
    assert target.peak == Peak(989.4e12, 4.8e12)
    assert target.memory_bytes == 141 * 10**9
    assert lint_target_from_json(json.loads(json.dumps(lint_target_to_json(target)))) == target
    several = resolve_lint_targets(["cuda:h200", "arm64", "tensorrt"], "fp16")
    assert [one.compiled.precision if one.compiled else "" for one in several] == ["fp16", "fp32", ""]
    for alone in ("arm64", "tensorrt"):
        with pytest.raises(DeployccError) as raised:
            resolve_lint_targets([alone], "fp16")
        assert "error[DC516]" in told(raised)
        assert resolve_lint_targets([alone], "fp32") == resolve_lint_targets([alone])


def test_a_target_of_chips_is_called_as_it_was_asked_for() -> None:
    target = load_lint_target("cuda:sm_90,t4@x86-64-v4")
    assert (target.name, target.family, target.engine) == ("cuda:sm_90,t4@x86-64-v4", "cuda", "tvm")
    assert target.compiled is not None
    assert target.compiled.name == "cuda-t4-sm_90-x86-64-v4"


def report() -> Report:
    return lint(model(SORTED, 18), load_lint_target("cuda:sm_90"))


def test_a_package_with_a_part_for_the_processor_is_whole() -> None:
    found = report()
    assert found.coverage is not None
    assert (found.coverage.runs, found.coverage.parts) == ("whole", 1)
    assert (found.coverage.nodes, found.coverage.taken) == (3, 2)
    assert found.coverage.replace == (("TopK", 1),)
    assert [(node.op, node.taken, node.verdict) for node in found.nodes][-1] == ("TopK", False, "fallback")
    assert headline(found).startswith("runs whole: 2 of 3 nodes")
    assert headline(found).endswith("on the GPU; on the processor TopK (DC518)")


def test_what_is_left_to_the_processor_can_be_lived_with(tmp_path: Path) -> None:
    write_small_net(tmp_path / "small.onnx")
    result = lint_model(tmp_path / "small.onnx", ["cuda:sm_90"])
    result = replace(result, reports=(report(),))
    policy = Policy(ignores=(Ignore("runs-on-processor", "sorting is cheap here"),))
    (after,) = apply_policy(result, policy).reports
    assert after.coverage is not None
    assert (after.coverage.runs, after.coverage.taken) == ("whole", 3)
    assert headline(after).startswith("runs whole: 3 nodes")
    (same,) = apply_policy(result, Policy()).reports
    assert same.coverage == report().coverage


def test_memory_is_that_of_the_chip() -> None:
    small = replace(load_lint_target("cuda:orin-nano"), memory_bytes=16 << 10)
    found = [d for d in lint(model(SORTED, 18), small).diagnostics if d.code in ("DC531", "DC532")]
    assert found
    assert all("Jetson Orin Nano Series data sheet" in d.source for d in found)


def test_the_command_says_what_a_package_runs_on(tmp_path: Path) -> None:
    write_small_net(tmp_path / "model.onnx")
    command = [sys.executable, "-m", "deploycc", "build", "model.onnx", "--target", "cuda:sm_75,h200"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "model-cuda-sm_75-h200: model for cuda-sm_75-h200, built in" in done.stdout
    assert "  kernels for t4 (sm_75), h200 (sm_90); newer GPUs compile its PTX" in done.stdout.splitlines()


def test_ceilings_are_those_of_the_chip_at_the_packages_precision() -> None:
    half = target_ceilings({"target": {"name": "cuda-sm_75-h200", "precision": "fp16"}})
    assert (half.gflops, half.gbs) == pytest.approx((65e3, 320.0))
    assert half.source.endswith("cuda-sm_75-h200, its weakest chip at fp16")
    assert target_ceilings({"target": {"name": "h200", "precision": "fp32"}}).gflops == pytest.approx(66.9e3)
