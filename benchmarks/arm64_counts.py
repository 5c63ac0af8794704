"""Instructions of whole runs on arm64, counted under QEMU: ours, ONNX Runtime's and ncnn's.

    python -m benchmarks.arm64_counts [--networks a,b] [--peers onnxruntime,ncnn] [--keep]

Every network of networks.toml without recurrent layers is built for ``arm64`` and runs as an AArch64
program on one thread; the peers' AArch64 wheels run in an AArch64 Python.  The instructions of one run are
(those of six runs - those of one) / 5, both read in one process when that run is over: two processes of
Python differ by millions of instructions in what they do before.  Results are checked against ONNX Runtime
on this machine.  Counts are kept in ``.cache/arm64`` by what was counted (library or model, inputs,
versions), since the emulator takes minutes.  Prints a table and writes it as JSON to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.arm64_python import CPU, DEBIAN_PACKAGES, EMULATOR, WHEELS, Arm64Python, arm64_python
from benchmarks.building import BuildFailed, build_or_keep
from benchmarks.library import manifest_of, package_name
from benchmarks.measuring import geometric_mean
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from benchmarks.reference import Array, OnnxRuntime, allowed_error, largest_error
from deploycc.targets import load_target
from deploycc.tuning.counting import MARK, build_plugin, count_instructions

TARGET = "arm64"
RUNS = 6
LIMIT_SECONDS = 3600.0
RESULTS = ROOT / "benchmarks" / "results"
PEER_SCRIPT = Path(__file__).with_name("arm64_peer.py")
DRIVER = Path(__file__).with_name("driver.c")
_RECURRENT = {"LSTM", "GRU", "RNN"}
_STORE = ROOT / ".cache" / "arm64"
_KEPT = _STORE / "counts.json"


class CountFailed(Exception):
    """A program did not run to its end; the text is what it said."""


@dataclass(frozen=True)
class Count:
    """Instructions of one run, and the largest error of its results as a share of the largest value."""

    instructions: float
    error: float


@dataclass(frozen=True)
class Row:
    """One network: instructions of a run by engine (``deploycc`` or a peer), and why an engine is missing."""

    network: str
    instructions: dict[str, float]
    errors: dict[str, float]
    failures: dict[str, str]

    def ratio(self, peer: str) -> float:
        """The peer's instructions over ours; NaN where one is missing."""
        return self.instructions.get(peer, math.nan) / self.instructions.get("deploycc", math.nan)


def convolutional() -> list[str]:
    """The networks without recurrent layers, those with the least work first."""
    names = sorted(networks(), key=lambda name: networks()[name].mmacs)
    return [name for name in names if not _RECURRENT & {n.op_type for n in onnx.load(fetch(name)).graph.node}]


