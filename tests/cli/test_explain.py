"""``deploycc explain`` and ``deploycc targets``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from deploycc.cli.targets_command import _chips, _compiled, _external, _table
from deploycc.diagnostics import CATALOGUE
from deploycc.effects import EFFECTS
from deploycc.explaining.answers import explain, rule_fixes, rule_help
from deploycc.explaining.pages import rule
from deploycc.fixing import fixes
from deploycc.gpu_targets import gpu_names, load_gpu
from deploycc.lint_targets import external, external_names
from deploycc.op_support import engines, examples, support_table
from deploycc.rule_names import POLICY_RULES, rule_files
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError


@pytest.mark.parametrize("name", ["resize-antialias", "no-converter", "DC400", "DC104"])
def test_a_page(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"explain-{name}.txt", explain(name))


def test_every_code_rule_and_condition_has_a_page() -> None:
    for code, entry in CATALOGUE.items():
        assert explain(code.lower()) == explain(code)
        assert explain(code).startswith(f"# {code}: {entry.title}\n")
    for name in rule_files():
        page = explain(name)
        assert rule(name).headline in page
        assert page.startswith(f"# {name} (DC")
    for engine in engines():
        for row in support_table(engine).conditions:
            page = explain(row["id"])
            assert row["says"] in page
            assert EFFECTS[row["effect"]].code in page
            assert ("It fires on (opset " in page) == (row["id"] in examples(engine))


def test_what_the_docstring_of_a_rule_says() -> None:
    """The rules are read as text; what that finds is what the module has."""
    from deploycc.linting.checking import rule_modules, rule_name

    for module in rule_modules():
        found = rule(rule_name(module))
        assert module.CODE in found.codes
        assert " ".join(str(module.__doc__).split()).startswith(found.headline)


def test_a_code_lists_what_reports_it() -> None:
    page = explain("DC401")
    expected = [r["id"] for r in support_table("tvm").conditions if r["effect"] == "silently-wrong"]
    assert [f"- {name}" for name in expected if f"- {name}\n" not in page] == []


@pytest.mark.parametrize("unit", ["", ":htp", ":htp@2.10"])
def test_an_operator_on_a_target(unit: str) -> None:
    page = explain("Conv", f"snpe{unit}")
    assert page.startswith(f"# Conv on snpe{unit}\n")
    assert "**Taken**" in page
    assert f"source: {support_table('snpe').source(support_table('snpe').operators['Conv'].source)}" in page


def test_an_operator_that_is_not_taken_and_one_that_no_source_tells_of() -> None:
    page = explain("Bernoulli", "arm64")
    assert "**Not taken**: deploycc refuses a network that has it (no-converter, DC400)." in page
    assert f"Instead: {support_table('tvm').missing['Bernoulli'].help}." in page
    everything = {name for engine in engines() for name in support_table(engine).operators}
    for family in external_names():
        table = support_table(external(family).engine)
        for name in sorted(everything - table.operators.keys() - table.missing.keys())[:1]:
            assert f"**Not known**: no source tells whether {table.title} takes it" in explain(name, family)


def test_an_operator_in_every_table() -> None:
    page = explain("Resize")
    for engine in engines():
        assert f"| {support_table(engine).title} | " in page
    assert "| deploycc | yes |" in page


def test_a_target() -> None:
    page = explain("snpe:htp")
    unit = external("snpe").units["htp"]
    assert unit.description in page
    limit = support_table("snpe").limit("max_rank", "htp")
    assert limit is not None
    assert f"- max rank: {limit.value}" in page
    assert limit.source in page
    assert load_target("arm64").description in explain("arm64")
    for name in external_names():
        assert explain(name).startswith(f"# {name}\n")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("DC4020", "did you mean DC4"),
        ("resize-antialais", "did you mean resize-antialias?"),
        ("Rezise", "did you mean Resize?"),
        ("snpee", "did you mean snpe?"),
        ("arm46", "did you mean arm"),
        ("mish-to-tanj", "did you mean mish-to-tanh?"),
        ("xyzzy", ""),
    ],
)
def test_dc776_nothing_of_that_name(name: str, near: str) -> None:
    with pytest.raises(DeployccError) as caught:
        explain(name)
    (told,) = caught.value.diagnostics
    assert told.code == "DC776"
    assert near in told.help
    assert bool(near) == bool(told.help)


def test_help_for_reports() -> None:
    assert rule_help("resize-antialias") == explain("resize-antialias")
    assert rule_help("DC104") == explain("DC104")
    assert rule_help("no such rule") == rule_help("") == ""


def test_every_rewrite_has_a_page() -> None:
    for name, fix in fixes().items():
        page = explain(name)
        assert page.startswith(f"# {name}\n")
        assert [part for part in (fix.headline, fix.effect, fix.pytorch, fix.onnx) if part not in page] == []
        assert f"`deploycc lint --fix{'' if fix.safety == 'exact' else '-unsafe'}`" in page


def test_a_rewrite_that_a_condition_or_rule_names_is_on_its_page() -> None:
    named = {
        r["id"]: r["fix"] for engine in engines() for r in support_table(engine).conditions if r.get("fix")
    }
    named |= {name: fix for name in rule_files() for fix in rule_fixes(name)}
    for name, fix in named.items():
        assert fix in fixes()
        assert f"## {fix}\n" in explain(name)


def test_what_is_about_the_policy() -> None:
    for name, code in POLICY_RULES.items():
        assert explain(name).startswith(f"# {name} ({code})\n")
        assert f"## {name} ({code})" in explain(code)


def test_on_the_command_line_and_without_onnx() -> None:
    """Loading it would take longer than all the rest."""
    program = """
import sys
from deploycc.cli import main
for words in (["explain", "DC402"], ["explain", "Resize", "--target", "snpe:htp"], ["targets"]):
    try:
        main(words)
    except SystemExit as left:
        assert not left.code
assert not [name for name in ("onnx", "onnxruntime", "tvm", "torch") if name in sys.modules]
try:
    main(["explain", "DC9999"])
except SystemExit as left:
    sys.exit(left.code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith("# DC402: operator form not handled\n")
    assert done.stderr.startswith("error[DC776]: nothing is called 'DC9999'")


def test_targets_with_those_of_other_compilers(golden: Callable[[str, str], None]) -> None:
    targets = [load_target(name) for name in target_names() if name != "host"]
    externals = [external(name) for name in external_names()]
    chips = [load_gpu(name) for name in gpu_names()]
    tables = (_compiled(targets), _chips(chips), _external(externals))
    golden("targets.txt", "\n".join(line for table in tables for line in [*_table(table), ""]))


def test_targets_as_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploycc", "targets", "--json"], capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)
    names = {kind: [row["name"] for row in rows if row["kind"] == kind] for kind in ("compiled", "external")}
    assert names == {"compiled": list(target_names()), "external": list(external_names())}
    assert sorted(row["name"] for row in rows if row["kind"] == "chip") == list(gpu_names())
    assert {row["kind"] for row in rows} == {"compiled", "chip", "external"}
    snpe = next(row for row in rows if row["name"] == "snpe")
    assert snpe["units"]["htp"]["fallback"] == external("snpe").units["htp"].fallback
