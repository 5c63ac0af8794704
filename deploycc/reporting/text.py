"""Text for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from deploycc.diagnostics import printable
from deploycc.lint_types import HintColumn, Report
from deploycc.reporting.grouping import Group, counts, grouped
from deploycc.reporting.options import Options
from deploycc.reporting.quantities import plural, share
from deploycc.reporting.summary import headline, matrix, runs, sizes, tally
from deploycc.types import Diagnostic

if TYPE_CHECKING:
    from deploycc.lint import LintResult

_NAMES_SHOWN = 4
"""Nodes named in a finding that is not ``verbose``."""
_STYLES: dict[str, dict[str, Any]] = {
    "silently-wrong": {"fg": "magenta", "bold": True},
    "unsupported": {"fg": "red", "bold": True},
    "fallback": {"fg": "yellow", "bold": True},
    "slow": {"fg": "blue", "bold": True},
    "info": {"fg": "cyan"},
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "whole": {"fg": "green", "bold": True},
    "parts": {"fg": "yellow", "bold": True},
    "not": {"fg": "red", "bold": True},
    "yes": {"fg": "green"},
    "title": {"bold": True},
    "label": {"dim": True},
}


def render(result: LintResult, options: Options) -> str:
    """The matrix where there are several targets, then a block for each target."""
    blocks = []
    if len(result.reports) > 1 and any(report.coverage for report in result.reports):
        blocks.append(_matrix(result.reports, options))
    blocks += ["\n".join(_target(report, options)) for report in result.reports]
    return "\n\n".join(blocks) + "\n"


def _style(text: str, kind: str, options: Options) -> str:
    text = printable(text)
    return click.style(text, **_STYLES[kind]) if options.colour and kind in _STYLES else text


def _target(report: Report, options: Options) -> Iterator[str]:
    name = _style(f"{report.target}:", "title", options)
    coverage = report.coverage
    line = headline(report)
    if coverage is not None:
        verdict = runs(coverage)
        line = _style(verdict, coverage.runs, options) + printable(line.removeprefix(verdict))
    yield f"{name} {line}"
    if coverage is not None:
        yield f"  {printable(sizes(coverage))}"
    found = counts(report.diagnostics)
    yield f"  {tally(found)}"
    groups = grouped(report)
    shown = [g for g in groups if options.verbose or not _quiet(g.first)]
    for group in shown:
        yield ""
        yield from _group(group, options)
    hidden = len(groups) - len(shown)
    if hidden:
        yield ""
        yield f"  {plural(hidden, 'note')} and suppressed findings not shown: --verbose shows them"
    if report.hints:
        yield ""
        yield from _hints(report.hints, options)


def _quiet(diagnostic: Diagnostic) -> bool:
    return diagnostic.severity == "info" or bool(diagnostic.suppressed)


def _group(group: Group, options: Options) -> Iterator[str]:
    first = group.first
    head = _style(f"{first.severity}[{first.code}]", first.verdict or first.severity, options)
    verdict = f" ({first.verdict})" if first.verdict and first.verdict != "info" else ""
    yield head + _style(f": {first.message}", "title", options) + verdict
    rest = (
        ("at", _places(group, options.verbose)),
        ("got", first.got),
        ("need", first.need),
        ("from", first.source),
        ("help", first.help),
        ("fix", f"deploycc lint --fix applies {first.fix}" if first.fix else ""),
        ("line", _shortened(group.locations, options.verbose)),
        ("rule", first.rule if options.verbose else ""),
        ("kept", first.suppressed),
    )
    for label, text in rest:
        if text:
            yield f"  {_style(f'{label}:'.ljust(5), 'label', options)} {printable(text)}"


def _places(group: Group, verbose: bool) -> str:
    nodes, op = group.nodes, group.first.op
    if len(nodes) < 2:
        return " ".join(word for word in (op, *(f"'{node}'" for node in nodes)) if word)
    many = plural(len(nodes), "node")
    return f"{op + ', ' if op else ''}{many}: {_shortened(nodes, verbose)}"


def _shortened(names: Sequence[str], verbose: bool) -> str:
    shown = names if verbose else names[:_NAMES_SHOWN]
    return ", ".join(shown) + (", …" if len(shown) < len(names) else "")


def _hints(hints: Sequence[HintColumn], options: Options) -> Iterator[str]:
    """A small table: what other libraries for the machine would take."""
    rows = [("also for this machine", "nodes", "multiply-adds", "not taken")]
    for hint in hints:
        refused = [f"{op} x{number}" if number > 1 else op for op, number, _ in hint.refused]
        rows.append(
            (
                hint.title,
                f"{hint.taken} of {hint.nodes}",
                share(hint.taken_macs, hint.macs),
                _shortened(refused, options.verbose) or "-",
            )
        )
    for index, line in enumerate(_columns(rows)):
        yield "  " + (_style(line, "label", options) if index == 0 else printable(line))
    if options.verbose:
        for hint in hints:
            for op, number, why in hint.refused:
                yield printable(f"    {hint.title}: {op} x{number}: {why}")


def _matrix(reports: Sequence[Report], options: Options) -> str:
    table = matrix(reports)
    verdicts = [report.coverage.runs if report.coverage else "" for report in reports]
    words = [runs(report.coverage) if report.coverage else "-" for report in reports]
    rows = [("operator", *table.targets), ("", *words)]
    rows += [(op, *(cell.text for cell in cells)) for op, cells in table.rows]
    kinds: list[tuple[str, ...]] = [("label",) * (len(reports) + 1), ("", *verdicts)]
    kinds += [("", *(_cell_kind(cell.text) for cell in cells)) for _, cells in table.rows]
    lines = []
    for row, padded, styles in zip(rows, _padded(rows), kinds, strict=True):
        cells = (
            _style(text, kind, options) + " " * (len(wide) - len(printable(text)))
            for text, wide, kind in zip(row, padded, styles, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cell_kind(text: str) -> str:
    return text.partition(" ")[0]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    return ["  ".join(row).rstrip() for row in _padded(rows)]


def _padded(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return [
        tuple(cell + " " * (width - len(printable(cell))) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
