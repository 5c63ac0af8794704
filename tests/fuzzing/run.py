"""Coverage-guided fuzzing of the front end until so many mutated models were examined.

``python -m tests.fuzzing.run --models 200000 --state FOLDER``.  The fuzzer's process is started again when
it ends: a crash, a hang, or memory beyond the limit is a finding, kept as ``ended-*.onnx`` with what was
said, as an exception is as ``finding-*.onnx``.  A run can be stopped and goes on where it was.  Exit status 1
where there is a finding.

What is counted as ``mutated`` is one call of the front end with one mutated file.  The corpus, of which every
start runs a part before it mutates any, is counted apart, as ``again``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS_A_MODEL = 30
MEMORY_MIB = 6000
SEEDS_A_START = 700


def counts(state: Path) -> dict[str, int]:
    """How many models came how far."""
    path = state / "counts.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def run(state: Path, corpus: Path, models: int, seconds: float) -> None:
    """Start the fuzzer's process again and again until ``models`` were examined or time is up."""
    began = time.monotonic()
    ended = len(list(state.glob("ended-*.txt")))
    draw = random.Random()
    folder = Path(
        tempfile.mkdtemp(prefix="deploycc-fuzzing-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    )
    while counts(state).get("mutated", 0) < models and time.monotonic() - began < seconds:
        left = seconds - (time.monotonic() - began)
        before = counts(state)
        start = _sample_of(corpus, state / "start", draw)
        command = [
            *(sys.executable, "-m", "tests.fuzzing.worker", str(state), str(start), str(models), str(folder)),
            *(f"-timeout={SECONDS_A_MODEL}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={64 << 10}"),
            *(f"-max_total_time={max(1, int(left))}", "-len_control=0", "-handle_segv=0", "-handle_abrt=0"),
            f"-artifact_prefix={state}/artifact-",
        ]
        with (state / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=_environment()
            )
            status = _end_of(process, folder / "model.onnx")
        for path in start.iterdir():
            path.replace(corpus / path.name)
        if status and not (folder / "model.onnx").is_file():
            sys.exit(f"the fuzzer does not start: {state}/log.txt says why")
        if status:
            ended += 1
            name = state / f"ended-{ended:03}"
            shutil.copy(folder / "model.onnx", name.with_suffix(".onnx"))
            tail = (state / "log.txt").read_bytes()[-4000:].decode(errors="replace")
            name.with_suffix(".txt").write_text(f"exit status {status}\n{tail}")
            print(f"ended with status {status}: {name}.onnx", flush=True)
        if status and counts(state) == before:
            sys.exit(f"the fuzzer does not start: {state}/log.txt says why")


def _end_of(process: subprocess.Popen[bytes], model: Path) -> int:
    """The exit status; a process that hangs where libFuzzer's own alarm does not end it is killed."""
    while True:
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            if model.is_file() and time.time() - model.stat().st_mtime > 4 * SECONDS_A_MODEL:
                process.kill()


def _sample_of(corpus: Path, start: Path, draw: random.Random) -> Path:
    """A folder with some of the corpus, drawn anew: a start runs all of it before it changes any."""
    shutil.rmtree(start, ignore_errors=True)
    start.mkdir()
    files = sorted(corpus.iterdir())
    for path in draw.sample(files, min(SEEDS_A_START, len(files))):
        (start / path.name).write_bytes(path.read_bytes())
    return start


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=30 * 86400.0)
    parser.add_argument("--state", type=Path, default=ROOT / ".cache" / "fuzzing")
    options = parser.parse_args()
    state = options.state
    state.mkdir(parents=True, exist_ok=True)
    corpus = state / "corpus"
    if not corpus.is_dir():
        from benchmarks.networks import fetch, networks
        from tests.fuzzing.seeds import write_seeds

        print(f"{write_seeds(corpus, [fetch(name) for name in networks()])} seeds", flush=True)
    run(state, corpus, options.models, options.seconds)
    told = counts(state)
    findings = sorted((*state.glob("finding-*.onnx"), *state.glob("ended-*.onnx")))
    print(json.dumps(told, indent=2))
    for path in findings:
        print(path)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
