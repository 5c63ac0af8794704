"""What a library must be before it may leave the house; every breach is a diagnostic of its own.

The rules are those that decide whether a ``.so`` loads on another machine: right machine and
float ABI, no library and no GLIBC version that is not there, nothing unresolved, nothing
exported that could clash, no relocated code, no executable stack.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from deploycc.packaging.elf import ET_DYN, SHN_ABS, STB_LOCAL, STB_WEAK, Elf, ElfError, parse
from deploycc.types import DeployccError, Diagnostic, Target

KERNEL_SLOTS = frozenset(
    {
        "__TVMBackendParallelLaunch",
        "__TVMBackendParallelBarrier",
        "__TVMBackendAllocWorkspace",
        "__TVMBackendFreeWorkspace",
    }
)
"""Pointer variables of kernel objects that the generated C file fills."""

_MACHINES = {
    "EM_386": "i386",
    "EM_ARM": "arm",
    "EM_X86_64": "x86-64",
    "EM_AARCH64": "aarch64",
    "EM_RISCV": "riscv",
}

_C_LIBRARY = frozenset({"libc.so.6", "libm.so.6", "libpthread.so.0", "libc.so"})

# Weak symbols that crt files leave for whoever provides them; unresolved they are 0 and unused.
_OPTIONAL = frozenset(
    {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "_Jv_RegisterClasses"}
)

_EF_ARM_ABI_FLOAT_SOFT, _EF_ARM_ABI_FLOAT_HARD = 0x200, 0x400  # ELF for the Arm Architecture, 5.3
_EF_RISCV_FLOAT_ABI, _EF_RISCV_FLOAT_ABI_DOUBLE = 0x6, 0x4  # RISC-V ELF psABI, file header


def version_key(version: str) -> tuple[int, ...]:
    """``"2.17"`` as ``(2, 17)``; anything that is no number sorts first."""
    return tuple(int(part) if part.isdigit() else -1 for part in version.split("."))


def highest_glibc(elf: Elf) -> str:
    """The highest ``GLIBC_x.y`` the file needs as ``x.y``, or ``""``."""
    versions = [v.removeprefix("GLIBC_") for _, v in elf.versions_needed if v.startswith("GLIBC_")]
    return max(versions, key=version_key, default="")


def check_kernels(data: bytes, target: Target) -> Elf:
    """The parsed kernel object, if it is one of the target and needs nothing that nobody provides.

    Raises ``DeployccError``: DC707, DC720, DC727.
    """
    elf = _parse(data, "the kernels' object code")
    findings = _machine(elf, target, "the kernels' object code")
    unfilled = sorted(
        {
            symbol.name
            for symbol in elf.symbols
            if symbol.binding != STB_LOCAL
            and symbol.name.startswith(("__TVM", "TVM", "__tvm_ffi"))
            and symbol.name not in KERNEL_SLOTS
            and (not symbol.defined or symbol.binding == STB_WEAK)
        }
    )
    if unfilled:
        findings.append(
            Diagnostic(
                "DC707",
                "kernels call functions of TVM's own runtime, which a package does not have",
                got=", ".join(unfilled),
                need="kernels that call nothing but memory, threads and libm",
                help="an operator such as a sort is lowered to a packed function;"
                " replace it, or cut the network before it",
            )
        )
    if findings:
        raise DeployccError(*findings)
    return elf


def check_library(
    data: bytes,
    target: Target,
    exports: Collection[str],
    *,
    label: str,
    extra_libraries: Collection[str] = (),
) -> Elf:
    """The parsed shared library, if it keeps every rule.

    ``exports`` is exactly what it may and must export, ``extra_libraries`` what it may need on top
    of the target's list.  Raises ``DeployccError`` with one diagnostic a breach (DC720 to DC727).
    """
    elf = _parse(data, label)
    findings = _machine(elf, target, label)
    if elf.type != ET_DYN:
        findings.append(Diagnostic("DC720", f"{label} is no shared library", got=f"ELF type {elf.type}"))
    findings += _needed(elf, target, label, extra_libraries)
    findings += _glibc(elf, target, label)
    findings += _undefined(elf, target, label, extra_libraries)
    findings += _exports(elf, exports, label)
    if elf.text_relocations:
        findings.append(
            Diagnostic(
                "DC725",
                f"{label} has relocations in its code, which hardened systems refuse to load",
                got="DT_TEXTREL",
                help="compile the kernels as position-independent code",
            )
        )
    if elf.executable_stack:
        findings.append(
            Diagnostic(
                "DC726",
                f"{label} asks for an executable stack, which hardened systems refuse",
                got="PT_GNU_STACK with execute permission, or none",
                help="every object needs a .note.GNU-stack section",
            )
        )
    if findings:
        raise DeployccError(*findings)
    return elf


def check_driver_symbols(elf: Elf, label: str) -> None:
    """A library for GPUs must load where there is no driver (DC736)."""
    loose = sorted(
        symbol.name
        for symbol in elf.dynamic_symbols
        if not symbol.defined and re.match(r"cu[A-Z]|cuda[A-Z]|__cuda|nvrtc", symbol.name)
    )
    libraries = [name for name in elf.needed if re.match(r"lib(cuda|nvrtc|nvidia)", name)]
    if loose or libraries:
        raise DeployccError(
            Diagnostic(
                "DC736",
                f"{label} does not load on a machine without a GPU's driver",
                got=", ".join([*loose[:20], *libraries]),
                need="the driver loaded when it is first needed",
                help="object code or a library that is linked in calls CUDA itself",
            )
        )


def _parse(data: bytes, label: str) -> Elf:
    try:
        return parse(data)
    except ElfError as error:
        raise DeployccError(
            Diagnostic("DC727", f"{label} cannot be read as ELF", got=str(error), need="a complete ELF file")
        ) from None


def _machine(elf: Elf, target: Target, label: str) -> list[Diagnostic]:
    findings = []
    wanted = _MACHINES.get(target.linker.elf_machine, target.linker.elf_machine)
    bits = 32 if wanted in ("arm", "i386") else 64
    got = f"{elf.machine}, {elf.bits}-bit, {'little' if elf.little_endian else 'big'}-endian"
    if wanted and (elf.machine, elf.bits, elf.little_endian) != (wanted, bits, True):
        findings.append(
            Diagnostic(
                "DC720",
                f"{label} is for another machine than target {target.name}",
                got=got,
                need=f"{wanted}, {bits}-bit, little-endian",
                help="llvm.triple and linker.triple of the target must name the same machine",
            )
        )
    elif elf.type == ET_DYN:
        got_abi = _float_abi(elf)
        hard = target.llvm.float_abi == "hard" or target.llvm.triple.endswith("eabihf")
        wanted_abi = {"arm": "hard" if hard else "soft", "riscv": "double"}.get(elf.machine, "")
        if target.llvm.float_abi == "soft" and elf.machine == "riscv":
            wanted_abi = "soft"
        if got_abi != wanted_abi:
            findings.append(
                Diagnostic(
                    "DC720",
                    f"{label} passes floating-point arguments in another way than target {target.name}",
                    got=f"{got_abi} float ABI",
                    need=f"{wanted_abi} float ABI",
                    help="check llvm.float_abi and linker.triple of the target",
                )
            )
    return findings


def _float_abi(elf: Elf) -> str:
    if elf.machine == "arm":
        return "hard" if elf.flags & _EF_ARM_ABI_FLOAT_HARD else "soft"
    if elf.machine == "riscv":
        kind = elf.flags & _EF_RISCV_FLOAT_ABI
        return {0: "soft", _EF_RISCV_FLOAT_ABI_DOUBLE: "double"}.get(kind, "other")
    return ""


def _allowed(library: str, target: Target, extra: Collection[str]) -> bool:
    listed = frozenset(target.linker.allowed_libraries) or _C_LIBRARY
    return library in listed or library in extra


def _needed(elf: Elf, target: Target, label: str, extra: Collection[str]) -> list[Diagnostic]:
    others = [library for library in elf.needed if not _allowed(library, target, extra)]
    if not others:
        return []
    return [
        Diagnostic(
            "DC721",
            f"{label} needs libraries that target {target.name} does not promise",
            got=", ".join(others),
            need=", ".join(target.linker.allowed_libraries) or "the C library only",
            help="link what it needs statically, or add the library to linker.allowed_libraries",
        )
    ]


def _glibc(elf: Elf, target: Target, label: str) -> list[Diagnostic]:
    floor = target.linker.glibc_floor
    if not floor:
        versioned = sorted({f"{lib} {v}" for lib, v in elf.versions_needed if v.startswith("GLIBC_")})
        if not versioned or target.linker.libc == "glibc":
            return []
        need = f"no glibc ({target.linker.libc})"
    else:
        above = {
            symbol.version: symbol.name
            for symbol in elf.dynamic_symbols
            if symbol.version.startswith("GLIBC_")
            and not symbol.defined
            and version_key(symbol.version.removeprefix("GLIBC_")) > version_key(floor)
        }
        for _, version in elf.versions_needed:
            if version.startswith("GLIBC_") and version_key(version.removeprefix("GLIBC_")) > version_key(
                floor
            ):
                above.setdefault(version, "")
        if not above:
            return []
        versioned = [f"{version} ({name})" if name else version for version, name in sorted(above.items())]
        need = f"GLIBC_{floor} or older"
    return [
        Diagnostic(
            "DC722",
            f"{label} needs a newer C library than target {target.name} promises",
            got=", ".join(versioned),
            need=need,
            help="put the glibc floor into linker.triple, or raise linker.glibc_floor",
        )
    ]


def _undefined(elf: Elf, target: Target, label: str, extra: Collection[str]) -> list[Diagnostic]:
    loose = []
    for symbol in elf.dynamic_symbols:
        if symbol.defined or not symbol.name or symbol.name in _OPTIONAL:
            continue
        if target.linker.libc == "glibc":
            # glibc versions every symbol, so one without a version is nobody's.
            resolved = bool(symbol.version)
        else:
            resolved = bool(elf.needed) and not symbol.name.startswith(("__TVM", "TVM"))
        if not resolved:
            loose.append(symbol.name)
    if not loose:
        return []
    return [
        Diagnostic(
            "DC723",
            f"{label} has symbols that no library it needs defines",
            got=", ".join(sorted(loose)[:20]),
            need="every symbol resolved when the library is linked",
            help="link with -Wl,-z,defs to find where they come from",
        )
    ]


def _exports(elf: Elf, exports: Collection[str], label: str) -> list[Diagnostic]:
    exported = {
        s.name
        for s in elf.dynamic_symbols
        # Some linkers also list a version itself, as an absolute symbol of that name.
        if s.defined
        and s.binding != STB_LOCAL
        and s.name
        and not (s.section == SHN_ABS and s.name == s.version)
    }
    wanted = set(exports)
    if exported == wanted:
        return []
    parts = []
    if exported - wanted:
        parts.append("also " + ", ".join(sorted(exported - wanted)[:20]))
    if wanted - exported:
        parts.append("not " + ", ".join(sorted(wanted - exported)[:20]))
    return [
        Diagnostic(
            "DC724",
            f"{label} does not export exactly its own functions",
            got="; ".join(parts),
            need=", ".join(sorted(wanted)),
            help="several networks fit in one program only if nothing else is exported",
        )
    ]
