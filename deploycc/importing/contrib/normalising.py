"""Layer normalisation in ONNX Runtime's variants: simplified, with a skip connection, of embeddings.

Formulas: the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

from onnx import NodeProto

from deploycc.importing.contrib.writing import Writing
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker

_LAYER_NORMALIZATION = 17
"""The opset that has the standard operator."""


def layer_norm(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``LayerNormalization`` from before it was a standard operator."""
    writing = Writing(walker, node, inputs, scope, "axis epsilon stash_type")
    writing.only(3, 2)
    _last_axis(writing)
    _no_statistics(writing, 1)
    epsilon = float(writing.attribute("epsilon", 1e-5))
    return [normalised(writing, writing.input(0), writing.input(1), writing.input(2), epsilon)]


def simplified_layer_norm(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SimplifiedLayerNormalization``: x / sqrt(mean(x^2) + epsilon) * scale."""
    writing = Writing(walker, node, inputs, scope, "axis epsilon stash_type")
    writing.only(2, 2)
    _last_axis(writing)
    _no_statistics(writing, 1)
    epsilon = float(writing.attribute("epsilon", 1e-5))
    return [scaled_by_mean_square(writing, writing.input(0), writing.input(1), epsilon)]


def skip_layer_norm(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SkipLayerNormalization``: the normalised sum of input, skip and bias; the sum as fourth output."""
    writing = Writing(walker, node, inputs, scope, "epsilon")
    writing.only(5, 3)
    total = _summed(writing, 4)
    epsilon = float(writing.attribute("epsilon", 1e-12))
    result = normalised(writing, total, writing.input(2), writing.input(3), epsilon)
    return _with_sum(writing, result, total)


def skip_simplified(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SkipSimplifiedLayerNormalization``: the same with the simplified normalisation."""
    writing = Writing(walker, node, inputs, scope, "epsilon")
    writing.only(4, 3)
    total = _summed(writing, 3)
    epsilon = float(writing.attribute("epsilon", 1e-12))
    return _with_sum(writing, scaled_by_mean_square(writing, total, writing.input(2), epsilon), total)


def embed_layer_norm(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``EmbedLayerNormalization``: the normalised sum of word, position and segment embeddings.

    The second output counts the ones in the mask, per sentence; without a mask it is zero.
    """
    writing = Writing(walker, node, inputs, scope, "epsilon mask_index_type")
    writing.only(9, (0, 2, 3, 5, 6))
    ids, segments = writing.input(0), writing.input(1)
    batch, length = writing.shape(ids)
    total = writing.op("Gather", writing.input(2), ids, axis=0)
    positions = writing.input(3)
    if writing.input(8):
        place = writing.op("Gather", positions, writing.input(8), axis=0)
    else:
        place = writing.slice(positions, 0, length, 0)
    total = writing.op("Add", total, place)
    if segments and writing.input(4):
        total = writing.op("Add", total, writing.op("Gather", writing.input(4), segments, axis=0))
    epsilon = float(writing.attribute("epsilon", 1e-12))
    result = normalised(writing, total, writing.input(5), writing.input(6), epsilon)
    outputs: list[Value] = [result, "", total if writing.wants(2) else ""]
    if writing.wants(1):
        import numpy as np

        if writing.attribute("mask_index_type", 1) not in (0, 1):
            raise writing.not_understood("an unknown mask_index_type", "0 or 1")
        if not writing.input(7) or writing.attribute("mask_index_type", 1) == 0:
            outputs[1] = writing.stored(np.zeros(batch, np.int32))
        else:
            mask = writing.input(7)
            ones = writing.cast(writing.op("Equal", mask, writing.number(1, mask)), "int32")
            outputs[1] = writing.reshape(writing.reduce("ReduceSum", ones, 1), batch)
    return outputs


def normalised(writing: Writing, x: str, scale: str, shift: str, epsilon: float) -> str:
    """Over the last axis: (x - mean) / sqrt(variance + epsilon) * scale + shift."""
    if writing.walker.opset >= _LAYER_NORMALIZATION:
        operands = [x, scale, *([shift] if shift else [])]
        return writing.op("LayerNormalization", *operands, axis=-1, epsilon=epsilon)
    centred = writing.op("Sub", x, writing.reduce("ReduceMean", x, -1))
    result = scaled_by_mean_square(writing, centred, scale, epsilon)
    return writing.op("Add", result, shift) if shift else result


def scaled_by_mean_square(writing: Writing, x: str, scale: str, epsilon: float) -> str:
    """Over the last axis: x / sqrt(mean(x^2) + epsilon) * scale, in single precision at least."""
    kind = writing.dtype(x)
    wide = writing.cast(x, "float32") if kind.itemsize < 4 else x
    mean = writing.reduce("ReduceMean", writing.op("Mul", wide, wide), -1)
    root = writing.op("Sqrt", writing.op("Add", mean, writing.number(epsilon, wide)))
    return writing.op("Mul", writing.cast(writing.op("Div", wide, root), kind), scale)


def _last_axis(writing: Writing) -> None:
    axis = int(writing.attribute("axis", -1))
    if axis not in (-1, writing.rank(writing.input(0)) - 1):
        raise writing.not_understood(f"axis {axis}", "the last axis")


def _no_statistics(writing: Writing, first: int) -> None:
    if any(writing.wants(index) for index in range(first, len(writing.node.output))):
        raise writing.not_understood("mean and deviation as outputs", "the normalised tensor alone")


def _summed(writing: Writing, bias: int) -> str:
    x, skip = writing.input(0), writing.input(1)
    total = writing.op("Add", x, skip)
    return writing.op("Add", total, writing.input(bias)) if writing.input(bias) else total


def _with_sum(writing: Writing, result: str, total: str) -> list[Value]:
    if writing.wants(1) or writing.wants(2):
        raise writing.not_understood("mean and deviation as outputs", "the normalised tensor and the sum")
    return [result, "", "", total if writing.wants(3) else ""]
