"""Formats that people and CI systems read, held by golden files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import click
import pytest

from deploycc.reporting import FORMATS, grouped, render
from tests.reporting.results import RANK, broken, empty, small

Golden = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text.txt", {}),
        ("text-colour.txt", {"colour": True}),
        ("text-verbose.txt", {"verbose": True}),
        ("markdown.md", {}),
        ("github.txt", {}),
        ("junit.xml", {}),
        ("junit-warnings.xml", {"fail_level": "warning"}),
    ],
)
def test_golden(name: str, options: dict[str, object], golden: Golden) -> None:
    format_ = re.split("[-.]", name)[0]
    golden(name, render(format_, small(), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("format_", FORMATS)
def test_deterministic_and_whole_lines(format_: str) -> None:
    for result in (small(), empty()):
        text = render(format_, result)
        assert text == render(format_, result)
        assert text.endswith("\n")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_refused_file_is_told_in_every_format(format_: str) -> None:
    text = render(format_, broken(), exit_code=2)
    assert "DC103" in text
    assert "not an ONNX model" in text


def test_an_unknown_format_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="yaml"):
        render("yaml", small())


def test_colour_changes_nothing_but_the_colour() -> None:
    coloured = render("text", small(), colour=True)
    assert "\x1b[" in coloured
    assert click.unstyle(coloured) == render("text", small())
    assert "\x1b" not in render("text", small())


def test_one_target_has_no_matrix() -> None:
    result = small()
    one = replace(result, reports=result.reports[:1])
    assert render("text", result).startswith("operator")
    assert render("text", one).startswith("snpe:htp: runs in 3 parts")
    assert "not taken everywhere" in render("markdown", result)
    assert "not taken everywhere" not in render("markdown", one)


def test_findings_that_differ_in_the_node_only_are_one() -> None:
    groups = grouped(small().reports[0])
    assert [len(group.diagnostics) for group in groups] == [1, 1, 6, 1, 1, 1]
    assert groups[2].nodes == tuple(f"head/softplus_{i}" for i in range(6))
    report = small().reports[0]
    other = replace(
        report, diagnostics=(RANK, replace(RANK, node="b"), replace(RANK, node="c", got="rank 7"))
    )
    assert [group.nodes for group in grouped(other)] == [("stem/conv", "b"), ("c",)]


def test_the_worst_comes_first_and_the_suppressed_last() -> None:
    order = [group.first.verdict for group in grouped(small().reports[0])]
    assert order == ["silently-wrong", "unsupported", "fallback", None, "info", "slow"]


@pytest.mark.parametrize(
    ("fail_level", "failures"), [("error", 2), ("warning", 4), ("info", 5), ("never", 0)]
)
def test_junit_fails_from_the_fail_level_on(fail_level: str, failures: int) -> None:
    root = ET.fromstring(render("junit", small(), fail_level=fail_level))
    assert root.get("failures") == str(failures)
    assert len(root.findall(".//failure")) == failures
    for suite in root:
        assert suite.get("tests") == str(len(suite.findall("testcase")))
    assert root.get("tests") == str(len(root.findall(".//testcase")))


def test_junit_skips_what_is_suppressed() -> None:
    root = ET.fromstring(render("junit", small(), fail_level="info"))
    (skipped,) = root.findall(".//skipped")
    assert skipped.get("message") == "suppressed: the weights are shared with the phone"


def test_github_points_at_python_only_where_it_is_in_the_checkout() -> None:
    result = small()

    def annotation(location: str) -> str:
        report = replace(result.reports[0], diagnostics=(replace(RANK, location=location),))
        return render("github", replace(result, reports=(report,))).splitlines()[0]

    assert annotation("models/net.py:41").startswith("::error file=models/net.py,line=41,")
    assert annotation("models/net.py:41 in forward").startswith("::error file=models/net.py,line=41,")
    for elsewhere in ("/usr/lib/net.py:41", "lib/site-packages/torch/nn.py:3", "../net.py:4", "net.py", ""):
        assert annotation(elsewhere).startswith("::error file=models/net.onnx,title=")


def test_markdown_fits_into_a_comment() -> None:
    result = small()
    many = tuple(replace(RANK, op=f"Op{i}", severity=s) for i in range(100) for s in ("error", "info"))
    page = render("markdown", replace(result, reports=(replace(result.reports[0], diagnostics=many),)))
    assert page.count("And 60 more; other formats have them all.") == 2
    assert page.count("| unsupported |") == 40
    assert len(page) < 65536


def test_notes_are_told_when_asked_for() -> None:
    for format_ in ("text", "github"):
        assert "DC414" not in render(format_, small())
        assert "DC414" in render(format_, small(), verbose=True)
