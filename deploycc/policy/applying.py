"""Which findings of lint count: selection, ignores, baseline, and what the command line leaves with.

What does not count stays in the result with the reason in ``Diagnostic.suppressed``; verdicts of nodes
and coverage are counted again without it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from deploycc.lint import LintResult
from deploycc.lint_targets import is_external
from deploycc.lint_types import Coverage, NodeReport, Report
from deploycc.partition import fewest_parts
from deploycc.policy.baseline import Entry, entry
from deploycc.policy.file import FailLevel, Ignore
from deploycc.rule_names import BASELINE_GONE, POLICY_RULES, UNUSED_IGNORE, called
from deploycc.types import Diagnostic, Severity, Verdict

BASELINE = "baseline"
"""``Diagnostic.suppressed`` of a finding that the baseline knows."""

_RANK: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2}
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From the worst on."""
_SHOWN_GONE = 5


@dataclass(frozen=True)
class Policy:
    """What counts.  ``select`` and ``ignore`` are codes, beginnings of codes, rules' names or patterns.

    An empty ``select`` selects everything.  ``baseline`` has the findings that are known, ``baseline_path``
    where they were read.
    """

    fail_level: FailLevel = "error"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    baseline: tuple[Entry, ...] = ()
    baseline_path: Path | None = None

    @cached_property
    def known(self) -> frozenset[str]:
        """The fingerprints of the baseline."""
        return frozenset(known.fingerprint for known in self.baseline)


def apply_policy(result: LintResult, policy: Policy, model: str = "") -> LintResult:
    """The result with everything suppressed that does not count.

    ``model`` is the file's name that ignores are for, that of the result unless given.

    Ignores that are about a target and this model and that nothing needed, and entries of the baseline
    that no longer occur, are findings of the first report they are about.
    """
    model = model or result.model.name
    used: set[Ignore] = set()
    reports = []
    for report in result.reports:
        told = []
        for finding in report.diagnostics:
            matching = [i for i in policy.ignores if i.about(report.target, model) and _matches(i, finding)]
            used.update(matching)
            told.append(_judged(finding, policy, matching))
        reports.append(replace(report, diagnostics=tuple(told)))
    for index, found in _about_the_policy(reports, policy, used, model):
        finding = _judged(found, policy, [])
        reports[index] = replace(reports[index], diagnostics=(*reports[index].diagnostics, finding))
    return replace(result, reports=tuple(map(_counted_again, reports)))


def counting(reports: Iterable[Report]) -> list[Diagnostic]:
    """The findings that are not suppressed."""
    return [d for report in reports for d in report.diagnostics if not d.suppressed]


def exit_code(result: LintResult, fail_level: FailLevel) -> Literal[0, 1]:
    """1 where a finding that counts is of ``fail_level`` or graver."""
    if fail_level == "never":
        return 0
    return 1 if any(_RANK[d.severity] >= _RANK[fail_level] for d in counting(result.reports)) else 0


def baseline_of(result: LintResult) -> list[Entry]:
    """What ``--write-baseline`` writes: what counts now, and what an older baseline knew and still occurs."""
    return [
        entry(finding, report.target)
        for report in result.reports
        for finding in report.diagnostics
        if finding.suppressed in ("", BASELINE) and finding.rule not in POLICY_RULES
    ]


def _matches(ignore: Ignore, finding: Diagnostic) -> bool:
    return called(finding, ignore.rule) and ignore.takes(finding.node)


def _judged(finding: Diagnostic, policy: Policy, matching: Sequence[Ignore]) -> Diagnostic:
    """The finding with the first reason for which it does not count."""
    reason = ""
    if policy.select and not any(called(finding, text) for text in policy.select):
        reason = "not selected"
    for text in policy.ignore:
        if not reason and called(finding, text):
            reason = f"--ignore {text}"
    if not reason and matching:
        reason = matching[0].reason
    if not reason and finding.fingerprint in policy.known:
        reason = BASELINE
    return replace(finding, suppressed=reason) if reason else finding


