"""Cycles of inner loops as llvm-mca estimates them: how good the code is for a core that is not here.

``llvm-mca`` simulates a loop's instructions on LLVM's model of a core, all loads hitting the first cache.
Only models that were compared with hardware's documents are used: ``-mcpu=cortex-a76`` silently is the
Cortex-A57's, Neoverse N1 is the same core family and has a model of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from deploycc.planning.assembly import Loop
from deploycc.types import Target

_PROGRAMS = ("llvm-mca-19", "llvm-mca")
_OLDEST = 16
"""The first with a model of the Neoverse N1; older ones take another core's, of half the speed."""
_ITERATIONS = 200


class McaUnavailable(Exception):
    """There is no llvm-mca here, or it refuses the code; the text says why."""


@dataclass(frozen=True)
class Core:
    """A core of LLVM's: ``fmas`` vector multiply-adds a cycle, ``width`` instructions decoded a cycle."""

    cpu: str
    triple: str
    fmas: int = 2
    width: int = 4


_CORES = {
    # Arm Neoverse N1 Software Optimization Guide: four-wide decode, pipes V0 and V1.
    ("aarch64", 128): Core("neoverse-n1", "aarch64-linux-gnu"),
    # Intel 64 and IA-32 Optimization Reference Manual, Skylake: four-wide rename, ports 0 and 1 (0 and 5).
    ("x86_64", 256): Core("skylake", "x86_64-linux-gnu"),
    ("x86_64", 512): Core("skylake-avx512", "x86_64-linux-gnu"),
}


@dataclass(frozen=True)
class Estimate:
    """Loops that run equally often, as one: their multiply-adds and cycles of one iteration of each.

    ``cycles`` caps instructions a cycle at the core's decode width.  ``strict_cycles`` caps
    micro-operations at that number instead, of which a load at an offset is two: harder than the core is.
    """

    core: Core
    loops: int
    vector_fmas: int
    scalar_fmas: int
    instructions: int
    loads: int
    stack: int
    cycles: float
    strict_cycles: float

    @property
    def share(self) -> float:
        """Share of the core's peak of vector multiply-adds."""
        return self.vector_fmas / self.core.fmas / self.cycles

    @property
    def strict_share(self) -> float:
        """The same with ``strict_cycles``."""
        return self.vector_fmas / self.core.fmas / self.strict_cycles


def core_of(target: Target) -> Core:
    """The core to judge code of ``target`` by.  Raises ``McaUnavailable`` for a machine without one."""
    architecture = target.llvm.triple.split("-")[0]
    try:
        return _CORES[architecture, target.simd.bits]
    except KeyError:
        raise McaUnavailable(f"no core is known for {architecture} with {target.simd.bits} bits") from None


@cache
def program() -> str:
    """The path of llvm-mca.  Raises ``McaUnavailable``."""
    for name in _PROGRAMS:
        if (path := shutil.which(name)) and _release(path) >= _OLDEST:
            return path
    raise McaUnavailable(f"no llvm-mca of LLVM {_OLDEST} or newer is installed (Debian: apt install llvm-19)")


def _release(path: str) -> int:
    """LLVM's major version, 0 where it is not told."""
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", told)
    return int(found[1]) if found else 0


def cycles(loop: Loop, core: Core, dispatch: int | None = None) -> float:
    """Cycles of one iteration of ``loop``; ``dispatch`` micro-operations a cycle (default: the model's).

    Raises ``McaUnavailable``.
    """
    words = [program(), f"-mtriple={core.triple}", f"-mcpu={core.cpu}", f"-iterations={_ITERATIONS}"]
    words += ["-instruction-info=0", "-resource-pressure=0", *([f"-dispatch={dispatch}"] if dispatch else [])]
    code = "\n".join(loop.lines) + "\n"
    done = subprocess.run(words, input=code, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise McaUnavailable(f"llvm-mca refuses the loop: {done.stderr.strip()[:300]}")
    return int(found[1]) / _ITERATIONS


def estimate(loops: Sequence[Loop], core: Core) -> Estimate:
    """All of ``loops`` together, each run equally often.  Raises ``McaUnavailable``."""
    return Estimate(
        core=core,
        loops=len(loops),
        vector_fmas=sum(loop.vector_fmas for loop in loops),
        scalar_fmas=sum(loop.scalar_fmas for loop in loops),
        instructions=sum(len(loop.lines) for loop in loops),
        loads=sum(loop.loads for loop in loops),
        stack=sum(loop.stack for loop in loops),
        cycles=sum(max(cycles(loop, core), len(loop.lines) / core.width) for loop in loops),
        strict_cycles=sum(cycles(loop, core, core.width) for loop in loops),
    )
