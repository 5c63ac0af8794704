"""Stage "schedule": choose a schedule and knobs for every task, fuse, and apply.

``choose`` takes a lowered program and returns one whose kernels are scheduled tensor programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploycc.operators import Operator
from deploycc.resources import data_dir
from deploycc.scheduling.apply import schedule_kernels
from deploycc.scheduling.cutting import cut_deep_expressions
from deploycc.scheduling.joining import join_runs
from deploycc.scheduling.legalize import fused_operators, legalize
from deploycc.scheduling.library import Schedule, Selection, load_schedules, select
from deploycc.scheduling.precision import stored_in
from deploycc.scheduling.recorded import MeasuredCycles, load_records, select_recorded
from deploycc.scheduling.recurrent import write_recurrent_layers
from deploycc.scheduling.running_sums import with_parallel_sums
from deploycc.tracing import origins
from deploycc.tvm_api import llvm_target, relax, tirx
from deploycc.types import Origin, Program, Target

__all__ = ["choose", "estimator", "schedule_with"]


def estimator(
    target: Target, directories: Sequence[Path], records: Sequence[Path] = ()
) -> Callable[[Operator], float | None]:
    """What the best schedule for an operator on ``target`` is estimated to take: cycles of one core.

    The answer is ``None`` where no schedule with a ``compute`` takes the operator.  ``directories`` and
    ``records`` are as for ``choose``: what was measured corrects the static costs.  Answers are
    remembered.  Raises ``DeployccError`` as ``choose`` does.
    """
    schedules = load_schedules(directories, target)
    return MeasuredCycles(schedules, target, load_records(records, target, schedules)).of


def choose(
    program: Program, target: Target, directories: Sequence[Path], records: Sequence[Path] = ()
) -> Program:
    """Choose, fuse and apply schedules for ``program`` on ``target``.

    A schedule file in a later one of ``directories`` replaces one of the same name in an earlier;
    the schedules that come with deploycc are in the first.  The result's ``choices`` say what
    every kernel got and why other schedules were skipped.

    ``records`` are tuning databases, later ones over earlier: an operator that was measured gets the
    fastest candidate on record, every other one what the schedules' static cost prefers.

    Raises ``DeployccError``: DC460 for a schedule file that cannot be used, DC601 and DC602 for a database.
    """
    schedules = load_schedules(directories, target)
    measured = load_records(records, target, schedules)
    selections = {}
    for number, task in enumerate(program.tasks):
        selection = select_recorded(schedules, task.func, target, measured)
        if selection is None:
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
    module = with_parallel_sums(program.module) if target.gpus else program.module
    with llvm_target(target):  # a sort or scan is lowered for a target, not in general
        module = relax.backend.DispatchSortScan()(module)
    module = write_recurrent_layers(module, target)
    module, fused, found = _fuse(legalize(join_runs(module), by_operator), program)
    module, fused = stored_in(module, target.precision, fused, found)
    unscheduled = {
        variable.name_hint: function
        for variable, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    beside = load_schedules((data_dir("schedules"),)) if target.gpus else ()
    module, choices = schedule_kernels(module, schedules, selections, target, fused, beside)
    return Program(
        module=module,
        tasks=program.tasks,
        inputs=program.inputs,
        outputs=program.outputs,
        layouts=program.layouts,
        choices=choices,
        unscheduled=unscheduled,
        tensors=program.tensors,
        origins=found,
    )


def _fuse(module: Any, program: Program) -> tuple[Any, Mapping[str, tuple[str, ...]], Mapping[str, Origin]]:
    """``module`` with elementwise consumers fused behind their producers, and what is in each kernel.

    The last are the origins of its calls, by the variable each gives a value to.
    """
    module = cut_deep_expressions(relax.transform.AnnotateTIROpPattern()(module))
    before = module
    module = relax.transform.FuseOps()(module)
    fused = fused_operators(module)
    module, found = origins(before, module, program.tensors, [info.name for info in program.outputs])
    module = relax.transform.FuseTIR()(module)
    return relax.transform.DeadCodeElimination()(module), fused, found
