"""Samples at run-time coordinates: DeformConv, RoiAlign, GridSample, beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from deploycc.types import DeployccError
from tests.lowering.lines import check_line, given, normal, through
from tests.planning.harness import ARM64, X86_64, run_plan
from tests.scheduling.graphs import SEED, Case, Graph, build


def deform(
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    parts: int = 1,
    mask: bool = True,
    bias: bool = True,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilations: tuple[int, int] = (1, 1),
    dtype: str = "float32",
) -> Case:
    """A deformable convolution whose offsets reach some pixels beyond the image."""

    def add(graph: Graph) -> str:
        rows, columns = (
            (shape[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
            for i in (0, 1)
        )
        taps = parts * kernel[0] * kernel[1]
        inputs = [
            normal(graph, *shape, dtype=dtype),
            graph.weight(filters, shape[1] // groups, *kernel, dtype=dtype),
            normal(graph, shape[0], taps * 2, rows, columns, dtype=dtype, scale=1.7),
            graph.weight(filters, dtype=dtype) if bias else "",
            normal(graph, shape[0], taps, rows, columns, dtype=dtype) if mask else "",
        ]
        settings: dict[str, Any] = {"kernel_shape": list(kernel), "group": groups, "offset_group": parts}
        settings |= {"strides": list(strides), "pads": list(pads), "dilations": list(dilations)}
        return str(graph.add("DeformConv", *inputs, **settings))

    return Case(f"deform {shape} {filters} {kernel} {groups} {parts} {mask} {bias} {dtype}", add)


DEFORM = [
    deform((1, 4, 9, 7), 6),
    deform((2, 6, 9, 8), 4, (3, 2), 2, 3, bias=False, strides=(2, 1), pads=(1, 0, 2, 1), dilations=(1, 2)),
    deform((1, 4, 5, 5), 4, (1, 1), 4, mask=False, pads=(0, 0, 0, 0)),
    deform((3, 2, 7, 7), 3, parts=2, mask=False, bias=False, strides=(1, 2), dilations=(2, 2)),
    deform((1, 4, 9, 7), 6, groups=2, dtype="float64"),
]


def roi(mode: str, placing: str, ratio: int, scale: float, dtype: str = "float32") -> Case:
    """Boxes inside, across and outside of images of 10 by 13 pixels; one has its corners the wrong way."""

    def add(graph: Graph) -> str:
        boxes = np.sort(graph.rng.uniform(-4, 16, (6, 2, 2)), axis=1).reshape(6, 4)
        boxes[0] = boxes[0][[2, 3, 0, 1]]
        boxes[5] += 40
        return str(
            graph.add(
                "RoiAlign",
                normal(graph, 2, 3, 10, 13, dtype=dtype),
                given(graph, (boxes / scale).astype(dtype)),
                given(graph, graph.rng.integers(0, 2, 6)),
                mode=mode,
                coordinate_transformation_mode=placing,
                sampling_ratio=ratio,
                spatial_scale=scale,
                output_height=3,
                output_width=5,
            )
        )

    return Case(f"roi {mode} {placing} {ratio} {scale} {dtype}", add)


ROI = [
    roi(mode, placing, ratio, scale)
    for mode in ("avg", "max")
    for placing in ("half_pixel", "output_half_pixel")
    for ratio, scale in ((0, 1.0), (0, 0.25), (1, 1.0), (3, 0.5))
] + [roi("max", "half_pixel", 2, 0.5, "float64")]


def grid(mode: str, padding: str, corners: int, volume: bool = False) -> Case:
    """A grid that reaches beyond the image on every side."""

    def add(graph: Graph) -> str:
        shape, places = ((2, 3, 6, 5), (4, 7, 2)) if not volume else ((1, 2, 4, 5, 3), (2, 3, 5, 3))
        points = graph.rng.uniform(-1.6, 1.6, (shape[0], *places)).astype(np.float32)
        data = normal(graph, *shape)
        settings: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": corners}
        return str(graph.add("GridSample", data, given(graph, points), **settings))

    return Case(f"grid {mode} {padding} {corners} {volume}", add)


def test_deformable_convolutions(tmp_path: Path) -> None:
    check_line(DEFORM, tmp_path)


def test_boxes_of_every_kind(tmp_path: Path) -> None:
    check_line([*ROI, max_roi_pool(1.0), max_roi_pool(0.3)], tmp_path, opset=16)


def test_on_arm64(tmp_path: Path) -> None:
    cases = [DEFORM[1], DEFORM[4], grid("cubic", "reflection", 1), max_roi_pool(0.5)]
    check_line(cases, tmp_path, ARM64)


@pytest.mark.slow
def test_boxes_on_arm64(tmp_path: Path) -> None:
    check_line(ROI, tmp_path, ARM64, opset=16)


@pytest.mark.slow
@pytest.mark.parametrize("volume", [False, True])
def test_grids(volume: bool, tmp_path: Path) -> None:
    modes = ("linear", "nearest") if volume else ("linear", "nearest", "cubic")
    paddings = ("zeros", "border", "reflection")
    check_line([grid(m, p, c, volume) for m in modes for p in paddings for c in (0, 1)], tmp_path)


def max_roi_pool(scale: float) -> Case:
    """Boxes of whole pixels, one of them beyond the image."""

    def add(graph: Graph) -> str:
        boxes = np.sort(graph.rng.uniform(-4, 16, (5, 2, 2)), axis=1).reshape(5, 4) / scale
        boxes[4] += 40 / scale
        rois = np.concatenate([graph.rng.integers(0, 2, (5, 1)), boxes], axis=1).astype(np.float32)
        inputs = [normal(graph, 2, 3, 10, 13), given(graph, rois)]
        return str(graph.add("MaxRoiPool", *inputs, pooled_shape=[2, 3], spatial_scale=scale))

    return Case(f"max roi {scale}", add)


def unpool() -> Case:
    """Values at places that are to be replaced by wild ones."""

    def add(graph: Graph) -> str:
        inputs = [normal(graph, 2, 3, 4), given(graph, np.arange(24).reshape(2, 3, 4))]
        return str(graph.add("MaxUnpool", *inputs, kernel_shape=[2], strides=[2]))

    return Case("unpool", add)


def test_wild_coordinates_read_nothing_outside(tmp_path: Path) -> None:
    """What a careless caller may pass; the harness poisons what lies around, and guards it."""
    boxes = [roi("avg", "half_pixel", 0, 1.0), roi("max", "half_pixel", 2, 1.0), max_roi_pool(0.5)]
    grids = [grid(mode, padding, 0) for mode, padding in (("nearest", "border"), ("cubic", "reflection"))]
    built = build([DEFORM[0], *boxes, *grids, unpool()], SEED, 20)
    planned = through(built.model.proto, tmp_path)
    wild = [np.inf, -np.inf, np.nan, 1e30, -1e30, 3e9, -3e9]
    rng = np.random.default_rng(SEED)
    feeds = []
    for info in planned.inputs:
        value = built.feeds[info.name]
        if info.dtype == "int64":
            value = rng.choice([-5, 99, 0, 1, 2**40, -(2**62)], value.shape)
        elif value.shape[1] != 3:  # not an image
            value = rng.choice(wild, value.shape).astype(value.dtype)
        feeds.append(value)
    results = run_plan(planned, feeds, X86_64)
    assert set(np.unique(results[-1])) <= {0, *np.unique(feeds[-2])}, "an unpool makes nothing up"


def test_tensors_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """A routine would read behind the offsets of a forged model."""
    built = build([DEFORM[0]], SEED, 19)
    proto = built.model.proto
    offset = next(info for info in proto.graph.input if info.name == proto.graph.node[0].input[2])
    offset.type.CopyFrom(helper.make_tensor_type_proto(1, [1, 2, 9, 7]))
    with pytest.raises(DeployccError) as refused:
        through(proto, tmp_path)
    assert any("the offset" in d.got or d.code.startswith("DC2") for d in refused.value.diagnostics)


@pytest.mark.slow
def test_a_box_of_another_image_is_taken_from_the_last(tmp_path: Path) -> None:
    built = build([roi("avg", "output_half_pixel", 1, 1.0)], SEED, 16)
    planned = through(built.model.proto, tmp_path)
    feeds = [built.feeds[info.name] for info in planned.inputs]
    last = [np.full(6, 1) if value.dtype == np.int64 else value for value in feeds]
    beyond = [np.full(6, 7) if value.dtype == np.int64 else value for value in feeds]
    np.testing.assert_array_equal(run_plan(planned, last, X86_64)[0], run_plan(planned, beyond, X86_64)[0])
