"""The generated C of a small package and the runtime, compiled together with a program that uses them.

All from source, so that sanitisers and the linker's ``--wrap`` see all of it.  The kernels are those of the
packaging tests: ``y = tanh(x * w) + 1`` and a copy of ``x``, four steps; ``x[0] < 0`` makes the first fail.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploycc.packaging import generate_c, generate_cpp
from deploycc.packaging.interface import interface_of
from deploycc.packaging.toolchain import runtime_directory, runtime_sources
from tests.packaging import plans

HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-pedantic")
WRAPPED = (
    "malloc", "calloc", "posix_memalign", "free", "pthread_create", "pthread_mutex_init", "pthread_cond_init",
    "pthread_attr_init",
)  # fmt: skip
SANITIZERS = {"plain": "", "address": "address,undefined", "thread": "thread"}


def write_sources(folder: Path, *, profile: bool = True) -> list[Path]:
    """The package ``tiny`` as sources in ``folder``: its headers, C, weights and kernels; what to compile."""
    request = plans.make_request(plans.X86_64, profile=profile)
    plan = plans.make_plan(plans.X86_64, kernels=b"")
    interface = interface_of(plan, request)
    (folder / "tiny.h").write_text(generate_c.header(interface), encoding="ascii")
    (folder / "tiny.hpp").write_text(generate_cpp.header(interface), encoding="ascii")
    (folder / "tiny.c").write_text(generate_c.source(interface, plan), encoding="ascii")
    (folder / "weights.bin").write_bytes(plan.weights)
    assembly = generate_c.weights_assembly("tiny", "weights.bin", "0")
    (folder / "weights.S").write_text(assembly, encoding="ascii")
    return [folder / "tiny.c", folder / "weights.S", plans.KERNELS_C]


def compile_program(
    program: Path, driver: Path, sources: Sequence[Path], flags: Sequence[str], link: Sequence[str] = ()
) -> Path:
    """``driver`` with the generated sources and the runtime; raises ``RuntimeError`` with what gcc said."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise FileNotFoundError("no gcc here")
    objects = [
        str(_compiled(gcc, path, tuple(flags), sources[0].parent))
        for path in (driver, *sources, *runtime_sources())
    ]
    wrapped = [f"-Wl,--wrap={name}" for name in WRAPPED]
    _run([gcc, *flags, *objects, *wrapped, *link, "-lm", "-lpthread", "-o", str(program)], program.parent)
    return program


_objects = tempfile.TemporaryDirectory(prefix="deploycc-objects-")


def _compiled(gcc: str, path: Path, flags: tuple[str, ...], include: Path) -> Path:
    """The object of one file, compiled once for all programs that have the same flags."""
    key = hashlib.sha256("\0".join((path.name, *flags)).encode() + b"\0" + path.read_bytes())
    made = Path(_objects.name) / f"{key.hexdigest()[:24]}.o"
    if not made.exists():
        # kernels.c has the names that TVM gives, which no warning would let through
        strict = WARNINGS if path != plans.KERNELS_C and path.suffix == ".c" else ()
        command = [gcc, "-std=c11", *strict, "-fno-strict-aliasing", "-O1", "-g", *flags]
        command += [f"-I{include}", f"-I{runtime_directory()}", f"-I{HERE}", "-c", str(path)]
        _run([*command, "-o", str(made)], include)
    return made


def sanitizer_flags(name: str) -> list[str]:
    """gcc's for one of ``SANITIZERS``."""
    chosen = SANITIZERS[name]
    return [f"-fsanitize={chosen}", "-fno-sanitize-recover=all"] if chosen else []


def _run(command: Sequence[str], where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
