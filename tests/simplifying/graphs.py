"""Tiny models as text, and a pass run on one with its result compared with ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, parser

from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import Array, infer_shapes, opset_of, tensor_info
from deploycc.reference import random_inputs, run
from deploycc.simplifying.passes import Pass
from deploycc.types import Model

_RNG = np.random.default_rng(3)


def floats(*shape: int) -> Array:
    """Drawn values."""
    return _RNG.standard_normal(shape).astype(np.float32)


def sizes(*values: int) -> Array:
    """A constant of extents or axes."""
    return np.array(values, np.int64)


def build(text: str, opset: int = 18, weights: dict[str, Array] | None = None) -> ModelProto:
    """A model from onnx's text form; ``weights`` become initializers."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    for name, value in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.checker.check_model(proto)
    return infer_shapes(proto)


def as_model(proto: ModelProto) -> Model:
    return Model(
        proto=proto,
        inputs=tuple(tensor_info(info) for info in proto.graph.input),
        outputs=tuple(tensor_info(info) for info in proto.graph.output),
        opset=opset_of(proto),
        sha256="",
    )


def operators(proto: ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in proto.graph.node))


def apply(one: Pass, proto: ModelProto) -> tuple[int, ModelProto]:
    editor = Editor(proto)
    count = one(editor)
    editor.refresh()
    return count, editor.write_back()


def assert_same(
    before: ModelProto, after: ModelProto, inputs: list[Array] | None = None, rtol: float = 1e-6
) -> None:
    """Both compute the same on ``inputs`` (random ones if not given) and pass the checker."""
    onnx.checker.check_model(after)
    fed = inputs or random_inputs([tensor_info(info) for info in before.graph.input], seed=7)
    expected, engine = run(before, fed)
    got, _ = run(after, fed)
    assert len(expected) == len(got)
    for want, have in zip(expected, got, strict=True):
        assert want.dtype == have.dtype, engine
        assert want.shape == have.shape
        exact, near = want.astype(np.float64), have.astype(np.float64)
        largest = float(np.max(np.abs(exact), initial=1.0, where=np.isfinite(exact)))
        np.testing.assert_allclose(near, exact, rtol=0, atol=rtol * largest)
