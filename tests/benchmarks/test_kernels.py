"""benchmarks/kernels.py: the clock goes around every step of what the packaging stage generates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.kernels import Step, report, timed_source
from deploycc.packaging import generate_c


def test_the_generated_step_macro_is_found() -> None:
    # The macro as the packaging stage writes it: its text is the seam that the clock is put in.
    text = Path(generate_c.__file__).read_text(encoding="utf-8")
    assert "#define STEP(number, call)" in text
    assert "while (0)" in text


def test_timed_source_replaces_only_the_macro() -> None:
    source = (
        "int before;\n#define STEP(number, call) \\\n"
        "    do { \\\n        int32_t failed = call; \\\n    } while (0)\n\n"
        "    STEP(0, kernel_0(in[0]));\n"
    )
    timed = timed_source(source, "net", 7)
    assert "double net_step_us[7];" in timed
    assert timed.count("#define STEP") == 1
    assert timed.count("clock_gettime") == 2
    assert timed.endswith("\n    STEP(0, kernel_0(in[0]));\n")
    assert "int before;" in timed


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no STEP macro"):
        timed_source("int main(void) { return 0; }\n", "net", 1)


def test_report_shows_the_longest_first() -> None:
    steps = [
        Step(0, "k0_conv", "conv_direct", {"tile": 4}, ("conv",), 30.0),
        Step(1, "k1_add", "", {}, ("add",), 70.0),
        Step(2, "k2_conv", "conv_direct", {"tile": 2}, ("conv",), 50.0),
    ]
    lines = report(steps, 160.0, 80.0, top=2)
    assert lines[0] == "3 steps, 150.0 us; a whole run 160.0 us, ONNX Runtime 80.0 us"
    assert re.search(r"conv_direct\s+80\.0 us\s+53\.3%", lines[1])
    assert [line.split()[4] for line in lines if re.search(r"\bk\d_", line)] == ["k1_add", "k2_conv"]
