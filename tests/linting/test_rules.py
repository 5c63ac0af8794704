"""Lint rules written in Python, the support table against the importer itself, and the stage as a whole."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from deploycc import linting
from deploycc.diagnostics import CATALOGUE
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import LintTarget
from deploycc.linting import lint
from deploycc.linting.checking import rule_modules, rule_name
from deploycc.linting.subject import subject
from deploycc.linting.table import EFFECTS, conditions
from deploycc.op_support import Limit, converted_operators, engines, support_table, table
from deploycc.rule_names import condition_ids, rule_files
from deploycc.types import DeployccError, Diagnostic
from tests.linting.graphs import model, wrap
from tests.linting.rule_cases import (
    BRANCH,
    LIMITS,
    MEMORY,
    ON,
    OPERATORS,
    RULE_CASES,
    WEIGHTS,
    Graph,
)

TARGET = load_lint_target("x86-64")


def target_of(name: str) -> LintTarget:
    target = load_lint_target(ON.get(name, "x86-64"))
    return replace(target, memory_bytes=MEMORY[name]) if name in MEMORY else target


def by_rule(name: str) -> Any:
    return next(module for module in rule_modules() if module.__name__.endswith(f".{name}"))


def findings(name: str, case: Graph, *, fires: bool) -> list[Diagnostic]:
    """What the rule says of the case, by itself where its test sets what the target's table says."""
    built = model(case[0], case[1], weights=WEIGHTS.get(name, {}) if fires else {})
    if name not in LIMITS and name not in OPERATORS:
        return [d for d in lint(built, target_of(name)).diagnostics if d.code == by_rule(name).CODE]
    about = subject(built, target_of(name))
    limits = {limit: Limit(value, "a source") for limit, value in LIMITS.get(name, {}).items()}
    table = replace(about.table, limits={"": limits}, operators=OPERATORS.get(name, about.table.operators))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploycc.linting.refusals.check_conditions", lambda *_: iter(()))
        found = list(by_rule(name).check(replace(about, table=table)))
    assert not list(by_rule(name).check(replace(about, table=replace(table, limits={})))) or name in OPERATORS
    return [replace(d, rule=rule_name(by_rule(name)), source=d.source or "a source") for d in found]


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule_fires(name: str) -> None:
    firing, _, wanted = RULE_CASES[name]
    found = findings(name, firing, fires=True)
    assert len(found) == 1
    assert found[0].code == by_rule(name).CODE
    assert found[0].rule == name.replace("_", "-")
    assert all((found[0].got, found[0].need, found[0].help, found[0].verdict))
    assert (found[0].node and found[0].op) or found[0].tensor
    for field, text in wanted.items():
        assert getattr(found[0], field) in text.split("|")


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule_silent(name: str) -> None:
    _, silent, _ = RULE_CASES[name]
    assert not findings(name, silent, fires=False)


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule_finds_a_verdict_of_its_severity(name: str) -> None:
    """Errors say that something does not run or is wrong; the other way round most do."""
    (found,) = findings(name, RULE_CASES[name][0], fires=True)
    allowed = {
        "silently-wrong": {"error", "warning"},
        "unsupported": {"error"},
        "fallback": {"warning"},
        "slow": {"warning"},
        "info": {"warning", "info"},
    }
    assert found.verdict is not None
    assert found.severity in allowed[found.verdict]


def test_every_rule_has_its_cases_docs_and_code() -> None:
    names = {module.__name__.rpartition(".")[2] for module in rule_modules()}
    assert names == set(RULE_CASES)
    assert {*ON, *LIMITS, *MEMORY, *WEIGHTS, *OPERATORS} <= names
    for module in rule_modules():
        assert module.CODE in CATALOGUE
        assert module.__doc__
        assert len(module.__doc__.strip().splitlines()) > 2


