"""A model computed in double precision where its reference can: what single precision costs then shows."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

WITHOUT_DOUBLE = frozenset(
    [
        *("AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "GRU"),
        *("InstanceNormalization", "LSTM", "PRelu", "Resize", "RNN"),
    ]
)
"""Operators for which ONNX Runtime's CPU provider has no kernels in double precision; there are more, which
it tells one by one."""


def in_double(proto: ModelProto, without: Set[str]) -> ModelProto | None:
    """The model with every float32 tensor in float64, except around operators of the types ``without``.

    Those compute in float32 between two Casts.  Inputs and outputs keep their names.  ``None`` for a model
    with subgraphs.  Element types are read from ``proto``'s inferred types.
    """
    wide = ModelProto()
    wide.CopyFrom(proto)
    graph = wide.graph
    if any(
        a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for node in graph.node for a in node.attribute
    ):
        return None
    floats = _float_names(graph)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        _widen(tensor)
    nodes = list(graph.node)
    del graph.node[:]
    for number, node in enumerate(nodes):
        if node.op_type in without:
            graph.node.extend(_between_casts(node, floats, f"deploycc_narrow_{number}"))
            continue
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                single = attribute.name == "value_float"
                values = np.asarray(attribute.f if single else list(attribute.floats), np.float64)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
        graph.node.append(node)
    return wide


def _float_names(graph: GraphProto) -> set[str]:
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _between_casts(node: NodeProto, floats: Set[str], prefix: str) -> list[NodeProto]:
    before, after = [], []
    for place, name in enumerate(node.input):
        if name in floats:
            node.input[place] = f"{prefix}_in_{place}"
            before.append(helper.make_node("Cast", [name], [node.input[place]], to=TensorProto.FLOAT))
    for place, name in enumerate(node.output):
        if name in floats:
            node.output[place] = f"{prefix}_out_{place}"
            after.append(helper.make_node("Cast", [node.output[place]], [name], to=TensorProto.DOUBLE))
    return [*before, node, *after]
