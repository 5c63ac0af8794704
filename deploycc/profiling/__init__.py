"""What a package's layers take and why: counted, measured, explained (``deploycc.profile`` is the front)."""

from deploycc.profiling.ceilings import bandwidth, chip_ceilings, measured_ceilings, target_ceilings
from deploycc.profiling.device import device_ceilings
from deploycc.profiling.layers import estimated_layers, layers_of
from deploycc.profiling.reasons import why
from deploycc.profiling.timeline import timeline

__all__ = [
    "bandwidth",
    "chip_ceilings",
    "device_ceilings",
    "estimated_layers",
    "layers_of",
    "measured_ceilings",
    "target_ceilings",
    "timeline",
    "why",
]
