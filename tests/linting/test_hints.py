"""The tables that are shown beside what deploycc compiles itself, and the limits in them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import HintColumn
from deploycc.linting import lint
from deploycc.linting.limits import NEEDS, broken_limits, need
from deploycc.linting.table import EFFECTS, Condition, conditions
from deploycc.onnx_graph import GraphView
from deploycc.op_support import Limit, SupportTable, support_table
from tests.linting.cases import cases
from tests.linting.found import found, rows
from tests.linting.graphs import model, wrap

HINTS = ("armnn", "coreml", "ethosu", "nnapi", "xnnpack")
ROWS = rows(*HINTS)
IDS = [f"{condition.id}-{operator}" for _, condition, operator in ROWS]


@pytest.mark.parametrize(("engine", "condition", "operator"), ROWS, ids=IDS)
def test_condition_fires_and_is_silent(engine: str, condition: Condition, operator: str) -> None:
    fires, silent = cases(engine)[condition.id]
    first = found(engine, fires, condition, operator)[0]
    assert first.code == EFFECTS[condition.effect].code
    assert all((first.node, first.got, first.need, first.help, first.source))
    assert "?" not in first.got + first.need, "a fact in the message is not known"
    assert not found(engine, silent, condition, operator)


@pytest.mark.parametrize("engine", HINTS)
def test_table_is_whole(engine: str) -> None:
    known = support_table(engine)
    assert set(cases(engine)) == {condition.id for condition in conditions(engine)}
    assert len(set(cases(engine))) == len(known.conditions)
    assert not set(known.operators) & set(known.missing)
    standard = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated}
    assert standard <= set(known.operators) | set(known.missing)
    for condition in conditions(engine):
        assert condition.id.startswith(f"{engine}-")
        assert set(condition.operators) <= set(known.operators)
        assert re.fullmatch(r"[a-z0-9-]*", condition.fix)
    for row in (*known.operators.values(), *known.missing.values()):
        assert known.source(row.source)


@pytest.mark.parametrize(
    ("target", "hints"),
    [
        ("arm64", ("xnnpack", "nnapi", "armnn", "ethosu", "coreml")),
        ("rpi5", ("xnnpack", "nnapi", "armnn", "ethosu", "coreml")),
        ("android-arm64", ("xnnpack", "nnapi", "armnn", "ethosu")),
        ("armv7", ("xnnpack", "nnapi", "armnn", "ethosu")),
        ("x86-64", ()),
    ],
)
def test_targets_with_hints(target: str, hints: tuple[str, ...]) -> None:
    assert load_lint_target(target).hints == hints


NET = """
g (float[1,3,16,16] x, float[8,3,1,1] w, float[8,4] f) => (float[1,4] y)
    <int64[2] s = {1, 8}, float[4] z = {1, 1, 2, 2}, float hi = {1}, float lo = {0}> {
    a = Conv(x, w)
    b = Relu(a)
    c = Resize<coordinate_transformation_mode="half_pixel", mode="nearest">(b, , z)
    d = Clip(c, lo, hi)
    e = Mish(d)
    g = GlobalAveragePool(e)
    h = Reshape(g, s)
    i = Gemm<alpha=0.5>(h, f)
    y = Softmax(i)
}"""


def listing(column: HintColumn) -> str:
    lines = [
        f"{column.title}: {column.taken} of {column.nodes} nodes, {column.taken_macs} of {column.macs} MACs"
    ]
    return "\n".join([*lines, *(f"  {op} x{count}: {why}" for op, count, why in column.refused)])


def test_columns_of_a_net(golden: Callable[[str, str], None]) -> None:
    built = model(NET, 18).proto
    for name, shape in (("w", (8, 3, 1, 1)), ("f", (8, 4))):
        weights = np.random.default_rng().random(shape, np.float32)
        built.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    report = lint(wrap(built), load_lint_target("arm64"))
    golden("hints-arm64.txt", "\n".join(map(listing, report.hints)) + "\n")


def test_what_is_fused_needs_the_node_before_it() -> None:
    graph = """g (float[1,2,8,8] x) => (float[1,2,4,4] y) {{
        p = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode={}>(x) y = Relu(p) }}"""
    taken = []
    for ceil in (0, 1):
        report = lint(model(graph.format(ceil), 18), load_lint_target("arm64"))
        (column,) = [column for column in report.hints if column.engine == "xnnpack"]
        taken.append(column.taken)
    assert taken == [2, 0]
    assert ("Relu", 1, "what it would be fused into is not taken") in column.refused


def test_a_hint_is_no_finding() -> None:
    graph = "g (float[1,1,2,2,2] x) => (float[1,1,2,2,2] y) { y = Sigmoid(x) }"
    report = lint(model(graph, 18), load_lint_target("arm64"))
    assert not report.diagnostics
    assert {column.engine: column.taken for column in report.hints} == {
        "xnnpack": 0,
        "nnapi": 0,
        "armnn": 1,
        "ethosu": 0,
        "coreml": 1,
    }


QDQ = """g (int8[{x}] x) => (int8[{x}] y) <float{n} s = {{{v}}}, int8{n} z = {{{i}}}> {{
    f = DequantizeLinear(x, s, z) r = {op}(f) y = QuantizeLinear(r, s, z) }}"""


def qdq(op: str = "Relu", x: str = "1,2,4,4", scales: int = 1) -> str:
    size = f"[{scales}]" if scales > 1 else ""
    return QDQ.format(op=op, x=x, n=size, v=", ".join(["0.1"] * scales), i=", ".join(["0"] * scales))


def plain(x: str, op: str = "Relu", kind: str = "float") -> str:
    return f"g ({kind}[{x}] x) => ({kind}[{x}] y) {{ y = {op}(x) }}"


LIMITS: dict[str, tuple[object, tuple[str, int], tuple[str, int], str, str]] = {
    "opsets": (">=9,<=24", (plain("2"), 8), (plain("2"), 9), "opset 8", "a model of opset >=9,<=24"),
    "operator_versions": (
        "<=13",
        (plain("2"), 14),
        (plain("2", "Abs"), 14),
        "opset 14",
        "a form of opset <=13",
    ),
    "static_shapes": (True, (plain("n,2"), 18), (plain("1,2"), 18), "'x' of [?, 2]", "known before"),
    "max_rank": (4, (plain("1,1,1,1,2"), 18), (plain("1,1,1,2"), 18), "rank 5 of 'x'", "rank 4 or lower"),
    "max_extent": (65535, (plain("65536"), 18), (plain("65535"), 18), "'x' of [65536]", "65535 or less"),
    "max_elements": (8, (plain("3,3"), 18), (plain("2,4"), 18), "9 elements of 'x'", "8 elements or fewer"),
    "batch": (1, (plain("2,1,1,1"), 18), (plain("2,2"), 18), "batch 2 of 'x'", "batch 1"),
    "per_channel_operators": (["Conv"], (qdq(scales=2), 18), (qdq(), 18), "2 scales of 'f'", "only in Conv"),
    "quantised": (True, (plain("2"), 18), (qdq(), 18), "float32 in 'x'", "data between"),
    "dtypes": (["int8"], (plain("2"), 18), (qdq(), 18), "float32 in 'x'", "int8"),
}


def with_limits(limits: dict[str, object]) -> SupportTable:
    known = {name: Limit(value, "a data sheet") for name, value in limits.items()}
    return SupportTable("e", "E", "1", (), {}, {}, {}, {"": known}, ())


def broken(case: tuple[str, int], limits: dict[str, object]) -> list[tuple[str, str, Limit]]:
    view = GraphView(model(*case).proto)
    return [
        limit
        for node in view.model.graph.node
        if node.op_type not in ("DequantizeLinear", "QuantizeLinear")
        for limit in broken_limits(node, view, with_limits(limits), "")
    ]


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name: str) -> None:
    value, fires, silent, got, wanted = LIMITS[name]
    ((found_name, found_got, limit),) = broken(fires, {name: value})
    assert found_name == name
    assert got in found_got
    assert wanted in need(name, limit)
    assert not broken(silent, {name: value})


def test_every_limit_has_its_cases() -> None:
    assert set(LIMITS) == set(NEEDS)


def test_operators_without_a_batch() -> None:
    limits: dict[str, object] = {"batch": 1, "any_batch_operators": ["Softmax"]}
    assert broken((plain("2,1,1,1", "Sigmoid"), 18), limits)
    assert not broken((plain("2,1,1,1", "Softmax"), 18), limits)


def test_float_data_is_told_once() -> None:
    found = broken((plain("2"), 18), {"quantised": True, "dtypes": ["int8"]})
    assert [name for name, _, _ in found] == ["quantised"]


def test_an_activation_between_the_same_two_ends_is_quantised() -> None:
    graph = """g (int8[{0}] x) => (int8[{0}] y) <float s = {{0.1}}, int8 z = {{0}}> {{
        f = DequantizeLinear(x, s, z) n = Neg(f) r = Relu(n) {1} }}"""
    limits: dict[str, object] = {"quantised": True, "dtypes": ["int8"]}
    assert not broken((graph.format("2", "y = QuantizeLinear(r, s, z)"), 18), limits)
    open_end = graph.format("2", "a = Abs(r) y = QuantizeLinear(a, s, z)")
    assert [got for _, got, _ in broken((open_end, 18), limits)] == ["float32 in 'n'"]


def test_the_first_extent_of_weights_is_no_batch() -> None:
    graph = "g (float[2] x) => (float[2,1,1,1] y) <float[2,1,1,1] w = {1, 2}> { y = Neg(w) }"
    assert not broken((graph, 18), {"batch": 1})


def test_limits_of_the_tables_are_known_words() -> None:
    other = {"any_batch_operators", "fused_activations", "fused_only", "casts"}
    for engine in HINTS:
        assert set(support_table(engine).limits[""]) <= set(NEEDS) | other
