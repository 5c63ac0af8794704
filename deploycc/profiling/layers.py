"""From times of steps and a manifest to layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.chip_facts import runs_on
from deploycc.profiling.ceilings import least_us
from deploycc.profiling.counting import flops_of, nbytes_of
from deploycc.result_types import Ceilings, Layer


def layers_of(
    calls: Sequence[Mapping[str, Any]],
    step_ns: npt.NDArray[np.floating[Any]],
    ceilings: Ceilings | None,
    on_gpu: bool = False,
) -> tuple[Layer, ...]:
    """A layer for each of the manifest's ``calls``; ``on_gpu``: those of a package for GPUs.

    ``step_ns`` has a row for each run and a column for each step, in nanoseconds.  ``ceilings`` are the GPU's
    then, and what does not run there has no share of them.
    """
    low, median, high = np.percentile(step_ns, (25, 50, 75), axis=0) / 1e3
    whole = float(median.sum())
    layers = []
    for step, call in enumerate(calls):
        flops, nbytes, time_us = flops_of(call), nbytes_of(call), float(median[step])
        known = ceilings is not None and time_us > 0 and (flops > 0 or nbytes > 0)
        known = known and not (on_gpu and runs_on(call) != "gpu")
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
                runs_on=runs_on(call) if on_gpu else "",
                launches=len(call.get("launches", ())),
            )
        )
    return tuple(layers)


def estimated_layers(calls: Sequence[Mapping[str, Any]], ceilings: Ceilings) -> tuple[Layer, ...]:
    """Layers of a package for a GPU that nobody timed: what its ``ceilings`` allow at best."""
    times = np.array(
        [
            [
                1e3 * least_us(flops_of(call), nbytes_of(call), ceilings) if runs_on(call) == "gpu" else 0.0
                for call in calls
            ]
        ]
    )
    layers = layers_of(calls, times, None, on_gpu=True)
    return tuple(replace(layer, estimated=True) for layer in layers)
