"""Every pinned network on every target it must run on.  Minutes: ``make test-all``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.library import manifest_of
from benchmarks.networks import networks

pytestmark = pytest.mark.slow

UNSUPPORTED: dict[str, str] = {
    "easyocr_recognition_g2": "TVM's importer converts no LSTM",
    "silero_vad_openvino_16k": "TVM's importer converts no LSTM",
}
CASCADES = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "ppocrv4_det", "ppocrv4_rec_ch", "ppocr_cls_v2")
OTHER_TARGETS = ("x86-64-v4", "rpi4", "rpi5", "armv7", "arm64-musl", "riscv64")


@pytest.mark.parametrize("name", [n for n in networks() if n not in UNSUPPORTED])
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


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_what_is_not_supported_says_so(name: str, tmp_path: Path, network: Callable[[str], Path]) -> None:
    from benchmarks.building import BuildFailed, build

    network(name)
    with pytest.raises(BuildFailed) as caught:
        build(name, "x86-64", tmp_path / "package")
    assert "exit status 1\n" in str(caught.value)
    assert "LSTM" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "package").exists()