@pytest.mark.parametrize("name", [module.__name__.rpartition(".")[2] for module in rule_modules()])
def test_a_rule_says_what_to_write_instead(name: str) -> None:
    """The docstring is the page that `deploycc explain` shows: a headline, why, and both rewrites."""
    headline, blank, *rest = by_rule(name).__doc__.strip().splitlines()
    text = " ".join(rest)
    assert headline.endswith(".")
    assert not blank
    why, instead = text.split("Instead", 1)
    assert len(why) > 80
    assert "ONNX" in instead
    assert "`" in instead


def test_no_two_rules_have_one_name() -> None:
    """Ignores and baselines name rules: one name for two would silence both."""
    names = [*rule_files(), *(name for engine in engines() for name in condition_ids(engine))]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_limits_of_tables_are_read() -> None:
    """A limit with a name that nothing asks for would be silent."""
    folder = Path(linting.__file__ or "").parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    for engine in engines():
        for unit, limits in support_table(engine).limits.items():
            assert [name for name in limits if f'"{name}"' not in code] == [], f"{engine} {unit}"


def test_codes_of_rules_are_one_each() -> None:
    codes = [module.CODE for module in rule_modules()] + [effect.code for effect in EFFECTS.values()]
    assert len(codes) == len(set(codes))


def test_unsupported_operator_of_a_vendor_is_not_called_silently_wrong() -> None:
    found = lint(model("g (float[2] x) => (float[2] y) { y = vendor.Frobnicate(x) }"), TARGET).diagnostics
    assert [(d.code, d.verdict) for d in found] == [("DC405", "unsupported")]
    assert found[0].message == "operator Frobnicate of the domain 'vendor' cannot be converted"


def test_all_findings_at_once_in_graph_order() -> None:
    text = """g (float[4,4] x) => (float[4,4] y, float[4,4] n) <bool t = {1}, float r = {0.5}> {
        y = Bernoulli(x)
        i = IsInf<detect_negative=0>(x)
        n = Dropout(x, r, t)
    }"""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>\n{text}')
    report = lint(wrap(proto, infer=True), TARGET)
    assert [(d.code, d.op) for d in report.diagnostics] == [
        ("DC400", "Bernoulli"),
        ("DC401", "IsInf"),
        ("DC401", "Dropout"),
    ]
    with pytest.raises(DeployccError) as raised:
        report.raise_if_errors()
    assert len(raised.value.diagnostics) == 3


def test_branches_inside_are_looked_at() -> None:
    text = BRANCH.replace("Neg(x)", "Bernoulli(x)")
    found = lint(model(text, infer=False), TARGET).diagnostics
    assert {(d.code, d.op) for d in found} == {("DC400", "Bernoulli"), ("DC407", "If")}


def test_clean_network_has_no_findings() -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4] y) <float[4,3,3,3] w> {
        a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = GlobalAveragePool(b) d = Flatten(c) y = Softmax(d) }"""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]>\n{text}'.replace("<float[4,3,3,3] w>", "")
    )
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], [0.0] * 108))
    assert lint(wrap(proto), TARGET).diagnostics == ()


# ---- the table against the importer it describes ----


def importer_map() -> dict[str, Any]:
    """The importer's own converters, and ours of operators that it has none for."""
    pytest.importorskip("tvm", reason="the importer the table describes is not installed")
    from tvm.relax.frontend.onnx import onnx_frontend

    from deploycc.lowering.converters import CONVERTERS

    # Ours stand in for the importer's; what the table lists of those are the importer's versions.
    return {**CONVERTERS, **onnx_frontend._get_convert_map()}


