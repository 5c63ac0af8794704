"""What the rules look at: the graph, the graph as it was read, the target and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from onnx import NodeProto

from deploycc.counting import count_rows
from deploycc.lint_types import LintTarget
from deploycc.linting import costs
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
    def kept(self) -> frozenset[str]:
        """Tensors that a compiler of ours keeps out of memory; of other compilers none is known to."""
        target = self.target.compiled
        if target is None:
            return frozenset()
        cache = target.cache.l2 * target.cores
        if target.gpus:
            cache = min(gpu.l2_bytes for gpu in target.gpus)
        return costs.kept_tensors(self.view, fuses=True, cache_bytes=cache)

    @cached_property
    def costs(self) -> dict[str, tuple[int, int]]:
        """Multiply-adds and bytes through memory of every node of ``view``, by its name."""
        nodes = self.view.model.graph.node
        return {n.name: (costs.macs(n, self.view), costs.bytes_moved(n, self.view, self.kept)) for n in nodes}

    @cached_property
    def peak_bytes(self) -> int:
        """The most bytes of activations alive at once."""
        return costs.peak_activations(self.view)

    @property
    def memory_source(self) -> str:
        """Where the size of the target's memory is known from."""
        compiled = self.target.compiled
        known = compiled.sources.get("memory.mib", "") if compiled is not None else ""
        if compiled is not None and compiled.gpus:
            smallest = min(compiled.gpus, key=lambda gpu: gpu.memory_bytes)
            known = smallest.sources.get("memory.gbytes", "")
        return known or f"the target file of {self.target.family}"

    @cached_property
    def origins(self) -> dict[str, str]:
        """The original node's name for the name of every node of ``view``.

        A node that is in both graphs has its own.  One that inlining, lifting or simplifying made has
        the name of the node it stands in for: the one that computed the same tensor, else the one that
        alone read its weights, else the one whose name it was given a part of, else the next one behind
        it whose origin is known, else the one before.
        A name that only happens to be used again for another operator is no origin.
        """
        known = {node.name: node for node in self.original.model.graph.node}
        found: dict[str, str] = {}
        nodes = list(self.view.model.graph.node)
        for node in nodes:
            name = self._same(node, known)
            if name:
                found[node.name] = name
        for node in reversed(nodes):
            if node.name not in found:
                readers = (r for output in node.output for r in self.view.consumers.get(output, ()))
                behind = next((found[r.name] for r in readers if r.name in found), "")
                found.update({node.name: behind} if behind else {})
        for node in nodes:
            if node.name not in found:
                makers = (self.view.producers.get(name) for name in node.input)
                before = next((found[m.name] for m in makers if m is not None and m.name in found), "")
                found[node.name] = before or node.name
        return found

    def _same(self, node: NodeProto, known: Mapping[str, NodeProto]) -> str:
        """The original node that ``node`` is, or takes the place of by its results or by its name."""
        twin = known.get(node.name)
        if twin is not None and (twin.op_type == node.op_type or set(twin.output) & set(node.output)):
            return str(twin.name)
        for output in node.output:
            if output and output in self.original.producers:
                return str(self.original.producers[output].name)
        # A product that was fused with its bias still has its weights.
        if node.op_type in ("Gemm", "MatMul", "Conv") and self.original.is_constant(node.input[1]):
            readers = self.original.consumers.get(node.input[1], ())
            if len(readers) == 1:
                return str(readers[0].name)
        # The editor calls what it makes after the node it replaces: ``layer/act/Mul`` for ``layer/act``.
        parts = node.name.split("/")
        longer = ("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
        return next((name for name in longer if name and name in known), "")


def subject(model: Model, target: LintTarget) -> Subject:
    """The subject for one target; a model without its original is its own."""
    compiled = target.compiled is not None
    if compiled and model.counts is None:
        model = count_rows(model)
    view = GraphView(model.laid_out if compiled else model.proto)
    original = view if model.original is None else GraphView(model.original)
    return Subject(model, view, original, target, support_table(target.engine))


def compiled_only(target: LintTarget) -> bool:
    """For rules about what deploycc itself compiles."""
    return target.compiled is not None


def external_only(target: LintTarget) -> bool:
    """For rules about graphs that go to another compiler as they are; a build rewrites them anyway."""
    return target.compiled is None


def on_unit(target: LintTarget) -> bool:
    """For rules about one part of a chip."""
    return bool(target.unit)
