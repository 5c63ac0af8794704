"""Findings as people read them: those that say the same of several nodes are one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from deploycc.lint_types import Report
from deploycc.types import Diagnostic, Severity, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From the worst on."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the worst on."""


@dataclass(frozen=True)
class Group:
    """Findings that differ in nothing but the node, its tensor and its line of Python; in report order."""

    diagnostics: tuple[Diagnostic, ...]

    @property
    def first(self) -> Diagnostic:
        """What holds for all of them."""
        return self.diagnostics[0]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes, each once; none where the finding is about the whole model."""
        return tuple(dict.fromkeys(d.node for d in self.diagnostics if d.node))

    @property
    def locations(self) -> tuple[str, ...]:
        """The lines of Python that made the nodes, each once."""
        return tuple(dict.fromkeys(d.location for d in self.diagnostics if d.location))

    @property
    def rule(self) -> str:
        """The rule's name, or the code where no rule made the finding."""
        return self.first.rule or self.first.code


@dataclass(frozen=True)
class Counts:
    """How many findings of each severity; suppressed ones are in ``suppressed`` only."""

    errors: int
    warnings: int
    infos: int
    suppressed: int


def grouped(report: Report) -> list[Group]:
    """The findings of a report in groups, the worst first, then as the report has them."""
    groups: dict[Diagnostic, list[Diagnostic]] = {}
    for diagnostic in report.diagnostics:
        same = replace(diagnostic, node="", tensor="", location="", fingerprint="")
        groups.setdefault(same, []).append(diagnostic)
    found = [Group(tuple(diagnostics)) for diagnostics in groups.values()]
    return sorted(found, key=lambda group: badness(group.first))


def badness(diagnostic: Diagnostic) -> tuple[bool, int, int]:
    """Sorts the worst to the front; what is suppressed comes last."""
    verdict = len(VERDICTS) if diagnostic.verdict is None else VERDICTS.index(diagnostic.verdict)
    return bool(diagnostic.suppressed), SEVERITIES.index(diagnostic.severity), verdict


def counts(diagnostics: Iterable[Diagnostic]) -> Counts:
    """How many findings there are of each kind."""
    found = Counter("suppressed" if d.suppressed else d.severity for d in diagnostics)
    return Counts(found["error"], found["warning"], found["info"], found["suppressed"])
