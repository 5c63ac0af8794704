"""The line of Python that torch's exporter wrote beside a node."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import NodeProto, helper

from deploycc.diagnostics import render
from deploycc.lint_targets import load_lint_target
from deploycc.linting import lint
from deploycc.linting.provenance import location
from tests.linting.graphs import model

TRACE = """File "/src/nets/net.py", line 12, in forward
    x = self.layer1(x)
File "/src/venv/lib/python3.11/site-packages/torch/nn/modules/container.py", line 240, in forward
    input = module(input)
File "/src/nets/blocks.py", line 31, in forward
    return torch.relu(self.conv(x))
File "/src/venv/lib/python3.11/site-packages/torch/nn/modules/conv.py", line 548, in forward
    return self._conv_forward(input, self.weight, self.bias)
"""
SCOPES = "['', 'layer1', 'layer1.0', 'layer1.0.conv', 'conv2d']"


def noted(**notes: str) -> NodeProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    for key, value in notes.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return node


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({"stack_trace": TRACE, "name_scopes": SCOPES}, "blocks.py:31 (layer1.0.conv)"),
        ({"stack_trace": TRACE}, "blocks.py:31"),
        ({"name_scopes": SCOPES}, "layer1.0.conv"),
        ({"name_scopes": "['', 'act@1', 'relu_1']"}, "act"),
        ({"stack_trace": TRACE, "name_scopes": "['', 'add']"}, "blocks.py:31"),
        ({"stack_trace": 'File "C:\\nets\\net.py", line 7, in forward\n'}, "net.py:7"),
        ({"stack_trace": 'File "<eval_with_key>.1", line 7, in forward\n'}, ""),
        ({"stack_trace": TRACE.replace("/src/nets", "/x/site-packages/nets")}, ""),
        ({"stack_trace": "no trace", "name_scopes": "[1, 2]"}, ""),
        ({"name_scopes": "__import__('os').getcwd()"}, ""),
        ({"name_scopes": "[" * 5000}, ""),
        ({}, ""),
    ],
)
def test_where_a_node_came_from(notes: dict[str, str], expected: str) -> None:
    assert location(noted(**notes)) == expected


def test_a_file_below_the_current_folder_has_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trace = f'File "{tmp_path}/nets/net.py", line 7, in forward\n'
    assert location(noted(stack_trace=trace)) == "nets/net.py:7"


def test_findings_have_it() -> None:
    judged = model("g (float[2,2] x) => (float[2,2] y) { y = Bernoulli(x) }")
    judged.proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
    (found, *_) = lint(judged, load_lint_target("x86-64")).diagnostics
    assert found.location == "blocks.py:31"
    assert render(found).endswith("\n  line: blocks.py:31")
