"""Runs one function in a child process that may hang, crash or eat memory without loss.

Everything that runs native code on a user's model runs here.  The child gets its request from
an anonymous file and answers with JSON lines on a pipe of its own, so nothing that a native
library prints can corrupt the answer.  What the child prints is kept as a bounded tail.

The child is the leader of a session of its own.  The parent watches that session's resident
memory and the wall time of the current stage, and kills the whole session when a limit is
passed, when the caller is interrupted, and when the child is done.  The kernel kills the child
when the thread that started it dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from deploycc.types import DeployccError, Diagnostic, Limits

Event = dict[str, Any]

TAIL_BYTES = 16 << 10
"""How much of the child's output is kept for a report."""
POLL_SECONDS = 0.1
"""How often memory and time are looked at."""

_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from deploycc.supervise import child_main; child_main(sys.argv[2], *map(int, sys.argv[3:]))"
)
_PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """The child gave no answer.  ``stage`` and ``node`` are the last it named, ``tail`` its last output."""

    def __init__(self, message: str, *, stage: str = "", node: str = "", tail: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        self.node = node
        self.tail = tail


class ChildTimedOut(ChildFailed):
    """One stage took longer than ``Limits.stage_seconds``."""


class ChildOutOfMemory(ChildFailed):
    """The child's processes held more than ``Limits.memory_bytes``, or could not get what they asked for."""


class ChildCrashed(ChildFailed):
    """The child died: ``exit_status`` as ``subprocess`` gives it, negative for a signal."""

    def __init__(self, message: str, exit_status: int, **where: str) -> None:
        super().__init__(message, **where)
        self.exit_status = exit_status


class ChildRaised(ChildFailed):
    """The function raised something that is no ``DeployccError``; ``traceback`` is the child's."""

    def __init__(self, message: str, traceback_text: str, **where: str) -> None:
        super().__init__(message, **where)
        self.traceback = traceback_text


def run_child(
    entry: str,
    request: Mapping[str, Any],
    limits: Limits,
    on_event: Callable[[Event], None] | None = None,
) -> Any:
    """Call ``entry`` (``"package.module:function"``) in a child process and return its result.

    The function is called as ``function(request, emit)``; request, result and what is emitted
    must be JSON-able.  ``on_event`` gets every emitted event in order, in the caller's thread.  An
    event ``{"event": "stage", "name": ..., "state": "start"}`` restarts the time limit.

    Raises ``DeployccError`` with the child's diagnostics when the function raised one, else
    ``ChildTimedOut``, ``ChildOutOfMemory``, ``ChildCrashed`` or ``ChildRaised``.
    """
    request_fd = os.memfd_create("deploycc-request", 0)
    answer_read, answer_write = os.pipe()
    process: subprocess.Popen[bytes] | None = None
    try:
        with open(request_fd, "wb", closefd=False) as file:
            file.write(json.dumps(dict(request)).encode())
        os.lseek(request_fd, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _BOOTSTRAP),
                *(json.dumps(sys.path), entry, str(request_fd), str(answer_write), str(os.getpid())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(request_fd, answer_write),
            start_new_session=True,
        )
        os.close(answer_write)
        answer_write = -1
        return _Watch(process, answer_read, limits, on_event).answer()
    finally:
        if process is not None:
            _kill_session(process)
        for fd in (request_fd, answer_read, answer_write):
            if fd >= 0:
                os.close(fd)


class _Watch:
    """The parent's side of one child."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        answer_fd: int,
        limits: Limits,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self._process = process
        self._answer_fd = answer_fd
        self._limits = limits
        self._on_event = on_event
        self._tail = b""
        self._pending = b""
        self._stage = ""
        self._node = ""
        self._stage_began = time.monotonic()
        self._last: Event | None = None

    def answer(self) -> Any:
        """Read until the child has answered or died; return the result or raise."""
        assert self._process.stdout is not None
        output_fd = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answer_fd, selectors.EVENT_READ)
            selector.register(output_fd, selectors.EVENT_READ)
            answered = False
            next_look = 0.0
            while not answered:
                for key, _ in selector.select(POLL_SECONDS):
                    chunk = os.read(key.fd, 1 << 16)
                    if key.fd == self._answer_fd:
                        answered = not chunk
                        self._take(chunk)
                    elif chunk:
                        self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                    else:
                        selector.unregister(output_fd)
                answered = answered or self._last is not None
                if not answered and time.monotonic() >= next_look:
                    self._check_limits()
                    next_look = time.monotonic() + POLL_SECONDS
        if self._last is None:
            self._wait_for_death(output_fd)
        return self._conclude()

    def _take(self, chunk: bytes) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" not in message:
                self._last = message
                return
            if message["event"] == "stage":
                self._stage = message["name"] if message.get("state") == "start" else ""
                self._node = ""
                self._stage_began = time.monotonic()
            elif message["event"] == "node":
                self._node = message["name"]
            if self._on_event is not None:
                self._on_event(message)

    def _check_limits(self) -> None:
        where = f" in stage '{self._stage}'" if self._stage else ""
        if time.monotonic() - self._stage_began > self._limits.stage_seconds:
            raise ChildTimedOut(f"no result after {self._limits.stage_seconds:g} s{where}", **self._where())
        resident = _resident_bytes(self._process.pid)
        if resident > self._limits.memory_bytes:
            raise ChildOutOfMemory(
                f"{resident >> 20} MiB resident{where}, the limit is {self._limits.memory_bytes >> 20} MiB",
                **self._where(),
            )

    def _wait_for_death(self, output_fd: int) -> None:
        """The answer pipe is closed: let the child die and take its last words."""
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            _kill_session(self._process)
        os.set_blocking(output_fd, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(output_fd, 1 << 16):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def _conclude(self) -> Any:
        last = self._last
        if last is None:
            status = self._process.wait()
            raise ChildCrashed(_death(status), status, **self._where())
        if "diagnostics" in last:
            raise DeployccError(*(Diagnostic(**d) for d in last["diagnostics"]))
        if "exception" in last:
            where = self._where()
            where["node"] = last["node"] or where["node"]
            if last["out_of_memory"]:
                raise ChildOutOfMemory(last["exception"], **where)
            raise ChildRaised(last["exception"], last["traceback"], **where)
        return last["result"]

    def _where(self) -> dict[str, str]:
        return {"stage": self._stage, "node": self._node, "tail": self._tail.decode(errors="replace")}


def _death(status: int) -> str:
    if status >= 0:
        return f"the child process left with exit status {status} and no result"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (the kernel does that when memory runs out)" if name == "SIGKILL" else ""
    return f"the child process was killed by {name}{hint}"


def _session_pids(session: int) -> list[int]:
    """Processes of one session.  ``/proc/PID/stat`` is described in proc_pid_stat(5)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with (
                contextlib.suppress(OSError, IndexError, ValueError),
                open(f"/proc/{name}/stat", "rb") as file,
            ):
                # The command name may hold blanks and parentheses: fields count from the last ')'.
                if int(file.read().rpartition(b")")[2].split()[3]) == session:
                    found.append(int(name))
    return found


def _resident_bytes(session: int) -> int:
    """Resident bytes of a session's processes together (pages shared between them count twice)."""
    pages = 0
    for pid in _session_pids(session):
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm", "rb") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything it started, and reap the child."""
    # The child is reaped last: until then its process id, which names the session, is not reused.
    for pid in _session_pids(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def child_main(entry: str, request_fd: int, answer_fd: int, parent: int) -> None:
    """The child's side; never returns."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    faulthandler.enable()
    os.set_inheritable(answer_fd, False)
    lock = threading.Lock()

    def send(message: Event) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock, open(answer_fd, "wb", closefd=False) as file:
            file.write(data)

    try:
        with open(request_fd, "rb") as file:
            request = json.loads(file.read())
        module, _, function = entry.partition(":")
        send({"result": getattr(importlib.import_module(module), function)(request, send)})
    except DeployccError as error:
        send({"diagnostics": [asdict(d) for d in error.diagnostics]})
    except BaseException as error:
        send(
            {
                "exception": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
                "node": str(getattr(error, "node", "") or ""),
                "out_of_memory": isinstance(error, MemoryError),
            }
        )
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # Destructors of native libraries may hang or crash; the answer is out.
        os._exit(0)
