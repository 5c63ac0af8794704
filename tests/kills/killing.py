"""Builds and tunings that are killed at random moments, and what they leave.

``python -m tests.kills.killing --kills 100`` kills as many, half of them builds: the parent alone, its
process group, everything it started, or the child alone.  After each kill the output is absent or a package
whose files are all there, the database is one that can be read and written, and no process is left; what lies
beside the output is gone after the next build.  Exit status 1 where one of that does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from deploycc.packaging.manifest import inspect
from deploycc.records import append, read
from deploycc.staging import MARK
from deploycc.types import DeployccError
from tests.models import write_small_net

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("parent", "group", "all", "child")
PATIENCE = 60.0
"""Seconds within which the kernel has ended all that belonged to a killed process."""


class Fault(AssertionError):
    """Something that must not be left was."""


def descendants(pid: int) -> list[int]:
    """A process's children and theirs, as far as their parents still live."""
    found: list[int] = []
    todo = [pid]
    while todo:
        try:
            threads = list(Path(f"/proc/{todo.pop()}/task").iterdir())
            children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
        except OSError:
            continue
        found += children
        todo += children
    return found


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command line in a session of its own; what it says is in ``said.txt``."""
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "deploycc", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def kill(process: subprocess.Popen[bytes], way: str) -> bool:
    """Kill in that way and wait until all of it is gone; whether there still was something to kill."""
    family = descendants(process.pid)
    alive = process.poll() is None
    if way == "child" and family:
        _kill(family[0])
    elif way == "group":
        _kill(-process.pid)
    else:
        for pid in (process.pid, *(family if way == "all" else ())):
            _kill(pid)
    if way == "child":
        process.wait(600)
    else:
        _kill(process.pid)
        process.wait()
    until = time.monotonic() + PATIENCE
    while any(_lives(pid) for pid in family):
        if time.monotonic() > until:
            raise Fault(f"processes are left: {[pid for pid in family if _lives(pid)]}")
        time.sleep(0.02)
    return alive


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL) if pid > 0 else os.killpg(-pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def check_package(output: Path, before: bool) -> str:
    """``absent`` or ``whole``; raises ``Fault`` for anything else, and for a package that has gone."""
    if not output.exists():
        if before:
            raise Fault(f"the older package at {output} is gone")
        return "absent"
    try:
        inspect(output)
    except DeployccError as error:
        raise Fault(f"a broken package: {error}") from error
    return "whole"


def beside(output: Path) -> list[str]:
    """Staging folders beside an output, but for one that a process was killed in the making of."""
    left = [entry for entry in output.parent.iterdir() if entry.name.startswith(f".{output.name}-")]
    return [entry.name for entry in left if (entry / MARK).exists() or any(entry.glob("*/*"))]


def check_database(database: Path) -> int:
    """The number of records; raises ``Fault`` where it cannot be read or written any more."""
    if not database.exists():
        return 0
    try:
        records, damaged = read(database)
        if damaged > 1:
            raise Fault(f"{damaged} damaged lines")
        append(database, records[:1])
        again, still = read(database)
    except DeployccError as error:
        raise Fault(f"a broken database: {error}") from error
    if len(again) != len(records) + len(records[:1]) or still > damaged:
        raise Fault(f"{len(records)} records became {len(again)}, {damaged} damaged lines {still}")
    return len(records)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    draw = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    faults: list[str] = []
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="deploycc-kills-") as name:
        folder = Path(name)
        model = write_small_net(folder / "small.onnx")
        build = ["build", str(model), "--target", "x86-64", "-o", "out/net"]
        database = folder / "db.jsonl"
        tune = ["tune", str(model), "--budget", "40trials", "--database", str(database), "--workers", "1"]
        began = time.monotonic()
        assert start(build, folder).wait() == 0, (folder / "said.txt").read_text()
        building = time.monotonic() - began
        older = folder / "older"
        shutil.copytree(folder / "out" / "net", older)
        for number in range(options.kills):
            command, way = (build if number % 2 else tune), draw.choice(WAYS)
            # Half of them find an older package.
            output, before = folder / "out" / "net", draw.random() < 0.5
            shutil.rmtree(output, ignore_errors=True)
            if before:
                shutil.copytree(older, output)
            process = start(command, folder)
            time.sleep(draw.uniform(0, building * (1.1 if command is build else 3)))
            alive = kill(process, way)
            try:
                state = check_package(output, before)
                records = check_database(database)
            except Fault as fault:
                faults.append(f"kill {number} ({command[0]}, {way}): {fault}")
                state, records = "FAULT", -1
            told[f"{command[0]}: {way}{'' if alive else ' after its end'}"] += 1
            row = {"kill": number, "of": command[0], "way": way, "alive": alive, "output": state}
            print(json.dumps({**row, "records": records, "beside": len(beside(output))}), flush=True)
        if start(build, folder).wait() != 0:
            faults.append(f"the last build fails: {(folder / 'said.txt').read_text()}")
        check_package(folder / "out" / "net", before=True)
        if beside(folder / "out" / "net"):
            faults.append(f"left beside the output: {beside(folder / 'out' / 'net')}")
    print(json.dumps(told, indent=2))
    print("\n".join(faults) or "nothing partial, nothing broken, nothing left")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
