"""Tiny ONNX models written as text, with inferred shapes, as the lint stage gets them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, parser

from deploycc.onnx_graph import opset_of, tensor_info
from deploycc.types import Model


def model(
    text: str, opset: int = 18, infer: bool = True, weights: Mapping[str, tuple[int, ...]] | None = None
) -> Model:
    """``text`` is an ONNX graph in onnx's own text form; nodes get names, ``weights`` float32 ones."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "vendor": 1]>\n{text}')
    for name, shape in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return wrap(proto, infer)


def wrap(proto: ModelProto, infer: bool = True) -> Model:
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    if infer:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return Model(
        proto=proto,
        inputs=tuple(tensor_info(info) for info in proto.graph.input),
        outputs=tuple(tensor_info(info) for info in proto.graph.output),
        opset=opset_of(proto),
        sha256="",
    )
