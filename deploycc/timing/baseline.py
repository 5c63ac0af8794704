"""Benchmarks kept in a file, and whether a package has become slower since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploycc.result_types import Benchmark, from_json
from deploycc.text_file import write_text
from deploycc.timing.statistics import LEVEL, Interval, growth
from deploycc.types import DeployccError, Diagnostic

FORMAT = "deploycc benchmark"
SCHEMA_VERSION = 1

RATIO_MARGIN, TIME_MARGIN = 0.05, 0.10
"""By how much a package may be slower than the baseline: by its ratio to a peer that was measured with it
both times, and by its times alone, which clocks, neighbours and kernels of another day change as well."""


@dataclass(frozen=True)
class Change:
    """A package with ``threads`` since the baseline: ``factor`` times its time then, ``low`` at least.

    ``measure`` says what of: ``time``, or the peer whose ratio was compared.  ``slower`` where ``low``
    is above 1 + ``margin``.
    """

    threads: int
    measure: str
    factor: float
    low: float
    margin: float
    slower: bool


def benchmarks_as_json(benchmarks: Sequence[Benchmark]) -> str:
    """The file's text; times in microseconds, memory in KiB."""
    table = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "benchmarks": list(map(asdict, benchmarks))}
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def save_benchmarks(path: Path, benchmarks: Sequence[Benchmark]) -> None:
    """Write the file, complete or not at all.  Raises ``DeployccError`` (DC778)."""
    write_text(path, benchmarks_as_json(benchmarks))


def load_benchmarks(path: Path) -> tuple[Benchmark, ...]:
    """The benchmarks of a file.  Raises ``DeployccError`` (DC836)."""
    try:
        table: Any = json.loads(path.read_bytes())
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            raise ValueError(f'no "format": "{FORMAT}"')
        if table["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {table['schema_version']}, known is {SCHEMA_VERSION}")
        return tuple(from_json(Benchmark, benchmark) for benchmark in table["benchmarks"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise DeployccError(
            Diagnostic(
                "DC836",
                f"{path} is not a saved benchmark",
                got=why[:200],
                need="a file that 'deploycc bench --save' wrote",
            )
        ) from None


def changes(
    now: Sequence[Benchmark], then: Sequence[Benchmark], margin: float | None = None
) -> tuple[Change, ...]:
    """How each benchmark differs from the baseline's of the same package, machine, threads and pinning.

    By the ratio to a peer of the same version that is in both, which a faster or slower clock leaves alone;
    of several the one that is most in favour of the package.  Else by the times.  ``margin`` stands in for
    ``RATIO_MARGIN`` and ``TIME_MARGIN``.  Raises ``DeployccError`` (DC837) for what has no counterpart.
    """
    faults: list[Diagnostic] = []
    found: list[Change] = []
    for benchmark in now:
        old = next((other for other in then if _conditions(other) == _conditions(benchmark)), None)
        if old is None:
            faults.append(_incomparable(benchmark, then))
            continue
        compared = [(peer, growth(before, after)) for peer, before, after in _common_ratios(benchmark, old)]
        measure, interval = min(
            compared,
            key=lambda pair: pair[1].low,
            default=("time", growth(benchmark.ours.launch_us, old.ours.launch_us)),
        )
        if interval.low == 0.0:
            faults.append(_too_few(benchmark, old))
        found.append(_change(benchmark.threads, measure, interval, margin))
    if faults:
        raise DeployccError(*faults)
    return tuple(found)


def slowdowns(package: str, found: Sequence[Change]) -> list[Diagnostic]:
    """DC838 for each change that is slower."""
    return [
        Diagnostic(
            "DC838",
            f"{package} on {threads_text(change.threads)} is slower than the baseline",
            got=f"{change.factor:.3g} times its {measure_text(change.measure)}, "
            f"at least {change.low:.3g} times at the {LEVEL:.0%} level",
            need=f"at most {1 + change.margin:.4g} times",
            help="'deploycc profile' shows which layers it spends its time in; "
            "--save writes a new baseline where that is meant",
        )
        for change in found
        if change.slower
    ]


def threads_text(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread{'s' if threads != 1 else ''}"


def measure_text(measure: str) -> str:
    """What a change's factor is of."""
    return "time" if measure == "time" else f"share of {measure}'s time"


def _change(threads: int, measure: str, interval: Interval, margin: float | None) -> Change:
    allowed = margin if margin is not None else TIME_MARGIN if measure == "time" else RATIO_MARGIN
    slower = interval.low > 1.0 + allowed
    return Change(threads, measure, interval.middle, interval.low, allowed, slower)


def _conditions(benchmark: Benchmark) -> tuple[object, ...]:
    return (
        *(benchmark.package, benchmark.machine, benchmark.place, benchmark.threads),
        *(benchmark.pinned, benchmark.inputs),
    )


def _common_ratios(now: Benchmark, then: Benchmark) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Peers in both, with their launches' ratios then and now."""
    versions = {peer.name: peer.version for peer in then.peers}
    known = {peer.name for peer in now.peers if versions.get(peer.name) == peer.version}
    before = {contest.peer: contest.launch_ratios for contest in then.contests}
    return [
        (contest.peer, before[contest.peer], contest.launch_ratios)
        for contest in now.contests
        if contest.peer in known and contest.peer in before
    ]


def _incomparable(benchmark: Benchmark, then: Sequence[Benchmark]) -> Diagnostic:
    return Diagnostic(
        "DC837",
        f"the baseline has nothing that {benchmark.package} on {threads_text(benchmark.threads)} "
        "can be compared with",
        got="; ".join(_shown(other) for other in then) or "no benchmark at all",
        need=_shown(benchmark),
        help="save a baseline on this kind of machine: --save FILE",
    )


def _too_few(benchmark: Benchmark, then: Benchmark) -> Diagnostic:
    return Diagnostic(
        "DC837",
        f"the baseline and {benchmark.package} have too few launches to be compared",
        got=f"{len(then.ours.launch_us)} and {len(benchmark.ours.launch_us)}",
        need=f"five of each for a verdict at the {LEVEL:.0%} level",
        help="leave --launches out",
    )


def _shown(benchmark: Benchmark) -> str:
    return (
        f"{benchmark.package} on {benchmark.machine}, {benchmark.place}, {threads_text(benchmark.threads)}, "
        f"{'pinned' if benchmark.pinned else 'not pinned'}, {benchmark.inputs} inputs"
    )
