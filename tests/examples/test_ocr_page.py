"""The OCR example reads the photographed page: its C++ code with ONNX Runtime in the networks' place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.pinned import FileUnavailable, fetch_file
from examples.ocr.demo import (
    DETECTOR,
    EXPECTED,
    PAGE,
    RECOGNISER,
    DemoFailed,
    check_text,
    comparable,
    write_dictionary,
    write_page,
)
from tests.examples.ocr_library import OcrParts


def session(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def test_reads_the_page(ocr_parts: OcrParts, network: Callable[[str], Path], tmp_path: Path) -> None:
    detector, recogniser = network(DETECTOR.network), network(RECOGNISER.network)
    try:
        write_page(fetch_file(PAGE), tmp_path / "page.pgm")
    except FileUnavailable as error:
        pytest.skip(str(error))
    write_dictionary(recogniser, tmp_path / "characters.txt")
    page = ocr_parts.read_image(tmp_path / "page.pgm")
    assert page.shape == (191, 384, 3)

    x, scale = ocr_parts.letterbox(page, *DETECTOR.shape[2:])
    probability = session(detector).run(None, {"x": x})[0][0, 0]
    boxes = ocr_parts.find_text_boxes(probability, scale)
    reader = session(recogniser)
    lines = []
    for box in boxes:
        x, _ = ocr_parts.cut_line(page, box, *RECOGNISER.shape[2:])
        text, confidence = ocr_parts.decode(tmp_path / "characters.txt", reader.run(None, {"x": x})[0][0])
        lines.append((confidence, text))
    check_text(lines)
    assert np.mean([confidence for confidence, _ in lines]) > 0.9


def test_a_wrong_character_fails_the_demo() -> None:
    lines = [(1.0, text) for text in EXPECTED]
    check_text(lines)
    with pytest.raises(DemoFailed, match="the text is wrong"):
        check_text([*lines[:-1], (1.0, "markers = np.zeros_like(coin5)")])
    with pytest.raises(DemoFailed, match="the text is wrong"):
        check_text(lines[:-1])


def test_only_spaces_prompt_and_typesetting_are_forgiven() -> None:
    assert comparable(">>> a\uff08b\uff09 = c") == "a(b)=c"
    assert comparable("a b") != comparable("a-b")
