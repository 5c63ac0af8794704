"""``inspect --kernel``: what a kernel was made from and made into, from the package or from a dump."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.models import write_small_net

KINDS = {
    "--asm": ("fmadd", ".globl"),
    "--ir": ("i32 @deploycc_k", "x float>"),
    "--script": ("@T.prim_func", "T.vectorized("),
    "--unscheduled": ("@T.prim_func", '"deploycc.task": 0'),
}


def deploycc(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycc", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``kept`` has its kernels and left a ``dump``, ``plain`` has none; ``other`` is of another network."""
    folder = tmp_path_factory.mktemp("kernels")
    write_small_net(folder / "small.onnx")
    write_small_net(folder / "larger.onnx", height=29)
    build = ("build", "small.onnx", "--target", "x86-64", "-q", "-o")
    for arguments in (
        (*build, "kept", "--keep-kernels", "--dump-dir", "dump"),
        (*build, "plain"),
        ("build", "larger.onnx", "--target", "x86-64", "-q", "-o", "other", "--dump-dir", "other-dump"),
    ):
        done = deploycc(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def calls(folder: Path) -> list[dict[str, Any]]:
    manifest = json.loads((folder / "kept/share/small/manifest.json").read_text())
    found: list[dict[str, Any]] = manifest["calls"]
    return found


@pytest.fixture(scope="module")
def number(calls: list[dict[str, Any]]) -> str:
    """The number of the convolution's kernel."""
    (symbol,) = {call["symbol"] for call in calls if "operator" in call}
    return str(int(symbol.partition("_k")[2][:3]))


def test_the_manifest_says_what_a_step_is_and_should_cost(calls: list[dict[str, Any]]) -> None:
    (conv,) = (call for call in calls if "operator" in call)
    assert conv["operators"] == ["conv2d", "add", "relu"]
    assert conv["operator"].startswith("Conv2d(batch=1, height=13, width=16, in_channels=3, out_channels=8,")
    assert conv["flops"] == 2 * 9 * 3 * 8 * 13 * 16
    assert set(conv["layouts"]) <= {"NCHW", "NHWC"}
    assert conv["cycles"] > conv["flops"] / 64  # faster than two FMA units of 16 lanes nothing is
    assert "measured_us" not in conv


def test_the_table_has_a_line_a_step(folder: Path, calls: list[dict[str, Any]]) -> None:
    text = deploycc("inspect", "kept", cwd=folder).stdout
    table = text.rpartition("\n\n")[2].splitlines()
    assert table[0].split()[:2] == ["step", "kernel"]
    assert len(table) == len(calls) + 2
    assert any("conv2d add relu" in line and "0.090" in line for line in table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_as_text_from_the_package_and_from_the_dump(folder: Path, number: str, kind: str) -> None:
    kept = deploycc("inspect", "kept", "--kernel", number, kind, cwd=folder)
    assert kept.returncode == 0, kept.stderr
    assert [words for words in KINDS[kind] if words not in kept.stdout] == []
    dumped = deploycc("inspect", "plain", "--kernel", number, kind, "--dump-dir", "dump", cwd=folder)
    assert dumped.stdout == kept.stdout


def test_a_kernel_in_words(folder: Path, number: str) -> None:
    text = deploycc("inspect", "plain", "--kernel", number, cwd=folder).stdout
    assert "operators: conv2d add relu\n" in text
    assert "operator: Conv2d(" in text


def test_kept_kernels_change_no_code_and_have_no_times(folder: Path) -> None:
    assert (folder / "kept/lib/libsmall.so").read_bytes() == (folder / "plain/lib/libsmall.so").read_bytes()
    assert not (folder / "plain/share/small/kernels.zip").exists()
    with zipfile.ZipFile(folder / "kept/share/small/kernels.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plain", "--asm"], "error[DC621]: plain does not have its kernels as text"),
        (
            ["plain", "--asm", "--dump-dir", "other-dump"],
            "error[DC622]: other-dump does not have the kernels",
        ),
        (["plain", "--asm", "--dump-dir", "none"], "got:  No such file or directory"),
        (["kept", "--json"], "leave --kernel out"),
    ],
)
def test_what_cannot_be_shown(folder: Path, number: str, arguments: list[str], told: str) -> None:
    done = deploycc("inspect", *arguments, "--kernel", number, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_no_such_kernel(folder: Path) -> None:
    done = deploycc("inspect", "kept", "--kernel", "99", cwd=folder)
    assert done.returncode == 2
    assert "error[DC620]: the package has no kernel 99" in done.stderr
    assert "a number from 0 to " in done.stderr


def test_a_kind_without_a_kernel(folder: Path) -> None:
    done = deploycc("inspect", "kept", "--asm", cwd=folder)
    assert done.returncode == 2
    assert "need --kernel N" in done.stderr
