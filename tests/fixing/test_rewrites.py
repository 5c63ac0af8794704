"""Every rewrite computes what was computed before, on fresh inputs, and finds nothing to do a second time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto

from deploycc.fixing import Fix, fixes
from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import Array, checker_complaint, tensor_info
from deploycc.reference import compare, random_inputs
from tests.fixing.cases import CASES, Case
from tests.fixing.refusals import REFUSALS, REFUSES_BY_TYPE_ALONE, REFUSES_NEXT_TO_NOTHING

ALL = [(name, index) for name, cases in CASES.items() for index in range(len(cases))]
IDS = [f"{name}-{index}" for name, index in ALL]
EQUAL = 1e-5
"""Largest error of an exact rewrite as a share of the output's largest magnitude."""


def run(proto: ModelProto, inputs: list[Array]) -> list[Array]:
    """ONNX Runtime without optimisations: what is compared is what the graph says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    loadable = ModelProto()
    loadable.CopyFrom(proto)
    loadable.ir_version = min(loadable.ir_version, 10)
    session = ort.InferenceSession(loadable.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [info.name for info in proto.graph.input]
    return [np.asarray(value) for value in session.run(None, dict(zip(names, inputs, strict=True)))]


def feed(proto: ModelProto, case: Case) -> list[Array]:
    infos = [tensor_info(info) for info in proto.graph.input]
    hints = {info.name: case.range for info in infos if "int" in info.dtype}
    return random_inputs(infos, int(np.random.default_rng().integers(1 << 30)), hints)


def apply(fix: Fix, editor: Editor) -> int:
    """Apply to every node until nothing changes; how often it did."""
    changed = 0
    for _ in range(8):
        before = changed
        for node in list(editor.nodes):
            if fix.takes(node) and any(node is kept for kept in editor.nodes):
                changed += fix.apply(editor, node)
        editor.refresh()
        if changed == before:
            return changed
    raise AssertionError(f"{fix.name} finds something to do every time")


def error(expected: list[Array], got: list[Array]) -> float:
    """The largest error as a share of the largest magnitude; infinite for another shape or dtype."""
    shares = [0.0]
    for want, have in zip(expected, got, strict=True):
        result = compare(want, have)
        finite = np.abs(want.astype(np.float64))[np.isfinite(want.astype(np.float64))]
        scale = float(np.max(finite, initial=0.0))
        shares.append(result.max_abs_error / scale if scale else float(result.max_abs_error > 0))
    return max(shares)


@pytest.mark.parametrize(("name", "index"), ALL, ids=IDS)
def test_computes_the_same_and_is_silent_the_second_time(name: str, index: int) -> None:
    case, fix = CASES[name][index], fixes()[name]
    before = case.build()
    editor = Editor(before)
    assert apply(fix, editor) > 0, "it does not apply"
    after = editor.write_back()
    inputs = feed(before, case)
    assert error(run(before, inputs), run(after, inputs)) <= (
        fix.bound if fix.safety == "unsafe" else min(fix.bound, EQUAL)
    )
    again = Editor(after)
    assert apply(fix, again) == 0
    assert checker_complaint(after) == ""
    assert len({node.name for node in after.graph.node}) == len(after.graph.node), "two nodes have one name"


def test_every_rewrite_has_three_shapes() -> None:
    assert set(CASES) == set(fixes())
    for name, cases in CASES.items():
        shapes = {str(case.build().graph.input) for case in cases}
        assert len(shapes) >= 3, name


REFUSED = [(name, index) for name, cases in REFUSALS.items() for index in range(len(cases))]


@pytest.mark.parametrize(("name", "index"), REFUSED, ids=[f"{name}-{index}" for name, index in REFUSED])
def test_refuses(name: str, index: int) -> None:
    fix, before = fixes()[name], REFUSALS[name][index].build()
    editor = Editor(before)
    assert any(fix.takes(node) for node in editor.nodes), "the operator is not there"
    assert apply(fix, editor) == 0
    assert editor.write_back().graph == before.graph, "it refused and changed something"


def test_every_rewrite_that_refuses_something_is_tested_for_it() -> None:
    assert set(REFUSALS) | REFUSES_BY_TYPE_ALONE | REFUSES_NEXT_TO_NOTHING == set(fixes())


def test_every_rewrite_is_explained() -> None:
    for name, fix in fixes().items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name)
        assert all((fix.headline, fix.operators, fix.onnx, fix.pytorch, fix.effect)), name
        assert fix.refuses.startswith(("Refuses ", "The whole model")), name
        assert fix.bound <= EQUAL or fix.safety == "unsafe", name
    assert {name for name, fix in fixes().items() if fix.safety == "unsafe"} == {
        "qlinear-to-qdq",
        "where-to-mul",
    }


@pytest.mark.parametrize(
    ("graph", "weights"),
    [
        # Infinities, which products with a mask must not meet.
        ("g (float[6] x) => (float y) { y = ThresholdedRelu<alpha=0.5>(x) }", {}),
        ("g (float[6] x) => (float y) { y = Shrink<lambd=0.5, bias=0.25>(x) }", {}),
        ("g (float[6] x) => (float y) { y = Softplus(x) }", {}),
        ("g (float[6] x) => (float y) { y = Elu(x) }", {}),
        ("g (float[6] x) => (float y) { y = Celu<alpha=0.5>(x) }", {}),
        ("g (float[6] x) => (float y) { y = PRelu(x, s) }", {"s": np.array([0.5], np.float32)}),
    ],
)
def test_activations_hold_at_the_ends_of_their_range(graph: str, weights: dict[str, Array]) -> None:
    before = Case(graph, weights).build()
    editor = Editor(before)
    operator = before.graph.node[0].op_type
    fix = next(fix for fix in fixes().values() if fix.operators == (operator,))
    assert apply(fix, editor)
    inputs = [np.array([-np.inf, np.inf, -1e4, 1e4, 88.9, -88.9], np.float32)]
    assert error(run(before, inputs), run(editor.write_back(), inputs)) <= fix.bound


def test_tables_and_rules_name_rewrites_that_there_are() -> None:
    root = Path(__file__).resolve().parents[2]
    tables = [*(root / "targets" / "op_support").glob("*.toml")]
    rules = [*(root / "deploycc" / "linting" / "rules").glob("*.py")]
    assert tables
    assert rules
    for path in (*tables, *rules):
        named = set(re.findall(r"\bfix ?= ?\"([a-z0-9-]+)\"", path.read_text(encoding="utf-8")))
        assert named <= set(fixes()), path.name


FROM_THE_FIELD = {
    "rank above 4 or 5": "pixel-shuffle-to-depth-to-space channel-shuffle-to-gather batch-to-one-matmul",
    "activations that do not fuse": "hardswish-to-clip",
    "activations without a converter": "mish-to-tanh celu-to-relu selu-to-elu swish-to-sigmoid "
    "softsign-to-div shrink-to-mul softplus-to-log lp-normalization-to-reduce",
    "float16 activations": "elu-to-exp thresholded-relu-to-mul",
    "slopes computed at run time": "prelu-to-relu",
    "upsampling": "upsample-to-resize resize-opset10 resize-nearest-asymmetric-floor "
    "resize-nearest-to-deconv resize-nearest-to-depth-to-space resize-linear-to-deconv",
    "transposed convolutions": "deconv-output-shape-to-pads deconv-zero-stuff-dilation deconv-split-groups "
    "deconv-to-depth-to-space deconv-stride1-to-conv deconv-zero-insert",
    "convolutions": "conv-zero-stuff-dilation conv-split-groups conv-pads-to-pad focus-to-conv",
    "fully connected layers": "flatten-gemm-to-conv gemm-to-fully-connected",
    "pools": "maxpool-dilation-to-slices maxpool-ceil-to-pad",
    "regions": "roialign-to-gridsample",
    "indices and masks": "scatternd-to-concat onehot-to-equal where-to-mul topk1-to-argmax flip-to-gather",
    "recurrent layers": "lstm-unroll",
    "normalisations": "group-norm-to-instance-norm instance-norm-to-reduce layernorm-to-reduce "
    "softmax-last-axis batchnorm-to-mul-add batchnorm-fold reduce-l2-to-sqrt",
    "modes of DepthToSpace": "depth-to-space-crd-to-dcr",
    "products": "einsum-to-matmul pow-to-mul",
}
"""What networks from the field need rewritten; each of these was wanted by a target of the tables."""


def test_what_the_field_needs_is_there() -> None:
    wanted = {name for names in FROM_THE_FIELD.values() for name in names.split()}
    assert wanted <= set(fixes())
