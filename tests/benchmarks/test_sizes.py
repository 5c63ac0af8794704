"""benchmarks/sizes.py: the tables of docs/networks.md."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import sizes as subject
from benchmarks.contest import Row, Time
from benchmarks.pinned import ROOT

ROW = Row("mtcnn_pnet", 1, {"deploycc": Time(1.5, 1.0, 2e-7), "ort": Time(1.0, 1.0, 0.0)}, build_s=3.21)
SIZES = subject.Sizes(
    weight_bytes=28 << 10, code_bytes=50 << 10, arena_bytes=3 << 20, glibc="2.17", load_ms=0.31,
    idle_kib=1024, peak_kib=5 << 10, peer_idle_kib=40 << 10, peer_peak_kib=60 << 10,
)  # fmt: skip


def test_tables() -> None:
    text = subject.page_text([(ROW, SIZES)], [], "host")
    assert "| mtcnn_pnet | 31 | 1.50 | 1.00 | 1.50 | 2.0e-07 | 3.2 |" in text
    assert "| mtcnn_pnet | 0.03 | 50 | 3.00 | 0.31 | 5.0 | 60.0 | 2.17 |" in text
    assert "Geometric mean of the ratios: **1.50**; the worst is 1.50 (mtcnn_pnet)." in text
    assert "1.0 MiB for the C program, 40.0 MiB for Python" in text
    assert "Not in the tables" not in text
    assert ", wall time; ONNX Runtime" in text
    assert ", processor time" in subject.page_text([(ROW, SIZES)], [], "host", cpu_time=True)
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert rows == [8] * 3 + [9] * 3


def test_networks_that_fail_are_named_with_the_reason() -> None:
    refused = Row(
        "silero_vad_openvino_16k", 1, failure="exit status 1\nerror[DC400]: operator LSTM is unknown"
    )
    wrong = Row("u2netp", 1, {"deploycc": Time(1.0, 1.0, 0.25), "ort": Time(1.0, 1.0, 0.0)})
    crashed = Row("magika_v3_3", 1, failure="the measuring process crashed")
    text = subject.page_text([(ROW, SIZES)], [refused, wrong, crashed], "host")
    assert "- `silero_vad_openvino_16k`: operator LSTM is unknown (DC400)" in text
    assert "- `u2netp`: its result is off by 0.25 of the largest output" in text
    assert "- `magika_v3_3`: the measuring process crashed" in text


def test_only_the_part_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{subject.BEGIN}\nold\n{subject.END}\nafter\n", encoding="utf-8")
    subject.write_page("new", page)
    subject.write_page("newer", page)
    want = f"before\n{subject.BEGIN}\n\nnewer\n\n{subject.END}\nafter\n"
    assert page.read_text(encoding="utf-8") == want


@pytest.mark.parametrize("text", ["", subject.BEGIN, subject.END])
def test_a_page_without_markers_is_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the markers"):
        subject.write_page("new", page)
    assert page.read_text(encoding="utf-8") == text


def test_the_committed_page_has_the_markers() -> None:
    text = subject.PAGE.read_text(encoding="utf-8")
    assert text.count(subject.BEGIN) == text.count(subject.END) == 1
    assert text.index(subject.BEGIN) < text.index(subject.END)


def test_failed_rows_do_not_count() -> None:
    assert not Row("x", 1, failure="no").counts
    assert not Row("x", 1, {"deploycc": Time(1.0, 1.0, math.inf)}).counts
    assert Row("x", 1, {"deploycc": Time(1.0, 1.0, 1.2e-4)}, allowed=1.75e-4).counts


def test_memory_of_a_fresh_process_is_its_own() -> None:
    # A process starts with the high-water mark of the one it was forked from in getrusage's books.
    ballast = bytearray(300 << 20)
    script = subject._PEER_MEMORY.replace("name, model = sys.argv[1:]", "print(idle); sys.exit()")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert 10 << 10 < int(done.stdout) < 250 << 10
    del ballast
