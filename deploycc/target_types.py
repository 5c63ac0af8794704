"""What is known of a machine that packages are built for; re-exported by ``deploycc.types``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


Precision = Literal["fp32", "tf32", "fp16", "bf16"]
"""How a GPU multiplies and stores: ``fp32`` is single precision throughout; ``tf32`` rounds the factors of
convolutions and matrix products to 10 bits of mantissa; ``fp16`` and ``bf16`` also store weights and
intermediate tensors so.  Sums are of fp32 in all of them."""


@dataclass(frozen=True)
class Gpu:
    """One GPU chip as schedules see it; read from one ``targets/gpus/*.toml`` file.

    ``processors`` are streaming multiprocessors (SM).  ``flops`` are the chip's FLOP/s at best, dense: of
    ``fp32`` on plain cores, of the others on tensor cores, where it has those of the kind.
    """

    name: str
    description: str
    arch: str
    """``sm_90``: what kernels are compiled for."""
    processors: int
    clock_hz: float
    threads_per_processor: int
    registers_per_processor: int
    shared_bytes_per_processor: int
    shared_bytes_per_block: int
    """The most that a block can have, where it asks for more than 48 KiB."""
    l2_bytes: int
    memory_bytes: int
    bytes_per_second: float
    """Of its memory."""
    flops: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability: (9, 0) of ``sm_90``."""
        digits = re.sub(r"\D", "", self.arch)
        return int(digits[:-1]), int(digits[-1])

    def has_tensor_cores(self, precision: str) -> bool:
        """Whether ``mma.sync`` takes such factors (PTX ISA: f16 from sm_75, bf16 and tf32 from sm_80)."""
        least = {"fp16": (7, 5), "bf16": (8, 0), "tf32": (8, 0)}
        return precision in least and self.capability >= least[precision]


@dataclass(frozen=True)
class Target:
    """One machine that packages are built for; read from one ``targets/*.toml`` file.

    With ``gpus`` it is a machine with one of those chips; everything else is of its processor then, which
    runs the app and what the GPU has no kernel for.
    """

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
    gpus: tuple[Gpu, ...] = ()
    """The chips that a package has kernels for; empty for a package that runs on the processor alone."""
    precision: Precision = "fp32"

    @property
    def gpu(self) -> Gpu | None:
        """The chip that schedules are chosen for: the only one (``for_gpu``), ``None`` without one."""
        if len(self.gpus) > 1:
            raise ValueError(f"{self.name} is for several chips")
        return self.gpus[0] if self.gpus else None

    def for_gpu(self, gpu: Gpu) -> Target:
        """The same for one chip alone."""
        return replace(self, gpus=(gpu,))

    @property
    def host(self) -> Target:
        """The processor beside the GPU alone."""
        return replace(self, gpus=(), precision="fp32")