def _about_the_policy(
    reports: Sequence[Report], policy: Policy, used: set[Ignore], model: str
) -> Iterable[tuple[int, Diagnostic]]:
    """Unused ignores and baseline entries that are gone, each with the report that tells of it."""
    for ignore in policy.ignores:
        about = next((i for i, r in enumerate(reports) if ignore.about(r.target, model)), None)
        if about is not None and ignore not in used:
            yield (
                about,
                Diagnostic(
                    POLICY_RULES[UNUSED_IGNORE],
                    "an ignore matches no finding",
                    got=ignore.shown(),
                    need="a finding of that rule about such a node",
                    help=f"remove it from {ignore.place.split(',')[0]}, or correct its patterns",
                    severity="warning",
                    verdict="info",
                    source=ignore.place,
                    rule=UNUSED_IGNORE,
                    fingerprint=_hash(UNUSED_IGNORE, ignore.shown()),
                ),
            )
    occurring = {d.fingerprint for report in reports for d in report.diagnostics}
    told: set[str] = set()
    for index, report in enumerate(reports):
        gone = [
            known
            for known in policy.baseline
            if _unversioned(known.target) == _unversioned(report.target)
            and known.fingerprint not in occurring | told
        ]
        told |= {known.fingerprint for known in gone}
        if gone:
            yield index, _gone(gone, policy.baseline_path)


def _gone(entries: Sequence[Entry], path: Path | None) -> Diagnostic:
    shown = [f"{known.rule or known.code} at '{known.node}'" for known in entries[:_SHOWN_GONE]]
    more = f" and {len(entries) - _SHOWN_GONE} more" if len(entries) > _SHOWN_GONE else ""
    count = f"{len(entries)} findings" if len(entries) > 1 else "a finding"
    return Diagnostic(
        POLICY_RULES[BASELINE_GONE],
        f"{count} of the baseline no longer occur{'' if len(entries) > 1 else 's'}",
        got=", ".join(shown) + more,
        help=f"write the baseline anew: --write-baseline {path}" if path else "",
        severity="info",
        verdict="info",
        source=str(path or ""),
        rule=BASELINE_GONE,
        fingerprint=_hash(BASELINE_GONE, *(known.fingerprint for known in entries)),
    )


def _counted_again(report: Report) -> Report:
    """Verdicts and coverage by what counts; the same report where nothing is suppressed."""
    suppressed = {d.node for d in report.diagnostics if d.suppressed}
    if not suppressed or report.coverage is None:
        return report
    counted = [d for d in report.diagnostics if not d.suppressed]
    nodes = tuple(_node(node, counted) if node.name in suppressed else node for node in report.nodes)
    return replace(report, nodes=nodes, coverage=_coverage(report.coverage, nodes, counted, report.target))


def _node(node: NodeReport, counted: Iterable[Diagnostic]) -> NodeReport:
    mine = [d for d in counted if d.node == node.name]
    verdicts = {d.verdict for d in mine}
    return replace(
        node,
        verdict=next((verdict for verdict in _VERDICTS if verdict in verdicts), ""),
        taken=not any(d.severity == "error" or d.verdict == "fallback" for d in mine),
    )


def _coverage(
    before: Coverage, nodes: Sequence[NodeReport], counted: Iterable[Diagnostic], target: str
) -> Coverage:
    taken = [node for node in nodes if node.taken]
    made = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    reads = {i: {made[name] for name in node.inputs if name in made} for i, node in enumerate(nodes)}
    parts = len(fewest_parts(range(len(nodes)), reads, {i for i, n in enumerate(nodes) if n.taken}))
    whole_errors = [d for d in counted if d.severity == "error" and not d.node]
    runs: Literal["whole", "parts", "not"] = "whole"
    beside = before.runs == "whole" and len(taken) < len(nodes)  # what a GPU lacks runs on the processor
    if (len(taken) < len(nodes) and not beside) or whole_errors:
        runs = "parts" if is_external(target) and taken and not whole_errors else "not"
    return replace(
        before,
        runs=runs,
        parts=1 if runs == "whole" else parts,
        taken=len(taken),
        taken_macs=sum(node.macs for node in taken),
        replace=tuple(Counter(node.op for node in nodes if not node.taken).most_common()),
    )


def _unversioned(target: str) -> str:
    return re.sub(r"@.*", "", target)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
