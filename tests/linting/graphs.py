"""Tiny ONNX models written as text, with inferred shapes, as the lint stage gets them."""

from __future__ import annotations

import onnx
from onnx import ModelProto, parser

from deploycc.onnx_graph import opset_of, tensor_info
from deploycc.types import Model


def model(text: str, opset: int = 18, infer: bool = True) -> Model:
    """``text`` is an ONNX graph in onnx's own text form; nodes get names."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "vendor": 1]>\n{text}')
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
