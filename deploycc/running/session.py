"""A package opened and run: the folder that the driver works in, and the conversation with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.packaging.manifest import inspect, read_manifest
from deploycc.packaging.variants import count_of, parted, view_of
from deploycc.running.chips import arch_of
from deploycc.running.orders import Dump, Orders
from deploycc.running.places import Place
from deploycc.running.program import driver_for
from deploycc.types import DeployccError, Diagnostic

Array = npt.NDArray[Any]

LIMIT_SECONDS = 900.0
"""Longest that a package may take for what its orders say, unless told otherwise."""


@dataclass(frozen=True)
class Package:
    """A package folder whose files were checked against its manifest.

    Of one for several shapes it is one variant, and the manifest is as if there were no other; of one for
    several GPU chips it is one chip, the first unless told.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The library's name."""
        return str(self.manifest["name"])

    @property
    def variant(self) -> int | None:
        """Which variant it is of a package for several shapes."""
        return self.manifest.get("variant")

    @property
    def chip(self) -> str:
        """The architecture (``sm_90``) whose steps the manifest's ``calls`` are; empty without a GPU."""
        return arch_of(self.manifest)

    @property
    def reference(self) -> str:
        """What ``open_package`` takes for it: the path, ``PATH@N`` for a variant."""
        return str(self.path) if self.variant is None else f"{self.path}@{self.variant}"

    def golden(self, role: str) -> list[Array]:
        """The golden ``inputs`` or ``outputs``."""
        files = self.manifest["golden"][role]
        return [
            _read(self.path / file, tensor) for file, tensor in zip(files, self.manifest[role], strict=True)
        ]


@dataclass(frozen=True)
class Measured:
    """What the driver told.  Times in microseconds, memory in KiB.

    ``outputs`` are the last run's; ``dumps`` what each dump of the orders copied, as bytes; ``step_ns`` has a
    row for each run in which steps were timed (nanoseconds by step), ``observed_us`` these runs' own times,
    and ``timer_ns`` is what one look at the clock took, which is part of each step's time.
    """

    outputs: list[Array]
    load_us: float
    create_us: float
    first_us: float
    run_us: list[float]
    idle_kib: int
    peak_kib: int
    threads: int
    dumps: Mapping[Dump, bytes] = field(default_factory=dict)
    observed_us: list[float] = field(default_factory=list)
    step_ns: npt.NDArray[np.uint64] | None = None
    timer_ns: float = 0.0
    gpu: str = ""
    """The GPU's own name, of a package for GPUs."""


@dataclass(frozen=True)
class Probed:
    """Which GPU a package for GPUs runs on at a place.

    ``gpu`` is its own name, ``chip`` the number of that of the package's chips whose kernels it gets, and
    ``code`` says in which form: ``cubin sm_90``, ``ptx sm_90``.
    """

    gpu: str
    chip: int
    code: str


def open_package(path: str | Path) -> Package:
    """The package at ``path``; ``PATH@N`` is its variant N, and ``PATH`` the first of several.

    Raises ``DeployccError`` as ``deploycc.packaging.inspect`` does, and DC244 if there is no such variant.
    """
    folder, number = parted(path)
    root = folder.absolute()
    manifest = inspect(root)
    if number is not None or count_of(manifest) > 1:
        manifest = view_of(manifest, number or 0, folder.name)
    return Package(root, manifest)


def variants_of(path: str | Path) -> list[Package]:
    """The package at ``path`` as each of its variants: one for a single shape, or if ``PATH@N`` names it."""
    first = open_package(path)
    if first.variant is None or parted(path)[1] is not None:
        return [first]
    root, manifest = first.path, read_manifest(first.path)
    return [Package(root, view_of(manifest, number, root.name)) for number in range(count_of(manifest))]


def run(
    package: Package, place: Place, inputs: Sequence[Array], orders: Orders, limit: float = LIMIT_SECONDS
) -> Measured:
    """Run a package on ``inputs`` as ``orders`` say, and return what came of it.

    Raises ``DeployccError``: DC805 where the program fails or takes longer than ``limit`` seconds, and what
    ``driver_for`` and the place raise.
    """
    with Session(package, place, inputs, orders, limit) as session:
        return session.finish()


def probe(package: Package, place: Place, limit: float = LIMIT_SECONDS) -> Probed:
    """Which GPU the package finds at ``place``.  Raises ``DeployccError`` as ``run`` does."""
    with Session(package, place, (), Orders(probe=True), limit) as session:
        return session.probed()


