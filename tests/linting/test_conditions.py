"""The language of conditions, and what is particular to the table of the compiled targets."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from deploycc.lint_targets import load_lint_target
from deploycc.linting import lint
from deploycc.linting.evaluation import UNKNOWN, NodeFacts, evaluate, holds
from deploycc.linting.language import ConditionError, parse
from deploycc.linting.table import check_conditions
from deploycc.onnx_graph import GraphView
from tests.linting.cases import CASES
from tests.linting.graphs import model

TARGET = load_lint_target("x86-64")


def test_message_of_one() -> None:
    case = CASES["resize-fractional-scale"][0]
    report = lint(model(case[1], case[0]), TARGET)
    found = [d for d in report.diagnostics if d.code == "DC401"]
    assert len(found) == 1
    assert found[0].message == (
        "Resize would compute something else: the ratio is computed again from the rounded output size, "
        "so every sample point moves"
    )
    assert found[0].got == "scales [1, 1, 1.5, 1.5] on [1, 1, 5, 4]"
    assert found[0].need == "scales that lead to whole numbers"


# ---- the language ----


def facts() -> NodeFacts:
    graph = "g (float[2,3] x, float[n] r) => (float[2,3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w, r) }"
    return facts_of(graph, 0)


def facts_of(graph: str, index: int) -> NodeFacts:
    built = model(graph, infer=False)
    return NodeFacts(built.proto.graph.node[index], GraphView(built.proto))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3 == 9", True),
        ("-2 + 3 == 1", True),
        ("7 % 4 == 3 and 6 / 4 == 1.5", True),
        ("not 1 == 2", True),
        ("1 == 1 or 1 == 2 and false", True),
        ("2 in (1, 2)", True),
        ("2 not in (1, 2)", False),
        ("'a' == 'a'", True),
        ("(4, 5)[1] == 5", True),
        ("(4, 5)[-1] == 5", True),
        ("rank(input[0]) == 2", True),
        ("shape(input[0]) == (2, 3)", True),
        ("dim(input[0], -1) == 3", True),
        ("numel(input[0]) == 6", True),
        ("dtype(input[0]) == 'float32'", True),
        ("bits(input[0]) == 32", True),
        ("is_float(input[0]) and not is_int(input[0])", True),
        ("const(input[1]) and not const(input[0])", True),
        ("value(input[1]) == (1, 2, 3)", True),
        ("max(value(input[1])) == 3 and min(value(input[1])) == 1", True),
        ("len(value(input[1])) == 3", True),
        ("present(input[2]) and not present(input[3])", True),
        ("returned(output[0]) and used(input[0])", True),
        ("inputs == 3 and outputs == 1 and domain == ''", True),
        ("attr(missing) == absent and not given(missing)", True),
        ("fractional((1.5, 2), (3, 2))", True),
        ("fractional((1.5, 2), (4, 2))", False),
        ("dim(input[2], 0) == 1", UNKNOWN),
        ("value(input[0]) == 1", UNKNOWN),
        ("false and dim(input[2], 0) == 1", False),
        ("dim(input[2], 0) == 1 and false", False),
        ("dim(input[2], 0) == 1 or true", True),
        ("dim(input[2], 0) == 1 or false", UNKNOWN),
        ("not dim(input[2], 0) == 1", UNKNOWN),
        ("0 in shape(input[2])", UNKNOWN),
        ("value(input[1])[9] == 1", UNKNOWN),
        ("shape(input[2]) == (1,)", UNKNOWN),
        ("shape(input[2]) != (1, 2)", True),
        ("(1,) == (1,) and (1) == 1", True),
        ("fixed(input[0]) and not fixed(input[2])", True),
        ("fixed(input[0], 0, -1, 7)", True),
        ("not fixed(input[2], 0)", True),
        ("fixed(input[4])", UNKNOWN),
        ("default(attr(missing), (1, 1))[1] == 1", True),
        ("default(3, 4) == 3", True),
        ("same_padding((7, 8, 8), (3, 1, 2), (2, 4, 1)) == (2, -3, 1)", True),
        ("same_padding(shape(input[2]), (3,), (2,)) == (2,)", UNKNOWN),
        ("overlap((1, 2), (2, 3)) and not overlap((1,), (2,))", True),
        ("overlap(shape(input[2]), (2, 3))", UNKNOWN),
        ("stored(input[1]) and not stored(input[0])", True),
        ("quantised(input[0]) == 'float32'", True),
        ("quantised(input[4]) == 'int8'", UNKNOWN),
        ("(1, 2) == (1, 2, 3)", False),
        ("(shape(input[0]), 4) == ((2, 3), 4)", True),
        ("(4,)[0] == 4 and ('a',) == ('a',) and ('a',) != 'a'", True),
        ("(shape(input[2]), 1) == ((5, 5), 1)", False),
        ("slice(shape(input[0]), 1, 9) != slice(value(input[1]), 2, 3)", False),
        ("ceil(5 / 4) == 2 and ceil(4 / 4) == 1", True),
        ("above((1, 5), (2, 4))", True),
        ("above((1, 4), (2, 4))", False),
        ("above(shape(input[2]), shape(input[0]))", UNKNOWN),
        ("static(input[0]) and not static(input[2]) and not static(input[7])", True),
        ("dims(input, -1)[0] == 3 and len(dims(input, 0)) == 3", True),
        ("odd(slice(dims(input, 0), 0, 2), 2)", True),
        ("odd(dims(input, 0), 2)", UNKNOWN),
        ("matches('bij,bjk->bik', '(.)(.)(.),.*->(.).*')", True),
        ("matches('bij,bjk->bik', '(.)(.)(.)')", False),
        ("matches(attr(missing), '.*')", UNKNOWN),
        ("len(attr(missing)) == 1", UNKNOWN),
    ],
)
def test_language(expression: str, expected: object) -> None:
    assert evaluate(parse(expression), facts()) is expected
    assert holds(parse(expression), facts()) is (expected is True)


QUANTISED = """
g (int8[2] x, float[2] b) => (uint8[2] y) <float s = {0.1}, int8[2] w = {1, 2}, uint8 z = {0}> {
    f = DequantizeLinear(x, s) v = DequantizeLinear(w, s)
    n = Add(f, v) m = Add(n, b) y = QuantizeLinear(m, s, z)
}"""


@pytest.mark.parametrize(
    ("node", "expression"),
    [
        (2, "quantised(input[0]) == 'int8' and quantised(output[0]) == 'float32'"),
        (3, "quantised(output[0]) == 'uint8' and quantised(input[1]) == 'float32'"),
        (2, "stored(input[1]) and not const(input[1]) and not stored(input[0])"),
        (3, "not stored(input[1])"),
    ],
)
def test_language_sees_through_quantisation(node: int, expression: str) -> None:
    built = model(QUANTISED)
    assert holds(parse(expression), NodeFacts(built.proto.graph.node[node], GraphView(built.proto)))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("names(attr(body)) == ('r', 'u', 'w')", True),
        ("ranks(attr(body)) == (0, 1, 2)", True),
        ("shapes(attr(body)) == ((), (2,), (3, 1))", UNKNOWN),
        ("shapes(attr(body)) == ((), (4,), (3, 1))", False),
        ("slice(input_shapes(attr(body)), 1, 3) == ((), (2,))", True),
    ],
)
def test_language_of_graphs(expression: str, expected: object) -> None:
    graph = """g (float[2] x, bool c, int64 m, float[n,1] z) => (float[2] y, float[k,n,1] s) {
        y, s = Loop (m, c, x) <body = b (int64 i, bool q, float[2] v) => (bool r, float[2] u, float[n,1] w)
            { r = Identity(q) u = Neg(v) w = Abs(z) }> }"""
    built = model(graph, infer=False)
    assert (
        evaluate(parse(expression), NodeFacts(built.proto.graph.node[0], GraphView(built.proto))) is expected
    )


def test_texts_of_a_list_are_text() -> None:
    graph = 'g (float[3,1,2] x, float[1,2,2] w) => (float y) { y = RNN<activations=["Relu"]>(x, w, w) }'
    built = model(graph, infer=False)
    about = NodeFacts(built.proto.graph.node[0], GraphView(built.proto))
    assert holds(parse("attr(activations) == ('Relu',)"), about)


def test_open_extents_are_compared_place_by_place() -> None:
    open_shape = facts_of("g (float[n,3] x) => (float[n,3] y) { y = Relu(x) }", 0)
    assert evaluate(parse("shape(input[0]) == (2, 4)"), open_shape) is False
    assert evaluate(parse("shape(input[0]) != (2, 4)"), open_shape) is True
    assert evaluate(parse("shape(input[0]) == (2, 3)"), open_shape) is UNKNOWN
    assert evaluate(parse("shape(input[0]) != (2, 3)"), open_shape) is UNKNOWN


def test_the_node_before_a_tensor() -> None:
    graph = """g (uint8[2,3] q, float[3] s) => (float[2,3] y)
        { x = DequantizeLinear<axis=-1>(q, s) y = Relu(x) }"""
    behind, before = facts_of(graph, 1), facts_of(graph, 0)
    assert holds(parse("producer_attr(input[0], axis) == -1"), behind)
    assert holds(parse("numel(producer_input(input[0], 1)) == 3"), behind)
    assert holds(parse("dtype(producer_input(input[0], 0)) == 'uint8'"), behind)
    assert evaluate(parse("producer_attr(input[0], axis)"), before) is UNKNOWN
    assert evaluate(parse("producer_input(input[0], 0)"), before) is UNKNOWN


def test_texts_of_attributes() -> None:
    graph = 'g (float[2] x) => (float y) { y = LSTM<activations=["Sigmoid", "Tanh", "Tanh"]>(x) }'
    assert holds(parse("attr(activations) == ('Sigmoid', 'Tanh', 'Tanh')"), facts_of(graph, 0))


def test_long_texts_are_matched_with_no_pattern() -> None:
    graph = f'g (float[2] x) => (float y) {{ y = Einsum<equation="{"a" * 300}">(x) }}'
    assert evaluate(parse("matches(attr(equation), 'a*')"), facts_of(graph, 0)) is UNKNOWN


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("rank(", "the end where a value should be"),
        ("1 +", "the end where a value should be"),
        ("1 == 2)", "')' where the end should be"),
        ("a $ b", "cannot read '$ b'"),
        ("x not 3", "'3' where 'in' after 'not' should be"),
        ("(1, 2", "the end where ',' should be"),
        ("1 ** 2", "'*' where a value should be"),
        ("(" * 60, "nested too deep"),
    ],
)
def test_does_not_parse(expression: str, says: str) -> None:
    with pytest.raises(ConditionError) as raised:
        parse(expression)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("nosuch == 1", "no fact is called 'nosuch'"),
        ("nosuch(1)", "no function is called 'nosuch'"),
        ("attr('x') == 1", "takes the name of an attribute"),
        ("1 < 'a'", "1 < 'a'"),
        ("1 / 0 == 1", "division by zero"),
        ("3[0] == 1", "cannot index 3"),
        ("rank(3) == 1", "rank"),
        ("dims(1, 2) == 1", "takes a bare word"),
        ("dims(both, 2) == 1", "input or output, not of 'both'"),
        ("1 + 2", "not a condition: 3"),
    ],
)
def test_does_not_evaluate(expression: str, says: str) -> None:
    with pytest.raises(ConditionError) as raised:
        holds(parse(expression), facts())
    assert says in str(raised.value)


def test_values_that_a_condition_cannot_reckon_with_are_a_refusal() -> None:
    """Scales with a list for each dimension: the fault is the model's, whatever the tables say of numbers."""
    scales = numpy_helper.from_array(np.ones((4, 2), np.float32), "s")
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "s"], ["y"], name="r", mode="linear")],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", 1, None)],
        [scales],
    )
    view = GraphView(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    found = [d for d in check_conditions(view, load_lint_target("x86-64"), "tvm") if d.code == "DC402"]
    (told,) = [d for d in found if d.rule == "resize-fractional-scale"]
    assert told.node == "r"
    assert told.got == "fractional: must be real number, not tuple"
