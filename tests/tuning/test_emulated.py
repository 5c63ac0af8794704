"""Candidates under an emulator: counts repeat and grow with the work, and what goes wrong is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.operators import Conv2d, Match, MatMul, Operator
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.targets import load_target
from deploycc.tuning import counting
from deploycc.tuning.counting import CannotCount, build_plugin, check_emulator, count_instructions
from deploycc.tuning.emulated import EmulatedRunner
from deploycc.tuning.runner import Effort, Job
from deploycc.tuning.workload import Workload
from deploycc.types import Buffer, Call, DeployccError
from tests.scheduling.graphs import SCHEDULES

ARM64 = load_target("arm64")
ONCE = Effort(1, 0.0)


def conv(channels: int) -> Conv2d:
    return Conv2d(1, 9, 11, 16, channels, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "float32")


@pytest.fixture(scope="module")
def schedules() -> tuple[Schedule, ...]:
    return load_schedules([SCHEDULES])


@pytest.fixture(scope="module")
def runner() -> Iterator[EmulatedRunner]:
    try:
        check_emulator(ARM64.emulator[0])
    except CannotCount as error:
        pytest.skip(str(error))
    made = EmulatedRunner(ARM64)
    yield made
    made.close()


def job_of(operator: Conv2d, schedules: tuple[Schedule, ...]) -> Job:
    (direct,) = (schedule for schedule in schedules if schedule.name == "conv_direct")
    workload = Workload(operator)
    found = direct.match(operator, ARM64)
    assert isinstance(found, Match)
    best = direct.best(found)
    assert best is not None
    return workload.job(direct, best[1], ARM64, schedules, workload.expected())


def test_counts_repeat_and_grow_with_the_work(
    runner: EmulatedRunner, schedules: tuple[Schedule, ...]
) -> None:
    small, large = conv(16), conv(64)
    first, again, more = runner.measure(
        [job_of(small, schedules), job_of(small, schedules), job_of(large, schedules)], ONCE
    )
    assert (first.status, more.status) == ("ok", "ok")
    assert first.unit == runner.unit == "instructions"
    assert first.value == again.value
    assert 0 < first.error < 1e-5
    # Four multiply-adds an instruction are the least; what is around them at most doubles it here.
    least = Workload(small).flops / 8
    assert least < first.value < 2 * least
    assert 3 < more.value / first.value < 4.2


@pytest.mark.parametrize("tile", [3, 4])
@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("gemm", Conv2d(1, 5, 7, 8, 12, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, "float32")),
        ("gemm", MatMul((17,), 12, 20, "float16")),
        ("conv_direct", Conv2d(1, 6, 9, 16, 24, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 2, "float32")),
        ("conv_direct", Conv2d(2, 13, 2, 4, 7, (3, 1), (2, 1), (1, 0, 0, 0), (1, 1), 1, "float32")),
    ],
)
def test_steps_that_share_a_load_compute_the_same(
    runner: EmulatedRunner, schedules: tuple[Schedule, ...], name: str, operator: Operator, tile: int
) -> None:
    """Tiles that the image does not fill, so that rows are read past the edge, too."""
    (schedule,) = (schedule for schedule in schedules if schedule.name == name)
    workload = Workload(operator)
    knobs = {"tile": tile, "vectors": 1, "lanes": 4}
    jobs = [
        workload.job(schedule, {**knobs, "steps": steps}, ARM64, schedules, workload.expected())
        for steps in (1, 4)
    ]
    plain, shared = runner.measure(jobs, ONCE)
    assert (plain.status, shared.status) == ("ok", "ok"), (plain.note, shared.note)
    assert shared.value < plain.value


def test_a_wrong_result_is_no_measurement(runner: EmulatedRunner, schedules: tuple[Schedule, ...]) -> None:
    job = job_of(conv(16), schedules)
    expected = job.expected[0].copy()
    expected.flat[7] += 0.01 * abs(expected).max()
    (found,) = runner.measure([replace(job, expected=(expected,))], ONCE)
    assert found.status == "wrong"
    assert "is allowed" in found.note
    assert found.value == float("inf")


def test_a_kernel_that_faults_ends_its_program_only(
    runner: EmulatedRunner, schedules: tuple[Schedule, ...]
) -> None:
    job = job_of(conv(16), schedules)
    nowhere = Buffer("arena", 0, 1 << 40, 64)
    bad = replace(job.plan, calls=(Call("memcpy", (nowhere, nowhere)), *job.plan.calls))
    crashed, good = runner.measure([replace(job, plan=bad), job], ONCE)
    assert (crashed.status, good.status) == ("crash", "ok")
    assert crashed.note


def test_writing_behind_a_buffer_is_told(runner: EmulatedRunner, schedules: tuple[Schedule, ...]) -> None:
    job = job_of(conv(16), schedules)
    end = job.expected[0].nbytes
    bad = Call("memcpy", (Buffer("output", 0, end, 8), Buffer("input", 0, 0, 8)))
    (found,) = runner.measure([replace(job, plan=replace(job.plan, calls=(*job.plan.calls, bad)))], ONCE)
    assert (found.status, found.note) == ("wrong", "wrote behind the end of its buffer")


def test_a_kernel_that_hangs_is_ended(
    runner: EmulatedRunner, schedules: tuple[Schedule, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploycc.tuning.emulated.LIMIT_SECONDS", 0.001)
    (found,) = runner.measure([job_of(conv(16), schedules)], ONCE)
    assert found.status == "timeout"


def test_a_target_without_an_emulator_is_refused() -> None:
    with pytest.raises(DeployccError) as raised:
        EmulatedRunner(replace(ARM64, emulator=()))
    assert "names no emulator" in str(raised.value.diagnostics[0].got)
    with pytest.raises(DeployccError) as raised:
        EmulatedRunner(replace(ARM64, emulator=("qemu-no-such-machine",)))
    assert "is not installed" in str(raised.value.diagnostics[0].got)


def test_the_plugin_counts_each_instruction(tmp_path: Path, runner: EmulatedRunner) -> None:
    """A loop of a known number of instructions, between two marks, in assembly of the emulated machine."""
    turns = 1000
    source = tmp_path / "loop.c"
    source.write_text(
        "#include <unistd.h>\n"
        f"int main(void) {{ close({counting.MARK});\n"
        f'  __asm__ volatile("mov x9, #{turns}\\n1: subs x9, x9, #1\\n nop\\n b.ne 1b" : : : "x9", "cc");\n'
        f"  close({counting.MARK}); return 3; }}\n"
    )
    runner_scratch = runner._scratch
    counting.call(
        runner._compiler, ["-static", "-O1", "-o", "loop", str(source)], runner_scratch, "compile a loop"
    )
    plugin = build_plugin(runner_scratch)
    ran = count_instructions(ARM64.emulator, [str(runner_scratch / "loop")], plugin, tmp_path, 60)
    assert ran.status == 3
    before, after = ran.marks
    # The loop, its start, and the few instructions of the two calls of close().
    assert 3 * turns < after - before < 3 * turns + 100
    assert ran.total >= after
