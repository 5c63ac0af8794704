"""From objects to ``lib/``: the shared or static library of a package, checked after linking."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploycc.packaging import generate_c, generate_cuda_source
from deploycc.packaging.archive import archive, localise
from deploycc.packaging.checks import check_driver_symbols, check_library
from deploycc.packaging.elf import Elf
from deploycc.packaging.interface import Interface
from deploycc.packaging.toolchain import (
    CFLAGS,
    LIBRARIES,
    SHARED_RUNTIME_NAME,
    Compiler,
    build_runtime,
    call,
    find_compiler,
    runtime_headers,
    shared_link_flags,
)
from deploycc.types import BuildRequest, Plan

RUNTIME_SYMBOLS = tuple(
    f"dcc_{name}"
    for name in (
        "abi",
        "alloc_workspace",
        "arena_create",
        "arena_destroy",
        "create",
        "create_in",
        "destroy",
        "find_shapes",
        "free_workspace",
        "last_error",
        "memory_bytes",
        "observe",
        "parallel_barrier",
        "parallel_launch",
        "profile",
        "profile_reset",
        "run",
        "select",
        "select_shapes",
        "selected",
        "status_text",
        "threads",
    )
)
"""What the shared runtime exports, and a network with ``--runtime shared`` needs of it."""

LOADER = "libdl.so.2"
"""What has ``dlopen`` in a glibc before 2.34: a package for GPUs loads the driver with it."""


@dataclass(frozen=True)
class BuiltLibrary:
    """The file an app links, and what the linked form of it is like (``None``: not linked here)."""

    path: Path
    elf: Elf | None


def build_library(
    plan: Plan,
    request: BuildRequest,
    interface: Interface,
    source: str,
    staging: Path,
    scratch: Path,
    chips: Sequence[Plan] = (),
) -> BuiltLibrary:
    """Compile and link into ``staging/lib``; ``scratch`` is an empty folder for intermediate files.

    ``chips`` are the plans of the chips but the first.
    Raises ``DeployccError``: DC710 to DC712 (toolchain), DC720 to DC727 and DC736 (the result breaks a rule).
    """
    target, name = request.target, interface.name
    compiler = find_compiler(target, scratch)
    shared_runtime, cuda = interface.runtime == "shared", bool(interface.gpus)
    runtime = build_runtime(compiler, shared=shared_runtime, debug=interface.debug_runtime, cuda=cuda)
    objects = _objects(plan, interface, source, staging, scratch, compiler)
    if cuda:
        objects += _images(interface, (plan, *chips), scratch, compiler)
    lib = staging / "lib"
    extra_libraries: tuple[str, ...] = ()
    if shared_runtime:
        _place_shared_runtime(runtime[0], lib, request)
        extra_libraries = (SHARED_RUNTIME_NAME,)
    linked = scratch / f"lib{name}.so"
    inputs = [*objects, *([] if shared_runtime else [str(path) for path in runtime])]
    if interface.emit == "static":
        call(compiler, ["-r", "-nostdlib", "-Wl,-S", *inputs, "-o", "network.o"], scratch, "join the objects")
        joined = localise((scratch / "network.o").read_bytes(), frozenset(interface.symbols))
        (scratch / "network.o").write_bytes(joined)
        (lib / f"lib{name}.a").write_bytes(archive(f"{name[:10]}.o", joined, interface.symbols))
        inputs = ["network.o"]
    # A static library is linked as well, and thrown away: that is what tells of missing symbols.
    flags = shared_link_flags(f"lib{name}.so", f"{name}.map")
    runtime_link = [str(lib / SHARED_RUNTIME_NAME), "-Wl,-rpath,$ORIGIN"] if shared_runtime else []
    (scratch / f"{name}.map").write_text(generate_c.version_script(interface.symbols), encoding="ascii")
    # dlopen is in libdl before glibc 2.34; with a later floor nothing is needed of it.
    libraries = (*LIBRARIES, *(("-ldl",) if cuda else ()))
    extra_libraries += (LOADER,) if cuda and request.target.linker.libc == "glibc" else ()
    call(
        compiler, [*flags, *inputs, *runtime_link, *libraries, "-o", linked.name], scratch, "link the library"
    )
    elf = check_library(
        linked.read_bytes(), target, interface.symbols, label=f"lib{name}.so", extra_libraries=extra_libraries
    )
    if cuda:
        check_driver_symbols(elf, f"lib{name}.so")
    if interface.emit == "static":
        return BuiltLibrary(lib / f"lib{name}.a", elf)
    shutil.move(linked, lib / linked.name)
    return BuiltLibrary(lib / linked.name, elf)


def _objects(
    plan: Plan, interface: Interface, source: str, staging: Path, scratch: Path, compiler: Compiler
) -> list[str]:
    name = interface.name
    if plan.kernels:
        (scratch / "kernels.o").write_bytes(plan.kernels)
    for header in (*runtime_headers(cuda=bool(interface.gpus)), staging / "include" / f"{name}.h"):
        shutil.copyfile(header, scratch / header.name)
    (scratch / f"{name}.c").write_text(source, encoding="ascii")
    call(
        compiler,
        [*CFLAGS, "-I.", "-c", f"{name}.c", "-o", "model.o"],
        scratch,
        "compile the model definition",
    )
    objects = ["model.o", *(["kernels.o"] if plan.kernels else [])]
    for number, (file, text) in enumerate(plan.routines.items()):
        (scratch / file).write_text(text, encoding="utf-8")
        made = f"routines_{number}.o"
        call(compiler, [*CFLAGS, "-I.", "-c", file, "-o", made], scratch, f"compile {file}")
        objects.append(made)
    if plan.weights:
        (scratch / "weights.bin").write_bytes(plan.weights)
        digest = hashlib.sha256(plan.weights).hexdigest()
        (scratch / "weights.S").write_text(
            generate_c.weights_assembly(name, "weights.bin", digest), encoding="ascii"
        )
        call(compiler, ["-I.", "-g0", "-c", "weights.S", "-o", "weights.o"], scratch, "assemble the weights")
        objects.append("weights.o")
    return objects


def _images(interface: Interface, plans: Sequence[Plan], scratch: Path, compiler: Compiler) -> list[str]:
    files = generate_cuda_source.image_files(interface, plans)
    if not files:
        return []
    for one in files:
        (scratch / one.file).write_bytes(one.image.code)
    (scratch / "images.S").write_text(generate_cuda_source.images_assembly(files), encoding="ascii")
    call(compiler, ["-I.", "-g0", "-c", "images.S", "-o", "images.o"], scratch, "assemble the GPU's code")
    return ["images.o"]


def _place_shared_runtime(made: Path, lib: Path, request: BuildRequest) -> None:
    shutil.copyfile(made, lib / SHARED_RUNTIME_NAME)
    (lib / "libdeploycc_rt.so").symlink_to(SHARED_RUNTIME_NAME)
    check_library(made.read_bytes(), request.target, RUNTIME_SYMBOLS, label=SHARED_RUNTIME_NAME)
