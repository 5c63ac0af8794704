"""Sizes and times of the compiled networks as the tables in docs/networks.md.

    python -m benchmarks.sizes [--networks a,b] [--target host] [--keep]

Each network is built, checked and timed as in ``benchmarks.run``; load time and memory are those of
fresh processes: ours of a small C program (``driver.c``), ONNX Runtime's of Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from benchmarks.building import package_folder
from benchmarks.contest import Row, Settings
from benchmarks.library import manifest_of, package_name
from benchmarks.machine import cpu_model
from benchmarks.measuring import geometric_mean
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from benchmarks.reference import OnnxRuntime
from benchmarks.run import build_all, measure_all

PAGE = ROOT / "docs" / "networks.md"
BEGIN, END = "<!-- begin: written by python -m benchmarks.sizes -->", "<!-- end -->"

_PEER_MEMORY = """
import re, sys
from pathlib import Path
from benchmarks.networks import networks
from benchmarks.reference import OnnxRuntime
peak = lambda: re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
idle = peak()
name, model = sys.argv[1:]
engine = OnnxRuntime(Path(model))
engine.bind(engine.random_inputs(networks()[name].inputs))
print(idle, peak())
"""


@dataclass(frozen=True)
class Sizes:
    """One package: bytes, milliseconds to load and create, and peak resident KiB of a run.

    ``idle_kib`` and ``peer_idle_kib`` are the peaks before library and session were there.
    """

    weight_bytes: int
    code_bytes: int
    arena_bytes: int
    glibc: str
    load_ms: float
    idle_kib: int
    peak_kib: int
    peer_idle_kib: int
    peer_peak_kib: int


def code_bytes(package: Path) -> int:
    """Bytes of the library that are not weights."""
    name = package_name(package)
    library = package / "lib" / f"lib{name}.so"
    return library.stat().st_size - int(manifest_of(package)["memory"]["weight_bytes"])


def compile_driver(package: Path, folder: Path) -> Path:
    """``driver.c`` for a package, with this machine's C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc) on this machine")
    name = package_name(package)
    program = folder / f"driver-{name}"
    words: list[str | Path] = [compiler, "-std=c11", "-O2", f"-DNAME={name}", f'-DHEADER="{name}.h"']
    words += ["-I", package / "include", ROOT / "benchmarks" / "driver.c", "-o", program, "-ldl"]
    subprocess.run(words, check=True, timeout=60)
    return program


