"""ONNX Runtime's own quantised operators, written in standard ones.

ONNX Runtime's quantiser writes them in operator form (``QuantFormat.QOperator``), and its optimiser when it
saves a model.  They become float operators between ``DequantizeLinear`` and ``QuantizeLinear``, which is what
they stand for; products become those of integers later, where that is exact (``graph_rewrites``).
Operators and operands: the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, helper

from deploycc.onnx_graph import opset_of

DOMAIN = "com.microsoft"

_AXIS = 13
"""The opset from which on ``DequantizeLinear`` has scales along an axis."""


class _Nodes:
    """The standard nodes in place of one.  ``several`` are stored tensors of more than one element."""

    def __init__(self, node: NodeProto, taken: set[str], opset: int, several: set[str]) -> None:
        self.node, self._taken, self.opset, self.several = node, taken, opset, several
        self.made: list[NodeProto] = []
        self.attributes = {found.name: helper.get_attribute_value(found) for found in node.attribute}

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def add(
        self, operator: str, *inputs: str, last: bool = False, outputs: int = 1, **attributes: Any
    ) -> Any:
        """A node; its result's name (of several, all names).  ``last``: it gives the operator's result."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        number = len(self.made)
        names = [self._fresh(f"{self.node.output[0]}/{operator}_{number}_{i}") for i in range(outputs)]
        if last:
            names[0] = self.node.output[0]
        name = f"{self.node.name}/{operator}_{number}" if self.node.name else ""
        made = helper.make_node(operator, given, names, name, **attributes)
        if self.node.doc_string:
            made.doc_string = self.node.doc_string
        self.made.append(made)
        return names[0] if outputs == 1 else names

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def dequantised(self, first: int, **attributes: Any) -> str:
        """What the integers, the scale and the zero point at ``first`` and behind it stand for."""
        return str(self.add("DequantizeLinear", *(self.input(first + i) for i in range(3)), **attributes))

    def quantised(self, value: str, scale: int) -> None:
        """``value`` by the scale and the zero point at ``scale`` and behind it, as the result."""
        self.add("QuantizeLinear", value, self.input(scale), self.input(scale + 1), last=True)

    def only(self, *names: str) -> bool:
        """Whether all attributes are known; 0 of an unknown one is its default."""
        return all(name in names or value in (0, []) for name, value in self.attributes.items())


def _unary(operator: str, *known: str) -> Callable[[_Nodes], bool]:
    def write(nodes: _Nodes) -> bool:
        if not nodes.only(*known):
            return False
        kept = {name: value for name, value in nodes.attributes.items() if name in known}
        nodes.quantised(nodes.add(operator, nodes.dequantised(0), **kept), 3)
        return True

    return write


def _binary(operator: str) -> Callable[[_Nodes], bool]:
    def write(nodes: _Nodes) -> bool:
        if not nodes.only():
            return False
        nodes.quantised(nodes.add(operator, nodes.dequantised(0), nodes.dequantised(3)), 6)
        return True

    return write


def _softmax(nodes: _Nodes) -> bool:
    """Of opset 13 and newer, which has one axis."""
    if not nodes.only("axis", "opset") or nodes.attributes.get("opset", 0) < 13:
        return False
    axis = nodes.attributes.get("axis", -1)
    nodes.quantised(nodes.add("Softmax", nodes.dequantised(0), axis=axis), 3)
    return True


def _concat(nodes: _Nodes) -> bool:
    if not nodes.only("axis"):
        return False
    parts = [nodes.dequantised(first) for first in range(2, len(nodes.node.input), 3)]
    nodes.quantised(nodes.add("Concat", *parts, axis=nodes.attributes["axis"]), 0)
    return True


def _gemm(nodes: _Nodes) -> bool:
    """The bias is int32, in units of the product's."""
    if not nodes.only("alpha", "transA", "transB") or nodes.attributes.get("alpha", 1.0) != 1.0:
        return False
    turned = {name: nodes.attributes.get(name, 0) for name in ("transA", "transB")}
    axes: tuple[dict[str, Any], dict[str, Any]] = {"axis": 0 if turned["transB"] else 1}, {"axis": 0}
    if nodes.opset < _AXIS:
        if nodes.input(4) in nodes.several:
            return False
        axes = {}, {}
    factors = [nodes.dequantised(0), nodes.dequantised(3, **axes[0])]
    if nodes.input(6):
        unit = nodes.add("Mul", nodes.input(1), nodes.input(4))
        factors.append(nodes.add("DequantizeLinear", nodes.input(6), unit, **axes[1]))
    if nodes.input(7):
        nodes.quantised(nodes.add("Gemm", *factors, **turned), 7)
    else:
        nodes.add("Gemm", *factors, last=True, **turned)
    return True


def _scaled_product(nodes: _Nodes, operands: Sequence[str], scales: Sequence[str], bias: str) -> None:
    total = nodes.add("Cast", nodes.add("MatMulInteger", *operands), to=TensorProto.FLOAT)
    unit = nodes.add("Mul", *scales)
    scaled = nodes.add("Mul", total, unit, last=not bias)
    if bias:
        nodes.add("Add", scaled, bias, last=True)


def _product_to_float(nodes: _Nodes) -> bool:
    if not nodes.only():
        return False
    left, right, left_scale, right_scale, left_zero, right_zero, bias = map(nodes.input, range(7))
    _scaled_product(nodes, (left, right, left_zero, right_zero), (left_scale, right_scale), bias)
    return True


def _dynamic_product(nodes: _Nodes) -> bool:
    if not nodes.only():
        return False
    data, right, right_scale, right_zero, bias = map(nodes.input, range(5))
    left, scale, zero = nodes.add("DynamicQuantizeLinear", data, outputs=3)
    _scaled_product(nodes, (left, right, zero, right_zero), (scale, right_scale), bias)
    return True


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

OPERATORS: dict[str, Callable[[_Nodes], bool]] = {
    "DynamicQuantizeMatMul": _dynamic_product,
    "MatMulIntegerToFloat": _product_to_float,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool", *_POOL),
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu", "alpha"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _softmax,
}
"""What is written out.  A form that is not stays, and is refused as an operator of another domain."""


def _written(
    node: NodeProto, write: Callable[[_Nodes], bool], taken: set[str], opset: int, several: set[str]
) -> list[NodeProto]:
    """The nodes in place of one, none where its form is not written out or it has none."""
    try:
        nodes = _Nodes(node, taken, opset, several)
        return nodes.made if write(nodes) else []
    except (AttributeError, IndexError, TypeError, ValueError):
        return []  # no schema says what these have: operands and attributes may be anything


def write_quantised(proto: ModelProto) -> int:
    """Replace ONNX Runtime's quantised operators in the main graph, in place; how many there were."""
    graph = proto.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    several = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) > 1}
    opset = opset_of(proto)
    result: list[NodeProto] = []
    count = 0
    for node in graph.node:
        write = OPERATORS.get(node.op_type) if node.domain == DOMAIN else None
        made = [] if write is None else _written(node, write, taken, opset, several)
        result.extend(made or [node])
        count += bool(made)
    if count:
        kept = [NodeProto.FromString(node.SerializeToString()) for node in result]
        del graph.node[:]
        graph.node.extend(kept)
    return count
