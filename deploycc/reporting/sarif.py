"""SARIF 2.1.0 (OASIS, with errata 01): what code scanning of GitHub, GitLab and Azure DevOps reads.

A target is a run of its own, so that the findings of one are not taken for the absence of another's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deploycc import __version__
from deploycc.diagnostics import CATALOGUE
from deploycc.lint_types import Report
from deploycc.reporting.locations import python_line
from deploycc.reporting.options import Options
from deploycc.reporting.summary import headline
from deploycc.types import Diagnostic

if TYPE_CHECKING:
    from deploycc.lint import LintResult

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "deploycc/v1"
"""Key of ``Diagnostic.fingerprint``; another number when it is computed another way."""
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(result: LintResult, options: Options) -> str:
    """The log, one run a target."""
    log = {
        "$schema": SCHEMA_URI,
        "version": "2.1.0",
        "runs": [_run(result, report, options) for report in result.reports],
    }
    return json.dumps(log, indent=2) + "\n"


def rule_id(diagnostic: Diagnostic) -> str:
    """``DC402/snpe-conv-rank``: what a code means never changes, one of its rules may."""
    return f"{diagnostic.code}/{diagnostic.rule}" if diagnostic.rule else diagnostic.code


def documentation_url() -> str:
    """Where the pages are published, as the package's metadata tells; empty where it does not."""
    from importlib.metadata import PackageNotFoundError, metadata  # a tenth of a command's start

    try:
        urls = metadata("deploycc").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = dict(entry.split(", ", 1) for entry in urls if ", " in entry)
    return str(named.get("Documentation", "")).rstrip("/")


def _run(result: LintResult, report: Report, options: Options) -> dict[str, Any]:
    first: dict[str, Diagnostic] = {}
    for diagnostic in report.diagnostics:
        first.setdefault(rule_id(diagnostic), diagnostic)
    indices = {name: index for index, name in enumerate(first)}
    driver = {
        "name": "deploycc",
        "fullName": "deploycc lint",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(name, diagnostic, options) for name, diagnostic in first.items()],
    }
    artifact: dict[str, Any] = {"location": _artifact(result.model), "roles": ["analysisTarget"]}
    if result.sha256:
        artifact["hashes"] = {"sha-256": result.sha256}
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"deploycc-lint/{report.target}/"},
        "invocations": [{"executionSuccessful": options.exit_code in (0, 1), "exitCode": options.exit_code}],
        "artifacts": [artifact],
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, indices[rule_id(d)], result.model) for d in report.diagnostics],
        "properties": {
            "target": report.target,
            "headline": headline(report),
            "coverage": None if report.coverage is None else asdict(report.coverage),
        },
    }


def _rule(name: str, diagnostic: Diagnostic, options: Options) -> dict[str, Any]:
    code = diagnostic.code
    title = CATALOGUE[code].title if code in CATALOGUE else diagnostic.message
    long_text = options.rule_help(diagnostic.rule or code) if options.rule_help else ""
    told = f"{title[:1].upper()}{title[1:]}. For what it means and what to do: deploycc explain {code}"
    rule: dict[str, Any] = {
        "id": name,
        "name": _pascal(diagnostic.rule or title),
        "shortDescription": {"text": title},
        "fullDescription": {"text": diagnostic.message},
        "help": {"text": long_text or told, "markdown": long_text or told},
        "defaultConfiguration": {"level": _LEVELS[diagnostic.severity]},
        "properties": {"tags": [tag for tag in ("onnx", diagnostic.verdict) if tag]},
    }
    if base := documentation_url():
        rule["helpUri"] = f"{base}/errors.md#{code.lower()}"
    return rule


def _result(diagnostic: Diagnostic, index: int, model: Path) -> dict[str, Any]:
    # A model has no lines, but code scanning shows nothing that has none.
    place = {"artifactLocation": {**_artifact(model), "index": 0}, "region": {"startLine": 1}}
    location: dict[str, Any] = {"physicalLocation": place}
    if diagnostic.node:
        node = {"name": diagnostic.node, "fullyQualifiedName": diagnostic.node, "kind": "node"}
        location["logicalLocations"] = [node]
    result: dict[str, Any] = {
        "ruleId": rule_id(diagnostic),
        "ruleIndex": index,
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": _message(diagnostic)},
        "locations": [location],
        "properties": _properties(diagnostic),
    }
    if line := python_line(diagnostic.location):
        written = {"artifactLocation": _artifact(Path(line.file)), "region": {"startLine": line.number}}
        message = {"text": "the line of Python that the export recorded"}
        result["relatedLocations"] = [{"id": 0, "physicalLocation": written, "message": message}]
    if diagnostic.fingerprint:
        # GitHub compares the second key only, and would compute it from lines that a model has not.
        keys = (FINGERPRINT, "primaryLocationLineHash")
        result["partialFingerprints"] = dict.fromkeys(keys, diagnostic.fingerprint)
    if diagnostic.suppressed:
        suppression = {"kind": "external", "status": "accepted", "justification": diagnostic.suppressed}
        result["suppressions"] = [suppression]
    return result


def _message(diagnostic: Diagnostic) -> str:
    where = " ".join(word for word in (diagnostic.op, diagnostic.node and f"'{diagnostic.node}'") if word)
    lines = [f"{where}: {diagnostic.message}" if where else diagnostic.message]
    for label, text in (("got", diagnostic.got), ("need", diagnostic.need), ("help", diagnostic.help)):
        if text:
            lines.append(f"{label}: {text}")
    return "\n".join(lines)


def _properties(diagnostic: Diagnostic) -> Mapping[str, str]:
    keys = ("verdict", "op", "tensor", "got", "need", "help", "source", "fix")
    return {key: value for key in keys if (value := getattr(diagnostic, key))}


def _artifact(path: Path) -> dict[str, Any]:
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}


def _pascal(words: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in words.replace("-", " ").split())
