"""``RotaryEmbedding`` of ONNX Runtime's domain: pairs of numbers turned by an angle of their position.

Formula: the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from deploycc.importing.contrib.writing import Writing
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker


def rotary_embedding(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """Input [batch, length, hidden] or [batch, heads, length, size]; positions [1] (the first) or all."""
    writing = Writing(
        walker, node, inputs, scope, "interleaved is_packed_batching num_heads rotary_embedding_dim scale"
    )
    writing.only(4, 4)
    if writing.attribute("is_packed_batching", 0) or writing.attribute("scale", 1.0) != 1.0:
        raise writing.not_understood("packed batches or a scale", "neither")
    if writing.attribute("interleaved", 0) not in (0, 1):
        raise writing.not_understood(f"interleaved {writing.attribute('interleaved', 0)}", "0 or 1")
    x, positions, cosines, sines = (writing.input(index) for index in range(4))
    shape = writing.shape(x)
    turned = int(writing.attribute("rotary_embedding_dim", 0)) or 2 * writing.shape(cosines)[1]
    heads = int(writing.attribute("num_heads", 0))
    if len(shape) == 3:
        size = shape[2] // heads if heads else turned
        batch, length = shape[:2]
        x = writing.reshape(x, batch, length, shape[2] // size, size)
    elif len(shape) == 4:
        batch, length, size = shape[0], shape[2], shape[3]
    else:
        raise writing.not_understood(f"an input of {len(shape)} axes", "3 or 4")
    if turned > size or writing.shape(cosines)[1] * 2 != turned:
        raise writing.not_understood(
            f"{turned} of {size} numbers turned by a table of {writing.shape(cosines)[1]} angles",
            "an angle for each pair",
        )
    if writing.shape(positions) == (1,):
        steps = writing.stored(np.arange(length, dtype=np.int64))
        positions = writing.op("Add", writing.cast(positions, "int64"), steps)
    elif writing.shape(positions) != (batch, length):
        raise writing.not_understood(f"positions {writing.shape(positions)}", f"(1,) or {(batch, length)}")
    tables = []
    for table in (cosines, sines):
        rows = writing.op("Gather", table, positions, axis=0)
        extents = (batch, length, 1, turned // 2) if len(shape) == 3 else (batch, 1, length, turned // 2)
        if writing.walker.shape(positions) == (length,):
            extents = (1, *extents[1:])
        tables.append(writing.reshape(rows, *extents))
    kept = ""
    if turned < size:
        x, kept = writing.split(x, [turned, size - turned], 3)
    result = _turned(writing, x, tables, bool(writing.attribute("interleaved", 0)))
    if kept:
        result = writing.op("Concat", result, kept, axis=3)
    return [writing.reshape(result, *shape) if len(shape) == 3 else result]


def _turned(writing: Writing, x: str, tables: list[str], interleaved: bool) -> str:
    shape = writing.shape(x)
    half = shape[3] // 2
    cosine, sine = tables
    if interleaved:
        pairs = writing.reshape(x, *shape[:3], half, 2)
        first, second = (writing.reshape(part, *shape[:3], half) for part in writing.split(pairs, [1, 1], 4))
    else:
        first, second = writing.split(x, [half, half], 3)
    real = writing.op("Sub", writing.op("Mul", first, cosine), writing.op("Mul", second, sine))
    imaginary = writing.op("Add", writing.op("Mul", second, cosine), writing.op("Mul", first, sine))
    if not interleaved:
        return writing.op("Concat", real, imaginary, axis=3)
    rows = [writing.reshape(part, *shape[:3], half, 1) for part in (real, imaginary)]
    return writing.reshape(writing.op("Concat", *rows, axis=4), *shape)
