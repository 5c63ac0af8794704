"""A step's own error: what it wrote beside what ONNX Runtime makes of what the step read.

The errors of its inputs are in both, so what is left is the step's.  A step whose results the model has no
name for is judged together with those that read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from deploycc.bisecting.errors import scaled_error
from deploycc.bisecting.graph import Graph
from deploycc.bisecting.observing import Observed, Watched
from deploycc.bisecting.steps import Write
from deploycc.onnx_graph import Array
from deploycc.reference import ReferenceFailed, run


@dataclass(frozen=True)
class Judged:
    """A result and its step's ``own`` scaled error; ``None`` where the reference could not run its nodes.

    ``nodes`` are the graph's between what was read (``inputs``, tensors by name) and the result: none where
    the step only moves a tensor.
    """

    write: Write
    own: float | None
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    joined: tuple[int, ...]


class Judge:
    """Judges results of one run; ``observed`` has what that run wrote."""

    def __init__(self, watched: Watched, graph: Graph, observed: Observed) -> None:
        self._watched, self.graph, self._observed = watched, graph, observed
        self._given = dict(zip(watched.names, watched.inputs, strict=True))

    def all(self) -> list[Judged]:
        """Every result that has a name, in the order in which they were written."""
        return [self.judge(write) for write in self._watched.steps.named()]

    def judge(self, write: Write, observed: Observed | None = None) -> Judged:
        """One result; ``observed`` replaces what it read and wrote where it has that."""
        newer = observed if observed is not None else self._observed
        nodes, inputs = self.region(write)
        joined = self._watched.steps.sources(write.step).joined
        try:
            expected = self.expected(write, newer)
        except ReferenceFailed:
            return Judged(write, None, tuple(nodes), tuple(inputs), joined)
        own = scaled_error(expected, self.value_of(write, newer))
        return Judged(write, own, tuple(nodes), tuple(inputs), joined)

    def expected(self, write: Write, observed: Observed | None = None) -> Array:
        """What ONNX Runtime makes of what the step read.  Raises ``ReferenceFailed``."""
        nodes, inputs = self.region(write)
        values = self.inputs_of(write, inputs, observed)
        return self.computed(nodes, values, [write.tensor])[0]

    def region(self, write: Write) -> tuple[list[int], list[str]]:
        """The nodes that the step computes for a result, and the tensors that they read."""
        sources = self._watched.steps.sources(write.step)
        known = self._known(sources.writes)
        if write.tensor in known:
            return [], [write.tensor]
        nodes, inputs = self.graph.between([write.tensor], known)
        allowed = {self._watched.names[i] for i in sources.inputs}
        if set(inputs) - set(known) - allowed:
            # It reads something that the model has under another name: whatever was written before will do.
            earlier = [w for w in self._watched.steps.named() if w.step < write.step]
            nodes, inputs = self.graph.between([write.tensor], set(self._known(earlier)) - {write.tensor})
        return nodes, inputs

    def inputs_of(
        self, write: Write, names: Sequence[str], observed: Observed | None = None
    ) -> dict[str, Array]:
        """The values that the step read, by the tensors' names."""
        known = self.written_before(write)
        found = {}
        for name in names:
            value = self.value_of(known[name], observed) if name in known else self._given[name]
            found[name] = self.shaped(name, value)
        return found

    def written_before(self, write: Write) -> dict[str, Write]:
        """Tensors that are there when a step runs, those that it reads before all others."""
        steps = self._watched.steps
        earlier = [w for w in steps.named() if w.step < write.step]
        return {**self._known(earlier), **self._known(steps.sources(write.step).writes)}

    def value_of(self, write: Write, observed: Observed | None = None) -> Array:
        """What was written there, in ``observed`` if that has it."""
        return observed[write] if observed is not None and write in observed else self._observed[write]

    def computed(
        self, nodes: Sequence[int], values: Mapping[str, Array], outputs: Sequence[str]
    ) -> list[Array]:
        """``outputs`` of these nodes on values by name.  Raises ``ReferenceFailed``."""
        if not nodes:
            return [self.shaped(name, values[name]) for name in outputs]
        made = [name for name in outputs if name not in values]
        model = self.graph.piece(nodes, list(values), made)
        results = dict(zip(made, run_plain(model, list(values.values())), strict=True))
        return [values[name] if name in values else results[name] for name in outputs]

    def computed_without(
        self, nodes: Sequence[int], values: Mapping[str, Array], output: str, left_out: int, operand: str
    ) -> Array:
        """``output`` if node ``left_out`` gave its ``operand``.  Raises ``ReferenceFailed``."""
        model = self.graph.piece(nodes, list(values), [output])
        for node in model.graph.node:
            if node.name == self.graph.nodes[left_out].name:
                result = node.output[0]
                node.CopyFrom(helper.make_node("Identity", [operand], [result], name=node.name))
        return run_plain(model, list(values.values()))[0]

    def _known(self, writes: Sequence[Write]) -> dict[str, Write]:
        """Tensors that can be read off what was written: those written, and others with the same elements."""
        found = {view: write for write in writes for view in sorted(self.graph.views(write.tensor))}
        return {**found, **{write.tensor: write for write in writes}}

    def shaped(self, name: str, value: Array) -> Array:
        """``value`` in the shape that the model gives the tensor."""
        kind = self.graph.type_of(name)
        if kind is None or kind.shape is None:
            return value
        return value.reshape([int(extent or 0) for extent in kind.shape])


def run_plain(model: ModelProto, values: Sequence[Array]) -> list[Array]:
    """A model's outputs, nothing fused or reordered.  Raises ``ReferenceFailed``."""
    return run(model, [np.ascontiguousarray(value) for value in values], plain=True)[0]
