"""The worker process: compiles candidates and has its runner measure them, one request after the other.

Requests and answers are JSON lines on two pipes, so that nothing a kernel or a library prints can corrupt
them.  Before each candidate is touched the worker says so: when it dies, the parent knows whose fault it
was.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pickle
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.records import candidate_key, operator_of
from deploycc.request import target_from_json
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.tuning.runner import Effort, Job, Measurement, Runner
from deploycc.tuning.workload import NotScheduled, Workload, tolerance_of
from deploycc.types import DeployccError, Target

TOGETHER = -1
"""Said instead of a candidate's number when several are being measured in turns."""
_PR_SET_PDEATHSIG = 1
_WORKLOADS_KEPT = 4


def plan_file(folder: Path, operator: str, schedule: str, knobs: Mapping[str, int]) -> Path:
    """Where the compiled plan of a candidate is kept for being measured again."""
    return (
        folder
        / f"{zlib.crc32(operator.encode()):08x}-{candidate_key(schedule, knobs).replace(' ', ',')}.plan"
    )


class Worker:
    """Compiles and measures for one target."""

    def __init__(self, target: Target, schedules: Sequence[Schedule], runner: Runner, folder: Path) -> None:
        self._target = target
        self._schedules = schedules
        self._by_name = {schedule.name: schedule for schedule in schedules}
        self._runner = runner
        self._folder = folder
        self._workloads: dict[str, Workload] = {}
        self._results: dict[str, Any] = {}

    def answer(self, request: Mapping[str, Any], say: Any) -> dict[str, Any]:
        """Measurements of ``request["candidates"]`` (pairs of schedule and knobs), in their order."""
        text, candidates = request["operator"], request["candidates"]
        effort = Effort(*request["effort"])
        found: list[Measurement | None] = [None] * len(candidates)
        jobs: dict[int, Job] = {}
        began = time.perf_counter()
        for number, (schedule, knobs) in enumerate(candidates):
            say({"at": number})
            try:
                jobs[number] = self._job(text, schedule, knobs)
            except Exception as error:  # a schedule, ours or a user's, may raise anything
                note = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1][:300]}"
                found[number] = Measurement("failed", self._runner.unit, note=note)
        compiled = time.perf_counter()
        if len(jobs) > 1:
            say({"at": TOGETHER})
        for number, measurement in zip(jobs, self._runner.measure(list(jobs.values()), effort), strict=True):
            found[number] = measurement
        return {
            "id": request["id"],
            "measurements": [_as_json(measurement) for measurement in found if measurement is not None],
            "compile_seconds": compiled - began,
            "measure_seconds": time.perf_counter() - compiled,
        }

    def _job(self, text: str, schedule: str, knobs: Mapping[str, int]) -> Job:
        workload = self._workload(text)
        path = plan_file(self._folder, text, schedule, knobs)
        expected = self._expected(text, workload)
        if path.exists():
            # Written by a worker of this session into a folder that is this user's alone.
            tolerance = tolerance_of(workload.operator, self._target)
            return Job(pickle.loads(path.read_bytes()), (workload.arrays[0],), (expected,), tolerance)  # noqa: S301
        if schedule not in self._by_name:
            raise NotScheduled(f"there is no schedule {schedule}")
        job = workload.job(self._by_name[schedule], knobs, self._target, self._schedules, expected)
        _write_whole(path, pickle.dumps(job.plan))
        return job

    def _workload(self, text: str) -> Workload:
        if text not in self._workloads:
            while len(self._workloads) >= _WORKLOADS_KEPT:
                oldest = next(iter(self._workloads))
                self._workloads.pop(oldest)
                self._results.pop(oldest, None)
            self._workloads[text] = Workload(operator_of(text))
        return self._workloads[text]

    def _expected(self, text: str, workload: Workload) -> Any:
        """The reference result, computed by the first worker that needs it."""
        if text not in self._results:
            self._results[text] = self._reference(text, workload)
        return self._results[text]

    def _reference(self, text: str, workload: Workload) -> Any:
        path = self._folder / f"{zlib.crc32(text.encode()):08x}.expected"
        shape, dtype = workload.out_shape, np.dtype(workload.operator.dtype)
        if not path.exists():
            _write_whole(path, workload.expected().tobytes())
        return np.frombuffer(path.read_bytes(), dtype).reshape(shape)


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _as_json(measurement: Measurement) -> dict[str, Any]:
    """JSON has no infinity: what is not finite goes as text."""
    table = asdict(measurement)
    return {**table, "value": repr(table["value"]), "error": repr(table["error"])}


def measurement_from_json(table: Mapping[str, Any]) -> Measurement:
    """The measurement that a worker sent."""
    return Measurement(**{**table, "value": float(table["value"]), "error": float(table["error"])})


def worker_main(request_fd: int, answer_fd: int, parent: int) -> None:
    """A worker's life; never returns.  The first request says what it is to work on."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    answers = open(answer_fd, "wb", buffering=0)  # noqa: SIM115 - open for the process's life

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    runner: Runner | None = None
    try:
        with open(request_fd, "rb") as requests:
            start = json.loads(requests.readline())
            if start["core"] is not None:
                os.sched_setaffinity(0, {start["core"]})
            target = target_from_json(start["target"])
            schedules = load_schedules([Path(folder) for folder in start["schedule_dirs"]], target)
            module, _, name = start["runner"].partition(":")
            runner = getattr(importlib.import_module(module), name)(target)
            assert runner is not None
            worker = Worker(target, schedules, runner, Path(start["folder"]))
            peak = getattr(runner, "peak", None)
            say({"ready": True, "unit": runner.unit, "peak": peak() if peak else None})
            for line in requests:
                say(worker.answer(json.loads(line), say))
    except DeployccError as error:
        say({"diagnostics": [asdict(d) for d in error.diagnostics]})
    except BaseException:
        say({"fault": traceback.format_exc()})
    finally:
        with contextlib.suppress(Exception):
            if runner is not None:
                runner.close()
            sys.stdout.flush()
        # Destructors of native libraries may hang or crash; every answer is out.
        os._exit(0)
