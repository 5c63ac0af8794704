"""What is said of models that TVM's importer does not take (DC450)."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from deploycc.diagnostics import exit_code, render
from deploycc.lowering import lower
from deploycc.types import DeployccError, Diagnostic
from tests.planning.harness import X86_64
from tests.scheduling.graphs import to_model


def refusal(*operators: tuple[str, str, dict[str, object]]) -> Diagnostic:
    """Of a chain of (operator, node name, attributes) on a 3-D tensor."""
    nodes = [
        helper.make_node(operator, [f"t{i}"], [f"t{i + 1}"], name=name, **attributes)
        for i, (operator, name, attributes) in enumerate(operators)
    ]
    graph = helper.make_graph(
        nodes,
        "refused",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, 4, 8])],
        [helper.make_tensor_value_info(f"t{len(nodes)}", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    with pytest.raises(DeployccError) as caught:
        lower(to_model(proto), X86_64)
    (finding,) = caught.value.diagnostics
    assert finding.code == "DC450"
    assert exit_code([finding]) == 1
    return finding


def test_an_operator_without_a_converter_is_named() -> None:
    finding = refusal(("Relu", "first", {}), ("ImageDecoder", "odd_one", {}))
    text = render(finding)
    assert "error[DC450]: TVM's ONNX importer does not take this model" in text
    assert "ImageDecoder" in finding.got
    assert finding.op == "ImageDecoder"
    assert finding.node == "odd_one"
    assert finding.verdict == "unsupported"
    assert "--dump-dir" in finding.help


def test_a_form_that_the_importer_refuses_is_told_in_its_words() -> None:
    finding = refusal(
        ("Relu", "fine", {}), ("SpaceToDepth", "odd_form", {"blocksize": 3}), ("Relu", "also", {})
    )
    assert (finding.op, finding.node) == ("SpaceToDepth", "odd_form")
    assert finding.got
    assert "Traceback" not in finding.got
    assert len(finding.got) <= 400
