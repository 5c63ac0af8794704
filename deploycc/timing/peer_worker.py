"""The process that an engine runs in; it talks as ``running/driver.c`` does: both are timed alike.

It is given a folder with ``orders.json`` (engine, model, threads, processors) and ``input_I.npy``.  The time
of importing the engine, of making its session and of the first run are told, then that of as many runs as
each line of standard input asks for, and at its end the memory.  Outputs are left as ``output_I.npy``, what
went wrong in ``failure.txt``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

import numpy as np

from deploycc.timing.peers import PEERS


def main(folder: Path) -> None:
    """Do what ``folder`` says; leaves with exit status 1 and ``failure.txt`` where the engine fails."""
    # What native libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    try:
        _serve(folder, answers)
    except Exception as error:  # whatever an engine raises is told the same way
        text = str(error).strip() or type(error).__name__
        (folder / "failure.txt").write_text(text.splitlines()[0][:400], encoding="utf-8")
        sys.exit(1)
    answers.flush()
    # Destructors of engines have crashed at the end of a process before; nothing is left to be told.
    os._exit(0)


def _serve(folder: Path, answers: TextIO) -> None:
    orders = json.loads((folder / "orders.json").read_text(encoding="utf-8"))
    cpus = orders["cpus"]
    if cpus:
        os.sched_setaffinity(0, cpus)
    peer, model = PEERS[orders["peer"]], Path(orders["model"])
    idle = _idle_kib()
    start = time.perf_counter()
    importlib.import_module(peer.module)
    loaded = time.perf_counter()
    engine = peer.open(model, orders["threads"])
    created = time.perf_counter()
    if cpus:
        # Only this thread: workers stay where the engine put them.
        os.sched_setaffinity(0, cpus[:1])
    _tell(answers, load_us=(loaded - start) * 1e6, create_us=(created - loaded) * 1e6, idle_kib=idle)
    inputs = [
        np.load(folder / f"input_{number}.npy", allow_pickle=False) for number in range(orders["inputs"])
    ]
    first = time.perf_counter()
    outputs = engine.bind(inputs)
    _tell(answers, first_us=(time.perf_counter() - first) * 1e6)
    gc.collect()
    gc.disable()
    clock, run = time.perf_counter_ns, engine.run
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            before = clock()
            run()
            taken.append((clock() - before) / 1e3)
        _tell(answers, run_us=taken)
    _tell(answers, peak_kib=_status_kib("VmHWM"))
    for number, output in enumerate(outputs):
        np.save(folder / f"output_{number}.npy", output)


def _tell(answers: TextIO, **what: object) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _idle_kib() -> int:
    """Resident memory from which the peak is counted; the kernel's high-water mark starts anew there."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)
    return _status_kib("VmHWM")


def _status_kib(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0
