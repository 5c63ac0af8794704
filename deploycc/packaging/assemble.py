"""The last stage: object code, weights and a call list become a package folder."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploycc.packaging import generate_build, generate_c, generate_cpp
from deploycc.packaging.check_gpu import check_form, check_gpu
from deploycc.packaging.checks import check_kernels, highest_glibc
from deploycc.packaging.gpus import add_gpus
from deploycc.packaging.interface import Interface, Tensor, interface_of
from deploycc.packaging.libraries import BuiltLibrary, build_library
from deploycc.packaging.licences import licence_files
from deploycc.packaging.listings import LISTINGS, write_listings
from deploycc.packaging.manifest import files_of, manifest_of, write_manifest
from deploycc.packaging.toolchain import runtime_headers, runtime_sources
from deploycc.packaging.variants import variant_tables
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Golden, Model, Package, Plan, Variant

WEIGHT_LIMIT = (2 << 30) - (64 << 20)
"""Bytes.  Code reaches data by 32-bit signed offsets; 64 MiB are left for code and the rest."""


Pages = Callable[[Path, Mapping[str, Any]], Mapping[str, bytes]]
"""What is written of a package beside its manifest, by file name: a function of its folder and manifest."""


def package(
    plan: Plan,
    request: BuildRequest,
    model: Model,
    golden: Golden,
    staging: Path,
    pages: Pages | None = None,
    variants: Sequence[Variant] = (),
    chips: Sequence[Plan] = (),
) -> Package:
    """Write the complete package into the empty folder ``staging`` and return it.

    ``pages`` gets the folder and the manifest when all but its own files are there; the manifest lists those
    too in the end.  ``variants`` are the network at other shapes of its inputs, ``chips`` the plans of a
    package for GPUs for the chips but the first, with the same weights, kernels and tensors.

    The caller renames ``staging`` to its final place when this returns, and removes it when this
    raises.  The bytes depend on the arguments and installed versions only.

    Raises ``DeployccError``: DC704 to DC709 for what cannot be packaged, DC710 to DC712 for the
    toolchain, DC720 to DC727 for a library that breaks a rule of its target, DC730 and DC731 for
    a full disk and a folder that cannot be written, DC732 to DC736 for what a package for GPUs cannot be.
    """
    try:
        return _package(plan, request, model, golden, staging, pages, variants, chips)
    except OSError as error:
        raise _write_error(error) from error


def _package(
    plan: Plan,
    request: BuildRequest,
    model: Model,
    golden: Golden,
    staging: Path,
    pages: Pages | None,
    variants: Sequence[Variant],
    chips: Sequence[Plan],
) -> Package:
    others = [variant.plan for variant in variants]
    check_form(plan, request, len(variants), chips)
    interface = replace(
        interface_of(plan, request, others, chips),
        rounding=tuple(error.max_scaled for error in golden.rounding),
    )
    _check_request(plan, request)
    _check_chips(plan, chips)
    pointer_bytes, defined = 8, set[str]()
    if plan.kernels or plan.gpu is None:
        kernels = check_kernels(plan.kernels, request.target)
        pointer_bytes = kernels.bits // 8
        defined = {symbol.name for symbol in kernels.symbols if symbol.defined}
    called = {
        call.symbol
        for one in (plan, *others, *chips)
        for call in one.calls
        if not call.copies and not call.launches
    }
    missing = sorted(called - defined)
    if missing:
        raise ValueError(f"the plan calls kernels that its object lacks: {', '.join(missing)}")
    _check_golden(interface.inputs, interface.outputs, golden)
    for (inputs, outputs), variant in zip(interface.variants[1:], variants, strict=True):
        _check_golden(inputs, outputs, variant.golden)

    scratch = staging / ".scratch"
    scratch.mkdir()
    source = generate_c.source(interface, plan, [*others, *chips])
    (staging / "include").mkdir()
    (staging / "include" / f"{interface.name}.h").write_text(generate_c.header(interface), encoding="ascii")
    (staging / "include" / f"{interface.name}.hpp").write_text(
        generate_cpp.header(interface), encoding="ascii"
    )
    (staging / "lib").mkdir()
    if interface.linked:
        built = build_library(plan, request, interface, source, staging, scratch, chips)
    else:
        built = _write_sources(plan, interface, source, staging)
    shutil.rmtree(scratch)
    _write_build_files(interface, staging, pointer_bytes)
    share = staging / "share" / interface.name
    _write_golden(golden, share / "golden")
    for number, variant in enumerate(variants, 1):
        _write_golden(variant.golden, share / "golden" / f"variant_{number}")
    if request.keep_kernels:
        write_listings(
            [listing for one in (plan, *others, *chips) for listing in one.listings], share / LISTINGS
        )
    (share / "licenses").mkdir(parents=True)
    for name, text in licence_files(request.target).items():
        (share / "licenses" / name).write_bytes(text)
    library, versions = _library_entry(built, plan, staging), _versions(request)
    manifest = manifest_of(interface, plan, request, model, golden, library, versions)
    if variants:
        manifest["variants"] = variant_tables(interface, plan, golden, variants)
        manifest["memory"]["arena_bytes"] = max(one.arena_bytes for one in (plan, *others))
    if plan.gpu is not None:
        add_gpus(manifest, (plan, *chips))
    if pages is not None:
        for name, content in pages(staging, manifest).items():
            (share / name).write_bytes(content)
    manifest["files"] = files_of(staging)
    write_manifest(staging, manifest)
    return Package(path=staging, manifest=manifest)


def _check_request(plan: Plan, request: BuildRequest) -> None:
    if len(plan.weights) > WEIGHT_LIMIT:
        raise DeployccError(
            Diagnostic(
                "DC706",
                "the weights are too large for one library",
                got=f"{len(plan.weights)} bytes",
                need=f"at most {WEIGHT_LIMIT} bytes",
                help="store them as float16, or cut the network in two",
            )
        )
    if request.target.linker.toolchain == "none" and request.runtime == "shared":
        raise DeployccError(
            Diagnostic(
                "DC708",
                f"target {request.target.name} cannot have a shared runtime",
                got="--runtime shared for a target whose library the app's own toolchain builds",
                need="--runtime private",
                help="leave --runtime out",
            )
        )


def _check_chips(plan: Plan, chips: Sequence[Plan]) -> None:
    """Hold the plans of a package for GPUs to what they are to share, and each to its chip's limits."""
    for one in chips:
        shared = ("kernels", "weights", "inputs", "outputs")
        different = [name for name in shared if getattr(one, name) != getattr(plan, name)]
        if different:
            raise ValueError(f"the plans of a package's chips have different {', '.join(different)}")
    for one in (plan, *chips):
        if one.gpu is not None:
            check_gpu(one)


