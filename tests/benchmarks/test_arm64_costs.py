"""The comparison of static costs with counts: which candidates it takes, what it keeps, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.arm64_costs import SPAN, Counts, Ranked, Tried, candidates, pooled_correlation, rank, table
from deploycc.operators import Conv2d, MatMul
from deploycc.records import candidate_key
from deploycc.scheduling.library import load_schedules, select
from deploycc.targets import load_target
from deploycc.tuning.runner import Effort, Job, Measurement
from tests.scheduling.graphs import SCHEDULES

PRODUCT = MatMul((3,), 5, 9, "float32")
CONV = Conv2d(1, 7, 5, 6, 10, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "float32")


class Fake:
    """Counts nothing: every job takes one instruction more than the one before it, the third is wrong."""

    unit = "instructions"

    def __init__(self) -> None:
        self.jobs = 0

    def measure(self, jobs: Sequence[Job], effort: Effort) -> list[Measurement]:
        assert len(jobs) == 1
        assert jobs[0].plan.kernels
        self.jobs += 1
        if self.jobs == 3:
            return [Measurement("wrong", "instructions", error=1.0)]
        return [Measurement("ok", "instructions", 100.0 + self.jobs, 0.0, runs=1)]

    def close(self) -> None:
        """Nothing to give back."""


def test_candidates_begin_with_the_static_choice_and_are_worth_considering() -> None:
    schedules, target = load_schedules([SCHEDULES]), load_target("arm64")
    choice = select(schedules, CONV, target, computing=True)
    assert choice is not None
    found = candidates(CONV, target, schedules, 6)
    first, _, least = found[0]
    assert candidate_key(first.name, found[0][1]) == candidate_key(choice.schedule.name, choice.knobs)
    assert all(least <= cost <= SPAN * least for _, _, cost in found)
    names = [candidate_key(schedule.name, knobs) for schedule, knobs, _ in found]
    assert len(set(names)) == len(names) >= 6
    assert len({schedule.name for schedule, _, _ in found}) > 1


def test_counts_are_kept_and_failures_named(tmp_path: Path) -> None:
    schedules, target = load_schedules([SCHEDULES]), load_target("arm64")
    file = tmp_path / "kept.jsonl"
    first = Fake()
    found = rank(PRODUCT, 1.0, target, schedules, Counts(target, schedules, first, file, anew=False), 3)
    assert found is not None
    assert [one.instructions for one in found.tried][:2] == [101, 102]
    assert list(found.failed.values()) == ["wrong"]
    again = Fake()
    assert (
        rank(PRODUCT, 1.0, target, schedules, Counts(target, schedules, again, file, anew=False), 3) == found
    )
    assert again.jobs == 0
    rank(PRODUCT, 1.0, target, schedules, Counts(target, schedules, again, file, anew=True), 3)
    assert again.jobs == first.jobs


def test_figures() -> None:
    def tried(cycles: float, instructions: float) -> Tried:
        return Tried("gemm", {"tile": int(cycles)}, cycles, instructions)

    right = Ranked(MatMul((1,), 10, 10, "float32"), 1.0, (tried(1, 10), tried(2, 20), tried(3, 30)), {})
    wrong = Ranked(
        MatMul((1,), 5, 10, "float32"), 1.0, (tried(1, 30), tried(2, 20), tried(3, 10)), {"x": "wrong"}
    )
    assert right.correlation == pytest.approx(1)
    assert right.behind == 1
    assert wrong.correlation == pytest.approx(-1)
    assert wrong.behind == 3
    # Costs and counts by multiply-adds, the second operator's twice as dear: ranks 1, 2.5, 4, 2.5, 5, 6
    # and 1, 2.5, 4, 6, 5, 2.5 with the mean 3.5: 78.25 - 6 x 3.5^2 over 90.5 - 6 x 3.5^2.
    assert pooled_correlation([right, wrong]) == pytest.approx(4.75 / 17)
    text = "\n".join(table([right, wrong]))
    assert "| -1.00 | 3.00 | gemm tile=3 |" in text
    assert "median 0.00, mean 0.00, least -1.00 (2 operators)" in text
    assert "1.732 times" in text
    assert "Not counted: {'wrong': 1}" in text
