"""The single convolutions: their shapes, their arithmetic, one whole measurement."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks import convs
from benchmarks.contest import Arena, Settings
from benchmarks.convs import Conv, dense
from benchmarks.drawn import LEAST, MOST, drawn
from benchmarks.reference import OnnxRuntime, relative_error

ODD = [
    Conv("plain", (1, 3, 9, 7), 5, (3, 3), pads=(1, 1, 1, 1)),
    Conv("asymmetric", (1, 4, 8, 9), 6, (2, 3), pads=(0, 2, 1, 0), strides=(2, 1)),
    Conv("dilated", (2, 4, 11, 12), 3, (3, 2), dilations=(2, 3), pads=(2, 1, 2, 1)),
    Conv("grouped", (1, 6, 5, 5), 9, (1, 3), strides=(2, 1), pads=(0, 1, 0, 1), group=3),
    Conv("depthwise", (1, 5, 8, 8), 10, (5, 5), strides=(3, 3), group=5),
]


def test_output_shapes_are_those_of_onnx() -> None:
    assert len(convs.convs()) == 44
    for conv in convs.convs().values():
        model = onnx.shape_inference.infer_shapes(conv.model(), strict_mode=True)
        (output,) = model.graph.output
        assert tuple(d.dim_value for d in output.type.tensor_type.shape.dim) == conv.output
        onnx.checker.check_model(model)


def test_drawn_shapes_are_those_of_onnx_and_of_their_seed() -> None:
    found = drawn(60, 7)
    assert found == drawn(60, 7)
    assert list(found.values()) != list(drawn(60, 8).values())
    for conv in found.values():
        model = onnx.shape_inference.infer_shapes(conv.model(), strict_mode=True)
        assert tuple(d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim) == conv.output
        assert LEAST <= conv.flop <= MOST
    assert any(conv.group > 1 for conv in found.values())
    assert any(conv.pads[:2] != conv.pads[2:] for conv in found.values())


def test_operations_are_two_a_product() -> None:
    assert Conv("one", (1, 3, 5, 5), 4, (3, 3)).flop == 2 * 4 * 3 * 3 * 3 * 3 * 3
    grouped = Conv("grouped", (2, 6, 5, 5), 6, (1, 3), strides=(2, 1), pads=(0, 1, 0, 1), group=6)
    assert grouped.output == (2, 6, 3, 5)
    assert grouped.flop == 2 * 2 * 6 * 3 * 5 * 3


def test_bytes_are_input_weights_bias_and_output_once() -> None:
    assert Conv("one", (1, 4, 5, 5), 6, (1, 1), group=2).bytes == 4 * (4 * 25 + 6 * 2 + 6 + 6 * 25)


@pytest.mark.parametrize("conv", ODD, ids=lambda conv: conv.name)
def test_the_reference_is_the_convolution(conv: Conv, tmp_path: Path) -> None:
    onnx.save(conv.model(), tmp_path / "conv.onnx")
    x = np.random.default_rng(3).uniform(-1, 1, conv.input).astype(np.float32)
    want = OnnxRuntime(tmp_path / "conv.onnx").bind([x])[0]
    got = conv.reference(x, conv.model())
    assert got.dtype == np.float64
    assert relative_error(want, got) < 1e-6
    assert relative_error(np.asarray(ReferenceEvaluator(conv.model()).run(None, {"x": x})[0]), got) < 1e-6


def test_the_dense_ones_are_the_ten_with_most_operations() -> None:
    ten = dense()
    assert len(ten) == len({conv.name for conv in ten}) == 10
    assert all(conv.group == 1 and conv.input[1] >= 32 and conv.channels >= 32 for conv in ten)
    assert [conv.flop for conv in ten] == sorted((conv.flop for conv in ten), reverse=True)
    left = [conv for conv in convs.convs().values() if conv.group == 1 and conv not in ten]
    assert all(min(conv.input[1], conv.channels) < 32 or conv.flop <= ten[-1].flop for conv in left)


def test_models_are_written_only_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convs, "ROOT", tmp_path)
    file = convs.model_file(ODD[0])
    before = file.stat().st_mtime_ns
    assert convs.model_file(ODD[0]).stat().st_mtime_ns == before
    file.write_bytes(b"something else")
    convs.model_file(ODD[0])
    assert file.read_bytes() == ODD[0].model().SerializeToString()


@pytest.mark.slow
def test_one_is_built_checked_and_timed() -> None:
    conv = convs.convs()["tiny5x5_1x1"]
    package = convs.package_of(conv, "host", keep=False)
    with Arena(Settings(["ort"], rounds=3, round_seconds=0.001)) as arena:
        row = arena.row(convs.entry_of(conv, package))
    assert row.counts, row
    assert row.best_peer == "ort"
    assert math.isfinite(row.lead)
    assert convs.schedules_of(package)
