"""Run-time indices: right where they are in range, inside their tensor where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from deploycc.lowering import lower
from deploycc.planning import plan
from deploycc.resources import data_dir
from deploycc.scheduling import choose
from deploycc.types import Model, TensorInfo
from tests.planning.harness import X86_64, run_plan

Array = np.ndarray[Any, Any]
KINDS = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}


def _run(operator: str, feeds: dict[str, Array], constants: dict[str, Array], **attributes: Any) -> Array:
    inputs = [helper.make_tensor_value_info(n, KINDS[str(v.dtype)], v.shape) for n, v in feeds.items()]
    node = helper.make_node(operator, [*feeds, *constants], ["y"], name="it", **attributes)
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", inputs, [result], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=9)
    proto = shape_inference.infer_shapes(proto)
    shape = tuple(d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim)
    infos = tuple(TensorInfo(n, str(v.dtype), v.shape) for n, v in feeds.items())
    model = Model(proto, infos, (TensorInfo("y", "float32", shape),), 16, "")
    program = choose(lower(model, X86_64), X86_64, [data_dir("schedules")])
    return run_plan(plan(program, X86_64), list(feeds.values()), X86_64)[0]


TABLE = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gather_takes_negative_indices_and_clamps_the_rest(dtype: str) -> None:
    wild = np.array([0, 3, -1, -4, 4, 99, -5, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    got = _run("Gather", {"x": TABLE, "i": wild}, {}, axis=0)
    np.testing.assert_array_equal(got, TABLE[[0, 3, 3, 0, 3, 3, 0, 3, 0]])


def test_gather_elements_clamps_along_its_axis() -> None:
    wild = np.array([[0, 5, -1, -6, 6, -7]] * 4, np.int64)
    got = _run("GatherElements", {"x": TABLE, "i": wild}, {}, axis=1)
    np.testing.assert_array_equal(got, np.take_along_axis(TABLE, np.array([[0, 5, 5, 0, 5, 0]] * 4), 1))


def test_gather_nd_clamps_each_coordinate_by_its_own_extent() -> None:
    wild = np.array([[0, 5], [5, 0], [0, 6], [-9, -9], [3, -1]], np.int64)
    got = _run("GatherND", {"x": TABLE, "i": wild}, {})
    np.testing.assert_array_equal(got, TABLE[[0, 3, 0, 0, 3], [5, 0, 5, 0, 5]])


def test_a_scatter_cannot_write_outside_its_tensor() -> None:
    places = np.array([[1, 1], [400, 2]], np.int64)
    values = np.array([100, 200], np.float32)
    got = _run("ScatterND", {"x": TABLE, "i": places, "u": values}, {})
    want = TABLE.copy()
    want[1, 1], want[3, 2] = 100, 200
    np.testing.assert_array_equal(got, want)


def test_constant_indices_in_range_are_left_alone() -> None:
    got = _run("Gather", {"x": TABLE}, {"i": np.array([5, -6, 2], np.int64)}, axis=1)
    np.testing.assert_array_equal(got, TABLE[:, [5, 0, 2]])


def test_a_running_sum_is_a_kernel_like_any_other() -> None:
    got = _run("CumSum", {"x": TABLE}, {"axis": np.array(1, np.int64)})
    np.testing.assert_array_equal(got, np.cumsum(TABLE, axis=1))
