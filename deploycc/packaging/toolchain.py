"""The C compiler that turns objects into a library: found, called, and its failures told.

The default is the pinned ``ziglang`` wheel; a target may name another compiler driver by path.
All scratch output of zig goes to a folder of the build, only its libraries (libc stubs,
compiler-rt) stay in the user's cache, since nothing else is worth keeping.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploycc.resources import cache_directory
from deploycc.types import DeployccError, Diagnostic, Target

_TIMEOUT_SECONDS = 600.0

CFLAGS = (
    "-std=c11",
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    # The generated file passes its own option and tensor structures off as the runtime's.
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-pedantic",
)


@dataclass(frozen=True)
class Compiler:
    """A compiler driver, the environment it runs in, and what tells it from another one."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    identity: str
    is_zig: bool


def find_compiler(target: Target, scratch: Path) -> Compiler:
    """The compiler for ``target``; ``scratch`` is where zig may write.

    Raises ``DeployccError`` (DC710) when there is none.
    """
    linker = target.linker
    if linker.toolchain == "zig":
        return zig_compiler(linker.triple, linker.cpu, scratch)
    path = shutil.which(linker.toolchain)
    if path is None:
        raise DeployccError(
            Diagnostic(
                "DC710",
                f"the compiler of target {target.name} was not found",
                got=linker.toolchain,
                need="the path of a C compiler driver that runs here",
                help="install it, or set linker.toolchain of the target to 'zig' or another compiler",
            )
        )
    tuning: tuple[str, ...] = ()
    if linker.cpu:
        tuning = (
            f"-march={linker.cpu}" if linker.triple.startswith(("x86_64", "i686")) else f"-mcpu={linker.cpu}",
        )
    version = _first_line([path, "--version"])
    return Compiler((path, *tuning), dict(os.environ), f"{version} {' '.join(tuning)}", is_zig=False)


def zig_compiler(triple: str, cpu: str, scratch: Path) -> Compiler:
    """zig as a C compiler for ``triple`` and ``cpu`` (empty: the plainest one).  Raises DC710."""
    spec = importlib.util.find_spec("ziglang")
    root = (
        Path(next(iter(spec.submodule_search_locations)))
        if spec and spec.submodule_search_locations
        else None
    )
    binary = root / "zig" if root else None
    if binary is None or not os.access(binary, os.X_OK):
        raise DeployccError(
            Diagnostic(
                "DC710",
                "the zig compiler, which links packages, is not installed in this Python",
                got="no module ziglang" if root is None else "a ziglang module without its executable",
                need="the ziglang package that deploycc depends on",
                help="python -m pip install ziglang==0.17.1",
            )
        )
    environment = dict(os.environ)
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(cache_directory() / "zig")
    environment["ZIG_LOCAL_CACHE_DIR"] = str(scratch / "zig")
    command = [str(binary), "cc", "-target", triple, "-fno-sanitize=undefined"]
    if cpu:
        command.append(f"-mcpu={cpu}")
    identity = f"zig {importlib.metadata.version('ziglang')} {' '.join(command[2:])}"
    return Compiler(tuple(command), environment, identity, is_zig=True)


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.splitlines()), "")


