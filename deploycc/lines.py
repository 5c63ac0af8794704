"""The line up to the schedules, once for each shape or chip that a package is for.

It runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from deploycc.build import laid_out, tasks_of
from deploycc.lint_types import Report
from deploycc.records import databases
from deploycc.resources import data_dir
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Golden, Model, Program, Target

Event = dict[str, Any]


@dataclass(frozen=True)
class Other:
    """What is kept of the line of a variant that is not the first; of another chip, the program alone."""

    program: Program
    golden: Golden | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


def lines_of(
    request: BuildRequest, emit: Callable[[Event], None]
) -> tuple[Model, Report, Program, list[Other]]:
    """Model, report and scheduled program of the first shapes or chip, and what is needed of the others."""
    if request.target.gpus:
        return _of_chips(request, emit)
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


def _of_chips(
    request: BuildRequest, emit: Callable[[Event], None]
) -> tuple[Model, Report, Program, list[Other]]:
    target = request.target
    trace = Trace(request.dump_dir, emit)
    model, report, lowered = tasks_of(request, trace)
    programs = []
    for number, gpu in enumerate(target.gpus):
        if len(target.gpus) > 1:
            emit({"event": "variant", "name": gpu.name})
        if request.dump_dir is not None and number:
            trace = Trace(request.dump_dir / gpu.name, emit)
        chip = target.for_gpu(gpu)
        programs.append(_choose(laid_out(lowered, request, chip, trace), request, chip, trace))
    return model, report, programs[0], [Other(program) for program in programs[1:]]


def _scheduled(request: BuildRequest, trace: Trace) -> tuple[Model, Report, Program]:
    model, report, program = tasks_of(request, trace)
    return model, report, _choose(program, request, request.target, trace)


def _choose(program: Program, request: BuildRequest, target: Target, trace: Trace) -> Program:
    from deploycc.scheduling import choose

    # A later folder's schedule replaces an earlier one's of the same name.
    directories = (data_dir("schedules"), *request.schedule_dirs)
    return trace("schedule", choose, program, target, directories, databases(request))
