"""What is known of one node: its attributes and the types of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import NodeProto, helper

from deploycc.onnx_graph import GraphView, attributes


class Unknown:
    """The type of ``UNKNOWN``."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()
"""A fact that is not there: an open extent, a value that is computed at run time."""


@dataclass(frozen=True)
class Tensor:
    """A node's input or output by name; the empty name is an absent one."""

    name: str


@dataclass(frozen=True)
class NodeFacts:
    """One node of one graph, for conditions and for Python rules."""

    node: NodeProto
    view: GraphView

    def tensor(self, side: str, index: int) -> Tensor:
        """Input or output ``index``; absent where the node does not list it."""
        names = self.node.input if side == "input" else self.node.output
        return Tensor(names[index] if index < len(names) else "")

    def attr(self, name: str) -> Any:
        """The attribute's Python value, its default in the schema, or ``None``."""
        found = attributes(self.node).get(name)
        if found is None:
            found = _defaults(self.node.op_type, self.view.opset, self.node.domain).get(name)
        if found is None:
            return None
        value = helper.get_attribute_value(found)
        return tuple(_text(item) for item in value) if isinstance(value, list) else _text(value)

    def shape(self, tensor: Tensor) -> tuple[int | None, ...] | None:
        """Extents, ``None`` for each that is not known; ``None`` where the rank is not."""
        kind = self.view.types.get(tensor.name)
        return kind.shape if kind else None

    def dtype(self, tensor: Tensor) -> str | None:
        """The element type's name."""
        kind = self.view.types.get(tensor.name)
        return kind.dtype if kind else None


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@cache
def _defaults(op: str, opset: int, domain: str) -> dict[str, onnx.AttributeProto]:
    try:
        schema = onnx.defs.get_schema(op, max(opset, 1), domain)
    except onnx.defs.SchemaError:
        return {}
    return {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


@cache
def since(op: str, opset: int, domain: str) -> int:
    """The opset that brought this form of the operator; 0 for one that is not known."""
    try:
        return int(onnx.defs.get_schema(op, max(opset, 1), domain).since_version)
    except onnx.defs.SchemaError:
        return 0
