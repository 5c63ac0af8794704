"""JSON for programs: everything of a report, by ``schemas/lint-report-1.schema.json``.

Keys are only ever added within a version; what changes its meaning is another version.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from deploycc import __version__
from deploycc.lint_types import Report
from deploycc.reporting.grouping import VERDICTS, counts
from deploycc.reporting.options import Options
from deploycc.reporting.summary import headline, matrix

if TYPE_CHECKING:
    from deploycc.lint import LintResult

SCHEMA = 1
"""Version of the form."""


def render(result: LintResult, options: Options) -> str:
    """The same bytes for the same result, all of them ASCII: names may hold what steers a terminal."""
    return json.dumps(document(result, options), indent=2) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that ``render`` keeps to."""
    path = files("deploycc.reporting") / "schemas" / f"lint-report-{SCHEMA}.schema.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def document(result: LintResult, options: Options) -> dict[str, Any]:
    """The report before it is written."""
    everything = [d for report in result.reports for d in report.diagnostics]
    table = matrix(result.reports)
    return {
        "schema": SCHEMA,
        "tool": {"name": "deploycc", "version": __version__},
        "model": {"path": str(result.model), "sha256": result.sha256},
        "exit_code": options.exit_code,
        "fail_level": options.fail_level,
        "summary": asdict(counts(everything)),
        "targets": [_target(report) for report in result.reports],
        "matrix": [
            {
                "op": op,
                "targets": {target: asdict(cell) for target, cell in zip(table.targets, cells, strict=True)},
            }
            for op, cells in table.rows
        ],
    }


def _target(report: Report) -> dict[str, Any]:
    verdicts = {
        verdict: sum(d.verdict == verdict and not d.suppressed for d in report.diagnostics)
        for verdict in VERDICTS
    }
    return {
        "target": report.target,
        "headline": headline(report),
        "summary": {**asdict(counts(report.diagnostics)), "verdicts": verdicts},
        "coverage": None if report.coverage is None else _coverage(report),
        "findings": [asdict(diagnostic) for diagnostic in report.diagnostics],
        "nodes": [asdict(node) for node in report.nodes],
        "hints": [
            {
                **asdict(hint),
                "refused": [{"op": op, "nodes": number, "why": why} for op, number, why in hint.refused],
            }
            for hint in report.hints
        ],
    }


def _coverage(report: Report) -> dict[str, Any]:
    assert report.coverage is not None
    return {
        **asdict(report.coverage),
        "replace": [{"op": op, "nodes": number} for op, number in report.coverage.replace],
    }
