"""The static cost against instructions: how well what is chosen without a board ranks its candidates.

    python -m benchmarks.arm64_costs [--target arm64] [--networks a,b] [--operators 40] [--count 8] [--anew]

The heaviest operators of the networks without recurrent layers (each weighs its share of its network's static
cost) are taken as a build has them, layouts included.  Of each the static choice, the cheapest of every other
schedule and some more, spread over the static order up to SPAN times the cheapest, are compiled with bias and
ReLU, run under the target's emulator with results checked, and their instructions counted.  Prints, by
operator, Spearman's correlation of the static cost and the counts, and what the static choice counts as a
multiple of the least; writes ``benchmarks/results/costs-TARGET-TIME.json``.

Counts are kept in ``.cache/arm64`` by operator, schedule, its version and knobs; ``--anew`` counts again what
a changed kernel made stale.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arm64_counts import convolutional
from benchmarks.arm64_loops import rank_correlation
from benchmarks.measuring import geometric_mean
from benchmarks.pinned import ROOT
from benchmarks.records import gather, models
from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.records import Record, append, cache_key, candidate_key, code_key, read
from deploycc.resources import data_dir
from deploycc.scheduling.library import Schedule, load_schedules, select
from deploycc.targets import load_target
from deploycc.tuning.emulated import EmulatedRunner
from deploycc.tuning.runner import Effort, Measurement, Runner
from deploycc.tuning.workload import Workload, space
from deploycc.tvm_api import VERSION
from deploycc.types import Target

RESULTS = ROOT / "benchmarks" / "results"
KEPT = ROOT / ".cache" / "arm64"
SPAN = 2.5
"""Candidates estimated slower than the cheapest by more than this are not counted: nobody would take them."""


@dataclass(frozen=True)
class Tried:
    """A candidate of one operator: its static cost in cycles and the instructions of one run."""

    schedule: str
    knobs: dict[str, int]
    cycles: float
    instructions: float

    @property
    def name(self) -> str:
        """Schedule and knobs as one text."""
        return candidate_key(self.schedule, self.knobs)


@dataclass(frozen=True)
class Ranked:
    """One operator with its candidates, the static choice first; ``failed`` is why others are missing."""

    operator: Operator
    weight: float
    tried: tuple[Tried, ...]
    failed: dict[str, str]

    @property
    def correlation(self) -> float:
        """Spearman's of static cost and instructions; NaN with fewer than three candidates."""
        if len(self.tried) < 3:
            return math.nan
        return rank_correlation([one.cycles for one in self.tried], [one.instructions for one in self.tried])

    @property
    def best(self) -> Tried:
        """The candidate with the fewest instructions."""
        return min(self.tried, key=lambda one: one.instructions)

    @property
    def behind(self) -> float:
        """Instructions of the static choice over the least."""
        return self.tried[0].instructions / self.best.instructions


def candidates(
    operator: Operator, target: Target, schedules: Sequence[Schedule], count: int
) -> list[tuple[Schedule, dict[str, int], float]]:
    """About ``count`` candidates with their cost, the static choice first; empty where nothing matches."""
    choice = select(schedules, operator, target, computing=True)
    options = space(schedules, operator, target)
    if choice is None or not options:
        return []
    by_name = {schedule.name: schedule for schedule in schedules}
    costs = {
        candidate_key(name, knobs): (by_name[name], knobs, cost)
        for name, found in options.items()
        for cost, knobs in found
    }
    first = costs[candidate_key(choice.schedule.name, choice.knobs)]
    near = sorted(
        (item for item in costs.values() if item[2] <= SPAN * first[2]),
        key=lambda item: (item[2], candidate_key(item[0].name, item[1])),
    )
    places = np.unique(np.linspace(0, len(near) - 1, count).astype(int))
    cheapest = [costs[candidate_key(name, found[0][1])] for name, found in options.items()]
    wanted = [first, *(item for item in cheapest if item[2] <= SPAN * first[2])]
    wanted += [near[place] for place in places]
    return list({candidate_key(item[0].name, item[1]): item for item in wanted}.values())


class Counts:
    """Instructions of candidates, from the file of earlier ones or counted."""

    def __init__(
        self, target: Target, schedules: Sequence[Schedule], runner: Runner, path: Path, anew: bool
    ) -> None:
        self._target, self._schedules, self._runner, self._path = target, schedules, runner, path
        self._known = {} if anew else {self._key(record): record for record in read(path)[0]}

    def of(self, operator: Operator, schedule: Schedule, knobs: Mapping[str, int]) -> Record:
        """The record of one candidate, whatever became of it."""
        wanted = self._record(operator, schedule, knobs, Measurement("failed", self._runner.unit))
        found = self._known.get(self._key(wanted))
        if found is None:
            found = self._record(operator, schedule, knobs, self._measure(operator, schedule, knobs))
            append(self._path, [found])
            self._known[self._key(found)] = found
        return found

    def _measure(self, operator: Operator, schedule: Schedule, knobs: Mapping[str, int]) -> Measurement:
        workload = Workload(operator)
        try:
            job = workload.job(schedule, knobs, self._target, self._schedules, workload.expected())
        except Exception as error:  # as the tuner's workers have it: TVM and schedules may raise anything
            return Measurement("failed", self._runner.unit, note=str(error))
        (measured,) = self._runner.measure([job], Effort(1, 0.0))
        return measured

    def _record(
        self, operator: Operator, schedule: Schedule, knobs: Mapping[str, int], measured: Measurement
    ) -> Record:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return Record(
            repr(operator), code_key(self._target), cache_key(self._target), schedule.name, schedule.version,
            dict(knobs), VERSION, measured.status, measured.unit, measured.value, measured.error,
            measured.runs, 0, now,
        )  # fmt: skip

    @staticmethod
    def _key(record: Record) -> tuple[object, ...]:
        place = (record.operator, record.code, record.cache, record.tvm)
        return (*place, record.candidate, record.version, record.unit)


