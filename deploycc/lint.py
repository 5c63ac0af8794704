"""``deploycc lint``: from an ONNX file to a report for every target.

The parent resolves the targets; import, simplify and lint run in one child process, as in a build
(``deploycc.build``).  A model is simplified once for all targets that deploycc compiles for and once
for all that another compiler takes over.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploycc.build import explain_failure
from deploycc.lint_targets import at_precision, load_lint_target
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

Event = dict[str, Any]
_ANY_TARGET = "x86-64"
"""The request of a build that carries model and shapes into the child; its target plays no part."""


@dataclass(frozen=True)
class LintResult:
    """The reports of one model, in the order the targets were given."""

    model: Path
    sha256: str
    reports: tuple[Report, ...]


def lint_model(
    model: str | Path,
    targets: Sequence[str | LintTarget],
    *,
    precision: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_counts: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    op_dirs: Sequence[str | Path] = (),
    on_event: Callable[[Event], None] | None = None,
) -> LintResult:
    """Check an ONNX file against targets: ``arm64``, ``./board.toml``, ``snpe:htp@2.10``, ``cuda:sm_90``.

    ``precision`` is that of a build, for those of the targets that have a GPU.
    ``op_dirs`` are folders of files with operators of your own, for the targets that deploycc compiles for.
    Dimensions that neither the model nor ``shapes`` fix are findings (DC200), no refusal.

    Raises ``DeployccError`` for a file that is no model and for targets that are none, and
    ``InternalError`` for faults of our own.
    """
    resolved = resolve_lint_targets(targets, precision)
    request = replace(
        lint_request(model, shapes or {}, limits or Limits()),
        max_counts=dict(max_counts or {}),
        op_dirs=tuple(Path(folder).absolute() for folder in op_dirs),
    )
    message = {
        "request": request_to_json(request),
        "targets": [lint_target_to_json(target) for target in resolved],
    }
    names = [word for target in resolved for word in ("--target", target.name)]
    names += ["--precision", precision] if precision not in (None, "fp32") else []
    names += [word for folder in request.op_dirs for word in ("--op-dir", str(folder))]
    command = shlex.join(["deploycc", "lint", str(request.model), *names])
    try:
        answer = run_child("deploycc.lint:lint_in_child", message, request.limits, on_event)
    except ChildFailed as error:
        raise explain_failure(error, request, command) from None
    return LintResult(
        model=Path(model),
        sha256=answer["sha256"],
        reports=tuple(report_from_json(report) for report in answer["reports"]),
    )


def resolve_lint_targets(
    targets: Sequence[str | LintTarget], precision: str | None = None
) -> tuple[LintTarget, ...]:
    """The targets, each once; raises with everything that is wrong with any of them.

    ``precision`` is for those with a GPU; DC516 where there is none such and it is another than fp32.
    """
    found: dict[str, LintTarget] = {}
    faults: list[Diagnostic] = []
    for target in targets:
        try:
            resolved = target if isinstance(target, LintTarget) else load_lint_target(target)
            if precision is not None and (resolved.beside_gpu or len(targets) == 1):
                resolved = at_precision(resolved, precision)
        except DeployccError as error:
            faults.extend(error.diagnostics)
            continue
        found.setdefault(resolved.name, resolved)
    if faults:
        raise DeployccError(*faults)
    return tuple(found.values())


def lint_request(model: str | Path, shapes: Mapping[str, Sequence[int]], limits: Limits) -> BuildRequest:
    """A request that names the model for the stages up to lint."""
    target = load_lint_target(_ANY_TARGET).compiled
    assert target is not None
    return BuildRequest(
        model=Path(model).absolute(),
        target=target,
        output=Path(),
        name="lint",
        shapes={key: tuple(int(extent) for extent in shape) for key, shape in shapes.items()},
        limits=limits,
    )


def lint_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Import, simplify and lint; runs in the child process only."""
    request = request_from_json(message["request"])
    targets = [lint_target_from_json(table) for table in message["targets"]]
    trace = Trace(None, emit)

    from deploycc.operator_files import install  # it loads onnx

    install(request.op_dirs)
    models: dict[bool, Model] = {}
    others: Model | None = None
    reports = []
    for target in targets:
        compiled = target.compiled is not None
        if compiled not in models:
            models[compiled] = judged(request, trace, compiled=compiled)

        from deploycc.linting import lint
        from deploycc.linting.fingerprints import with_fingerprints

        beside = None
        if compiled and target.hints:
            # Other libraries would get the file, not what a package is made of.
            if False not in models and others is None:
                from deploycc.simplifying import clean

                others = trace("hints", clean, models[compiled], request.limits)
            beside = models.get(False, others)
        report = trace("lint", lint, models[compiled], target, beside)
        # A target's own finding about an open dimension says more than import's.
        told = any(d.rule == "dynamic-shape" for d in report.diagnostics)
        said = [d for d in models[compiled].diagnostics if d.code != "DC200" or not told]
        notes = with_fingerprints(said, {}, target)
        reports.append(asdict(replace(report, diagnostics=(*notes, *report.diagnostics))))
    return {"sha256": next(iter(models.values())).sha256, "reports": reports}


def judged(request: BuildRequest, trace: Trace, *, compiled: bool) -> Model:
    """The simplified model that lint judges: what a build would lower, or another compiler would get."""
    from deploycc.importing import load

    model = trace("import", load, request, compiled=compiled, leave_open=True)

    from deploycc.simplifying import simplify

    return trace("simplify", simplify, model, request.limits, compiled=compiled)
