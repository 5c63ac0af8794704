"""Resize, Col2Im and pooling with places, through the whole line and beside ONNX Runtime."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploycc.types import DeployccError
from tests.lowering.lines import check_line, given, normal
from tests.planning.harness import ARM64
from tests.scheduling.graphs import Case, Graph


def resize(
    shape: tuple[int, ...],
    *,
    sizes: list[int] | None = None,
    scales: list[float] | None = None,
    roi: list[float] | None = None,
    dtype: str = "float32",
    **attributes: Any,
) -> Case:
    """A resize by constant ``sizes`` or ``scales``."""

    def add(graph: Graph) -> str:
        box, factors = (
            "" if numbers is None else graph.constant(np.array(numbers, np.float32))
            for numbers in (roi, scales)
        )
        inputs = [normal(graph, *shape, dtype=dtype, scale=50), box, factors]
        return str(graph.add("Resize", *inputs, *([graph.constant(sizes)] if sizes else []), **attributes))

    return Case(f"resize {shape} {sizes or scales} {roi} {dtype} {attributes}", add)


PLACINGS = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
ANTIALIASED = [
    resize((1, 2, 11, 9), sizes=[1, 2, 5, 4], mode="linear", antialias=1),
    resize((1, 2, 11, 9), sizes=[1, 2, 17, 6], mode="cubic", antialias=1, cubic_coeff_a=-0.5),
    resize((1, 2, 11, 9), sizes=[1, 2, 1, 7], mode="cubic", antialias=1, exclude_outside=1),
    resize((1, 2, 11, 9), scales=[1, 1, 0.45, 0.7], mode="linear", antialias=1, dtype="float16"),
]
CROPPED = [
    resize(
        (1, 2, 6, 7),
        roi=[0, 0, -0.2, 0.3, 1, 1, 1.3, 0.8],
        sizes=[1, 2, 8, 12],
        dtype=dtype,
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    )
    for mode, dtype in (
        ("nearest", "int32"),
        ("linear", "float32"),
        ("cubic", "float32"),
        ("linear", "float16"),
    )
]
BY_AXES = [
    resize((1, 2, 6, 7), sizes=[9, 8], axes=[3, 2], mode=mode, keep_aspect_ratio_policy=policy)
    for mode, policy in (("nearest", "not_larger"), ("linear", "not_smaller"), ("cubic", "not_larger"))
]
INTEGERS = [
    resize(
        (1, 2, 7, 9), sizes=[1, 2, *size], dtype=dtype, mode="linear", coordinate_transformation_mode=placing
    )
    for dtype, placing, size in (
        ("uint8", "half_pixel", (14, 27)),
        ("int8", "align_corners", (10, 13)),
        ("int32", "asymmetric", (4, 5)),
        ("uint8", "pytorch_half_pixel", (1, 20)),
    )
]


def col2im(image: list[int], block: list[int], channels: int = 2, **attributes: Any) -> Case:
    """Columns that are put back into an image."""
    rank = len(image)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * (2 * rank))

    def add(graph: Graph) -> str:
        laid = [
            (image[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            for i in range(rank)
        ]
        data = normal(graph, 2, channels * math.prod(block), math.prod(laid))
        return str(graph.add("Col2Im", data, graph.constant(image), graph.constant(block), **attributes))

    return Case(f"col2im {image} {block} {attributes}", add)


COLUMNS = [
    col2im([7, 9], [3, 2], strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2]),
    col2im([5], [2], channels=1),
    col2im([4, 5, 6], [2, 3, 2], strides=[1, 2, 1], pads=[0, 1, 0, 1, 0, 1], dilations=[2, 1, 1]),
]


def pool(size: list[int], kernel: list[int], dtype: str = "float32", **attributes: Any) -> Case:
    """A pool with both outputs."""

    def add(graph: Graph) -> Any:
        data = normal(graph, 2, 3, *size, dtype=dtype, scale=40)
        return graph.add("MaxPool", data, results=2, kernel_shape=kernel, **attributes)

    return Case(f"pool {size} {kernel} {dtype} {attributes}", add)


POOLS = [
    pool([9, 7], [3, 2], strides=[2, 1], dilations=[1, 2], pads=[1, 0, 1, 1]),
    pool([9, 7], [3, 2], "int8", strides=[2, 1], storage_order=1),
    pool([9], [3], "float64", strides=[2], dilations=[2], pads=[1, 2], ceil_mode=1),
    pool([5, 6, 7], [2, 3, 2], strides=[1, 2, 3], pads=[0, 1, 0, 1, 2, 1], storage_order=1),
    pool([9, 8], [3, 3], "uint8", strides=[2, 2], auto_pad="SAME_UPPER"),
    pool([9, 8], [3, 3], auto_pad="SAME_LOWER"),
    pool([9, 8], [3, 3], strides=[2, 3], auto_pad="VALID"),
]


def unpool(size: list[int], with_shape: bool, **attributes: Any) -> Case:
    """Values at random places of the result, each at another one."""
    rank = len(size)
    pads = attributes.get("pads", [0] * (2 * rank))

    def add(graph: Graph) -> str:
        full = [(size[i] - 1) * 2 + 3 - pads[i] - pads[rank + i] for i in range(rank)]
        places = graph.rng.permutation(2 * 3 * math.prod(full))[: 2 * 3 * math.prod(size)]
        inputs = [normal(graph, 2, 3, *size), given(graph, places.reshape(2, 3, *size))]
        inputs += [graph.constant([2, 3, *full])] if with_shape else []
        return str(graph.add("MaxUnpool", *inputs, kernel_shape=[3] * rank, strides=[2] * rank, **attributes))

    return Case(f"unpool {size} {with_shape} {attributes}", add)


UNPOOLS = [unpool([3, 4], True), unpool([5], False, pads=[1, 0]), unpool([2, 3, 2], False)]


def test_resizes(tmp_path: Path) -> None:
    check_line([*ANTIALIASED, *CROPPED, *BY_AXES, *INTEGERS], tmp_path, opset=19)


def test_pools_know_their_places(tmp_path: Path) -> None:
    check_line([*POOLS, *UNPOOLS], tmp_path)


def test_images_from_columns(tmp_path: Path) -> None:
    check_line(COLUMNS, tmp_path, evaluator=True)


def test_on_arm64(tmp_path: Path) -> None:
    check_line([INTEGERS[1], POOLS[2], UNPOOLS[0]], tmp_path, ARM64, opset=19)


def test_a_banded_product_skips_the_zeros(tmp_path: Path) -> None:
    """Rows along both axes of an image large enough, and what becomes of a matrix with a row of zeros."""

    def add(graph: Graph) -> list[str]:
        band = np.zeros((70, 97), np.float32)
        for row in range(69):
            band[row, row : row + 5] = graph.rng.standard_normal(5)
        data = normal(graph, 2, 97, 97)
        columns = graph.add("MatMul", data, graph.constant(np.ascontiguousarray(band.T)))
        return [columns, graph.add("MatMul", graph.constant(band), columns)]

    assert set(check_line([Case("banded", add)], tmp_path).routines) == {"banded.c"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiasing_in_every_placing(mode: str, tmp_path: Path) -> None:
    cases = [
        resize(
            (1, 2, 11, 9),
            sizes=[1, 2, *size],
            mode=mode,
            antialias=1,
            exclude_outside=outside,
            coordinate_transformation_mode=placing,
        )
        for placing in PLACINGS
        for outside in ((0, 1) if mode == "cubic" else (0,))
        for size in ((5, 4), (17, 6), (1, 9))
    ]
    check_line(cases, tmp_path, opset=19)


@pytest.mark.slow
@pytest.mark.parametrize("placing", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
def test_integers_in_every_placing(placing: str, tmp_path: Path) -> None:
    cases = [
        resize(
            (1, 2, 7, 9),
            sizes=[1, 2, *size],
            dtype=dtype,
            mode="linear",
            coordinate_transformation_mode=placing,
        )
        for dtype in ("int8", "uint8", "int32")
        for size in ((10, 13), (4, 5), (14, 27), (7, 20), (2, 3))
    ]
    check_line(cases, tmp_path, opset=19)


@pytest.mark.slow
@pytest.mark.parametrize("placing", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
def test_nearest_in_every_rounding(placing: str, tmp_path: Path) -> None:
    cases = [
        resize(
            (1, 2, 7, 9),
            scales=[1, 1, *scale],
            dtype=dtype,
            nearest_mode=rounding,
            coordinate_transformation_mode=placing,
        )
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for dtype in ("float32", "uint8")
        for scale in ((2, 3), (0.6, 1.7), (0.25, 1.25))
    ]
    check_line(cases, tmp_path, opset=19)


def test_a_crop_that_onnx_runtime_leaves_out_is_refused(tmp_path: Path) -> None:
    case = resize(
        (1, 1, 4, 4),
        roi=[0, 0, 0, 0.25, 1, 1, 1, 1],
        sizes=[1, 1, 2, 4],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    with pytest.raises(DeployccError) as refused:
        check_line([case], tmp_path)
    assert [(d.code, d.rule) for d in refused.value.diagnostics] == [("DC401", "resize-crop")]


def test_an_unpool_of_another_size_is_refused(tmp_path: Path) -> None:
    def add(graph: Graph) -> str:
        places = given(graph, np.arange(4).reshape(1, 1, 2, 2))
        inputs = [normal(graph, 1, 1, 2, 2), places, graph.constant([1, 1, 5, 5])]
        return str(graph.add("MaxUnpool", *inputs, kernel_shape=[2, 2], strides=[2, 2]))

    with pytest.raises(DeployccError) as refused:
        check_line([Case("5 by 5", add)], tmp_path)
    assert "maxunpool-shape" in {d.rule for d in refused.value.diagnostics}
