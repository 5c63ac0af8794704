"""What single rules tell apart, beyond one firing and one silent model each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from deploycc.lint_targets import load_lint_target
from deploycc.linting.checking import rule_modules
from deploycc.linting.subject import Subject, subject
from deploycc.op_support import Limit, Missing, Operator
from deploycc.types import Diagnostic, Model
from tests.linting.graphs import model


def told(
    rule: str,
    text: str | Model,
    limits: dict[str, Any] | None = None,
    opset: int = 18,
    target: str = "snpe:htp",
) -> list[Diagnostic]:
    """What one rule says of a model for a target with these limits."""
    module = next(m for m in rule_modules() if m.__name__.endswith(f".{rule}"))
    built = model(text, opset) if isinstance(text, str) else text
    about = subject(built, load_lint_target(target))
    table = {name: Limit(value, "a source") for name, value in (limits or {}).items()}
    made = replace(about.table, limits={"": table}, operators={}, missing={})
    return alone(module, replace(about, table=made))


def alone(module: Any, about: Subject) -> list[Diagnostic]:
    """What the rule says, whatever conditions the target's table has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploycc.linting.refusals.check_conditions", lambda *_: iter(()))
        return list(module.check(about))


# ---- form ----


@pytest.mark.parametrize(
    ("text", "opset", "got"),
    [
        (
            """g (float[2,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3] y)
                { y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v) }""",
            15,
            "training_mode 1",
        ),
        (
            """g (float[2,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3] y, float[3] rm)
                { y, rm = BatchNormalization(x, s, b, m, v) }""",
            9,
            "new statistics are read ('rm')",
        ),
        (
            "g (float[2] x, bool t) => (float[2] y) <float r = {0.5}> { y = Dropout(x, r, t) }",
            13,
            "training mode decided while it runs ('t')",
        ),
        ("g (float[2] x) => (float[2] y) { y = Dropout(x) }", 7, ""),
        ("g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {0}> { y = Dropout(x, r, t) }", 13, ""),
    ],
)
def test_training_mode(text: str, opset: int, got: str) -> None:
    assert [d.got for d in told("training_mode", text, opset=opset)] == ([got] if got else [])


def test_transposes_that_simplifying_removes_are_only_told_of_the_file() -> None:
    original = model("g (float[2,3] x) => (float[2,3] y) { a = Transpose(x) y = Transpose(a) }")
    simplified = model("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }")
    both = replace(simplified, original=original.proto)
    (found,) = told("cancelling_transposes", both)
    assert (found.severity, found.node) == ("info", "Transpose_1")
    assert "simplifying removes the pair" in found.help
    assert told("cancelling_transposes", both, target="arm64") == []
    (left,) = told("cancelling_transposes", original, target="arm64")
    assert (left.severity, left.verdict) == ("warning", "slow")


