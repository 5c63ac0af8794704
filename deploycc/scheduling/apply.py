"""Apply the selected schedules to the fused kernels of a module."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploycc.recurrent_cells import Cell
from deploycc.scheduling.device_functions import with_wide_functions
from deploycc.scheduling.identities import infinite_identities
from deploycc.scheduling.intrinsics import expand_intrinsics
from deploycc.scheduling.kernel import DEVICE_CELL, WRITTEN, view
from deploycc.scheduling.library import Schedule, Selection, select
from deploycc.scheduling.placing import runs_on_device, runs_on_host
from deploycc.scheduling.written.device_recurrent import write_device_cell
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, s_tir, structural_equal, structural_hash, tirx
from deploycc.types import JOINED, Choice, Target


def schedule_kernels(
    module: Any,
    schedules: Sequence[Schedule],
    selections: Mapping[int, Selection],
    target: Target,
    operators: Mapping[str, tuple[str, ...]],
    beside: Sequence[Schedule] = (),
) -> tuple[Any, tuple[Choice, ...]]:
    """Schedule every tensor program of ``module``; identical programs are scheduled once.

    ``operators`` says what is fused in each one, for its ``Choice``.  For a target with a GPU ``beside`` are
    the schedules of what is left to the processor.  A schedule that fails on a kernel is
    passed over for the next one in line, with the failure as its reason; the last resort is the kernel's
    plain loops.
    """
    choices: list[Choice] = []
    done: dict[int, list[tuple[Any, Any, Choice]]] = {}
    for variable, function in sorted(module.functions.items(), key=lambda item: item[0].name_hint):
        if not isinstance(function, tirx.PrimFunc) or JOINED in (function.attrs or ()):
            continue
        seen = done.setdefault(structural_hash(function), [])
        twin = next((entry for entry in seen if structural_equal(entry[0], function)), None)
        if twin is None:
            if target.gpus and runs_on_host(function):
                how: tuple[Any, ...] = (beside, {}, target.host)
            else:
                how = (schedules, selections, target)
            scheduled, choice = _schedule_kernel(variable.name_hint, function, *how)
            seen.append((function, scheduled, choice))
        else:
            _, scheduled, first = twin
            choice = replace(first, task=variable.name_hint)
        # After scheduling: an expanded operand would be computed anew wherever a block is inlined.
        scheduled = infinite_identities(scheduled)
        expand = with_wide_functions if runs_on_device(scheduled) else expand_intrinsics
        module.update_func(variable, expand(scheduled))
        choices.append(replace(choice, operators=operators.get(variable.name_hint, ())))
    return module, tuple(choices)


def _schedule_kernel(
    name: str,
    function: Any,
    schedules: Sequence[Schedule],
    selections: Mapping[int, Selection],
    target: Target,
) -> tuple[Any, Choice]:
    kernel = view(name, _fresh(function))
    if WRITTEN in (function.attrs or ()):
        known = json.loads(str(function.attrs[WRITTEN]))
        if DEVICE_CELL in function.attrs:
            cell = Cell.from_text(str(function.attrs[DEVICE_CELL]))
            return write_device_cell(function, cell), Choice(name, known["schedule"], {})
        return function, Choice(name, known["schedule"], known["knobs"])
    if kernel.opaque:  # no transformation can know that it keeps such a block's order of reads and writes
        return function, Choice(name, "none", {}, {"all": "a block written by hand"})
    skipped: dict[str, str] = {}
    operator = ""
    if kernel.anchor is not None:
        selection = selections[kernel.anchor]
        operator = repr(selection.match.operator)
        skipped.update(selection.skipped)
        scheduled = _attempt(function, selection, skipped)
        if scheduled is not None:
            return scheduled, _choice(name, selection, skipped, operator)
    candidates = [schedule for schedule in schedules if schedule.compute is None]
    while candidates:
        reasons: dict[str, str] = {}
        chosen = select(candidates, kernel, target, computing=False, skipped=reasons)
        skipped = {**reasons, **skipped}
        if chosen is None:
            break
        scheduled = _attempt(function, chosen, skipped)
        if scheduled is not None:
            skipped.pop(chosen.schedule.name, None)  # it was estimated slower than one that failed
            return scheduled, _choice(name, chosen, skipped, operator)
        candidates.remove(chosen.schedule)
    return function, Choice(name, "none", {}, skipped, operator=operator)


def _choice(name: str, selection: Selection, skipped: Mapping[str, str], operator: str) -> Choice:
    schedule = selection.schedule
    with schedule.blamed("cost"):
        cycles = schedule.cost(selection.match, selection.knobs) or 0.0
    return Choice(
        task=name,
        schedule=schedule.name,
        knobs=dict(selection.knobs),
        skipped=skipped,
        operator=operator,
        cycles=float(cycles),
        measured_seconds=selection.measured_seconds,
    )


def _attempt(function: Any, selection: Selection, skipped: dict[str, str]) -> Any | None:
    sch = _fresh(function)
    try:
        written = selection.schedule.apply(sch, selection.match, selection.knobs)
    except Exception as error:  # a schedule, ours or a user's, that does not fit must not end the build
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = (lines or [""])[-1][:200]
        if selection.schedule.compute is None and isinstance(error, NotWritable):
            skipped[selection.schedule.name] = why  # only a look at its expressions can tell
        else:
            skipped[selection.schedule.name] = f"failed: {type(error).__name__}: {why}"
        return None
    scheduled = sch.mod["main"] if written is None else written
    return (
        scheduled.with_attrs({**function.attrs, **(scheduled.attrs or {})}) if function.attrs else scheduled
    )


def _fresh(function: Any) -> Any:
    return s_tir.Schedule(ir.IRModule({"main": function}))
