"""Compiles the OCR example's C++ parts once for all tests of this folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.examples.ocr_library import SOURCES, OcrParts, compile_flags


@pytest.fixture(scope="session")
def ocr_parts(tmp_path_factory: pytest.TempPathFactory) -> OcrParts:
    """The example's image, box and text code (all but main.cpp), compiled with the system's C++ compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler (c++) on this machine")
    library = tmp_path_factory.mktemp("ocr") / "libocr_parts.so"
    sources = [SOURCES / name for name in ("image.cpp", "text_boxes.cpp", "ctc.cpp")]
    command: list[str | Path] = [
        compiler, *compile_flags(), "-shared", "-fPIC", "-I", SOURCES,
        Path(__file__).parent / "ocr_abi.cpp", *sources, "-o", library,
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=300)
    return OcrParts(library)
