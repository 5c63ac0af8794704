"""NVIDIA's run-time compiler (NVRTC), which needs no GPU: CUDA C to machine code and PTX.

It is looked for in the wheels of the extra ``cuda`` first, then in an installed CUDA toolkit.  The wheels are
of CUDA 12.4: its PTX (version 8.4) is understood by drivers from release 550 on, among them every one that
knows the chips that came after it, and its machine code runs under any driver of CUDA 12 or newer.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploycc.types import DeployccError, Diagnostic, KernelFacts

_OLDEST_SUPPORTED = 12


class CompileError(Exception):
    """NVRTC refused a program; the message is its log."""


@dataclass(frozen=True)
class Compiled:
    """One program for one chip: ``cubin``, ``ptx`` with a 0 byte at its end, and facts of its kernels."""

    cubin: bytes
    ptx: bytes
    facts: tuple[KernelFacts, ...]


@dataclass(frozen=True)
class Compiler:
    """NVRTC as it was found: the library and the folders of its headers."""

    library: Path
    version: tuple[int, int]
    includes: tuple[Path, ...]

    def compile(self, source: str, arch: str, options: Sequence[str] = ()) -> Compiled:
        """Machine code for ``arch`` (``sm_90``) and PTX for it and newer ones; raises ``CompileError``.

        It runs in a process of its own: there the same program gives the same bytes (``nvrtc_child``), and
        NVRTC leaves the thread that calls it with another locale.
        """
        child = Path(__file__).with_name("nvrtc_child.py")
        words = [
            sys.executable,
            "-P",
            "-S",
            "-s",
            str(child),
            str(self.library),
            *self._options(arch, options),
        ]
        # Nothing of this process's environment: its size moves the child's addresses.
        done = subprocess.run(
            words, input=source.encode(), capture_output=True, env={"PYTHONHASHSEED": "0"}, check=False
        )
        parts, answer = [], done.stdout
        while answer:
            size = int.from_bytes(answer[:8], "little")
            parts.append(answer[8 : 8 + size])
            answer = answer[8 + size :]
        if done.returncode != 0 or len(parts) < 2:
            told = done.stderr.decode(errors="replace").strip()[-2000:]
            raise CompileError(told or f"the compiler ended with status {done.returncode}")
        log = parts[1].rstrip(b"\0").decode(errors="replace")
        if len(parts) < 4:
            raise CompileError(log or f"status {parts[0].decode()}")
        return Compiled(parts[2], parts[3], tuple(_facts(log)))

    def _options(self, arch: str, options: Sequence[str]) -> list[str]:
        return [
            f"--gpu-architecture={arch}",
            *(f"--include-path={folder}" for folder in self.includes),
            "--std=c++17",
            "--ptxas-options=-v",
            *options,
        ]


def find_compiler() -> Compiler:
    """NVRTC of the wheels, or of the CUDA toolkit that is installed (``CUDA_HOME``, ``/usr/local/cuda``).

    Raises ``DeployccError`` (DC524) where there is none that can be used.
    """
    found = _find()
    if found is None:
        raise DeployccError(
            Diagnostic(
                "DC524",
                "no compiler for CUDA kernels was found",
                got="neither the wheels of the extra 'cuda' nor an installed CUDA toolkit",
                need=f"NVRTC of CUDA {_OLDEST_SUPPORTED} or newer, with its headers",
                help="pip install 'deploycc[cuda]', or set CUDA_HOME to a CUDA toolkit; no GPU is needed",
            )
        )
    return found


@functools.cache
def _find() -> Compiler | None:
    for libraries, includes in _places():
        for path in sorted(libraries.glob("libnvrtc.so*"), reverse=True):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            major, minor = ctypes.c_int(), ctypes.c_int()
            library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
            folders = tuple(folder for folder in includes if folder.is_dir())
            has_headers = any((folder / "cuda_fp16.h").is_file() for folder in folders)
            if major.value >= _OLDEST_SUPPORTED and has_headers:
                return Compiler(path, (major.value, minor.value), folders)
    return None


def _places() -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Folders that may have the library, each with those of the headers that belong to it."""
    spec = importlib.util.find_spec("nvidia")
    for base in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        yield base / "cuda_nvrtc" / "lib", (base / "cuda_runtime" / "include",)
        for folder in sorted(base.glob("cu[0-9]*"), reverse=True):
            yield folder / "lib", (folder / "include",)
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if home:
            for name in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/aarch64-linux/lib"):
                yield Path(home) / name, (Path(home) / "include",)


_FUNCTION = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


def _facts(log: str) -> Iterator[KernelFacts]:
    """What the assembler tells of each kernel (``ptxas -v``)."""
    name, local = "", 0
    for line in log.splitlines():
        if found := _FUNCTION.search(line):
            name, local = found[1], 0
        elif found := _STACK.search(line):
            local = int(found[1])
        elif found := _USED.search(line):
            shared = _SHARED.search(found[2])
            yield KernelFacts(name, int(found[1]), int(shared[1]) if shared else 0, local)
