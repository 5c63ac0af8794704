"""A node and what is known of the rows of its inputs; how one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from deploycc.onnx_graph import Array, GraphView, attributes, used_names
from deploycc.types import Diagnostic, Rows


class Refused(Exception):
    """A node that would mix rows with those that are not there; ``diagnostic`` says so."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(frozen=True)
class Node:
    """A node with what is known of its inputs."""

    node: NodeProto
    view: GraphView
    known: dict[str, Rows]
    indices: set[str]

    def rows(self, place: int) -> Rows | None:
        """Where the rows of an input are, if it has any."""
        return self.known.get(self.node.input[place]) if self.has(place) else None

    def has(self, place: int) -> bool:
        """Whether the input is given."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's extents, with the most rows."""
        kind = self.view.types.get(name)
        if kind is None or kind.shape is None or not kind.static:
            raise self.refused("a result without a shape that is known beforehand")
        return tuple(dim for dim in kind.shape if dim is not None)

    def rank(self, place: int) -> int:
        """The number of axes of an input."""
        return len(self.shape(self.node.input[place]))

    def number(self, name: str, default: int) -> int:
        """An integer attribute."""
        given = attributes(self.node).get(name)
        return default if given is None else int(given.i)

    def constant(self, place: int) -> Array | None:
        """The value of an input that is stored in the model."""
        return self.view.constant(self.node.input[place]) if self.has(place) else None

    def refused(self, why: str, code: str = "DC231", advice: str = "") -> Refused:
        """The refusal of this node, for the reason ``why``."""
        counted = [(name, self.known[name]) for name in sorted(used_names(self.node)) if name in self.known]
        what = "; ".join(
            f"'{name}' with as many rows as '{rows.extent.source}' on axis {rows.axis}"
            for name, rows in counted
        )
        return Refused(
            Diagnostic(
                code,
                f"{self.node.op_type} does not keep rows apart whose number depends on data: {why}",
                node=self.node.name,
                op=self.node.op_type,
                tensor=counted[0][0] if counted else "",
                got=what or "rows whose number depends on data",
                need="operators that compute each row from the same row alone (docs/counted.md)",
                help=advice
                or "end the graph before it (an output is given with its number of rows) and do the rest in "
                "the app, or split the model",
                verdict="unsupported",
            )
        )

    def only_the_first(self) -> Rows:
        """The rows of the first input, where no other one has any."""
        first = self.rows(0)
        others = [name for name in self.node.input[1:] if name in self.known]
        if first is None or others:
            raise self.refused("rows meet there in an operand that all of the result depends on")
        return first
