"""The line up to the schedules, once for each shape that a package is for; runs in the child process only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from deploycc.build import tasks_of
from deploycc.lint_types import Report
from deploycc.records import databases
from deploycc.resources import data_dir
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Golden, Model, Program

Event = dict[str, Any]


@dataclass(frozen=True)
class Other:
    """What is kept of the line of a variant that is not the first."""

    program: Program
    golden: Golden
    diagnostics: tuple[Diagnostic, ...]


def lines_of(
    request: BuildRequest, emit: Callable[[Event], None]
) -> tuple[Model, Report, Program, list[Other]]:
    """Model, report and scheduled program of the first shapes, and what is needed of the others."""
    if not request.buckets:
        return *_scheduled(request, Trace(request.dump_dir, emit)), []

    from deploycc.importing import expand
    from deploycc.reference import golden

    kept: tuple[Model, Report, Program] | None = None
    others: list[Other] = []
    for number, shapes in enumerate(expand(request.model, request.buckets)):
        shown = ", ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
        emit({"event": "variant", "name": shown})
        folder = request.dump_dir
        trace = Trace(folder / f"variant-{number}" if folder is not None and number else folder, emit)
        try:
            model, report, program = _scheduled(replace(request, shapes=shapes), trace)
            if kept is None:
                kept = model, report, program
            else:
                reference = trace("golden", golden, model, request.seed)
                others.append(Other(program, reference, (*model.diagnostics, *report.diagnostics)))
        except DeployccError as error:
            told = (replace(one, message=f"{one.message} (variant {shown})") for one in error.diagnostics)
            raise DeployccError(*told) from None
    assert kept is not None
    return *kept, others


def _scheduled(request: BuildRequest, trace: Trace) -> tuple[Model, Report, Program]:
    model, report, program = tasks_of(request, trace)

    from deploycc.scheduling import choose

    # A later folder's schedule replaces an earlier one's of the same name.
    directories = (data_dir("schedules"), *request.schedule_dirs)
    program = trace("schedule", choose, program, request.target, directories, databases(request))
    return model, report, program
