"""Lint from a file to reports: which graph is judged, whose names it has, what stays open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from deploycc.lint import LintResult, lint_model
from deploycc.lint_types import Report
from deploycc.types import DeployccError
from tests.models import write_small_net


def write(path: Path, graph: str, opset: int = 18) -> Path:
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{graph}'), path)
    return path


def report(result: LintResult, target: str) -> Report:
    return next(report for report in result.reports if report.target == target)


def test_targets_in_the_order_they_were_given_each_once(tmp_path: Path) -> None:
    write_small_net(tmp_path / "m.onnx")
    result = lint_model(tmp_path / "m.onnx", ["snpe:htp", "arm64", "snpe:htp"])
    assert [r.target for r in result.reports] == ["snpe:htp", "arm64"]


def test_macs_and_memory_of_a_convolution(tmp_path: Path) -> None:
    write_small_net(tmp_path / "m.onnx")
    coverage = report(lint_model(tmp_path / "m.onnx", ["arm64"]), "arm64").coverage
    assert coverage is not None
    pixels = 13 * 16
    # a convolution of 3x3x3 to 8 channels, and one comparison an element
    assert coverage.macs == 8 * pixels * 27 + 8 * pixels
    assert coverage.weight_bytes == 4 * (8 * 27 + 8)
    # input and convolution's result are alive together, then the result and its positive part
    assert coverage.peak_bytes == 4 * max(3 * pixels + 8 * pixels, 2 * 8 * pixels)
    assert (coverage.runs, coverage.parts, coverage.nodes, coverage.taken) == ("whole", 1, 2, 2)


def test_open_dimension_is_a_finding_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    graph = "g (float[1,3,h,w] x) => (float[1,3,h,w] y, float[1,3,h,w] d) { y = Relu(x) d = Bernoulli(y) }"
    found = report(lint_model(write(tmp_path / "m.onnx", graph), ["x86-64"]), "x86-64").diagnostics
    assert {d.code for d in found} >= {"DC200", "DC400"}
    bound = lint_model(tmp_path / "m.onnx", ["x86-64"], shapes={"x": (1, 3, 4, 4)})
    assert {d.code for d in report(bound, "x86-64").diagnostics if d.severity == "error"} == {"DC400"}


def test_open_model_is_lifted_before_it_is_judged(tmp_path: Path) -> None:
    """``Slice`` of opset 9 would be read as that of opset 13: a build lifts it, so lint must not complain."""
    graph = "g (float[n,3] x) => (float[n,1] y) { y = Slice<starts=[0], ends=[1], axes=[1]>(x) }"
    result = lint_model(write(tmp_path / "m.onnx", graph, 9), ["x86-64", "snpe"])
    assert [d.code for d in report(result, "x86-64").diagnostics] == ["DC200"]
    # what says it with a source of the target is enough
    assert not [d for d in report(result, "snpe").diagnostics if d.code == "DC200"]
    assert [d.code for d in report(result, "snpe").diagnostics if d.rule == "dynamic-shape"] == ["DC210"]


def test_function_operators_are_inlined_for_packages_only(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (float[4] x) => (float[4] y) { y = Celu(x) }")
    result = lint_model(path, ["x86-64", "snpe"])
    assert "Celu" not in {node.op for node in report(result, "x86-64").nodes}
    assert {node.op for node in report(result, "snpe").nodes} == {"Celu"}


def test_another_compiler_gets_the_products_of_the_file(tmp_path: Path) -> None:
    """onnxsim makes Gemm of a product and a sum, in a form that some converters refuse."""
    generator = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "b"], ["y"], name="sum"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 4])],
        [
            numpy_helper.from_array(generator.standard_normal((3, 4), np.float32), "w"),
            numpy_helper.from_array(generator.standard_normal(4, np.float32), "b"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m"
    )
    found = report(lint_model(tmp_path / "m", ["snpe:htp"]), "snpe:htp")
    assert [node.op for node in found.nodes] == ["MatMul", "Add"]


def test_what_simplifying_folds_is_not_judged(tmp_path: Path) -> None:
    """An operator without a converter would be refused, but its operand is stored."""
    graph = helper.make_graph(
        [
            helper.make_node("Det", ["m"], ["d"], name="det"),
            helper.make_node("Mul", ["x", "d"], ["y"], name="scale"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32) * 3, "m")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m"
    )
    found = report(lint_model(tmp_path / "m", ["x86-64"]), "x86-64")
    assert [node.name for node in found.nodes] == ["scale"]
    assert not [d for d in found.diagnostics if d.severity == "error"]


def test_findings_have_the_original_nodes_names(tmp_path: Path) -> None:
    """The activation's body is inlined, its nodes get names of their own; the report says ``act``."""
    graph = """g (float[1,2,4,4] x, bool[1] c) => (float[1,2,4,4] y) {
        a = Celu<alpha=2.0>(x)
        y = Neg(a)
    }"""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>\n{graph}')
    proto.graph.node[0].name, proto.graph.node[1].name = "act", "out"
    onnx.save(proto, tmp_path / "m.onnx")
    nodes = report(lint_model(tmp_path / "m.onnx", ["x86-64"]), "x86-64").nodes
    assert len(nodes) > 1
    assert {node.name for node in nodes} <= {"act", "out"}


def test_everything_wrong_with_the_targets_is_told_at_once(tmp_path: Path) -> None:
    write_small_net(tmp_path / "m.onnx")
    with pytest.raises(DeployccError) as raised:
        lint_model(tmp_path / "m.onnx", ["snpe:xyz", "arm65"])
    assert [d.code for d in raised.value.diagnostics] == ["DC510", "DC500"]


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as raised:
        lint_model(tmp_path / "none.onnx", ["arm64"])
    assert raised.value.diagnostics[0].code == "DC100"
