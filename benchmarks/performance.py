"""Writes docs/performance.md from the newest measurements: ``make performance``.

    python -m benchmarks.performance [--convs FILE,..] [--networks FILE,..] [--dense FILE]

Of several files the later rows replace the earlier ones.  ``performance.toml`` has what nobody can compute:
what each figure should be, and why a peer is ahead where one is.  Exits with 1 while a reason is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import OURS, Row, mean_speedup
from benchmarks.convs import convs
from benchmarks.dense import Share
from benchmarks.machine import RESULTS
from benchmarks.measurements import Measurement, merged, newest
from benchmarks.networks import networks
from benchmarks.peers import PEERS
from benchmarks.pinned import ROOT
from benchmarks.sizes import write_page
from benchmarks.tables import CLOSE, cell

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- begin: written by make performance -->"
WORDS = Path(__file__).parent / "performance.toml"
MISSING = "**no reason given yet**"


@dataclass(frozen=True)
class Words:
    """``performance.toml``: the figures with what they should be, and the reasons by shape or network."""

    figures: Sequence[Mapping[str, Any]]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """All that the page tells of; ``None`` or empty where it was not measured."""

    convs: Measurement | None
    networks: Measurement | None
    dense: Sequence[Share]


def words(file: Path = WORDS) -> Words:
    """The file's content."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return Words(table["figure"], table.get("reasons", {}))


