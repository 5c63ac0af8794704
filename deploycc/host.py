"""The target ``host``: this machine, detected from what the Linux kernel tells of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deploycc.targets import HOST, read_target_table, target_from_table
from deploycc.types import DeployccError, Diagnostic, Target

# x86-64 psABI, section 3.1.1, as spelt in Linux' /proc/cpuinfo ("abm" is LZCNT).
_X86_64_V2 = frozenset(("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"))
_X86_64_V3 = _X86_64_V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
_X86_64_V4 = _X86_64_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Sums of products of integers: of whole registers, and what processors without AVX-512 call the same.
_X86_64_VNNI = {("x86-64-v4", "avx512_vnni"): "+avx512vnni", ("x86-64-v3", "avx_vnni"): "+avxvnni"}

# Linux' names of AArch64 features (Documentation/arch/arm64/elf_hwcaps.rst) and LLVM's.
_AARCH64_FEATURES = {"atomics": "+lse", "asimddp": "+dotprod", "asimdhp": "+fullfp16", "asimdrdm": "+rdm"}


def detect_host(cpuinfo: str | None = None, machine: str | None = None, sysfs: Path | None = None) -> Target:
    """This machine as a target: instruction set and caches as detected, the rest as its nearest file has it.

    The arguments stand in for ``/proc/cpuinfo``, ``uname -m`` and ``/sys/devices/system/cpu/cpu0/cache``.
    Raises ``DeployccError`` (DC508) for a machine there is no target file for.
    """
    machine = machine or platform.machine()
    if cpuinfo is None:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    flags = _flags(cpuinfo)
    if machine == "x86_64":
        table, level = _x86_64(flags)
        table["llvm"].setdefault("features", [])
        table["llvm"]["features"] += [
            _X86_64_VNNI[level, flag] for flag in flags if (level, flag) in _X86_64_VNNI
        ]
        base = f"{table['name']} file, level {level}"
    elif machine in ("aarch64", "arm64"):
        table = read_target_table("arm64")
        table["llvm"]["features"] += sorted(
            _AARCH64_FEATURES[flag] for flag in flags & _AARCH64_FEATURES.keys()
        )
        base = "arm64 file"
    else:
        raise DeployccError(
            Diagnostic(
                "DC508",
                "the target 'host' is not known for this machine",
                got=machine,
                need="x86_64 or aarch64",
                help="name a target: 'deploycc targets' lists them, docs/new-target.md says how to add one",
            )
        )
    cores = len(os.sched_getaffinity(0))
    table.update(name=HOST, description=f"this machine ({table['llvm']['cpu']}, {cores} cores)", cores=cores)
    table["run"] = {"emulator": []}
    table["sources"]["cores"] = "sched_getaffinity(2) of the building process"
    for key in ("simd.bits", "simd.registers", "simd.fma"):
        table["sources"][key] = f"/proc/cpuinfo, then: {table['sources'][key]}"
    for key, value in _caches(sysfs or Path("/sys/devices/system/cpu/cpu0/cache")).items():
        table["cache"][key] = value
        table["sources"][f"cache.{key}"] = "/sys/devices/system/cpu/cpu0/cache"
    return target_from_table(table, f"detected host (from the {base})")


def _flags(cpuinfo: str) -> frozenset[str]:
    """Features that every CPU listed has (``flags`` on x86, ``Features`` on Arm)."""
    lists = [
        frozenset(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.partition(":")[0].strip() in ("flags", "Features")
    ]
    return frozenset.intersection(*lists) if lists else frozenset()


def _x86_64(flags: Iterable[str]) -> tuple[dict[str, Any], str]:
    present = frozenset(flags)
    if present >= _X86_64_V4:
        return read_target_table("x86-64-v4"), "x86-64-v4"
    table = read_target_table("x86-64")
    if present >= _X86_64_V3:
        return table, "x86-64-v3"
    level = "x86-64-v2" if present >= _X86_64_V2 else "x86-64"
    table["llvm"]["cpu"] = level
    table["linker"]["cpu"] = level.replace("-", "_")
    table["simd"] = {"bits": 128, "registers": 16, "fma": False}
    for key in ("simd.bits", "simd.registers", "simd.fma"):
        table["sources"][key] = f"x86-64 psABI, section 3.1.1: {level} has SSE with 16 registers and no FMA"
    return table, level


def _caches(folder: Path) -> Mapping[str, int]:
    """Data cache facts of CPU 0: KiB of a core's share of L1 and L2, bytes of a line; only what is told."""
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            level, kind, size, line, sharers = (
                (index / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size", "coherency_line_size", "shared_cpu_list")
            )
        except OSError:
            continue
        if level in ("1", "2") and kind in ("Data", "Unified") and size.endswith("K") and size[:-1].isdigit():
            # Two hardware threads of one core share what is theirs; more sharers are more cores.
            cores = max(1, _cpu_count(sharers) // _cpu_count(_siblings(folder)))
            found[f"l{level}_kib"] = max(1, int(size[:-1]) // cores)
            if line.isdigit() and int(line) > 0:
                found["line_bytes"] = int(line)
    return found


def _siblings(cache_folder: Path) -> str:
    try:
        return (cache_folder.parent / "topology" / "thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return "0"


def _cpu_count(cpu_list: str) -> int:
    """Number of CPUs in the kernel's list format, such as ``0-3,8``."""
    count = 0
    for part in cpu_list.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return max(1, count)
