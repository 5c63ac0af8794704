"""Gelu in its variants, and the activations that ONNX Runtime fuses behind other operators.

Formulas: the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

import math

from onnx import NodeProto

from deploycc.importing.contrib.writing import Writing
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker


def gelu(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``Gelu``: x/2 (1 + erf(x / sqrt 2))."""
    writing = Writing(walker, node, inputs, scope)
    writing.only(1)
    return [exact_gelu(writing, writing.input(0))]


def bias_gelu(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``BiasGelu``: ``Gelu`` of x + bias."""
    writing = Writing(walker, node, inputs, scope)
    writing.only(2, 2)
    return [exact_gelu(writing, writing.op("Add", writing.input(0), writing.input(1)))]


def exact_gelu(writing: Writing, x: str) -> str:
    """x/2 (1 + erf(x / sqrt 2))."""
    inner = writing.op("Erf", writing.op("Mul", x, writing.number(math.sqrt(0.5), x)))
    half = writing.op("Mul", x, writing.number(0.5, x))
    return writing.op("Mul", half, writing.op("Add", inner, writing.number(1.0, x)))


def fast_gelu(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``FastGelu``: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), of x + bias where there is one."""
    writing = Writing(walker, node, inputs, scope)
    writing.only(2)
    x = writing.input(0)
    if writing.input(1):
        x = writing.op("Add", x, writing.input(1))
    square = writing.op("Mul", writing.op("Mul", x, x), writing.number(0.044715 * math.sqrt(2 / math.pi), x))
    slope = writing.op("Add", square, writing.number(math.sqrt(2 / math.pi), x))
    inner = writing.op("Tanh", writing.op("Mul", x, slope))
    half = writing.op("Mul", x, writing.number(0.5, x))
    return [writing.op("Mul", half, writing.op("Add", inner, writing.number(1.0, x)))]


def quick_gelu(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``QuickGelu``: x sigmoid(alpha x)."""
    writing = Writing(walker, node, inputs, scope, "alpha")
    writing.only(1)
    x = writing.input(0)
    scaled = writing.op("Mul", x, writing.number(float(writing.attribute("alpha", 1.702)), x))
    return [writing.op("Mul", x, writing.op("Sigmoid", scaled))]


def fused_activation(writing: Writing, x: str, name: str, numbers: list[float]) -> str:
    """The activation that a fused operator names, of ``x``."""
    counts = {"": 0, "Relu": 0, "Tanh": 0, "Sigmoid": 0, "LeakyRelu": 1, "Clip": 2, "HardSigmoid": 2}
    if name not in counts or (len(numbers) != counts[name] and counts[name]):
        raise writing.not_understood(
            f"activation {name} with {len(numbers)} numbers",
            ", ".join(f"{known} with {count}" for known, count in counts.items() if known),
        )
    if name == "LeakyRelu":
        return writing.op(name, x, alpha=numbers[0])
    if name == "HardSigmoid":
        return writing.op(name, x, alpha=numbers[0], beta=numbers[1])
    if name == "Clip":
        if writing.walker.opset < 11:
            return writing.op(name, x, min=numbers[0], max=numbers[1])
        return writing.op(name, x, *(writing.number(number, x) for number in numbers))
    return writing.op(name, x) if name else x
