"""An AArch64 Python with numpy, ONNX Runtime and ncnn for QEMU: Debian packages and wheels in a folder.

Nothing is installed and no root is needed: apt works on lists and folders of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pinned import ROOT

DEBIAN_PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libstdc++6", "libgcc-s1",
    "libgomp1", "libexpat1", "zlib1g", "libffi8", "libbz2-1.0", "liblzma5", "libssl3",
)  # fmt: skip
WHEELS = ("numpy==2.4.6", "onnxruntime==1.31.1", "ncnn==1.0.20261020")
CPU = "neoverse-n1"
"""What QEMU is told to be: Armv8.2-A with half precision and dot product, without SVE."""
EMULATOR = ("qemu-aarch64", "-cpu", CPU)
_SECONDS = 600
_CPUINFO = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
"""What a Neoverse N1 says.  QEMU 7.2 shows this machine's /proc/cpuinfo, at which ONNX Runtime crashes."""


class Arm64Unavailable(Exception):
    """The AArch64 Python cannot be put together; the text says why."""


@dataclass(frozen=True)
class Arm64Python:
    """``root`` is to be given to ``qemu -L``, ``site`` is Python's path of modules."""

    root: Path
    site: Path

    @property
    def emulator(self) -> list[str]:
        """The emulator's words, this root and Python's environment among them."""
        # Hash seed and one thread: the count must not depend on chance or on this machine's cores.
        settings = [f"PYTHONPATH={self.site}", f"PYTHONHOME={self.root / 'usr'}", "PYTHONHASHSEED=0"]
        settings += ["OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1"]
        return [*EMULATOR, "-L", str(self.root), *(word for each in settings for word in ("-E", each))]

    @property
    def interpreter(self) -> str:
        """Python's own path."""
        return str(self.root / "usr" / "bin" / "python3.11")


def arm64_python() -> Arm64Python:
    """The folder with everything in it, downloaded at the first call.  Raises ``Arm64Unavailable``."""
    key = hashlib.sha256(repr((DEBIAN_PACKAGES, WHEELS, _CPUINFO)).encode()).hexdigest()[:12]
    place = ROOT / ".cache" / "arm64" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
            if missing:
                raise Arm64Unavailable(f"{missing[0]} is missing; Debian packages are unpacked with it")
            with tempfile.TemporaryDirectory(dir=place.parent) as folder:
                _fill(Path(folder))
                made = Path(folder) / "made"
                os.replace(made, place)
    return Arm64Python(place / "root", place / "site")


def _fill(folder: Path) -> None:
    root, site = folder / "made" / "root", folder / "made" / "site"
    root.mkdir(parents=True)
    for archive in _debian_archives(folder / "apt"):
        _run(["dpkg-deb", "-x", str(archive), str(root)], folder)
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--dest", str(wheels)]
    for tag in ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64"):
        command += ["--platform", tag]
    _run([*command, *WHEELS], folder)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as content:
            content.extractall(site)
    # QEMU looks for what a program opens below its root first.
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(_CPUINFO)
    processors = root / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("present", "possible", "online"):
        (processors / name).write_text("0\n")


def _debian_archives(folder: Path) -> list[Path]:
    for name in ("lists/partial", "cache/archives/partial", "archives"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
    }
    apt = ["apt-get", "-q", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], folder)
    _run([*apt, "download", *DEBIAN_PACKAGES], folder / "archives")
    return sorted((folder / "archives").glob("*.deb"))


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Arm64Unavailable(f"{command[0]} took over {_SECONDS} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Arm64Unavailable(f"{' '.join(command[:3])} failed: {last}")
