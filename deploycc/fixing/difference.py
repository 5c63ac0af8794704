"""A graph as lines of text, and two of them as a unified diff."""

from __future__ import annotations

import difflib

from onnx import AttributeProto, ModelProto, NodeProto, helper

from deploycc.diagnostics import printable
from deploycc.onnx_graph import GraphView, TensorType, infer_shapes

SHOWN = 8
"""Values of a stored tensor, or of an attribute, that are shown before its extents are."""


def diff_text(before: ModelProto, after: ModelProto, name: str, new_name: str) -> list[str]:
    """A unified diff of two graphs: names, operators, attributes and shapes of nodes, weights by shape."""
    old, new = ([*graph_lines(model)] for model in (before, after))
    return list(difflib.unified_diff(old, new, printable(name), printable(new_name), lineterm=""))


def graph_lines(model: ModelProto) -> list[str]:
    """Inputs, nodes and outputs, a line each."""
    view = GraphView(infer_shapes(model))
    graph = model.graph
    lines = [printable(f"input {_typed(view, info.name)}") for info in graph.input]
    lines += [node_line(node, view) for node in graph.node]
    return [*lines, *(printable(f"output {_typed(view, info.name)}") for info in graph.output)]


def node_line(node: NodeProto, view: GraphView) -> str:
    """``y: float32[1,3] = Clip(x, 0.0, 6.0) <attr=1>  # name``."""
    results = ", ".join(_typed(view, name) for name in node.output if name)
    operands = ", ".join(_operand(view, name) for name in node.input)
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    attrs = ", ".join(f"{a.name}={_attribute(a)}" for a in sorted(node.attribute, key=lambda a: a.name))
    shown = f"{results} = {kind}({operands})" + (f" <{attrs}>" if attrs else "")
    return printable(f"{shown}  # {node.name}")


def _kind(kind: TensorType | None) -> str:
    if kind is None or kind.shape is None:
        return "?" if kind is None else f"{kind.dtype}[?]"
    return f"{kind.dtype}[{','.join('?' if dim is None else str(dim) for dim in kind.shape)}]"


def _typed(view: GraphView, name: str) -> str:
    return f"{name}: {_kind(view.types.get(name))}"


def _operand(view: GraphView, name: str) -> str:
    if name not in view.initializers:
        return name or "-"
    value = view.constant(name)
    if value is not None and value.size <= SHOWN:
        return str(value.tolist())
    return f"<{_kind(view.types.get(name))}>"


def _attribute(attribute: AttributeProto) -> str:
    if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        return "{...}"
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return f"<{list(attribute.t.dims)}>"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return f"{value:.7g}"
    items = list(value) if hasattr(value, "__iter__") else None
    if items is not None and len(items) > SHOWN:
        return f"[{', '.join(map(str, items[:SHOWN]))}, ...]"
    return str(value if items is None else items)
