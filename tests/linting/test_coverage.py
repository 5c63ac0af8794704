"""Coverage, original names, and what nodes cost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from onnx import numpy_helper, parser

from deploycc.importing.functions import inline_functions
from deploycc.importing.structure import name_nodes
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import Report
from deploycc.linting import costs, lint
from deploycc.linting.subject import subject
from deploycc.onnx_graph import GraphView, infer_shapes, opset_of, tensor_info
from deploycc.simplifying import simplify
from deploycc.types import Limits, Model, Peak
from tests.linting.graphs import model

ARM = load_lint_target("arm64")
HTP = load_lint_target("snpe:htp")


def imported(text: str, opset: int = 18, weights: dict[str, tuple[int, ...]] | None = None) -> Model:
    """As import and simplify leave it for a target that packages are built for, beside its original."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    generator = np.random.default_rng(0)
    for name, shape in (weights or {}).items():
        value = generator.standard_normal(shape, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    name_nodes(proto.graph)
    original = infer_shapes(proto)
    inlined = inline_functions(original)
    name_nodes(inlined.graph)
    inlined = infer_shapes(inlined)
    made = Model(
        inlined,
        tuple(tensor_info(info) for info in inlined.graph.input),
        tuple(tensor_info(info) for info in inlined.graph.output),
        opset_of(inlined),
        "",
        original=original,
    )
    return simplify(made, Limits())


def origins(made: Model) -> dict[str, str]:
    return subject(made, ARM).origins


def original_names(made: Model) -> set[str]:
    assert made.original is not None
    return {node.name for node in made.original.graph.node}


# ---- original names ----

GRAPHS: dict[str, tuple[str, int, dict[str, tuple[int, ...]]]] = {
    "inlined": ("g (float[1,4] x) => (float[1,4] y) { a = Swish(x) b = Relu(a) y = Celu(b) }", 24, {}),
    "activation": ("g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = HardSwish(a) y = Selu(b) }", 18, {}),
    "normalised": (
        "g (float[1,4,8] x) => (float[1,4,8] y) { a = Relu(x) b = LayerNormalization(a, w, v) y = Neg(b) }",
        18,
        {"w": (8,), "v": (8,)},
    ),
    "product with bias": (
        "g (float[2,3,4] x) => (float[2,3,5] y) { a = MatMul(x, w) b = Add(a, v) y = Softmax(b) }",
        18,
        {"w": (4, 5), "v": (5,)},
    ),
    "batch normalisation": (
        """g (float[1,2,6,6] x) => (float[1,3,4,4] y) { c = Conv(x, w)
            n = BatchNormalization(c, s, b, m, v) y = Relu(n) }""",
        18,
        {"w": (3, 2, 3, 3), "s": (3,), "b": (3,), "m": (3,), "v": (3,)},
    ),
    "recurrent": (
        """g (float[3,1,4] x) => (float[3,1,1,2] y)
            { a = Neg(x) h = LSTM<hidden_size=2>(a, w, r) y = Relu(h) }""",
        18,
        {"w": (1, 8, 4), "r": (1, 8, 2)},
    ),
    "lifted resize": (
        """g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {1, 1, 2, 2}>
            { a = Relu(x) y = Resize(a, s) }""",
        10,
        {},
    ),
}


@cache
def of(name: str) -> Model:
    return imported(*GRAPHS[name])


@pytest.mark.parametrize("name", GRAPHS)
def test_every_reported_node_is_one_of_the_original(name: str) -> None:
    made = of(name)
    report = lint(made, ARM)
    assert report.nodes
    assert {node.name for node in report.nodes} <= original_names(made)


def test_nodes_of_an_inlined_function_have_its_name() -> None:
    made = of("inlined")
    found = origins(made)
    assert not {"Swish", "Celu"} & {node.op_type for node in made.proto.graph.node}
    assert sum(origin == "Swish_0" for origin in found.values()) > 1, "the body has several nodes"
    assert set(found.values()) == {"Swish_0", "Relu_1", "Celu_2"}


def test_a_fused_product_has_the_name_of_the_one_with_its_weights() -> None:
    made = of("product with bias")
    found = origins(made)
    products = [node for node in made.proto.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert [found[node.name] for node in products] == ["MatMul_0"]


def test_a_name_used_again_for_another_operator_is_no_origin() -> None:
    original = model("g (float[2] x) => (float[2] y) { a = Mish(x) y = Relu(a) }").proto
    changed = model("g (float[2] x) => (float[2] y) { b = Exp(x) a = Tanh(b) y = Relu(a) }").proto
    changed.graph.node[0].name = "Relu_1"
    changed.graph.node[2].name = "Relu_9"
    made = replace(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), proto=changed, original=original)
    assert origins(made) == {"Relu_1": "Mish_0", "Tanh_1": "Mish_0", "Relu_9": "Relu_1"}


# ---- what runs, in how many parts ----


def htp(text: str, opset: int = 18) -> Report:
    return lint(model(text, opset), HTP)


def test_a_network_without_findings_runs_whole() -> None:
    found = lint(model("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }"), ARM).coverage
    assert found is not None
    assert (found.runs, found.parts, found.nodes, found.taken, found.unknown) == ("whole", 1, 1, 1, 0)


def test_a_refused_node_in_the_middle_makes_three_parts() -> None:
    report = htp("g (float[1,2] x) => (float[1,2] y) { a = Relu(x) b = Mish(a) y = Relu(b) }", 18)
    found = report.coverage
    assert found is not None
    assert (found.runs, found.parts) == ("parts", 3)
    assert (found.nodes, found.taken) == (3, 2)
    assert found.replace == (("Mish", 1),)
    assert [node.taken for node in report.nodes] == [True, False, True]
    assert (found.macs, found.taken_macs) == (6, 4)


def test_a_package_is_compiled_whole_or_not_at_all() -> None:
    found = lint(model("g (float[2,2] x) => (float[2,2] y) { a = Relu(x) y = Bernoulli(a) }"), ARM).coverage
    assert found is not None
    assert (found.runs, found.parts, found.taken) == ("not", 2, 1)


def test_an_error_without_a_node_stops_the_whole_network() -> None:
    built = model("g (float[1,64,64,64] x) => (float[1,64,64,64] y) { y = Relu(x) }")
    report = lint(built, replace(HTP, memory_bytes=1 << 20))
    assert [d.rule for d in report.diagnostics if d.severity == "error"] == ["activation-memory"]
    assert report.coverage is not None
    assert (report.coverage.runs, report.coverage.taken) == ("not", 1)


def test_a_package_needs_every_extent() -> None:
    built = model("g (float[n,2] x) => (float[n,2] y) { y = Relu(x) }")
    found = lint(built, ARM).coverage
    assert found is not None
    assert (found.runs, found.taken) == ("not", 1)


def test_a_refused_node_inside_a_branch_refuses_the_node_that_holds_it() -> None:
    text = """g (float[2,2] x, bool c) => (float y) {
        y = If (c) <
            then_branch = a () => (float t) { t = Mish(x) },
            else_branch = b () => (float e) { e = Mish(x) }
        >
    }"""
    report = lint(model(text, infer=False), HTP)
    assert {d.op for d in report.diagnostics if d.code == "DC400"} >= {"Mish"}
    assert [node.taken for node in report.nodes] == [False]
    assert report.coverage is not None
    assert report.coverage.runs == "not"


# ---- costs ----


def node_costs(text: str, opset: int = 18) -> tuple[list[int], list[int]]:
    view = GraphView(model(text, opset).proto)
    nodes = [node for node in view.model.graph.node if node.op_type != "Constant"]
    return [costs.macs(node, view) for node in nodes], [costs.bytes_moved(node, view) for node in nodes]


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        ("g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { y = Conv(x, w) }", 4 * 36 * 27),
        (
            "g (float[1,4,8,8] x, float[4,1,3,3] w) => (float[1,4,6,6] y) { y = Conv<group=4>(x, w) }",
            4 * 36 * 9,
        ),
        (
            """g (float[1,3,4,4] x, float[3,5,2,2] w) => (float[1,5,8,8] y)
                { y = ConvTranspose<strides=[2,2]>(x, w) }""",
            3 * 16 * 5 * 4,
        ),
        ("g (float[2,3,4] x, float[4,5] w) => (float[2,3,5] y) { y = MatMul(x, w) }", 2 * 3 * 4 * 5),
        ("g (float[4,2] x, float[5,4] w) => (float[2,5] y) { y = Gemm<transA=1, transB=1>(x, w) }", 40),
        (
            """g (float[1,2,8,8] x) => (float[1,2,4,4] y)
                { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }""",
            128,
        ),
        ("g (float[1,2,8,8] x) => (float[1,2,1,1] y) { y = GlobalAveragePool(x) }", 128),
        (
            """g (float[2,3,4] x, float[2,4,5] z) => (float[2,3,5] y)
                { y = Einsum<equation="bik,bkj->bij">(x, z) }""",
            120,
        ),
        (
            """g (float[3,1,4] x, float[1,8,4] w, float[1,8,2] r) => (float[3,1,1,2] y)
                { y = LSTM<hidden_size=2>(x, w, r) }""",
            3 * (8 * 4 + 8 * 2),
        ),
        ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", 0),
        ("g (float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape(x, s) }", 0),
        ("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }", 6),
    ],
)
def test_multiply_adds(text: str, macs: int) -> None:
    assert node_costs(text)[0] == [macs]


