"""The OCR example's C++ parts, callable on arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "examples" / "ocr" / "src"
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A text box as the C++ code gives it: pixels of the original image."""

    centre_x: float
    centre_y: float
    axis_x: float
    axis_y: float
    width: float
    height: float
    score: float

    def values(self) -> list[float]:
        """In the order of the C interface."""
        return [
            self.centre_x, self.centre_y, self.axis_x, self.axis_y, self.width, self.height, self.score,
        ]  # fmt: skip


class OcrParts:
    """Calls into the compiled library."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.CDLL(str(library))
        self._c.last_error.restype = ctypes.c_char_p
        self._c.letterbox.restype = ctypes.c_double

    def read_image(self, path: Path, capacity: int = 1 << 20) -> Bytes:
        """RGB, height x width x 3.  Raises RuntimeError with the library's message."""
        rgb = np.zeros(capacity, np.uint8)
        height, width = ctypes.c_int(), ctypes.c_int()
        code = self._c.read_image(
            str(path).encode(), rgb.ctypes, capacity, ctypes.byref(height), ctypes.byref(width)
        )
        self._check(code)
        return rgb[: height.value * width.value * 3].reshape(height.value, width.value, 3)

    def letterbox(self, rgb: Bytes, height: int, width: int) -> tuple[Floats, float]:
        """The network input 1 x 3 x height x width and the scale."""
        chw = np.full((1, 3, height, width), np.nan, np.float32)
        rgb = np.ascontiguousarray(rgb)
        scale = self._c.letterbox(rgb.ctypes, *rgb.shape[:2], height, width, chw.ctypes)
        return chw, float(scale)

    def cut_line(self, rgb: Bytes, box: Box, height: int, width: int) -> tuple[Floats, int]:
        """The network input 1 x 3 x height x width and how many columns are in use."""
        chw = np.full((1, 3, height, width), np.nan, np.float32)
        rgb = np.ascontiguousarray(rgb)
        values = np.array(box.values(), np.float64)
        used = self._c.cut_line(rgb.ctypes, *rgb.shape[:2], values.ctypes, height, width, chw.ctypes)
        return chw, int(used)

    def find_text_boxes(self, probability: Floats, scale: float = 1.0, unclip: float = 1.6) -> list[Box]:
        """Boxes in the map ``probability`` (height x width)."""
        probability = np.ascontiguousarray(probability, np.float32)
        boxes = np.zeros((200, 7))
        count = self._c.find_text_boxes(
            probability.ctypes, *probability.shape, ctypes.c_double(scale), ctypes.c_double(unclip),
            boxes.ctypes, len(boxes),
        )  # fmt: skip
        return [Box(*map(float, row)) for row in boxes[:count]]

    def decode(self, dictionary: Path, probability: Floats) -> tuple[str, float]:
        """Text and confidence of ``probability`` (steps x classes)."""
        probability = np.ascontiguousarray(probability, np.float32)
        text = ctypes.create_string_buffer(4096)
        confidence = ctypes.c_double()
        code = self._c.decode(
            str(dictionary).encode(), probability.ctypes, *probability.shape, text, len(text),
            ctypes.byref(confidence),
        )  # fmt: skip
        self._check(code)
        return text.value.decode(), confidence.value

    def _check(self, code: int) -> None:
        if code != 0:
            raise RuntimeError(self._c.last_error().decode())


def compile_flags() -> Sequence[str]:
    """What the example's own CMake file asks for, and warnings as errors."""
    return ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion")
