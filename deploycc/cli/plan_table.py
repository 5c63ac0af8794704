"""The call list of a package as a table: what was chosen for every step, and what it should cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploycc.packaging.listings import number_of

_HEADINGS = ("step", "kernel", "layout", "MFLOP", "kcycles", "share", "measured", "schedule", "operators")
_NUMBERS = frozenset({"step", "kernel", "MFLOP", "kcycles", "share", "measured"})
_LAST = 2
"""So many columns at the end hold words, and give way where the terminal is narrow."""
_NARROWEST = 16


def plan_lines(calls: Sequence[Mapping[str, Any]], width: int | None) -> list[str]:
    """One line a step under a headline, at most ``width`` characters long where that is given.

    Cycles are the static estimate for one core and ``share`` is of their sum; ``measured`` is the time that
    the tuning record which decided has (a column only where there is one).
    """
    total = sum(float(call.get("cycles", 0)) for call in calls)
    rows = [_row(number, call, total) for number, call in enumerate(calls)]
    shown = [name for name in _HEADINGS if name != "measured" or any(row[name] for row in rows)]
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows)) if rows else len(name) for name in shown
    }
    if width is not None:
        _narrow(widths, width)
    heading = _line({name: name for name in shown}, widths)
    return [heading, *(_line(row, widths) for row in rows), *_totals(calls, total)]


def _row(number: int, call: Mapping[str, Any], total: float) -> dict[str, str]:
    kernel = number_of(call["symbol"])
    cycles, measured, flops = call.get("cycles"), call.get("measured_us"), call.get("flops")
    knobs = [f"{name}={value}" for name, value in call["knobs"].items()]
    return {
        "step": str(number),
        "kernel": "copy" if kernel is None else str(kernel),
        "layout": ">".join(dict.fromkeys(call.get("layouts", ()))),
        "MFLOP": "" if flops is None else _figure(flops / 1e6),
        "kcycles": "" if cycles is None else _figure(cycles / 1e3),
        "share": "" if cycles is None or not total else f"{100 * cycles / total:.1f}%",
        "measured": "" if measured is None else f"{_figure(measured)} us",
        "schedule": " ".join([call["schedule"], *knobs]),
        "operators": " ".join(call["operators"]),
    }


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _narrow(widths: dict[str, int], width: int) -> None:
    """Give the columns of words what the others leave, the wider one giving way first."""
    words = list(widths)[-_LAST:]
    room = width - sum(size + 2 for name, size in widths.items() if name not in words) - 2
    while sum(widths[name] for name in words) > max(room, _LAST * _NARROWEST):
        widths[max(words, key=lambda name: widths[name])] -= 1


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = []
    for name, size in widths.items():
        text = row[name]
        if len(text) > size:
            text = text[: size - 3] + "..."
        cells.append(text.rjust(size) if name in _NUMBERS else text.ljust(size))
    return "  ".join(cells).rstrip()


def _totals(calls: Sequence[Mapping[str, Any]], total: float) -> list[str]:
    kernels = {call["symbol"] for call in calls if number_of(call["symbol"]) is not None}
    flops = sum(call.get("flops", 0) for call in calls)
    work = f"{_figure(flops / 1e6)} MFLOP in products"
    estimate = f"{_figure(total / 1e6)} Mcycles of one core by the static estimate"
    return [f"{len(calls)} steps, {len(kernels)} kernels, {work}, {estimate}"]


def kernel_lines(calls: Sequence[Mapping[str, Any]], symbol: str) -> list[str]:
    """What is known of one kernel."""
    steps = [str(number) for number, call in enumerate(calls) if call["symbol"] == symbol]
    call = calls[int(steps[0])]
    known = {
        "symbol": symbol,
        "steps": ", ".join(steps),
        "operators": " ".join(call["operators"]),
        "operator": call.get("operator", ""),
        "schedule": call["schedule"],
        "knobs": " ".join(f"{name}={value}" for name, value in call["knobs"].items()),
        "layouts": " to ".join(call.get("layouts", ())),
        "flops": str(call.get("flops", "")),
        "cycles": str(call.get("cycles", "")),
        "measured": f"{call['measured_us']} us" if "measured_us" in call else "",
    }
    return [f"{name}: {value}" for name, value in known.items() if value]
