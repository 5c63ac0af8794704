"""``--fix``, ``--fix-unsafe`` and ``--diff`` of ``deploycc lint``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deploycc.diagnostics import printable
from deploycc.types import Limits


@dataclass(frozen=True)
class Fixing:
    """What to do: rewrite into ``output``, the ``unsafe`` ones too, or only show the ``diff``."""

    fix: bool
    unsafe: bool
    diff: bool
    output: Path | None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.fix or self.diff


def fixing_of(model: Path, fix: bool, unsafe: bool, diff: bool, output: Path | None) -> Fixing:
    """The options as they are meant: ``--fix-unsafe`` is a ``--fix``, unless only a diff is asked for."""
    fix = fix or (unsafe and not diff)
    if output is not None and not fix:
        raise click.UsageError("--fixed-output is the file of --fix")
    return Fixing(fix, unsafe, diff, output or model.with_suffix(".fixed.onnx") if fix else None)


def rewrite(
    model: Path,
    targets: Sequence[str],
    fixing: Fixing,
    *,
    shapes: Mapping[str, Sequence[int]],
    limits: Limits,
    on_event: Callable[[dict[str, Any]], None],
    to_stderr: bool,
) -> Path:
    """Rewrite, say what was done, and return the model that is to be linted: the new one where there is one.

    Raises ``DeployccError`` as ``deploycc.fix.fix_model``.
    """
    from deploycc.fix import fix_model, fix_text

    with tempfile.TemporaryDirectory(prefix="deploycc-diff-") as folder:
        shown = fixing.output or model.with_suffix(".fixed.onnx")
        written = fixing.output or Path(folder, shown.name)
        done = fix_model(
            model, targets, written, shapes=shapes, unsafe=fixing.unsafe, limits=limits, on_event=on_event
        )
    lines = list(fix_text(done)) if fixing.fix else []
    if fixing.diff:
        # The folder is gone: what would be written is told by the name it would have.
        lines += [printable(line.rstrip("\n")).replace(str(written), str(shown)) for line in done.diff]
    if fixing.diff and not done.diff and not fixing.fix:
        lines.append("nothing would be rewritten")
    click.echo("\n".join([*lines, ""]), err=to_stderr)
    return done.output if fixing.fix and done.output is not None else model
