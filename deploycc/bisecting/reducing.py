"""Builds of candidates with the compiler at hand: which is the smallest that still shows the fault."""

from __future__ import annotations

import resource
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.bisecting.errors import compared, finite
from deploycc.bisecting.findings import Reduction
from deploycc.counting.padding import padded, tensor_from_manifest
from deploycc.onnx_graph import Array
from deploycc.result_types import TensorDifference
from deploycc.running import Orders, Package, Place, open_package, run
from deploycc.types import DeployccError

Builder = Callable[[Path, Path], None]
"""Builds the model of the first path into a package at the second."""

Placed = Callable[[Package], tuple[Package, Place]]
"""Where a package runs: emulated kernels of a GPU are each package's own."""

BUDGET_SECONDS = 40.0
"""No build begins once builds have taken so much processor time, which is the clock's on a quiet machine."""

LONGEST_SECONDS = 180.0
"""Nor after this by the clock, however busy the machine is."""

RACES = 3
"""A fault that does not show every time is given so many runs."""

Candidates = Sequence[tuple[str, str, tuple[str, ...], bool]]
"""Folder, role, nodes, and whether it keeps the package's layouts, of each ``Candidate``."""


@dataclass(frozen=True)
class Shown:
    """A candidate, as ``Candidate`` is written, that was built and run."""

    folder: Path
    role: str
    nodes: tuple[str, ...]
    worst: TensorDifference | None


@dataclass(frozen=True)
class Reduced:
    """``smallest`` shows the fault; ``node`` is the one that builds single out, empty if none does."""

    smallest: Shown | None
    node: str
    builds: int
    reason: str


class Reducer:
    """Tries candidates where ``placed`` says, with as many ``threads`` as when the fault showed."""

    def __init__(self, build: Builder, placed: Placed, folder: Path, threads: int, steady: bool) -> None:
        self._build, self._placed, self._folder, self._threads = build, placed, folder, threads
        self._runs = 1 if steady else RACES
        self._began, self._used = time.monotonic(), _processor_seconds()
        self.builds = 0
        self.failure = ""

    @property
    def late(self) -> bool:
        """Whether no further build is to begin."""
        used = _processor_seconds() - self._used
        return used > BUDGET_SECONDS or time.monotonic() - self._began > LONGEST_SECONDS

    def try_one(self, folder: str, role: str, nodes: Sequence[str]) -> Shown:
        """Build it, run it, and compare with the reference."""
        path = Path(folder)
        package = self._folder / f"package{self.builds}"
        self.builds += 1
        try:
            self._build(path / "model.onnx", package)
            wrong = [one for one in self._differences(path, package) if not one.ok]
            worst = max(wrong, key=_size, default=None)
        except DeployccError as error:
            self.failure = str(error)
            worst = None
        shutil.rmtree(package, ignore_errors=True)
        return Shown(path, role, tuple(nodes), worst)

    def _differences(self, path: Path, folder: Path) -> list[TensorDifference]:
        """A package's outputs beside the reference's; of a fault that comes and goes all that was seen."""
        package, place = self._placed(open_package(folder))
        given, expected = read_arrays(path / "inputs.npz"), read_arrays(path / "expected.npz")
        inputs = [given[tensor["name"]] for tensor in package.manifest["inputs"]]
        infos = [tensor_from_manifest(tensor) for tensor in package.manifest["outputs"]]
        wanted = padded([expected[info.name] for info in infos if info.name in expected], infos)
        found = []
        for _ in range(self._runs):
            outputs = run(package, place, inputs, Orders(threads=self._threads)).outputs
            found += [
                compared(info.name, want, got) for info, want, got in zip(infos, wanted, outputs, strict=True)
            ]
        return found

    def reduce(
        self, candidates: Candidates, order: Sequence[str], gathered: Mapping[str, Any] | None
    ) -> Reduced:
        """The smallest candidate that shows the fault, and the node that builds single out.

        ``order`` has the step's nodes, the most suspicious first; ``gathered`` is a ``Gathered`` as a table.
        """
        node = order[0] if len(order) == 1 else ""
        waiting = [one for one in candidates if one[1] in ("step", "grown")]
        if gathered is not None:
            wrong = self._wrong_parts(gathered)
            # Shorter ones first, and of one length those without transposes.
            showing = sorted((one for one in candidates if one[0] in wrong), key=lambda one: len(one[2]))
            if showing:
                node = showing[0][2][-1]
                waiting = [*showing, *(one for one in waiting if one not in showing)]
        for folder, role, nodes, _ in waiting:
            if self.late:
                return Reduced(None, node, self.builds, "no more time for builds")
            tried = self.try_one(folder, role, nodes)
            if tried.worst is not None:
                return Reduced(tried, node, self.builds, "")
        why = f"no piece of the network shows the fault when it is built again {self.failure}".rstrip()
        return Reduced(None, node, self.builds, why)

    def _wrong_parts(self, gathered: Mapping[str, Any]) -> set[str]:
        """The folders of the candidates that show the fault, side by side in one package."""
        package = self._folder / "gathered-package"
        self.builds += 1
        try:
            self._build(Path(gathered["folder"]) / "model.onnx", package)
            differences = self._differences(Path(gathered["folder"]), package)
        except DeployccError as error:
            self.failure = str(error)
            return set()
        finally:
            shutil.rmtree(package, ignore_errors=True)
        return {gathered["outputs"][one.tensor] for one in differences if not one.ok}


def written(reduced: Reduced, output: Path, target: str, options: Sequence[str], threads: int) -> Reduction:
    """Put the smallest candidate into ``output`` with the command that reproduces it."""
    shown = reduced.smallest
    if shown is None:
        return Reduction("", (), "", reduced.builds, None, reduced.reason)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "inputs.npz"):
        shutil.copyfile(shown.folder / name, output / name)
    command = command_for(output, target, options, threads)
    (output / "command.txt").write_text(command + "\n", encoding="utf-8")
    return Reduction(str(output), shown.nodes, command, reduced.builds, shown.worst)


def command_for(folder: Path, target: str, options: Sequence[str], threads: int = 1) -> str:
    """What builds the reduced model and shows that it is wrong."""
    model, package = str(folder / "model.onnx"), str(folder / "package")
    build = shlex.join(["deploycc", "build", model, "--target", target, *options, "-o", package])
    verify = ["deploycc", "verify", package, "--model", model, "--inputs", str(folder / "inputs.npz")]
    return f"{build} && {shlex.join([*verify, *(['--threads', str(threads)] if threads > 1 else [])])}"


def read_arrays(path: Path) -> dict[str, Array]:
    """What ``save_arrays`` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _processor_seconds() -> float:
    """Of this process and the children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _size(one: TensorDifference) -> float:
    return finite(float("inf") if one.unexpected else one.max_scaled)
