"""Damaged and hostile files through the real command line: a coded message or a package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.sweep.malformed import malformed_models

MODELS = malformed_models()
QUICK = ("truncated_60", "flipped_0", "cycle", "names_odd", "invalid_utf8_tensor", "pads_huge")


def build(folder: Path, data: bytes, seconds: int = 20) -> tuple[int, str]:
    """The exit status of ``deploycc build`` and all it printed; checks what it left behind."""
    (folder / "model.onnx").write_bytes(data)
    command = [
        sys.executable,
        "-m",
        "deploycc",
        "build",
        "model.onnx",
        "--target",
        "x86-64",
        "--output",
        "out",
    ]
    limits = ["--stage-seconds", str(seconds), "--memory-mib", "3000"]
    done = subprocess.run(
        [*command, *limits],
        cwd=folder,
        capture_output=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    left = {path.name for path in folder.iterdir()}
    expected = {"model.onnx", "out"} if done.returncode == 0 else {"model.onnx"}
    assert left == expected, f"{left} after exit {done.returncode}: {said}"
    return done.returncode, said


def check(folder: Path, name: str) -> None:
    status, said = build(folder, MODELS[name]())
    assert "Traceback" not in said, said
    assert status in (0, 1, 2), f"exit {status}: {said}"
    if status:
        assert re.search(r"error\[DC\d{3}\]", said), said
    if status == 0 and name.startswith("names"):
        words = [sys.executable, "-m", "deploycc", "inspect", "out"]
        said += subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
        (manifest,) = (folder / "out").glob("share/*/manifest.json")
        told, graph = json.loads(manifest.read_text()), onnx.load(folder / "model.onnx").graph
        assert [row["name"] for row in told["inputs"]] == [info.name for info in graph.input]
        assert [row["name"] for row in told["outputs"]] == [info.name for info in graph.output]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said), f"control characters printed: {said!r}"


@pytest.mark.parametrize("name", QUICK)
def test_quick(tmp_path: Path, name: str) -> None:
    check(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in QUICK])
def test_all(tmp_path: Path, name: str) -> None:
    check(tmp_path, name)
