"""ONNX Runtime's own operators: written in standard ones, each form beside its own kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, parser

from deploycc.importing import contrib
from deploycc.onnx_graph import Array, tensor_info
from deploycc.reference import compare, random_inputs, run
from deploycc.types import Model
from tests.importing.contrib_cases import FORMS, Form
from tests.importing.models import load_proto, refused


def fed(form: Form, seed: int) -> list[Array]:
    """Random inputs, and the values that the form fixes."""
    infos = [tensor_info(info) for info in form.model().graph.input]
    given = dict(form.fed)
    return [
        np.array(given[info.name], value.dtype).reshape(value.shape) if info.name in given else value
        for info, value in zip(infos, random_inputs(infos, seed), strict=True)
    ]


def standard(model: Model) -> bool:
    """Whether nothing but standard operators is left, and no other domain is named."""
    return not any(node.domain for node in model.proto.graph.node) and all(
        not entry.domain for entry in model.proto.opset_import
    )


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_form_computes_what_the_kernel_does(form: Form, tmp_path: Path) -> None:
    proto = form.model()
    model = load_proto(tmp_path, proto)
    assert standard(model)
    inputs = fed(form, seed=11)
    expected, engine = run(proto, inputs)
    assert engine.startswith("onnxruntime")
    got, _ = run(model.proto, inputs)
    for want, have in zip(expected, got, strict=True):
        assert want.dtype == have.dtype
        assert want.shape == have.shape
        assert compare(want, have).ok
    assert model.original is not None
    assert [n.op_type for n in model.original.graph.node] == [n.op_type for n in proto.graph.node]


def test_every_operator_has_a_form() -> None:
    shown = {node.op_type for form in FORMS for node in form.model().graph.node}
    assert {name for _, name in contrib.HANDLERS} - shown == {"TransposeMatMul"}


REFUSED = [
    ('y = com.microsoft.FusedConv<activation="Softplus">(x, w)', "activation Softplus with 0 numbers"),
    ('y = com.microsoft.FusedConv<activation="Clip", activation_params=[1.0]>(x, w)', "Clip with 1 numbers"),
    ('y = com.microsoft.Gelu<approximate="tanh">(x)', "attributes approximate"),
    ("y, m = com.microsoft.SkipLayerNormalization(x, x, g)", "mean and deviation as outputs"),
    ("y = SimplifiedLayerNormalization<axis=1>(x, g)", "axis 1"),
    ("y, k = com.microsoft.MultiHeadAttention<num_heads=2>(x, x, x)", "present values alone"),
    ("y = com.microsoft.Attention<num_heads=2>(x, w)", "input 2 left out"),
    ("y = com.microsoft.MultiHeadAttention<num_heads=2>(x)", "packed into one tensor"),
]


@pytest.mark.parametrize(("node", "got"), REFUSED, ids=[row[1] for row in REFUSED])
def test_forms_that_are_not_understood_are_refused(node: str, got: str, tmp_path: Path) -> None:
    shape = "float[1,2,4]" if "FusedConv" not in node else "float[1,2,4,4]"
    graph = f"g ({shape} x, float[2,2,1,1] w, float[4] g) => ({shape} y) {{ {node} }}"
    proto = parser.parse_model(f'<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]> {graph}')
    (found,) = refused(tmp_path, proto)
    assert found.code == "DC405"
    assert got in found.got
    assert found.need
    assert found.help


def test_operators_of_that_domain_without_a_standard_form_are_refused(tmp_path: Path) -> None:
    graph = "g (float[2,2] x) => (float[2,2] y) { a = com.microsoft.Gelu(x) y = com.microsoft.Inverse(a) }"
    proto = parser.parse_model(f'<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]> {graph}')
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op) == ("DC140", "Inverse")


def test_shapes_that_do_not_fit_are_told_as_such(tmp_path: Path) -> None:
    graph = "g (float[2,a] x, float[3,4] w) => (float[b,c] y) { m = MatMul(x, w) y = com.microsoft.Gelu(m) }"
    proto = parser.parse_model(f'<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]> {graph}')
    found = refused(tmp_path, proto, {"x": (2, 5)})
    assert found[0].code == "DC206"
    assert found[0].op == "MatMul"


def optimised(proto: ModelProto, folder: Path) -> ModelProto:
    """The model as ONNX Runtime saves it after its extended optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def test_a_network_that_onnx_runtime_optimised(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    proto = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
    g (float[1,3,9,9] x, bool c) => (float[1,6] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) b = LeakyRelu<alpha=0.2>(a)
        d = Conv(b, w2, b2) e = Conv(b, w3, b2) f = Add(d, e) h = Relu(f)
        i = GlobalAveragePool(h) j = Flatten(i)
        k = If (c) <
            then_branch = t () => (float[1,8] p) { q = Gemm(j, w4, b4) p = Relu(q) },
            else_branch = o () => (float[1,8] r) { s = Gemm(j, w4, b4) r = Tanh(s) }
        >
        l = Div(k, root) m = Erf(l) n = Add(m, one) u = Mul(k, n) v = Mul(u, half)
        y = MatMul(v, w5)
    }""")
    shapes = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (8, 4, 1, 1), "w3": (8, 4, 1, 1), "b2": (8,)}
    shapes |= {"w4": (8, 8), "b4": (8,), "w5": (8, 6)}
    weights = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {name: np.array(n, np.float32) for name, n in (("root", 2**0.5), ("one", 1), ("half", 0.5))}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in weights.items())
    saved = optimised(proto, tmp_path)
    assert {"FusedConv", "Gelu"} <= {node.op_type for node in saved.graph.node}
    model = load_proto(tmp_path, saved)
    assert standard(model)
    for flag in (True, False):
        inputs = [generator.standard_normal((1, 3, 9, 9)).astype(np.float32), np.array(flag)]
        (want,), _ = run(proto, inputs)
        (have,), _ = run(model.proto, inputs)
        assert compare(want, have).ok
