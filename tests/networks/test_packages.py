"""What a package of a real network is: its symbols, libraries, floor, bytes.  Read by binutils, not by us."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.building import build
from benchmarks.library import manifest_of

TARGETS = ("x86-64", "arm64")
API = {
    "abi_version", "create", "destroy", "input_count", "input_info", "last_error", "memory_bytes",
    "observe", "output_count", "output_info", "run", "status_text", "step_count", "step_name", "threads",
}  # fmt: skip


def readelf(library: Path, *options: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is missing (Debian: apt install binutils)")
    done = subprocess.run(["readelf", "-W", *options, library], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(params=TARGETS)
def library(request: pytest.FixtureRequest, built: Callable[..., Path]) -> Path:
    return built("mtcnn_pnet", request.param) / "lib" / "libmtcnn_pnet.so"


def test_exports_only_its_own_functions(library: Path) -> None:
    exported = set()
    for line in readelf(library, "--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit() and fields[6] != "UND":
            exported.add(fields[7].split("@")[0])
    assert exported == {f"mtcnn_pnet_{function}" for function in API}


def test_needs_the_c_library_only(library: Path) -> None:
    needed = set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.*?)\]", readelf(library, "-d")))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}


def test_glibc_floor_is_2_17(library: Path) -> None:
    versions = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", readelf(library, "-V"))
    assert versions
    assert max((int(major), int(minor)) for major, minor in versions) <= (2, 17)


def test_weights_are_mapped_not_relocated(library: Path) -> None:
    headers = readelf(library, "-l")
    assert "TEXTREL" not in readelf(library, "-d")
    assert re.search(r"GNU_STACK.*RW ", headers)
    writable = [line for line in headers.splitlines() if re.search(r"LOAD.*RW ", line)]
    assert sum(int(line.split()[4], 16) for line in writable) < 65536


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_two_builds_are_equal_bit_for_bit(
    target: str, built: Callable[..., Path], tmp_path: Path, network: Callable[[str], Path]
) -> None:
    first = built("mtcnn_rnet", target)
    second = build("mtcnn_rnet", target, tmp_path / "a rather different" / "folder").package
    names = [
        sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        for root in (first, second)
    ]
    assert names[0] == names[1]
    different = [
        str(name) for name in names[0] if (first / name).read_bytes() != (second / name).read_bytes()
    ]
    assert different == []


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_sizes_add_up(target: str, built: Callable[..., Path]) -> None:
    package = built("mtcnn_onet", target)
    manifest = manifest_of(package)
    size = (package / "lib" / "libmtcnn_onet.so").stat().st_size
    weights = manifest["memory"]["weight_bytes"]
    assert manifest["model"]["parameters"] * 4 <= weights * 1.01
    # 64-byte padding and packed copies aside the weights are the network's own.
    assert 1_500_000 < weights < 3_200_000
    assert size - weights < 1 << 20


def test_moved_package_is_found_by_cmake(built: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("CMake or a C++ compiler is missing")
    moved = tmp_path / "moved here"
    shutil.copytree(built("mtcnn_rnet", "x86-64"), moved, symlinks=True)
    build_folder = tmp_path / "build"
    configure: list[str | Path] = [
        "cmake",
        "-S",
        moved / "example",
        "-B",
        build_folder,
        f"-DCMAKE_PREFIX_PATH={moved}",
    ]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build_folder], check=True, capture_output=True)
    programs = [p for p in build_folder.iterdir() if p.is_file() and p.stat().st_mode & 0o111]
    assert len(programs) == 1
    done = subprocess.run([programs[0]], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