REWRITTEN = frozenset("Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())
"""Operators in the table that have no converter: simplifying writes them in others."""


def test_table_lists_exactly_what_is_converted_or_rewritten() -> None:
    standard = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    # Attention is registered by name only and means com.microsoft's operator.
    assert converted_operators() == ((set(importer_map()) & standard) - {"Attention"}) | REWRITTEN


def test_table_lists_the_converters_versions() -> None:
    converters = importer_map()
    for operator, versions in table()["operators"].items():
        if operator in REWRITTEN:
            continue
        names = [name for name in dir(converters[operator]) if re.fullmatch(r"_impl_v\d+", name)]
        assert versions == sorted(int(name.removeprefix("_impl_v")) for name in names), operator


def test_table_is_of_the_installed_release() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("apache-tvm")
    except PackageNotFoundError:
        pytest.skip("apache-tvm is not installed")
    assert table()["version"] == installed


def test_every_standard_operator_is_in_the_table_once() -> None:
    newest = {
        s.name
        for s in onnx.defs.get_all_schemas()
        if s.domain == "" and not s.deprecated and s.name not in ("If", "Scatter", "Upsample")
    }
    known = set(table()["operators"]) | set(table()["missing"])
    functions = {
        s.name for s in onnx.defs.get_all_schemas() if s.has_function or s.has_context_dependent_function
    }
    assert newest - known - functions == set()
    assert not set(table()["operators"]) & set(table()["missing"])


def test_conditions_are_about_operators_of_the_table() -> None:
    for condition in conditions():
        assert set(condition.operators) <= converted_operators(), condition.id
    assert len({condition.id for condition in conditions()}) == len(conditions())


def test_codes_are_what_they_were() -> None:
    """A code, once given, keeps its meaning: reports, ignore lists and baselines name it."""
    assert {module.__name__.rpartition(".")[2]: module.CODE for module in rule_modules()} == {
        "control_flow": "DC407",
        "element_type": "DC301",
        "empty_tensor": "DC208",
        "foreign_domain": "DC405",
        "no_converter": "DC400",
        "older_meaning": "DC406",
        "open_shape": "DC207",
        "operator_types": "DC417",
        "opset_range": "DC179",
        "element_limit": "DC221",
        "quantised_for_float": "DC319",
        "operator_version": "DC415",
        "support_unknown": "DC414",
        "unit_lacks": "DC416",
        "runs_on_processor": "DC518",
        "training_mode": "DC170",
        "unfolded_batchnorm": "DC171",
        "dead_nodes": "DC172",
        "duplicate_weights": "DC173",
        "unused_weights": "DC174",
        "cancelling_transposes": "DC175",
        "does_nothing": "DC176",
        "cast_pair": "DC177",
        "opset_too_new": "DC178",
        "dynamic_shape": "DC210",
        "batch_size": "DC211",
        "rank_limit": "DC212",
        "fully_connected_rank": "DC213",
        "input_rank": "DC214",
        "graph_interface": "DC215",
        "extent_limit": "DC216",
        "image_extent": "DC217",
        "fully_connected_extent": "DC218",
        "size_at_run_time": "DC219",
        "counted_rows": "DC231",
        "input_channels": "DC220",
        "quantised_form": "DC310",
        "per_channel_scale": "DC311",
        "calibration_needed": "DC312",
        "target_types": "DC313",
        "float16_range": "DC314",
        "float16_overflow": "DC315",
        "double_precision": "DC316",
        "long_integers": "DC317",
        "other_precision": "DC318",
        "unfused_activation": "DC420",
        "upsampling_form": "DC421",
        "low_depth": "DC422",
        "focus_slices": "DC423",
        "expensive_fully_connected": "DC424",
        "two_networks": "DC425",
        "indexed_access": "DC426",
        "softmax_axis": "DC427",
        "input_layout": "DC428",
        "layout_transposes": "DC429",
        "time_share": "DC530",
        "weight_memory": "DC531",
        "activation_memory": "DC532",
        "memory_bound": "DC533",
        "heavy_layer": "DC534",
    }
    assert {name: effect.code for name, effect in EFFECTS.items()} == {
        "silently-wrong": "DC401",
        "import": "DC402",
        "compile": "DC403",
        "runtime": "DC404",
        "fallback": "DC410",
        "slow": "DC411",
        "inaccurate": "DC412",
        "info": "DC413",
    }
