"""How long a tuning session may search."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from deploycc.types import DeployccError, Diagnostic


@dataclass(frozen=True)
class Budget:
    """How long to search: so many ``seconds``, or so many ``trials`` (candidates measured)."""

    amount: float
    kind: Literal["seconds", "trials"]


def parse_budget(text: str) -> Budget:
    """``60s``, ``10min``, ``2h`` or ``500trials``.  Raises ``DeployccError`` (DC603)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|trials?)\s*", text)
    amount = float(match[1]) if match else 0.0
    if match is None or amount <= 0:
        raise DeployccError(
            Diagnostic(
                "DC603",
                "the tuning budget is neither a time nor a number of trials",
                got=text,
                need="a number above 0 and its unit, like 60s, 10min, 2h or 500trials",
            )
        )
    if match[2].startswith("trial"):
        return Budget(float(max(1, int(amount))), "trials")
    return Budget(amount * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]], "seconds")
