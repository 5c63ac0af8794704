"""The profile as ``deploycc profile`` prints it, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploycc.cli.profile_table import profile_lines
from deploycc.cli.program import program
from tests.profiling.profiles import CEILINGS, CONV, layer, make_package, profile_of

LAYERS = (
    layer(share=0.5, time_us=100.0),
    layer(
        step=1,
        time_us=80.0,
        share=0.4,
        roofline=0.2,
        operator=CONV.format(32, 16, 2, 1),
        nodes=("/model/block/Conv", "/model/block/Relu", "/model/block/Add", "/model/block/Mul", "last"),
    ),
    layer(
        step=2,
        symbol="memcpy",
        nodes=(),
        operators=(),
        schedule="",
        knobs={},
        flops=0,
        share=0.05,
        time_us=10.0,
    ),
    layer(
        step=3,
        operators=("softmax",),
        schedule="none",
        knobs={},
        flops=0,
        share=0.05,
        time_us=10.0,
        layout="",
    ),
)


def test_the_table(golden: Callable[[str, str], None]) -> None:
    found = profile_of(*LAYERS)
    texts = [
        *profile_lines(found, "time", None, None),
        *["", *profile_lines(found, "step", 2, 100)],
        *[
            "",
            *profile_lines(
                profile_of(*LAYERS[:1], method="timers", ceilings=None, threads=4), "time", None, 80
            ),
        ],
    ]
    assert all(len(line) <= 100 for line in profile_lines(found, "step", 2, 100)[:3])
    golden("table.txt", "\n".join(texts) + "\n")


def test_layers_are_sorted_by_time_or_step() -> None:
    found = profile_of(*LAYERS[::-1])
    steps = {
        order: [line.split()[0] for line in profile_lines(found, order, None, None)[1:5]]
        for order in ("time", "step")
    }
    assert steps == {"time": ["0", "1", "3", "2"], "step": ["3", "2", "1", "0"]}


def test_layers_that_do_not_add_up_are_told() -> None:
    told = "other work disturbed the runs"
    quiet, busy = (
        profile_lines(profile_of(*LAYERS, whole_us=us), "time", None, None) for us in (208.0, 215.0)
    )
    assert not any(told in line for line in quiet)
    assert any(told in line for line in busy)


def test_a_package_without_steps_has_a_table() -> None:
    assert profile_lines(profile_of(whole_us=0.0), "time", None, None)[1].startswith(
        "0 steps: 0.00 us of 0.00"
    )


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploycc.profile.measured_ceilings", lambda *_: CEILINGS)
    package = make_package(tmp_path / "tiny")
    files = ["--trace", str(tmp_path / "t.json"), "--json", str(tmp_path / "p.json")]
    done = CliRunner().invoke(program, ["profile", str(package), "--runs", "3", "--top", "2", *files])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split()[:4] == ["step", "us", "spread", "share"]
    assert lines[3].startswith("and 2 more, ")
    assert lines[-1] == "at most 100.0 GFLOP/s, 20.0 GB/s: a test"
    assert json.loads((tmp_path / "p.json").read_text())["format"] == "deploycc profile"
    assert "traceEvents" in json.loads((tmp_path / "t.json").read_text())
    printed = CliRunner().invoke(program, ["profile", str(package), "--runs", "3", "--json", "-"])
    assert len(json.loads(printed.output)["layers"]) == 4