def call(compiler: Compiler, arguments: Sequence[str], where: Path, purpose: str) -> None:
    """Run the compiler in folder ``where``.

    ``purpose`` ends the sentence "the compiler failed to ...".  Raises ``DeployccError``: DC711
    with the first lines of what it said, DC712 when it hangs, DC730 when it ran out of disk.
    """
    command = [*compiler.command, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=where,
            env=dict(compiler.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeployccError(
            Diagnostic(
                "DC712",
                f"the compiler took more than {_TIMEOUT_SECONDS:.0f} s to {purpose}",
                help=_report_help,
            )
        ) from None
    if done.returncode == 0:
        return
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    text = "\n".join(said[:8]).replace(str(where) + os.sep, "") or "nothing"
    if "NoSpaceLeft" in text or "No space left" in text:
        raise DeployccError(
            Diagnostic("DC730", f"no space left on the disk while the compiler was to {purpose}", got=text)
        )
    raise DeployccError(
        Diagnostic(
            "DC711",
            f"the compiler failed to {purpose} (exit status {done.returncode})",
            got=text,
            help=_report_help,
        )
    )


_report_help = "check the target's linker settings; `--dump-dir` keeps what the earlier stages made"


# ---- our runtime, compiled once per target ----


def runtime_sources(*, cuda: bool = False) -> tuple[Path, ...]:
    """The C files of the runtime, in name order; with ``cuda`` those for GPUs behind them."""
    return _runtime_files("*.c", cuda)


def runtime_headers(*, cuda: bool = False) -> tuple[Path, ...]:
    """The headers of the runtime, likewise."""
    return _runtime_files("*.h", cuda)


def _runtime_files(pattern: str, cuda: bool) -> tuple[Path, ...]:
    """No two of them have one name: they are compiled in one folder."""
    plain = sorted(runtime_directory().glob(pattern))
    return (*plain, *(sorted((runtime_directory() / "cuda").glob(pattern)) if cuda else ()))


def runtime_directory() -> Path:
    """Where ``deploycc_rt.h`` and the C files lie."""
    return Path(__file__).resolve().parent.parent / "runtime"


def _runtime_key(compiler: Compiler, flags: Sequence[str], cuda: bool) -> str:
    digest = hashlib.sha256()
    for path in (
        *runtime_headers(cuda=cuda),
        runtime_directory() / "deploycc_rt.map",
        *runtime_sources(cuda=cuda),
    ):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("\0".join((compiler.identity, *flags)).encode())
    return digest.hexdigest()[:32]


SHARED_RUNTIME_FLAGS = ("-DDCC_SHARED_POOL", "-DDCC_BUILD_SHARED")
DEBUG_RUNTIME_FLAGS = ("-DDCC_DEBUG",)
SHARED_RUNTIME_NAME = "libdeploycc_rt.so.2"


def build_runtime(
    compiler: Compiler, *, shared: bool, debug: bool = False, cuda: bool = False
) -> tuple[Path, ...]:
    """Objects of the private runtime, or the one shared library; from the cache where they are there.

    With ``debug`` it tells calls with handles that were destroyed, with ``cuda`` it also runs on GPUs.

    Two builds at once are safe: each compiles aside and renames the folder into place.
    """
    flags = (*CFLAGS, *(SHARED_RUNTIME_FLAGS if shared else ()), *(DEBUG_RUNTIME_FLAGS if debug else ()))
    store = cache_directory() / "runtime" / _runtime_key(compiler, flags, cuda)
    names = (
        (SHARED_RUNTIME_NAME,) if shared else tuple(f"{path.stem}.o" for path in runtime_sources(cuda=cuda))
    )
    made = tuple(store / name for name in names)
    if all(path.is_file() for path in made):
        return made
    store.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{store.name}-", dir=store.parent))
    try:
        objects = []
        for path in (*runtime_sources(cuda=cuda), *runtime_headers(cuda=cuda)):
            shutil.copy(path, aside / path.name)
        for path in runtime_sources(cuda=cuda):
            arguments = [*flags, "-c", path.name, "-o", f"{path.stem}.o"]
            call(compiler, arguments, aside, f"compile the runtime's {path.name}")
            objects.append(f"{path.stem}.o")
        if shared:
            shutil.copy(runtime_directory() / "deploycc_rt.map", aside)
            arguments = [*shared_link_flags(SHARED_RUNTIME_NAME, "deploycc_rt.map"), *objects, *LIBRARIES]
            call(compiler, [*arguments, "-o", SHARED_RUNTIME_NAME], aside, "link the shared runtime")
        for path in aside.iterdir():
            if path.name not in names:
                path.unlink()
        try:
            aside.rename(store)
        except OSError:
            if not all(path.is_file() for path in made):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return made


LIBRARIES = ("-Wl,--as-needed", "-lm", "-lpthread")


def shared_link_flags(soname: str, version_script: str) -> list[str]:
    """Flags for a stripped, deterministic shared library that resolves every symbol."""
    return [
        "-shared",
        "-s",
        f"-Wl,-soname,{soname}",
        f"-Wl,--version-script={version_script}",
        "-Wl,--gc-sections",
        "-Wl,-z,defs",
        "-Wl,-z,relro",
        "-Wl,-z,now",
        "-Wl,-z,noexecstack",
        "-Wl,--build-id=none",
    ]
