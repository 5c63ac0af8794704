"""The page of a lint report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycc import __version__
from deploycc.reporting.html.explorer import explorer
from deploycc.reporting.html.markup import element
from deploycc.reporting.html.page import Section, page
from deploycc.reporting.html.sections import costly, hints, summary, support
from deploycc.reporting.options import Options

if TYPE_CHECKING:
    from deploycc.lint import LintResult


def render(result: LintResult, options: Options) -> str:
    """Summary, matrix, graph with findings, costliest nodes and hints; what is empty is left out."""
    facts = [("model", str(result.model)), ("SHA-256", result.sha256[:16]), ("deploycc", __version__)]
    facts.append(("exit code", str(options.exit_code)))
    intro = element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in facts if value),
        class_="facts",
    )
    return page(f"{result.model.name}: lint", intro, sections(result))


def sections(result: LintResult) -> list[Section]:
    """The sections of a lint report, for pages that have more than that."""
    reports = result.reports
    found = [summary(reports), support(reports), explorer(reports), costly(reports), hints(reports)]
    return [section for section in found if section is not None]
