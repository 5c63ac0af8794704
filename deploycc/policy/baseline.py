"""Baselines: the findings that a model has today, so that only new ones count.

A JSON file of fingerprints; rule, target, node and message stand beside them for people to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from deploycc.rule_names import POLICY_RULES
from deploycc.text_file import write_text
from deploycc.types import DeployccError, Diagnostic

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A finding that is known; its fingerprint alone decides."""

    fingerprint: str
    target: str
    code: str
    rule: str
    node: str
    message: str


def entry(finding: Diagnostic, target: str) -> Entry:
    """The finding as a baseline has it."""
    return Entry(finding.fingerprint, target, finding.code, finding.rule, finding.node, finding.message)


def read_baseline(path: Path) -> tuple[Entry, ...]:
    """The entries of a baseline; raises ``DeployccError`` (DC774) for a file that is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeployccError(_no_baseline(path, error.strerror or str(error))) from None
    except (ValueError, RecursionError) as error:
        raise DeployccError(_no_baseline(path, str(error))) from None
    rows = data.get("findings") if isinstance(data, dict) else None
    if not isinstance(rows, list) or data.get("format") != FORMAT:
        raise DeployccError(_no_baseline(path, "no baseline, or one of another release"))
    fields = Entry.__dataclass_fields__
    try:
        found = tuple(Entry(**{name: str(row.get(name, "")) for name in fields}) for row in rows)
    except AttributeError:
        raise DeployccError(_no_baseline(path, "an entry that is no table")) from None
    if not all(known.fingerprint for known in found):
        raise DeployccError(_no_baseline(path, "an entry without a fingerprint"))
    return found


def write_baseline(path: Path, entries: Iterable[Entry]) -> int:
    """Write a baseline, the same bytes for the same findings; returns how many entries it has.

    Raises ``DeployccError`` (DC778) for a file that cannot be written.
    """
    kept = {known.fingerprint: known for known in entries if known.rule not in POLICY_RULES}
    rows = sorted(kept.values(), key=lambda known: (known.target, known.code, known.node, known.fingerprint))
    data = {"format": FORMAT, "findings": [asdict(row) for row in rows]}
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return len(rows)


def _no_baseline(path: Path, reason: str) -> Diagnostic:
    return Diagnostic(
        "DC774",
        f"the baseline {path} cannot be read",
        got=reason,
        need="a file that --write-baseline wrote",
        help=f"write it with: deploycc lint MODEL --write-baseline {path}",
    )
