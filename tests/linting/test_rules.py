"""Lint rules written in Python, the support table against the importer itself, and the stage as a whole."""

from __future__ import annotations

import re
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from deploycc.diagnostics import CATALOGUE
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import LintTarget
from deploycc.linting import lint
from deploycc.linting.checking import rule_modules
from deploycc.linting.table import EFFECTS, conditions
from deploycc.op_support import converted_operators, table
from deploycc.types import DeployccError
from tests.linting.graphs import model, wrap

TARGET = load_lint_target("x86-64")

BRANCH = """g (float[2] x, bool c) => (float[2] y) {
    y = If (c) <
        then_branch = a () => (float[2] t) { t = Neg(x) },
        else_branch = b () => (float[2] e) { e = Abs(x) }
    >
}"""

RULE_CASES: dict[str, tuple[tuple[str, int], tuple[str, int], dict[str, str]]] = {
    "no_converter": (
        ("g (float[2,2] x) => (float y) { y = Det(x) }", 18),
        ("g (float[2,2] x) => (float[2,2] y) { y = Relu(x) }", 18),
        {
            "message": "operator Det cannot be converted",
            "got": "Det (opset 18)",
            "help": "do it in the app|compute it in the app",
        },
    ),
    "foreign_domain": (
        ("g (float[2] x) => (float[2] y) { y = vendor.Relu(x) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {
            "message": "operator Relu of the domain 'vendor' would be taken for the standard operator "
            "of that name",
            "got": "vendor::Relu",
            "verdict": "silently-wrong",
        },
    ),
    "older_meaning": (
        ("g (float[2,3] x) => (float[2,3] y) { y = Slice<starts=[0], ends=[2]>(x) }", 9),
        ("g (float[2,3] x) => (float[2,3] y) { y = Exp(x) }", 9),
        {
            "message": "Slice of opset 9 would be read as that of opset 13",
            "got": "Slice version 1",
            "need": "Slice version 13 or newer",
        },
    ),
    "open_shape": (
        ("g (float[4] x, int64 k) => (int64[n] y) <int64 a = {0}, int64 b = {1}> { y = Range(a, k, b) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        {"message": "the shape of 'y' is not known before the network runs", "got": "?"},
    ),
    "empty_tensor": (
        (
            "g (float[4] x) => (float[m] y) <int64[1] a = {4}> { z = Slice(x, a, a) y = Neg(z) }",
            18,
        ),
        ("g (float[4] x, float[0] u) => (float[4] y) { y = Relu(x) }", 18),
        {"message": "'z' has no elements", "got": "0", "op": "Slice"},
    ),
    "control_flow": (
        (BRANCH, 18),
        ("g (float[2] x) => (float[2] y) { y = Neg(x) }", 18),
        {
            "message": "a branch is decided while the network runs",
            "got": "a condition computed from the inputs ('c')",
        },
    ),
    "element_type": (
        ("g (float[2] x) => (float[2] y) { z = Cast<to=16>(x) y = Cast<to=1>(z) }", 18),
        ("g (float[2] x) => (float[2] y) { z = Cast<to=10>(x) y = Cast<to=1>(z) }", 18),
        {"message": "tensor 'z' has an element type without kernels", "got": "bfloat16"},
    ),
    "unit_lacks": (
        ("g (float[2] x) => (float[2] y) { y = Ceil(x) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {"message": "operator Ceil does not run on gpu", "verdict": "fallback", "severity": "warning"},
    ),
    "support_unknown": (
        ("g (float[2] x) => (float[2] y) { y = vendor.Frobnicate(x) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {"message": "whether vendor::Frobnicate is taken is not known", "verdict": "info"},
    ),
    "operator_version": (
        ("g (float[1,2,4] x) => (float[1,2,3] y) { y = MaxPool<kernel_shape=[2]>(x) }", 22),
        ("g (float[1,2,4] x) => (float[1,2,3] y) { y = MaxPool<kernel_shape=[2]>(x) }", 18),
        {"message": "MaxPool of opset 22 is not in the converter's list", "need": "version 1, 8, 10, 11, 12"},
    ),
    "operator_types": (
        ("g (int32[2] x) => (int32[2] y) { y = Ceil(x) }", 18),
        ("g (float16[2] x) => (float16[2] y) { y = Ceil(x) }", 18),
        {
            "message": "Ceil does not take int32 there",
            "got": "int32 in 'x'",
            "need": "float32, float16, bfloat16",
            "verdict": "unsupported",
            "tensor": "x",
        },
    ),
}


ON = {
    "unit_lacks": "snpe:gpu",
    "support_unknown": "snpe:htp",
    "operator_version": "snpe:htp",
    "operator_types": "cuda",
}
"""The targets of rules that are not about what deploycc compiles itself."""


def target_of(name: str) -> LintTarget:
    return load_lint_target(ON.get(name, "x86-64"))


def by_rule(name: str) -> Any:
    return next(module for module in rule_modules() if module.__name__.endswith(f".{name}"))


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule_fires(name: str) -> None:
    firing, _, wanted = RULE_CASES[name]
    code = by_rule(name).CODE
    found = [d for d in lint(model(*firing), target_of(name)).diagnostics if d.code == code]
    assert len(found) == 1
    assert found[0].rule == name.replace("_", "-")
    assert all((found[0].node, found[0].op, found[0].got, found[0].need, found[0].help, found[0].verdict))
    for field, text in wanted.items():
        assert getattr(found[0], field) in text.split("|")


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule_silent(name: str) -> None:
    _, silent, _ = RULE_CASES[name]
    report = lint(model(*silent), target_of(name))
    assert not [d for d in report.diagnostics if d.code == by_rule(name).CODE]


def test_every_rule_has_its_cases_docs_and_code() -> None:
    names = {module.__name__.rpartition(".")[2] for module in rule_modules()}
    assert names == set(RULE_CASES)
    for module in rule_modules():
        assert module.CODE in CATALOGUE
        assert module.__doc__
        assert len(module.__doc__.strip().splitlines()) > 2
    codes = [module.CODE for module in rule_modules()] + [effect.code for effect in EFFECTS.values()]
    assert len(codes) == len(set(codes))


def test_unsupported_operator_of_a_vendor_is_not_called_silently_wrong() -> None:
    found = lint(model("g (float[2] x) => (float[2] y) { y = vendor.Frobnicate(x) }"), TARGET).diagnostics
    assert [(d.code, d.verdict) for d in found] == [("DC405", "unsupported")]
    assert found[0].message == "operator Frobnicate of the domain 'vendor' cannot be converted"


def test_all_findings_at_once_in_graph_order() -> None:
    text = """g (float[4,4] x) => (float y, bool[4,4] z) {
        y = Det(x)
        i = IsInf<detect_negative=0>(x)
        z = Mod(x, x)
    }"""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>\n{text}')
    report = lint(wrap(proto, infer=True), TARGET)
    assert [(d.code, d.op) for d in report.diagnostics] == [
        ("DC400", "Det"),
        ("DC401", "IsInf"),
        ("DC401", "Mod"),
    ]
    with pytest.raises(DeployccError) as raised:
        report.raise_if_errors()
    assert len(raised.value.diagnostics) == 3


def test_branches_inside_are_looked_at() -> None:
    text = BRANCH.replace("Neg(x)", "Det(m)").replace("float[2] x", "float[2] x, float[2,2] m")
    found = lint(model(text, infer=False), TARGET).diagnostics
    assert {(d.code, d.op) for d in found} == {("DC400", "Det"), ("DC407", "If")}


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
    pytest.importorskip("tvm", reason="the importer the table describes is not installed")
    from tvm.relax.frontend.onnx import onnx_frontend

    found: dict[str, Any] = onnx_frontend._get_convert_map()
    return found


def test_table_lists_exactly_what_the_importer_converts() -> None:
    standard = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    # Attention is registered by name only and means com.microsoft's operator.
    assert converted_operators() == (set(importer_map()) & standard) - {"Attention"}


def test_table_lists_the_importers_versions() -> None:
    converters = importer_map()
    for operator, versions in table()["operators"].items():
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
        "operator_version": "DC415",
        "support_unknown": "DC414",
        "unit_lacks": "DC416",
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
