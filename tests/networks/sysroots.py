"""C libraries of other machines, so that an emulator can run programs that load shared libraries."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pinned import ROOT

_DOWNLOAD_SECONDS = 120


class SysrootUnavailable(Exception):
    """The C library of a machine is neither installed nor can it be downloaded; the text says why."""


@dataclass(frozen=True)
class _Library:
    """Debian's cross package of a C library, and the folder under /usr it installs to."""

    package: str
    folder: str


_LIBRARIES = {
    "EM_AARCH64": _Library("libc6-arm64-cross", "aarch64-linux-gnu"),
    "EM_ARM": _Library("libc6-armhf-cross", "arm-linux-gnueabihf"),
    "EM_RISCV": _Library("libc6-riscv64-cross", "riscv64-linux-gnu"),
}


def sysroot(elf_machine: str) -> Path:
    """The folder to give ``qemu -L`` for a machine: installed under /usr, else unpacked into .cache/.

    Raises ``SysrootUnavailable``.
    """
    library = _LIBRARIES[elf_machine]
    installed = Path("/usr") / library.folder
    if (installed / "lib" / "libc.so.6").exists():
        return installed
    place = ROOT / ".cache" / "sysroots" / library.package
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{library.package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            _unpack(library, place)
    return place / "usr" / library.folder


def _unpack(library: _Library, place: Path) -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise SysrootUnavailable(f"{library.package} is not installed, and {missing[0]} is missing")
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        done = subprocess.run(
            ["apt-get", "download", library.package],
            check=False, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS,
        )  # fmt: skip
        archives = list(Path(folder).glob("*.deb"))
        if done.returncode != 0 or not archives:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SysrootUnavailable(f"apt-get cannot download {library.package}: {last}")
        subprocess.run(["dpkg-deb", "-x", archives[0], Path(folder) / "root"], check=True, timeout=60)
        os.replace(Path(folder) / "root", place)
