"""JUnit XML, which every CI system shows: a suite for a target, a case for an operator and rule.

Operators without a finding are cases that pass, so the number of cases says how much was looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from deploycc.diagnostics import printable
from deploycc.lint_types import Report
from deploycc.reporting.grouping import Group, grouped
from deploycc.reporting.options import Options
from deploycc.reporting.quantities import plural
from deploycc.reporting.summary import headline, sizes

if TYPE_CHECKING:
    from deploycc.lint import LintResult


def render(result: LintResult, options: Options) -> str:
    """Findings from the fail level on are failures, others text of a case that passes.

    XML 1.0 cannot write most control characters; ``printable`` leaves none of them.
    """
    root = ET.Element("testsuites", name=printable(f"deploycc lint {result.model}"))
    for report in result.reports:
        root.append(_suite(report, options))
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, options: Options) -> ET.Element:
    suite = ET.Element("testsuite", name=printable(report.target))
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="headline", value=printable(headline(report)))
    if report.coverage is not None:
        ET.SubElement(properties, "property", name="sizes", value=printable(sizes(report.coverage)))
    groups = grouped(report)
    cases = [_case(report.target, group, options) for group in groups]
    with_findings = {group.first.op for group in groups}
    for op, number in sorted(Counter(node.op for node in report.nodes).items()):
        if op not in with_findings:
            name = f"{op}: {plural(number, 'node')}"
            cases.append(
                ET.Element("testcase", classname=printable(f"{report.target}.{op}"), name=printable(name))
            )
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    return suite


def _case(target: str, group: Group, options: Options) -> ET.Element:
    first = group.first
    name = f"{first.code} {group.rule}" if first.rule else first.code
    if group.nodes:
        name += f": {group.nodes[0]}" if len(group.nodes) == 1 else f": {plural(len(group.nodes), 'node')}"
    case = ET.Element(
        "testcase",
        classname=printable(f"{target}.{first.op or 'model'}"),
        name=printable(f"{name}: {first.message}"),
    )
    text = printable("\n".join(_lines(group)))
    if first.suppressed:
        ET.SubElement(case, "skipped", message=printable(f"suppressed: {first.suppressed}"))
    elif options.fails(first):
        failure = ET.SubElement(
            case, "failure", type=first.verdict or first.severity, message=printable(first.message)
        )
        failure.text = text
    else:
        ET.SubElement(case, "system-out").text = text
    return case


def _lines(group: Group) -> list[str]:
    first = group.first
    lines = [f"{first.severity}[{first.code}]: {first.message}"]
    rest = (
        ("nodes", ", ".join(group.nodes)),
        ("got", first.got),
        ("need", first.need),
        ("from", first.source),
        ("help", first.help),
        ("line", ", ".join(group.locations)),
    )
    return lines + [f"{label}: {text}" for label, text in rest if text]
