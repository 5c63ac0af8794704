"""Stage "schedule": choose a schedule and knobs for every task, fuse, and apply.

``choose`` takes a lowered program and returns one whose kernels are scheduled tensor programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploycc.scheduling.apply import schedule_kernels
from deploycc.scheduling.cutting import cut_deep_expressions
from deploycc.scheduling.legalize import legalize
from deploycc.scheduling.library import Schedule, Selection, load_schedules, select
from deploycc.tvm_api import llvm_target, relax
from deploycc.types import Program, Target

__all__ = ["choose", "schedule_with"]


def choose(program: Program, target: Target, directories: Sequence[Path]) -> Program:
    """Choose, fuse and apply schedules for ``program`` on ``target``.

    A schedule file in a later one of ``directories`` replaces one of the same name in an earlier;
    the schedules that come with deploycc are in the first.  The result's ``choices`` say what
    every kernel got and why other schedules were skipped.  Raises ``DeployccError`` (DC460) for a
    schedule file that cannot be used.
    """
    schedules = load_schedules(directories)
    selections = {}
    for number, task in enumerate(program.tasks):
        selection = select(schedules, task.func, target, computing=True)
        if selection is not None:
            selections[number] = selection
    return schedule_with(program, target, schedules, selections)


def schedule_with(
    program: Program, target: Target, schedules: Sequence[Schedule], selections: Mapping[int, Selection]
) -> Program:
    """Fuse ``program`` and apply the ``selections`` (by number of the task) that somebody has made.

    Kernels without a selected operator are scheduled by the best of ``schedules``.
    """
    selections = {
        number: replace(selection, match=replace(selection.match, task=number))
        for number, selection in selections.items()
    }
    by_operator = {program.tasks[number].func: selection for number, selection in selections.items()}
    with llvm_target(target):  # a sort or scan is lowered for a target, not in general
        module = relax.backend.DispatchSortScan()(program.module)
    module = _fuse(legalize(module, by_operator))
    module, choices = schedule_kernels(module, schedules, selections, target)
    return Program(
        module=module,
        tasks=program.tasks,
        inputs=program.inputs,
        outputs=program.outputs,
        choices=choices,
    )


def _fuse(module: Any) -> Any:
    module = cut_deep_expressions(relax.transform.AnnotateTIROpPattern()(module))
    module = relax.transform.FuseOps()(module)
    module = relax.transform.FuseTIR()(module)
    return relax.transform.DeadCodeElimination()(module)
