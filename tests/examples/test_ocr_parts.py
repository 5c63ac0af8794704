"""The OCR example's C++ code against independent computations in numpy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.examples.ocr_library import Box, Bytes, Floats, OcrParts


def noise(height: int, width: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalised(rgb: Floats | Bytes) -> Floats:
    """Interleaved RGB 0..255 to blue, green, red planes in -1..1."""
    planes = np.asarray(rgb, np.float64)[..., ::-1].transpose(2, 0, 1)
    return ((planes / 255 - 0.5) / 0.5).astype(np.float32)


def bilinear_matrix(target: int, source: int, scale: float) -> Floats:
    """Row i holds the weights of the source pixels in target pixel i (centres at .5, edges repeated)."""
    weights = np.zeros((target, source))
    for i in range(target):
        at = min(max((i + 0.5) / scale - 0.5, 0.0), source - 1.0)
        low = math.floor(at)
        weights[i, low] += 1 - (at - low)
        weights[i, min(low + 1, source - 1)] += at - low
    return weights.astype(np.float32)


@pytest.mark.parametrize("grey", [False, True])
def test_reads_netpbm(ocr_parts: OcrParts, tmp_path: Path, grey: bool) -> None:
    rgb = noise(7, 5)
    if grey:
        rgb[:] = rgb[:, :, :1]
    body = rgb[:, :, 0].tobytes() if grey else rgb.tobytes()
    file = tmp_path / "image"
    file.write_bytes((b"P5" if grey else b"P6") + b"\n# a comment\n5\n#another\n7 255\n" + body)
    assert np.array_equal(ocr_parts.read_image(file), rgb)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P3\n1 1\n255\n0 0 0", "neither PGM"),
        (b"P6\nx 1\n255\n", "broken Netpbm header"),
        (b"P6\n0 1\n255\n", "broken Netpbm header"),
        (b"P6\n2 2\n65535\n", "not 8 bits a channel"),
        (b"P6\n2 2\n255\n123", "cut off"),
        (b"P6\n99999 99999\n255\n", "too large"),
        (b"", "neither PGM"),
    ],
)
def test_refuses_other_files(ocr_parts: OcrParts, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "image.ppm"
    file.write_bytes(content)
    with pytest.raises(RuntimeError, match=message) as caught:
        ocr_parts.read_image(file)
    assert str(file) in str(caught.value)


def test_letterbox_of_the_same_size_is_exact(ocr_parts: OcrParts) -> None:
    rgb = noise(9, 13)
    chw, scale = ocr_parts.letterbox(rgb, 9, 13)
    assert scale == 1.0
    np.testing.assert_allclose(chw[0], normalised(rgb), atol=1e-6)


def test_letterbox_enlarges_bilinearly_and_pads(ocr_parts: OcrParts) -> None:
    rgb = noise(8, 12)
    chw, scale = ocr_parts.letterbox(rgb, 31, 30)
    assert scale == pytest.approx(2.5)
    rows, columns = bilinear_matrix(20, 8, 2.5), bilinear_matrix(30, 12, 2.5)
    want = normalised(np.einsum("ih,jw,hwc->ijc", rows, columns, rgb.astype(np.float32)))
    np.testing.assert_allclose(chw[0, :, :20], want, atol=1e-5)
    assert np.all(chw[0, :, 20:] == 0)


def test_letterbox_shrinks_by_averaging(ocr_parts: OcrParts) -> None:
    rgb = noise(24, 36)
    chw, _ = ocr_parts.letterbox(rgb, 8, 12)
    want = normalised(rgb.reshape(8, 3, 12, 3, 3).mean(axis=(1, 3)))
    np.testing.assert_allclose(chw[0], want, atol=1e-5)


def test_cut_line_upright_is_a_crop(ocr_parts: OcrParts) -> None:
    rgb = noise(40, 90)
    chw, used = ocr_parts.cut_line(rgb, Box(45, 20, 1, 0, 30, 16, 1), 16, 50)
    assert used == 30
    np.testing.assert_allclose(chw[0, :, :, :30], normalised(rgb[12:28, 30:60]), atol=1e-6)
    assert np.all(chw[0, :, :, 30:] == 0)


def test_cut_line_turned_by_a_right_angle(ocr_parts: OcrParts) -> None:
    rgb = noise(60, 40)
    chw, used = ocr_parts.cut_line(rgb, Box(20, 30, 0, 1, 30, 16, 1), 16, 30)
    assert used == 30
    # Reading downwards: the line's columns are the image's rows, its top the image's right.
    want = rgb[15:45, 12:28][:, ::-1].transpose(1, 0, 2)
    np.testing.assert_allclose(chw[0], normalised(want), atol=1e-5)


def test_cut_line_squeezes_what_is_too_wide(ocr_parts: OcrParts) -> None:
    rgb = noise(16, 200)
    chw, used = ocr_parts.cut_line(rgb, Box(100, 8, 1, 0, 200, 16, 1), 16, 100)
    assert used == 100
    np.testing.assert_allclose(chw[0], normalised(rgb.reshape(16, 100, 2, 3).mean(axis=2)), atol=1e-5)


def bar(height: int, width: int, cx: float, cy: float, length: float, thick: float, degrees: float) -> Floats:
    """A probability map with one turned bar in it, 0.9 inside and 0.1 outside."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
    inside = (np.abs(along) <= length / 2) & (np.abs(across) <= thick / 2)
    return np.where(inside, 0.9, 0.1).astype(np.float32)


