"""A translated module compiled for this machine, and kept."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploycc.emulating.translating import translate_module
from deploycc.packaging.toolchain import Compiler, call, zig_compiler
from deploycc.resources import cache_directory
from deploycc.types import DeployccError, Diagnostic

_RUNTIME = Path(__file__).resolve().parent / "runtime"
_TRIPLES = {"x86_64": "x86_64-linux-gnu.2.28", "aarch64": "aarch64-linux-gnu.2.28"}
_HUGE = 400_000
"""Characters of a kernel's C above which it is compiled with little optimisation."""

RACES = "DEPLOYCC_EMULATED_RACES"
"""Environment variable: 1 for modules that find races in shared memory."""

_FLAGS = (
    *("-std=gnu11", "-g0", "-fPIC", "-fvisibility=hidden", "-w"),
    # Bits of registers are read as other types, integers wrap, and a*b+c is no fma.
    *("-fno-strict-aliasing", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-U_FORTIFY_SOURCE"),
)


def build_module(ptx: str, *, checks: bool = True, races: bool = False, machine: str = "") -> Path:
    """The shared library that runs the kernels of ``ptx`` on this machine's processor.

    ``machine`` is another processor to run them on, as ``platform.machine()`` calls it there.

    With ``checks`` it finds accesses outside shared memory and, where somebody tells what device memory
    there is, outside that, and shows what reads memory that was never written: shared and local memory
    start as NaN, asynchronous copies are done as late as the kernel allows.  Misaligned accesses, barriers
    that not all threads reach and lanes that wait for each other in vain are always found.

    With ``races`` a kernel fails where two threads of a block use one byte of shared memory, one of them
    writes another value than was there, and no barrier is between them.  It is several times as slow.
    ``DEPLOYCC_EMULATED_RACES=1`` in the environment asks for it too, for whole packages.

    It is kept in ``deploycc.resources.cache_directory()``.  Raises ``DeployccError``: DC880 for PTX that is
    not understood, DC883 on a machine that it does not run on, DC710 to DC712 of the compiler.
    """
    machine = machine or platform.machine()
    races = races or os.environ.get(RACES, "0") != "0"
    if machine not in _TRIPLES or platform.system() != "Linux":
        raise DeployccError(
            Diagnostic(
                "DC883",
                "kernels of a GPU cannot be run on this machine's processor",
                got=f"{platform.system()} on {machine}",
                need=f"Linux on {' or '.join(_TRIPLES)}",
            )
        )
    flags = (*_FLAGS, f"-DDCC_CHECKS={int(checks)}", f"-DDCC_RACES={int(races)}")
    store = cache_directory() / "emulated" / f"{_key(ptx, machine, flags)}.so"
    if store.is_file():
        return store
    done = translate_module(ptx)
    store.parent.mkdir(parents=True, exist_ok=True)
    where = Path(tempfile.mkdtemp(prefix=f".{store.stem}-", dir=store.parent))
    try:
        own = machine == platform.machine()
        compiler = zig_compiler(_TRIPLES[machine], "native" if own else "", where)
        runtime = _build_runtime(compiler, flags, store.parent / f"runtime-{_key('', machine, flags)}")
        files = {"module_table.c": "-O0"}
        for path in _RUNTIME.glob("*.h"):
            shutil.copy(path, where)
        for number, (_, text) in enumerate(done.kernels):
            name = f"kernel_{number}.c"
            (where / name).write_text(done.header + text, encoding="utf-8")
            files[name] = "-O2" if len(text) < _HUGE else "-O1"
        (where / "module_table.c").write_text(done.header + done.table, encoding="utf-8")
        objects = [*_compile(compiler, where, flags, files), *map(str, runtime)]
        arguments = ["-shared", "-s", "-Wl,-z,defs", "-Wl,--build-id=none", *objects, "-lm"]
        call(compiler, [*arguments, "-o", "module.so"], where, "link translated kernels")
        (where / "module.so").rename(store)
    finally:
        shutil.rmtree(where, ignore_errors=True)
    return store


def _build_runtime(compiler: Compiler, flags: tuple[str, ...], store: Path) -> list[Path]:
    """Objects of what all modules stand on, compiled aside and renamed into place."""
    made = [store / f"{path.stem}.o" for path in sorted(_RUNTIME.glob("*.c"))]
    if all(path.is_file() for path in made):
        return made
    where = Path(tempfile.mkdtemp(prefix=f".{store.name}-", dir=store.parent))
    try:
        for path in _RUNTIME.iterdir():
            if path.suffix in (".c", ".h"):
                shutil.copy(path, where)
        _compile(compiler, where, flags, {path.name: "-O2" for path in where.glob("*.c")})
        for path in where.iterdir():
            if path.suffix != ".o":
                path.unlink()
        try:
            where.rename(store)
        except OSError:  # another build was first
            if not all(path.is_file() for path in made):
                raise
    finally:
        shutil.rmtree(where, ignore_errors=True)
    return made


def _compile(compiler: Compiler, where: Path, flags: tuple[str, ...], files: dict[str, str]) -> list[str]:
    def compile_one(name: str) -> str:
        made = f"{Path(name).stem}.o"
        call(
            compiler,
            [*flags, files[name], "-c", name, "-o", made],
            where,
            f"compile translated kernels ({name})",
        )
        return made

    # The largest first, so that none is left over at the end.
    order = sorted(files, key=lambda name: (-(where / name).stat().st_size, name))
    with ThreadPoolExecutor(max_workers=2) as pool:
        return sorted(pool.map(compile_one, order))


def _key(ptx: str, machine: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(ptx.encode())
    sources = [*sorted(_RUNTIME.iterdir()), *sorted(Path(__file__).resolve().parent.glob("*.py"))]
    for path in sources:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    own = _processor() if machine == platform.machine() else ""
    digest.update(f"{machine} {flags} {own}".encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """What of the processor decides which instructions the compiler may use."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features", "model name")))
    return " ".join(sorted(set(lines)))
