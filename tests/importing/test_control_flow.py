"""Loops, branches, scans, sequences and optionals: one straight graph, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from deploycc.importing import load
from deploycc.importing.flattening import knowledge, walker
from deploycc.onnx_graph import Array, all_nodes, tensor_info
from deploycc.reference import compare, random_inputs, run
from deploycc.types import Model
from tests.importing.models import load_proto, refused, request, text

CONTROL = {"If", "Loop", "Scan", "SequenceMap", "Optional"}


def flat(folder: Path, proto: ModelProto, inputs: list[Array] | None = None) -> Model:
    """The loaded model: straight, and computing what ONNX Runtime computes of ``proto``."""
    model = load_proto(folder, proto)
    left = {node.op_type for node in all_nodes(model.proto.graph)}
    assert not left & CONTROL
    assert not any("Sequence" in op or "Optional" in op for op in left)
    infos = [tensor_info(info) for info in proto.graph.input]
    for fed in [inputs] if inputs else [random_inputs(infos, seed) for seed in (1, 2, 3)]:
        expected, engine = run(proto, fed)
        assert engine.startswith("onnxruntime")
        got, _ = run(model.proto, fed)
        for want, have in zip(expected, got, strict=True):
            assert want.shape == have.shape
            assert compare(want, have).ok
    return model


def names(model: Model) -> list[str]:
    return [node.name for node in model.proto.graph.node]


COUNTED = """g (float[3,5] x) => (float[5] y, float[4,3] seen) <int64 four = {4}, bool go = {1}> {
    first = Constant<value = float[5] {0.1, 0.2, 0.3, 0.4, 0.5}>()
    y, seen = Loop (four, go, first) <body = b (int64 i, bool c, float[5] s)
            => (bool d, float[5] t, float[3] r) {
        d = Identity(c)
        u = Tanh(x)
        r = MatMul(u, s)
        k = Cast<to=1>(i)
        m = ReduceMean<keepdims=0>(u)
        w = Add(s, k)
        t = Mul(w, m)
    }>
}"""


def test_counted_loop(tmp_path: Path) -> None:
    model = flat(tmp_path, text(COUNTED))
    made = names(model)
    assert "Loop_1/3/MatMul_4" in made
    assert not any("Loop_1/4/" in name for name in made)
    # What no trip changes is there once.
    assert sum(node.op_type == "Tanh" for node in model.proto.graph.node) == 1
    assert model.original is not None
    assert [n.op_type for n in model.original.graph.node] == [
        "Constant",
        "Loop",
    ]
    assert {"y", "seen"} <= {name for node in model.proto.graph.node for name in node.output}


def test_loop_that_counts_until_its_own_end(tmp_path: Path) -> None:
    proto = text(
        """g (float[4] x) => (float[4] y, int64 n) <int64 zero = {0}, bool go = {1}> {
        last, y = Loop ("", go, zero, x) <body = b (int64 i, bool c, int64 k, float[4] s)
                => (bool d, int64 l, float[4] t) {
            two = Constant<value_int = 2>() ten = Constant<value_int = 10>()
            l = Add(k, two) t = Neg(s) d = Less(l, ten) }>
        n = Identity(last)
    }""".replace('""', "none")
    )
    proto.graph.node[0].input[0] = ""
    model = flat(tmp_path, proto)
    assert sum(node.op_type == "Neg" for node in model.proto.graph.node) == 5


EARLY = """g (float[4] x, float limit) => (float[4] y, bool[4] f, int64 k)
        <int64 n = {6}, bool go = {1}, int64 z = {0}> {
    none = Constant<value = bool[4] {0, 0, 0, 0}>()
    y, f, k = Loop (n, go, x, none, z) <body = b (int64 i, bool c, float[4] s, bool[4] g, int64 m)
            => (bool d, float[4] t, bool[4] h, int64 l) {
        half = Constant<value_float = 0.5>() one = Constant<value_int = 1>()
        t = Mul(s, half)
        h = Greater(t, half)
        a = ReduceL1<keepdims=0>(t)
        d = Greater(a, limit)
        l = Add(m, one)
    }>
}"""


@pytest.mark.parametrize("limit", [0.0, 0.3, 1.1, 100.0])
def test_loop_that_ends_early(limit: float, tmp_path: Path) -> None:
    x = np.random.default_rng(int(limit * 10)).standard_normal(4).astype(np.float32)
    flat(tmp_path, text(EARLY), [x, np.array(limit, np.float32)])


BRANCHES = """g (float[2,3] x, bool c, bool[1] d) => (float[2,3] y, int64[2] n, bool[3] b) {
    t = Transpose(x)
    y, n, b = If (c) <
        then_branch = a () => (float[2,3] p, int64[2] q, bool[3] r) {
            p = Exp(x) q = Shape(x) s = ReduceMax<keepdims=0>(t) z = Greater(x, s)
            k = Constant<value = int64[1] {0}>() w = Cast<to=7>(z)
            v = ReduceMax<keepdims=0>(w, k) r = Cast<to=9>(v)
        },
        else_branch = e () => (float[2,3] p2, int64[2] q2, bool[3] r2) {
            p2 = If (d) <
                then_branch = a2 () => (float[2,3] i) { i = Neg(x) },
                else_branch = e2 () => (float[2,3] j) { j = Transpose(t) }
            >
            u = Shape(t)
            q2 = Identity(u)
            l = Constant<value = int64[1] {0}>() m = ReduceMean<keepdims=0>(x, l)
            o = Constant<value_float=0.0>()
            r2 = Greater(m, o)
        }
    >
}"""


def test_branches_that_only_a_run_decides(tmp_path: Path) -> None:
    proto = text(BRANCHES)
    x = np.random.default_rng(4).standard_normal((2, 3)).astype(np.float32)
    for first in (True, False):
        for second in (True, False):
            model = flat(tmp_path, proto, [x, np.array(first), np.array([second])])
    assert any(name.startswith("If_1/else/") for name in names(model))


def test_branch_decided_by_a_shape(tmp_path: Path) -> None:
    proto = text("""g (float[a,3] x) => (float[b,3] y) {
        s = Shape(x) z = Constant<value_int = 0>() e = Gather(s, z) four = Constant<value_int = 4>()
        c = Greater(e, four)
        y = If (c) <
            then_branch = a () => (float[n,3] p) { p = Concat<axis=0>(x, x) },
            else_branch = e () => (float[m,3] q) { q = Abs(x) }
        >
    }""")
    for extent, operator in ((4, "Abs"), (5, "Concat")):
        loaded = load_proto(tmp_path, proto, {"x": (extent, 3)})
        kinds = [node.op_type for node in loaded.proto.graph.node]
        assert operator in kinds
        assert "If" not in kinds
        assert "Where" not in kinds


def test_a_branch_that_cannot_run_with_these_shapes_is_left_out(tmp_path: Path) -> None:
    proto = text("""g (float[n] x, bool c) => (float[2] y) {
        s = Shape(x) k = ReduceSum<keepdims=1>(s) m = Expand(x2, k) v = Neg(m)
        y = If (c) <
            then_branch = a () => (float[2] p) {
                w = Constant<value = float[4] {1, 2, 3, 4}>() q = MatMul(v, w)
                t = Constant<value_ints=[2]>() p = Expand(q, t)
            },
            else_branch = e () => (float[2] r) {
                w2 = Constant<value = float[3,2] {1, 2, 3, 4, 5, 6}>()
                r = MatMul(x, w2)
            }
        >
    }""")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "x2"))
    model = load_proto(tmp_path, proto, {"x": (3,)})
    (told,) = model.diagnostics
    assert (told.code, told.node, told.severity) == ("DC463", "If_4", "warning")
    assert "MatMul" in told.got
    x = np.array([1.0, -2.0, 0.5], np.float32)
    for flag in (True, False):
        (have,), _ = run(model.proto, [x, np.array(flag)])
        np.testing.assert_allclose(have, x @ np.arange(1, 7, dtype=np.float32).reshape(3, 2))


SCAN = """g (float[4,3] s, float[2,5,3] x, float[5,2] z) => (float[4,3] f, float[4,2,5] a, float[5,3] b) {
    f, a, b = Scan <num_scan_inputs=2, scan_input_axes=[1,0], scan_input_directions=[0,1],
                    scan_output_axes=[-1,0], scan_output_directions=[1,0],
        body = g2 (float[4,3] t, float[2,3] u, float[2] v) => (float[4,3] w, float[4,2] p, float[3] q) {
            q = MatMul(v, u)
            w = Add(t, q)
            r = Transpose(u)
            p = MatMul(w, r)
        }> (s, x, z)
}"""


def test_scan_with_axes_and_directions(tmp_path: Path) -> None:
    model = flat(tmp_path, text(SCAN))
    assert sum(node.op_type == "Split" for node in model.proto.graph.node) == 2


def test_scan_and_loop_inside_a_loop(tmp_path: Path) -> None:
    flat(
        tmp_path,
        text("""g (float[2,3] x) => (float[3] y, float[3,2,2] all) <int64 n = {3}, bool go = {1}> {
        zero = Constant<value = float[3] {0, 0, 0}>()
        y, all = Loop (n, go, zero) <body = b (int64 i, bool c, float[3] s)
                => (bool d, float[3] t, float[2,2] o) {
            d = Identity(c)
            t, pieces = Scan<num_scan_inputs=1, body = g2 (float[3] h, float[3] e) => (float[3] k, float l) {
                k = Add(h, e) l = ReduceSum<keepdims=0>(k)
            }> (s, x)
            two = Constant<value_int = 2>() yes = Constant<value = bool {1}>()
            o = Loop (two, yes) <body = b2 (int64 j, bool p) => (bool q, float[2] r) {
                q = Identity(p) f = Cast<to=1>(j) v = Cast<to=1>(i) w = Add(f, v) r = Mul(pieces, w)
            }>
        }>
    }"""),
    )


SEQUENCES = """g (float[5,3] x, float[2,3] z)
        => (float[7,3] y, int64 n, float[2,3] first, float[3,3,2] st, float[3] one) {
    s = SplitToSequence<axis=0>(x, two)
    n = SequenceLength(s)
    last = Constant<value_int = -1>()
    tail = SequenceAt(s, last)
    at = Constant<value_int = 0>()
    t = SequenceInsert(s, z, at)
    first = SequenceAt(t, at)
    u = SequenceErase(t, last)
    v = SequenceInsert(u, tail)
    y = ConcatFromSequence<axis=0>(v)
    e = SequenceEmpty<dtype=1>()
    three = Constant<value_int = 3>() go = Constant<value = bool {1}>()
    w = Loop (three, go, e) <body = b (int64 i, bool c, seq(float[2,3]) q) => (bool d, seq(float[2,3]) r) {
        d = Identity(c) f = Cast<to=1>(i) g = Add(first, f) r = SequenceInsert(q, g)
    }>
    m = SequenceMap<body = b3 (float[2,3] k) => (float[3,2] l) { l = Transpose(k) }>(w)
    st = ConcatFromSequence<axis=1, new_axis=1>(m)
    rows = SplitToSequence<keepdims=0>(z)
    one = SequenceAt(rows, at)
}"""


def test_sequences(tmp_path: Path) -> None:
    proto = text(SEQUENCES)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(2, np.int64), "two"))
    flat(tmp_path, proto)


def test_tensor_of_a_sequence_by_a_position_of_the_run(tmp_path: Path) -> None:
    proto = text("""g (float[3] x, float[3] z, int64 i) => (float[3] y) {
        s = SequenceConstruct(x, z) y = SequenceAt(s, i) }""")
    for position in (0, 1, -1):
        inputs = random_inputs([tensor_info(info) for info in proto.graph.input[:2]], position + 7)
        flat(tmp_path, proto, [*inputs, np.array(position, np.int64)])


def test_optionals(tmp_path: Path) -> None:
    proto = text(
        """g (float[3] x) => (float[3] y, bool a, bool b) {
        o = Optional(x) a = OptionalHasElement(o)
        e = Optional<type = float[3]>() b = OptionalHasElement(e)
        y = If (b) <
            then_branch = t () => (float[3] p) { p = OptionalGetElement(e) },
            else_branch = f () => (float[3] q) { r = OptionalGetElement(o) q = Neg(r) }
        >
    }""".replace("<type = float[3]>", "")
    )
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [3])
    proto.graph.node[2].attribute.append(helper.make_attribute("type", kind))
    model = load_proto(tmp_path, proto)
    assert sorted(node.op_type for node in model.proto.graph.node) == ["Identity", "Identity", "Neg"]


def test_an_optional_input_is_always_there(tmp_path: Path) -> None:
    proto = text("""g (float[3] x) => (float[3] y, bool b) {
        b = OptionalHasElement(x) e = OptionalGetElement(x) y = Neg(e) }""")
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [3])
    proto.graph.input[0].type.CopyFrom(helper.make_optional_type_proto(inner))
    model = load_proto(tmp_path, proto)
    assert [(note.code, note.severity) for note in model.diagnostics] == [("DC130", "info")]
    x = np.array([1.0, -2.0, 3.0], np.float32)
    (y, there), _ = run(model.proto, [x])
    np.testing.assert_array_equal(y, -x)
    assert there.all()


def test_operators_of_old_opsets_in_a_body(tmp_path: Path) -> None:
    flat(
        tmp_path,
        text(
            """g (float[3,2] x) => (float[2] y, float[3,2] all) {
        zero = Constant<value = float[2] {0, 0}>()
        y, all = Scan<num_scan_inputs=1, body = b (float[2] s, float[2] e) => (float[2] t, float[2] o) {
            w = Unsqueeze<axes=[0]>(e) v = ReduceSum<axes=[0], keepdims=0>(w) t = Add(s, v)
            o = Clip<min=-0.5, max=9.0>(t)
        }>(zero, x)
    }""",
            opset=9,
        ),
    )


REFUSED = [
    (
        "DC461",
        "how often a loop runs is computed at run time",
        (
            "g (float[2] x, int64 n, bool c) => (float[2] y) { y = Loop (n, c, x) "
            "<body = b (int64 i, bool e, float[2] s) => (bool d, float[2] t) "
            "{ d = Identity(e) t = Neg(s) }> }"
        ),
    ),
    (
        "DC461",
        "a loop ends by a condition that is computed at run time",
        (
            "g (float[2] x) => (float[2] y, float[k,2] z) <int64 n = {3}, bool c = {1}> { "
            "y, z = Loop (n, c, x) "
            "<body = b (int64 i, bool e, float[2] s) => (bool d, float[2] t, float[2] u) { "
            "t = Neg(s) u = Abs(s) "
            "m = ReduceMax<keepdims=0>(t) q = Constant<value_float=0.0>() d = Greater(m, q) }> }"
        ),
    ),
    (
        "DC461",
        "the size of a result of If is decided at run time",
        (
            "g (float[2] x, bool c) => (float[k] y) { y = If (c) <then_branch = a () => (float[2] p) "
            "{ p = Neg(x) }, else_branch = b () => (float[4] q) { q = Concat<axis=0>(x, x) }> }"
        ),
    ),
    (
        "DC461",
        "If decides at run time whether random numbers are drawn",
        (
            "g (float[2] x, bool c) => (float[2] y) { y = If (c) <then_branch = a () => (float[2] p) "
            "{ p = Neg(x) }, else_branch = b () => (float[2] q) { q = RandomNormalLike(x) }> }"
        ),
    ),
    (
        "DC461",
        "If decides at run time whether integers are divided",
        (
            "g (int64[2] x, int64[2] z, bool c) => (int64[2] y) { y = If (c) "
            "<then_branch = a () => (int64[2] p) { p = Neg(x) }, "
            "else_branch = b () => (int64[2] q) { q = Div(x, z) }> }"
        ),
    ),
    (
        "DC464",
        "the make-up of a sequence is decided at run time",
        (
            "g (float[3] x, int64 i) => (float[6] y) { s = SequenceConstruct(x, x) "
            "t = SequenceInsert(s, x, i) "
            "u = SequenceErase(t) y = ConcatFromSequence<axis=0>(u) }"
        ),
    ),
    (
        "DC464",
        "which tensor is taken out of a sequence is decided at run time",
        (
            "g (float[3] x, float[2] z, int64 i) => (float[k] y) { s = SequenceConstruct(x, z) "
            "y = SequenceAt(s, i) }"
        ),
    ),
    (
        "DC464",
        "something is taken out of an empty sequence",
        (
            "g (float[3] x) => (float[3] y) { s = SequenceEmpty() t = SequenceErase(s) "
            "y = ConcatFromSequence<axis=0>(t) }"
        ),
    ),
]


@pytest.mark.parametrize(("code", "message", "graph"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_only_a_run_decides_is_refused(code: str, message: str, graph: str, tmp_path: Path) -> None:
    (found,) = refused(tmp_path, text(graph))
    assert (found.code, found.message) == (code, message)
    assert found.node
    assert found.op
    assert found.got
    assert found.need
    assert found.help


def test_all_that_is_refused_is_told_at_once(tmp_path: Path) -> None:
    body = "<body = b (int64 i, bool e, float[2] s) => (bool d, float[2] t) { d = Identity(e) t = Neg(s) }>"
    found = refused(
        tmp_path,
        text(f"""g (float[2] x, int64 n, bool c) => (float[2] y) {{
            a = Loop (n, c, x) {body} b = Neg(a) d = Loop (n, c, x) {body} y = Add(b, d) }}"""),
    )
    assert [diagnostic.node for diagnostic in found] == ["Loop_0", "Loop_4"]


def test_a_loop_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = COUNTED.replace("{4}", "{100}").replace("[4,3]", "[100,3]")
    monkeypatch.setattr(walker, "MAX_NODES", 200)
    (found,) = refused(tmp_path, text(long))
    assert (found.code, found.node, found.op) == ("DC462", "Loop_1", "Loop")
    assert "200 nodes" in found.got
    assert "Loop 'Loop_1'" in found.got


@pytest.mark.parametrize(
    "graph",
    [
        (
            "g (float[2000000000] x) => (float[2000000000] y) { s = SplitToSequence<axis=0>(x) "
            "y = ConcatFromSequence<axis=0>(s) }"
        ),
        (
            "g (float[2000000000] x) => (float[2000000000] y) { y = Scan<num_scan_inputs=1, "
            "body = b (float t) => (float u) { u = Neg(t) }>(x) }"
        ),
    ],
)
def test_parts_without_number(graph: str, tmp_path: Path) -> None:
    (found,) = refused(tmp_path, text(graph))
    assert found.code == "DC462"
    assert "2000000000 of them from" in found.got


def test_a_loop_that_counts_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walker, "MAX_STEPS", 3000)
    proto = text("""g (float[2] x) => (float[2] y) <int64 n = {9223372036854775807}, bool go = {1}> {
        y = Loop (n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) {
            d = Identity(c) t = Identity(s) }> }""")
    (found,) = refused(tmp_path, proto)
    assert found.code == "DC462"
    assert "3000 steps" in found.got


def test_bodies_nested_deeper_than_any_exporter_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["v"])], "g", [], [helper.make_tensor_value_info("v", 1, [2])]
    )
    for depth in range(20):
        plain = helper.make_graph(
            [helper.make_node("Abs", ["x"], [f"p{depth}"])],
            "p",
            [],
            [helper.make_tensor_value_info(f"p{depth}", 1, [2])],
        )
        node = helper.make_node("If", ["c"], [f"w{depth}"], then_branch=inner, else_branch=plain)
        info = helper.make_tensor_value_info(f"w{depth}", 1, [2])
        inner = helper.make_graph([node], f"g{depth}", [], [info])
    inner.input.extend(
        [helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    )
    proto = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    monkeypatch.setattr(walker, "MAX_DEPTH", 12)
    (found,) = refused(tmp_path, proto)
    assert found.code == "DC462"
    assert "more than 12" in found.got


MALFORMED = {
    "a loop without a body for its state": (
        "g (float[2] x) => (float[2] y) <int64 n = {2}, bool go = {1}> { "
        "y = Loop (n, go, x) <body = b (int64 i, bool c) => (bool d) { d = Identity(c) }> }"
    ),
    "a scan of more inputs than it has": (
        "g (float[2] x) => (float[2] y) { y = Scan<num_scan_inputs=3, "
        "body = b (float t) => (float u) { u = Neg(t) }>(x) }"
    ),
    "a map over a tensor": (
        "g (float[2] x) => (float[2] y) { s = SequenceMap<body = b (float[2] t) => (float[2] u) "
        "{ u = Neg(t) }>(x) y = ConcatFromSequence<axis=0>(s) }"
    ),
    "a scan along an axis that is not there": (
        "g (float[2] x) => (float[2] y) { y = Scan<num_scan_inputs=1, scan_input_axes=[4], "
        "body = b (float t) => (float u) { u = Neg(t) }>(x) }"
    ),
    "a sequence of one tensor read as a number": (
        "g (float[2] x) => (float[2] y) { s = SequenceConstruct(x) y = Neg(s) }"
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_does_not_fit_together_is_refused(name: str, tmp_path: Path) -> None:
    found = refused(tmp_path, text(MALFORMED[name]))
    assert {diagnostic.code for diagnostic in found} <= {"DC110", "DC206", "DC461", "DC464"}


def test_values_that_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "MAX_BYTES", 10_000)
    proto = text("""g (float[2] x) => (float[2] y, float[k] w) <int64 n = {100}, bool go = {1}> {
        one = Constant<value = float[1] {1}>()
        y, w = Loop (n, go, x, one) <body = b (int64 i, bool c, float[2] s, float[m] h)
                => (bool d, float[2] t, float[p] g) {
            d = Identity(c) t = Neg(s) g = Concat<axis=0>(h, h) }> }""")
    (found,) = refused(tmp_path, proto)
    assert found.code == "DC462"
    assert "10000 bytes" in found.got


def test_other_compilers_get_control_flow_as_it_is(tmp_path: Path) -> None:
    """Only ONNX Runtime's own operators are written out; what a branch reads from outside keeps its name."""
    proto = text(
        """g (float[2,3] x, bool c) => (float[2,3] y) {
        a = Neg(x) b = com.microsoft.Gelu(a) e = com.microsoft.QuickGelu(b)
        y = If (c) <
            then_branch = t () => (float[2,3] p) { p = Add(b, e) },
            else_branch = f () => (float[2,3] q) { q = Mul(b, a) }
        >
    }""",
        head=', "com.microsoft": 1',
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load(request(path), compiled=False)
    assert [node.op_type for node in model.proto.graph.node][-1] == "If"
    assert not any(node.domain for node in all_nodes(model.proto.graph))
    x = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)
    for flag in (True, False):
        (want,), _ = run(proto, [x, np.array(flag)])
        (have,), _ = run(model.proto, [x, np.array(flag)])
        assert compare(want, have).ok
