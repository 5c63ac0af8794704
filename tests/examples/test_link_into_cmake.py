"""docs/link-into-cmake.md is followed word for word: its command, its two files, its CMake lines."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.pinned import ROOT

TEXT = (ROOT / "docs" / "link-into-cmake.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def run(command: list[str], where: Path) -> str:
    done = subprocess.run(command, check=False, cwd=where, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_page_works(network: Callable[[str], Path], tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("CMake or a C++ compiler is missing")
    shutil.copyfile(network("mtcnn_pnet"), tmp_path / "pnet.onnx")
    build, use = blocks("sh")
    project, install = blocks("cmake")
    (program,) = blocks("cpp")
    (tmp_path / "CMakeLists.txt").write_text(project + install, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(program, encoding="utf-8")

    words = shlex.split(build)
    assert words[0] == "deploycc"
    run([sys.executable, "-m", *words], tmp_path)
    output = ""
    for line in use.splitlines():
        output = run(shlex.split(line), tmp_path)
    reference = onnxruntime.InferenceSession(str(tmp_path / "pnet.onnx"), providers=["CPUExecutionProvider"])
    scores = reference.run(["output2"], {"input": np.full((1, 3, 120, 160), 0.5, np.float32)})[0]
    score = re.fullmatch(r"best score (\S+)\n", output)
    assert score, output
    assert float(score[1]) == pytest.approx(float(scores[0, 1].max()), rel=1e-3)

    # Installed somewhere else, without the package: the run path is enough.
    run(["cmake", "--install", "build", "--prefix", "installed"], tmp_path)
    shutil.rmtree(tmp_path / "third_party")
    assert run([str(tmp_path / "installed" / "faces")], tmp_path / "installed") == output
