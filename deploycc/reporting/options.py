"""What all report formats can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploycc.reporting.grouping import SEVERITIES
from deploycc.types import Diagnostic

if TYPE_CHECKING:  # a report is text made of text: nothing of the compiler is needed for it
    from deploycc.lint import LintResult


@dataclass(frozen=True)
class Options:
    """``fail_level`` and ``exit_code`` are those of the run that the report is about.

    ``fail_level`` is a severity, or any other word for a run that no finding fails.  ``rule_help``
    gives the long text (Markdown) of a rule or code by its name, empty where there is none.
    """

    colour: bool = False
    verbose: bool = False
    fail_level: str = "error"
    exit_code: int = 0
    rule_help: Callable[[str], str] | None = None

    def fails(self, diagnostic: Diagnostic) -> bool:
        """Whether a run with this finding counts as failed."""
        if diagnostic.suppressed or self.fail_level not in SEVERITIES:
            return False
        levels: tuple[str, ...] = SEVERITIES
        return levels.index(diagnostic.severity) <= levels.index(self.fail_level)


Renderer = Callable[["LintResult", Options], str]
"""A format: the whole text, with a line break at its end."""
