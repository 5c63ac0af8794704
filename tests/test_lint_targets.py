"""What ``--target`` of lint may be."""

from __future__ import annotations

import itertools

import pytest

from deploycc.lint_targets import external, external_names, is_external, load_lint_target
from deploycc.op_support import engines, support_table, version_in
from deploycc.types import DeployccError


def test_unit_and_version() -> None:
    target = load_lint_target("snpe:htp@2.10")
    assert (target.name, target.family, target.unit, target.version) == (
        "snpe:htp@2.10",
        "snpe",
        "htp",
        "2.10",
    )
    assert (target.engine, target.fallback, target.compiled) == ("snpe", "cpu", None)


def test_one_that_packages_are_built_for() -> None:
    target = load_lint_target("rpi4")
    assert (target.engine, target.unit, target.version) == ("tvm", "", "")
    assert target.compiled is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("snpe:hpt", "did you mean --target snpe:htp?"),
        ("snpe:", "snpe:"),
        ("snpe@new", "snpe@new"),
        ("arm64:htp", "no units and no versions"),
        ("arm64@2", "no units and no versions"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(DeployccError) as raised:
        load_lint_target(text)
    (found,) = raised.value.diagnostics
    assert found.code == "DC510"
    assert says in f"{found.message} {found.got} {found.help}"


def test_every_external_target_is_whole() -> None:
    for name in external_names():
        family = external(name)
        assert family.name == name
        assert is_external(name)
        for engine in (family.engine, *family.hints, *(unit.engine for unit in family.units.values())):
            assert not engine or engine in engines()
        table = support_table(family.engine)
        assert not table.units or set(table.units) <= set(family.units)
        for unit in family.units.values():
            # Of the family, or of the unit's own table.
            units = {*family.units, *support_table(unit.engine or family.engine).units}
            assert not unit.fallback or unit.fallback in units


def test_commands_of_units() -> None:
    snpe, qnn = external("snpe"), external("qnn")
    convert = ("snpe-onnx-to-dlc", "--input_network", "{model}", "--output_path", "{name}.dlc")
    assert snpe.commands() == snpe.commands("gpu") == (convert,)
    assert [words[0] for words in snpe.commands("htp")] == [
        "snpe-onnx-to-dlc",
        "snpe-dlc-quant",
        "snpe-dlc-graph-prepare",
    ]
    assert "{input_list}" in qnn.commands("htp")[0]
    assert "{input_list}" not in qnn.commands("gpu")[0]


def test_every_command_begins_with_the_model_and_uses_what_came_before() -> None:
    for name in external_names():
        family = external(name)
        for unit in ("", *family.units):
            steps = [words for words in family.commands(unit) if words]
            made = {"{model}", "{input_list}", "{soc}"}
            for words in steps:
                places = {word for word in words if "{" in word}
                written = {
                    word
                    for flag, word in itertools.pairwise(words)
                    if flag in ("--output_path", "--output_dlc")
                }
                assert len(written) == 1
                assert places - written <= made
                made |= written


@pytest.mark.parametrize(
    ("version", "ranges", "expected"),
    [
        ("2.5", "", True),
        ("", "", True),
        ("", ">=2.4.0", True),
        ("", "<=2.5", False),
        ("2.10", "<=2.5", False),
        ("2.5.3", "<=2.5", True),
        ("2.4", ">=2.4.0", True),
        ("2.3.9", ">=2.4.0", False),
        ("2.5", ">=2.4,<2.6", True),
        ("2.6", ">=2.4,<2.6", False),
        ("2.5", "==2.5", True),
    ],
)
def test_ranges_of_versions(version: str, ranges: str, expected: bool) -> None:
    assert version_in(version, ranges) is expected


def test_what_is_no_range() -> None:
    with pytest.raises(ValueError, match="not a range"):
        version_in("2.5", "2.5")
    with pytest.raises(ValueError, match="not a version"):
        version_in("new", ">=2.5")
