"""Rows of a contest as text: what the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contest import OURS, Row, Time, mean_speedup
from benchmarks.peers import PEERS

CLOSE = 0.95
"""A share of the best peer's speed from which on we count as not slower."""


def contest_lines(rows: Sequence[Row], peers: Sequence[str], flop: Mapping[str, float]) -> list[str]:
    """A heading and a line for each row; ``flop`` of one run, by name."""
    heading = f"{'':24}{'deploycc':>10}" + "".join(f"{name:>10}" for name in peers)
    heading += f"{'lead':>7}  {'best':8}{'GFLOP/s':>8}{'error':>8}{'spread':>7}"
    lines = [heading]
    for row in rows:
        text = f"{row.name:24}{cell(row, OURS):>10}" + "".join(f"{cell(row, name):>10}" for name in peers)
        rate = flop[row.name] / row.ours.ms / 1e6 if row.counts else 0.0
        lead = f"{row.lead:.2f}" if row.lead == row.lead else "-"
        text += f"{lead:>7}  {row.best_peer:8}{rate:8.1f}{row.ours.error:8.0e}{row.ours.spread:6.0f}%"
        lines.append(f"{text}  {row.schedule or row.failure.split(chr(10))[0]}".rstrip())
    return lines


def cell(row: Row, engine: str) -> str:
    """One time; in brackets where the result is wrong, ``failed`` where there is none."""
    time = row.times.get(engine)
    if time is None:
        return "-"
    if time.failure:
        return "failed"
    text = f"{time.ms:.4f}" if time.ms < 10 else f"{time.ms:.2f}"
    return text if row.right(engine) else f"({text})"


def summary_lines(rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    """For each number of threads the means, how many are not slower than the best peer, and the worst."""
    lines = []
    for threads in sorted({row.threads for row in rows}):
        of_them = [row for row in rows if row.threads == threads]
        right = [row for row in of_them if row.counts]
        leads = sorted((row.lead, row.name) for row in right if row.lead == row.lead)
        text = f"{threads} thread(s): {len(right)} of {len(of_them)} right"
        for name in peers:
            text += f"; {PEERS[name].title}/ours {mean_speedup(right, name):.2f}"
        if leads:
            close = sum(lead >= CLOSE for lead, _ in leads)
            text += (
                f"; best peer/ours {mean_speedup(right):.2f}, {close} of {len(of_them)} at {CLOSE} or more, "
                f"worst {leads[0][0]:.2f} ({leads[0][1]})"
            )
        lines.append(text)
        wrong = [(row, name) for row in of_them for name in row.times if not row.right(name)]
        lines += [f"  {row.name}: {name} {_why(row.times[name])}" for row, name in wrong]
    return lines


def _why(time: Time) -> str:
    return f"failed: {time.failure}" if time.failure else f"is wrong, off by {time.error:.1g}"
