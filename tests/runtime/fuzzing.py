"""Random calls of a package's C interface under sanitisers (``fuzz_api.c``); ``make fuzz-runtime``.

The time is divided between the forms: AddressSanitizer and UBSan with streams that new coverage selects, and
ThreadSanitizer with four threads, each with a private and with the shared pool; the former of the debug
runtime as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.runtime import generated


@dataclass(frozen=True)
class Form:
    """How the program is compiled, and how many threads call at once."""

    name: str
    sanitizer: str
    flags: tuple[str, ...]
    threads: int


FORMS = (
    Form("address", "address", (), 1),
    Form("address-debug", "address", ("-DDCC_DEBUG",), 1),
    Form("address-shared", "address", ("-DDCC_SHARED_POOL",), 1),
    Form("thread", "thread", (), 4),
    Form("thread-shared", "thread", ("-DDCC_SHARED_POOL",), 4),
)
_COVERAGE = ("-DFUZZ_COVERAGE", "-fsanitize-coverage=trace-pc")


def build(form: Form, folder: Path) -> Path:
    """The program of a form in ``folder``; raises ``RuntimeError`` where gcc cannot."""
    sources = generated.write_sources(folder)
    coverage = _COVERAGE if form.threads == 1 else ()
    flags = [*generated.sanitizer_flags(form.sanitizer), *form.flags, *coverage]
    return generated.compile_program(folder / form.name, generated.HERE / "fuzz_api.c", sources, flags)


def fuzz(
    program: Path, form: Form, seed: int, streams: int, seconds: float
) -> subprocess.CompletedProcess[str]:
    """At least ``streams`` streams and ``seconds``; return code 0 and nothing on stderr when clean."""
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1",
        "TSAN_OPTIONS": "allocator_may_return_null=1:halt_on_error=1",
    }
    command = [program, str(seed), str(streams), str(seconds), str(form.threads)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=seconds * 2 + 120, check=False
    )


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a run said on stderr, without what the debug runtime tells of misused handles."""
    return [line for line in done.stderr.splitlines() if not line.startswith("deploycc: dcc_")]


def main() -> int:
    """Exit code 1 when something was found; it is on stdout, with the seed that shows it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of all forms together (default 600)")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--form", choices=[form.name for form in FORMS], action="append")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    chosen = [form for form in FORMS if options.form is None or form.name in options.form]
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for form in chosen:
            done = fuzz(build(form, Path(folder)), form, seed, 1, options.seconds / len(chosen))
            lines = complaints(done)
            clean = done.returncode == 0 and not lines
            found += not clean
            verdict = "clean" if clean else f"exit {done.returncode}"
            print(f"{form.name}: seed {seed}, {done.stdout.strip()}: {verdict}", *lines[:60], sep="\n")
            sys.stdout.flush()
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
