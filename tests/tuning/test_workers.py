"""Workers: what they measure, and what becomes of candidates that crash, hang, fail or are wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.resources import data_dir
from deploycc.scheduling.library import load_schedules
from deploycc.tuning.local import LocalRunner, largest_error
from deploycc.tuning.pool import Answer, Pool, Request, session_folder
from deploycc.tuning.runner import Effort, Job
from deploycc.tuning.workload import TOLERANCE, Workload, flops, space
from deploycc.types import DeployccError, Plan, Target
from tests.planning.harness import ARM64, X86_64
from tests.tuning.schedules_for_tests import PRODUCT, write_schedule

LOCAL = "deploycc.tuning.local:LocalRunner"
QUICK = Effort(2, 0.0005)


def ask(pool: Pool, ways: list[int], *, together: bool = False, seconds: float = 60) -> list[Answer]:
    """Answers for the fake schedule's ``ways``, in their order."""
    pairs = [("fake", {"way": way}) for way in ways]
    groups = [tuple(pairs)] if together else [(pair,) for pair in pairs]
    for number, group in enumerate(groups):
        pool.submit(Request(repr(PRODUCT), group, QUICK, number, seconds))
    answers: list[Answer] = []
    until = time.monotonic() + 240
    while pool.busy and time.monotonic() < until:
        answers += pool.wait(1)
    assert len(answers) == len(groups)
    return sorted(answers, key=lambda answer: answer.request.tag)


@pytest.fixture
def folder() -> Iterator[Path]:
    with session_folder() as path:
        yield path


def pool_of(schedules: Path, folder: Path, workers: int = 1, target: Target = X86_64) -> Pool:
    return Pool(target, (data_dir("schedules"), schedules), LOCAL, workers, folder)


def test_bad_candidates_cost_no_other_anything(tmp_path: Path, folder: Path) -> None:
    schedules = write_schedule(
        tmp_path / "s",
        costs=dict.fromkeys(range(6), 1.0),
        fates={1: "crash", 2: "killed", 3: "fail"},
        scales={4: 1.01},
    )
    pool = pool_of(schedules, folder)
    try:
        answers = ask(pool, [0, 1, 2, 3, 4, 5])
    finally:
        pool.close()
    measurements = [answer.measurements[0] for answer in answers]
    assert [m.status for m in measurements] == ["ok", "crash", "crash", "failed", "wrong", "ok"]
    assert pool.replaced == 2
    assert "signal 11" in measurements[1].note
    assert "signal 9" in measurements[2].note
    assert "it does not fit" in measurements[3].note
    assert 0.009 < measurements[4].error < 0.011
    assert measurements[0].error < 1e-5
    assert 0 < measurements[0].value < 1e-2
    assert all(m.value == float("inf") for m in measurements[1:5])


