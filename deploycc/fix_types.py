"""The data of ``--fix``: what was rewritten, what was not, and how far the numbers moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploycc.lint_types import Report
from deploycc.types import Diagnostic


@dataclass(frozen=True)
class AppliedFix:
    """One rewrite that stayed.

    ``before`` are the nodes that went or changed and ``after`` those in their place, one line of text each
    (``deploycc.fixing.difference``).  ``node`` and ``op`` are what the finding of ``rule`` for ``target``
    named.  ``cleaned``: folding and cleaning did it, which come before every rewrite.
    """

    fix: str
    node: str
    op: str
    rule: str
    target: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    cleaned: bool = False


@dataclass(frozen=True)
class RefusedFix:
    """A rewrite that a finding names and that was not made, and why."""

    fix: str
    node: str
    op: str
    rule: str
    target: str
    reason: str


@dataclass(frozen=True)
class OutputError:
    """How far an output of the repaired model is from the original's: ``share`` of its magnitude ``scale``.

    ``max_abs_error`` and ``scale`` are in the tensor's own unit; ``allowed`` is the share that was allowed.
    """

    output: str
    max_abs_error: float
    scale: float
    share: float
    allowed: float


@dataclass(frozen=True)
class FixResult:
    """What ``fix_model`` did with ``model``.

    ``output`` is the file that was written, ``None`` where nothing was repaired.  ``errors`` has every
    output, measured on random inputs.  ``reports`` are the findings that remain, a report for each target;
    ``diagnostics`` are about the repair itself.  ``diff`` is the graph before and after, as text.
    """

    model: Path
    output: Path | None
    applied: tuple[AppliedFix, ...]
    refused: tuple[RefusedFix, ...]
    errors: tuple[OutputError, ...]
    reports: tuple[Report, ...]
    diagnostics: tuple[Diagnostic, ...]
    diff: tuple[str, ...]
