"""Reports of lint as text: for a terminal, for programs, for CI systems, as a page.

Every format is a pure function of the result.  ``docs/ci-lint.md`` says which is for what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from deploycc.reporting import github, json_report, junit, markdown, sarif, text
from deploycc.reporting.grouping import Group, grouped
from deploycc.reporting.html import lint_page
from deploycc.reporting.options import Options, Renderer

if TYPE_CHECKING:
    from deploycc.lint import LintResult

FORMATS: Mapping[str, Renderer] = MappingProxyType(
    {
        "text": text.render,
        "json": json_report.render,
        "sarif": sarif.render,
        "junit": junit.render,
        "github": github.render,
        "markdown": markdown.render,
        "html": lint_page.render,
    }
)


def render(
    format: str,  # noqa: A002 - the option's name
    result: LintResult,
    *,
    colour: bool = False,
    verbose: bool = False,
    fail_level: str = "error",
    exit_code: int = 0,
    rule_help: Callable[[str], str] | None = None,
) -> str:
    """The report in one of ``FORMATS``; see ``Options`` for what the rest says.

    Raises ``KeyError`` for a format that is none.
    """
    return FORMATS[format](result, Options(colour, verbose, fail_level, exit_code, rule_help))


__all__ = ["FORMATS", "Group", "Options", "Renderer", "grouped", "render"]
