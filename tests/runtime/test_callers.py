"""Careless callers of a package's C interface (``callers.c``), plain and under sanitisers."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime import generated

CASES = (
    "pointers sizes processors sweep crowds texts reentrant signals cancelled forked_in_create left destroyed"
).split()
FORMS = {"private": [], "shared": ["-DDCC_SHARED_POOL"], "debug": ["-DDCC_DEBUG"]}
NOT_UNDER = {
    ("thread", "forked_in_create"): "ThreadSanitizer does not support threads in a forked child",
    ("address", "cancelled"): "AddressSanitizer takes a cancelled thread's end for a fault of its own",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Builds a form of the program once and gives its path."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    folder = tmp_path_factory.mktemp("callers")
    sources = generated.write_sources(folder)

    @functools.cache
    def build(sanitizer: str, form: str) -> Path:
        flags = [*generated.sanitizer_flags(sanitizer), *FORMS[form]]
        try:
            return generated.compile_program(
                folder / f"{sanitizer}-{form}", generated.HERE / "callers.c", sources, flags
            )
        except RuntimeError as error:
            if sanitizer != "plain" and "cannot find" in str(error):
                pytest.skip(f"gcc has no {sanitizer} sanitiser here")
            raise

    return build


# A sanitiser for each form, and all of them for the usual one: building them is what takes time.
@pytest.mark.parametrize(
    ("sanitizer", "form"),
    [("address", "private"), ("thread", "private"), ("plain", "shared"),
     *(pytest.param(*both, marks=pytest.mark.slow) for both in
       [("plain", "private"), ("address", "debug"), ("address", "shared"), ("thread", "shared"),
        ("thread", "debug")])],
)  # fmt: skip
def test_careless_callers(programs, sanitizer: str, form: str) -> None:
    program = programs(sanitizer, form)
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1",
        "TSAN_OPTIONS": "allocator_may_return_null=1:halt_on_error=1",
    }
    for case in CASES:
        if (sanitizer, case) in NOT_UNDER or (case == "destroyed" and form != "debug"):
            continue
        if case == "left":  # handles that nobody destroyed are leaks, which is what it is about
            environment["ASAN_OPTIONS"] = "detect_leaks=0"
        done = subprocess.run(
            [program, case], capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        lines = [line for line in done.stderr.splitlines() if not line.startswith("deploycc: dcc_")]
        assert (case, done.returncode, lines) == (case, 0, [])
        # Each of 100 handles is misused seven times, by functions that tell so.
        told = [line for line in done.stderr.splitlines() if line.startswith("deploycc: dcc_")]
        assert (len(told) > 700) == (case == "destroyed"), told[:3]


def test_every_case_is_listed(programs) -> None:
    done = subprocess.run(
        [programs("plain", "shared"), "?"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == CASES
