"""The lint stage."""

from __future__ import annotations

from deploycc.onnx_graph import GraphView, all_nodes
from deploycc.op_support import converted_operators
from deploycc.types import Diagnostic, Model, Report, Target


def lint(model: Model, target: Target) -> Report:
    """Every finding about ``model`` on ``target``, errors and others, in graph order."""
    view = GraphView(model.proto)
    supported = converted_operators()
    found: list[Diagnostic] = list(model.diagnostics)
    for node in all_nodes(view.model.graph):
        if node.op_type not in supported and node.op_type != "If":
            found.append(
                Diagnostic(
                    "DC400",
                    f"operator '{node.op_type}' has no converter",
                    node=node.name,
                    op=node.op_type,
                    verdict="unsupported",
                )
            )
    return Report(tuple(found))