class Counter:
    """Counts programs of one network; what was counted before is read from ``counts.json``."""

    def __init__(self, name: str, python: Arm64Python, folder: Path) -> None:
        self.name, self._python, self._folder = name, python, folder
        self._model = fetch(name)
        engine = OnnxRuntime(self._model)
        self._names = [value.name for value in engine.session.get_inputs()]
        self._out_names = [value.name for value in engine.session.get_outputs()]
        self.inputs = engine.random_inputs(networks()[name].inputs)
        self.expected = engine.bind(self.inputs)
        self._plugin = build_plugin(_STORE)

    def ours(self, keep: bool) -> Count:
        """Of the package.  Raises BuildFailed and CountFailed."""
        package = build_or_keep(self.name, TARGET, keep).package
        library = package / "lib" / f"lib{package_name(package)}.so"

        def prepare() -> list[str]:
            (self._folder / "inputs").write_bytes(b"".join(array.tobytes() for array in self.inputs))
            driver = compile_driver(package, self._folder)
            words = (driver, library, self._folder / "inputs", self._outputs, 1, 0, RUNS)
            return [str(word) for word in words]

        return self._counted([library.read_bytes(), DRIVER.read_bytes()], prepare, lambda: self._raw(package))

    def peer(self, peer: str) -> Count:
        """Of a peer's wheel.  Raises CountFailed."""
        model, key = str(self._model), self._model.read_bytes()
        if peer == "ncnn":
            from benchmarks.peers import EngineFailed
            from benchmarks.run import static_model
            from deploycc.timing.peers.ncnn import converted

            try:
                files = converted(onnx.load(static_model(self.name)).graph, static_model(self.name))
            except EngineFailed as error:
                raise CountFailed(str(error)) from None
            model, key = f"{files.param},{files.weights}", files.param.read_bytes()

        def prepare() -> list[str]:
            np.savez(self._folder / "inputs.npz", **dict(zip(self._names, self.inputs, strict=True)))
            words = [self._python.interpreter, PEER_SCRIPT, peer, model, self._folder / "inputs.npz"]
            return [str(word) for word in (*words, self._outputs, RUNS, MARK)]

        versions = repr((WHEELS, DEBIAN_PACKAGES)).encode()
        return self._counted([peer.encode(), key, PEER_SCRIPT.read_bytes(), versions], prepare, self._archive)

    @property
    def _outputs(self) -> Path:
        return self._folder / "outputs.npz"

    def _counted(
        self, key: Sequence[bytes], prepare: Callable[[], list[str]], results: Callable[[], list[Array]]
    ) -> Count:
        digest = hashlib.sha256(repr((CPU, RUNS)).encode())
        for part in (*key, *(array.tobytes() for array in self.inputs)):
            digest.update(hashlib.sha256(part).digest())
        kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
        if digest.hexdigest() not in kept:
            one, many = self._marks(prepare())
            found = results()
            if len(found) != len(self.expected):
                raise CountFailed(f"{len(found)} results, {len(self.expected)} are expected")
            error = largest_error(found, self.expected)
            kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
            kept[digest.hexdigest()] = dataclasses.asdict(Count((many - one) / (RUNS - 1), error))
            _KEPT.write_text(json.dumps(kept, indent=1))
        return Count(**kept[digest.hexdigest()])

    def _marks(self, words: list[str]) -> tuple[int, int]:
        """Instructions until the first run is over, and until the last one is."""
        try:
            ran = count_instructions(self._python.emulator, words, self._plugin, self._folder, LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise CountFailed(f"took over {LIMIT_SECONDS:.0f} s") from None
        if ran.status != 0:
            said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()[-1]
            raise CountFailed(f"status {ran.status}: {said[:200]}")
        if len(ran.marks) != 2:
            raise CountFailed(f"{len(ran.marks)} marks where two are expected")
        return ran.marks[0], ran.marks[1]

    def _raw(self, package: Path) -> list[Array]:
        raw, found, at = self._outputs.read_bytes(), [], 0
        for tensor in manifest_of(package)["outputs"]:
            dtype, shape = np.dtype(tensor["dtype"]), tuple(tensor["shape"])
            count = math.prod(shape)
            found.append(np.frombuffer(raw, dtype, count, at).reshape(shape))
            at += count * dtype.itemsize
        return found

    def _archive(self) -> list[Array]:
        content = np.load(self._outputs)
        names = self._out_names if set(self._out_names) <= set(content.files) else sorted(content.files)
        return [content[name] for name in names]


def compile_driver(package: Path, folder: Path) -> Path:
    """``driver.c`` for an arm64 package, by zig.  Raises CountFailed."""
    name, target = package_name(package), load_target(TARGET)
    program = folder / f"driver-{name}"
    words: list[str | Path] = [sys.executable, "-m", "ziglang", "cc", "-target", target.linker.triple]
    words += ["-std=c11", "-O2", f"-DMARK={MARK}", f"-DNAME={name}", f'-DHEADER="{name}.h"']
    words += ["-I", package / "include", DRIVER, "-o", program, "-ldl"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise CountFailed(f"the driver does not compile: {done.stderr.strip()[-300:]}")
    return program


def row_of(name: str, peers: Sequence[str], keep: bool, python: Arm64Python) -> Row:
    """Count one network with every engine; a wrong result does not count."""
    instructions, errors, failures = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="deploycc-counts-") as folder:
        counter = Counter(name, python, Path(folder))
        for engine in ("deploycc", *peers):
            try:
                count = counter.ours(keep) if engine == "deploycc" else counter.peer(engine)
            except (BuildFailed, CountFailed) as error:
                failures[engine] = str(error)
                continue
            errors[engine] = count.error
            allowed = allowed_error(fetch(name), counter.inputs, counter.expected, count.error)
            if count.error <= allowed:
                instructions[engine] = count.instructions
            else:
                failures[engine] = f"its result is off by {count.error:.2g} of the largest value"
    return Row(name, instructions, errors, failures)


def table(rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    """A Markdown table in millions of instructions."""
    titles = ["network", "MMAC", "deploycc", *(word for peer in peers for word in (peer, f"{peer} / ours"))]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]

    def cell(row: Row, engine: str) -> str:
        return f"{row.instructions[engine] / 1e6:,.2f}" if engine in row.instructions else "-"

    for row in rows:
        cells = [row.network, f"{networks()[row.network].mmacs:,.0f}", cell(row, "deploycc")]
        for peer in peers:
            ratio = row.ratio(peer)
            cells += [cell(row, peer), "-" if math.isnan(ratio) else f"{ratio:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    for peer in peers:
        ratios = [row.ratio(peer) for row in rows if not math.isnan(row.ratio(peer))]
        lines.append("")
        lines.append(
            f"Geometric mean of ({peer} / ours) over {len(ratios)} networks: {geometric_mean(ratios):.2f}."
        )
    return lines


def main() -> int:
    """Command line; 1 where one of our own counts is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", help="names, comma-separated (default: all without recurrent layers)")
    parser.add_argument("--peers", default="onnxruntime,ncnn", help="onnxruntime, ncnn or both (default)")
    parser.add_argument("--keep", action="store_true", help="reuse the packages of an earlier run")
    arguments = parser.parse_args()
    names = arguments.networks.split(",") if arguments.networks else convolutional()
    peers = [peer for peer in arguments.peers.split(",") if peer]
    python = arm64_python()
    rows = []
    for name in names:
        rows.append(row_of(name, peers, arguments.keep, python))
        print(json.dumps(dataclasses.asdict(rows[-1])), file=sys.stderr, flush=True)
    print("\n".join(table(rows, peers)))
    for row in rows:
        for engine, why in row.failures.items():
            print(f"{row.network}, {engine}: {why}")
    now = datetime.datetime.now(datetime.UTC)
    content = {
        "time": now.isoformat(timespec="seconds"),
        "emulator": list(EMULATOR),
        "versions": list(WHEELS),
        "target": TARGET,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"arm64-counts-{now:%Y%m%dT%H%M%S}.json"
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\n{file.relative_to(ROOT)}")
    return int(any("deploycc" in row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
