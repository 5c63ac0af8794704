"""Why a layer takes the time it takes, in a sentence."""

from __future__ import annotations

from deploycc.reporting.quantities import amount, nbytes
from deploycc.result_types import Ceilings, Layer


def why(layer: Layer, ceilings: Ceilings | None) -> str:
    """What bounds ``layer``: arithmetic, memory, or neither; of what is not known nothing is said."""
    work = f"{amount(layer.flops)}FLOP" if layer.flops else "no counted arithmetic"
    moved = nbytes(layer.nbytes)
    if not layer.time_us:
        return f"{work} and {moved} to read and write, by the static estimate"
    if ceilings is None:
        rate = f", {layer.flops / layer.time_us / 1e3:.1f} GFLOP/s" if layer.flops else ""
        return f"{work} and {moved} to read and write{rate}"
    gflops, gbs = layer.flops / layer.time_us / 1e3, layer.nbytes / layer.time_us / 1e3
    needs_us = (layer.flops / ceilings.gflops / 1e3, layer.nbytes / ceilings.gbs / 1e3)
    if needs_us[1] > needs_us[0]:
        bound, reached = "memory", f"{gbs:.1f} of {ceilings.gbs:.1f} GB/s"
    else:
        bound, reached = "arithmetic", f"{gflops:.1f} of {ceilings.gflops:.1f} GFLOP/s"
    reach = max(needs_us) / layer.time_us
    verdict = f"bound by {bound}" if reach >= 0.5 else f"at {100 * reach:.0f} % of what {bound} allows"
    return f"{verdict}: {work} and {moved} moved, {reached}"
