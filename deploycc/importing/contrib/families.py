"""The operators that are understood, and the domain that they are read in."""

from __future__ import annotations

from onnx import ModelProto, helper

from deploycc.importing.contrib import activations, attention, normalising, products, rotary
from deploycc.importing.contrib.writing import DOMAIN
from deploycc.importing.flattening.walker import Handler, Operator
from deploycc.onnx_graph import all_nodes, opset_of

HANDLERS: dict[Operator, Handler] = {
    (DOMAIN, "Attention"): attention.attention,
    (DOMAIN, "BiasGelu"): activations.bias_gelu,
    (DOMAIN, "EmbedLayerNormalization"): normalising.embed_layer_norm,
    (DOMAIN, "FastGelu"): activations.fast_gelu,
    (DOMAIN, "FusedConv"): products.fused_conv,
    (DOMAIN, "FusedGemm"): products.fused_gemm,
    (DOMAIN, "FusedMatMul"): products.fused_matmul,
    (DOMAIN, "Gelu"): activations.gelu,
    (DOMAIN, "LayerNormalization"): normalising.layer_norm,
    (DOMAIN, "MultiHeadAttention"): attention.multi_head_attention,
    (DOMAIN, "QuickGelu"): activations.quick_gelu,
    (DOMAIN, "RotaryEmbedding"): rotary.rotary_embedding,
    (DOMAIN, "SimplifiedLayerNormalization"): normalising.simplified_layer_norm,
    (DOMAIN, "SkipLayerNormalization"): normalising.skip_layer_norm,
    (DOMAIN, "SkipSimplifiedLayerNormalization"): normalising.skip_simplified,
    (DOMAIN, "TransposeMatMul"): products.fused_matmul,
}
"""ONNX Runtime's own operators, as its optimiser writes them."""

_SINCE = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1 << 30}
"""ONNX Runtime put these into the standard domain before, or without, the standard having them."""


def own_domain(proto: ModelProto) -> bool:
    """Give what ONNX Runtime put into the standard domain to its own one, in place; whether there was any."""
    opset = opset_of(proto)
    found = False
    for node in all_nodes(proto.graph):
        if not node.domain and opset < _SINCE.get(node.op_type, 0):
            node.domain = DOMAIN
            found = True
        if node.domain == DOMAIN:
            # Some of ONNX Runtime's kernels end the process at an input that is named and left out.
            while node.input and not node.input[-1]:
                del node.input[-1]
    if found and all(entry.domain != DOMAIN for entry in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return found


def standard_domain(proto: ModelProto) -> ModelProto:
    """The model as ONNX Runtime reads it: a copy with ``own_domain`` undone."""
    copied = ModelProto()
    copied.CopyFrom(proto)
    for node in all_nodes(copied.graph):
        if node.domain == DOMAIN and node.op_type in _SINCE:
            node.domain = ""
    return copied
