"""Where a package runs: on this machine, under an emulator, or on a device behind ``ssh``."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from deploycc.types import DeployccError, Diagnostic

RESULTS = ("output_*.bin", "dump.bin", "steps.bin")
"""What the driver leaves in its folder."""

TRANSFER_SECONDS = 600.0
"""Longest that copying to or from a device may take."""

_PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_CROSS_LIBRARIES = {
    "aarch64": ("aarch64-linux-gnu", "libc6-arm64-cross"),
    "arm": ("arm-linux-gnueabihf", "libc6-armhf-cross"),
    "riscv64": ("riscv64-linux-gnu", "libc6-riscv64-cross"),
}


class Place(Protocol):
    """Somewhere that the driver can run.  ``shown`` says where, for a report."""

    shown: str

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """Start ``driver`` of ``folder`` on what is in ``folder``, with pipes for its standard streams.

        Raises ``DeployccError`` (DC801, DC803).
        """

    def fetch(self, folder: Path) -> None:
        """Once it has ended: bring ``RESULTS`` into ``folder``."""

    def leave(self) -> None:
        """Remove what is left at the place."""


def place_of(runner: str | None, manifest: Mapping[str, Any]) -> Place:
    """The place that ``--runner`` names; without it this machine, or the emulator of the package's processor.

    ``runner`` is ``ssh [options] host``, or a command to put before a program (``qemu-aarch64-static``).
    qemu gets ``-L`` with the C library of Debian's cross packages where it needs one and has none.

    Raises ``DeployccError``: DC800 for a package of another processor without a runner, DC801 for a runner
    that is not there, DC803 for an emulator without a C library.
    """
    words = shlex.split(runner) if runner else []
    processor = manifest["target"]["llvm_triple"].split("-")[0]
    if not words:
        if _PROCESSORS.get(platform.machine()) == processor:
            return _Local(())
        emulator = f"qemu-{_family(processor)}"
        found = shutil.which(f"{emulator}-static") or shutil.which(emulator)
        if found is None:
            raise DeployccError(
                Diagnostic(
                    "DC800",
                    f"the package is for another machine ({processor}), and this is {platform.machine()}",
                    need="an emulator or a device",
                    help="apt install qemu-user-static, or give --runner 'ssh HOST'",
                )
            )
        words = [Path(found).name]
    if shutil.which(words[0]) is None:
        raise DeployccError(
            Diagnostic(
                "DC801",
                f"the runner '{words[0]}' was not found",
                got=runner or words[0],
                need="a program on PATH: an emulator, or ssh",
                help="install it, or give its path",
            )
        )
    if Path(words[0]).name == "ssh":
        return _Ssh(tuple(words))
    return _Local((*words, *_sysroot(words, processor, manifest)))


def _family(processor: str) -> str:
    return "arm" if processor.startswith(("arm", "thumb")) and processor != "arm64" else processor


def _sysroot(words: list[str], processor: str, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """``-L FOLDER`` for an emulator of qemu that loads a shared library for glibc."""
    dynamic = manifest["target"]["libc"] == "glibc" and manifest["interface"]["emit"] == "shared"
    if not dynamic or not Path(words[0]).name.startswith("qemu-") or "-L" in words:
        return ()
    if "QEMU_LD_PREFIX" in os.environ or _family(processor) not in _CROSS_LIBRARIES:
        return ()
    folder, package = _CROSS_LIBRARIES[_family(processor)]
    if (Path("/usr") / folder / "lib" / "libc.so.6").exists():
        return ("-L", f"/usr/{folder}")
    raise DeployccError(
        Diagnostic(
            "DC803",
            f"the emulator has no C library for {processor}, which the package's shared library loads",
            got=f"no /usr/{folder}/lib/libc.so.6",
            need="glibc of that machine, or a package built with --emit static",
            help=f"apt install {package}, or give its folder: --runner '{words[0]} -L FOLDER'",
        )
    )


class _Local:
    """This machine, ``prefix`` before the program."""

    def __init__(self, prefix: tuple[str, ...]) -> None:
        self.prefix = prefix
        self.shown = shlex.join(prefix) if prefix else "this machine"

    def start(self, folder: Path) -> subprocess.Popen[str]:
        return _popen([*self.prefix, str(folder / "driver"), str(folder)])

    def fetch(self, folder: Path) -> None:
        pass

    def leave(self) -> None:
        pass


class _Ssh:
    """A device: a temporary folder there gets everything, and goes at the end."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.shown = shlex.join(words)
        self.remote = ""

    def start(self, folder: Path) -> subprocess.Popen[str]:
        self.remote = self._call("mktemp -d", "make a folder").decode().strip()
        packed = subprocess.run(
            ["tar", "-c", "-h", "-C", str(folder), "."], capture_output=True, check=True
        ).stdout
        self._call(f"tar -x -C {shlex.quote(self.remote)}", "copy the package there", packed)
        where = shlex.quote(self.remote)
        return _popen([*self.words, f"{where}/driver {where}"])

    def fetch(self, folder: Path) -> None:
        where = shlex.quote(self.remote)
        packed = self._call(
            f"cd {where} && tar -c $(ls -d {' '.join(RESULTS)} 2>/dev/null)", "copy the results back"
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, stdout=subprocess.DEVNULL, check=True)

    def leave(self) -> None:
        if self.remote:
            subprocess.run(
                [*self.words, f"rm -rf {shlex.quote(self.remote)}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRANSFER_SECONDS,
                check=False,
            )
            self.remote = ""

    def _call(self, command: str, purpose: str, data: bytes = b"") -> bytes:
        try:
            done = subprocess.run(
                [*self.words, command], input=data, capture_output=True, timeout=TRANSFER_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            why = f"no answer in {TRANSFER_SECONDS:.0f} s"
        else:
            if done.returncode == 0:
                return done.stdout
            why = done.stderr.decode(errors="replace").strip()[-400:] or f"exit status {done.returncode}"
        raise DeployccError(
            Diagnostic(
                "DC804",
                f"the device could not be used: '{self.shown}' failed to {purpose}",
                got=why,
                need="a host that ssh reaches without a question, with mktemp and tar",
                help="try the same command by hand",
            )
        )


def _popen(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