def test_a_candidate_that_hangs_is_given_up(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploycc.tuning.pool.WAITING", 3)
    schedules = write_schedule(tmp_path / "s", fates={1: "hang"})
    pool = pool_of(schedules, folder)
    try:
        assert ask(pool, [0])[0].measurements[0].status == "ok"
        began = time.monotonic()
        hung = ask(pool, [1], seconds=2)[0].measurements[0]
        assert 2 <= time.monotonic() - began < 60
        assert ask(pool, [2])[0].measurements[0].status == "ok"
    finally:
        pool.close()
    assert (hung.status, pool.replaced) == ("timeout", 1)
    assert "after 2 s" in hung.note


def test_of_a_group_only_the_guilty_one_is_blamed(tmp_path: Path, folder: Path) -> None:
    schedules = write_schedule(tmp_path / "s", fates={1: "crash"})
    pool = pool_of(schedules, folder)
    try:
        (answer,) = ask(pool, [0, 1, 2], together=True)
        (right,) = ask(pool, [0, 2, 3], together=True)
    finally:
        pool.close()
    assert [m.status for m in answer.measurements] == ["failed", "crash", "failed"]
    assert [m.status for m in right.measurements] == ["ok"] * 3


def test_a_worker_killed_from_outside_is_replaced(tmp_path: Path, folder: Path) -> None:
    schedules = write_schedule(tmp_path / "s", fates={1: "hang"})
    pool = pool_of(schedules, folder)
    try:
        ask(pool, [0])
        pool.submit(Request(repr(PRODUCT), (("fake", {"way": 1}),), QUICK, 0, 600))
        (process,) = pool._processes
        os.kill(process.process.pid, signal.SIGKILL)
        answers = []
        while pool.busy:
            answers += pool.wait(1)
        assert [a.measurements[0].status for a in answers] == ["crash"]
        assert ask(pool, [2])[0].measurements[0].status == "ok"
    finally:
        pool.close()


def test_no_worker_outlives_the_pool(tmp_path: Path, folder: Path) -> None:
    pool = pool_of(write_schedule(tmp_path / "s", fates={1: "hang"}), folder, workers=2)
    while not pool.ready:
        pool.wait(0.2)
    pids = [process.process.pid for process in pool._processes]
    pool.submit(Request(repr(PRODUCT), (("fake", {"way": 1}),), QUICK))
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_dc600_code_that_cannot_run_here(tmp_path: Path, folder: Path) -> None:
    pool = pool_of(write_schedule(tmp_path / "s"), folder, target=ARM64)
    try:
        with pytest.raises(DeployccError, match=r"DC600: kernels of target arm64 cannot be measured"):
            ask(pool, [0])
    finally:
        pool.close()


@pytest.mark.parametrize(
    "operator",
    [
        PRODUCT,
        MatMul((2, 3), 5, 7, "float16"),
        Conv2d(1, 9, 11, 6, 8, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2, "float32"),
        Conv2d(1, 9, 11, 6, 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "float32", "NCHW", "NCHW"),
        Conv2d(1, 8, 8, 12, 12, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 12, "float32"),
    ],
    ids=str,
)
def test_every_schedule_computes_the_workload(operator: Operator) -> None:
    """Also a test of the reference: schedule and definition were written by different hands."""
    schedules = load_schedules([data_dir("schedules")])
    workload = Workload(operator)
    expected = workload.expected()
    assert expected.shape == workload.out_shape
    assert (expected == 0).any()  # the ReLU
    assert expected.max() > 0
    runner = LocalRunner(X86_64)
    found = space(schedules, operator, X86_64)
    assert found
    try:
        for schedule in schedules:
            for cost, knobs in found.get(schedule.name, [])[:1]:
                assert cost > 0
                job = workload.job(schedule, knobs, X86_64, schedules, expected)
                (measurement,) = runner.measure([job], QUICK)
                assert measurement.status == "ok", (schedule.name, knobs, measurement.note)
                assert measurement.error < TOLERANCE[operator.dtype]
    finally:
        runner.close()


def test_equal_operators_have_equal_data() -> None:
    one, two = Workload(PRODUCT), Workload(MatMul((4,), 8, 16, "float32"))
    assert all((a == b).all() for a, b in zip(one.arrays, two.arrays, strict=True))
    assert not (Workload(MatMul((4,), 8, 17, "float32")).arrays[0] == one.arrays[0]).all()


def test_flops_are_of_the_definition() -> None:
    assert flops(PRODUCT) == 2 * 4 * 8 * 16
    conv = Conv2d(2, 8, 8, 12, 24, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 12, "float32")
    assert flops(conv) == 2 * (2 * 4 * 4 * 24) * 9


def test_a_kernel_that_writes_too_far_is_wrong() -> None:
    """Guard bytes: the workload's plan claims an output that is one row shorter than the kernel's."""
    schedules = load_schedules([data_dir("schedules")])
    gemm = next(schedule for schedule in schedules if schedule.name == "gemm")
    workload = Workload(PRODUCT)
    knobs = space(schedules, PRODUCT, X86_64)["gemm"][0][1]
    expected = workload.expected()
    job = workload.job(gemm, knobs, X86_64, schedules, expected)
    runner = LocalRunner(X86_64)
    try:
        shorter = Job(job.plan, job.inputs, (np.ascontiguousarray(expected[:-1]),), 1e-4)
        (measurement,) = runner.measure([shorter], QUICK)
    finally:
        runner.close()
    assert (measurement.status, measurement.note) == ("wrong", "wrote behind the end of its buffer")


def test_an_object_that_does_not_link_fails() -> None:
    runner = LocalRunner(X86_64)
    try:
        broken = Job(Plan(b"no object", (), b"", 0, 0, 0, (), ()), (), (), 1e-4)
        (measurement,) = runner.measure([broken], QUICK)
        assert measurement.status == "failed"
        assert "not linked" in measurement.note
        assert 1e9 < runner.peak() < 1e13
    finally:
        runner.close()


def test_errors_are_relative_to_the_largest_value() -> None:
    assert largest_error(np.float32([1, 10]), np.float32([2, 10])) == 0.1
    assert largest_error(np.float32([0, 0]), np.float32([0, 0])) == 0
    assert largest_error(np.float32([0, 1]), np.float32([0, 0])) == float("inf")
    assert np.isnan(largest_error(np.float32([np.nan]), np.float32([1])))
