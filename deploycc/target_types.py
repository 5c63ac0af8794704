"""What is known of a machine that packages are built for; re-exported by ``deploycc.types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class LLVMTarget:
    """What LLVM is told: a four-part triple, a CPU name, feature flags and the float ABI."""

    triple: str
    cpu: str = ""
    features: tuple[str, ...] = ()
    float_abi: Literal["", "hard", "soft"] = ""


@dataclass(frozen=True)
class Simd:
    """The vector unit as schedules see it: register width in bits, their number, FMA or not.

    ``fma_by_lane``: a multiply-add takes one lane of a register for all lanes of its second factor, so
    that one vector of inputs serves as many steps of a reduction as it has lanes.
    """

    bits: int
    registers: int
    fma: bool
    fma_by_lane: bool = False

    def lanes(self, dtype_bits: int = 32) -> int:
        """How many elements of ``dtype_bits`` one vector register holds."""
        return max(1, self.bits // dtype_bits)


@dataclass(frozen=True)
class Cache:
    """Data cache sizes in bytes of one core (``l1``, ``l2``) and the line size in bytes."""

    l1: int
    l2: int
    line: int


@dataclass(frozen=True)
class Linker:
    """How objects become a library.

    ``toolchain`` is ``zig`` (the pinned ``ziglang`` wheel), ``none`` (the app links; Android)
    or the path of a C compiler driver.  ``triple`` is the toolchain's own spelling, with the
    glibc floor in it where there is one (``aarch64-linux-gnu.2.17``).  ``cpu`` is the
    toolchain's ``-mcpu`` for the C runtime.  ``glibc_floor`` is empty for musl and bionic.
    """

    toolchain: str
    triple: str
    libc: Literal["glibc", "musl", "bionic"]
    cpu: str = ""
    glibc_floor: str = ""
    elf_machine: str = ""
    allowed_libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peak:
    """What a processor reaches at best: FLOP/s in single precision of all cores, bytes/s from memory."""

    flops: float
    bytes_per_second: float


@dataclass(frozen=True)
class Target:
    """One machine that packages are built for; read from one ``targets/*.toml`` file."""

    name: str
    description: str
    llvm: LLVMTarget
    simd: Simd
    cache: Cache
    cores: int
    linker: Linker
    emulator: tuple[str, ...] = ()
    """Command that runs the target's programs on another machine, e.g. ``("qemu-aarch64",)``."""
    sources: Mapping[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    """Operator support tables of other libraries for this machine, which lint shows beside its own."""
    peak: Peak | None = None
    memory_bytes: int | None = None
