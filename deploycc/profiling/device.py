"""What a GPU can do at most: the bandwidth of its memory as a copy reaches it, and its description's peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deploycc.cuda_driver import DriverError, open_driver
from deploycc.profiling.ceilings import chip_ceilings
from deploycc.result_types import Ceilings
from deploycc.running import Place

BYTES = 256 << 20
"""Of the block that is copied: more than the level-2 cache of any GPU holds (50 MiB on an H100)."""
COPIES = 20


def device_ceilings(manifest: Mapping[str, Any], place: Place) -> Ceilings | None:
    """Those of the GPU at ``place``; the peak is that of the chip whose kernels the package has.

    The bandwidth is measured on this machine's GPU and the description's elsewhere.  ``None`` for a package
    that tells no chip's peak.
    """
    from deploycc.types import DeployccError

    try:
        told = chip_ceilings(manifest)
    except DeployccError:
        return None
    if place.shown != "this machine":
        return told
    try:
        measured = copied_bytes_per_second()
    except (DriverError, OSError):
        return told
    return replace(told, gbs=measured / 1e9, source=f"{told.source}; bandwidth measured by copying")


def copied_bytes_per_second(device: int = 0) -> float:
    """Bytes that a copy within the GPU's memory reads and writes in a second, the best of several.

    Raises ``DriverError``, and ``OSError`` where there is no driver.
    """
    with open_driver(device) as driver:
        source, destination = driver.allocate(BYTES), driver.allocate(BYTES)
        start, end = driver.event(), driver.event()
        best = float("inf")
        for _ in range(COPIES):
            driver.record(start)
            driver.copy_on_device(destination, source, BYTES)
            driver.record(end)
            best = min(best, driver.seconds_between(start, end))
        return 2 * BYTES / best