@pytest.mark.parametrize("degrees", [0.0, 3.0, -7.0, 20.0, -40.0])
def test_box_of_a_turned_bar(ocr_parts: OcrParts, degrees: float) -> None:
    (box,) = ocr_parts.find_text_boxes(bar(160, 240, 121.0, 83.0, 120, 17, degrees), unclip=0.0)
    assert (box.centre_x, box.centre_y) == pytest.approx((121.0, 83.0), abs=1.0)
    assert (box.width, box.height) == pytest.approx((120, 17), abs=2.0)
    assert math.degrees(math.atan2(box.axis_y, box.axis_x)) == pytest.approx(degrees, abs=1.0)
    assert box.score == pytest.approx(0.9, abs=1e-6)


def test_box_sides_are_exact_where_the_bar_is_upright(ocr_parts: OcrParts) -> None:
    probability = np.zeros((50, 80), np.float32)
    probability[10:20, 30:71] = 1
    (box,) = ocr_parts.find_text_boxes(probability, scale=0.5)
    # 41 x 10 pixels grow by 41 * 10 * 1.6 / (2 * 51) on each side; then half the scale doubles all.
    grow = 41 * 10 * 1.6 / 102
    assert (box.width, box.height) == pytest.approx((2 * (41 + 2 * grow), 2 * (10 + 2 * grow)))
    assert (box.centre_x, box.centre_y) == pytest.approx((2 * 50.5, 2 * 15.0))


def test_boxes_come_in_reading_order_and_weak_or_tiny_ones_go(ocr_parts: OcrParts) -> None:
    probability = np.zeros((90, 200), np.float32)
    probability[50:60, 20:80] = 0.8  # second line
    probability[12:22, 110:190] = 0.8  # first line, right: a little higher than its left part
    probability[15:25, 10:90] = 0.8
    probability[70:80, 20:80] = 0.4  # too weak
    probability[85:87, 150:190] = 0.9  # too thin
    boxes = ocr_parts.find_text_boxes(probability)
    assert [(round(b.centre_x), round(b.centre_y)) for b in boxes] == [(50, 20), (150, 17), (50, 55)]


def test_diagonal_neighbours_are_one_piece_and_whole_map_works(ocr_parts: OcrParts) -> None:
    steps = np.kron(np.eye(5), np.ones((8, 8))).astype(np.float32)  # squares that touch at corners only
    (box,) = ocr_parts.find_text_boxes(steps, unclip=0)
    assert (box.centre_x, box.centre_y) == pytest.approx((20, 20))
    (box,) = ocr_parts.find_text_boxes(np.ones((31, 64), np.float32), unclip=0)
    assert (box.width, box.height) == pytest.approx((64, 31))
    assert ocr_parts.find_text_boxes(np.zeros((31, 64), np.float32)) == []


def test_decode_collapses_repeats_and_blanks(ocr_parts: OcrParts, tmp_path: Path) -> None:
    dictionary = tmp_path / "characters.txt"
    dictionary.write_text("a\n字\nc\n", encoding="utf-8")
    classes = [0, 1, 1, 0, 1, 2, 2, 4, 3, 3, 0]  # 4 is the space after the last line
    probability = np.full((len(classes), 5), 0.01, np.float32)
    probability[np.arange(len(classes)), classes] = np.linspace(0.5, 0.9, len(classes))
    text, confidence = ocr_parts.decode(dictionary, probability)
    assert text == "aa字 c"
    kept = probability.max(axis=1)[[1, 4, 5, 7, 8]]
    assert confidence == pytest.approx(float(kept.mean()), abs=1e-6)


def test_decode_of_blanks_is_empty(ocr_parts: OcrParts, tmp_path: Path) -> None:
    dictionary = tmp_path / "characters.txt"
    dictionary.write_text("a\n", encoding="utf-8")
    blanks = np.tile(np.array([[0.9, 0.05, 0.05]], np.float32), (4, 1))
    assert ocr_parts.decode(dictionary, blanks) == ("", 0.0)


def test_decode_refuses_the_wrong_dictionary(ocr_parts: OcrParts, tmp_path: Path) -> None:
    dictionary = tmp_path / "characters.txt"
    dictionary.write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="has 2 characters, the network tells 5 apart"):
        ocr_parts.decode(dictionary, np.zeros((3, 7), np.float32))
    with pytest.raises(RuntimeError, match="cannot be opened"):
        ocr_parts.decode(tmp_path / "absent.txt", np.zeros((3, 7), np.float32))
