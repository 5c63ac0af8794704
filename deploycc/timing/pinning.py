"""Which processors a measurement gets, and what kind of machine it is on."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_ASK_SECONDS = 60.0
_MARK = "-- deploycc --"
"""Comes before what was asked for: a login shell may print something first."""


def processors(threads: int, allowed: Collection[int] | None = None, sysfs: Path = _CPUS) -> tuple[int, ...]:
    """A processor for each thread, on cores of their own where there are enough; empty if there are too few.

    From the last one on: most kernels serve interrupts on the first.  ``allowed`` stands in for
    sched_getaffinity(2), ``sysfs`` for the kernel's description of the processors.
    """
    usable = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    if len(usable) < threads:
        return ()
    cores: dict[str, int] = {}
    for cpu in usable:
        cores[_siblings(cpu, sysfs)] = cpu
    alone = sorted(cores.values())
    chosen = alone if len(alone) >= threads else usable
    return tuple(chosen[-threads:])


def _siblings(cpu: int, sysfs: Path) -> str:
    """The processors of one core, as the kernel writes them; ``cpu`` itself where it does not tell."""
    try:
        return (sysfs / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def machine(runner: str | None, shown: str) -> str:
    """The kind of machine that a package runs on: a processor's name and how many there are.

    ``shown`` is the place's name: an emulator's times belong to the emulator on this machine.  A device
    behind ``ssh`` is asked; if it does not tell, it is known by its address alone.
    """
    here = _kind(_read("/proc/cpuinfo"), platform.machine())
    if runner is None and shown == "this machine":
        return here
    words = shlex.split(runner) if runner else []
    if not words or Path(words[0]).name != "ssh":
        return f"{Path(shlex.split(shown)[0]).name} on {here}"
    quietly = () if "batchmode" in (runner or "").lower() else ("-o", "BatchMode=yes")
    try:
        done = subprocess.run(
            [words[0], *quietly, *words[1:], f"echo; echo {_MARK}; uname -m; cat /proc/cpuinfo"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return shown
    told = done.stdout.decode(errors="replace").partition(f"\n{_MARK}\n")[2]
    architecture, _, cpuinfo = told.partition("\n")
    return _kind(cpuinfo, architecture.strip()) if cpuinfo else shown


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _kind(cpuinfo: str, architecture: str) -> str:
    """As ``Intel(R) Xeon(R) CPU, 8 processors, x86_64``; Arm's kernels give numbers in place of a name."""
    count = len(re.findall(r"^processor\s*:", cpuinfo, re.M))
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.M)
    part = re.search(r"^CPU part\s*:\s*(.+)$", cpuinfo, re.M)
    title = name[1].strip() if name else f"CPU part {part[1].strip()}" if part else "unknown processor"
    return f"{title}, {count or '?'} processors, {architecture}"
