"""``deploycc lint --fix``: from an ONNX file to one with the rewrites that lint names made and checked.

The parent resolves targets and names and writes the file; import, simplify, lint and the rewrites run in one
child process, as in ``deploycc.lint``.  What is rewritten is the model as another compiler would get it:
shapes bound, constants folded, cleaned, at its own opset.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.build import explain_failure
from deploycc.fix_types import AppliedFix, FixResult, OutputError, RefusedFix
from deploycc.lint import lint_request, resolve_lint_targets
from deploycc.lint_types import LintTarget, Report
from deploycc.request import (
    lint_target_from_json,
    lint_target_to_json,
    report_from_json,
    request_from_json,
    request_to_json,
)
from deploycc.supervise import ChildFailed, run_child
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Model

if TYPE_CHECKING:
    from onnx import ModelProto

    from deploycc.fixing.engine import Finding

Event = dict[str, Any]


def fix_model(
    model: str | Path,
    targets: Sequence[str | LintTarget],
    output: str | Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    unsafe: bool = False,
    select: Sequence[str] = (),
    write_unchanged: bool = False,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> FixResult:
    """Make the rewrites that lint names for ``targets`` and write the result to ``output``.

    Every rewrite is checked on this model: the outputs on random inputs against those of the file as it
    was read.  One that breaks it is undone (a diagnostic DC790).  ``unsafe`` also makes rewrites that change
    the numbers or the meaning in some cases, ``select`` limits them by name.  Where nothing was rewritten,
    nothing is written, unless ``write_unchanged``.  The file is written complete or not at all.

    Raises ``DeployccError``: DC791 where ``output`` is ``model``, DC792 where the model cannot be run, DC794
    for a name in ``select`` that no rewrite has, DC795 where ``output`` cannot be written, DC200 for open
    dimensions; else as ``lint_model``.  ``InternalError`` for faults of our own.
    """
    source, destination = Path(model), Path(output)
    resolved = resolve_lint_targets(targets)
    _check_destination(source, destination)
    _check_names(select)
    request = lint_request(source, shapes or {}, limits or Limits())
    with tempfile.TemporaryDirectory(prefix="deploycc-fix-") as folder:
        aside = Path(folder, "fixed.onnx")
        message = {
            "request": request_to_json(request),
            "targets": [lint_target_to_json(target) for target in resolved],
            "unsafe": unsafe,
            "select": list(select),
            "aside": str(aside),
            "names": [str(source), str(destination)],
        }
        names = [word for target in resolved for word in ("--target", target.name)]
        command = shlex.join(
            ["deploycc", "lint", str(request.model), *names, "--fix", "-o", str(destination)]
        )
        try:
            answer = run_child("deploycc.fix:fix_in_child", message, request.limits, on_event)
        except ChildFailed as error:
            raise explain_failure(error, request, command) from None
        written = bool(answer["applied"]) or write_unchanged
        if written:
            _put(aside, destination)
    return FixResult(
        model=source,
        output=destination if written else None,
        applied=tuple(
            AppliedFix(**{**row, "before": tuple(row["before"]), "after": tuple(row["after"])})
            for row in answer["applied"]
        ),
        refused=tuple(RefusedFix(**row) for row in answer["refused"]),
        errors=tuple(OutputError(**row) for row in answer["errors"]),
        reports=tuple(report_from_json(report) for report in answer["reports"]),
        diagnostics=tuple(Diagnostic(**row) for row in answer["diagnostics"]),
        diff=tuple(answer["diff"]),
    )


def fix_text(result: FixResult) -> list[str]:
    """What a person reads: the rewrites made and refused, the errors, and where the result is."""
    from deploycc.diagnostics import printable, render

    lines: list[str] = []
    for applied in result.applied:
        how = "by folding and cleaning" if applied.cleaned else f"for {applied.target}, {applied.rule}"
        lines.append(f"fixed  {_place(applied)}: {applied.fix} ({how})")
        lines += [f"  - {line}" for line in applied.before]
        lines += [f"  + {line}" for line in applied.after]
    for refused in result.refused:
        lines.append(f"left   {_place(refused)}: {refused.fix}")
        lines.append(f"  {refused.reason}")
    for note in result.diagnostics:
        lines += render(note).splitlines()
    count = len(result.applied)
    if result.output is None:
        lines.append("nothing was rewritten, so no model was written")
    else:
        lines.append(f"{count} rewrite{'' if count == 1 else 's'}; written to {result.output}")
    for error in result.errors:
        lines.append(
            f"output '{error.output}': largest error {error.max_abs_error:.3g},"
            f" {error.share:.3g} of its magnitude (allowed {error.allowed:.3g})"
        )
    left = sum(1 for report in result.reports for d in report.diagnostics if d.severity != "info")
    lines.append(f"{left} finding{'' if left == 1 else 's'} left, not counting information")
    return [printable(line) for line in lines]


def _place(made: AppliedFix | RefusedFix) -> str:
    return f"{made.op} '{made.node}'" if made.node else "the graph"


def _check_destination(source: Path, destination: Path) -> None:
    try:
        same = destination.exists() and source.exists() and os.path.samefile(source, destination)
    except OSError:
        same = False
    if same or destination.absolute() == source.absolute():
        raise DeployccError(
            Diagnostic(
                "DC791",
                "the repaired model would replace the model that it was made from",
                got=str(destination),
                need="another file: the repaired model is a new one",
                help=f"choose one with -o, such as {source.with_suffix('.fixed.onnx').name}",
            )
        )
    if destination.is_dir():
        raise _cannot_write(destination, "a folder")


def _check_names(select: Sequence[str]) -> None:
    if not select:
        return
    import difflib

    from deploycc.fixing import fixes

    faults = []
    for name in select:
        if name not in fixes():
            near = difflib.get_close_matches(name, fixes(), n=1, cutoff=0.4)
            faults.append(
                Diagnostic(
                    "DC794",
                    f"no rewrite is called '{name}'",
                    got=name,
                    need="a name from docs/fixes.md",
                    help=f"did you mean {near[0]}?" if near else "",
                )
            )
    if faults:
        raise DeployccError(*faults)


def _cannot_write(destination: Path, reason: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC795",
            f"the repaired model cannot be written to {destination}",
            got=reason,
            need="a file that can be made there",
            help="choose another with -o",
        )
    )


def _put(made: Path, destination: Path) -> None:
    """Copy beside the destination, then rename: the file is there as a whole or not at all."""
    aside: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{destination.name}-", dir=destination.absolute().parent)
        aside = Path(name)
        with os.fdopen(handle, "wb") as file, made.open("rb") as source:
            while block := source.read(1 << 22):
                file.write(block)
        # mkstemp's mode is for the owner alone.
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(destination)
        aside = None
    except OSError as error:
        raise _cannot_write(destination, error.strerror or str(error)) from None
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def fix_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Import, simplify, lint and rewrite; runs in the child process only."""
    from deploycc.fixing.difference import diff_text
    from deploycc.fixing.engine import repair, with_metadata
    from deploycc.fixing.verifying import Verification

    request = request_from_json(message["request"])
    targets = [lint_target_from_json(table) for table in message["targets"]]
    trace = Trace(None, emit)
    with tempfile.TemporaryDirectory(prefix="deploycc-fix-") as folder:
        judges = _Judges(request, targets, trace, Path(folder, "model.onnx"))
        original, as_read = judges.as_read()
        made = repair(
            original.proto,
            Verification(original.proto),
            judges.judge,
            as_read,
            unsafe=message["unsafe"],
            select=message["select"],
        )
        reports = judges.last
    model = with_metadata(made.model, original.original or original.proto)
    Path(message["aside"]).write_bytes(model.SerializeToString())
    return {
        "applied": [asdict(applied) for applied in made.applied],
        "refused": [asdict(refused) for refused in made.refused],
        "errors": [asdict(error) for error in made.errors],
        "reports": [asdict(report) for report in reports],
        "diagnostics": [asdict(note) for note in made.diagnostics],
        "diff": diff_text(original.original or original.proto, model, *message["names"]),
    }