class Session:
    """The driver at work, to be used in a ``with`` statement: it ends with the block, however that ends."""

    def __init__(
        self,
        package: Package,
        place: Place,
        inputs: Sequence[Array],
        orders: Orders,
        limit: float = LIMIT_SECONDS,
    ) -> None:
        self.package, self.place, self.orders, self.limit = package, place, orders, limit
        self._inputs = inputs
        self._told: dict[str, Any] = {}
        self._errors: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._timed_out = False

    def __enter__(self) -> Session:
        self._folder = tempfile.TemporaryDirectory(prefix="deploycc-run-")
        try:
            folder = Path(self._folder.name)
            self._prepare(folder)
            try:
                self._process = self.place.start(folder)
            except OSError as error:  # no interpreter, another machine's program
                raise self._cannot_run(str(error)) from None
            assert self._process.stderr is not None
            reader = threading.Thread(target=self._collect, args=(self._process.stderr,), daemon=True)
            reader.start()
            self._reader = reader
            self._timer = threading.Timer(self.limit, self._stop)
            self._timer.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    def ask(self, runs: int) -> list[float]:
        """``runs`` more runs and their times (``Orders.serve``).  Raises ``DeployccError`` (DC805)."""
        assert self._process is not None
        assert self._process.stdin is not None
        while "run_us" not in self._told:
            self._line()
        try:
            self._process.stdin.write(f"{runs}\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None
        if self.orders.steps and "observed_us" not in self._told:
            self._line()
        return list(self._line(served=True)["run_us"])

    def probed(self) -> Probed:
        """The GPU, once it is told.  Raises ``DeployccError`` (DC805)."""
        while "chip" not in self._told:
            self._line()
        return Probed(str(self._told["gpu"]), int(self._told["chip"]), str(self._told["code"]))

    def finish(self) -> Measured:
        """What it told, once it has ended.  Raises ``DeployccError`` (DC805)."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._folder is not None
        self._process.stdin.close()
        while "peak_kib" not in self._told:
            self._line()
        if self._process.wait() != 0:
            raise self._failed()
        folder = Path(self._folder.name)
        self.place.fetch(folder)
        try:
            return self._measured(folder)
        except (OSError, ValueError) as error:
            raise self._cannot_run(f"broken results: {error}") from None

    def _measured(self, folder: Path) -> Measured:
        told = self._told
        return Measured(
            outputs=[
                _read(folder / f"output_{i}.bin", tensor)
                for i, tensor in enumerate(self.package.manifest["outputs"])
            ],
            dumps=self._dumps(folder),
            step_ns=self._steps(folder),
            **{key: told[key] for key in ("load_us", "create_us", "first_us", "run_us")},
            **{key: told[key] for key in ("idle_kib", "peak_kib", "threads")},
            observed_us=told.get("observed_us", []),
            timer_ns=told.get("timer_ns", 0.0),
            gpu=told.get("gpu", ""),
        )

    # ---- the folder ----

    def _prepare(self, folder: Path) -> None:
        manifest, root = self.package.manifest, self.package.path
        shutil.copy(driver_for(root, manifest), folder / "driver")
        shared = sorted((root / "lib").glob("lib*.so*"))
        for path in shared:
            if not path.is_symlink():
                shutil.copy(path, folder / path.name)
        tensors = () if self.orders.probe else manifest["inputs"]
        for number, (array, tensor) in enumerate(zip(self._inputs, tensors, strict=True)):
            if array.dtype.name != tensor["dtype"] or list(array.shape) != tensor["shape"]:
                raise ValueError(f"input {number} is {array.dtype}{list(array.shape)}")
            (folder / f"input_{number}.bin").write_bytes(_little(array).tobytes())
        library = f"./lib{manifest['name']}.so"
        orders = self.orders.text(library if shared else "")
        if self.package.variant is not None:
            orders += f"variant {self.package.variant}\n"
        (folder / "orders.txt").write_text(orders, encoding="ascii")

    def _dumps(self, folder: Path) -> dict[Dump, bytes]:
        dumps = self.orders.ordered_dumps()
        if not dumps:
            return {}
        found, at = {}, 0
        data = memoryview((folder / "dump.bin").read_bytes())
        for dump in dumps:
            found[dump] = bytes(data[at : at + dump.nbytes])
            at += dump.nbytes
        return found

    def _steps(self, folder: Path) -> npt.NDArray[np.uint64] | None:
        if not self.orders.steps:
            return None
        count = len(self.package.manifest["calls"])
        rows = len(self._told["observed_us"])
        return np.fromfile(folder / "steps.bin", np.dtype("<u8")).astype(np.uint64).reshape(rows, count)

    # ---- the conversation ----

    def _collect(self, stream: Any) -> None:
        with stream:
            self._errors.append(stream.read())

    def _line(self, served: bool = False) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # a device's login shell may have something to say
            line = self._process.stdout.readline()
        try:
            told = json.loads(line)
        except ValueError:
            raise self._failed() from None
        if not served:
            self._told |= told
        return dict(told)

    def _stop(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        """End the program and what it started: a runner may be a script around the emulator."""
        # Until it is reaped, its number is no other process's.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _failed(self) -> DeployccError:
        assert self._process is not None
        with contextlib.suppress(OSError):
            if self._process.stdin is not None and not self._process.stdin.closed:
                self._process.stdin.close()
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.wait()
        if self._reader is not None:
            self._reader.join(timeout=5)
        said = "".join(self._errors).strip()[-600:]
        got = f"stopped after {self.limit:g} s" if self._timed_out else said or _ended(status)
        return self._cannot_run(got)

    def _cannot_run(self, got: str) -> DeployccError:
        return DeployccError(
            Diagnostic(
                "DC805",
                f"the package {self.package.name} could not be run on {self.place.shown}",
                got=got,
                need="a run of its library that ends with status 0",
                help="'deploycc inspect' tells which machine, C library and instructions it needs",
            )
        )

    def _clean(self) -> None:
        if hasattr(self, "_timer"):
            self._timer.cancel()
        if self._process is not None:
            self._kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None and not stream.closed:
                        stream.close()
        self.place.leave()
        if self._folder is not None:
            self._folder.cleanup()


def _ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    unknown = " (an instruction that this processor does not know)" if name == "SIGILL" else ""
    return f"ended by {name}{unknown}"


def _read(path: Path, tensor: Mapping[str, Any]) -> Array:
    dtype = np.dtype(tensor["dtype"])
    data = np.fromfile(path, dtype.newbyteorder("<")).astype(dtype, copy=False)
    return data.reshape(tensor["shape"])


def _little(array: Array) -> Array:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
