"""benchmarks/: timing in turns, errors and the verdict on a table of rows."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from benchmarks import run as bench
from benchmarks.contest import Row, Time
from benchmarks.measuring import geometric_mean, interleave, median_ms, pin, spread_percent
from benchmarks.reference import TOLERANCE, OnnxRuntime, allowed_error, largest_error, relative_error


def test_interleave_times_each_engine_and_changes_the_first() -> None:
    now = 0.0
    order: list[str] = []

    def engine(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds
        order.append(name)

    slow, fast = interleave(
        [lambda: engine("slow", 0.5), lambda: engine("fast", 0.125)],
        rounds=4,
        round_seconds=1.0,
        clock=lambda: now,
    )
    assert slow == [0.5] * 4
    assert fast == [0.125] * 4
    # A trial of two calls each, then turns of one untimed call and as many as fill a second.
    slow_turn, fast_turn = ["slow"] * 3, ["fast"] * 9
    pair = [*slow_turn, *fast_turn, *fast_turn, *slow_turn]
    assert order == ["slow", "slow", "fast", "fast", *pair, *pair]


def test_interleave_warms_up_untimed() -> None:
    now = 0.0

    def engine() -> None:
        nonlocal now
        now += 1.0 if now < 5.5 else 0.25

    # A trial of two calls; then the turn runs untimed until 4 seconds are over, and only then counts.
    (times,) = interleave([engine], rounds=1, round_seconds=0.25, clock=lambda: now, warm_seconds=4.0)
    assert times == [0.25]


def test_statistics() -> None:
    assert median_ms([0.001, 0.010, 0.002]) == pytest.approx(2.0)
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert math.isnan(geometric_mean([]))
    assert spread_percent([5.0]) == 0.0
    assert spread_percent([1.0, 1.0, 1.0]) == 0.0
    assert spread_percent([1.0, 2.0, 3.0]) == pytest.approx(100.0)


def test_pin_refuses_more_cores_than_there_are() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert len(pin(1)) == 1
        with pytest.raises(ValueError, match="2 cores wanted, this process may use 1"):
            pin(2)
    finally:
        os.sched_setaffinity(0, before)


def test_relative_error() -> None:
    want = np.array([0.0, -4.0], np.float32)
    assert relative_error(np.array([0.4, -4.0], np.float32), want) == pytest.approx(0.1)
    assert relative_error(want.copy(), want) == 0.0
    assert relative_error(np.array([np.nan, -4.0], np.float32), want) == math.inf
    assert relative_error(np.zeros(3, np.float32), want) == math.inf
    assert largest_error([want, want + 2], [want, want]) == pytest.approx(0.5)
    # Unsigned and boolean outputs must not wrap around.
    assert relative_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 1.0
    assert relative_error(np.array([True]), np.array([False])) == 1.0


def test_onnx_runtime_side(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "index"], ["y"], axis=0)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("table", TensorProto.FLOAT, ["rows", 3]),
            helper.make_tensor_value_info("index", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, tmp_path / "gather.onnx")
    engine = OnnxRuntime(tmp_path / "gather.onnx")
    table, index = engine.random_inputs({"table": (256, 3), "index": (2,)})
    assert table.shape == (256, 3)
    assert table.dtype == np.float32
    assert index.dtype == np.int64
    (y,) = engine.bind([table, index])
    assert np.array_equal(y, table[index])
    engine.run()
    # Gathering rounds nothing: optimised or not, no more than the tolerance is ever allowed.
    assert allowed_error(tmp_path / "gather.onnx", [table, index], [y], 0.5) == TOLERANCE


RIGHT = Row("a", 1, {"deploycc": Time(2.0, 1.0, 1e-6), "ort": Time(1.0, 1.0, 1e-6)})


def _ours(ms: float, error: float = 1e-6) -> Row:
    return dataclasses.replace(RIGHT, times={**RIGHT.times, "deploycc": Time(ms, 1.0, error)})


def test_rows_that_keep_the_limits() -> None:
    assert bench.within_limits([RIGHT, dataclasses.replace(_ours(4.4), name="b")])


@pytest.mark.parametrize(
    "broken",
    [_ours(6.1), _ours(2.0, 2e-4), _ours(2.0, math.nan), Row("b", 1, failure="exit status 70")],
)
def test_rows_that_break_the_limits(broken: Row) -> None:
    assert not bench.within_limits([RIGHT] * 9 + [broken])


def test_no_rows_keep_no_limits() -> None:
    assert not bench.within_limits([])


def test_static_models_have_the_shapes_written_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m")
    network = dataclasses.replace(bench.networks()["mtcnn_pnet"], inputs={"x": (2, 3)})
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "fetch", lambda name: tmp_path / "m")
    monkeypatch.setattr(bench, "networks", lambda: {"net": network})
    engine = OnnxRuntime(bench.static_model("net"))
    assert engine.session.get_inputs()[0].shape == [2, 3]
    assert engine.session.get_outputs()[0].shape == [2, 3]
