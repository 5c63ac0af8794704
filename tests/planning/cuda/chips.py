"""Chips for tests, and a target with them."""

from __future__ import annotations

from dataclasses import replace

from deploycc.types import Gpu, Target
from tests.planning.harness import X86_64


def chip(arch: str, processors: int, shared_kib: int) -> Gpu:
    """A chip with round figures."""
    return Gpu(
        name=arch,
        description="for tests",
        arch=arch,
        processors=processors,
        clock_hz=1.5e9,
        threads_per_processor=1024 if arch == "sm_75" else 1536 if arch in ("sm_86", "sm_87") else 2048,
        registers_per_processor=65536,
        shared_bytes_per_processor=shared_kib << 10,
        shared_bytes_per_block=(shared_kib - (0 if arch == "sm_75" else 1)) << 10,
        l2_bytes=4 << 20,
        memory_bytes=16 << 30,
        bytes_per_second=3e11,
        flops={"fp32": 8e12, "tf32": 3e13, "fp16": 6e13, "bf16": 6e13},
    )


SM_75, SM_87, SM_90 = chip("sm_75", 40, 64), chip("sm_87", 16, 164), chip("sm_90", 132, 228)


def target_of(*gpus: Gpu, host: Target = X86_64) -> Target:
    """A machine with these chips."""
    return replace(host, name="cuda-" + "-".join(gpu.name for gpu in gpus), gpus=gpus)
