"""Plots of a contest, where matplotlib is there (extra ``bench``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import OURS, Row
from benchmarks.machine import Peak
from benchmarks.measurements import Measurement
from benchmarks.peers import PEERS

_COLOURS = {OURS: "#c03830", "ort": "#4878a8", "openvino": "#7850a0", "ncnn": "#58a058", "mnn": "#b08020"}


def draw(measured: Measurement, file: Path, work: Mapping[str, tuple[float, float]]) -> list[Path]:
    """Plots beside ``file``, one of each kind and thread count; none without matplotlib.

    ``work`` has the operations and the least bytes moved of one run, by name, where they are known.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return []
    drawn = []
    for threads in sorted({row.threads for row in measured.rows}):
        rows = [row for row in measured.rows if row.threads == threads]
        right = [row for row in rows if row.lead == row.lead]
        if right:
            figure = Figure(figsize=(8, 1.2 + 0.2 * len(right)), layout="constrained")
            _leads(figure.add_subplot(), right, measured.peers, _title(measured, threads))
            drawn.append(file.with_name(f"{file.stem}-lead-{threads}.svg"))
            figure.savefig(drawn[-1])
        known = [row for row in rows if row.name in work]
        if known:
            figure = Figure(figsize=(8, 6), layout="constrained")
            _roofline(figure.add_subplot(), known, work, measured.peak, _title(measured, threads))
            drawn.append(file.with_name(f"{file.stem}-roofline-{threads}.svg"))
            figure.savefig(drawn[-1])
    return drawn


def _title(measured: Measurement, threads: int) -> str:
    names = ", ".join(f"{PEERS[name].title} {measured.versions[name]}" for name in measured.peers)
    where = f"{measured.machine['cpu']}, target {measured.target}, {threads} thread(s)"
    return f"{where}\n{names}"


def _leads(axes: Any, rows: Sequence[Row], peers: Sequence[str], title: str) -> None:
    ordered = sorted(rows, key=lambda row: row.lead)
    axes.barh([row.name for row in ordered], [row.lead for row in ordered], color=_COLOURS[OURS], alpha=0.35)
    for name in peers:
        places = [(row.speedup(name), row.name) for row in ordered if row.right(name)]
        axes.plot(
            [x for x, _ in places], [y for _, y in places], "o", color=_COLOURS[name], markersize=3.5,
            label=PEERS[name].title,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("a peer's time over ours (right of 1 we are faster); bars: the best peer")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title(title, fontsize=8)


def _roofline(
    axes: Any, rows: Sequence[Row], work: Mapping[str, tuple[float, float]], peak: Peak, title: str
) -> None:
    threads = rows[0].threads
    intensities = [flop / moved for flop, moved in (work[row.name] for row in rows)]
    low, high = min(intensities) / 1.5, max(intensities) * 1.5
    top = peak.best_gflops * threads
    for kib, rate in peak.read_gbs.items():
        line = [(x, min(top, rate * threads * x)) for x in (low, top / (rate * threads), high) if x >= low]
        size = f"{kib} KiB" if kib < 1024 else f"{kib >> 10} MiB"
        axes.plot(
            [x for x, _ in line], [y for _, y in line], color="grey", linewidth=0.8,
            label=f"{top:.0f} GFLOP/s; {rate * threads:.0f} GB/s read from {size}",
        )  # fmt: skip
    engines = [OURS, *(name for name in PEERS if any(name in row.times for row in rows))]
    for name in engines:
        places = [
            (work[row.name][0] / work[row.name][1], work[row.name][0] / row.times[name].ms / 1e6)
            for row in rows
            if name in row.times and row.right(name)
        ]
        axes.plot(
            [x for x, _ in places], [y for _, y in places], "o", color=_COLOURS[name],
            markersize=5 if name == OURS else 3, label=PEERS[name].title if name in PEERS else name,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("operations for a byte (input, weights and output moved once)")
    axes.set_ylabel("GFLOP/s of the plain algorithm (Winograd can pass the roof)")
    axes.legend(fontsize=7)
    axes.set_title(title, fontsize=8)
