"""The child process: limits, crashes, interrupts, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycc.supervise import (
    ChildCrashed,
    ChildOutOfMemory,
    ChildRaised,
    ChildTimedOut,
    run_child,
)
from deploycc.types import DeployccError, Diagnostic, Limits

Emit = Callable[[dict[str, Any]], None]
QUICK = Limits(stage_seconds=20.0)


def echo(request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    return {"got": request, "pid": os.getpid()}


def noisy(request: dict[str, Any], emit: Emit) -> str:
    os.write(1, b'{"result": "forged"}\n' * 10_000)
    print("text on stderr", file=sys.stderr)
    emit({"event": "stage", "name": "one", "state": "start"})
    emit({"event": "stage", "name": "one", "state": "end"})
    return "x" * 1_000_000


def refuse(request: dict[str, Any], emit: Emit) -> None:
    raise DeployccError(Diagnostic("DC100", "first", node="n"), Diagnostic("DC101", "second", help="do this"))


def broken(request: dict[str, Any], emit: Emit) -> None:
    emit({"event": "stage", "name": "lower", "state": "start"})
    emit({"event": "node", "name": "conv_7"})
    raise ValueError("our own mistake")


def hang(request: dict[str, Any], emit: Emit) -> None:
    emit({"event": "stage", "name": "simplify", "state": "start"})
    grandchild = subprocess.Popen(["sleep", "100"])
    Path(request["pids"]).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(100)


def slow_but_moving(request: dict[str, Any], emit: Emit) -> str:
    for number in range(4):
        emit({"event": "stage", "name": str(number), "state": "start"})
        time.sleep(0.6)
    return "done"


def greedy(request: dict[str, Any], emit: Emit) -> None:
    emit({"event": "stage", "name": "simplify", "state": "start"})
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))
        time.sleep(0.005)


def memory_error(request: dict[str, Any], emit: Emit) -> None:
    raise MemoryError("cannot have it")


def segfault(request: dict[str, Any], emit: Emit) -> None:
    emit({"event": "stage", "name": "import", "state": "start"})
    print("last words", flush=True)
    ctypes.string_at(0)


def leave(request: dict[str, Any], emit: Emit) -> None:
    os._exit(3)


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_returns_what_the_function_returns() -> None:
    answer = run_child("tests.test_supervise:echo", {"a": [1, "é"]}, QUICK)
    assert answer["got"] == {"a": [1, "é"]}
    assert answer["pid"] != os.getpid()


def test_prints_neither_corrupt_nor_forge_the_answer() -> None:
    events: list[dict[str, Any]] = []
    assert run_child("tests.test_supervise:noisy", {}, QUICK, events.append) == "x" * 1_000_000
    assert [(e["name"], e["state"]) for e in events] == [("one", "start"), ("one", "end")]


def test_a_large_request_arrives() -> None:
    assert (
        run_child("tests.test_supervise:echo", {"a": "y" * 3_000_000}, QUICK)["got"]["a"] == "y" * 3_000_000
    )


def test_diagnostics_cross_the_border_whole() -> None:
    with pytest.raises(DeployccError) as caught:
        run_child("tests.test_supervise:refuse", {}, QUICK)
    assert caught.value.diagnostics == (
        Diagnostic("DC100", "first", node="n"),
        Diagnostic("DC101", "second", help="do this"),
    )


def test_an_exception_names_stage_and_node() -> None:
    with pytest.raises(ChildRaised, match="ValueError: our own mistake") as caught:
        run_child("tests.test_supervise:broken", {}, QUICK)
    assert (caught.value.stage, caught.value.node) == ("lower", "conv_7")
    assert "in broken" in caught.value.traceback


def test_a_hang_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(ChildTimedOut, match=r"no result after 2 s in stage 'simplify'"):
        run_child("tests.test_supervise:hang", {"pids": str(pids)}, Limits(stage_seconds=2.0))
    assert all(_gone(int(pid)) for pid in pids.read_text().split())


def test_each_stage_has_its_own_time() -> None:
    assert run_child("tests.test_supervise:slow_but_moving", {}, Limits(stage_seconds=2.0)) == "done"


def test_memory_has_a_limit() -> None:
    with pytest.raises(ChildOutOfMemory, match=r"MiB resident in stage 'simplify', the limit is 400 MiB"):
        run_child("tests.test_supervise:greedy", {}, Limits(stage_seconds=30.0, memory_bytes=400 << 20))


def test_a_memory_error_is_told_as_one() -> None:
    with pytest.raises(ChildOutOfMemory, match="cannot have it"):
        run_child("tests.test_supervise:memory_error", {}, QUICK)


def test_a_crash_names_signal_stage_and_last_words() -> None:
    with pytest.raises(ChildCrashed, match="SIGSEGV") as caught:
        run_child("tests.test_supervise:segfault", {}, QUICK)
    assert caught.value.exit_status == -signal.SIGSEGV
    assert caught.value.stage == "import"
    assert "last words" in caught.value.tail
    assert "in segfault" in caught.value.tail


def test_a_silent_exit_is_a_crash() -> None:
    with pytest.raises(ChildCrashed, match="exit status 3"):
        run_child("tests.test_supervise:leave", {}, QUICK)


def test_an_exception_in_the_callback_ends_the_child(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def interrupt(event: dict[str, Any]) -> None:
        while not (pids.exists() and pids.read_text()):
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child("tests.test_supervise:hang", {"pids": str(pids)}, QUICK, interrupt)
    assert all(_gone(int(pid)) for pid in pids.read_text().split())


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import sys; sys.path[:] = sys.argv[2].split(':')\n"
        "from deploycc.supervise import run_child; from deploycc.types import Limits\n"
        "run_child('tests.test_supervise:hang', {'pids': sys.argv[1]}, Limits())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(pids), ":".join(sys.path)])
    try:
        while not (pids.exists() and len(pids.read_text().split()) == 2):
            assert parent.poll() is None
            time.sleep(0.05)
        child, grandchild = map(int, pids.read_text().split())
    finally:
        parent.kill()
        parent.wait()
    assert _gone(child)
    # A SIGKILLed parent cannot clean up; only the kernel's signal reaches the child itself.
    os.kill(grandchild, signal.SIGKILL)
