"""``streams.c`` as a program with a package's library."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploycc.running import Package
from tests.packaging import plans

SOURCE = Path(__file__).with_name("streams.c")
NO_DEVICE = 77


def compile_streams(package: Package, program: Path) -> Path:
    """The program for ``package``, by zig for this machine."""
    name, root = package.name, package.path
    floats = "".join(str(i) for i, t in enumerate(package.manifest["outputs"]) if t["dtype"] == "float32")
    triple = package.manifest["target"]["linker_triple"]
    command = [plans.zig(), "cc", "-target", triple, "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-fno-sanitize=undefined", f"-DNAME={name}", f'-DHEADER="{name}.h"', f'-DFLOATS="{floats}"']
    command += [f"-I{root / 'include'}", str(SOURCE), f"-L{root / 'lib'}", f"-l{name}"]
    command += [f"-Wl,-rpath,{root / 'lib'}", "-ldl", "-lm", "-o", str(program)]
    done = subprocess.run(
        command, env=plans.zig_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def run_streams(
    program: Path,
    package: Package,
    devices: Sequence[int],
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Three runs on each of ``devices``; ``before`` are words before the program's."""
    golden = package.path / "share" / package.name / "golden"
    words = [*before, str(program), str(golden), "3", *map(str, devices)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
