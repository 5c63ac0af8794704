"""benchmarks/performance.py and plots.py: docs/performance.md from measurements."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from benchmarks import performance as subject
from benchmarks import plots
from benchmarks.contest import Row, Time
from benchmarks.convs import convs
from benchmarks.dense import Share
from benchmarks.machine import Peak
from benchmarks.measurements import Measurement
from benchmarks.networks import networks


def _row(name: str, threads: int, ours: float, ort: float, mnn: float, error: float = 1e-6) -> Row:
    times = {"deploycc": Time(ours, 1.0, error), "ort": Time(ort, 1.0, 0.0), "mnn": Time(mnn, 1.0, 2e-6)}
    return Row(name, threads, times, schedule="gemm")


SUITE = Measurement(
    "convs", "20260101T000000",
    {"cpu": "some processor", "cores": 2, "caches": "48K", "system": "Linux"},
    {"deploycc": "0.1", "python": "3.11", "ort": "1.31", "mnn": "3.6"},
    "host", Peak({"avx512": 180.0, "avx2": 100.0}, {16: 150.0, 262144: 14.0}),
    [[
        _row("head_k1", 1, 1.0, 2.0, 1.5), _row("dw1x9", 1, 1.0, 2.0, 0.9), _row("k11s4", 1, 1.0, 1.0, 0.8),
        _row("head_k1", 2, 1.0, 4.0, 5.0),
    ]],
)  # fmt: skip
DENSE = [
    Share("ocr_rec_s21", "host", 1.25, 1.0, 1e-6, 180.0, 1, "conv_direct"),
    Share("audio1d_k9", "host", 1.1, 1.0, 1e-6, 180.0, 1, "conv_direct"),
]
WHOLE = subject.Measured(SUITE, None, DENSE)


def test_figures() -> None:
    assert subject.figure_values("suite_ort", WHOLE, 1) == "1.59"
    assert subject.figure_values("suite_best", WHOLE, 1) == "1.03"
    assert subject.figure_values("suite_close", WHOLE, 1) == "1 of 3, worst 0.80"
    assert subject.figure_values("suite_best", WHOLE, 2) == "4.00"
    assert subject.figure_values("networks_best", WHOLE, 1) == "-"
    assert subject.figure_values("dense_host", WHOLE, 1) == "93% to 94%, mean 94%"
    assert subject.figure_values("dense_host", WHOLE, 2) == "-"
    assert subject.figure_values("dense_x86-64", WHOLE, 1) == "-"


def test_a_wrong_dense_result_is_no_share() -> None:
    wrong = [dataclasses.replace(DENSE[0], error=1e-3), DENSE[1]]
    assert subject.figure_values("dense_host", dataclasses.replace(WHOLE, dense=wrong), 1) == "-"


def test_every_shape_with_a_peer_ahead_is_named() -> None:
    told = subject.Words([], {"k11s4": "it packs twice"})
    lines = subject.behind_table(told, [SUITE])
    assert lines[2:] == [
        "| k11s4 | 1 | 0.80 | MNN | it packs twice |",
        f"| dw1x9 | 1 | 0.90 | MNN | {subject.MISSING} |",
    ]
    wrong = dataclasses.replace(SUITE, runs=[[_row("head_k1", 1, 1.0, 2.0, 2.0, error=0.1)]])
    assert subject.behind_table(told, [wrong])[2].startswith("| head_k1 | 1 | no result |")
    ahead = dataclasses.replace(SUITE, runs=[[_row("head_k1", 1, 1.0, 2.0, 2.0)]])
    assert subject.behind_table(told, [ahead]) == ["No peer is ahead anywhere."]


def test_page() -> None:
    told = subject.Words(
        [
            {"key": "suite_best", "text": "best", "must": "1.25", "aim": "1.45"},
            {"text": "by hand", "must": "1", "aim": "2", "measured": "1.5", "command": "deploycc tune"},
        ],
        {"k11s4": "it packs twice", "dw1x9": "so"},
    )
    text = subject.page_text(told, WHOLE)
    assert "| best | 1.25 | 1.45 | 1.03 | 4.00 |" in text
    assert "| by hand | 1 | 2 | 1.5 | `deploycc tune` |" in text
    assert "some processor, 2 cores, data caches 48K" in text
    assert "MNN 3.6: session interface" in text
    assert "| head_k1 | 1.6 | 1.0000 | 2.0000 | 1.5000 | 1.50 | MNN |" in text
    assert "## Convolution suite, 2 threads, ms" in text
    assert "| ocr_rec_s21 | host | 1.250 | 170 | 180 | 94% | conv_direct |" in text
    assert subject.MISSING not in text


def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{subject.BEGIN}\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(subject, "PAGE", page)
    monkeypatch.setattr(subject, "ROOT", tmp_path)
    monkeypatch.setattr(subject, "WORDS", tmp_path / "words.toml")
    monkeypatch.setattr(subject, "RESULTS", tmp_path)
    monkeypatch.setattr(subject, "words", lambda: subject.Words([], {"dw1x9": "so"}))
    monkeypatch.setattr(sys, "argv", ["performance"])
    SUITE.write(tmp_path)
    (tmp_path / "dense-1.json").write_text(json.dumps({"rows": [dataclasses.asdict(DENSE[0])]}))
    assert subject.main() == 1
    assert "1 reason(s) missing in words.toml" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "ocr_rec_s21" in text


def test_the_committed_words_are_of_known_shapes_and_figures() -> None:
    told = subject.words()
    assert set(told.reasons) <= {*convs(), *networks()}
    assert len({figure["key"] for figure in told.figures if "key" in figure}) >= 5
    for figure in told.figures:
        assert {"text", "must", "aim"} <= set(figure)
        assert ("measured" in figure) == ("command" in figure)
    page = subject.PAGE.read_text(encoding="utf-8")
    assert page.count(subject.BEGIN) == 1


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib (extra: bench)")
    work = {name: (float(conv.flop), float(conv.bytes)) for name, conv in convs().items()}
    drawn = plots.draw(SUITE, tmp_path / "convs-1.json", work)
    assert [file.name for file in drawn] == [
        "convs-1-lead-1.svg", "convs-1-roofline-1.svg", "convs-1-lead-2.svg", "convs-1-roofline-2.svg",
    ]  # fmt: skip
    assert all("<svg" in file.read_text(encoding="utf-8") for file in drawn)
    assert len(plots.draw(SUITE, tmp_path / "nets-1.json", {})) == 2
