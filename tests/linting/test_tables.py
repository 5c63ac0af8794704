"""Every operator support table: its rows fire and stay silent where they say, and have their sources."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import onnx
import pytest
from onnx import TensorProto, helper

from deploycc.lint_targets import external, external_names, load_lint_target
from deploycc.lint_types import LintTarget
from deploycc.linting import lint
from deploycc.linting.table import EFFECTS, Condition, conditions
from deploycc.onnx_editor import Editor
from deploycc.op_support import ENGINE, Operator, engines, support_table, table, version_in
from deploycc.types import Diagnostic, Model
from tests.linting.cases import case_of, cases
from tests.linting.graphs import model, wrap

ENGINES = engines()
OTHERS = tuple(engine for engine in ENGINES if engine != ENGINE)
"""Tables of what deploycc does not compile itself: they name units, releases and the opsets of a list."""

ROWS = [
    pytest.param(engine, condition, operator, id=f"{condition.id}-{operator}")
    for engine in ENGINES
    for condition in conditions(engine)
    for operator in condition.operators
]
CONDITIONS = [
    pytest.param(engine, condition, id=condition.id)
    for engine in OTHERS
    for condition in conditions(engine)
    if condition.units or condition.versions
]
OPERATORS = [
    pytest.param(engine, name, id=f"{engine}-{name}")
    for engine in OTHERS
    for name in support_table(engine).operators
]
MISSING = [
    pytest.param(engine, name, id=f"{engine}-{name}")
    for engine in OTHERS
    for name in support_table(engine).missing
]


def target_of(engine: str, unit: str = "", version: str = "") -> LintTarget:
    """A target that the engine decides: of a family that has it, else one of the engine alone."""
    if engine == ENGINE:
        return load_lint_target("x86-64")
    for name in external_names():
        family = external(name)
        if family.engine == engine and (unit in family.units if unit else not family.unit):
            return load_lint_target(name + (f":{unit}" if unit else "") + (f"@{version}" if version else ""))
    return LintTarget(name=engine, family=engine, unit=unit, version=version, engine=engine)


def version_for(ranges: str, inside: bool) -> str:
    """A release in the ranges, or one outside; the newest (empty) where that will do."""
    named = re.findall(r"[\d.]+", ranges)
    return next(v for v in ("", *named, "0.1", "999") if version_in(v, ranges) is inside)


def about(engine: str, condition: Condition) -> LintTarget:
    """A target that the condition is about."""
    return target_of(engine, (condition.units or ("",))[0], version_for(condition.versions, inside=True))


def findings(
    engine: str, condition: Condition, operator: str, target: LintTarget, *, fires: bool
) -> list[Diagnostic]:
    """What the condition finds in its firing or its silent graph."""
    opset, graph = case_of(engine, condition.id, operator, fires=fires)
    report = lint(model(graph, opset), target)
    mine = [found for found in report.diagnostics if found.rule == condition.id]
    return [found for found in mine if operator in (found.op, "*")]


# ---- conditions ----


@pytest.mark.parametrize(("engine", "condition", "operator"), ROWS)
def test_fires_and_tells(engine: str, condition: Condition, operator: str) -> None:
    found = findings(engine, condition, operator, about(engine, condition), fires=True)
    assert found, "the condition does not fire"
    first = found[0]
    effect = EFFECTS[condition.effect]
    assert (first.code, first.verdict) == (effect.code, effect.verdict)
    assert first.severity == (condition.severity or effect.severity)
    assert first.node
    assert first.message.startswith(first.op)
    assert all((first.got, first.need, first.help, first.source))
    assert "?" not in first.got, "a fact in the message is not known"
    assert first.fix == condition.fix


@pytest.mark.parametrize(("engine", "condition", "operator"), ROWS)
def test_silent(engine: str, condition: Condition, operator: str) -> None:
    assert not findings(engine, condition, operator, about(engine, condition), fires=False)


@pytest.mark.parametrize(("engine", "condition"), CONDITIONS)
def test_about_its_units_and_releases_only(engine: str, condition: Condition) -> None:
    operator = condition.operators[0]
    version = version_for(condition.versions, inside=True)
    if condition.units:
        for unit in {"", *support_table(engine).units} - set(condition.units):
            assert not findings(engine, condition, operator, target_of(engine, unit, version), fires=True), (
                unit
            )
    if condition.versions:
        outside = version_for(condition.versions, inside=False)
        unit = (condition.units or ("",))[0]
        assert not findings(engine, condition, operator, target_of(engine, unit, outside), fires=True), (
            outside
        )


@pytest.mark.parametrize("engine", ["snpe", "qnn"])
def test_examples_are_whole_models(engine: str) -> None:
    """They are shown to people: what the checker refuses would be no example."""
    for condition in conditions(engine):
        for operator in condition.operators:
            for fires in (True, False):
                opset, graph = case_of(engine, condition.id, operator, fires=fires)
                onnx.checker.check_model(model(graph, opset).proto, full_check=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_condition_has_its_cases(engine: str) -> None:
    ids = [condition.id for condition in conditions(engine)]
    assert set(cases(engine)) == set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("engine", ENGINES)
def test_conditions_are_about_operators_and_units_of_the_table(engine: str) -> None:
    about_table = support_table(engine)
    for condition in conditions(engine):
        assert set(condition.operators) <= {*about_table.operators, "*"}, condition.id
        assert set(condition.units) <= set(about_table.units), condition.id
        assert condition.effect in EFFECTS, condition.id
        assert condition.severity in (None, "info", "warning", "error"), condition.id


def test_no_two_engines_share_a_condition() -> None:
    ids = [condition.id for engine in ENGINES for condition in conditions(engine)]
    assert sorted({name for name in ids if ids.count(name) > 1}) == []


# ---- operators ----


def alone(operator: str, version: int) -> Model:
    """A graph of the operator alone, with as many inputs as it has to have and no attributes."""
    schema = onnx.defs.get_schema(operator, version, "")
    names = [f"x{index}" for index in range(schema.min_input)]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(operator, names, ["y"])], "g", inputs, [output])
    return wrap(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)]), infer=False)


def told(
    engine: str, operator: str, version: int, unit: str, release: str
) -> dict[str, tuple[str, str, str, str]]:
    """Code, verdict, help and fix by rule, of the rules that read the rows of operators."""
    report = lint(alone(operator, version), target_of(engine, unit, release))
    rules = ("no-converter", "unit-lacks", "support-unknown", "operator-version")
    return {
        found.rule: (found.code, str(found.verdict), found.help, found.fix)
        for found in report.diagnostics
        if found.rule in rules
    }


def opset_for(operator: str, row: Operator) -> int:
    return max(row.opsets or (onnx.defs.get_schema(operator).since_version,))


@pytest.mark.parametrize(("engine", "operator"), OPERATORS)
def test_operator_is_taken_as_its_row_says(engine: str, operator: str) -> None:
    about_table = support_table(engine)
    row = about_table.operators[operator]
    opset = opset_for(operator, row)
    release = version_for(row.versions, inside=True)
    assert told(engine, operator, opset, "", release) == {}
    for unit in about_table.units:
        found = told(engine, operator, opset, unit, release)
        if unit in row.partly:
            assert found["unit-lacks"][:2] == ("DC413", "info"), unit
        elif unit in row.units:
            assert found == {}, unit
        else:
            fallback = about_table.elsewhere or target_of(engine, unit).fallback in row.units
            code, verdict, help_text, fix = found["unit-lacks"]
            assert (code, verdict) == ("DC416", "fallback" if fallback else "unsupported"), unit
            assert help_text.endswith(row.help)
            assert fix == row.fix
    if row.versions:
        older = told(engine, operator, opset, "", version_for(row.versions, inside=False))
        assert older["no-converter"] == refused(engine, row.help, row.fix)


@pytest.mark.parametrize(("engine", "operator"), MISSING)
def test_missing_operator_is_refused_with_a_way_out(engine: str, operator: str) -> None:
    row = support_table(engine).missing[operator]
    newest = onnx.defs.get_schema(operator).since_version
    assert row.help
    for unit in ("", *support_table(engine).units):
        found = told(engine, operator, newest, unit, "")
        assert found == {"no-converter": refused(engine, row.help, row.fix)}


def refused(engine: str, help_text: str, fix: str) -> tuple[str, str, str, str]:
    """What is told of an operator that the engine does not take: that it is, or that others run it."""
    if support_table(engine).elsewhere:
        return ("DC416", "fallback", help_text, fix)
    return ("DC400", "unsupported", help_text, fix)


@cache
def standard() -> dict[str, set[int]]:
    """The versions of every standard operator."""
    found: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, set()).add(schema.since_version)
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_operators_are_real(engine: str) -> None:
    about_table = support_table(engine)
    assert sorted({*about_table.operators, *about_table.missing} - set(standard())) == []
    assert sorted(set(about_table.operators) & set(about_table.missing)) == []


@pytest.mark.parametrize("engine", OTHERS)
def test_opsets_and_units_are_real(engine: str) -> None:
    about_table = support_table(engine)
    for name, row in about_table.operators.items():
        assert set(row.opsets) <= standard()[name], name
        assert {*row.units, *row.partly} <= set(about_table.units), name


# ---- sources and rewrites ----


def keys_used(engine: str) -> set[str]:
    about_table = support_table(engine)
    given = [row.source for row in (*about_table.operators.values(), *about_table.missing.values())]
    given += [row["source"] for row in about_table.conditions]
    for name, row in table(engine).get("limits", {}).items():
        inner = row.values() if name in about_table.units else [row]
        given += [limit["source"] for limit in inner]
    return {key.strip() for keys in given for key in keys.split(",") if key.strip()}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_source_is_there_and_used(engine: str) -> None:
    sources = support_table(engine).sources
    assert keys_used(engine) == set(sources)
    assert all(sources.values())


@pytest.mark.parametrize("engine", ["snpe", "qnn"])
def test_every_fact_has_a_source(engine: str) -> None:
    about_table = support_table(engine)
    rows = {**about_table.operators, **about_table.missing}
    assert [name for name, row in rows.items() if not row.source] == []
    assert [row["id"] for row in about_table.conditions if not row["source"]] == []


@pytest.mark.parametrize("engine", ["snpe", "qnn"])
def test_every_standard_operator_is_told_of(engine: str) -> None:
    """The converter's list and the provider's builders are whole: what they do not name they do not take."""
    assert sorted(name for name in standard() if not support_table(engine).knows(name)) == []


def test_every_fix_is_there_and_for_its_operators() -> None:
    fixing = pytest.importorskip("deploycc.fixing", reason="there are no rewrites yet")
    named = {
        (condition.fix, operator)
        for engine in ENGINES
        for condition in conditions(engine)
        for operator in condition.operators
    }
    for engine in ENGINES:
        about_table = support_table(engine)
        rows = {**about_table.operators, **about_table.missing}
        named |= {(row.fix, operator) for operator, row in rows.items()}
    fixes = fixing.fixes()
    assert sorted({name for name, _ in named if name} - set(fixes)) == []
    starts = {name: fix.operators for name, fix in fixes.items()}
    assert sorted((n, op) for n, op in named if n and not {op, "*"} & set(starts[n])) == []


FIXED = [
    pytest.param(engine, condition, operator, id=f"{condition.id}-{operator}")
    for engine in ("snpe", "qnn")
    for condition in conditions(engine)
    for operator in condition.operators
    if condition.fix
]


@pytest.mark.parametrize(("engine", "condition", "operator"), FIXED)
def test_fix_repairs_its_example(engine: str, condition: Condition, operator: str) -> None:
    """A rewrite that refuses the very form that a row is about would be an empty promise."""
    fixing = pytest.importorskip("deploycc.fixing", reason="there are no rewrites yet")
    opset, graph = case_of(engine, condition.id, operator, fires=True)
    built = model(graph, opset)
    editor = Editor(built.proto)
    node = next(node for node in editor.nodes if node.op_type == operator)
    assert fixing.fixes()[condition.fix].apply(editor, node)
    editor.refresh()
    left = replace(built, proto=editor.model, opset=editor.opset)
    report = lint(left, about(engine, condition))
    assert [found for found in report.diagnostics if found.rule == condition.id] == []


# ---- the two tables in particular ----


def test_release_notes_bound_what_older_converters_take() -> None:
    old = lint(alone("Sign", 13), load_lint_target("snpe:htp@2.5")).diagnostics
    new = lint(alone("Sign", 13), load_lint_target("snpe:htp@2.10")).diagnostics
    (finding,) = [found for found in old if found.rule == "no-converter"]
    assert (finding.got, finding.need) == ("Sign (opset 13), SNPE 2.5", "SNPE >=2.8")
    assert "Revision History" in finding.source
    assert not [found for found in new if found.rule == "no-converter"]


def test_what_the_provider_does_not_take_runs_elsewhere() -> None:
    report = lint(alone("Mish", 18), load_lint_target("qnn:htp"))
    (finding,) = [found for found in report.diagnostics if found.rule == "no-converter"]
    assert finding.message == (
        "operator Mish does not run on QNN execution provider: ONNX Runtime's own CPU provider takes it"
    )
    assert (finding.verdict, finding.severity, finding.fix) == ("fallback", "warning", "mish-to-tanh")


def test_sources_that_disagree_are_both_named() -> None:
    opset, graph = case_of("snpe", "snpe-roialign-htp", "RoiAlign", fires=True)
    report = lint(model(graph, opset), load_lint_target("snpe:htp"))
    (finding,) = [found for found in report.diagnostics if found.rule == "snpe-roialign-htp"]
    assert (finding.verdict, finding.severity) == ("info", "warning")
    assert "Supported Network Layers" in finding.source
    assert "roialign_op_builder.cc" in finding.source
    assert finding.got == "mode avg, sampling_ratio 0"


def test_limits_of_a_unit() -> None:
    snpe = support_table("snpe")
    read = {
        (unit, name): limit.value
        for unit in ("", *snpe.units)
        for name in (
            "input_rank",
            "max_rank",
            "channel_multiple",
            "image_extent",
            "input_channels",
            "quantised",
        )
        if (limit := snpe.limit(name, unit)) is not None
    }
    assert read[("", "input_rank")] == read[("aip", "input_rank")] == 4
    assert (read[("htp", "max_rank")], read[("htp", "channel_multiple")]) == (5, 32)
    assert ("gpu", "max_rank") not in read
    assert read[("gpu", "image_extent")] == 16384
    assert read[("aip", "input_channels")] == 16
    assert [read.get((unit, "quantised")) for unit in ("", "cpu", "gpu", "dsp", "htp", "aip")] == [
        None,
        "either",
        "never",
        "always",
        "either",
        "always",
    ]