def test_transposes_around_elementwise_operators_undo_each_other_too() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) {
        a = Transpose(x) b = Relu(a) c = Clip(b) y = Transpose(c) }"""
    (found,) = told("cancelling_transposes", text)
    assert (found.node, found.fix) == ("Transpose_3", "")


def test_a_transpose_that_something_else_reads_between_is_needed() -> None:
    text = (
        "g (float[2,3] x) => (float[2,3] y, float[3,2] b) { a = Transpose(x) b = Relu(a) y = Transpose(b) }"
    )
    assert told("cancelling_transposes", text) == []


@pytest.mark.parametrize(
    ("casts", "message", "fix"),
    [
        ((10, 1), "two casts in a row: the first one rounds", ""),
        ((11, 1), "two casts in a row could be one", "drop-cast-pairs"),
        ((11, 10), "two casts in a row could be one", ""),
        ((7, 1), "two casts in a row: the first one rounds", ""),
    ],
)
def test_casts_that_round(casts: tuple[int, int], message: str, fix: str) -> None:
    kind = "float16" if casts[1] == 10 else "float"
    text = f"g (float[2] x) => ({kind}[2] y) {{ a = Cast<to={casts[0]}>(x) y = Cast<to={casts[1]}>(a) }}"
    assert [(d.message, d.fix) for d in told("cast_pair", text)] == [(message, fix)]


def test_small_copies_are_not_told() -> None:
    built = model("g (float[4] x) => (float[4] y) { y = Relu(x) }", weights={"a": (16,), "b": (16,)})
    assert told("duplicate_weights", built) == []
    built = model("g (float[4] x) => (float[4] y) { y = Relu(x) }", weights={"a": (16, 64), "b": (64, 16)})
    assert told("duplicate_weights", built) == [], "another shape is another tensor"


# ---- shapes ----


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (
            """g (float[1,12,3,3] x) => (float[1,3,6,6] y)
                <int64[6] s = {1,3,2,2,3,3}, int64[4] t = {1,3,6,6}>
                { a = Reshape(x, s) b = Transpose<perm=[0,1,4,2,5,3]>(a) y = Reshape(b, t) }""",
            "pixel-shuffle-to-depth-to-space",
        ),
        (
            """g (float[1,4,3,3] x) => (float[1,4,3,3] y) <int64[5] s = {1,2,2,3,3}, int64[4] t = {1,4,3,3}>
                { a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t) }""",
            "channel-shuffle-to-gather",
        ),
        (
            """g (float[1,4,3,3] x) => (float[3,4,3,1] y) <int64[5] s = {1,2,2,3,3}, int64[4] t = {3,4,3,1}>
                { a = Reshape(x, s) b = Transpose<perm=[4,2,1,3,0]>(a) y = Reshape(b, t) }""",
            "",
        ),
    ],
)
def test_a_regrouping_of_high_rank_names_its_rewrite(text: str, fix: str) -> None:
    found = told("rank_limit", text, {"max_rank": 4})
    assert [d.op for d in found] == ["Reshape", "Transpose", "Reshape"]
    assert {d.fix for d in found} == {fix}


def test_a_unit_that_runs_floats_too_may_take_a_batch() -> None:
    text = "g (float[4,3,8,8] x) => (float[4,3,8,8] y) { y = Relu(x) }"
    (found,) = told("batch_size", text, {"batch": 1, "quantised": "either"})
    assert (found.severity, found.verdict) == ("warning", "info")
    assert told("batch_size", text, {"batch": 1, "any_batch_operators": ["Relu"]}) == []


def test_versions_of_operators_have_a_range_of_their_own() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Abs(x) y = Relu(a) }"
    found = told("opset_range", text, {"operator_versions": "<=13"})
    assert [(d.op, d.got) for d in found] == [("Relu", "Relu version 14")]


# ---- element types ----


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("g (float[2] x) => (float[2] y) <float e = {1e-12}> { y = Add(x, e) }", "1e-12 in 'e'"),
        ("g (float[2] x) => (float[2] y) <float[2] w = {1e-12, 1}> { y = Mul(x, w) }", ""),
        (
            "g (float[1,4] x, float[4] w) => (float[1,4] y) { y = LayerNormalization<epsilon=1e-9>(x, w) }",
            "1e-09 in 'epsilon'",
        ),
        ("g (float[1,4] x, float[4] w) => (float[1,4] y) { y = LayerNormalization(x, w) }", ""),
    ],
)
def test_what_becomes_nothing_in_float16(text: str, got: str) -> None:
    found = told("float16_range", text, {"float16_intermediates": True})
    assert [d.got for d in found] == ([got] if got else [])


def test_an_infinite_constant_was_meant() -> None:
    built = model("g (float[2] x) => (float[2] y) { y = Add(x, w) }", infer=False)
    built.proto.graph.initializer.append(numpy_helper.from_array(np.array([-np.inf, 0], np.float32), "w"))
    assert told("float16_range", built, {"float16_intermediates": True}) == []


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("c = Clip(x, lo, hi) y = Mul(c, c)", ""),
        ("c = Clip(x, lo, big) y = Mul(c, c)", "square, up to 1e+06"),
        ("s = Sigmoid(x) a = Add(s, s) y = Pow(a, two)", ""),
        ("y = Pow(x, two)", "power 2 of values without a bound"),
        ("y = Pow(x, half)", ""),
        ("n = Abs(x) m = Neg(n) y = Exp(m)", ""),
        ("t = Tanh(x) m = Mul(t, big) y = Exp(m)", "exp of values without a bound"),
    ],
)
def test_bounds_keep_results_in_float16(body: str, got: str) -> None:
    text = f"""g (float[1,4] x) => (float[1,4] y)
        <float lo = {{-200}}, float hi = {{200}}, float big = {{1000}},
         float two = {{2}}, float half = {{0.5}}>
        {{ {body} }}"""
    found = told("float16_overflow", text, {"float16_intermediates": True})
    assert [d.got for d in found] == ([got] if got else [])


def test_doubles_that_the_target_casts() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Cast<to=11>(x) b = Exp(a) y = Cast<to=1>(b) }"
    (found,) = told("double_precision", text, {"casts": {"float64": "float32"}})
    assert (found.message, found.source) == (
        "the network computes in float64, which becomes float32",
        "a source",
    )
    assert found.severity == "warning"


@pytest.mark.parametrize(("quantised", "count"), [("always", 1), (True, 1), ("either", 0), ("never", 0)])
def test_only_a_unit_of_integers_needs_calibration(quantised: object, count: int) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }"
    assert len(told("calibration_needed", text, {"quantised": quantised})) == count


# ---- operators ----

BLOCK = """g (float[1,8,32,32] x, float[8,8,3,3] w) => (float[1,8,32,32] y) {
    c = Conv<pads=[1,1,1,1]>(x, w) a = OP(c) p = GlobalAveragePool(a) d = Conv(p, v)
    g = OP(d) y = Mul(a, g) }"""


def test_a_small_unfused_activation_is_no_warning() -> None:
    built = model(BLOCK.replace("OP", "Sigmoid"), weights={"v": (8, 8, 1, 1)})
    found = told("unfused_activation", built, {"fused_activations": ["Relu"]})
    assert [(d.node, d.severity, d.verdict) for d in found] == [
        ("Sigmoid_1", "warning", "slow"),
        ("Sigmoid_4", "info", "info"),
    ]
    assert told("unfused_activation", built, {"fused_activations": ["Sigmoid"]}) == []


def test_channels_are_padded_in_each_group() -> None:
    text = "g (float[1,64,8,8] x, float[64,GROUP,3,3] w) => (float[1,64,6,6] y) { y = Conv<group=N>(x, w) }"
    eight = text.replace("GROUP", "8").replace("=N", "=8")
    (found,) = told("low_depth", eight, {"channel_multiple": 32})
    assert found.got.startswith("6 % of the arithmetic is of use: 64 to 64 channels in 8 groups")
    depthwise = text.replace("GROUP", "1").replace("=N", "=64")
    assert told("low_depth", depthwise, {"channel_multiple": 32}) == []


@pytest.mark.parametrize("weights", [{"w": (4096, 128)}, {"w": (128, 128)}])
def test_only_a_large_layer_behind_a_map_is_expensive(weights: dict[str, tuple[int, ...]]) -> None:
    outputs = weights["w"][0]
    text = f"g (float[1,128] x) => (float[1,{outputs}] y) {{ y = Gemm<transB=1>(x, w) }}"
    found = told("expensive_fully_connected", model(text, weights=weights))
    assert [d.fix for d in found] == ([""] if outputs == 4096 else [])


def test_upsampling_says_that_nothing_is_known() -> None:
    text = """g (float[1,2,4,4] x) => (float[1,2,7,7] y) <int64[4] s = {1, 2, 7, 7}>
        { y = Resize<mode="linear", coordinate_transformation_mode="half_pixel", antialias=1>(x, , , s) }"""
    built = model(text)
    module = next(m for m in rule_modules() if m.__name__.endswith(".upsampling_form"))
    about = subject(built, load_lint_target("arm64"))
    (found,) = list(module.check(about))
    assert "ConvTranspose" not in found.need, "no stride leads from 4 to 7"
    assert "linear half_pixel" in found.need
    nothing = replace(about, table=replace(about.table, operators={}))
    (found,) = list(module.check(nothing))
    assert found.message == "no form of upsampling is known that the target takes here"


def test_two_networks_and_post_processing_are_told_apart() -> None:
    text = """g (float[1,6,4] boxes, float[1,1,6] scores, float[2,2] w) => (float[n,2] y) {
        k = NonMaxSuppression(boxes, scores) f = Cast<to=1>(k) y = Slice(f, one, three, one) }"""
    (found,) = told("two_networks", text)
    assert (
        found.message == "NonMaxSuppression divides the model into a network and what follows its decisions"
    )
    assert found.need == "a network that ends at 'boxes', 'scores'"
    assert found.severity == "warning"


# ---- limits ----


def test_memory_names_the_file_that_says_how_much_there_is() -> None:
    built = model("g (float[1,64,64,64] x) => (float[1,64,64,64] y) { y = Relu(x) }")
    target = replace(load_lint_target("rpi4"), memory_bytes=3 << 20)
    module = next(m for m in rule_modules() if m.__name__.endswith(".activation_memory"))
    (found,) = list(module.check(subject(built, target)))
    assert (found.severity, found.verdict, found.node) == ("warning", "info", "Relu_0")
    assert found.source.startswith("Raspberry Pi 4 product brief")


def test_a_fast_network_is_not_told_what_it_waits_for() -> None:
    text = "g (float[1,64,64,64] x) => (float[1,64,64,64] y) { y = Relu(x) }"
    assert told("memory_bound", text, target="rpi4") == []
    assert told("time_share", text, target="rpi4") == []


def test_arithmetic_bounds_a_dense_layer() -> None:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 256, 128, 128])],
        [helper.make_tensor_value_info("y", 1, [1, 256, 128, 128])],
        [numpy_helper.from_array(np.zeros((256, 256, 3, 3), np.float32), "w")],
    )
    built = model("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert told("time_share", replace(built, proto=proto), target="rpi4") == []


def test_what_the_table_refuses_is_told_once() -> None:
    text = """g (float[1,4] x) => (float[1,4] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }"""
    about = subject(model(text), load_lint_target("snpe:htp"))
    module = next(m for m in rule_modules() if m.__name__.endswith(".training_mode"))
    lacking = replace(
        about, table=replace(about.table, operators={}, missing={"Dropout": Missing("leave it out")})
    )
    taking = replace(about, table=replace(about.table, operators={"Dropout": Operator(units=("htp",))}))
    assert alone(module, lacking) == []
    assert [d.verdict for d in alone(module, taking)] == ["silently-wrong"]


def test_boxes_that_the_network_found_have_no_number() -> None:
    text = """g (float[1,2,8,8] f, float[n,4] boxes, int64[n] batch) => (float[m,2,2,2] y) {
        y = RoiAlign<output_height=2, output_width=2>(f, boxes, batch) }"""
    (found,) = told("size_at_run_time", text, {"static_shapes": True})
    assert (found.got, found.op) == ("?x2x2x2", "RoiAlign")
    assert told("size_at_run_time", text.replace("[n", "[3"), {"static_shapes": True}) == []
