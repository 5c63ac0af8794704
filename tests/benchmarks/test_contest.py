"""benchmarks/contest.py and tables.py: who counts, which row of several runs, what is said."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import contest as subject
from benchmarks import measurements
from benchmarks.contest import Entry, Row, Settings, Time, mean_speedup, median_of_runs
from benchmarks.machine import Peak
from benchmarks.measurements import Measurement
from benchmarks.tables import contest_lines, summary_lines

ROW = Row(
    "a",
    1,
    {
        "deploycc": Time(1.0, 2.0, 1e-6),
        "ort": Time(1.5, 3.0, 1e-6),
        "ncnn": Time(1.2, 1.0, 2e-5),
        "mnn": Time(0.5, 1.0, 5e-4),
        "openvino": Time(failure="refused"),
    },
    schedule="gemm tile=4",
)


def _with(row: Row, **times: Time) -> Row:
    return dataclasses.replace(row, times={**row.times, **times})


def test_a_wrong_or_failed_peer_is_no_peer() -> None:
    assert ROW.best_peer == "ncnn"
    assert ROW.lead == pytest.approx(1.2)
    assert ROW.speedup("ort") == pytest.approx(1.5)
    assert math.isnan(ROW.speedup("mnn"))
    assert math.isnan(ROW.speedup("openvino"))
    assert math.isnan(ROW.speedup("unheard"))
    nobody = Row("b", 1, {"deploycc": Time(1.0, 1.0, 1e-6), "mnn": Time(1.0, 1.0, math.nan)})
    assert nobody.best_peer == ""
    assert math.isnan(nobody.lead)


def test_we_do_not_count_when_wrong_or_failed() -> None:
    for broken in (
        _with(ROW, deploycc=Time(0.1, 1.0, 2e-4)),
        _with(ROW, deploycc=Time(0.1, 1.0, math.nan)),
        dataclasses.replace(ROW, failure="DC758: no"),
        dataclasses.replace(ROW, times={}),
    ):
        assert not broken.counts
        assert math.isnan(broken.lead)
    assert dataclasses.replace(_with(ROW, deploycc=Time(0.1, 1.0, 2e-4)), allowed=3e-4).counts


def test_means_leave_out_what_does_not_count() -> None:
    slow = _with(dataclasses.replace(ROW, name="b"), deploycc=Time(4.8, 1.0, 1e-6))
    broken = dataclasses.replace(ROW, name="c", failure="no")
    assert mean_speedup([ROW, slow, broken]) == pytest.approx(math.sqrt(1.2 * 0.25))
    assert mean_speedup([ROW, slow, broken], "ort") == pytest.approx(math.sqrt(1.5 * 1.5 / 4.8))
    assert math.isnan(mean_speedup([broken]))


def test_the_median_run_counts() -> None:
    runs = [
        [_with(ROW, deploycc=Time(ms, 1.0, 1e-6)), dataclasses.replace(ROW, threads=2)]
        for ms in (1.0, 3.0, 2.0)
    ]
    one, two = median_of_runs(runs)
    assert (one.threads, one.ours.ms) == (1, 2.0)
    assert two.threads == 2
    # A run that failed is the slowest of all; of two the slower one counts.
    failed = [dataclasses.replace(ROW, failure="no")]
    assert median_of_runs([[ROW], failed, [ROW]])[0].counts
    assert median_of_runs([failed, [ROW], failed])[0].failure == "no"
    assert median_of_runs([[ROW], failed])[0].failure == "no"


def test_tables() -> None:
    slow = Row("b", 1, {"deploycc": Time(20.0, 1.0, 1e-6), "ort": Time(18.0, 1.0, 1e-6)})
    lines = contest_lines([ROW, slow], ["ort", "openvino", "ncnn", "mnn"], {"a": 1e6, "b": 1e6})
    assert lines[1].split() == (
        "a 1.0000 1.5000 failed 1.2000 (0.5000) 1.20 ncnn 1.0 1e-06 2% gemm tile=4".split()
    )
    assert lines[2].split()[:4] == ["b", "20.00", "18.00", "-"]
    means = "2 of 2 right; ONNX Runtime/ours 1.16; MNN/ours nan; best peer/ours 1.04"
    assert summary_lines([ROW, slow], ["ort", "mnn"]) == [
        f"1 thread(s): {means}, 1 of 2 at 0.95 or more, worst 0.90 (b)",
        "  a: mnn is wrong, off by 0.0005",
        "  a: openvino failed: refused",
    ]


def test_engines_that_fail_are_named_and_axes_of_one_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubling:
        def bind(self, inputs: Sequence[Any]) -> list[Any]:
            return [np.squeeze(inputs[0] * 2)]

        def run(self) -> None:
            pass

    def opened(peer: Any, model: Path, threads: int) -> Doubling:
        if peer.name == "mnn":
            raise subject.EngineFailed("cannot\nat all")
        return Doubling()

    monkeypatch.setattr("benchmarks.peers.Peer.open", opened)
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    settings = Settings(["ort", "mnn"], rounds=2, round_seconds=1e-5)
    row = subject.measure(Entry("twice", tmp_path, None, [x], [x * 2]), settings)
    assert row.times["ort"].error == 0.0
    assert row.times["ort"].ms > 0
    assert row.times["mnn"].failure == "cannot"
    assert not row.counts
    wrong = subject.measure(Entry("twice", tmp_path, None, [x], [x * 2, x]), settings)
    assert wrong.times["ort"].error == math.inf


def _die_when_two_meet(entry: Entry, settings: Settings) -> Row:
    if "mnn" in settings.peers:
        os._exit(3)
    return Row(entry.name, settings.threads, {name: Time(1.0, 0.0, 0.0) for name in settings.peers})


def test_a_crashing_engine_takes_only_itself_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subject, "measure", _die_when_two_meet)
    with subject.Arena(Settings(["ort", "mnn", "ncnn"])) as arena:
        row = arena.row(Entry("net", tmp_path, None, [], []))
    assert {name: time.failure for name, time in row.times.items()} == {
        "ort": "",
        "ncnn": "",
        "mnn": "crashed or hung",
    }


MEASURED = Measurement(
    "convs", "20260101T000000", {"cpu": "some", "cores": 2}, {"ort": "1", "mnn": "2"}, "host",
    Peak({"avx2": 100.0}, {16: 150.0}), [[ROW]],
)  # fmt: skip


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    file = MEASURED.write(tmp_path)
    assert repr(measurements.load(file)) == repr(MEASURED)  # nan is not equal to itself
    assert measurements.newest("convs", tmp_path) == file
    assert measurements.newest("networks", tmp_path) is None
    assert MEASURED.peers == ["ort", "mnn"]
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is no measurement"):
        measurements.load(tmp_path / "other.json")


def test_rows_measured_again_replace_earlier_ones(tmp_path: Path) -> None:
    other = dataclasses.replace(ROW, name="b")
    again = dataclasses.replace(ROW, schedule="better")
    first = dataclasses.replace(MEASURED, runs=[[ROW, other], [ROW, other]]).write(tmp_path)
    later = dataclasses.replace(MEASURED, time="20260102T000000", runs=[[again]]).write(tmp_path)
    rows = measurements.merged([first, later]).runs
    assert [[row.name for row in run] for run in rows] == [["a", "b"], ["b"]]
    assert rows[0][0].schedule == "better"
    elsewhere = dataclasses.replace(MEASURED, machine={"cpu": "other"}, time="20260103T000000")
    with pytest.raises(ValueError, match="differ in machine"):
        measurements.merged([first, elsewhere.write(tmp_path)])
    newer = dataclasses.replace(MEASURED, versions={"ort": "3"}, time="20260104T000000")
    with pytest.raises(ValueError, match="differ in versions"):
        measurements.merged([first, newer.write(tmp_path)])
