"""The call list of a package as a table: what was chosen for every step, and what it should cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploycc.chip_facts import runs_on
from deploycc.device_types import TO_DEVICE, TO_HOST, KernelFacts
from deploycc.packaging.listings import number_of
from deploycc.reporting.names import shortened_list

_HEADINGS = (
    *(
        "step",
        "kernel",
        "layout",
        "MFLOP",
        "kcycles",
        "share",
        "measured",
        "on",
        "launch",
        "registers",
        "shared",
    ),
    *("schedule", "operators", "nodes"),
)
_NUMBERS = frozenset({"step", "kernel", "MFLOP", "kcycles", "share", "measured", "registers", "shared"})
_WORDS = frozenset({"schedule", "operators", "nodes"})
"""Columns at the end that give way where the terminal is narrow."""
_NARROWEST = 16
_NODES_FROM = 24
"""Characters for each column of words from which on there is room for the model's nodes as well."""
_NODES_AT_MOST = 72
"""In a file or a pipe: exporters write whole scopes into names, and a kernel may have many nodes."""
_BETWEEN = " + "


def plan_lines(
    calls: Sequence[Mapping[str, Any]], width: int | None, kernels: Mapping[str, KernelFacts] | None = None
) -> list[str]:
    """One line a step under a headline, at most ``width`` characters long where that is given.

    Cycles are the static estimate for one core and ``share`` is of their sum; ``measured`` is the time that
    the tuning record which decided has (a column only where there is one).  ``kernels`` are what is known of
    a GPU's kernels, by name: the most of those of a step is shown, of one thread and one block.
    """
    total = sum(float(call.get("cycles", 0)) for call in calls)
    rows = [_row(number, call, total) for number, call in enumerate(calls)]
    if kernels is not None:
        rows = [row | _on_gpu(call, kernels) for row, call in zip(rows, calls, strict=True)]
    optional = ("measured", "nodes", *_OF_GPUS)
    shown = [name for name in _HEADINGS if name not in optional or any(row[name] for row in rows)]
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows)) if rows else len(name) for name in shown
    }
    if "nodes" in widths:
        widths["nodes"] = min(widths["nodes"], _NODES_AT_MOST)
    if width is not None:
        _narrow(widths, width)
    heading = _line({name: name for name in widths}, widths)
    return [heading, *(_line(row, widths) for row in rows), *_totals(calls, total)]


def _row(number: int, call: Mapping[str, Any], total: float) -> dict[str, str]:
    kernel = number_of(call["symbol"])
    cycles, measured, flops = call.get("cycles"), call.get("measured_us"), call.get("flops")
    knobs = [f"{name}={value}" for name, value in call["knobs"].items()]
    return {
        "step": str(number),
        "kernel": "copy" if kernel is None else str(kernel),
        "launch": "",
        "layout": ">".join(dict.fromkeys(call.get("layouts", ()))),
        "MFLOP": "" if flops is None else _figure(flops / 1e6),
        "kcycles": "" if cycles is None else _figure(cycles / 1e3),
        "share": "" if cycles is None or not total else f"{100 * cycles / total:.1f}%",
        "measured": "" if measured is None else f"{_figure(measured)} us",
        **dict.fromkeys(_OF_GPUS, ""),
        "schedule": " ".join([call["schedule"], *knobs]),
        "operators": " ".join(call["operators"]),
        "nodes": _BETWEEN.join(call.get("nodes", ())),
    }


_OF_GPUS = ("on", "launch", "registers", "shared")


def _on_gpu(call: Mapping[str, Any], kernels: Mapping[str, KernelFacts]) -> dict[str, str]:
    launches = call.get("launches", ())
    known = [kernels[launch["function"]] for launch in launches if launch["function"] in kernels]
    dynamic = max((launch["shared_bytes"] for launch in launches), default=0)
    shared = max((one.shared_bytes for one in known), default=0) + dynamic
    return {
        "on": runs_on(call),
        "launch": _launch(call),
        "registers": str(max((one.registers for one in known), default="")),
        "shared": f"{shared / 1024:.1f} KiB" if shared else "",
    }


def _launch(call: Mapping[str, Any]) -> str:
    """Blocks and threads of a GPU's step; of another one how it moves bytes, if it does."""
    if call["symbol"] in ("memcpy", TO_DEVICE, TO_HOST):
        return str(call["symbol"]).replace("_", " ").replace("memcpy", "copy")
    launches = [
        "x".join(map(str, one["grid"])) + " of " + "x".join(map(str, one["block"]))
        for one in call.get("launches", ())
    ]
    return "; ".join(launches)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _narrow(widths: dict[str, int], width: int) -> None:
    """Give the columns of words what the others leave, the widest one giving way first.

    Without room for all of them the nodes are left out.
    """
    words = [name for name in widths if name in _WORDS]
    others = sum(size + 2 for name, size in widths.items() if name not in _WORDS)
    if "nodes" in words and (width - others - 2 * (len(words) - 1)) < _NODES_FROM * len(words):
        words.remove("nodes")
        del widths["nodes"]
    room = width - others - 2 * (len(words) - 1)
    while sum(widths[name] for name in words) > max(room, len(words) * _NARROWEST):
        widths[max(words, key=lambda name: widths[name])] -= 1


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = []
    for name, size in widths.items():
        text = row[name]
        if name == "nodes" and len(text) > size:
            text = shortened_list(text.split(_BETWEEN), size, _BETWEEN)
        elif len(text) > size:
            text = text[: size - 3] + "..."
        cells.append(text.rjust(size) if name in _NUMBERS else text.ljust(size))
    return "  ".join(cells).rstrip()


def _totals(calls: Sequence[Mapping[str, Any]], total: float) -> list[str]:
    kernels = {call["symbol"] for call in calls if number_of(call["symbol"]) is not None}
    flops = sum(call.get("flops", 0) for call in calls)
    work = f"{_figure(flops / 1e6)} MFLOP in products"
    of = "the GPU" if any("launches" in call for call in calls) else "one core"
    estimate = f"{_figure(total / 1e6)} Mcycles of {of} by the static estimate"
    return [f"{len(calls)} steps, {len(kernels)} kernels, {work}, {estimate}"]


def kernel_lines(calls: Sequence[Mapping[str, Any]], symbol: str) -> list[str]:
    """What is known of one kernel."""
    steps = [str(number) for number, call in enumerate(calls) if call["symbol"] == symbol]
    used = [calls[int(step)] for step in steps]
    call = used[0]
    known = {
        "symbol": symbol,
        "steps": ", ".join(steps),
        "operators": " ".join(call["operators"]),
        "nodes": " ".join(dict.fromkeys(node for one in used for node in one.get("nodes", ()))),
        "operator": call.get("operator", ""),
        "schedule": call["schedule"],
        "knobs": " ".join(f"{name}={value}" for name, value in call["knobs"].items()),
        "layouts": " to ".join(call.get("layouts", ())),
        "flops": str(call.get("flops", "")),
        "cycles": str(call.get("cycles", "")),
        "measured": f"{call['measured_us']} us" if "measured_us" in call else "",
    }
    return [f"{name}: {value}" for name, value in known.items() if value]
