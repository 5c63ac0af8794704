"""Old opsets are lifted and functions replaced by their bodies; both compute what they computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper, version_converter

from deploycc.importing.opsets import COMMON_OPSET
from deploycc.onnx_graph import Array, tensor_info
from deploycc.op_support import converted_operators
from deploycc.reference import compare, random_inputs, run
from tests.importing.models import load_proto, names, refused, text


def same(folder: Path, proto: ModelProto, inputs: list[Array] | None = None) -> list[str]:
    """Operators of the loaded model, which computes what the original does."""
    model = load_proto(folder, proto)
    assert model.diagnostics == ()
    fed = inputs or random_inputs([tensor_info(info) for info in proto.graph.input], seed=5)
    expected, _ = run(proto, fed)
    got, _ = run(model.proto, fed)
    for want, have in zip(expected, got, strict=True):
        result = compare(want, have)
        assert result.ok, result.reason
    return names(model)


OLD = [
    ("softmax", 11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }"),
    ("logsoftmax", 12, "g (float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax(x) }"),
    ("hardmax", 11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax(x) }"),
    ("slice", 9, "g (float[4,5] x) => (float[2,3] y) { y = Slice<starts=[1,-4], ends=[3,-1]>(x) }"),
    ("squeeze", 12, "g (float[1,4,1] x) => (float[4] y) { y = Squeeze<axes=[0,2]>(x) }"),
    ("unsqueeze", 11, "g (float[4] x) => (float[1,4,1] y) { y = Unsqueeze<axes=[0,2]>(x) }"),
    ("reduce sum", 11, "g (float[2,3,4] x) => (float[2,1,4] y) { y = ReduceSum<axes=[1]>(x) }"),
    ("reduce mean", 13, "g (float[2,3,4] x) => (float[3] y) { y = ReduceMean<axes=[0,2], keepdims=0>(x) }"),
    ("split", 11, "g (float[6] x) => (float[2] a, float[4] b) { a, b = Split<split=[2,4]>(x) }"),
    ("split in equal parts", 13, "g (float[6] x) => (float[3] a, float[3] b) { a, b = Split(x) }"),
    ("clip", 6 + 1, "g (float[5] x) => (float[5] y) { y = Clip<min=-0.5, max=0.5>(x) }"),
    ("pad", 10, "g (float[2,3] x) => (float[4,4] y) { y = Pad<pads=[1,0,1,1], value=2.0>(x) }"),
    ("pad reflect", 10, 'g (float[3,3] x) => (float[5,4] y) { y = Pad<pads=[1,0,1,1], mode="reflect">(x) }'),
    ("dropout", 7, "g (float[5] x) => (float[5] y) { y = Dropout<ratio=0.3>(x) }"),
    ("topk", 9, "g (float[2,8] x) => (float[2,3] v, int64[2,3] i) { v, i = TopK<k=3>(x) }"),
    (
        "topk 10",
        10,
        "g (float[2,8] x) => (float[2,3] v, int64[2,3] i) <int64[1] k = {3}> { v, i = TopK(x, k) }",
    ),
    (
        "upsample 7",
        8,
        "g (float[1,1,4,4] x) => (float[1,1,8,8] y) { y = Upsample<scales=[1.0,1.0,2.0,2.0]>(x) }",
    ),
    (
        "upsample linear",
        8,
        (
            "g (float[1,1,4,4] x) => (float[1,1,8,8] y)"
            ' { y = Upsample<mode="linear", scales=[1.0,1.0,2.0,2.0]>(x) }'
        ),
    ),
    (
        "upsample 9",
        9,
        "g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }",
    ),
    (
        "resize 10 down",
        10,
        "g (float[1,1,6,9] x) => (float[1,1,3,3] y) <float[4] s = {1, 1, 0.5, 0.34}> { y = Resize(x, s) }",
    ),
    (
        "resize 10 linear",
        10,
        (
            "g (float[1,1,3,4] x) => (float[1,1,6,12] y) <float[4] s = {1, 1, 2, 3}>"
            ' { y = Resize<mode="linear">(x, s) }'
        ),
    ),
    ("hardmax of the last axis", 11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=2>(x) }"),
    ("hardmax of all", 7, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=0>(x) }"),
    (
        "resize 10",
        10,
        "g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, s) }",
    ),
    ("arg max", 11, "g (float[2,5] x) => (int64[2,1] y) { y = ArgMax<axis=1>(x) }"),
    ("gemm", 7, "g (float[2,3] x, float[3,4] w, float[4] b) => (float[2,4] y) { y = Gemm(x, w, b) }"),
    ("prelu", 7, "g (float[1,3,2,2] x, float[3,1,1] s) => (float[1,3,2,2] y) { y = PRelu(x, s) }"),
    ("cast", 8, "g (float[4] x) => (int32[4] y) { y = Cast<to=6>(x) }"),
    (
        "average pool",
        8,
        "g (float[1,1,4,4] x) => (float[1,1,2,2] y) { y = AveragePool<kernel_shape=[3,3]>(x) }",
    ),
    ("scatter", 10, "g (float[3] x, int64[2] i, float[2] u) => (float[3] y) { y = Scatter(x, i, u) }"),
    ("sum", 7, "g (float[3] a, float[3] b) => (float[3] y) { y = Sum(a, b) }"),
    ("flatten", 8, "g (float[2,3,4] x) => (float[2,12] y) { y = Flatten(x) }"),
    (
        "group of constants",
        11,
        "g (float[2,3] x) => (float[3,2] y) <int64[2] s = {3,-1}> { y = Reshape(x, s) }",
    ),
]


@pytest.mark.parametrize(("opset", "graph"), [row[1:] for row in OLD], ids=[row[0] for row in OLD])
def test_lifted(tmp_path: Path, opset: int, graph: str) -> None:
    proto = text(graph, opset)
    inputs = None
    if "ScatterElements" in graph or "Scatter(" in graph:
        inputs = [np.arange(3, dtype=np.float32), np.array([2, 0]), np.array([7, 8], np.float32)]
    same(tmp_path, proto, inputs)
    model = load_proto(tmp_path, proto)
    assert model.opset == COMMON_OPSET
    assert "Upsample" not in names(model)


def test_old_batch_norm_with_all_its_outputs(tmp_path: Path) -> None:
    graph = """g (float[1,2,3,3] x, float[2] s, float[2] v) => (float[1,2,3,3] y)
        { q = Abs(v) y = BatchNormalization(x, s, s, s, q) }"""
    assert same(tmp_path, text(graph, 7)) == ["Abs", "BatchNormalization"]


def test_newer_opsets_stay(tmp_path: Path) -> None:
    model = load_proto(tmp_path, text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 21))
    assert model.opset == 21


def test_a_lift_that_fails_leaves_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(proto: ModelProto, version: int) -> ModelProto:
        raise RuntimeError(f"no adapter to {version}")

    monkeypatch.setattr(version_converter, "convert_version", broken)
    model = load_proto(tmp_path, text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 11))
    assert model.opset == 11
    assert [(d.code, d.severity, d.got) for d in model.diagnostics] == [
        ("DC150", "warning", "no adapter to 18")
    ]
    assert model.diagnostics[0].message == (
        "the model could not be lifted from opset 11 to 18 and is used as it is"
    )


def test_a_lift_that_changes_the_result_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(proto: ModelProto, version: int) -> ModelProto:
        other = ModelProto()
        other.CopyFrom(proto)
        other.opset_import[0].version = version
        other.graph.node[0].op_type = "Neg"
        return other

    monkeypatch.setattr(version_converter, "convert_version", wrong)
    model = load_proto(tmp_path, text("g (float[2] x) => (float[2] y) { y = Relu(x) }", 11))
    assert names(model) == ["Relu"]
    assert model.diagnostics[0].code == "DC150"
    assert "computes something else: output 'y'" in model.diagnostics[0].got


# ---- functions ----

FUNCTIONS = [
    ("Celu", 18, "g (float[9] x) => (float[9] y) { y = Celu<alpha=0.7>(x) }"),
    ("Celu default", 18, "g (float[9] x) => (float[9] y) { y = Celu(x) }"),
    ("Swish", 24, "g (float[9] x) => (float[9] y) { y = Swish<alpha=1.5>(x) }"),
    ("Swish half", 24, "g (float16[9] x) => (float16[9] y) { y = Swish(x) }"),
    (
        "CenterCropPad",
        18,
        "g (float[5,4] x) => (float[3,7] y) <int64[2] s = {3, 7}> { y = CenterCropPad(x, s) }",
    ),
    (
        "CenterCropPad axes",
        18,
        "g (float[5,4,2] x) => (float[5,3,2] y) <int64[1] s = {3}> { y = CenterCropPad<axes=[1]>(x, s) }",
    ),
    ("HannWindow", 18, "g (float[8] x) => (float[8] y) <int64 n = {8}> { w = HannWindow(n) y = Mul(x, w) }"),
    (
        "HammingWindow",
        18,
        "g (float[8] x) => (float[8] y) <int64 n = {8}> { w = HammingWindow<periodic=0>(n) y = Mul(x, w) }",
    ),
    (
        "RotaryEmbedding",
        23,
        (
            "g (float[1,2,3,8] x, float[10,4] c, float[10,4] s, int64[1,3] p) => (float[1,2,3,8] y)"
            " { y = RotaryEmbedding(x, c, s, p) }"
        ),
    ),
    (
        "Attention",
        23,
        (
            "g (float[1,2,3,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,3,8] y)"
            " { y = Attention(q, k, v) }"
        ),
    ),
    (
        "NegativeLogLikelihoodLoss",
        18,
        "g (float[4,5] x, int64[4] t) => (float y) { y = NegativeLogLikelihoodLoss(x, t) }",
    ),
    ("two of one", 18, "g (float[9] x) => (float[9] y) { a = Celu(x) b = Celu<alpha=2.0>(a) y = Celu(b) }"),
]


@pytest.mark.parametrize(
    ("opset", "graph"), [row[1:] for row in FUNCTIONS], ids=[row[0] for row in FUNCTIONS]
)
def test_function_operators_become_their_bodies(tmp_path: Path, opset: int, graph: str) -> None:
    found = same(tmp_path, text(graph, opset))
    assert not set(found) - converted_operators() - {"Constant"}


def test_function_operators_with_a_converter_stay(tmp_path: Path) -> None:
    graph = "g (float[9] x) => (float[9] y) { a = Softplus(x) b = HardSwish(a) y = Gelu(b) }"
    assert same(tmp_path, text(graph, 20)) == ["Softplus", "HardSwish", "Gelu"]


def test_a_cast_like_is_a_cast_whatever_gives_the_type(tmp_path: Path) -> None:
    graph = "g (float16[2] x) => (float16[2] y) <float c = {0.5}> { d = CastLike(c, x) y = Mul(x, d) }"
    assert "CastLike" not in same(tmp_path, text(graph, 19))


def test_intermediate_names_of_bodies_do_not_clash(tmp_path: Path) -> None:
    model = load_proto(tmp_path, text("g (float[9] x) => (float[9] y) { a = Celu(x) y = Celu(a) }"))
    produced = [name for node in model.proto.graph.node for name in node.output]
    assert len(produced) == len(set(produced))
    assert len({node.name for node in model.proto.graph.node}) == len(model.proto.graph.node)


def local_function(opset: int = 18) -> ModelProto:
    proto = text("g (float[4] x) => (float[4] y) { a = lib.Twice<by=3.0>(x) y = Relu(a) }", head=', "lib": 1')
    body = [
        helper.make_node("Constant", [], ["k"]),
        helper.make_node("Mul", ["u", "k"], ["v"]),
    ]
    reference = body[0].attribute.add(name="value_float", ref_attr_name="by")
    reference.type = 1
    proto.functions.append(
        helper.make_function("lib", "Twice", ["u"], ["v"], body, [helper.make_opsetid("", opset)], ["by"])
    )
    return proto


def test_model_local_functions_are_inlined(tmp_path: Path) -> None:
    proto = local_function()
    assert same(tmp_path, proto) == ["Constant", "Mul", "Relu"]
    model = load_proto(tmp_path, proto)
    assert not model.proto.functions
    assert [entry.domain for entry in model.proto.opset_import] == [""]


def test_functions_that_cannot_be_inlined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploycc.importing import functions

    def broken(*_: object, **__: object) -> ModelProto:
        raise RuntimeError("version mismatch")

    monkeypatch.setattr(functions.inliner, "inline_local_functions", broken)
    found = refused(tmp_path, local_function())
    assert [(d.code, d.message, d.got) for d in found] == [
        ("DC143", "the functions inside the model cannot be inlined", "version mismatch")
    ]


def test_weights_survive_lifting(tmp_path: Path) -> None:
    proto = text("g (float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }", 9)
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    model = load_proto(tmp_path, proto)
    np.testing.assert_array_equal(numpy_helper.to_array(model.proto.graph.initializer[0]), weights)
