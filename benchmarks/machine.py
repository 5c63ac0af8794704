"""What the measurements were made on: processor, versions, and what one core can do at best."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import pin
from benchmarks.peers import PEERS
from benchmarks.pinned import ROOT

RESULTS = ROOT / "benchmarks" / "results"

_VECTORS = {"avx512": (64, "x86_64_v4", "avx512f"), "avx2": (32, "x86_64_v3", "avx2"), "neon": (16, "", "")}
"""Bytes of a vector, zig's name of the processor, the flag of /proc/cpuinfo that says it is there."""


@dataclass(frozen=True)
class Peak:
    """One core: GFLOP/s of multiply-adds by vector extension, GB/s of reading by size in KiB."""

    gflops: Mapping[str, float]
    read_gbs: Mapping[int, float]

    @property
    def best_gflops(self) -> float:
        """Of the widest vectors."""
        return max(self.gflops.values())


def cpu_model() -> str:
    """The processor's name as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cache_sizes() -> str:
    """The data caches of core 0, like ``48K, 2048K, 32768K``; empty where Linux does not tell."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            found.append((index / "size").read_text().strip())
    return ", ".join(found)


def machine() -> dict[str, Any]:
    """The machine as JSON."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "caches": cache_sizes(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(peers: Sequence[str]) -> dict[str, str]:
    """Versions of ours, of Python, numpy and the given peers."""
    from deploycc import __version__

    found = {"deploycc": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return found | {name: PEERS[name].version for name in peers}


def header(peers: Sequence[str]) -> str:
    """The machine and the versions in one line, for the top of a table."""
    known = machine()
    names = ", ".join(f"{PEERS[name].title} {PEERS[name].version}" for name in peers)
    return f"{known['cpu']}, {known['cores']} cores, caches {known['caches']}; {names or 'no peers'}"


def timestamp() -> str:
    """Now in UTC, like ``20260131T235959``."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"


@functools.cache
def measured_peak(seconds: float = 0.3) -> Peak:
    """Measure one core, in ``seconds`` for each figure.  Needs zig (a dependency of deploycc)."""
    gflops, reads = {}, {}
    for name, (width, processor, flag) in _VECTORS.items():
        if _has(flag):
            program = _program(name, width, processor)
            gflops[name] = _said(program, "fma", str(seconds))
            last = program if not reads and name == next(iter(gflops)) else None
            if last is not None:
                reads = {kib: _said(last, "read", str(kib), str(seconds)) for kib in (16, 1024, 1 << 18)}
    return Peak(gflops, reads)


def fma_gflops(bits: int, seconds: float) -> float:
    """GFLOP/s of multiply-adds on one core, vectors of ``bits``.  Raises ValueError for other widths."""
    for name, (width, processor, flag) in _VECTORS.items():
        if width * 8 == bits and _has(flag):
            return _said(_program(name, width, processor), "fma", str(seconds))
    raise ValueError(f"no vectors of {bits} bits on this processor")


def _has(flag: str) -> bool:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if not flag:
        return platform.machine() == "aarch64"
    return re.search(rf"^flags\s*:.*\b{flag}\b", text, re.MULTILINE) is not None


def _program(name: str, width: int, processor: str) -> Path:
    source = ROOT / "benchmarks" / "peak.c"
    program = ROOT / "out" / "peak" / f"peak-{name}"
    if program.is_file() and program.stat().st_mtime_ns > source.stat().st_mtime_ns:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "ziglang", "cc", "-O3", "-std=gnu11", "-ffp-contract=fast"]
    words += [f"-mcpu={processor}"] if processor else []
    words += [f"-DBYTES={width}", str(source), "-o", str(program)]
    subprocess.run(words, check=True, timeout=300)
    return program


def _said(program: Path, *words: str) -> float:
    done = subprocess.run(
        [program, *words], check=True, capture_output=True, text=True, timeout=60, preexec_fn=lambda: pin(1)
    )
    return float(done.stdout)


if __name__ == "__main__":
    print(machine())
    print(measured_peak())
