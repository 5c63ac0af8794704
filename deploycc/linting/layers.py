"""The layers that rules ask about: convolutions and fully connected layers, with their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from deploycc.linting.costs import extents
from deploycc.linting.evaluation import NodeFacts
from deploycc.onnx_graph import GraphView, used_names


@dataclass(frozen=True)
class Convolution:
    """A ``Conv`` or ``ConvTranspose`` of known extents; channels are those of all groups together."""

    node: NodeProto
    channels_in: int
    channels_out: int
    group: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is a group of its own."""
        return self.group > 1 and self.group == self.channels_in


def convolutions(view: GraphView) -> Iterator[Convolution]:
    """Every convolution of known extents, in graph order."""
    for node in view.model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or node.domain:
            continue
        weights, data = extents(node.input[1], view), extents(node.input[0], view)
        if weights is None or data is None or len(weights) < 3 or len(data) < 3:
            continue
        facts = NodeFacts(node, view)
        group = facts.attr("group") or 1
        yield Convolution(
            node,
            channels_in=data[1],
            channels_out=weights[0] if node.op_type == "Conv" else weights[1] * group,
            group=group,
            kernel=weights[2:],
            strides=facts.attr("strides") or (1,) * (len(weights) - 2),
        )


@dataclass(frozen=True)
class FullyConnected:
    """A ``Gemm`` or ``MatMul`` with stored weights, ``inputs`` x ``outputs``."""

    node: NodeProto
    weights: str
    inputs: int
    outputs: int
    rank: int


def fully_connected(view: GraphView) -> Iterator[FullyConnected]:
    """Every product with a stored matrix, in graph order."""
    for node in view.model.graph.node:
        if node.op_type not in ("Gemm", "MatMul") or node.domain or not view.is_constant(node.input[1]):
            continue
        matrix = extents(node.input[1], view)
        data = view.types.get(node.input[0])
        if matrix is None or len(matrix) != 2 or data is None or data.shape is None:
            continue
        transposed = bool(NodeFacts(node, view).attr("transB")) if node.op_type == "Gemm" else False
        rows, columns = (matrix[1], matrix[0]) if transposed else matrix
        yield FullyConnected(node, node.input[1], rows, columns, len(data.shape))


def reaches_output(view: GraphView) -> set[str]:
    """Names of the nodes that some graph output depends on."""
    found: set[str] = set()
    open_names = list(view.outputs)
    seen: set[int] = set()
    while open_names:
        node = view.producers.get(open_names.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        found.add(node.name)
        open_names.extend(used_names(node))
    return found
