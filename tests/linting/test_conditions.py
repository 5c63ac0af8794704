"""Every condition of the support table fires where it should and stays silent where it should."""

from __future__ import annotations

import pytest

from deploycc.lint_targets import load_lint_target
from deploycc.linting import lint
from deploycc.linting.evaluation import UNKNOWN, NodeFacts, evaluate, holds
from deploycc.linting.language import ConditionError, parse
from deploycc.linting.table import EFFECTS, Condition, conditions
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic
from tests.linting.cases import CASES, text
from tests.linting.graphs import model

TARGET = load_lint_target("x86-64")

ROWS = [(condition, operator) for condition in conditions() for operator in condition.operators]
IDS = [f"{condition.id}-{operator}" for condition, operator in ROWS]


def findings(case: tuple[int, str], condition: Condition, operator: str) -> list[Diagnostic]:
    report = lint(model(text(case, operator), case[0]), TARGET)
    return [d for d in report.diagnostics if d.rule == condition.id]


@pytest.mark.parametrize(("condition", "operator"), ROWS, ids=IDS)
def test_fires_and_tells(condition: Condition, operator: str) -> None:
    found = findings(CASES[condition.id][0], condition, operator)
    assert found, "the condition does not fire"
    first = found[0]
    effect = EFFECTS[condition.effect]
    assert (first.code, first.verdict, first.severity) == (effect.code, effect.verdict, effect.severity)
    assert first.op == operator
    assert first.node
    assert first.message.startswith(operator)
    assert all((first.got, first.need, first.help, first.source))
    assert "?" not in first.got, "a fact in the message is not known"


@pytest.mark.parametrize(("condition", "operator"), ROWS, ids=IDS)
def test_silent(condition: Condition, operator: str) -> None:
    assert not findings(CASES[condition.id][1], condition, operator)


def test_every_condition_has_its_cases() -> None:
    assert set(CASES) == {condition.id for condition in conditions()}


def test_message_of_one() -> None:
    case = CASES["resize-fractional-scale"][0]
    found = lint(model(case[1], case[0]), TARGET).diagnostics
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
    built = model(graph, infer=False)
    return NodeFacts(built.proto.graph.node[0], GraphView(built.proto))


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
    ],
)
def test_language(expression: str, expected: object) -> None:
    assert evaluate(parse(expression), facts()) is expected
    assert holds(parse(expression), facts()) is (expected is True)


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
        ("1 + 2", "not a condition: 3"),
    ],
)
def test_does_not_evaluate(expression: str, says: str) -> None:
    with pytest.raises(ConditionError) as raised:
        holds(parse(expression), facts())
    assert says in str(raised.value)
