"""The emulated driver: a ``libcuda.so.1`` that gives a package for GPUs a device where there is none."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploycc.packaging.toolchain import call, runtime_directory, zig_compiler
from deploycc.resources import cache_directory

LIBRARY = "libcuda.so.1"

_SOURCES = Path(__file__).with_name("driver")
_FLAGS = ("-std=gnu11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-shared")


def emulated_driver(triple: str = "") -> Path:
    """The folder of the emulated driver, compiled once and kept; to be put into ``LD_LIBRARY_PATH``.

    ``triple`` is the linker's name of the machine that programs run on, this one unless told.  Raises
    ``DeployccError``: DC710 to DC712 where it cannot be compiled.
    """
    triple = triple or f"{platform.machine()}-linux-gnu.2.17"
    headers = (runtime_directory() / "cuda" / "driver.h", _SOURCES.with_name("runtime") / "module.h")
    files = (*sorted(_SOURCES.glob("*.[ch]")), *headers)
    digest = hashlib.sha256("\0".join((triple, *_FLAGS)).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    made = cache_directory() / "emulated-driver" / digest.hexdigest()[:32]
    if (made / LIBRARY).is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".driver-", dir=made.parent))
    try:
        for path in files:
            shutil.copy(path, scratch / path.name)
        compiler = zig_compiler(triple, "", scratch)
        sources = [path.name for path in files if path.suffix == ".c"]
        arguments = [*_FLAGS, "-I.", *sources, f"-Wl,-soname,{LIBRARY}", "-lpthread", "-ldl", "-o", LIBRARY]
        call(compiler, arguments, scratch, "compile the emulated driver")
        result = scratch / "result"
        result.mkdir()
        shutil.move(scratch / LIBRARY, result / LIBRARY)
        try:
            result.rename(made)
        except OSError:
            if not (made / LIBRARY).is_file():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return made


def emulated_environment(
    driver: Path,
    *,
    arch: str = "sm_90",
    modules: Sequence[Path] = (),
    devices: int = 1,
    log: Path | None = None,
    fail: str = "",
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment (``base``, this process's unless told) in which a program finds the emulated driver.

    ``modules`` are translated kernels, ``devices`` the number of GPUs of ``arch``; ``log`` gets a line for
    each call and each piece of work; ``fail`` lists calls that fail (``cuMemAlloc_v2:2:2``: the second with
    result 2).
    """
    environment = dict(os.environ if base is None else base)
    behind = environment.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = f"{driver}:{behind}" if behind else str(driver)
    environment["DEPLOYCC_EMULATED_ARCH"] = arch
    environment["DEPLOYCC_EMULATED_DEVICES"] = str(devices)
    environment["DEPLOYCC_EMULATED_KERNELS"] = ":".join(map(str, modules))
    environment["DEPLOYCC_EMULATED_LOG"] = "" if log is None else str(log)
    environment["DEPLOYCC_EMULATED_FAIL"] = fail
    return environment
