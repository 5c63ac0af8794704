"""Runs as a timeline, in the JSON form of Chrome's tracing, which Perfetto and chrome://tracing open.

The form ("Trace Event Format"):
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
Times are in microseconds; complete events (``ph`` is ``X``) nest by time on one track.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.profiling.reasons import why
from deploycc.result_types import Layer, Profile

RUNS = 5
"""So many runs are shown: the fastest, the slowest, and those in between at even distances."""
_PROCESS = 1


def timeline(profile: Profile, step_ns: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """The trace of a few of the runs whose steps' times (nanoseconds, a row a run) are given.

    A track a run, all beginning at 0 so that they can be compared; a run has its steps within it.
    """
    step_ns = np.rint(step_ns)  # whole nanoseconds: what is rounded later may overlap
    wholes = step_ns.sum(axis=1)
    order = np.argsort(wholes, kind="stable")
    chosen = dict.fromkeys(int(order[round(at)]) for at in np.linspace(0, len(order) - 1, RUNS))
    events: list[dict[str, Any]] = [
        _named("process_name", 0, f"{profile.package} on {profile.place}"),
    ]
    for track, run in enumerate(chosen, start=1):
        title = f"run {run + 1} of {len(wholes)}"
        events += [_named("thread_name", track, title), _sorted(track)]
        events.append(_complete(title, "run", track, 0.0, float(wholes[run]) / 1e3, {}))
        ends = np.cumsum(step_ns[run])
        events += [
            _complete(
                _title(layer),
                "step",
                track,
                float(end - step_ns[run, layer.step]) / 1e3,
                float(step_ns[run, layer.step]) / 1e3,
                _arguments(layer, why(layer, profile.ceilings)),
            )
            for layer, end in zip(profile.layers, ends, strict=True)
        ]
    return {
        "displayTimeUnit": "ns",
        "otherData": {"package": profile.package, "place": profile.place, "method": profile.method},
        "traceEvents": events,
    }


def _title(layer: Layer) -> str:
    return _joined(layer.nodes) or " ".join(layer.operators) or layer.symbol


def _joined(nodes: Sequence[str]) -> str:
    return nodes[0] + (f" +{len(nodes) - 1}" if len(nodes) > 1 else "") if nodes else ""


def _arguments(layer: Layer, reason: str) -> dict[str, Any]:
    return {
        "step": layer.step,
        "nodes": list(layer.nodes),
        "operators": list(layer.operators),
        "schedule": layer.schedule,
        "knobs": dict(layer.knobs),
        "layout": layer.layout,
        "flops": layer.flops,
        "bytes": layer.nbytes,
        "median_us": round(layer.time_us, 3),
        "why": reason,
    }


def _complete(
    name: str, category: str, track: int, start: float, duration: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    place = {"ph": "X", "pid": _PROCESS, "tid": track, "ts": round(start, 3), "dur": round(duration, 3)}
    return {"name": name, "cat": category, **place, "args": arguments}


def _named(what: str, track: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _sorted(track: int) -> dict[str, Any]:
    return {
        "name": "thread_sort_index",
        "ph": "M",
        "pid": _PROCESS,
        "tid": track,
        "args": {"sort_index": track},
    }
