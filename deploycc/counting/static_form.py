"""The graph that is lowered: sources that put out their count too, and zeros where an output has no rows.

A source gets one more output, an int64 scalar with the number of rows it found, and the attribute ``MOST``,
the rows that there is memory for.  One that counts rows of a counted tensor gets their number as one more
input, by the name of the attribute ``COUNT``.  No other operator is new.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploycc.counting.computing import SUMS
from deploycc.counting.sources import is_source
from deploycc.onnx_graph import tensor_info
from deploycc.types import Counts, Extent, Model, Rows

MOST = "deploycc_most"
"""Attribute of a source: the most rows of its results."""

COUNT = "deploycc_count"
"""Attribute of a source: 1 where its last input is the true number of rows of what it looks at."""

OUTPUTS = {"Compress": 1, "NonMaxSuppression": 1, "NonZero": 1, "Unique": 4}
"""How many outputs each has in ONNX; its count comes behind them."""


def with_counts(model: Model) -> ModelProto:
    """The graph to be lowered; for a model where nothing is counted its own."""
    if model.counts is None:
        return model.proto
    return _Form(model, model.counts).graph()


class _Form:
    def __init__(self, model: Model, counts: Counts) -> None:
        self.model = model
        self.counts = counts
        self.proto = ModelProto()
        self.proto.CopyFrom(counts.bounded)
        nodes = self.proto.graph.node
        self.taken = {name for node in nodes for name in (*node.output, *node.input)}
        self.taken |= {info.name for info in model.outputs}
        self.numbers: dict[Extent, str] = {}
        """The scalar that holds a number of rows."""
        self.made: list[NodeProto] = []
        self.makers = {name: node.name for node in nodes for name in node.output}
        infos = (*self.proto.graph.value_info, *self.proto.graph.output, *self.proto.graph.input)
        self.types = {info.name: tensor_info(info) for info in infos}

    def graph(self) -> ModelProto:
        graph = self.proto.graph
        sources: set[str] = set()
        for node in list(graph.node):
            if is_source(node):
                self._source(node)
                sources.update(node.output)
            elif node.op_type in SUMS and node.output[0] not in self.counts.rows:
                rows = self.counts.rows.get(node.input[0])
                node.input[0] = node.input[0] if rows is None else self._masked(node.input[0], rows)
            self.made.append(node)
        for info in self.model.outputs:
            if info.counted is None:
                continue
            rows = self.counts.rows[info.name]
            number = self._number(rows.extent)
            told = info.counted.output
            if not any(told in node.output for node in self.made):
                self._node("Identity", [number], told, rows.extent.source)
            if info.name not in sources:
                self._masked_output(info.name, rows)
        for info in self.model.outputs[len(graph.output) :]:
            graph.output.append(helper.make_tensor_value_info(info.name, TensorProto.INT64, []))
        del graph.node[:]
        graph.node.extend(self.made)
        return self.proto

    def _fresh(self, base: str) -> str:
        name = base
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _constant(self, base: str, value: object) -> str:
        name = self._fresh(base)
        self.proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], result: str, part_of: str) -> str:
        """A node that is told as part of the one that makes the tensor ``part_of``."""
        self.made.append(helper.make_node(operator, inputs, [result], name=self.makers[part_of]))
        return result

    def _source(self, node: NodeProto) -> None:
        """Give the node its further output, and tell it of rows that are not there."""
        known = [self.counts.rows.get(name) for name in node.input]
        source = node.output[0]
        made = self.counts.rows[node.output[0]]
        seen = next((rows for rows in known if rows is not None), None)
        if node.op_type == "NonZero" and seen is not None:
            node.input[0] = self._masked(node.input[0], seen)
        elif node.op_type == "Compress" and seen is not None:
            node.input[1] = self._masked(node.input[1], known[1] or seen)
        elif seen is not None:
            node.input.extend([""] * ({"NonMaxSuppression": 5, "Unique": 1}[node.op_type] - len(node.input)))
            node.input.append(self._number(seen.extent))
            node.attribute.append(helper.make_attribute(COUNT, 1))
        while len(node.output) < OUTPUTS[node.op_type]:
            node.output.append("")
        for place, name in enumerate(node.output):
            if not name:
                node.output[place] = self._fresh(f"{source}_{place}")
        count = self._fresh(f"{source}_count")
        node.output.append(count)
        node.attribute.append(helper.make_attribute(MOST, made.extent.cap))
        self.numbers[made.extent] = count

    def _number(self, extent: Extent) -> str:
        """The scalar with the number of rows of ``extent``: its source's, or less where fewer were taken."""
        if extent not in self.numbers:
            name = next(number for e, number in self.numbers.items() if e.source == extent.source)
            taken = self._constant(f"{name}_most", np.int64(extent.taken or 0))
            self.numbers[extent] = self._node(
                "Min", [name, taken], self._fresh(f"{name}_taken"), extent.source
            )
        return self.numbers[extent]

    def _masked(self, name: str, rows: Rows) -> str:
        """A tensor like ``name`` with zeros in the rows that are not there."""
        return self._zeroed(name, rows, self._fresh(f"{name}_rows"), name)

    def _masked_output(self, name: str, rows: Rows) -> None:
        """Have the output ``name`` zeroed, and everything else read what there was."""
        inner = self._fresh(f"{name}_rows")
        for node in self.made:
            for side in (node.input, node.output):
                for place, other in enumerate(side):
                    if other == name:
                        side[place] = inner
        self._zeroed(inner, rows, name, name)

    def _zeroed(self, name: str, rows: Rows, result: str, part_of: str) -> str:
        info = self.types[part_of]
        shape = [1] * len(info.shape)
        shape[rows.axis] = info.shape[rows.axis]
        numbers = self._constant(f"{result}_index", np.arange(shape[rows.axis]).reshape(shape))
        number, there = self._number(rows.extent), self._fresh(f"{result}_there")
        self._node("Less", [numbers, number], there, part_of)
        if info.dtype == "bool":
            return self._node("And", [there, name], result, part_of)
        zero = self._constant(f"{result}_zero", np.zeros((), info.dtype))
        return self._node("Where", [there, name, zero], result, part_of)
