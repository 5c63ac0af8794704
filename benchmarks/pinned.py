"""Files of PyPI packages, fetched by pinned version and SHA-256 into a cache outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_DOWNLOAD_SECONDS = 300


class FileUnavailable(Exception):
    """A package cannot be downloaded, or does not hold the pinned file."""


@dataclass(frozen=True)
class PinnedFile:
    """A file called ``path`` inside the wheel of ``package`` ``version``, with this SHA-256."""

    package: str
    version: str
    path: str
    sha256: str

    @property
    def cached(self) -> Path:
        """Where the file lies once fetched."""
        name = Path(self.path)
        return cache_dir() / f"{self.package}-{self.version}" / f"{name.stem}-{self.sha256[:12]}{name.suffix}"


def cache_dir() -> Path:
    """Where fetched files lie: ``$DEPLOYCC_NETWORK_CACHE``, else ``.cache/networks`` of the checkout."""
    override = os.environ.get("DEPLOYCC_NETWORK_CACHE")
    return Path(override) if override else ROOT / ".cache" / "networks"


def fetch_file(wanted: PinnedFile, siblings: Sequence[PinnedFile] = ()) -> Path:
    """The path of ``wanted`` on this machine, downloading its package if it is not cached yet.

    ``siblings`` of the same package and version are kept from the same download.  Safe to call from
    several processes at once: one downloads, the others wait, and a file appears only when whole.
    Raises ``FileUnavailable`` when the package cannot be had or its file is not the pinned one.
    """
    if _is_whole(wanted):
        return wanted.cached
    wanted.cached.parent.mkdir(parents=True, exist_ok=True)
    with _lock(wanted.cached.parent / ".lock"):
        if not _is_whole(wanted):
            same = [s for s in siblings if (s.package, s.version) == (wanted.package, wanted.version)]
            _download(wanted, [wanted, *(s for s in same if s != wanted)])
    return wanted.cached


def _is_whole(file: PinnedFile) -> bool:
    return file.cached.is_file() and hashlib.sha256(file.cached.read_bytes()).hexdigest() == file.sha256


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(wanted: PinnedFile, files: Sequence[PinnedFile]) -> None:
    requirement = f"{wanted.package}=={wanted.version}"
    with tempfile.TemporaryDirectory(prefix="deploycc-download-") as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--dest", folder, requirement,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise FileUnavailable(f"downloading {requirement} took over {_DOWNLOAD_SECONDS} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise FileUnavailable(f"cannot download {requirement}: {last}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                _extract(archive, file)


def _extract(archive: zipfile.ZipFile, file: PinnedFile) -> None:
    try:
        content = archive.read(file.path)
    except KeyError:
        raise FileUnavailable(f"{file.package}=={file.version} holds no {file.path}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise FileUnavailable(
            f"{file.path} of {file.package}=={file.version} has SHA-256 {digest}, {file.sha256} is pinned"
        )
    with tempfile.NamedTemporaryFile(dir=file.cached.parent, prefix=".part-", delete=False) as part:
        part.write(content)
    os.chmod(part.name, 0o644)
    os.replace(part.name, file.cached)
