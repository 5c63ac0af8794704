"""The simplified model cut into pieces: which nodes lie between tensors, and those nodes as a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from deploycc.onnx_graph import TensorType, infer_shapes, tensor_type, used_names

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators whose result has the elements of their first input in the same order."""


class Graph:
    """Look-ups over a simplified model, and pieces of it."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = infer_shapes(proto)
        graph = self.proto.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [info.name for info in graph.input if info.name not in self.initializers]
        self.outputs = [info.name for info in graph.output]
        self.producer = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.consumers: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in used_names(node):
                self.consumers.setdefault(name, []).append(i)
        self._infos = {info.name: info for info in (*graph.value_info, *graph.output, *graph.input)}

    def type_of(self, name: str) -> TensorType | None:
        """The tensor's dtype and shape, ``None`` if they are not known or not static."""
        info = self._infos.get(name)
        kind = tensor_type(info) if info is not None else None
        return kind if kind is not None and kind.static else None

    def reads(self, index: int) -> set[str]:
        """What a node reads of other nodes or of the graph's inputs."""
        return {
            name for name in used_names(self.nodes[index]) if name in self.producer or name in self.inputs
        }

    def views(self, name: str) -> set[str]:
        """``name`` and the tensors that have its elements in the same order."""
        found, waiting = {name}, [name]
        while waiting:
            current = waiting.pop()
            near = [
                self.nodes[i].output[0]
                for i in self.consumers.get(current, ())
                if self.nodes[i].op_type in _VIEWS and self.nodes[i].input[0] == current
            ]
            maker = self.nodes[self.producer[current]] if current in self.producer else None
            if maker is not None and maker.op_type in _VIEWS:
                near.append(maker.input[0])
            waiting += [other for other in near if other not in found]
            found.update(near)
        return found

    def between(self, targets: Iterable[str], known: Collection[str]) -> tuple[list[int], list[str]]:
        """The nodes that make ``targets`` of ``known`` tensors, in order, and what they read.

        What is read and not known is an input of the graph.
        """
        nodes: set[int] = set()
        read: dict[str, None] = {}
        targets = list(targets)
        ends = set(known) - set(targets)
        waiting = list(targets)
        while waiting:
            name = waiting.pop()
            if name in ends or name not in self.producer:
                if name in ends or name in self.inputs:
                    read[name] = None
            elif self.producer[name] not in nodes:
                nodes.add(self.producer[name])
                waiting += sorted(self.reads(self.producer[name]))
        return sorted(nodes), list(read)

    def piece(
        self, nodes: Collection[int], inputs: Sequence[str], outputs: Sequence[str], name: str = "piece"
    ) -> ModelProto:
        """These nodes as a model.  ``inputs`` and ``outputs`` are tensors of the graph."""
        chosen = [self.nodes[i] for i in sorted(nodes)]
        used = {tensor for node in chosen for tensor in used_names(node)} | set(outputs)
        weights = [self.initializers[n] for n in sorted(used - set(inputs)) if n in self.initializers]
        made = {tensor for node in chosen for tensor in node.output if tensor}
        infos = [info for n, info in self._infos.items() if n in made and n not in outputs]
        graph = helper.make_graph(
            chosen,
            name,
            [self._info(n) for n in inputs],
            [self._info(n) for n in outputs],
            weights,
            value_info=infos,
        )
        model = helper.make_model(graph, opset_imports=list(self.proto.opset_import))
        model.ir_version = self.proto.ir_version
        model.functions.extend(self.proto.functions)
        return model

    def _info(self, name: str) -> ValueInfoProto:
        found = ValueInfoProto()
        found.CopyFrom(self._infos[name])
        return found

    def names_of(self, nodes: Iterable[int]) -> tuple[str, ...]:
        """The nodes' names, in the graph's order."""
        return tuple(self.nodes[i].name for i in sorted(nodes))

    def numbers_of(self, names: Iterable[str]) -> list[int]:
        """The numbers of nodes by name."""
        known: Mapping[str, int] = {node.name: i for i, node in enumerate(self.nodes)}
        return sorted(known[name] for name in names if name in known)


def save(model: ModelProto, path: str) -> None:
    """Write a model as ``deploycc build`` reads it."""
    onnx.save(model, path)