def rank(
    operator: Operator,
    weight: float,
    target: Target,
    schedules: Sequence[Schedule],
    counts: Counts,
    count: int,
) -> Ranked | None:
    """Count the candidates of one operator; ``None`` where the static choice has no count."""
    tried, failed = [], {}
    for number, (schedule, knobs, cost) in enumerate(candidates(operator, target, schedules, count)):
        record = counts.of(operator, schedule, knobs)
        if record.status == "ok":
            tried.append(Tried(schedule.name, knobs, cost, record.value))
        else:
            failed[record.candidate] = record.status
            if number == 0:
                return None
    return Ranked(operator, weight, tuple(tried), failed) if tried else None


def short(operator: Operator) -> str:
    """An operator in few words: kernel, channels, groups, output extents, strides and layouts."""
    if isinstance(operator, MatMul):
        rows = math.prod(operator.leading)
        return f"product {rows} x {operator.inner} x {operator.columns}"
    assert isinstance(operator, Conv2d)
    words = [
        f"{operator.kernel[0]}x{operator.kernel[1]}",
        f"{operator.in_channels}→{operator.out_channels}",
        f"at {operator.out_height}x{operator.out_width}",
    ]
    words += [f"/{operator.strides[0]}"] if operator.strides == (operator.strides[0],) * 2 != (1, 1) else []
    words += [f"strides {operator.strides}"] if operator.strides[0] != operator.strides[1] else []
    words += [f"{operator.groups} groups"] if operator.groups > 1 else []
    words += [f"dilation {operator.dilation}"] if operator.dilation != (1, 1) else []
    return " ".join([*words, f"{operator.data_layout}→{operator.out_layout}"])


def table(ranked: Sequence[Ranked]) -> list[str]:
    """A Markdown table, one operator a line, and the summary below it."""
    titles = ["operator", "static choice", "candidates", "rank correlation", "instructions / least", "least"]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|---:|---:|---:|---|"]
    for one in ranked:
        correlation = "" if math.isnan(one.correlation) else f"{one.correlation:.2f}"
        least = "" if one.best is one.tried[0] else one.best.name
        cells = [short(one.operator), one.tried[0].name, f"{len(one.tried)}", correlation]
        lines.append("| " + " | ".join([*cells, f"{one.behind:.2f}", least]) + " |")
    found = [one.correlation for one in ranked if not math.isnan(one.correlation)]
    behind = [one.behind for one in ranked]
    lines.append("")
    if found:
        lines.append(
            f"Rank correlation of static cost and instructions within an operator: median "
            f"{statistics.median(found):.2f}, mean {statistics.fmean(found):.2f}, least {min(found):.2f} "
            f"({len(found)} operators)."
        )
    lines.append(
        f"Over all {sum(len(one.tried) for one in ranked)} candidates, cost and count each divided by the "
        f"operator's multiply-adds: {pooled_correlation(ranked):.2f}."
    )
    lines.append(
        f"The static choice has {geometric_mean(behind):.3f} times the instructions of the best candidate "
        f"(geometric mean), at the worst {max(behind):.2f} times."
    )
    failures = Counter(status for one in ranked for status in one.failed.values())
    lines += [f"Not counted: {dict(failures)}."] if failures else []
    return lines


def pooled_correlation(ranked: Sequence[Ranked]) -> float:
    """Spearman's over the candidates of all operators, relative to an operator's multiply-adds."""
    scaled = [
        (one.cycles / ranking.operator.flops, one.instructions / ranking.operator.flops)
        for ranking in ranked
        for one in ranking.tried
    ]
    return rank_correlation([cycles for cycles, _ in scaled], [counted for _, counted in scaled])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="arm64")
    parser.add_argument("--networks", help="names, comma-separated (default: all without recurrent layers)")
    parser.add_argument("--operators", type=int, default=40, help="how many, the heaviest first (default 40)")
    parser.add_argument("--count", type=int, default=8, help="candidates of each, about (default 8)")
    parser.add_argument("--anew", action="store_true", help="count everything again")
    arguments = parser.parse_args()
    target = load_target(arguments.target)
    schedules = load_schedules([data_dir("schedules")])
    names = arguments.networks.split(",") if arguments.networks else convolutional()
    KEPT.mkdir(parents=True, exist_ok=True)
    weights = gather(target, KEPT / "no-records.jsonl", models(names, suite=False))
    heaviest = sorted(weights, key=lambda operator: (-weights[operator], repr(operator)))
    runner = EmulatedRunner(target)
    ranked: list[Ranked] = []
    try:
        counts = Counts(target, schedules, runner, KEPT / f"candidates-{target.name}.jsonl", arguments.anew)
        for operator in heaviest:
            if len(ranked) == arguments.operators:
                break
            found = rank(operator, weights[operator], target, schedules, counts, arguments.count)
            if found is not None:
                ranked.append(found)
                print(f"{len(ranked)}: {short(operator)}", file=sys.stderr, flush=True)
    finally:
        runner.close()
    print("\n".join(table(ranked)))
    now = datetime.datetime.now(datetime.UTC)
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"costs-{target.name}-{now:%Y%m%dT%H%M%S}.json"
    rows: list[dict[str, Any]] = [
        {
            "operator": repr(one.operator),
            "weight": one.weight,
            "correlation": None if math.isnan(one.correlation) else one.correlation,
            "tried": [dataclasses.asdict(tried) for tried in one.tried],
            "failed": one.failed,
        }
        for one in ranked
    ]
    content = {"time": now.isoformat(timespec="seconds"), "target": target.name, "rows": rows}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\n{file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
