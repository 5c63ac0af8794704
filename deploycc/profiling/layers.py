"""From times of steps and a manifest to layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.profiling.ceilings import least_us
from deploycc.profiling.counting import flops_of, nbytes_of
from deploycc.result_types import Ceilings, Layer


def layers_of(
    calls: Sequence[Mapping[str, Any]], step_ns: npt.NDArray[np.floating[Any]], ceilings: Ceilings | None
) -> tuple[Layer, ...]:
    """A layer for each of the manifest's ``calls``.

    ``step_ns`` has a row for each run and a column for each step, in nanoseconds.
    """
    low, median, high = np.percentile(step_ns, (25, 50, 75), axis=0) / 1e3
    whole = float(median.sum())
    layers = []
    for step, call in enumerate(calls):
        flops, nbytes, time_us = flops_of(call), nbytes_of(call), float(median[step])
        known = ceilings is not None and time_us > 0 and (flops > 0 or nbytes > 0)
        layers.append(
            Layer(
                step=step,
                symbol=call["symbol"],
                nodes=tuple(call["nodes"]),
                operators=tuple(call["operators"]),
                schedule=call["schedule"],
                knobs=dict(call["knobs"]),
                layout=">".join(dict.fromkeys(call.get("layouts", ()))),
                flops=flops,
                nbytes=nbytes,
                time_us=time_us,
                low_us=float(low[step]),
                high_us=float(high[step]),
                share=time_us / whole if whole > 0 else 0.0,
                roofline=least_us(flops, nbytes, ceilings) / time_us if known and ceilings else None,
                operator=call.get("operator", ""),
            )
        )
    return tuple(layers)
