"""The single convolutions: their shapes, their arithmetic, one whole measurement."""

from __future__ import annotations

import argparse

import numpy as np
import onnx
import pytest

from benchmarks import convs
from benchmarks.convs import Conv, Row, line_of, row_of, summary_of


def test_output_shapes_are_those_of_onnx() -> None:
    assert len(convs.convs()) == 44
    for conv in convs.convs().values():
        model = onnx.shape_inference.infer_shapes(conv.model(), strict_mode=True)
        (output,) = model.graph.output
        assert tuple(d.dim_value for d in output.type.tensor_type.shape.dim) == conv.output
        onnx.checker.check_model(model)


def test_operations_are_two_a_product() -> None:
    assert Conv("one", (1, 3, 5, 5), 4, (3, 3)).flop == 2 * 4 * 3 * 3 * 3 * 3 * 3
    grouped = Conv("grouped", (2, 6, 5, 5), 6, (1, 3), strides=(2, 1), pads=(0, 1, 0, 1), group=6)
    assert grouped.output == (2, 6, 3, 5)
    assert grouped.flop == 2 * 2 * 6 * 3 * 5 * 3


def test_wrong_and_failed_ones_do_not_count() -> None:
    rows = [
        Row("head_k1", 1.0, 2.0, 1.0, 1.0, 1e-7, "gemm"),
        Row("dw1x9", 3.0, 2.0, 1.0, 1.0, 1e-7),
        Row("k11s4", 0.1, 2.0, 1.0, 1.0, 0.5),
        Row("patch4s4", failure="DC758: broken\nmore"),
    ]
    assert summary_of(rows) == (
        "2 of 4 right, 1 not slower than ONNX Runtime, geometric mean of the ratios 0.87; slower: dw1x9 1.50"
    )
    assert line_of(rows[2]).endswith("WRONG")
    assert line_of(rows[3]).endswith("failed: DC758: broken")
    assert summary_of(rows[2:]) == "none of 2 right"


@pytest.mark.slow
def test_one_is_built_checked_and_timed() -> None:
    options = argparse.Namespace(target="host", keep=False, schedule_dir=[], runs=3, round_ms=1.0)
    row = row_of(convs.convs()["tiny5x5_1x1"], options)
    assert row.counts, row
    assert row.schedule.startswith("gemm ")
    assert np.isfinite(row.ratio)
