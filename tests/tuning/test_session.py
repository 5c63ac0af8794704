"""Whole sessions: budgets, records, resuming, finals, interrupts, and what a build makes of the records."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploycc.build import build
from deploycc.cli.interrupts import Interrupted
from deploycc.cli.tune_command import tune_command
from deploycc.operators import MatMul, Operator
from deploycc.records import FINAL, SCREEN, Record, append, code_key, read
from deploycc.resources import data_dir
from deploycc.scheduling import estimator
from deploycc.scheduling.library import load_schedules, select
from deploycc.scheduling.recorded import load_records, select_recorded
from deploycc.targets import load_target
from deploycc.tuning import tune
from deploycc.tuning.budget import parse_budget
from deploycc.tuning.pool import Answer, Pool, Request, session_folder
from deploycc.tuning.runner import Measurement
from deploycc.tuning.session import Session
from deploycc.tuning.tuner import runner_for, runs_here
from deploycc.types import DeployccError
from tests.models import write_small_net
from tests.planning.harness import ARM64, ARMV7, X86_64
from tests.tuning.schedules_for_tests import PRODUCT, record, write_schedule

FAKE = "tests.tuning.fake_runner:FakeRunner"
LOCAL = "deploycc.tuning.local:LocalRunner"
ROOT = Path(__file__).resolve().parents[2]
SECOND = MatMul((6,), 8, 16, "float32")


def run(
    folders: tuple[Path, ...],
    database: Path,
    budget: str,
    operators: Mapping[Operator, int] | None = None,
    *,
    runner: str = FAKE,
    workers: int = 1,
    seed: int = 0,
) -> Session:
    session = Session(operators or {PRODUCT: 1}, X86_64, folders, database, seed=seed)
    with session_folder() as folder:
        pool = Pool(X86_64, folders, runner, workers, folder)
        try:
            session.run(pool, parse_budget(budget))
        finally:
            pool.close()
    return session


def screened(database: Path) -> list[str]:
    return [r.operator + r.candidate for r in read(database)[0] if r.level == SCREEN]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return write_schedule(tmp_path / "s", costs={way: 1e-6 * (1 + way / 100) for way in range(30)})


@pytest.mark.parametrize(
    ("text", "amount", "kind"),
    [("60s", 60, "seconds"), ("1.5min", 90, "seconds"), ("2h", 7200, "seconds"), ("500trials", 500, "trials"),
     (" 1 trial ", 1, "trials")],
)  # fmt: skip
def test_budgets(text: str, amount: float, kind: str) -> None:
    assert (parse_budget(text).amount, parse_budget(text).kind) == (amount, kind)


@pytest.mark.parametrize("text", ["", "60", "0s", "-1s", "trials", "1e3s", "5 days", "0trials"])
def test_dc603_a_budget_that_is_none(text: str) -> None:
    with pytest.raises(DeployccError, match=r"DC603: the tuning budget is neither"):
        parse_budget(text)


def test_a_budget_of_trials_is_kept_to_the_candidate(tmp_path: Path, fake: Path) -> None:
    session = run((fake,), tmp_path / "db", "13trials")
    assert session.trials == len(screened(tmp_path / "db")) == 13


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_candidates(tmp_path: Path, fake: Path, workers: int) -> None:
    """Whatever the number of workers and the order of their answers, given the same values."""
    operators = {PRODUCT: 2, SECOND: 1}
    sets = []
    for number, seed in enumerate((5, 5, 6)):
        database = tmp_path / f"db{number}"
        run(
            (fake,),
            database,
            "24trials",
            operators,
            seed=seed,
            workers=3 - workers if number == 1 else workers,
        )
        sets.append(sorted(screened(database)))
    assert sets[0] == sets[1]
    assert sets[0] != sets[2]


class _Hoarding:
    """A pool without processes: ``at_once`` answers at a time, with times that follow from the names."""

    ready, peak, unit, workers, replaced = True, None, "seconds", 1, 0

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._requests: list[Request] = []

    @property
    def busy(self) -> int:
        return len(self._requests)

    def submit(self, request: Request) -> None:
        self._requests.append(request)

    def cancel(self) -> None:
        self._requests.clear()

    def wait(self, seconds: float) -> list[Answer]:
        said, self._requests = self._requests[: self._at_once], self._requests[self._at_once :]
        return [
            Answer(
                request,
                tuple(
                    Measurement("ok", "seconds", 1e-6 * (1 + zlib.crc32(repr(pair).encode()) % 1000), 0.0, 3)
                    for pair in request.candidates
                ),
            )
            for request in said
        ]


def test_rounds_do_not_depend_on_how_many_answers_come_at_once(tmp_path: Path, fake: Path) -> None:
    """Two complete rounds are two, even where the second was complete when the first was looked at."""
    asked = []
    for at_once in (1, 1000):
        session = Session({PRODUCT: 2, SECOND: 1}, X86_64, (fake,), tmp_path / f"db{at_once}", seed=5)
        session.run(_Hoarding(at_once), parse_budget("24trials"))  # type: ignore[arg-type]
        asked.append(sorted(screened(tmp_path / f"db{at_once}")))
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_a_second_session_goes_on_where_the_first_ended(tmp_path: Path, fake: Path) -> None:
    database = tmp_path / "db"
    run((fake,), database, "10trials")
    first = screened(database)
    run((fake,), database, "10trials")
    second = screened(database)[len(first) :]
    static = "fake way=0"
    assert {name for name in second if not name.endswith(static)}.isdisjoint(first)
    assert len(second) == 10
    last = run((fake,), database, "100trials")
    assert last.search.tasks[0].left() == []
    assert len({name for name in screened(database) if "fake" in name}) == 30


def test_a_budget_of_seconds_is_kept(tmp_path: Path) -> None:
    folder = write_schedule(tmp_path / "s", costs={way: 1e-6 * (1 + way / 1000) for way in range(900)})
    session = run((folder,), tmp_path / "db", "4s")
    assert 0 < session.trials < 900
    assert 3 < session.seconds < 15


def test_the_final_has_the_static_choice_in_it(tmp_path: Path, fake: Path) -> None:
    database = tmp_path / "db"
    session = run((data_dir("schedules"), fake), database, "12trials", runner=LOCAL)
    finals = [r for r in read(database)[0] if r.level == FINAL]
    (task,) = session.search.tasks
    assert task.default.key in {r.candidate for r in finals}
    assert 2 <= len(finals) <= 4
    assert task.settled
    # Never slower than the static choice: what the records prefer won against it.
    records = load_records([database], X86_64, load_schedules([data_dir("schedules"), fake]))
    best = records.ranked(PRODUCT)[0]
    (static,) = (r for r in finals if r.candidate == task.default.key)
    assert best.level == FINAL
    assert best.value <= static.value


def test_what_failed_is_recorded_and_not_tried_again(tmp_path: Path) -> None:
    folder = write_schedule(
        tmp_path / "s",
        costs={way: 1e-6 * (1 + way / 100) for way in range(6)},
        fates={0: "crash", 2: "fail"},
        scales={3: 2.0},
    )
    database = tmp_path / "db"
    session = run((folder,), database, "6trials", runner=LOCAL)
    found = {r.knobs["way"]: r.status for r in read(database)[0] if r.level == SCREEN}
    # Ways 1, 4 and 5 are only tried if the first round, whose candidate crashed, does not end the task.
    assert found[0] == "crash"
    assert session.failures >= 1
    again = run((folder,), database, "6trials", runner=LOCAL)
    assert len(screened(database)) == len(set(screened(database)))
    assert again.replaced == 0


def test_records_decide_and_bad_ones_do_not(tmp_path: Path, fake: Path) -> None:
    schedules = load_schedules([fake])
    database = tmp_path / "db"

    def chosen(*records: Record) -> int | None:
        database.unlink(missing_ok=True)
        append(database, records)
        selection = select_recorded(schedules, PRODUCT, X86_64, load_records([database], X86_64, schedules))
        return None if selection is None else selection.knobs["way"]

    assert chosen(record(2e-6, way=3), record(1e-6, way=7)) == 7
    assert chosen(record(2e-6, way=3), record(1e-6, way=99)) == 3  # not in the schedule's space any more
    assert chosen(record(1e-6, way=3, status="wrong")) is None
    assert chosen(record(1e-6, way=3, version=2)) is None
    assert chosen() is None


def test_a_selection_from_records_says_why_and_how_fast(tmp_path: Path, fake: Path) -> None:
    schedules = load_schedules([data_dir("schedules"), fake])
    database = tmp_path / "db"
    append(database, [record(3e-6, way=4)])
    selection = select_recorded(schedules, PRODUCT, X86_64, load_records([database], X86_64, schedules))
    assert selection is not None
    assert selection.measured_seconds == 3e-6
    assert selection.skipped["gemm"] == "a tuning record prefers fake"
    assert "conv_direct" in selection.skipped


def test_measured_times_correct_the_static_costs(tmp_path: Path) -> None:
    folder = write_schedule(tmp_path / "s", costs={0: 100.0, 1: 200.0})
    schedules = load_schedules([folder])
    database = tmp_path / "db"
    third = MatMul((7,), 8, 16, "float32")
    # One cycle takes 1 ns by the median of three; PRODUCT is twice as slow as that.
    append(database, [record(2e-7), record(1e-7, operator=SECOND), record(0.5e-7, operator=third)])
    estimate = estimator(X86_64, [folder], [database])
    assert estimate(PRODUCT) == pytest.approx(200)
    assert estimate(SECOND) == pytest.approx(100)
    assert estimate(MatMul((9,), 8, 16, "float32")) == 100
    assert estimator(X86_64, [folder])(PRODUCT) == 100
    assert select(schedules, PRODUCT, X86_64, computing=True) is not None


def test_a_candidate_on_record_is_taken_by_its_own_static_cost(tmp_path: Path) -> None:
    folder = write_schedule(tmp_path / "s", costs={0: 100.0, 1: 200.0})
    database = tmp_path / "db"
    third = MatMul((7,), 8, 16, "float32")
    # 2, 1 and, because way 1 is estimated twice as slow as the best, 1.5 ns a cycle.
    append(database, [record(2e-7), record(1e-7, operator=SECOND), record(3e-7, way=1, operator=third)])
    assert estimator(X86_64, [folder], [database])(PRODUCT) == pytest.approx(2e-7 / 1.5e-9)


@pytest.mark.slow
def test_a_real_network_is_tuned_and_built(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    database = tmp_path / "db.jsonl"
    events: list[dict[str, Any]] = []
    result = tune(model, budget="8trials", database=database, on_event=events.append)
    assert result.trials == 8
    assert result.database == database
    (task,) = result.tasks
    assert task["value"] <= task["default"]
    assert 0 < task["share_of_peak"] < 10
    assert result.same or (result.untuned and result.tuned)
    assert not [d for d in result.diagnostics if d.severity == "error"]
    assert {event["event"] for event in events} >= {"stage", "tune"}
    package = build(model, output=tmp_path / "out", records=[database])
    best = load_records([database], result.target, load_schedules([data_dir("schedules")]))
    (operator,) = best.operators()
    call = [c for c in package.manifest["calls"] if c["schedule"] == best.ranked(operator)[0].schedule]
    assert call[-1]["knobs"] == best.ranked(operator)[0].knobs


def test_dc601_a_build_names_databases_that_are_missing(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    with pytest.raises(DeployccError, match=r"DC601: the tuning database .*none.jsonl cannot be read"):
        build(model, output=tmp_path / "out", records=[tmp_path / "none.jsonl"])


def test_dc602_a_build_refuses_what_is_no_database(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    with pytest.raises(DeployccError, match=r"DC602: .*small.onnx is no tuning database"):
        build(model, output=tmp_path / "out", records=[model])


def test_dc600_a_target_that_can_neither_run_nor_be_emulated() -> None:
    from dataclasses import replace

    assert runner_for(X86_64) == LOCAL
    assert runner_for(ARM64).endswith("EmulatedRunner")
    with pytest.raises(DeployccError, match=r"DC600: kernels of target armv7 cannot be measured"):
        runner_for(replace(ARMV7, emulator=()))
    assert not runs_here(ARM64)


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    database = tmp_path / "db.jsonl"
    words = [sys.executable, "-m", "deploycc", "tune", str(model), "--budget", "300s"]
    process = subprocess.Popen(
        [*words, "--database", str(database)], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        until = time.monotonic() + 120
        while len(read(database)[0]) < 3 and time.monotonic() < until:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    kept, damaged = read(database)
    assert len(kept) >= 3
    assert damaged == 0
    assert f"candidates are kept in {database}" in said
    assert "Traceback" not in said
    assert _children_of(process.pid) == []


def test_an_interrupt_tells_what_was_written_even_if_no_event_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "db.jsonl"
    lines = (ROOT / "schedules" / "records" / "x86-64.jsonl").read_text().splitlines(keepends=True)
    database.write_text(lines[0])

    def tune(*arguments: object, **options: object) -> None:
        with database.open("a") as file:
            file.writelines(lines[1:3])
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("deploycc.tuning.tune", tune)
    assert tune_command.callback is not None
    with pytest.raises(Interrupted) as stopped:
        tune_command.callback(
            model=tmp_path / "m.onnx", target="x86-64", precision=None, shapes=(), budget="1s",
            database=database, merge=(), seed=0, workers=None, schedule_dirs=(), op_dirs=(),
            max_counts=(), shipped_records=True,
            no_compare=True, stage_seconds=1.0,
            as_json=False, quiet=True, verbose=False,
        )  # fmt: skip
    assert stopped.value.told == f"interrupted; 2 candidates are kept in {database}"


def _children_of(parent: int) -> list[str]:
    """Worker processes that name ``parent`` as theirs (their last argument)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"worker_main" in word for word in words) and str(parent).encode() in words:
            found.append(path.parent.name)
    return found


