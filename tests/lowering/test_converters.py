"""Operators with converters of our own, at the values where TVM's give something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, shape_inference
from onnx.reference import ReferenceEvaluator

from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.lowering import lower
from deploycc.onnx_graph import tensor_info
from deploycc.planning import plan
from deploycc.resources import data_dir
from deploycc.scheduling import choose
from deploycc.types import Model
from tests.planning.harness import X86_64, run_plan

Array = np.ndarray[Any, Any]


def check(operator: str, feeds: list[Array], opset: int = 28, **attributes: Any) -> None:
    """One node, without an error in lint, computes what onnx's own evaluator does."""
    names = [f"i{index}" for index in range(len(feeds))]
    kinds = [helper.np_dtype_to_tensor_dtype(value.dtype) for value in feeds]
    inputs = [
        helper.make_tensor_value_info(name, kind, value.shape)
        for name, kind, value in zip(names, kinds, feeds, strict=True)
    ]
    node = helper.make_node(operator, names, ["y"], name="it", **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", kinds[0], None)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    proto = shape_inference.infer_shapes(proto)
    infos = [tuple(map(tensor_info, values)) for values in (proto.graph.input, proto.graph.output)]
    model = Model(proto, infos[0], infos[1], opset, "")
    lint(model, compiled_lint_target(X86_64)).raise_if_errors()
    program = choose(lower(model, X86_64), X86_64, [data_dir("schedules")])
    (got,) = run_plan(plan(program, X86_64), feeds, X86_64)
    with np.errstate(all="ignore"):
        wanted = np.asarray(ReferenceEvaluator(proto).run(None, dict(zip(names, feeds, strict=True)))[0])
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if wanted.dtype != np.float16 else 1e-3)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_a_shift_by_any_amount(dtype: str, direction: str) -> None:
    bounds = np.iinfo(dtype)
    values = np.array([bounds.min, bounds.min + 1, 1, 5, bounds.max - 3, bounds.max], dtype)
    amounts = [0, 1, 3, bounds.bits - 1, bounds.bits, bounds.bits + 1, bounds.max, bounds.min]
    check("BitShift", [values[:, None], np.array(amounts, dtype)], direction=direction)


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_remainder_of_floats(dtype: str, fmod: int) -> None:
    values = np.array([-7.5, -3, -0.25, 0, 0.25, 3, 7.5, 1e4, -1e4, np.inf, -np.inf, np.nan], dtype)
    divisors = np.array([-3, -1, -0.5, 0.5, 1, 3, 7, 0, np.inf, -np.inf, np.nan], dtype)
    check("Mod", [values[:, None], divisors], fmod=fmod)