def load_dense(file: Path) -> list[Share]:
    """The rows of a file of ``benchmarks.dense``."""
    return [Share(**row) for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


def figure_values(key: str, measured: Measured, threads: int) -> str:
    """A figure of the first table for so many threads, ``-`` where it was not measured or makes no sense."""
    suite = _rows(measured.convs, threads)
    known = {
        "suite_ort": lambda: _ratio(mean_speedup(suite, "ort")),
        "suite_best": lambda: _ratio(mean_speedup(suite)),
        "suite_close": lambda: _close(suite),
        "networks_best": lambda: _ratio(mean_speedup(_rows(measured.networks, threads))),
    }
    if key.startswith("dense_"):
        return _dense([row for row in measured.dense if row.target == key[6:]]) if threads == 1 else "-"
    return known[key]() if key in known else "-"


def _rows(measurement: Measurement | None, threads: int) -> list[Row]:
    return [row for row in measurement.rows if row.threads == threads] if measurement else []


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"


def _close(rows: Sequence[Row]) -> str:
    leads = [row.lead for row in rows if row.lead == row.lead]
    if not leads:
        return "-"
    return f"{sum(lead >= CLOSE for lead in leads)} of {len(rows)}, worst {min(leads):.2f}"


def _dense(rows: Sequence[Share]) -> str:
    shares = [row.share for row in rows]
    if not shares or any(math.isnan(share) for share in shares):
        return "-"
    return f"{min(shares):.0%} to {max(shares):.0%}, mean {statistics.mean(shares):.0%}"


def figures_table(told: Words, measured: Measured) -> list[str]:
    """What was asked for and what was measured."""
    lines = ["| figure | must | aim | one thread | two threads |", "|---|---:|---:|---:|---:|"]
    for figure in told.figures:
        if "measured" in figure:
            cells = [figure["measured"], f"`{figure['command']}`" if "command" in figure else ""]
        else:
            cells = [figure_values(figure["key"], measured, threads) for threads in (1, 2)]
        lines.append(f"| {figure['text']} | {figure['must']} | {figure['aim']} | {' | '.join(cells)} |")
    return lines


def contest_table(measurement: Measurement, threads: int, work: Mapping[str, float]) -> list[str]:
    """A row for each network of one thread count, in the order of ``work`` (MFLOP by name)."""
    titles = [PEERS[name].title for name in measurement.peers]
    lines = [f"| | MFLOP | deploycc | {' | '.join(titles)} | best peer / ours | |"]
    lines.append("|---|---:|---:|" + "---:|" * (len(titles) + 1) + "---|")
    order = {name: position for position, name in enumerate(work)}
    for row in sorted(_rows(measurement, threads), key=lambda row: order[row.name]):
        times = " | ".join(cell(row, engine) for engine in (OURS, *measurement.peers))
        lead = f"{row.lead:.2f}" if row.lead == row.lead else "-"
        best = PEERS[row.best_peer].title if row.best_peer else "no right result"
        lines.append(f"| {row.name} | {work[row.name]:,.1f} | {times} | {lead} | {best} |")
    return lines


def behind_table(told: Words, measurements: Sequence[Measurement]) -> list[str]:
    """Every row where a peer is ahead, the farthest first, and why."""
    behind = [row for one in measurements for row in one.rows if row.lead < 1 or not row.counts]
    if not behind:
        return ["No peer is ahead anywhere."]
    behind.sort(key=lambda row: row.lead if row.lead == row.lead else -1.0)
    lines = ["| | threads | best peer / ours | | why |", "|---|---:|---:|---|---|"]
    for row in behind:
        lead = f"{row.lead:.2f}" if row.lead == row.lead else "no result"
        best = PEERS[row.best_peer].title if row.best_peer else ""
        lines.append(
            f"| {row.name} | {row.threads} | {lead} | {best} | {told.reasons.get(row.name, MISSING)} |"
        )
    return lines


def dense_table(rows: Sequence[Share]) -> list[str]:
    """The ten dense convolutions, a row for each target."""
    lines = ["| | target | ms | GFLOP/s | peak | share | schedule |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        share = f"{row.share:.0%}" if row.share == row.share else "-"
        lines.append(
            f"| {row.conv} | {row.target} | {row.ms:.3f} | {row.gflops:.0f} | {row.peak:.0f} | {share} "
            f"| {row.schedule} |"
        )
    return lines


def setting_lines(measurement: Measurement) -> list[str]:
    """The machine, its peak and the engines with their versions and settings."""
    known, peak = measurement.machine, measurement.peak
    rates = ", ".join(f"{rate:.0f} GFLOP/s with {name}" for name, rate in peak.gflops.items())
    reads = ", ".join(f"{rate:.0f} GB/s from {kib} KiB" for kib, rate in peak.read_gbs.items())
    where = f"{known['cpu']}, {known['cores']} cores, data caches {known['caches']}, {known['system']}"
    lines = [
        f"- {where}; target `{measurement.target}`; measured {measurement.time}",
        f"- one core at best: {rates}; reads {reads}",
        f"- deploycc {measurement.versions['deploycc']}, Python {measurement.versions['python']}",
    ]
    for name in measurement.peers:
        peer = PEERS[name]
        lines.append(f"- {peer.title} {measurement.versions[name]}: {peer.settings}")
    return lines


def page_text(told: Words, measured: Measured) -> str:
    """What stands between the page's markers."""
    lines: list[str] = [*figures_table(told, measured), ""]
    contests = [one for one in (measured.convs, measured.networks) if one]
    if contests:
        lines += ["## Machine and versions", "", *setting_lines(contests[0]), ""]
        lines += ["## Where a peer is ahead", "", *behind_table(told, contests), ""]
    for title, measurement, work in (
        ("Convolution suite", measured.convs, {name: conv.flop / 1e6 for name, conv in convs().items()}),
        ("Networks", measured.networks, {name: 2 * one.mmacs for name, one in networks().items()}),
    ):
        if measurement is None:
            continue
        for threads in sorted({row.threads for row in measurement.rows}):
            count = "one thread" if threads == 1 else f"{threads} threads"
            lines += [f"## {title}, {count}, ms", "", *contest_table(measurement, threads, work), ""]
    if measured.dense:
        lines += [
            "## Dense convolutions, share of the peak of one core",
            "",
            *dense_table(measured.dense),
            "",
        ]
    return "\n".join(lines).rstrip()


def _files(text: str | None, kind: str) -> list[Path]:
    if text is not None:
        return [Path(word) for word in text.split(",") if word]
    file = newest(kind, RESULTS)
    return [file] if file else []


def main() -> int:
    """Command line; 1 while a reason is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for kind in ("convs", "networks", "dense"):
        parser.add_argument(f"--{kind}", metavar="FILES", help=f"default: the newest {kind}-*.json")
    arguments = parser.parse_args()
    suite = _files(arguments.convs, "convs")
    whole = _files(arguments.networks, "networks")
    dense = _files(arguments.dense, "dense")
    measured = Measured(
        merged(suite) if suite else None,
        merged(whole) if whole else None,
        [row for file in dense for row in load_dense(file)],
    )
    text = page_text(words(), measured)
    write_page(text, PAGE, BEGIN)
    print(f"{PAGE.relative_to(ROOT)} from {', '.join(file.name for file in (*suite, *whole, *dense))}")
    missing = text.count(MISSING)
    if missing:
        print(f"{missing} reason(s) missing in {WORDS.relative_to(ROOT)}")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
