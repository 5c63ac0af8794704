"""What the rules look at: the graph, the graph as it was read, the target and its table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx import NodeProto

from deploycc.lint_types import LintTarget
from deploycc.onnx_graph import GraphView
from deploycc.op_support import Limit, SupportTable, support_table
from deploycc.types import Model


@dataclass(frozen=True)
class Subject:
    """One model and one target.

    ``view`` is the simplified graph, which the target would get; ``original`` the graph as it was
    read, for rules about form.  Rules may name nodes of either; the report has original names.
    """

    model: Model
    view: GraphView
    original: GraphView
    target: LintTarget
    table: SupportTable

    def limit(self, name: str) -> Limit | None:
        """A limit of the target's unit or of its engine; ``None`` where none is known."""
        return self.table.limit(name, self.target.unit, self.target.version)

    @property
    def compiled(self) -> bool:
        """Whether deploycc itself compiles for the target."""
        return self.target.compiled is not None

    @cached_property
    def origins(self) -> dict[str, str]:
        """The original node's name for the name of every node of ``view``.

        A node that simplifying made has the name of the one whose result it computes: that with the
        same output, else the next one behind it that is in both graphs.
        """
        known = {node.name for node in self.original.model.graph.node}
        made = {name: node.name for name, node in self.original.producers.items()}
        found: dict[str, str] = {}

        def of(node: NodeProto) -> str:
            if node.name in known:
                return str(node.name)
            for output in node.output:
                if output in made:
                    return made[output]
            for output in node.output:
                for reader in self.view.consumers.get(output, []):
                    if reader.name in found:
                        return found[reader.name]
            return str(node.name)

        for node in reversed(self.view.model.graph.node):
            found[node.name] = of(node)
        return found


def subject(model: Model, target: LintTarget) -> Subject:
    """The subject for one target; a model without its original is its own."""
    view = GraphView(model.proto)
    original = view if model.original is None else GraphView(model.original)
    return Subject(model, view, original, target, support_table(target.engine))


def compiled_only(target: LintTarget) -> bool:
    """For rules about what deploycc itself compiles."""
    return target.compiled is not None
