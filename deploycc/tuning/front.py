"""What the tuner does with the user's model itself, in a child process as a build would.

``tasks_in_child`` reads the operators out of it; ``compare_in_child`` runs the whole network, as an
untuned build makes it and as the records have it, head-to-head.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deploycc.build import laid_out, tasks_of
from deploycc.records import databases
from deploycc.request import request_from_json
from deploycc.resources import data_dir
from deploycc.trace import Trace
from deploycc.tuning.runner import Effort, Job, Measurement, Runner
from deploycc.tuning.workload import PRECISION_TOLERANCE
from deploycc.types import TO_DEVICE, TO_HOST, BuildRequest, Golden, Model, Plan, Program

Event = dict[str, Any]

WHOLE = Effort(batches=15, batch_seconds=0.03)
"""How long whole networks are compared."""
TOLERANCE = 1e-3
"""Largest error of a whole network for its time to count, as a share of each output's largest value."""
_ROUNDINGS = 10.0
"""Roundings of a precision add up through a network."""
_UNTIMED = {"status": "failed", "unit": "seconds", "value": None, "note": ""}


def tasks_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """The network's operators: ``{"tasks": [[repr, uses], ...]}``, in program order."""
    request = request_from_json(message["request"])
    trace = Trace(request.dump_dir, emit)
    program = _laid_out(request, trace)[1]
    return {"tasks": [[repr(task.func), task.uses] for task in program.tasks]}


def _laid_out(request: BuildRequest, trace: Trace) -> tuple[Model, Program]:
    """The model, and its program with layouts chosen for the target, which has one chip at most."""
    model, _, program = tasks_of(request, trace)
    return model, laid_out(program, request, request.target, trace) if request.target.gpus else program


def compare_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Measurements of the network, as an untuned build makes it and with the request's records.

    ``{"same": true}`` where both are the same code.
    """
    from deploycc.planning import plan, plan_chips
    from deploycc.reference import golden
    from deploycc.scheduling import choose

    request = request_from_json(message["request"])
    target = request.target
    trace = Trace(request.dump_dir, emit)
    directories = (data_dir("schedules"), *request.schedule_dirs)
    plans: list[Plan] = []
    for records in ((), request.records):
        # Records also decide the layouts, so each has a whole line of its own.
        one = replace(request, records=records)
        model, program = _laid_out(one, trace)
        program = trace("schedule", choose, program, target, directories, databases(one))
        if target.gpus:
            plans += trace("plan", plan_chips, (program,), target)
        else:
            plans.append(trace("plan", plan, program, target))
    alike = ("kernels", "calls", "images")
    if all(getattr(plans[0], name) == getattr(plans[1], name) for name in alike):
        return {"same": True}
    if any(call.symbol in (TO_DEVICE, TO_HOST) for one in plans for call in one.calls):
        # Only a package does what the processor has to do in between.
        return {"same": False, "untuned": _UNTIMED, "tuned": _UNTIMED}
    reference = trace("golden", golden, model, request.seed)
    inputs, expected = _arrays(model, reference)
    module, _, name = message["runner"].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)(target)
    try:
        most = max(TOLERANCE, _ROUNDINGS * PRECISION_TOLERANCE[target.precision])
        jobs = [Job(made, inputs, expected, most) for made in plans]
        before, after = runner.measure(jobs, WHOLE)
    finally:
        runner.close()
    return {"same": False, "untuned": _table(before), "tuned": _table(after)}


def _arrays(model: Model, reference: Golden) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    def read(infos: Any, contents: tuple[bytes, ...]) -> tuple[Any, ...]:
        return tuple(
            np.frombuffer(content, np.dtype(info.dtype)).reshape(info.shape)
            for info, content in zip(infos, contents, strict=True)
        )

    return read(model.inputs, reference.inputs), read(model.outputs, reference.outputs)


def _table(measurement: Measurement) -> dict[str, Any]:
    ok = measurement.status == "ok"
    return {
        "status": measurement.status,
        "unit": measurement.unit,
        "value": measurement.value if ok else None,
        "note": measurement.note,
    }