def sizes_of(name: str, package: Path, processes: int = 9) -> Sizes:
    """Measure one package in ``processes`` fresh processes; medians."""
    manifest = manifest_of(package)
    model = fetch(name)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        inputs = OnnxRuntime(model).random_inputs(networks()[name].inputs)
        (folder / "inputs").write_bytes(b"".join(array.tobytes() for array in inputs))
        program = compile_driver(package, folder)
        library = package / "lib" / f"lib{package_name(package)}.so"
        words: list[str | Path] = [program, library, folder / "inputs", folder / "outputs", "1", "0", "2"]
        reports = [
            json.loads(subprocess.run(words, check=True, capture_output=True, timeout=300).stdout)
            for _ in range(processes)
        ]
    peer = subprocess.run(
        [sys.executable, "-c", _PEER_MEMORY, name, str(model)],
        check=True, capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    peer_idle, peer_peak = map(int, peer.stdout.split())
    return Sizes(
        weight_bytes=manifest["memory"]["weight_bytes"],
        code_bytes=code_bytes(package),
        arena_bytes=manifest["memory"]["arena_bytes"],
        glibc=str(manifest["library"]["highest_glibc"]),
        load_ms=statistics.median(r["load_us"] + r["create_us"] for r in reports) / 1e3,
        idle_kib=int(statistics.median(r["idle_kib"] for r in reports)),
        peak_kib=int(statistics.median(r["peak_kib"] for r in reports)),
        peer_idle_kib=peer_idle,
        peer_peak_kib=peer_peak,
    )


def ratio_of(row: Row) -> float:
    """Our time over ONNX Runtime's."""
    return 1 / row.speedup("ort")


Column = tuple[str, Callable[[Row, Sizes], str]]

_TIMES: tuple[Column, ...] = (
    ("network", lambda row, _: row.name),
    ("MMAC", lambda row, _: f"{networks()[row.name].mmacs:,.0f}"),
    ("deploycc, ms", lambda row, _: f"{row.ours.ms:.2f}"),
    ("ONNX Runtime, ms", lambda row, _: f"{row.times['ort'].ms:.2f}"),
    ("ratio", lambda row, _: f"{ratio_of(row):.2f}"),
    ("largest error", lambda row, _: f"{row.ours.error:.1e}"),
    ("build, s", lambda row, _: f"{row.build_s:.1f}"),
)
_SIZES: tuple[Column, ...] = (
    ("network", lambda row, _: row.name),
    ("weights, MiB", lambda _, s: f"{s.weight_bytes / 2**20:.2f}"),
    ("code, KiB", lambda _, s: f"{s.code_bytes / 2**10:.0f}"),
    ("arena, MiB", lambda _, s: f"{s.arena_bytes / 2**20:.2f}"),
    ("load and create, ms", lambda _, s: f"{s.load_ms:.2f}"),
    ("peak, MiB", lambda _, s: f"{s.peak_kib / 2**10:.1f}"),
    ("ONNX Runtime peak, MiB", lambda _, s: f"{s.peer_peak_kib / 2**10:.1f}"),
    ("highest GLIBC", lambda _, s: s.glibc or "none"),
)


def markdown_table(columns: Sequence[Column], measured: Sequence[tuple[Row, Sizes]]) -> list[str]:
    """The rows as a Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(title for title, _ in columns) + " |"]
    lines.append("|---|" + "---:|" * (len(columns) - 1))
    lines += ["| " + " | ".join(text(row, sizes) for _, text in columns) + " |" for row, sizes in measured]
    return lines


def page_text(
    measured: Sequence[tuple[Row, Sizes]], failed: Sequence[Row], target: str, cpu_time: bool = False
) -> str:
    """What stands between the page's markers."""
    worst = max((row for row, _ in measured), key=ratio_of)
    idle = statistics.median(s.idle_kib for _, s in measured) / 2**10
    peer_idle = statistics.median(s.peer_idle_kib for _, s in measured) / 2**10
    machine = f"Target `{target}` on {cpu_model()}, {os.cpu_count()} cores; one thread on one pinned core"
    mean = geometric_mean(ratio_of(row) for row, _ in measured)
    busy = "processor time (others used the machine too; build times are wall time and suffered from it)"
    clock = busy if cpu_time else "wall time"
    lines = [f"{machine}, {clock}; ONNX Runtime {onnxruntime.__version__}; no tuning.", ""]
    lines += [*markdown_table(_TIMES, measured), ""]
    lines += [
        f"Geometric mean of the ratios: **{mean:.2f}**; the worst is {ratio_of(worst):.2f} ({worst.name})."
    ]
    lines += ["", *markdown_table(_SIZES, measured), ""]
    starts = f"{idle:.1f} MiB for the C program, {peer_idle:.1f} MiB for Python with ONNX Runtime imported"
    lines.append(f"A process before it loads anything: {starts}.")
    if failed:
        lines += ["", "Not in the tables:", ""]
        lines += [f"- `{row.name}`: {reason_of(row)}" for row in failed]
    return "\n".join(lines)


def reason_of(row: Row) -> str:
    """Why a network is missing: the diagnostic's headline, or how wrong its result is."""
    failure = row.failure or row.ours.failure
    if not failure:
        return f"its result is off by {row.ours.error:.2g} of the largest output"
    found = re.search(r"error\[(DC\d+)\]: (.*)", failure)
    return f"{found[2]} ({found[1]})" if found else failure.splitlines()[0]


def write_page(text: str, page: Path = PAGE, begin: str = BEGIN) -> None:
    """Put ``text`` between the page's markers.  Raises ValueError when they are not there."""
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise ValueError(f"{page} lacks the markers {begin} and {END}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Command line; 1 when a network that was named gave no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", help="names, comma-separated (default: all); prints, writes no page")
    parser.add_argument("--target", default="host")
    parser.add_argument("--runs", type=int, default=30, help="timed rounds (default 30)")
    parser.add_argument("--round-ms", type=float, default=4.0)
    parser.add_argument("--cpu-time", action="store_true", help="processor time instead of wall time")
    parser.add_argument("--keep", action="store_true", help="reuse packages (their build times are then 0)")
    arguments = parser.parse_args()
    names = arguments.networks.split(",") if arguments.networks else list(networks())
    settings = Settings(["ort"], 1, arguments.runs, arguments.round_ms / 1e3, arguments.cpu_time)
    measured, failed = [], []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        (row,) = measure_all([name], build_all([name], arguments.target, arguments.keep), settings)
        if row.counts:
            measured.append((row, sizes_of(name, package_folder(name, arguments.target))))
            print(json.dumps(dataclasses.asdict(measured[-1][1])), file=sys.stderr, flush=True)
        else:
            failed.append(row)
            print(reason_of(row), file=sys.stderr, flush=True)
    if not measured:
        return 1
    text = page_text(measured, failed, arguments.target, arguments.cpu_time)
    if arguments.networks:
        print(text)
        return int(bool(failed))
    write_page(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
