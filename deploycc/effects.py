"""What a condition of an operator support table means for a network, by its ``effect``."""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.types import Severity, Verdict


@dataclass(frozen=True)
class Effect:
    """What a condition's ``effect`` becomes: code, verdict, severity and the middle of the headline."""

    code: str
    verdict: Verdict
    severity: Severity
    headline: str


EFFECTS: dict[str, Effect] = {
    "silently-wrong": Effect("DC401", "silently-wrong", "error", "would compute something else"),
    "import": Effect("DC402", "unsupported", "error", "is not handled in this form"),
    "compile": Effect("DC403", "unsupported", "error", "has no kernel in this form"),
    "runtime": Effect("DC404", "unsupported", "error", "has no static shape in this form"),
    "fallback": Effect("DC410", "fallback", "warning", "does not run there in this form"),
    "slow": Effect("DC411", "slow", "warning", "is slow in this form"),
    "inaccurate": Effect("DC412", "silently-wrong", "warning", "may lose accuracy in this form"),
    "info": Effect("DC413", "info", "info", "is worth a look"),
}
"""How each ``effect`` is reported."""
