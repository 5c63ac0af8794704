"""Inner loops of the ten dense convolutions, as llvm-mca sees them: share of the peak of multiply-adds.

    python -m benchmarks.arm64_loops [--target arm64] [--convs a,b] [--sweep] [--counted] [--schedule-dir DIR]

Each convolution of the suite with one group, at least 32 channels in and out and the most MFLOP is scheduled
for the target, direct, channels last in and out.  The inner loops that hold its multiply-adds are taken out
of the assembly and simulated on the core that benchmarks/mca.py names for the target; nothing is run.
``--sweep`` does so for many knobs of each and compares the static cost with the simulated cycles, and with
``--counted`` also with the instructions of the whole kernel under the target's emulator.  Prints a table and
writes ``benchmarks/results/loops-TARGET-TIME.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.convs import Conv, convs, dense
from benchmarks.mca import Estimate, McaUnavailable, core_of, estimate
from benchmarks.pinned import ROOT
from deploycc.operators import Conv2d, Knobs, Operator, Skip
from deploycc.planning.assembly import hot_loops
from deploycc.planning.codegen import source_of
from deploycc.resources import data_dir
from deploycc.scheduling import schedule_with
from deploycc.scheduling.library import Schedule, Selection, load_schedules, select
from deploycc.targets import load_target
from deploycc.tuning.emulated import EmulatedRunner
from deploycc.tuning.runner import Effort, Runner
from deploycc.tuning.workload import Workload, flops
from deploycc.types import Target

RESULTS = ROOT / "benchmarks" / "results"
WITHOUT = ("conv_winograd",)
"""Schedules with fewer multiply-adds than the definition: the share of the peak would mean another thing."""


@dataclass(frozen=True)
class Judged:
    """One kernel: what it was made with, its static cost in cycles, and its inner loops."""

    conv: str
    schedule: str
    knobs: dict[str, int]
    static_cycles: float
    loops: Estimate
    ideal_cycles: float
    instructions: float = math.nan

    @property
    def simulated_cycles(self) -> float:
        """Cycles of the whole kernel if all its work were in those inner loops."""
        return self.ideal_cycles / self.loops.strict_share


def operator_of(conv: Conv) -> Conv2d:
    """``conv`` as schedules see it, channels last in and out."""
    batch, channels, height, width = conv.input
    return Conv2d(
        batch, height, width, channels, conv.channels, conv.kernel, conv.strides, conv.pads, conv.dilations,
        conv.group, "float32",
    )  # fmt: skip


def assembly_of(
    operator: Operator, selection: Selection, target: Target, schedules: Sequence[Schedule]
) -> str:
    """Assembly of the kernel of ``operator`` with bias and ReLU.  Raises ValueError if not scheduled so."""
    program = schedule_with(Workload(operator).program, target, schedules, {0: selection})
    made = [choice.task for choice in program.choices if choice.schedule == selection.schedule.name]
    if not made:
        reasons = [choice.skipped.get(selection.schedule.name) for choice in program.choices]
        raise ValueError(f"{selection.schedule.name} schedules no kernel: {reasons}")
    return "\n".join(source_of(program.module[name], target, "asm", f"kernel_{name}") for name in made)


def judge(conv: Conv, selection: Selection, target: Target, schedules: Sequence[Schedule]) -> Judged:
    """Build one kernel and simulate its inner loops.  Raises ValueError and McaUnavailable."""
    operator = operator_of(conv)
    core = core_of(target)
    found = estimate(hot_loops(assembly_of(operator, selection, target, schedules), target), core)
    cost = selection.schedule.cost(selection.match, selection.knobs)
    ideal = flops(operator) / 2 / target.simd.lanes() / core.fmas
    return Judged(conv.name, selection.schedule.name, dict(selection.knobs), float(cost or 0), found, ideal)


def count(
    judged: Judged, operator: Operator, selection: Selection, schedules: Sequence[Schedule], runner: Runner
) -> Judged:
    """``judged`` with the instructions of the whole kernel.  Raises ValueError if it does not run right."""
    workload = Workload(operator)
    job = workload.job(
        selection.schedule, selection.knobs, selection.match.target, schedules, workload.expected()
    )
    (found,) = runner.measure([job], Effort(1, 0.0))
    if found.status != "ok":
        raise ValueError(f"{judged.conv} {judged.knobs}: {found.status}, {found.note}")
    return dataclasses.replace(judged, instructions=found.value)


def chosen(conv: Conv, target: Target, schedules: Sequence[Schedule]) -> Selection:
    """What the static cost chooses among ``schedules``.  Raises ValueError where nothing matches."""
    skipped: dict[str, str] = {}
    found = select(schedules, operator_of(conv), target, computing=True, skipped=skipped)
    if found is None:
        raise ValueError(f"no schedule for {conv.name}: {skipped}")
    return found


def some_knobs(schedule: Schedule, operator: Operator, target: Target, count: int) -> list[Selection]:
    """``count`` feasible combinations of knobs, spread over the static order from best to twice as dear."""
    match = schedule.match(operator, target)
    if isinstance(match, Skip):
        return []
    costs: list[tuple[float, Knobs]] = []
    for knobs in schedule.space():
        cost = schedule.cost(match, knobs)
        if cost is not None:
            costs.append((float(cost), knobs))
    costs.sort(key=lambda item: item[0])
    near = [knobs for cost, knobs in costs if cost < 2 * costs[0][0]]
    places = np.unique(np.linspace(0, len(near) - 1, count).astype(int))
    return [Selection(schedule, match, near[place], {}) for place in places]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing their mean rank."""

    def ranks(values: Sequence[float]) -> np.ndarray[Any, Any]:
        array = np.asarray(values)
        return np.array([np.mean(np.flatnonzero(np.sort(array) == value)) for value in array])

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def loop_table(judged: Sequence[Judged]) -> list[str]:
    """A Markdown table, one kernel a line."""
    titles = ["convolution", "schedule and knobs", "FMAs", "instructions / FMA", "loads / FMA", "stack"]
    titles += ["share of peak", "share, 4 micro-operations", "static", "instructions"]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|" + "---:|" * (len(titles) - 2)]
    for one in judged:
        loops = one.loops
        knobs = " ".join(f"{key}={value}" for key, value in one.knobs.items())
        cells = [one.conv, f"{one.schedule} {knobs}", f"{loops.vector_fmas}"]
        cells += [f"{loops.instructions / loops.vector_fmas:.2f}", f"{loops.loads / loops.vector_fmas:.2f}"]
        cells += [f"{loops.stack}", f"{100 * loops.share:.1f} %", f"{100 * loops.strict_share:.1f} %"]
        cells += [f"{100 * one.ideal_cycles / one.static_cycles:.1f} %"]
        cells += ["" if math.isnan(one.instructions) else f"{one.instructions / 1e6:.2f} M"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def correlations(judged: Sequence[Judged]) -> list[str]:
    """Rank correlations over all kernels, each in units of its convolution's least possible cycles."""
    static = [one.static_cycles / one.ideal_cycles for one in judged]
    simulated = [one.simulated_cycles / one.ideal_cycles for one in judged]
    lines = [f"rank correlation of static and simulated cycles: {rank_correlation(static, simulated):.2f}"]
    if not any(math.isnan(one.instructions) for one in judged):
        counted = [one.instructions / one.ideal_cycles for one in judged]
        lines += [
            f"of static cycles and instructions: {rank_correlation(static, counted):.2f}",
            f"of simulated cycles and instructions: {rank_correlation(simulated, counted):.2f}",
        ]
    return lines


def main() -> int:
    """Command line; 1 where an inner loop has scalar multiply-adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", default="arm64")
    parser.add_argument("--convs", help="names, comma-separated (default: the ten dense ones)")
    parser.add_argument("--sweep", action="store_true", help="many knobs: static cost against the simulation")
    parser.add_argument("--counted", action="store_true", help="count instructions under the emulator, too")
    parser.add_argument("--count", type=int, default=12, help="knobs a convolution in a sweep (default 12)")
    parser.add_argument("--schedule-dir", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    target = load_target(arguments.target)
    found = load_schedules([data_dir("schedules"), *arguments.schedule_dir])
    schedules = [schedule for schedule in found if schedule.name not in WITHOUT]
    shapes = [convs()[name] for name in arguments.convs.split(",")] if arguments.convs else dense()
    runner = EmulatedRunner(target) if arguments.counted else None
    try:
        core = core_of(target)
        judged = []
        for conv in shapes:
            best = chosen(conv, target, schedules)
            wanted = [best]
            if arguments.sweep:
                wanted = some_knobs(best.schedule, operator_of(conv), target, arguments.count)
            for selection in wanted:
                judged.append(judge(conv, selection, target, schedules))
                if runner is not None:
                    judged[-1] = count(judged[-1], operator_of(conv), selection, schedules, runner)
    except McaUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if runner is not None:
            runner.close()
    print(f"{target.name} on llvm-mca's {core.cpu}, {core.fmas} multiply-adds a cycle\n")
    print("\n".join(loop_table(judged)))
    if arguments.sweep:
        print("\n" + "\n".join(correlations(judged)))
    worst = min(judged, key=lambda one: one.loops.share)
    print(f"\nthe least share: {100 * worst.loops.share:.1f} % ({worst.conv})")
    now = datetime.datetime.now(datetime.UTC)
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"loops-{target.name}-{now:%Y%m%dT%H%M%S}.json"
    rows = [{**dataclasses.asdict(one), "share": one.loops.share} for one in judged]
    content = {"time": now.isoformat(timespec="seconds"), "target": target.name, "rows": rows}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(file.relative_to(ROOT))
    return int(any(one.loops.scalar_fmas for one in judged))


if __name__ == "__main__":
    sys.exit(main())
