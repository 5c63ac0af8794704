"""Every rewrite computes what was computed before, on fresh inputs, and finds nothing to do a second time."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto

from deploycc.fixing import Fix, fixes
from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import Array, checker_complaint, tensor_info
from deploycc.reference import compare, random_inputs
from tests.fixing.cases import CASES, Case

ALL = [(name, index) for name, cases in CASES.items() for index in range(len(cases))]
IDS = [f"{name}-{index}" for name, index in ALL]
EQUAL = 1e-5
"""Largest error of an exact rewrite as a share of the output's largest magnitude."""


def run(proto: ModelProto, inputs: list[Array]) -> list[Array]:
    """ONNX Runtime without optimisations: what is compared is what the graph says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    loadable = ModelProto()
    loadable.CopyFrom(proto)
    loadable.ir_version = min(loadable.ir_version, 10)
    session = ort.InferenceSession(loadable.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [info.name for info in proto.graph.input]
    return [np.asarray(value) for value in session.run(None, dict(zip(names, inputs, strict=True)))]


def feed(proto: ModelProto, case: Case) -> list[Array]:
    infos = [tensor_info(info) for info in proto.graph.input]
    hints = {info.name: case.range for info in infos if "int" in info.dtype}
    return random_inputs(infos, int(np.random.default_rng().integers(1 << 30)), hints)


def apply(fix: Fix, editor: Editor) -> int:
    """Apply to every node until nothing changes; how often it did."""
    changed = 0
    for _ in range(8):
        before = changed
        for node in list(editor.nodes):
            if fix.takes(node) and any(node is kept for kept in editor.nodes):
                changed += fix.apply(editor, node)
        editor.refresh()
        if changed == before:
            return changed
    raise AssertionError(f"{fix.name} finds something to do every time")


def error(expected: list[Array], got: list[Array]) -> float:
    """The largest error as a share of the largest magnitude; infinite for another shape or dtype."""
    shares = [0.0]
    for want, have in zip(expected, got, strict=True):
        result = compare(want, have)
        finite = np.abs(want.astype(np.float64))[np.isfinite(want.astype(np.float64))]
        scale = float(np.max(finite, initial=0.0))
        shares.append(result.max_abs_error / scale if scale else float(result.max_abs_error > 0))
    return max(shares)


@pytest.mark.parametrize(("name", "index"), ALL, ids=IDS)
def test_computes_the_same_and_is_silent_the_second_time(name: str, index: int) -> None:
    case, fix = CASES[name][index], fixes()[name]
    before = case.build()
    editor = Editor(before)
    assert apply(fix, editor) > 0, "it does not apply"
    after = editor.write_back()
    inputs = feed(before, case)
    assert error(run(before, inputs), run(after, inputs)) <= (
        fix.bound if fix.safety == "unsafe" else min(fix.bound, EQUAL)
    )
    again = Editor(after)
    assert apply(fix, again) == 0
    assert checker_complaint(after) == ""
    assert len({node.name for node in after.graph.node}) == len(after.graph.node), "two nodes have one name"


def test_every_rewrite_has_three_shapes() -> None:
    assert set(CASES) == set(fixes())
    for name, cases in CASES.items():
        shapes = {str(case.build().graph.input) for case in cases}
        assert len(shapes) >= 3, name