def deploycc(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycc", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_the_command_tunes_and_tells(tmp_path: Path) -> None:
    model, database = write_small_net(tmp_path / "small.onnx"), tmp_path / "db.jsonl"
    append(database, [record(code=code_key(load_target("host")), tvm="0.1", schedule="gemm")])
    with database.open("a") as file:
        file.write("{torn\n")
    words = ("tune", model, "--budget", "6trials", "--database", database, "--no-compare", "-v", "--json")
    done = deploycc(*words)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert table["trials"] == 6
    assert "info[DC607]: 1 records of" in done.stderr
    assert "info[DC605]: 1 lines of" in done.stderr
    assert re.search(r"^(search|finals): \d+ candidates", done.stderr, re.MULTILINE)


def test_the_command_merges(tmp_path: Path) -> None:
    append(tmp_path / "a", [record(1e-6)])
    append(tmp_path / "b", [record(1e-6), record(2e-6)])
    done = deploycc(
        "tune", "--merge", tmp_path / "a", "--merge", tmp_path / "b", "--database", tmp_path / "c"
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{tmp_path / 'c'}: 2 records came in")
    assert [r.value for r in read(tmp_path / "c")[0]] == [1e-6, 2e-6]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("tune",), 2, "Missing argument 'MODEL'"),
        (("tune", "small.onnx", "--budget", "soon"), 2, "error[DC603]"),
        (("tune", "small.onnx", "--target", "nope"), 2, "error[DC500]"),
        (("tune", "small.onnx", "--workers", "0"), 2, "--workers"),
        (("tune", "--merge", "none.jsonl"), 2, "error[DC601]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_told(words: tuple[str, ...], code: int, said: str) -> None:
    done = deploycc(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_dc604_a_network_without_products(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "relu.onnx")
    result = tune(tmp_path / "relu.onnx", budget="1s", database=tmp_path / "db")
    assert [d.code for d in result.diagnostics] == ["DC604"]
    assert not (tmp_path / "db").exists()


def test_dc606_a_tuned_network_that_is_slower_is_told(tmp_path: Path) -> None:
    from deploycc.tuning.tuner import Tuned, _compared

    result = Tuned(tmp_path / "db", X86_64, (), 1, 0, 0, 1.0, "seconds")
    fine = {"status": "ok", "unit": "seconds", "note": ""}
    slower = _compared(
        result, {"same": False, "untuned": {**fine, "value": 1.0}, "tuned": {**fine, "value": 1.1}}
    )
    assert [d.code for d in slower.diagnostics] == ["DC606"]
    assert slower.diagnostics[0].got == "1.100 of its time"
    faster = _compared(
        result, {"same": False, "untuned": {**fine, "value": 1.0}, "tuned": {**fine, "value": 0.9}}
    )
    assert (faster.diagnostics, faster.untuned, faster.tuned) == ((), 1.0, 0.9)