def test_a_linear_resize_reads_four_pixels_of_an_image() -> None:
    text = """g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {1, 1, 2, 2}>
        { y = Resize<mode="linear">(x, , s) }"""
    assert node_costs(text)[0] == [128 * 4]


def test_bytes_of_what_moves_and_what_does_not() -> None:
    text = """g (float[100,4] x) => (float[8] y) <int64[2] i = {3, 7}, int64[1] s = {8}>
        { a = Gather(x, i) y = Reshape(a, s) }"""
    # Two rows read and written, and two indices; the reshape is a name.
    assert node_costs(text)[1] == [2 * 32 + 16, 0]


def test_kept_tensors() -> None:
    text = """g (float[1,64,64] x, float[1,64,64] w) => (float[1,64,64] y) {
        a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) d = Transpose(c) y = Neg(d) }"""
    view = GraphView(model(text).proto)
    assert costs.kept_tensors(view, fuses=False, cache_bytes=0) == frozenset()
    assert costs.kept_tensors(view, fuses=True, cache_bytes=0) == {"a", "d"}
    assert costs.kept_tensors(view, fuses=False, cache_bytes=2 * 64 * 64 * 4) == {"a", "b", "c", "d"}


def test_seconds_are_the_larger_of_both() -> None:
    peak = Peak(flops=100.0, bytes_per_second=10.0)
    assert costs.seconds(500, 20, peak) == 10.0
    assert costs.seconds(50, 20, peak) == 2.0
    assert costs.seconds(50, 20, None) is None


def test_peak_of_activations_is_of_those_alive_at_once() -> None:
    text = """g (float[256] x) => (float[256] y) { a = Relu(x) b = Neg(a) c = Add(a, b) y = Abs(c) }"""
    # a, b and c while they are added.
    assert costs.peak_activations(GraphView(model(text).proto)) == 3 * 1024


def test_times_of_the_report_add_up() -> None:
    text = (
        "g (float[1,64,128,128] x) => (float[1,64,128,128] y) { a = Transpose<perm=[0,1,3,2]>(x) y = Exp(a) }"
    )
    report = lint(model(text), load_lint_target("rpi4"))
    assert report.coverage is not None
    times = [node.seconds for node in report.nodes]
    # The transpose is fused into nothing and its 4 MiB do not stay in the cache; exp reads registers.
    assert [round(1e6 * (time or 0)) for time in times] == [328, 328]
    assert report.coverage.seconds == pytest.approx(sum(time or 0 for time in times))
