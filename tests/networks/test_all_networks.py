"""Every pinned network on every target it must run on.  Minutes: ``make test-all``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.library import manifest_of
from benchmarks.networks import networks

pytestmark = pytest.mark.slow

CASCADES = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "ppocrv4_det", "ppocrv4_rec_ch", "ppocr_cls_v2")
OTHER_TARGETS = ("x86-64-v4", "rpi4", "rpi5", "armv7", "arm64-musl", "riscv64", "riscv64-v")


@pytest.mark.parametrize("name", list(networks()))
@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_matches_onnx_runtime(matches: Callable[..., None], name: str, target: str) -> None:
    matches(name, target, limit=3600)


@pytest.mark.parametrize("name", CASCADES)
@pytest.mark.parametrize("target", OTHER_TARGETS)
def test_cascades_run_on_other_targets(matches: Callable[..., None], name: str, target: str) -> None:
    matches(name, target, limit=3600)


@pytest.mark.parametrize("name", CASCADES)
def test_cascades_build_for_android(built: Callable[..., Path], name: str) -> None:
    package = built(name, "android-arm64")
    assert (package / "lib" / f"{name}_kernels.o").stat().st_size > 10_000
    assert manifest_of(package)["target"]["name"] == "android-arm64"
    assert (package / "src" / "CMakeLists.txt").is_file()
