"""A profile as a table: a line a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from deploycc.call_types import COPIES
from deploycc.diagnostics import printable
from deploycc.profiling import why
from deploycc.result_types import Ceilings, Layer, Profile

_HEADINGS = (
    "step",
    "us",
    "spread",
    "share",
    "GFLOP/s",
    "roof",
    "KiB",
    "layout",
    "on",
    "launches",
    "schedule",
    "nodes",
    "why",
)
_NUMBERS = frozenset({"step", "us", "spread", "share", "GFLOP/s", "roof", "KiB", "launches"})
_WORDS = ("schedule", "nodes", "why")
"""Columns that give way where the terminal is narrow."""
_NARROWEST = 10
_DISTURBED = 0.05
"""Layers that add up to so much less or more than the whole were not measured on a quiet machine."""
_NODES = 3
"""So many names of nodes are written out; the rest are counted."""


def profile_lines(
    profile: Profile, order: Literal["time", "step"], top: int | None, width: int | None
) -> list[str]:
    """The table, at most ``width`` characters wide where that is given, and what was measured how."""
    layers = list(profile.layers)
    if order == "time":
        layers.sort(key=lambda layer: -layer.time_us)
    rows = [_row(layer, profile.ceilings) for layer in layers[:top]]
    shown = [name for name in _HEADINGS if not rows or any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows), 0) for name in shown}
    if width is not None:
        _narrow(widths, width)
    left = len(layers) - len(rows)
    rest = [f"and {left} more, {sum(layer.share for layer in layers[len(rows) :]):.1%}"] * (left > 0)
    heading = _line({name: name for name in shown}, widths)
    return [heading, *(_line(row, widths) for row in rows), *rest, *_summary(profile)]


def _row(layer: Layer, ceilings: Ceilings | None) -> dict[str, str]:
    knobs = [f"{name}={value}" for name, value in layer.knobs.items()]
    spread = (layer.high_us - layer.low_us) / layer.time_us if layer.time_us > 0 else 0.0
    return {
        "step": str(layer.step),
        "us": "" if layer.estimated and not layer.time_us else _figure(layer.time_us),
        "spread": "" if layer.estimated else f"{spread:.0%}",
        "share": f"{layer.share:.1%}",
        "GFLOP/s": _figure(layer.flops / layer.time_us / 1e3)
        if layer.flops and layer.time_us > 0 and not layer.estimated
        else "",
        "roof": "" if layer.roofline is None else f"{layer.roofline:.0%}",
        "KiB": _figure(layer.nbytes / 1024),
        "layout": layer.layout,
        "on": layer.runs_on,
        "launches": str(layer.launches or ""),
        "schedule": " ".join([layer.schedule or ("copy" if layer.symbol in COPIES else "none"), *knobs]),
        "nodes": _nodes(layer),
        "why": why(layer, ceilings),
    }


def _nodes(layer: Layer) -> str:
    """The first few names; exporters make paths of them, whose ends tell them apart."""
    shown = [_tail(name) for name in layer.nodes[:_NODES]]
    return " ".join([*shown, *[f"+{len(layer.nodes) - _NODES}"] * (len(layer.nodes) > _NODES)])


def _tail(name: str) -> str:
    return printable("/".join(name.split("/")[-2:]))


def _summary(profile: Profile) -> list[str]:
    total = sum(layer.time_us for layer in profile.layers)
    if profile.method == "estimates":
        return _estimates(profile, total)
    covered = f" ({total / profile.whole_us:.1%})" if profile.whole_us > 0 else ""
    steps, runs = _count(len(profile.layers), "step"), _count(profile.runs, "run")
    threads = _count(profile.threads, "thread")
    how = {
        "observer": f"an observer, with which a run takes {_figure(profile.timed_us)} us",
        "timers": "events of the GPU's driver" if profile.chip else "the package's own timers",
    }
    lines = [
        f"{steps}: {_figure(total)} us of {_figure(profile.whole_us)} us{covered}",
        f"medians of {runs} on {profile.place}, {threads}; spread: between the quartiles",
        f"timed by {how[profile.method]}",
    ]
    if profile.whole_us > 0 and abs(total / profile.whole_us - 1) > _DISTURBED:
        lines.append(
            "other work disturbed the runs: medians of layers leave out what hits each run elsewhere"
        )
    if profile.ceilings is None:
        return [*lines, "no ceilings: they could not be measured there"]
    ceilings = profile.ceilings
    at_most = f"{_figure(ceilings.gflops)} GFLOP/s, {_figure(ceilings.gbs)} GB/s"
    return [*lines, f"at most {at_most}: {ceilings.source}"]


def _estimates(profile: Profile, total: float) -> list[str]:
    """What is said of a package for GPUs that nothing was timed of."""
    on = Counter(layer.runs_on for layer in profile.layers)
    launches = sum(layer.launches for layer in profile.layers)
    beside = f", {on['processor']} on the processor" if on["processor"] else ""
    beside += f", {on['copy']} to or from it" if on["copy"] else ""
    assert profile.ceilings is not None
    at_most = f"{_figure(profile.ceilings.gflops)} GFLOP/s, {_figure(profile.ceilings.gbs)} GB/s"
    return [
        f"{_count(on['gpu'], 'step')} on the GPU ({_count(launches, 'kernel')} launched){beside}",
        f"{profile.place}: nothing was timed",
        f"{_figure(total)} us is the least that the GPU's steps can take, by what they compute and move",
        f"at most {at_most}: {profile.ceilings.source}",
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _narrow(widths: dict[str, int], width: int) -> None:
    """Give the columns of words what the others leave, the wider one giving way first."""
    words = [name for name in _WORDS if name in widths]
    room = width - sum(size + 2 for name, size in widths.items() if name not in words) - 2 * (len(words) - 1)
    while words and sum(widths[name] for name in words) > max(room, len(words) * _NARROWEST):
        widths[max(words, key=lambda name: widths[name])] -= 1


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = []
    for name, size in widths.items():
        text = row[name] if len(row[name]) <= size else row[name][: size - 3] + "..."
        cells.append(text.rjust(size) if name in _NUMBERS else text.ljust(size))
    return "  ".join(cells).rstrip()
