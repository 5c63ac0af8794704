"""``make demo`` from end to end.  Minutes: ``make test-all``."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.pinned import ROOT, fetch_file
from examples.ocr.demo import DETECTOR, PAGE, RECOGNISER

pytestmark = pytest.mark.slow


def test_the_demo_reads_the_page(network: Callable[[str], Path], tmp_path: Path) -> None:
    for stage in (DETECTOR, RECOGNISER):
        network(stage.network)
    fetch_file(PAGE)
    command = [sys.executable, "-m", "examples.ocr.demo", "--runs", "2", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Region-based segmentation" in done.stdout
    assert re.search(r"^detection +[\d.]+ +[\d.]+ +[\d.]+ ", done.stdout, re.MULTILINE)
    assert "The text is right." in done.stdout
