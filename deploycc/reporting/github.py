"""Workflow commands of GitHub Actions: each finding is an annotation of the pull request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploycc.diagnostics import printable
from deploycc.reporting.grouping import Group, grouped
from deploycc.reporting.locations import python_line
from deploycc.reporting.options import Options
from deploycc.reporting.quantities import plural
from deploycc.reporting.summary import headline

if TYPE_CHECKING:
    from deploycc.lint import LintResult

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
_NAMES_SHOWN = 20


def render(result: LintResult, options: Options) -> str:
    """The worst findings first, since GitHub shows ten of a kind; then each target's headline."""
    lines = []
    for report in result.reports:
        for group in grouped(report):
            if not group.first.suppressed and (options.verbose or group.first.severity != "info"):
                lines.append(_annotation(group, report.target, str(result.model)))
    for report in result.reports:
        title = {"title": f"deploycc lint: {report.target}"}
        lines.append(_command("notice", title, f"{result.model} {headline(report)}"))
    return "".join(f"{line}\n" for line in lines)


def _annotation(group: Group, target: str, model: str) -> str:
    first = group.first
    keys = {"file": model}
    line = python_line(first.location)
    if line is not None and line.in_checkout and len(group.locations) == 1:
        keys = {"file": line.file, "line": str(line.number)}
    rule = f" {first.rule}" if first.rule else ""
    text = [f"{first.op}: {first.message}" if first.op else first.message]
    if group.nodes:
        shown = ", ".join(group.nodes[:_NAMES_SHOWN]) + (", …" if len(group.nodes) > _NAMES_SHOWN else "")
        text.append(f"at {plural(len(group.nodes), 'node')}: {shown}")
    for label, value in (("got", first.got), ("need", first.need), ("help", first.help)):
        if value:
            text.append(f"{label}: {value}")
    keys["title"] = f"{first.code}{rule} ({target})"
    return _command(_COMMANDS[first.severity], keys, "\n".join(text))


def _command(name: str, keys: Mapping[str, str], message: str) -> str:
    """``::NAME KEY=VALUE,…::MESSAGE``, escaped as the runner undoes it (actions/toolkit, command.ts)."""
    properties = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in keys.items())
    return f"::{name} {properties}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    text = printable(text)
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
