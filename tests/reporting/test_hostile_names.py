"""A model may call its nodes what it likes: no format is steered by it."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from deploycc.reporting import FORMATS, render
from tests.reporting.results import HOSTILE, hostile


@pytest.mark.parametrize("format_", FORMATS)
def test_no_control_characters(format_: str) -> None:
    text = render(format_, hostile(), verbose=True)
    escapes = {"\x1b", "\r", "\u202e"}
    assert not escapes & set(text)


def test_a_terminal_sees_only_our_own_colours() -> None:
    coloured = render("text", hostile(), colour=True, verbose=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).count("\x1b") == 0
    assert "\\x1b[31m" in coloured


def test_github_runs_no_command_of_the_model() -> None:
    for line in render("github", hostile()).splitlines():
        assert re.match(r"::(error|warning|notice) ", line), line
        properties = re.match(r"::\w+ (.*?)::", line)
        assert properties
        assert re.fullmatch(r"\w+=[^,:]*(,\w+=[^,:]*)*", properties[1]), line


def test_junit_is_xml_with_the_name_in_it() -> None:
    root = ET.fromstring(render("junit", hostile()))
    failure = root.find(".//failure")
    assert failure is not None
    assert "<script>alert('x')</script>" in (failure.text or "")
    assert "\\x1b" in (failure.text or "")


def test_markdown_has_no_html_and_no_mention_of_the_model() -> None:
    page = render("markdown", hostile())
    bare = re.sub(r"</?(code|details|summary)>", "", page)
    outside_code = re.sub(r"`[^`\n]*`", "", bare)
    assert "<" not in outside_code
    assert "@" not in outside_code
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert rows
    tables = re.findall(r"(?:^\|.*\n)+", page, re.M)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_html_has_no_element_of_the_model() -> None:
    page = render("html", hostile())
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script")
    assert page.count("<title>") == page.count("</title>")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in page


@pytest.mark.parametrize("format_", FORMATS)
def test_any_character_can_be_written(format_: str) -> None:
    """Names are byte strings in the end: lone surrogates, non-characters, astral planes."""
    result = hostile()
    name = "\x00\x0b\x7f\x85\ud800\ufffe\uffff\U0001f600ü"
    report = replace(
        result.reports[0], diagnostics=tuple(replace(d, node=name) for d in result.reports[0].diagnostics)
    )
    text = render(format_, replace(result, reports=(report,)), verbose=True)
    assert "\x00" not in text
    text.encode("utf-8")
    if format_ == "junit":
        ET.fromstring(text)
