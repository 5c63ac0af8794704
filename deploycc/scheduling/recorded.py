"""What tuning records say: the schedule and knobs of an operator, and what it costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploycc.operators import Conv2d, Layout, Match, Operator, Skip
from deploycc.records import Record, Records, read
from deploycc.scheduling.library import Schedule, Selection, select
from deploycc.tvm_api import VERSION
from deploycc.types import Target

_LAYOUTS: tuple[Layout, ...] = ("NHWC", "NCHW")


def load_records(paths: Sequence[Path], target: Target, schedules: Sequence[Schedule]) -> Records:
    """The records in the databases ``paths`` (later ones over earlier) that count for these schedules.

    Raises ``DeployccError`` (DC601, DC602) for a file that cannot be used.
    """
    versions = {schedule.name: schedule.version for schedule in schedules}
    return Records([read(path)[0] for path in paths], target, versions, VERSION)


def select_recorded(
    schedules: Sequence[Schedule], operator: Operator, target: Target, records: Records
) -> Selection | None:
    """The fastest measured candidate for ``operator`` that its schedule still takes, ``None`` without one.

    Raises ``DeployccError`` (DC460) for a schedule that fails instead of answering.
    """
    by_name = {schedule.name: schedule for schedule in schedules}
    for record in records.ranked(operator):
        schedule = by_name[record.schedule]
        match = _taken(schedule, operator, target, record)
        if match is None:
            continue
        skipped = {}
        for other in schedules:
            if other.compute is None or other is schedule:
                continue
            with other.blamed("match"):
                answer = other.answer(operator, target)
            reason = answer.reason if isinstance(answer, Skip) else None
            skipped[other.name] = reason or f"a tuning record prefers {schedule.name}"
        measured = record.value if record.unit == "seconds" else None
        return Selection(schedule, match, dict(record.knobs), skipped, measured)
    return None


def _taken(schedule: Schedule, operator: Operator, target: Target, record: Record) -> Match | None:
    """The match if the schedule, as it is now, takes the operator with the record's knobs."""
    if record.knobs.keys() != schedule.knobs.keys():
        return None
    if any(value not in schedule.knobs[name] for name, value in record.knobs.items()):
        return None
    with schedule.blamed("match"):
        match = schedule.answer(operator, target)
    if isinstance(match, Skip):
        return None
    with schedule.blamed("cost"):
        return match if schedule.cost(match, record.knobs) is not None else None


class MeasuredCycles:
    """Static costs, corrected by what was measured.

    A measured time becomes cycles by the seconds that a cycle of the static cost takes on the machine of the
    records: the median over the fastest candidates of all operators on record, each one's time by its own
    static cost.  So costs of operators with records and of ones without stay comparable.  An operator
    without a record whose twin in another layout has one gets its own static cost, corrected by the factor
    that the twin was off.
    """

    def __init__(self, schedules: Sequence[Schedule], target: Target, records: Records) -> None:
        self._schedules = schedules
        self._target = target
        self._records = records
        self._static: dict[Operator, float | None] = {}
        self._answers: dict[Operator, float | None] = {}
        self._second_per_cycle: float | None = None

    def of(self, operator: Operator) -> float | None:
        """Cycles of one run of ``operator``; ``None`` if no schedule takes it."""
        if operator not in self._answers:
            self._answers[operator] = self._estimate(operator)
        return self._answers[operator]

    def _estimate(self, operator: Operator) -> float | None:
        static = self._best(operator)
        if static is None or not len(self._records):
            return static
        measured = self._measured(operator)
        if measured is not None:
            return measured
        for twin in _twins(operator):
            twin_static, twin_measured = self._best(twin), self._measured(twin)
            if twin_static and twin_measured is not None:
                return static * twin_measured / twin_static
        return static

    def _best(self, operator: Operator) -> float | None:
        if operator not in self._static:
            selection = select(self._schedules, operator, self._target, computing=True)
            cost = None
            if selection is not None:
                with selection.schedule.blamed("cost"):
                    cost = selection.schedule.cost(selection.match, selection.knobs)
            self._static[operator] = None if cost is None else float(cost)
        return self._static[operator]

    def _measured(self, operator: Operator) -> float | None:
        selection = select_recorded(self._schedules, operator, self._target, self._records)
        if selection is None or selection.measured_seconds is None:
            return None
        return selection.measured_seconds / self._seconds_per_cycle()

    def _seconds_per_cycle(self) -> float:
        if self._second_per_cycle is None:
            ratios = []
            for operator in self._records.measured():
                # The best static cost of each would be as good, but takes seconds to find for hundreds.
                selection = select_recorded(self._schedules, operator, self._target, self._records)
                if selection is not None and selection.measured_seconds is not None:
                    with selection.schedule.blamed("cost"):
                        cost = selection.schedule.cost(selection.match, selection.knobs)
                    if cost:
                        ratios.append(selection.measured_seconds / cost)
            self._second_per_cycle = statistics.median(ratios)
        return self._second_per_cycle


def _twins(operator: Operator) -> list[Operator]:
    """The same convolution in other layouts."""
    if not isinstance(operator, Conv2d):
        return []
    variants = [replace(operator, data_layout=a, out_layout=b) for a in _LAYOUTS for b in _LAYOUTS]
    return [variant for variant in variants if variant != operator]
