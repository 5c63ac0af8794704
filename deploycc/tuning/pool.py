"""Worker processes as their parent sees them: requests in, answers out, whatever becomes of a worker.

A worker that dies or takes too long is killed and started anew; the candidate it was at is answered for
it (``crash`` or ``timeout``) and the rest of its request is asked again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploycc.records import Unit
from deploycc.request import target_to_json
from deploycc.tuning.runner import Effort, Measurement
from deploycc.tuning.worker import TOGETHER, measurement_from_json
from deploycc.types import DeployccError, Diagnostic, Target

_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from deploycc.tuning.worker import worker_main; worker_main(*map(int, sys.argv[2:]))"
)
TAIL_BYTES = 4 << 10
START_SECONDS = 120.0
"""How long a worker may take to be ready: it loads TVM and compiles the harness."""
STARTS = 3
"""How often in a row a worker may die before its first answer until the tuner gives up."""
WAITING = 4
_SUSPENDED_SECONDS = 5.0
"""A longer gap between two looks at the clock means that this process was stopped itself."""


@dataclass(frozen=True)
class Request:
    """Candidates (schedule, knobs) of one operator to be measured together; ``tag`` is the asker's own."""

    operator: str
    candidates: tuple[tuple[str, Mapping[str, int]], ...]
    effort: Effort
    tag: Any = None
    seconds: float = 30.0
    """After how many seconds of its own processor time a worker that has not answered is killed.

    After ``WAITING`` times as many of the clock it is killed in any case: a busy machine is no fault of the
    candidate's, but it may also sleep.
    """


@dataclass(frozen=True)
class Answer:
    """One measurement a candidate of the request, in their order."""

    request: Request
    measurements: tuple[Measurement, ...]
    compile_seconds: float = 0.0
    measure_seconds: float = 0.0


@dataclass
class _Process:
    """A running worker; ``request`` is what it is at, ``at`` the candidate."""

    process: subprocess.Popen[bytes]
    requests: int
    answers: int
    core: int | None
    deadline: float
    processor_deadline: float = math.inf
    ready: bool = False
    request: Request | None = None
    at: int = TOGETHER
    pending: bytes = b""
    deaths: int = 0
    output: Path = field(default_factory=Path)


