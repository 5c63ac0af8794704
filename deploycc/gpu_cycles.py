"""What a kernel costs a GPU beside its arithmetic: cycles of the chip, from its data sheet.

Nothing here is measured; the figures rank ways to compute one operator, and layouts.
"""

from __future__ import annotations

from deploycc.types import Gpu

LAUNCH_SECONDS = 2.5e-6
"""From the end of a small kernel to the start of the next in a stream, launched one by one."""
START_CYCLES = 1000.0
"""Of a block before its first step and after its last: addresses, first loads, results on their way."""
MEMORY_EFFICIENCY = 0.8
"""Share of the data sheet's bytes a second that a kernel reaches."""


def launch_cycles(gpu: Gpu) -> float:
    """Cycles of one launch."""
    return LAUNCH_SECONDS * gpu.clock_hz


def bytes_cycles(amount: float, gpu: Gpu) -> float:
    """Cycles in which the device's memory moves that many bytes."""
    return amount / (gpu.bytes_per_second * MEMORY_EFFICIENCY) * gpu.clock_hz


def copy_cycles(elements: float, gpu: Gpu, item_bytes: int = 4) -> float:
    """Cycles of a kernel that reads and writes that many elements and does little else."""
    return launch_cycles(gpu) + START_CYCLES + bytes_cycles(2 * item_bytes * elements, gpu)
