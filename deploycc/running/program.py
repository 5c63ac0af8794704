"""The driver, compiled for the machine a package is for."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploycc.packaging.toolchain import call, zig_compiler
from deploycc.resources import cache_directory
from deploycc.running.chips import is_for_gpus
from deploycc.types import DeployccError, Diagnostic

SOURCE = Path(__file__).with_name("driver.c")
_SOURCES = (SOURCE, SOURCE.with_name("driver_gpu.h"), SOURCE.with_name("driver_orders.h"))

_FLAGS = ("-std=c11", "-O2", "-g0", "-Wall", "-Wextra")


def driver_for(package: Path, manifest: Mapping[str, Any]) -> Path:
    """The driver for a package folder, from the cache where it is there.

    Raises ``DeployccError``: DC802 for a package without a library (the app's toolchain builds it), DC710 to
    DC712 where it cannot be compiled.
    """
    target, name = manifest["target"], manifest["name"]
    if target["toolchain"] == "none":
        raise DeployccError(
            Diagnostic(
                "DC802",
                f"the package {package.name} has no library to run: the app's own toolchain builds it",
                got=f"target {target['name']}, which has no linker",
                need="a package with a shared or static library",
                help="build the model for a target of that processor that has a linker (arm64), and look at "
                "that package: the kernels are the same",
            )
        )
    archive = package / "lib" / f"lib{name}.a"
    linked = archive.is_file()
    header = package / "include" / f"{name}.h"
    dynamic = ["-dynamic"] if target["libc"] == "musl" and not linked else []
    besides = ["-DTIMED"] if manifest["interface"].get("profile") else []
    besides += ["-DVARIANTS"] if "variant" in manifest else []
    besides += ["-DGPUS"] if is_for_gpus(manifest) else []
    digest = hashlib.sha256("\0".join((target["linker_triple"], name, *_FLAGS, *dynamic, *besides)).encode())
    for path in (*_SOURCES, header, *([archive] if linked else [])):
        digest.update(path.read_bytes())
    made = cache_directory() / "drivers" / f"{name}-{digest.hexdigest()[:32]}"
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".driver-", dir=made.parent))
    try:
        for path in (*_SOURCES, header, *([archive] if linked else [])):
            shutil.copy(path, scratch / path.name)
        compiler = zig_compiler(target["linker_triple"], "", scratch)
        arguments = [
            *_FLAGS,
            *dynamic,
            *besides,
            f"-DNAME={name}",
            f'-DHEADER="{name}.h"',
            "-I.",
            SOURCE.name,
        ]
        arguments += ["-DLINKED", archive.name, "-lm", "-lpthread", "-ldl"] if linked else ["-ldl"]
        call(compiler, [*arguments, "-o", "driver"], scratch, "compile the program that runs a package")
        os.replace(scratch / "driver", made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return made
