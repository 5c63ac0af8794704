"""Builds of candidates with the compiler at hand: which is the smallest that still shows the fault."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploycc.bisecting.errors import compared, finite
from deploycc.bisecting.findings import Reduction
from deploycc.onnx_graph import Array
from deploycc.result_types import TensorDifference
from deploycc.running import Orders, Place, open_package, run
from deploycc.types import DeployccError

Builder = Callable[[Path, Path], None]
"""Builds the model of the first path into a package at the second."""

BUDGET_SECONDS = 45.0
"""No build begins after this."""

RACES = 3
"""A fault that does not show every time is given so many runs."""

_LIKELIEST = 3
"""So many single nodes are tried before prefixes."""


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
    """Tries candidates.  ``threads`` as when the fault showed; ``tolerances`` are the dtypes' own."""

    def __init__(self, build: Builder, place: Place, folder: Path, threads: int, steady: bool) -> None:
        self._build, self._place, self._folder, self._threads = build, place, folder, threads
        self._runs = 1 if steady else RACES
        self._began = time.monotonic()
        self.builds = 0
        self.failure = ""

    @property
    def late(self) -> bool:
        """Whether no further build is to begin."""
        return time.monotonic() - self._began > BUDGET_SECONDS

    def try_one(self, folder: str, role: str, nodes: Sequence[str]) -> Shown:
        """Build it, run it, and compare with the reference."""
        path = Path(folder)
        package = self._folder / f"package{self.builds}"
        self.builds += 1
        try:
            self._build(path / "model.onnx", package)
            worst = self._run(path, package)
        except DeployccError as error:
            self.failure = str(error)
            worst = None
        shutil.rmtree(package, ignore_errors=True)
        return Shown(path, role, tuple(nodes), worst)

    def _run(self, path: Path, folder: Path) -> TensorDifference | None:
        package = open_package(folder)
        given, expected = read_arrays(path / "inputs.npz"), read_arrays(path / "expected.npz")
        inputs = [given[tensor["name"]] for tensor in package.manifest["inputs"]]
        worst: TensorDifference | None = None
        for _ in range(self._runs):
            outputs = run(package, self._place, inputs, Orders(threads=self._threads)).outputs
            for tensor, got in zip(package.manifest["outputs"], outputs, strict=True):
                one = compared(tensor["name"], expected[tensor["name"]], got)
                if not one.ok and (worst is None or _size(one) > _size(worst)):
                    worst = one
            if worst is not None:
                break
        return worst

    def reduce(
        self, candidates: Sequence[tuple[str, str, tuple[str, ...], bool]], order: Sequence[str]
    ) -> Reduced:
        """The smallest candidate that shows the fault.

        Candidates are tuples of folder, role, nodes and whether they keep layouts.  ``order`` has the step's
        nodes, the most suspicious first.
        """
        shown: Shown | None = None
        layouts = False
        for folder, role, nodes, kept in candidates:
            if role in ("node", "prefix"):
                continue
            if self.late:
                return Reduced(None, "", self.builds, "no more time for builds")
            tried = self.try_one(folder, role, nodes)
            if tried.worst is not None:
                shown, layouts = tried, kept
                break
        if shown is None:
            why = f"no piece of the network shows the fault when it is built again {self.failure}".rstrip()
            return Reduced(None, "", self.builds, why)
        if shown.role != "step" or len(order) < 2:
            return Reduced(shown, order[0] if len(order) == 1 else "", self.builds, "")
        return self._node(shown, candidates, order, layouts)

    def _node(
        self,
        shown: Shown,
        candidates: Sequence[tuple[str, str, tuple[str, ...], bool]],
        order: Sequence[str],
        layouts: bool,
    ) -> Reduced:
        singles = {
            nodes: folder for folder, role, nodes, kept in candidates if role == "node" and kept == layouts
        }
        for name in order[:_LIKELIEST]:
            if (name,) not in singles or self.late:
                continue
            tried = self.try_one(singles[(name,)], "node", (name,))
            if tried.worst is not None:
                return Reduced(tried, name, self.builds, "")
        prefixes = sorted(
            (
                (nodes, folder)
                for folder, role, nodes, kept in candidates
                if role == "prefix" and kept == layouts and set(nodes) < set(shown.nodes)
            ),
            key=lambda one: len(one[0]),
        )
        # The shortest prefix that is wrong ends with the wrong node.
        low, high = -1, len(prefixes)
        best = shown
        while high - low > 1 and not self.late:
            middle = (low + high) // 2
            tried = self.try_one(prefixes[middle][1], "prefix", prefixes[middle][0])
            if tried.worst is None:
                low = middle
            else:
                high, best = middle, tried
        before = set(prefixes[low][0]) if low >= 0 else set()
        ends = [name for name in order if name in best.nodes and name not in before]
        known = high - low <= 1 and len(ends) == 1
        return Reduced(best, ends[0] if known else "", self.builds, "")


def written(reduced: Reduced, output: Path, target: str, options: Sequence[str]) -> Reduction:
    """Put the smallest candidate into ``output`` with the command that reproduces it."""
    shown = reduced.smallest
    if shown is None:
        return Reduction("", (), "", reduced.builds, None, reduced.reason)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "inputs.npz"):
        shutil.copyfile(shown.folder / name, output / name)
    command = command_for(output, target, options)
    (output / "command.txt").write_text(command + "\n", encoding="utf-8")
    return Reduction(str(output), shown.nodes, command, reduced.builds, shown.worst)


def command_for(folder: Path, target: str, options: Sequence[str]) -> str:
    """What builds the reduced model and shows that it is wrong."""
    model, package = str(folder / "model.onnx"), str(folder / "package")
    build = shlex.join(["deploycc", "build", model, "--target", target, *options, "-o", package])
    inputs = str(folder / "inputs.npz")
    return f"{build} && {shlex.join(['deploycc', 'verify', package, '--model', model, '--inputs', inputs])}"


def read_arrays(path: Path) -> dict[str, Array]:
    """What ``save_arrays`` wrote."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def _size(one: TensorDifference) -> float:
    return finite(float("inf") if one.unexpected else one.max_scaled)