class Pool:
    """``workers`` processes that measure for ``target`` with the runner ``runner`` (``module:class``).

    ``cores`` are those they are pinned to, in turn; none for no pinning.  ``folder`` holds what the
    workers share and belongs to the pool's owner.
    """

    def __init__(
        self,
        target: Target,
        schedule_dirs: Sequence[Path],
        runner: str,
        workers: int,
        folder: Path,
        cores: Sequence[int] = (),
    ) -> None:
        self._start_message = {
            "target": target_to_json(target),
            "schedule_dirs": [str(path) for path in schedule_dirs],
            "runner": runner,
            "folder": str(folder),
        }
        self._target = target
        self._folder = folder
        self._queue: deque[Request] = deque()
        self._selector = selectors.DefaultSelector()
        self._answers: list[Answer] = []
        self._processes: list[_Process] = []
        self._looked = time.monotonic()
        self.unit: Unit = "seconds"
        self.peak: float | None = None
        """FLOP/s of a core as the runner measured it, ``None`` until then or if it cannot."""
        self.replaced = 0
        """How many workers were killed or died."""
        try:
            for number in range(workers):
                core = cores[number % len(cores)] if cores else None
                self._processes.append(self._start(core, 0))
        except BaseException:
            self.close()
            raise

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self._queue.append(request)
        self._hand_out()

    def cancel(self) -> None:
        """Forget what no worker has begun."""
        self._queue.clear()

    @property
    def ready(self) -> bool:
        """Whether a worker takes requests."""
        return any(process.ready for process in self._processes)

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._processes)

    @property
    def busy(self) -> int:
        """Requests that are not answered."""
        return len(self._queue) + sum(process.request is not None for process in self._processes)

    def wait(self, seconds: float) -> list[Answer]:
        """Answers that came within ``seconds``, returning at the first.

        Raises ``DeployccError`` (DC600) when no worker can be started, ``RuntimeError`` for a fault of ours.
        """
        until = time.monotonic() + seconds
        while not self._answers:
            now = time.monotonic()
            self._excuse(now)
            for process in list(self._processes):
                if (process.request is not None or not process.ready) and _overdue(process, now):
                    self._replace(process, "timeout")
            for key, _ in self._selector.select(max(0.0, min(until - now, 0.2))):
                self._read(key.data)
            if time.monotonic() >= until:
                break
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Kill all workers."""
        for process in self._processes:
            self._end(process)
        self._processes.clear()
        self._selector.close()

    def _excuse(self, now: float) -> None:
        """Time in which this process was stopped (a laptop asleep, a debugger) is nobody's fault."""
        gap = now - self._looked
        self._looked = now
        if gap > _SUSPENDED_SECONDS:
            for process in self._processes:
                process.deadline += gap

    def _start(self, core: int | None, deaths: int) -> _Process:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        # Libraries in the worker must not use the other worker's core.
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}
        handle, output = tempfile.mkstemp(dir=self._folder, prefix="worker-", suffix=".log")
        # What a worker leaves behind when it is killed goes with the session's folder.
        environment["TMPDIR"] = str(self._folder)
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _BOOTSTRAP, json.dumps(sys.path)),
                *(str(request_read), str(answer_write), str(os.getpid())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            pass_fds=(request_read, answer_write),
            start_new_session=True,
            env=environment,
        )
        for fd in (request_read, answer_write, handle):
            os.close(fd)
        started = _Process(
            process, request_write, answer_read, core, time.monotonic() + START_SECONDS, deaths=deaths
        )
        started.output = Path(output)
        self._selector.register(answer_read, selectors.EVENT_READ, started)
        self._send(started, {**self._start_message, "core": core})
        return started

    def _send(self, process: _Process, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed where its answers are read
            os.write(process.requests, json.dumps(message).encode() + b"\n")

    def _hand_out(self) -> None:
        for process in self._processes:
            if self._queue and process.ready and process.request is None:
                request = self._queue.popleft()
                process.request, process.at = request, 0
                process.deadline = time.monotonic() + WAITING * request.seconds
                process.processor_deadline = _processor_seconds(process) + request.seconds
                effort = (request.effort.batches, request.effort.batch_seconds)
                body = {"id": 0, "operator": request.operator, "effort": effort}
                self._send(process, {**body, "candidates": [(s, dict(k)) for s, k in request.candidates]})

    def _read(self, process: _Process) -> None:
        chunk = os.read(process.answers, 1 << 16)
        if not chunk:
            self._replace(process, "crash")
            return
        *lines, process.pending = (process.pending + chunk).split(b"\n")
        for line in lines:
            self._take(process, json.loads(line))

    def _take(self, process: _Process, message: Mapping[str, Any]) -> None:
        if "at" in message:
            process.at = message["at"]
        elif "ready" in message:
            process.ready = True
            self.unit, self.peak = message["unit"], message["peak"]
            self._hand_out()
        elif "diagnostics" in message:
            raise DeployccError(*(Diagnostic(**d) for d in message["diagnostics"]))
        elif "fault" in message:
            raise RuntimeError(f"a tuning worker failed:\n{message['fault']}")
        elif process.request is not None:
            measurements = tuple(map(measurement_from_json, message["measurements"]))
            times = message["compile_seconds"], message["measure_seconds"]
            self._answers.append(Answer(process.request, measurements, *times))
            process.request, process.deaths = None, 0
            self._hand_out()

    def _replace(self, process: _Process, why: Any) -> None:
        """Start a new worker for one that died or hangs, and answer for the candidate it was at."""
        self.replaced += 1
        request, at = process.request, process.at
        deaths = 0 if process.ready and request is not None else process.deaths + 1
        self._end(process)
        if deaths >= STARTS:
            raise self._no_worker(process, why)
        index = self._processes.index(process)
        if request is not None:
            status = process.process.returncode
            note = (
                f"the worker was killed after {request.seconds:g} s" if why == "timeout" else _death(status)
            )
            self._answer_for(request, at, Measurement(why, self.unit, note=note))
        self._processes[index] = self._start(process.core, deaths)
        self._hand_out()

    def _answer_for(self, request: Request, at: int, measurement: Measurement) -> None:
        if len(request.candidates) == 1 or at == TOGETHER:
            self._answers.append(Answer(request, (measurement,) * len(request.candidates)))
            return
        # Others of the request were not measured either: they have done nothing wrong.
        untouched = Measurement("failed", self.unit, note="another candidate took the worker with it")
        found = tuple(measurement if n == at else untouched for n in range(len(request.candidates)))
        self._answers.append(Answer(request, found))

    def _end(self, process: _Process) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(process.answers)
        for fd in (process.requests, process.answers):
            with contextlib.suppress(OSError):
                os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.process.pid, 9)
        process.process.wait()

    def _no_worker(self, process: _Process, why: str) -> DeployccError:
        said = process.output.read_text(errors="replace").strip()[-TAIL_BYTES:]
        return DeployccError(
            Diagnostic(
                "DC600",
                f"kernels of target {self._target.name} cannot be measured on this machine",
                got=said or (_death(process.process.returncode) if why == "crash" else "no sign of life"),
                need="a processor that runs the target's code, or the target's emulator",
            )
        )


def _overdue(process: _Process, now: float) -> bool:
    return process.deadline < now or _processor_seconds(process) > process.processor_deadline


def _processor_seconds(process: _Process) -> float:
    """What the worker has used so far; ``/proc/PID/stat`` is described in proc_pid_stat(5)."""
    try:
        text = Path(f"/proc/{process.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just died, which is noticed where its answers are read
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _death(status: int | None) -> str:
    return (
        f"the worker left with exit status {status}"
        if status is None or status >= 0
        else (f"the worker was killed by signal {-status}")
    )


def free_cores(count: int) -> list[int]:
    """Cores to pin ``count`` workers to: those this process may use, the last ones first."""
    with contextlib.suppress(AttributeError):
        return sorted(os.sched_getaffinity(0), reverse=True)[:count]
    return []


@contextlib.contextmanager
def session_folder() -> Any:
    """A folder for what the workers of one session share; gone at its end."""
    folder = Path(tempfile.mkdtemp(prefix="deploycc-tune-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
