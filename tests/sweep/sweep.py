"""Runs many models through the whole line and says what became of each.

``python -m tests.sweep.sweep node graphs --filter conv --out sweep.json`` runs every case whose name
contains ``conv`` and prints what did not pass.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.sweep.case import Case

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90.0
"""After this a worker is taken to hang on its model."""

BAD = ("wrong", "exception", "crash", "hang")
Result = dict[str, Any]


class _Worker:
    def __init__(self, words: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        self._process = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._lines.get(timeout=300) == "ready\n", self._said()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, folder: Path, seconds: float) -> Result:
        assert self._process.stdin is not None
        self._stderr.truncate(0)
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            return {"verdict": "hang", "stage": "?", "detail": f"more than {seconds:g} s"}
        if not line:
            status = self._process.wait()
            return {"verdict": "crash", "stage": "?", "detail": f"status {status}: {self._said()}"}
        answer: Result = json.loads(line)
        return answer

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-1500:]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


def sweep(
    cases: Sequence[Case],
    workers: int = 1,
    seconds: float = SECONDS,
    progress: Path | None = None,
    worker: Sequence[str] = ("tests.sweep.worker",),
) -> dict[str, Result]:
    """What became of every case, by name; ``worker`` is a module and its arguments.

    A case that takes its worker along has what the worker left in ``so_far.json`` and the end it came to.
    """
    todo: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        todo.put(case)
    results: dict[str, Result] = {}

    def work() -> None:
        process = _Worker(worker)
        while True:
            try:
                case = todo.get_nowait()
            except queue.Empty:
                break
            with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
                case.save(Path(folder))
                answer = process.ask(Path(folder), seconds)
                so_far = Path(folder) / "so_far.json"
                known = json.loads(so_far.read_text()) if so_far.is_file() else {}
                results[case.name] = {**known, **answer}
            if progress is not None:
                with progress.open("a") as file:
                    file.write(json.dumps({"name": case.name, **results[case.name]}) + "\n")
            if not process.alive:
                process = _Worker(worker)
        process.close()

    threads = [threading.Thread(target=work) for _ in range(min(workers, len(cases)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {case.name: results[case.name] for case in cases}


def counts(results: dict[str, Result]) -> Counter[str]:
    """How many cases got which verdict."""
    return Counter(result["verdict"] for result in results.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["node", "graphs"], help="node, expanded, graphs")
    parser.add_argument("--filter", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cases: list[Case] = []
    if "node" in options.sources or "expanded" in options.sources:
        from tests.conformance.node_cases import deployer_cases

        for case in deployer_cases():
            if ("expanded" if "_expanded" in case.name else "node") in options.sources:
                cases.append(case)
    if "graphs" in options.sources:
        from tests.sweep.graphs import graph_cases

        cases += graph_cases()
    cases = [case for case in cases if options.filter in case.name]
    results = sweep(cases, options.workers, progress=options.out)
    for name, result in results.items():
        if result["verdict"] in BAD:
            print(f"{result['verdict']:10} {name} [{result['stage']}]\n    {result['detail'][:400]}")
    print(dict(counts(results)))


if __name__ == "__main__":
    main()
