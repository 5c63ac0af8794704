"""Graphs whose sizes depend on data, through the line, and what ONNX Runtime computes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, parser

from deploycc.counting import count_rows, padded
from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.onnx_graph import infer_shapes, tensor_info
from deploycc.reference import run
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, Limits, Model, Plan, Target
from tests.planning.harness import X86_64, run_plan
from tests.sweep.worker import compile_model

Array = np.ndarray[Any, Any]


def proto_of(graph: str) -> ModelProto:
    """The model of a graph in ONNX's text form, every node named."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]>\n{graph}')
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    return proto


def simplified(graph: str, most: Mapping[str, int] | None = None) -> Model:
    """Imported and simplified, as a build does it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto_of(graph), path)
        model = load(BuildRequest(path, X86_64, Path(folder), "net", max_counts=most or {}))
    return simplify(model, Limits())


def counted(graph: str, most: Mapping[str, int] | None = None) -> Model:
    """The graph as it is, with what depends on data found."""
    proto = infer_shapes(proto_of(graph))
    sides = (tuple(tensor_info(info) for info in side) for side in (proto.graph.input, proto.graph.output))
    return count_rows(Model(proto, *sides, 18, "", max_counts=most or {}))


@dataclass
class Line:
    """A graph that is planned for a target, and checked against ONNX Runtime on inputs."""

    graph: str
    most: Mapping[str, int] | None = None
    target: Target = X86_64
    simplify: bool = False
    """Whether it passes through import and simplify, which start a process of their own."""

    def __post_init__(self) -> None:
        self.proto = proto_of(self.graph)
        self.model = (simplified if self.simplify else counted)(self.graph, self.most)
        lint(self.model, compiled_lint_target(self.target)).raise_if_errors()
        self.plan: Plan = compile_model(self.model, [""], self.target)

    def check(self, *feeds: Sequence[Array], rtol: float = 1e-5) -> list[dict[str, Array]]:
        """Run on each of ``feeds`` and compare all of every output, the rows beyond the last one too."""
        results = []
        for feed in feeds:
            got = run_plan(self.plan, feed, self.target)
            expected = padded(run(self.proto, feed)[0], self.model.outputs)
            for info, have, want in zip(self.model.outputs, got, expected, strict=True):
                np.testing.assert_allclose(have, want, rtol=rtol, atol=1e-6, err_msg=info.name)
            results.append({info.name: have for info, have in zip(self.model.outputs, got, strict=True)})
        return results
