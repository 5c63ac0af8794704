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

from deploycc.build import tasks_of
from deploycc.records import databases
from deploycc.request import request_from_json
from deploycc.resources import data_dir
from deploycc.trace import Trace
from deploycc.tuning.runner import Effort, Job, Measurement, Runner
from deploycc.types import Golden, Model

Event = dict[str, Any]

WHOLE = Effort(batches=15, batch_seconds=0.03)
"""How long whole networks are compared."""
TOLERANCE = 1e-3
"""Largest error of a whole network for its time to count, as a share of each output's largest value."""


def tasks_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """The network's operators: ``{"tasks": [[repr, uses], ...]}``, in program order."""
    request = request_from_json(message["request"])
    _, _, program = tasks_of(request, Trace(request.dump_dir, emit))
    return {"tasks": [[repr(task.func), task.uses] for task in program.tasks]}


def compare_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Measurements of the network, as an untuned build makes it and with the request's records.

    ``{"same": true}`` where both are the same code.
    """
    from deploycc.planning import plan
    from deploycc.reference import golden
    from deploycc.scheduling import choose

    request = request_from_json(message["request"])
    target = request.target
    trace = Trace(request.dump_dir, emit)
    directories = (data_dir("schedules"), *request.schedule_dirs)
    plans = []
    for records in ((), request.records):
        # Records also decide the layouts, so each has a whole line of its own.
        one = replace(request, records=records)
        model, _, program = tasks_of(one, trace)
        program = trace("schedule", choose, program, target, directories, databases(one))
        plans.append(trace("plan", plan, program, target))
    if plans[0].kernels == plans[1].kernels and plans[0].calls == plans[1].calls:
        return {"same": True}
    reference = trace("golden", golden, model, request.seed)
    inputs, expected = _arrays(model, reference)
    module, _, name = message["runner"].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)(target)
    try:
        jobs = [Job(made, inputs, expected, TOLERANCE) for made in plans]
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
