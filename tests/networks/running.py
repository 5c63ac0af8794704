"""Packages run on their own target: natively, or under the emulator the target names."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.library import manifest_of, package_name
from benchmarks.pinned import ROOT
from deploycc.targets import load_target
from deploycc.types import Target
from tests.networks.sysroots import SysrootUnavailable, sysroot

Array = NDArray[Any]
_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "riscv64": "EM_RISCV"}
DRIVER = ROOT / "benchmarks" / "driver.c"


@dataclass(frozen=True)
class Reference:
    """ONNX Runtime's outputs of a network for inputs that are the same each time."""

    inputs: list[Array]
    outputs: list[Array]


@dataclass(frozen=True)
class Ran:
    """The outputs of a package, and what its driver printed."""

    outputs: list[Array]
    report: dict[str, Any]


def compile_driver(package: Path, target: Target, folder: Path) -> Path:
    """``benchmarks/driver.c`` for this package and target, by zig; static archives are linked in."""
    name = package_name(package)
    archive = package / "lib" / f"lib{name}.a"
    program = folder / f"driver-{name}-{target.name}"
    command: list[str | Path] = [sys.executable, "-m", "ziglang", "cc", "-target", target.linker.triple]
    command += [f"-mcpu={target.linker.cpu}"] if target.linker.cpu else []
    command += ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-DNAME={name}", f'-DHEADER="{name}.h"']
    command += ["-I", package / "include", DRIVER, "-o", program]
    command += ["-DLINKED", archive, "-lm", "-lpthread"] if archive.exists() else ["-ldl"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.fail(f"the driver of {name} does not compile for {target.name}:\n{done.stderr[-4000:]}")
    return program


def prefix_of(target: Target) -> list[str]:
    """The words in front of a program of ``target``; skips the test where it cannot run here."""
    if target.linker.elf_machine == _MACHINES.get(platform.machine()):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if target.simd.bits == 512 and "avx512f" not in flags:
            pytest.skip(f"{target.name}: this processor has no AVX-512")
        return []
    if not target.emulator:
        pytest.skip(f"{target.name}: this machine is another one and the target names no emulator")
    emulator = target.emulator[0]
    if shutil.which(emulator) is None:
        pytest.skip(f"{target.name}: {emulator} is not installed (Debian: apt install qemu-user)")
    if target.linker.libc != "glibc":
        return list(target.emulator)
    try:
        return [*target.emulator, "-L", str(sysroot(target.linker.elf_machine))]
    except SysrootUnavailable as error:
        pytest.skip(f"{target.name}: {error}")


def run_package(
    package: Path,
    target_name: str,
    inputs: Sequence[Array],
    folder: Path,
    threads: int = 1,
    limit: float = 900,
) -> Ran:
    """Run a package of ``target_name`` once on ``inputs``; fails the test with what the driver said."""
    target = load_target(target_name)
    prefix = prefix_of(target)
    program = compile_driver(package, target, folder)
    name = package_name(package)
    (folder / "inputs").write_bytes(b"".join(array.tobytes() for array in inputs))
    library = package / "lib" / f"lib{name}.so"
    words = [*prefix, program, library, folder / "inputs", folder / "outputs", threads, 0, 1]
    done = subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, timeout=limit
    )
    if done.returncode != 0:
        pytest.fail(f"{name} on {target_name}: status {done.returncode}\n{done.stderr[-4000:]}")
    raw = (folder / "outputs").read_bytes()
    outputs, at = [], 0
    for tensor in manifest_of(package)["outputs"]:
        shape, dtype = tuple(tensor["shape"]), np.dtype(tensor["dtype"])
        count = int(np.prod(shape, dtype=np.int64))
        outputs.append(np.frombuffer(raw, dtype, count, at).reshape(shape))
        at += count * dtype.itemsize
    assert at == len(raw)
    return Ran(outputs, json.loads(done.stdout))
