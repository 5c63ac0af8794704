"""Markdown for the comment of a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deploycc.diagnostics import printable
from deploycc.lint_types import HintColumn, Report
from deploycc.reporting.grouping import Group, counts, grouped
from deploycc.reporting.options import Options
from deploycc.reporting.quantities import amount, duration, nbytes, plural, share
from deploycc.reporting.summary import matrix, runs, tally, to_replace

if TYPE_CHECKING:
    from deploycc.lint import LintResult

_NAMES_SHOWN = 6
_ROWS_SHOWN = 40
"""Findings of a target, of each of the two kinds: GitHub takes 65,536 characters in a comment."""
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>()#!|&~@$]")


def render(result: LintResult, options: Options) -> str:
    """One table for all targets, the matrix where there are several, then the findings of each."""
    lines = [f"## deploycc lint: {code(result.model.name)}", ""]
    lines += _summary(result.reports)
    if len(result.reports) > 1:
        lines += _matrix(result.reports)
    for report in result.reports:
        lines += _target(report, options)
    return "\n".join(lines).rstrip() + "\n"


def text(words: str) -> str:
    """Words that nothing in Markdown, HTML or GitHub's mentions can be made of."""
    words = printable(words).replace("\n", " ")
    return _SPECIAL.sub(lambda found: f"&#{ord(found.group())};", words)


def code(name: str) -> str:
    """A name as code; as HTML where it has what would end a code span or a table's cell."""
    name = printable(name).replace("\n", " ").replace("\t", " ")
    if name.strip() == name and name and not re.search(r"[`|]", name):
        return f"`{name}`"
    return f"<code>{text(name)}</code>"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    for row in rows[1:]:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _summary(reports: Sequence[Report]) -> Iterator[str]:
    rows = [["target", "", "nodes", "multiply-adds", "weights", "peak", "time", "to replace"]]
    for report in reports:
        coverage = report.coverage
        if coverage is None:
            rows.append([code(report.target), *["-"] * 7])
            continue
        rows.append(
            [
                code(report.target),
                f"**{runs(coverage)}**",
                f"{coverage.taken} of {coverage.nodes}",
                f"{share(coverage.taken_macs, coverage.macs)} of {amount(coverage.macs)}",
                nbytes(coverage.weight_bytes),
                nbytes(coverage.peak_bytes),
                "-" if coverage.seconds is None else f"≥ {duration(coverage.seconds)}",
                text(to_replace(report)) or "-",
            ]
        )
    yield from _table(rows)


def _matrix(reports: Sequence[Report]) -> Iterator[str]:
    table = matrix(reports)
    if table.rows:
        yield "Operators that are not taken everywhere:"
        yield ""
        rows = [["operator", *map(code, table.targets)]]
        rows += [[code(op), *(cell.text for cell in cells)] for op, cells in table.rows]
        yield from _table(rows)


def _target(report: Report, options: Options) -> Iterator[str]:
    found = counts(report.diagnostics)
    yield f"### {code(report.target)}: {tally(found)}"
    yield ""
    if report.coverage is not None and report.coverage.unknown:
        yield f"Of the operators of {plural(report.coverage.unknown, 'node')} no source tells."
        yield ""
    groups = grouped(report)
    shown = [g for g in groups if not g.first.suppressed and (options.verbose or g.first.severity != "info")]
    if shown:
        rows = [["", "code", "operator", "finding", "got", "need", "what to do", "nodes"]]
        rows += [_row(group) for group in shown[:_ROWS_SHOWN]]
        yield from _table(rows)
        yield from _more(shown)
    quiet = [g for g in groups if g not in shown and not g.first.suppressed]
    if quiet:
        yield f"<details><summary>{plural(len(quiet), 'note')}</summary>"
        yield ""
        for group in quiet[:_ROWS_SHOWN]:
            yield f"- {group.first.code} {text(group.first.message)}: {_nodes(group)}"
        yield ""
        yield from _more(quiet)
        yield "</details>"
        yield ""
    for group in groups:
        if group.first.suppressed:
            first = group.first
            yield f"- suppressed: {first.code} {text(first.message)} ({text(first.suppressed)})"
    if report.hints:
        yield from _hints(report.hints)


def _more(groups: Sequence[Group]) -> Iterator[str]:
    if len(groups) > _ROWS_SHOWN:
        yield f"And {len(groups) - _ROWS_SHOWN} more; other formats have them all."
        yield ""


def _row(group: Group) -> list[str]:
    first = group.first
    help_ = text(first.help)
    if first.fix:
        help_ = f"{help_} ({code('deploycc lint --fix')})" if help_ else code("deploycc lint --fix")
    return [
        first.verdict or first.severity,
        first.code,
        code(first.op) if first.op else "",
        text(first.message),
        text(first.got),
        text(first.need),
        help_,
        _nodes(group),
    ]


def _nodes(group: Group) -> str:
    names = ", ".join(map(code, group.nodes[:_NAMES_SHOWN]))
    more = len(group.nodes) - _NAMES_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _hints(hints: Sequence[HintColumn]) -> Iterator[str]:
    rows = [["also for this machine", "nodes", "multiply-adds", "not taken"]]
    for hint in hints:
        refused = ", ".join(f"{code(op)} x{number}" for op, number, _ in hint.refused)
        rows.append(
            [
                text(hint.title),
                f"{hint.taken} of {hint.nodes}",
                share(hint.taken_macs, hint.macs),
                refused or "-",
            ]
        )
    yield ""
    yield from _table(rows)
