"""Who takes part: packages and engines, each launch a fresh process that then waits to be asked for runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deploycc.running import Orders, Package, Place, Session
from deploycc.running.session import LIMIT_SECONDS
from deploycc.timing.peers import Array, Peer
from deploycc.types import DeployccError, Diagnostic

_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pathlib import Path; from deploycc.timing.peer_worker import main; main(Path(sys.argv[2]))"
)


@dataclass(frozen=True)
class Setting:
    """What all contestants get: ``inputs`` in the package's order, threads, processors to be pinned to."""

    inputs: Sequence[Array]
    threads: int
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Start:
    """What a launch was but for its timed runs.  Microseconds; ``peak_kib`` over the idle process."""

    load_us: float
    create_us: float
    cold_us: float
    peak_kib: int
    outputs: list[Array] = field(default_factory=list)


class Launched(Protocol):
    """A contestant's process."""

    def ask(self, runs: int) -> list[float]:
        """So many more runs, their times in microseconds.  Raises ``DeployccError``."""

    def finish(self) -> Start:
        """End it.  Raises ``DeployccError``."""


class Contestant(Protocol):
    """A package or an engine."""

    @property
    def name(self) -> str:
        """As tables and verdicts call it."""

    @property
    def version(self) -> str:
        """Of what it is."""

    def launch(self, setting: Setting) -> AbstractContextManager[Launched]:
        """A fresh process that has made its first run."""


@dataclass(frozen=True)
class PackageContestant:
    """A package at a place; outputs in the order of ``outputs`` by name."""

    name: str
    package: Package
    place: Place
    outputs: tuple[str, ...]

    @property
    def version(self) -> str:
        """Of the deploycc that built it."""
        return str(self.package.manifest["deploycc"])

    @contextlib.contextmanager
    def launch(self, setting: Setting) -> Iterator[Launched]:
        """A fresh driver.  Raises ``DeployccError`` as ``Session`` does."""
        orders = Orders(threads=setting.threads, cpus=setting.cpus, serve=True)
        with Session(self.package, self.place, setting.inputs, orders) as session:
            yield _PackageLaunched(session, self)


@dataclass(frozen=True)
class _PackageLaunched:
    session: Session
    contestant: PackageContestant

    def ask(self, runs: int) -> list[float]:
        return self.session.ask(runs)

    def finish(self) -> Start:
        told = self.session.finish()
        names = [tensor["name"] for tensor in self.contestant.package.manifest["outputs"]]
        by_name = dict(zip(names, told.outputs, strict=True))
        return Start(
            told.load_us,
            told.create_us,
            told.first_us,
            max(0, told.peak_kib - told.idle_kib),
            [by_name[name] for name in self.contestant.outputs],
        )


@dataclass(frozen=True)
class EngineContestant:
    """An engine with ``model``, static and converted for it.

    ``inputs`` says which of the setting's each input of the model is, ``outputs`` which of the model's each
    output is to be.
    """

    peer: Peer
    model: Path
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    limit: float = LIMIT_SECONDS

    @property
    def name(self) -> str:
        """The engine's."""
        return self.peer.name

    @property
    def version(self) -> str:
        """Of the installed engine."""
        return self.peer.version

    @contextlib.contextmanager
    def launch(self, setting: Setting) -> Iterator[Launched]:
        """A fresh worker.  Raises ``DeployccError`` (DC834)."""
        with tempfile.TemporaryDirectory(prefix="deploycc-peer-") as name:
            folder = Path(name)
            for number, index in enumerate(self.inputs):
                np.save(folder / f"input_{number}.npy", setting.inputs[index])
            orders = {
                "peer": self.peer.name,
                "model": str(self.model),
                "threads": setting.threads,
                "cpus": setting.cpus,
                "inputs": len(self.inputs),
            }
            (folder / "orders.json").write_text(json.dumps(orders), encoding="utf-8")
            launched = _EngineLaunched(self, folder)
            try:
                yield launched
            finally:
                launched.close()


class _EngineLaunched:
    """The conversation with a worker (``peer_worker``)."""

    def __init__(self, contestant: EngineContestant, folder: Path) -> None:
        self._contestant, self._folder = contestant, folder
        self._told: dict[str, Any] = {}
        self._timed_out = False
        with (folder / "stderr.txt").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOTSTRAP, json.dumps(sys.path), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._timer = threading.Timer(contestant.limit, self._stop)
        self._timer.start()

    def ask(self, runs: int) -> list[float]:
        assert self._process.stdin is not None
        self._until("first_us")
        try:
            self._process.stdin.write(f"{runs}\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None
        return list(self._line()["run_us"])

    def finish(self) -> Start:
        assert self._process.stdin is not None
        self._until("first_us")
        self._process.stdin.close()
        self._until("peak_kib")
        if self._process.wait() != 0:
            raise self._failed()
        told = self._told
        found = [
            np.load(self._folder / f"output_{index}.npy", allow_pickle=False)
            for index in self._contestant.outputs
        ]
        return Start(
            told["load_us"],
            told["create_us"],
            told["first_us"],
            max(0, told["peak_kib"] - told["idle_kib"]),
            found,
        )

    def close(self) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _until(self, key: str) -> None:
        while key not in self._told:
            self._told |= self._line()

    def _line(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        try:
            return dict(json.loads(self._process.stdout.readline()))
        except ValueError:
            raise self._failed() from None

    def _stop(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _failed(self) -> DeployccError:
        status = self._process.wait()
        failure, errors = self._folder / "failure.txt", self._folder / "stderr.txt"
        said = failure.read_text(encoding="utf-8") if failure.is_file() else ""
        if self._timed_out:
            said = f"stopped after {self._contestant.limit:g} s"
        elif not said:
            last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            said = f"exit status {status}" + "".join(f": {line[:300]}" for line in last)
        return engine_failed(self._contestant.peer, said)


def engine_failed(peer: Peer, said: str) -> DeployccError:
    """DC834: what an engine said when it failed."""
    return DeployccError(
        Diagnostic(
            "DC834",
            f"{peer.title} {peer.version} does not run the model",
            got=said,
            need="an engine that takes the whole network",
            help=f"leave {peer.name} out of --against",
        )
    )
