"""``Attention`` and ``MultiHeadAttention`` of ONNX Runtime's domain.

Formulas: the operator documentation of ONNX Runtime (ContribOperators.md).  Shapes: batch B, heads N,
head size H, queries S, keys T = past P + new ones L.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from deploycc.importing.contrib.writing import Writing
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker

_MULTI_HEAD = "num_heads unidirectional scale mask_filter_value"
_ATTENTION = f"{_MULTI_HEAD} qkv_hidden_sizes do_rotary past_present_share_buffer"


def attention(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``Attention``: the products with the weights of query, key and value are part of it.

    Input [B, S, D], weights [D, 3 N H], bias [3 N H], past [2, B, N, P, H]; masks as lengths [B], as
    [B, T] or as [B, S, T].
    """
    writing = Writing(walker, node, inputs, scope, _ATTENTION)
    writing.only(6, 3)
    if writing.attribute("do_rotary", 0) or writing.attribute("past_present_share_buffer", 0):
        raise writing.not_understood("rotary embedding or a shared buffer inside", "neither")
    x, weights, bias = (writing.input(index) for index in range(3))
    batch, length, _ = writing.shape(x)
    heads = int(writing.attribute("num_heads", 0))
    columns = writing.shape(weights)[1]
    sizes = list(writing.attribute("qkv_hidden_sizes", [])) or [columns // 3] * 3
    if sum(sizes) != columns or sizes[0] != sizes[1] or any(size % heads for size in sizes):
        raise writing.not_understood(f"{sizes} of {columns} columns in {heads} heads", "equal parts")
    product = writing.op("Add", writing.op("MatMul", x, weights), bias)
    query, key, value = (
        _in_heads(writing, part, batch, length, heads, size // heads)
        for part, size in zip(writing.split(product, sizes, 2), sizes, strict=True)
    )
    past = writing.input(4)
    if past:
        shape = writing.shape(past)
        old = [writing.reshape(part, *shape[1:]) for part in writing.split(past, [1, 1], 0)]
        key = writing.op("Concat", old[0], key, axis=2)
        value = writing.op("Concat", old[1], value, axis=2)
    result = _attended(writing, query, key, value, _masks(writing, writing.input(3), key, length, 5))
    outputs: list[Value] = [_out_of_heads(writing, result)]
    if writing.wants(1):
        both = [writing.reshape(part, 1, *writing.shape(part)) for part in (key, value)]
        outputs.append(writing.op("Concat", *both, axis=0))
    return outputs


def multi_head_attention(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``MultiHeadAttention``: query [B, S, N H], key and value alike or in heads [B, N, L, H] already."""
    writing = Writing(walker, node, inputs, scope, _MULTI_HEAD)
    writing.only(8)
    query, key, value, bias = (writing.input(index) for index in range(4))
    heads = int(writing.attribute("num_heads", 0))
    if writing.rank(query) != 3 or not key or not value:
        raise writing.not_understood("query, key and value packed into one tensor", "three tensors")
    parts = [query, key, value]
    if bias:
        if writing.rank(key) != 3:
            raise writing.not_understood("a bias of keys that are in heads already", "keys [B, L, N H]")
        widths = [writing.shape(part)[2] for part in parts]
        added = writing.split(bias, widths, 0)
        parts = [writing.op("Add", part, extra) for part, extra in zip(parts, added, strict=True)]
    if bool(writing.input(6)) != bool(writing.input(7)):
        raise writing.not_understood("past keys or past values alone", "both or neither")
    if writing.wants(1) != writing.wants(2):
        raise writing.not_understood("present keys or present values alone", "both or neither")
    split = []
    for part in parts:
        if writing.rank(part) == 4:
            split.append(part)
        else:
            batch, length, width = writing.shape(part)
            split.append(_in_heads(writing, part, batch, length, heads, width // heads))
    query, key, value = split
    for index, past in enumerate((writing.input(6), writing.input(7))):
        if past and index == 0:
            key = writing.op("Concat", past, key, axis=2)
        elif past:
            value = writing.op("Concat", past, value, axis=2)
    length = writing.shape(query)[2]
    result = _attended(writing, query, key, value, _masks(writing, writing.input(4), key, length, 5))
    if writing.wants(3):
        raise writing.not_understood("the scores as an output", "output and present keys and values")
    outputs: list[Value] = [_out_of_heads(writing, result), key, value]
    return outputs


def _in_heads(writing: Writing, x: str, batch: int, length: int, heads: int, size: int) -> str:
    return writing.transpose(writing.reshape(x, batch, length, heads, size), 0, 2, 1, 3)


def _out_of_heads(writing: Writing, x: str) -> str:
    batch, heads, length, size = writing.shape(x)
    return writing.reshape(writing.transpose(x, 0, 2, 1, 3), batch, length, heads * size)


def _masks(writing: Writing, mask: str, key: str, length: int, bias: int) -> list[str]:
    """What is added to the scores [B, N, S, T]: the bias given and what the mask keeps out."""
    added = [writing.input(bias)] if writing.input(bias) else []
    if not mask:
        return added
    batch, total = writing.shape(key)[0], writing.shape(key)[2]
    shape = writing.shape(mask)
    if shape == (batch, total):
        kept = writing.reshape(mask, batch, 1, 1, total)
    elif shape == (batch, length, total):
        kept = writing.reshape(mask, batch, 1, length, total)
    elif shape == (batch,) and writing.node.op_type == "Attention":
        steps = writing.stored(np.arange(total, dtype=np.int32).reshape(1, 1, 1, total))
        ends = writing.reshape(mask, batch, 1, 1, 1)
        kept = writing.cast(writing.op("Less", steps, ends), "int32")
    else:
        raise writing.not_understood(
            f"a mask of shape {shape}", f"{(batch, total)} or {(batch, length, total)}"
        )
    kind = writing.dtype(key)
    out = writing.cast(writing.op("Equal", kept, writing.number(0, kept)), kind)
    filler = float(writing.attribute("mask_filter_value", -10000.0))
    return [*added, writing.op("Mul", out, writing.stored(np.array(filler, kind)))]


def _attended(writing: Writing, query: str, key: str, value: str, added: Sequence[str]) -> str:
    _, _, length, size = writing.shape(query)
    total = writing.shape(key)[2]
    scale = float(writing.attribute("scale", 0.0)) or 1.0 / math.sqrt(size)
    scores = writing.op("MatMul", query, writing.transpose(key, 0, 1, 3, 2))
    scores = writing.op("Mul", scores, writing.number(scale, scores))
    for term in added:
        scores = writing.op("Add", scores, term)
    if writing.attribute("unidirectional", 0) not in (0, 1):
        raise writing.not_understood(f"unidirectional {writing.attribute('unidirectional', 0)}", "0 or 1")
    if writing.attribute("unidirectional", 0):
        kind = writing.dtype(scores)
        later = np.triu(np.full((length, total), np.finfo(kind).min, kind), total - length + 1)
        scores = writing.op("Add", scores, writing.stored(later))
    return writing.op("MatMul", writing.softmax(scores), value)
