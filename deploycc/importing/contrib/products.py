"""Convolutions and matrix products that ONNX Runtime fuses with what stands around them.

Formulas: the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

from onnx import NodeProto

from deploycc.importing.contrib.activations import fused_activation
from deploycc.importing.contrib.writing import Writing
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker

_CONVOLUTION = "auto_pad dilations group kernel_shape pads strides"


def fused_conv(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``FusedConv``: activation(Conv(X, W, B) + Z)."""
    writing = Writing(walker, node, inputs, scope, f"{_CONVOLUTION} activation activation_params")
    writing.only(4, 2)
    given = {name: writing.attribute(name, None) for name in _CONVOLUTION.split()}
    attributes = {name: value for name, value in given.items() if value is not None}
    operands = [writing.input(index) for index in range(3) if index < 2 or writing.input(2)]
    result = writing.op("Conv", *operands, **attributes)
    if writing.input(3):
        result = writing.op("Add", result, writing.input(3))
    name, numbers = writing.attribute("activation", ""), list(writing.attribute("activation_params", []))
    return [fused_activation(writing, result, name, numbers)]


_FUSED_GEMM = {"LeakyRelu": ("alpha",), "Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta")}


def fused_gemm(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``FusedGemm``: activation(alpha A B + beta C)."""
    extra = "activation activation_alpha activation_beta activation_gamma"
    writing = Writing(walker, node, inputs, scope, f"alpha beta transA transB {extra}")
    writing.only(3, 2)
    given = {name: writing.attribute(name, None) for name in ("alpha", "beta", "transA", "transB")}
    attributes = {name: value for name, value in given.items() if value is not None}
    operands = [writing.input(index) for index in range(3) if index < 2 or writing.input(2)]
    name = writing.attribute("activation", "")
    if name not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", ""):
        raise writing.not_understood(f"activation {name}", "Relu, Tanh, Sigmoid or LeakyRelu")
    numbers = [float(writing.attribute("activation_alpha", 0.01))] if name == "LeakyRelu" else []
    return [fused_activation(writing, writing.op("Gemm", *operands, **attributes), name, numbers)]


def fused_matmul(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``FusedMatMul``: alpha A B, where transA and transB swap a matrix' axes.

    transBatchA and transBatchB move a first axis behind the batch axes: [m, b1, b2, k] is
    [b1, b2, m, k] then.
    """
    writing = Writing(walker, node, inputs, scope, "alpha transA transB transBatchA transBatchB")
    writing.only(2, 2)
    operands = []
    for index, side in enumerate("AB"):
        source = writing.input(index)
        rank = writing.rank(source)
        order = list(range(rank))
        if writing.attribute(f"transBatch{side}", 0) and rank > 2:
            order = [*order[1:-1], 0, rank - 1]
        # A vector has no axes to swap: ONNX Runtime leaves it as it is.
        if writing.attribute(f"trans{side}", 0) and rank > 1:
            order[-2:] = order[-2:][::-1]
        operands.append(source if order == list(range(rank)) else writing.transpose(source, *order))
    result = writing.op("MatMul", *operands)
    alpha = float(writing.attribute("alpha", 1.0))
    return [result if alpha == 1.0 else writing.op("Mul", result, writing.number(alpha, result))]