class _Judges:
    """Lints a form of the model for every target, each through its own front."""

    def __init__(
        self, request: BuildRequest, targets: Sequence[LintTarget], trace: Trace, scratch: Path
    ) -> None:
        self._request = request
        self._targets = targets
        self._trace = trace
        self._scratch = scratch
        self.last: list[Report] = []
        self._first: Model | None = None

    def as_read(self) -> tuple[Model, list[Finding]]:
        """The model that is repaired, and what lint finds in it with the form it was read in."""
        from deploycc.importing import load

        model = self._trace("import", load, self._request, compiled=False)
        fronts: dict[bool, Model] = {}
        found = _findings(self._reports(self._request, fronts))
        self._first = fronts.get(False)
        return model, found

    def judge(self, proto: ModelProto) -> tuple[ModelProto, list[Finding]]:
        """The model folded and cleaned, and what lint finds in it that names a rewrite."""
        from deploycc.fixing.engine import with_metadata

        request = replace(self._request, model=self._scratch, shapes={})
        model, self._first = self._first, None
        if model is None:
            self._scratch.write_bytes(proto.SerializeToString())
            model = self._front(request, compiled=False)
        model = replace(model, proto=with_metadata(model.proto, proto))
        self._scratch.write_bytes(model.proto.SerializeToString())
        # Form is that of the graph being written, not of the one it came from.
        self.last = self._reports(request, {False: replace(model, original=None, diagnostics=())})
        return model.proto, _findings(self.last)

    def _reports(self, request: BuildRequest, fronts: dict[bool, Model]) -> list[Report]:
        from deploycc.linting import lint

        reports = []
        for target in self._targets:
            compiled = target.compiled is not None
            if compiled not in fronts:
                fronts[compiled] = self._front(request, compiled=compiled)
            reports.append(self._trace("lint", lint, fronts[compiled], target))
        return reports

    def _front(self, request: BuildRequest, *, compiled: bool) -> Model:
        from deploycc.importing import load
        from deploycc.simplifying import simplify

        model = self._trace("import", load, request, compiled=compiled)
        return self._trace("simplify", simplify, model, request.limits, compiled=compiled)


def _findings(reports: Sequence[Report]) -> list[Finding]:
    from deploycc.fixing.engine import Finding

    return [Finding(report.target, d) for report in reports for d in report.diagnostics if d.fix]
