"""Counts the instructions of programs of any machine, under QEMU's user-mode emulators with a plugin.

A count depends on the program and its data alone: it is the same on every machine and however busy that
is.  It says nothing of caches or of what waits for what; docs/arm64.md says what it is used for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploycc.packaging.toolchain import call, find_compiler
from deploycc.targets import HOST, load_target

MARK = 0x5EED0DE
"""A system call with this first argument asks for the count so far."""


class CannotCount(Exception):
    """There is no emulator here, or none that takes plugins; the text says which and what would help."""


@dataclass(frozen=True)
class Counted:
    """What a program did: exit status (negative for a signal), output, counts at its marks, and the total.

    ``total`` is 0 where the emulator itself failed.
    """

    status: int
    stdout: str
    stderr: str
    marks: tuple[int, ...]
    total: int


def build_plugin(folder: Path) -> Path:
    """The plugin as a shared object in ``folder``, compiled unless it is there.

    Raises ``DeployccError`` (DC710 to DC712).
    """
    plugin = folder / "libinstructions.so"
    if not plugin.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "libinstructions.so.part"
        words = ["-shared", "-fPIC", "-O2", f"-DMARK={MARK}", "-fvisibility=hidden"]
        words += [str(Path(__file__).with_name("instructions.c")), "-o", str(part)]
        call(find_compiler(load_target(HOST), folder), words, folder, "compile the counting plugin")
        part.replace(plugin)
    return plugin


@cache
def check_emulator(name: str) -> str:
    """The path of the emulator ``name``.  Raises ``CannotCount`` unless it is installed and takes plugins."""
    path = shutil.which(name)
    if path is None:
        raise CannotCount(f"{name} is not installed (Debian: apt install qemu-user)")
    shown = subprocess.run([path, "-help"], capture_output=True, text=True, timeout=60, check=False).stdout
    if "-plugin" not in shown:
        raise CannotCount(f"{path} takes no plugins: Debian's qemu-user does, qemu-user-static does not")
    return path


def count_instructions(
    emulator: Sequence[str], program: Sequence[str], plugin: Path, folder: Path, limit_seconds: float
) -> Counted:
    """Run ``program`` (words) under ``emulator`` (words, options included) with ``plugin``.

    ``folder`` is where the counts are written.  Raises ``CannotCount``, and ``subprocess.TimeoutExpired``
    after ``limit_seconds``.
    """
    counts = folder / "instructions"
    counts.unlink(missing_ok=True)
    words = [check_emulator(emulator[0]), *emulator[1:], "-plugin", f"{plugin},out={counts}", *program]
    done = subprocess.run(
        words, capture_output=True, text=True, errors="replace", timeout=limit_seconds, check=False
    )
    numbers = [int(line) for line in counts.read_text().split()] if counts.exists() else []
    return Counted(
        done.returncode, done.stdout, done.stderr, tuple(numbers[:-1]), numbers[-1] if numbers else 0
    )
