"""The catalogue of diagnostic codes, and how a diagnostic is shown.

Codes are never reused: DC1xx model form, 2xx shape, 3xx dtype and quantisation,
4xx operators, 5xx target and its limits, 6xx tuning, 7xx packaging and the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.types import Diagnostic


@dataclass(frozen=True)
class Code:
    """A catalogue entry: a short title and the exit code the CLI leaves with."""

    title: str
    exit_code: int


CATALOGUE: dict[str, Code] = {}


def render(diagnostic: Diagnostic) -> str:
    """The text a person reads: one headline, then got/need/help lines where known."""
    where = " ".join(part for part in (diagnostic.op, f"'{diagnostic.node}'" if diagnostic.node else "") if part)
    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    lines = [head]
    if where:
        lines.append(f"  at:   {where}")
    for label, text in (("got", diagnostic.got), ("need", diagnostic.need), ("help", diagnostic.help)):
        if text:
            lines.append(f"  {label + ':':<5} {text}")
    return "\n".join(lines)
