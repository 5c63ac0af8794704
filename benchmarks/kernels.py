"""Where a network's time goes: every step of its call list, timed on its own.

    python -m benchmarks.kernels NETWORK [--runs 50] [--top 20] [--threads 1] [--schedule-dir DIR]

The network is built for this machine with its C sources in the package (as for targets whose library
the app's own toolchain makes), a clock is put around every step, and the system's C compiler builds
that.  A step's time is the least of all runs: what is above it is other processes.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.library import PackageLibrary, manifest_of
from benchmarks.measuring import interleave, pin
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from benchmarks.reference import TOLERANCE, OnnxRuntime, largest_error
from deploycc.build import build
from deploycc.targets import load_target

_PLAIN_STEP = re.compile(r"#define STEP\(number, call\).*?while \(0\)\n", re.DOTALL)
_TIMED_STEP = r"""#include <time.h>
double NAME_step_us[STEPS];
#define STEP(number, call)                                                            \
    do {                                                                              \
        struct timespec before, after;                                                \
        clock_gettime(CLOCK_MONOTONIC, &before);                                      \
        int32_t failed = call;                                                        \
        clock_gettime(CLOCK_MONOTONIC, &after);                                       \
        NAME_step_us[number] = (double)(after.tv_sec - before.tv_sec) * 1e6           \
                             + (double)(after.tv_nsec - before.tv_nsec) * 1e-3;       \
        if (failed != 0) {                                                            \
            *step = number;                                                           \
            return failed;                                                            \
        }                                                                             \
    } while (0)
"""


@dataclass(frozen=True)
class Step:
    """One step: its least time in microseconds and what the manifest says of it."""

    index: int
    symbol: str
    schedule: str
    knobs: dict[str, int]
    operators: tuple[str, ...]
    us: float


def timed_source(source: str, name: str, steps: int) -> str:
    """The generated model definition with a clock around every step.

    Raises ValueError when the generated code has no step macro of the known form.
    """
    timed = _TIMED_STEP.replace("NAME", name).replace("STEPS", str(max(1, steps)))
    changed, count = _PLAIN_STEP.subn(lambda _: timed, source)
    if count != 1:
        raise ValueError("the generated model definition has no STEP macro as expected")
    # POSIX clocks are hidden under strict C11.
    return "#define _POSIX_C_SOURCE 200809L\n" + changed


def build_timed(name: str, folder: Path, schedule_dirs: Sequence[Path]) -> Path:
    """A package for this machine whose library counts; returns its folder."""
    host = load_target("host")
    linker = dataclasses.replace(host.linker, toolchain="none")
    network = networks()[name]
    shutil.rmtree(folder, ignore_errors=True)
    package = build(
        fetch(name), dataclasses.replace(host, linker=linker), folder,
        shapes=dict(network.inputs), name=name, schedule_dirs=schedule_dirs,
    )  # fmt: skip
    sources = package.path / "src"
    definition = sources / f"{name}.c"
    steps = len(package.manifest["calls"])
    definition.write_text(timed_source(definition.read_text(encoding="ascii"), name, steps), encoding="ascii")
    library = package.path / "lib" / f"lib{name}.so"
    words: list[str | Path] = ["cc", "-O2", "-std=c11", "-fPIC", "-shared", "-fno-strict-aliasing"]
    words += ["-I", "../include", "-I", "runtime", "-I", ".", definition.name, f"{name}_weights.S"]
    words += [*sorted((sources / "runtime").glob("*.c")), f"../lib/{name}_kernels.o", "-o", library]
    subprocess.run([*words, "-lm", "-lpthread"], check=True, cwd=sources, timeout=300)
    return package.path


def time_steps(name: str, package: Path, threads: int, runs: int) -> tuple[list[Step], float, float]:
    """All steps, the least whole run of ours and of ONNX Runtime's in microseconds."""
    pin(threads)
    peer = OnnxRuntime(fetch(name), threads)
    inputs = peer.random_inputs(networks()[name].inputs)
    library = PackageLibrary(package, threads)
    error = largest_error(library.bind(inputs), peer.bind(inputs))
    if error > TOLERANCE:
        print(f"the result is WRONG: off by {error:.2g} of the largest output")
    calls = manifest_of(package)["calls"]
    counted = ctypes.CDLL(str(package / "lib" / f"lib{name}.so"))
    microseconds = (ctypes.c_double * max(1, len(calls))).in_dll(counted, f"{name}_step_us")
    least = [float("inf")] * len(calls)
    mine, theirs = interleave([library.run, peer.run], 25)
    for _ in range(runs):
        library.run()
        least = [min(a, b) for a, b in zip(least, microseconds, strict=False)]
    steps = [
        Step(i, c["symbol"], c["schedule"], c["knobs"], tuple(c["operators"]), us)
        for i, (c, us) in enumerate(zip(calls, least, strict=True))
    ]
    return steps, min(mine) * 1e6, min(theirs) * 1e6


def report(steps: Sequence[Step], ours_us: float, peer_us: float, top: int) -> list[str]:
    """The longest steps, and the sum for each schedule."""
    total = sum(step.us for step in steps) or 1.0
    lines = [
        f"{len(steps)} steps, {total:.1f} us; a whole run {ours_us:.1f} us, ONNX Runtime {peer_us:.1f} us"
    ]
    by_schedule: dict[str, float] = defaultdict(float)
    for step in steps:
        by_schedule[step.schedule or "none"] += step.us
    for schedule, us in sorted(by_schedule.items(), key=lambda item: -item[1]):
        lines.append(f"  {schedule:24}{us:10.1f} us {us / total:6.1%}")
    lines.append("")
    for step in sorted(steps, key=lambda step: -step.us)[:top]:
        knobs = " ".join(f"{key}={value}" for key, value in sorted(step.knobs.items()))
        what = f"{step.index:4d} {step.symbol}  [{step.schedule} {knobs}]"
        lines.append(f"{step.us:10.1f} us {step.us / total:6.1%}  {what}")
    return lines


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", choices=list(networks()), metavar="NETWORK")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--top", type=int, default=20, help="how many steps to show (default 20)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--schedule-dir", type=Path, action="append", default=[])
    parser.add_argument("--keep", action="store_true", help="reuse the package of an earlier call")
    arguments = parser.parse_args()
    folder = ROOT / "out" / "kernels" / arguments.network
    if not (arguments.keep and folder.is_dir()):
        folder = build_timed(arguments.network, folder, arguments.schedule_dir)
    steps, ours_us, peer_us = time_steps(arguments.network, folder, arguments.threads, arguments.runs)
    print("\n".join(report(steps, ours_us, peer_us, arguments.top)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
