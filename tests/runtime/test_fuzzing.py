"""A little of what ``make fuzz-runtime`` does for ten minutes, and runs that must not take memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime import fuzzing, generated

SEED = 7
STREAMS = {"address": 150, "thread": 12}


@pytest.mark.parametrize(
    "form",
    [form if form.name in STREAMS else pytest.param(form, marks=pytest.mark.slow) for form in fuzzing.FORMS],
    ids=lambda form: form.name,
)
def test_random_calls(tmp_path: Path, form: fuzzing.Form) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    try:
        program = fuzzing.build(form, tmp_path)
    except RuntimeError as error:
        if "cannot find" in str(error):
            pytest.skip(f"gcc has no {form.sanitizer} sanitiser here")
        raise
    streams = STREAMS.get(form.name, 300)
    done = fuzzing.fuzz(program, form, SEED, streams, 0)
    assert (done.returncode, fuzzing.complaints(done)) == (0, [])
    assert done.stdout.startswith(f"{streams} streams, {form.threads} threads, ")


def test_the_fuzzer_finds_what_is_planted(tmp_path: Path) -> None:
    """An interface that lets a NULL list of outputs pass."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    form = fuzzing.Form("planted", "plain", (), 1)
    sources = generated.write_sources(tmp_path)
    text = sources[0].read_text()
    assert text.count("return (tiny_status)dcc_run(") == 1
    sources[0].write_text(
        text.replace(
            "return (tiny_status)dcc_run(",
            "return outputs == NULL ? tiny_OK : (tiny_status)dcc_run(",
        )
    )
    program = generated.compile_program(
        tmp_path / "planted", generated.HERE / "fuzz_api.c", sources, form.flags
    )
    done = fuzzing.fuzz(program, form, SEED, 2000, 0)
    assert done.returncode != 0
    assert "stream " in done.stderr


@pytest.mark.parametrize(
    "runs", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["few", "a_million"]
)
def test_memory_stays_flat(tmp_path: Path, runs: int) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    sources = generated.write_sources(tmp_path)
    program = generated.compile_program(tmp_path / "many_runs", generated.HERE / "many_runs.c", sources, [])
    for threads in (1, 2):
        done = subprocess.run(
            [program, str(runs), str(threads)], capture_output=True, text=True, timeout=1800, check=False
        )
        print(done.stdout.strip())
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{runs} runs, {threads} threads: 0 allocations" in done.stdout
