"""Why a layer takes the time it takes, in a sentence for a page."""

from __future__ import annotations

from deploycc.profiling.reasons import why as why_measured
from deploycc.reporting.quantities import amount, nbytes
from deploycc.result_types import Ceilings, Layer


def why(layer: Layer, ceilings: Ceilings | None) -> str:
    """What bounds a layer that was measured, and in any case what it has to do."""
    work = f"{amount(layer.flops)}FLOP" if layer.flops else "no counted arithmetic"
    moved = nbytes(layer.nbytes)
    if not layer.time_us:
        return f"{work} and {moved} to read and write, by the static estimate"
    reason = why_measured(layer, ceilings)
    return f"{reason} ({work}, {moved} moved)" if reason else f"{work} and {moved} to read and write"