def _check_golden(inputs: Sequence[Tensor], outputs: Sequence[Tensor], golden: Golden) -> None:
    """A golden tensor of the wrong size is a fault of an earlier stage, not of the user's input."""
    for tensors, data in ((inputs, golden.inputs), (outputs, golden.outputs)):
        if [t.bytes for t in tensors] != [len(d) for d in data]:
            raise ValueError("golden tensors do not have the sizes of the graph's inputs and outputs")


def _write_sources(plan: Plan, interface: Interface, source: str, staging: Path) -> BuiltLibrary:
    """What an app's own toolchain needs: object code, weights, C sources, a CMake file."""
    name = interface.name
    (staging / "lib" / f"{name}_kernels.o").write_bytes(plan.kernels)
    folder = staging / "src"
    (folder / "runtime").mkdir(parents=True)
    (folder / f"{name}.c").write_text(source, encoding="ascii")
    (folder / f"{name}_weights.bin").write_bytes(plan.weights)
    digest = hashlib.sha256(plan.weights).hexdigest()
    (folder / f"{name}_weights.S").write_text(
        generate_c.weights_assembly(name, f"{name}_weights.bin", digest), encoding="ascii"
    )
    (folder / f"{name}.map").write_text(generate_c.version_script(interface.symbols), encoding="ascii")
    sources = runtime_sources()
    for path in (*runtime_headers(), *sources):
        shutil.copyfile(path, folder / "runtime" / path.name)
    for file, text in plan.routines.items():
        (folder / "routines").mkdir(exist_ok=True)
        (folder / "routines" / file).write_text(text, encoding="utf-8")
    compiled = (
        *(f"runtime/{path.name}" for path in sources),
        *(f"routines/{file}" for file in plan.routines),
    )
    (folder / "CMakeLists.txt").write_text(
        generate_build.sources_cmake(interface, compiled), encoding="ascii"
    )
    return BuiltLibrary(staging / "lib" / f"{name}_kernels.o", None)


def _write_build_files(interface: Interface, staging: Path, pointer_bytes: int) -> None:
    cmake = staging / "lib" / "cmake" / interface.name
    cmake.mkdir(parents=True)
    config = generate_build.cmake_config(interface)
    version = generate_build.cmake_config_version(interface, pointer_bytes)
    (cmake / f"{interface.name}Config.cmake").write_text(config, encoding="ascii")
    (cmake / f"{interface.name}ConfigVersion.cmake").write_text(version, encoding="ascii")
    if interface.linked:
        folder = staging / "lib" / "pkgconfig"
        folder.mkdir()
        (folder / f"{interface.name}.pc").write_text(generate_build.pkg_config(interface), encoding="ascii")
    example = staging / "example"
    example.mkdir()
    (example / "main.cpp").write_text(generate_build.example_main(interface), encoding="ascii")
    (example / "CMakeLists.txt").write_text(generate_build.example_cmake(interface), encoding="ascii")


def _write_golden(golden: Golden, folder: Path) -> None:
    folder.mkdir(parents=True)
    for role, tensors in (("input", golden.inputs), ("output", golden.outputs)):
        for index, data in enumerate(tensors):
            (folder / f"{role}_{index}.bin").write_bytes(data)


def _library_entry(built: BuiltLibrary, plan: Plan, staging: Path) -> Mapping[str, Any]:
    size = built.path.stat().st_size
    linked = built.elf is not None
    return {
        "bytes": size,
        # Everything but the weights: kernels, runtime, tables, headers of the file format.
        "code_bytes": size - len(plan.weights) if linked else size,
        "file": built.path.relative_to(staging).as_posix(),
        "highest_glibc": highest_glibc(built.elf) if built.elf else "",
        "needed": list(built.elf.needed) if built.elf else [],
    }


def _versions(request: BuildRequest) -> dict[str, str]:
    from deploycc import __version__

    names = ["apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "onnxsim"]
    if request.target.linker.toolchain == "zig":
        names.append("ziglang")
    versions = {"deploycc": __version__}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def _write_error(error: OSError) -> DeployccError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeployccError(
            Diagnostic(
                "DC730",
                "no space left on the disk while the package was written",
                got=os.strerror(error.errno),
                help="free some space, or choose another folder with -o",
            )
        )
    return DeployccError(
        Diagnostic(
            "DC731",
            "the package could not be written",
            got=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            need="write access to the output folder and to the cache folder",
            help="choose another folder with -o; DEPLOYCC_CACHE_DIR moves the cache",
        )
    )
