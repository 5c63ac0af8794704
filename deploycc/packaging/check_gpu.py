"""What GPU code must be before it goes into a library: whole, for the chip, with all that is launched."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploycc.packaging.elf import Elf, ElfError, parse
from deploycc.types import BuildRequest, Call, DeployccError, Diagnostic, Gpu, Image, Plan

EM_CUDA = 190
"""``e_machine`` of machine code for NVIDIA GPUs (System V gABI's list of machines)."""

MOST_THREADS = 1024
"""Threads of a block (CUDA C Programming Guide, table of technical specifications, all capabilities)."""

_MOST_BLOCK = (1024, 1024, 64)
_MOST_GRID = (2**31 - 1, 65535, 65535)
"""The same table."""

_STATIC_SHARED = 48 << 10
"""Bytes of static shared memory that a kernel can have at most; more has to be dynamic."""

_MAX_THREADS_ENTRY, _PARAMETER_ENTRY = 0x05, 0x17
"""Kinds of entries in a section ``.nv.info.KERNEL``: ``.maxntid`` as three numbers, and one a parameter
(as NVRTC 12.4 writes them; a test compares with the text)."""

_ENTRY = re.compile(r"\.entry\s+([A-Za-z_$%][\w$]*)\s*(\([^)]*\))?([^{;]*)[{;]")
_MAX_THREADS = re.compile(r"\.(?:maxntid|reqntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
_PTX_TARGET = re.compile(r"^\s*\.target\s+(sm_\d+[af]?)", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A kernel as an image has it: the most threads of a block, and parameters, where they are told."""

    name: str
    max_threads: int | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Code:
    """What an image says of itself: the ``arch`` it is for, and its kernels by name."""

    arch: str
    entries: Mapping[str, Entry] = field(default_factory=dict)


def check_form(plan: Plan, request: BuildRequest, variants: int, chips: Sequence[Plan]) -> None:
    """Refuse what a package for GPUs cannot be (DC732)."""
    if plan.gpu is None:
        return
    faults = []
    if request.runtime == "shared":
        faults.append(("--runtime shared", "--runtime private", "leave --runtime out"))
    if request.target.linker.toolchain == "none":
        faults.append(("a target whose library the app's own toolchain builds", "a target with a linker", ""))
    if variants:
        faults.append(
            (
                f"{variants + 1} shapes and {len(chips) + 1} chips",
                "one shape a package",
                "build a package for each shape, or for the processor",
            )
        )
    if faults:
        raise DeployccError(
            *(
                Diagnostic(
                    "DC732",
                    f"a package for GPUs (target {request.target.name}) cannot have this form",
                    got=got,
                    need=need,
                    help=help_text,
                )
                for got, need, help_text in faults
            )
        )


def check_gpu(plan: Plan) -> None:
    """Hold the images of a chip's plan, and every launch, to what the chip takes.

    Raises ``DeployccError``: DC733 for an image that is broken or for another chip, DC734 for one that lacks
    a kernel, DC735 for launches beyond the chip's or the kernel's limits.
    """
    gpu = plan.gpu
    assert gpu is not None
    findings: list[Diagnostic] = []
    codes: list[tuple[Image, Code]] = []
    for image in plan.images:
        try:
            code = read_image(image)
        except ElfError as error:
            findings.append(_broken(gpu, image, str(error)))
            continue
        # Machine code does not tell sm_90a from sm_90.
        if code.arch not in (image.arch, image.arch.rstrip("af") if image.kind == "cubin" else ""):
            findings.append(_broken(gpu, image, f"code for {code.arch}"))
        codes.append((image, code))
    if not plan.images and any(call.launches for call in plan.calls):
        findings.append(
            Diagnostic(
                "DC733", f"there is no GPU code for {gpu.name}", got="no image", need=f"code for {gpu.arch}"
            )
        )
    launched = {launch.function for call in plan.calls for launch in call.launches}
    for image, code in codes:
        missing = sorted(launched - set(code.entries))
        if missing:
            findings.append(
                Diagnostic(
                    "DC734",
                    f"the {image.kind} code for {gpu.name} lacks kernels that are launched",
                    got=", ".join(missing[:10]) + (" ..." if len(missing) > 10 else ""),
                    need=f"all {len(launched)} of them",
                )
            )
    findings += _limits(plan, gpu, [code for _, code in codes])
    if findings:
        raise DeployccError(*findings)


def _broken(gpu: Gpu, image: Image, got: str) -> Diagnostic:
    return Diagnostic(
        "DC733",
        f"the {image.kind} code for {gpu.name} is not what it should be",
        got=got,
        need=f"{image.kind} for {image.arch}",
    )


# ---- images ----


def read_image(image: Image) -> Code:
    """The chip and kernels of an image.  Raises ``ElfError`` for bytes that are none of its kind."""
    return _read_cubin(image.code) if image.kind == "cubin" else _read_ptx(image.code)


def _read_ptx(data: bytes) -> Code:
    if not data.endswith(b"\0") or b"\0" in data[:-1]:
        raise ElfError("text that does not end with its only 0 byte")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", data[:-1].decode("utf-8", "replace"), flags=re.DOTALL)
    target = _PTX_TARGET.search(text)
    if ".version" not in text or target is None:
        raise ElfError("no .version and .target")
    entries = {}
    for match in _ENTRY.finditer(text):
        threads = _MAX_THREADS.search(match[3] or "")
        most = None
        if threads is not None:
            most = int(threads[1]) * int(threads[2] or 1) * int(threads[3] or 1)
        parameters = (match[2] or "").count(".param")
        entries[match[1]] = Entry(match[1], most, parameters)
    return Code(target[1], entries)


def _read_cubin(data: bytes) -> Code:
    elf = parse(data)
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine != EM_CUDA or elf.bits != 64 or not elf.little_endian:
        raise ElfError(f"an ELF file for {elf.machine}")
    entries = {}
    for section in elf.sections:
        if section.name.startswith(".text."):
            name = section.name.removeprefix(".text.")
            entries[name] = _cubin_entry(elf, data, name)
    return Code(_arch_of(elf, data), entries)


def _arch_of(elf: Elf, data: bytes) -> str:
    """The chip: the lowest byte of ``e_flags``, or in files of ABI 8 and later the byte above it."""
    number = (elf.flags >> 8 if data[8] >= 8 else elf.flags) & 0xFF
    return f"sm_{number}"


def _cubin_entry(elf: Elf, data: bytes, kernel: str) -> Entry:
    section = next((s for s in elf.sections if s.name == f".nv.info.{kernel}"), None)
    if section is None:
        return Entry(kernel)
    threads, parameters = None, 0
    at, end = section.offset, min(section.offset + section.size, len(data))
    while at + 4 <= end:
        form, attribute, size = struct.unpack_from("<BBH", data, at)
        at += 4
        if form != 4:  # the size field is the value itself
            continue
        if attribute == _MAX_THREADS_ENTRY and size == 12 and at + 12 <= end:
            x, y, z = struct.unpack_from("<III", data, at)
            threads = int(x * y * z)
        parameters += attribute == _PARAMETER_ENTRY
        at += size
    return Entry(kernel, threads, parameters)


# ---- launches ----


def _limits(plan: Plan, gpu: Gpu, codes: Sequence[Code]) -> list[Diagnostic]:
    static = {facts.function: facts.shared_bytes for facts in plan.kernel_facts}
    findings = []
    for number, call in enumerate(plan.calls):
        for launch in call.launches:
            entries = [code.entries[launch.function] for code in codes if launch.function in code.entries]
            known = [entry.max_threads for entry in entries if entry.max_threads is not None]
            threads = launch.block[0] * launch.block[1] * launch.block[2]
            shared = launch.shared_bytes + static.get(launch.function, 0)
            faults = []
            if threads > min([MOST_THREADS, *known]):
                faults.append((f"blocks of {threads} threads", f"at most {min([MOST_THREADS, *known])}"))
            if not all(0 < size <= most for size, most in zip(launch.block, _MOST_BLOCK, strict=True)):
                faults.append((f"a block of {_by(launch.block)}", f"1 to {_by(_MOST_BLOCK)}"))
            if not all(0 < size <= most for size, most in zip(launch.grid, _MOST_GRID, strict=True)):
                faults.append((f"a grid of {_by(launch.grid)}", f"1 to {_by(_MOST_GRID)}"))
            if shared > gpu.shared_bytes_per_block:
                faults.append((f"{shared} bytes of shared memory", f"at most {gpu.shared_bytes_per_block}"))
            if static.get(launch.function, 0) > _STATIC_SHARED:
                faults.append(
                    (f"{static[launch.function]} bytes of static shared memory", f"at most {_STATIC_SHARED}")
                )
            faults += _arguments(call, launch.arguments, entries)
            findings += [
                Diagnostic(
                    "DC735",
                    f"step {number} launches {launch.function} in a way that {gpu.name} does not take",
                    got=got,
                    need=need,
                )
                for got, need in faults
            ]
    return findings


def _arguments(call: Call, arguments: Sequence[int], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    faults = []
    if any(not 0 <= number < len(call.arguments) for number in arguments):
        faults.append((f"arguments {arguments}", f"numbers of the call's {len(call.arguments)} arguments"))
    told = {entry.parameters for entry in entries if entry.parameters is not None}
    if told and told != {len(arguments)}:
        faults.append((f"{len(arguments)} arguments", f"{max(told)}, one for each parameter"))
    if any(
        call.arguments[number].kind == "host" for number in arguments if 0 <= number < len(call.arguments)
    ):
        faults.append(("a buffer of the host", "buffers in the GPU's memory"))
    return faults


def _by(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))
