"""Models of ONNX Runtime's own operators, one form a case, in onnx's text form."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, parser


@dataclass(frozen=True)
class Form:
    """One node: ``text`` is a graph in onnx's text form, ``fed`` gives integer inputs their values."""

    name: str
    text: str
    opset: int = 17
    fed: tuple[tuple[str, tuple[object, ...]], ...] = ()

    def model(self) -> ModelProto:
        """The model; what its text calls ``none`` is left out."""
        head = f'<ir_version: 9, opset_import: ["": {self.opset}, "com.microsoft": 1]>\n'
        model = parser.parse_model(head + self.text)
        for node in model.graph.node:
            for side in (node.input, node.output):
                side[:] = ["" if name == "none" else name for name in side]
        return model


FORMS = [
    Form("gelu", "g (float[2,7] x) => (float[2,7] y) { y = com.microsoft.Gelu(x) }"),
    Form("bias gelu", "g (float[2,7] x, float[7] b) => (float[2,7] y) { y = com.microsoft.BiasGelu(x, b) }"),
    Form("fast gelu", "g (float[2,7] x) => (float[2,7] y) { y = com.microsoft.FastGelu(x) }"),
    Form(
        "fast gelu with bias",
        "g (float[2,7] x, float[7] b) => (float[2,7] y) { y = com.microsoft.FastGelu(x, b) }",
    ),
    Form("quick gelu", "g (float[2,7] x) => (float[2,7] y) { y = com.microsoft.QuickGelu<alpha=1.3>(x) }"),
    *(
        Form(
            f"conv {name or 'alone'}",
            "g (float[1,3,5,7] x, float[4,3,3,3] w, float[4] b) => (float[1,4,5,7] y) "
            f"{{ y = com.microsoft.FusedConv<pads=[1,1,1,1]{activation}>(x, w, b) }}",
        )
        for name, activation in (
            ("Relu", ', activation="Relu"'),
            ("Tanh", ', activation="Tanh"'),
            ("Sigmoid", ', activation="Sigmoid"'),
            ("LeakyRelu", ', activation="LeakyRelu", activation_params=[0.3]'),
            ("Clip", ', activation="Clip", activation_params=[-0.5, 0.5]'),
            ("HardSigmoid", ', activation="HardSigmoid", activation_params=[0.3, 0.4]'),
            ("", ""),
        )
    ),
    Form(
        "conv with sum",
        "g (float[1,3,5,7] x, float[4,3,1,1] w, float[4] b, float[1,4,5,7] z) => (float[1,4,5,7] y) "
        '{ y = com.microsoft.FusedConv<activation="Relu">(x, w, b, z) }',
    ),
    Form(
        "gemm relu",
        "g (float[3,5] a, float[7,5] b, float[7] c) => (float[3,7] y) "
        '{ y = com.microsoft.FusedGemm<activation="Relu", transB=1, alpha=0.5, beta=2.0>(a, b, c) }',
    ),
    Form(
        "gemm leaky",
        "g (float[5,3] a, float[5,7] b, float[7] c) => (float[3,7] y) "
        '{ y = com.microsoft.FusedGemm<activation="LeakyRelu", activation_alpha=0.3, transA=1>(a, b, c) }',
    ),
    Form(
        "matmul transposed",
        "g (float[2,5,3] a, float[2,7,5] b) => (float[2,3,7] y) "
        "{ y = com.microsoft.FusedMatMul<transA=1, transB=1, alpha=0.25>(a, b) }",
    ),
    Form(
        "matmul plain",
        "g (float[2,3,5] a, float[5,7] b) => (float[2,3,7] y) "
        "{ y = com.microsoft.FusedMatMul<alpha=3.0>(a, b) }",
    ),
    Form(
        "matmul batches moved",
        "g (float[3,2,5] a, float[7,2,5] b) => (float[2,3,7] y) "
        "{ y = com.microsoft.FusedMatMul<transBatchA=1, transBatchB=1, transB=1>(a, b) }",
    ),
    Form(
        "matmul batches moved and transposed",
        "g (float[5,2,3] a, float[5,2,7] b) => (float[2,3,7] y) "
        "{ y = com.microsoft.FusedMatMul<transBatchA=1, transA=1, transBatchB=1>(a, b) }",
    ),
    Form(
        "layer norm of old",
        "g (float[2,3,8] x, float[8] s, float[8] b) => (float[2,3,8] y) "
        "{ y = LayerNormalization<epsilon=0.1>(x, s, b) }",
        opset=13,
    ),
    Form(
        "simplified layer norm",
        "g (float[2,3,8] x, float[8] s) => (float[2,3,8] y) "
        "{ y = SimplifiedLayerNormalization<axis=-1, epsilon=0.1>(x, s) }",
    ),
    Form(
        "skip layer norm",
        "g (float[2,3,8] x, float[2,3,8] s, float[8] g, float[8] b, float[8] c) => "
        "(float[2,3,8] y, float[2,3,8] t) "
        "{ y, none, none, t = com.microsoft.SkipLayerNormalization<epsilon=0.1>(x, s, g, b, c) }",
    ),
    Form(
        "skip layer norm without bias, opset 13",
        "g (float[2,3,8] x, float[2,3,8] s, float[8] g) => (float[2,3,8] y) "
        "{ y = com.microsoft.SkipLayerNormalization(x, s, g) }",
        opset=13,
    ),
    Form(
        "skip simplified",
        "g (float[2,3,8] x, float[2,3,8] s, float[8] g, float[8] c) => (float[2,3,8] y) "
        "{ y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.1>(x, s, g, c) }",
    ),
    Form(
        "embed layer norm",
        "g (int32[2,3] ids, int32[2,3] seg, float[9,8] we, float[5,8] pe, float[2,8] se, float[8] s, "
        "float[8] b, int32[2,3] mask) => (float[2,3,8] y, int32[2] n) "
        "{ y, n = com.microsoft.EmbedLayerNormalization<epsilon=0.1>(ids, seg, we, pe, se, s, b, mask) }",
        fed=(("seg", (0, 1, 1, 1, 0, 0)), ("mask", (1, 1, 0, 1, 0, 0))),
    ),
    Form(
        "embed layer norm of words and positions, the sum as well",
        "g (int32[2,3] ids, float[9,8] we, float[5,8] pe, float[8] s, float[8] b, int32[2,3] at) => "
        "(float[2,3,8] y, int32[2] n, float[2,3,8] t) "
        "{ y, n, t = com.microsoft.EmbedLayerNormalization(ids, none, we, pe, none, s, b, none, at) }",
    ),
    *(
        Form(
            f"rotary {name}",
            f"g ({x} x, {positions} at, float[9,{angles}] c, float[9,{angles}] s) => ({x} y) "
            f"{{ y = com.microsoft.RotaryEmbedding{attributes}(x, at, c, s) }}",
        )
        for name, x, positions, angles, attributes in (
            ("3d", "float[2,3,24]", "int64[2,3]", 4, ""),
            ("3d interleaved", "float[2,3,24]", "int64[2,3]", 4, "<interleaved=1>"),
            ("3d from a first position", "float[2,3,24]", "int64[1]", 4, ""),
            ("4d", "float[2,5,3,8]", "int64[2,3]", 4, ""),
            ("4d interleaved from a first", "float[2,5,3,8]", "int64[1]", 4, "<interleaved=1>"),
            ("partial", "float[2,3,24]", "int64[2,3]", 2, "<num_heads=3, rotary_embedding_dim=4>"),
            (
                "partial interleaved",
                "float[2,3,24]",
                "int64[2,3]",
                2,
                "<num_heads=3, rotary_embedding_dim=4, interleaved=1>",
            ),
        )
    ),
    *(
        Form(
            f"multi-head attention {name}",
            f"g (float[2,3,12] q, {inputs}) => (float[2,3,12] y{outputs}) "
            f"{{ y{', pk, pv' if outputs else ''} = com.microsoft.MultiHeadAttention"
            f"<num_heads=3{attributes}>(q, {names}) }}",
            fed=(("m", (1, 1, 0, 1, 0, 1, 1, 1, 1, 1)),) if "int32[2,5]" in inputs else (),
        )
        for name, inputs, names, attributes, outputs in (
            ("plain", "float[2,5,12] k, float[2,5,12] v", "k, v", "", ""),
            (
                "scaled, with bias",
                "float[2,5,12] k, float[2,5,12] v, float[36] b",
                "k, v, b",
                ", scale=0.7",
                "",
            ),
            ("masked", "float[2,5,12] k, float[2,5,12] v, int32[2,5] m", "k, v, none, m", "", ""),
            (
                "with its own mask value and a bias of scores",
                "float[2,5,12] k, float[2,5,12] v, int32[2,5] m, float[1,3,3,5] a",
                "k, v, none, m, a",
                ", mask_filter_value=-2.0",
                "",
            ),
            (
                "with a past",
                "float[2,3,12] k, float[2,3,12] v, float[2,3,2,4] op, float[2,3,2,4] ov",
                "k, v, none, none, none, op, ov",
                "",
                ", float[2,3,5,4] pk, float[2,3,5,4] pv",
            ),
            ("causal", "float[2,3,12] k, float[2,3,12] v", "k, v", ", unidirectional=1", ""),
            (
                "causal with a past",
                "float[2,3,12] k, float[2,3,12] v, float[2,3,2,4] op, float[2,3,2,4] ov",
                "k, v, none, none, none, op, ov",
                ", unidirectional=1",
                ", float[2,3,5,4] pk, float[2,3,5,4] pv",
            ),
            (
                "with presents and no past",
                "float[2,3,12] k, float[2,3,12] v",
                "k, v",
                ", unidirectional=1",
                ", float[2,3,3,4] pk, float[2,3,3,4] pv",
            ),
            ("of keys in heads", "float[2,3,5,4] k, float[2,3,5,4] v", "k, v", "", ""),
        )
    ),
    *(
        Form(
            f"attention {name}",
            f"g (float[2,3,7] x, float[7,36] w, float[36] b{inputs}) => (float[2,3,12] y{outputs}) "
            f"{{ y{', p' if outputs else ''} = "
            f"com.microsoft.Attention<num_heads=3{attributes}>(x, w, b{names}) }}",
            fed=fed,
        )
        for name, inputs, names, attributes, outputs, fed in (
            ("plain", "", "", "", "", ()),
            ("causal", "", "", ", unidirectional=1", "", ()),
            ("scaled", "", "", ", scale=0.3", "", ()),
            ("masked", ", int32[2,3] m", ", m", "", "", (("m", (1, 0, 1, 1, 1, 0)),)),
            ("with lengths", ", int32[2] m", ", m", "", "", (("m", (2, 3)),)),
            (
                "masked by queries",
                ", int32[2,3,3] m",
                ", m",
                ", mask_filter_value=-3.0",
                "",
                (("m", (1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0)),),
            ),
            ("with a past", ", float[2,2,3,4,4] o", ", none, o", "", ", float[2,2,3,7,4] p", ()),
            (
                "causal with a past",
                ", float[2,2,3,4,4] o",
                ", none, o",
                ", unidirectional=1",
                ", float[2,2,3,7,4] p",
                (),
            ),
            (
                "causal and masked",
                ", int32[2,3] m",
                ", m",
                ", unidirectional=1",
                "",
                (("m", (1, 0, 1, 1, 1, 0)),),
            ),
            ("with a bias of scores", ", float[2,3,3,3] a", ", none, none, a", "", "", ()),
        )
    ),
]
"""Every form that is understood."""
