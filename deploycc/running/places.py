"""Where a package runs: on this machine, under an emulator, or on a device behind ``ssh``."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import platform
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from deploycc.packaging.interface import ABI_VERSION
from deploycc.types import DeployccError, Diagnostic

RESULTS = ("output_*.bin", "dump.bin", "steps.bin")
"""What the driver leaves in its folder."""

TRANSFER_SECONDS = 600.0
"""Longest that copying to or from a device may take."""

_LEAVE_SECONDS = 60.0

_PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_CPU_OPTIONS = {
    "x86_64": ("-cpu", "max"),
    "riscv64": ("-cpu", "rv64,v=true,vlen=128,zba=true,zbb=true,zbs=true"),
}
"""What qemu has to be told to have all that packages use; for Arm it has everything as it is."""

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
    that is not there, DC803 for an emulator without a C library, DC806 for a package of another interface.
    """
    _check_interface(manifest)
    try:
        words = shlex.split(runner) if runner else []
    except ValueError as error:
        raise _not_found(runner or "", str(error)) from None
    processor = processor_of(manifest)
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
        words = [Path(found).name, *_CPU_OPTIONS.get(processor, ())]
    if shutil.which(words[0]) is None:
        raise _not_found(words[0], runner or words[0])
    if Path(words[0]).name == "ssh":
        return _Ssh(tuple(words))
    return _Local((*words, *_sysroot(words, processor, manifest)))


def _check_interface(manifest: Mapping[str, Any]) -> None:
    version = manifest["interface"].get("abi_version", ABI_VERSION)
    if version != ABI_VERSION:
        raise DeployccError(
            Diagnostic(
                "DC806",
                "the package has the C interface of another deploycc, without what watches its steps",
                got=f"ABI version {version}",
                need=f"ABI version {ABI_VERSION}",
                help="build the package again",
            )
        )


def _not_found(runner: str, got: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC801",
            f"the runner '{runner}' was not found",
            got=got,
            need="a program on PATH: an emulator, or ssh",
            help="install it, or give its path",
        )
    )


def _family(processor: str) -> str:
    return "arm" if processor.startswith(("arm", "thumb")) and processor != "arm64" else processor


def _sysroot(words: list[str], processor: str, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """``-L FOLDER`` for an emulator of qemu that loads a shared library."""
    emulated = any(Path(word).name.startswith("qemu-") for word in words)
    if not emulated or manifest["interface"]["emit"] != "shared" or "-L" in words:
        return ()
    if "QEMU_LD_PREFIX" in os.environ or _family(processor) not in _CROSS_LIBRARIES:
        return ()
    folder, package = _CROSS_LIBRARIES[_family(processor)]
    if manifest["target"]["libc"] == "musl":
        if any(Path("/lib").glob("ld-musl-*")):
            return ()
        raise _no_library(words, processor, "no /lib/ld-musl-*", "get musl for that machine")
    if (Path("/usr") / folder / "lib" / "libc.so.6").exists():
        return ("-L", f"/usr/{folder}")
    raise _no_library(words, processor, f"no /usr/{folder}/lib/libc.so.6", f"apt install {package}")


def _no_library(words: list[str], processor: str, got: str, remedy: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC803",
            f"the emulator has no C library for {processor}, which the package's shared library loads",
            got=got,
            need="the C library of that machine, or a package built with --emit static",
            help=f"{remedy}, or give its folder: --runner '{shlex.join(words)} -L FOLDER'",
        )
    )


def processor_of(manifest: Mapping[str, Any]) -> str:
    """The processor that a package is for, as ``platform.machine()`` of such a machine says."""
    return str(manifest["target"]["llvm_triple"]).split("-")[0]


def is_remote(place: Place) -> bool:
    """Whether it is a device behind ``ssh``."""
    return isinstance(place, _Ssh)


def with_environment(place: Place, environment: Mapping[str, str], shown: str) -> Place:
    """``place``, which is of this machine, with these variables for what runs there, under another name."""
    if not isinstance(place, _Local):
        raise TypeError(f"{place.shown} is another machine")
    return _Local(place.prefix, shown, environment)


class _Local:
    """This machine, ``prefix`` before the program."""

    def __init__(
        self, prefix: tuple[str, ...], shown: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        self.prefix, self.environment = prefix, dict(environment or {})
        self.shown = shown or (shlex.join(prefix) if prefix else "this machine")

    def start(self, folder: Path) -> subprocess.Popen[str]:
        return _popen([*self.prefix, str(folder / "driver"), str(folder)], self.environment)

    def fetch(self, folder: Path) -> None:
        pass

    def leave(self) -> None:
        pass


_SSH_OPTIONS = {"BatchMode": "yes", "ConnectTimeout": "30", "ServerAliveInterval": "15"}
"""Nothing is asked, and a host that is away is told in half a minute."""

_MARK = "-- deploycc --"
"""Comes before a command's own output: the login shell may have printed something."""

_UNPACK = """\
d=$(mktemp -d) && cd "$d" && { tar -x -f - && pwd || { rm -rf "$d"; exit 1; }; }"""
"""Each connection takes a while, so there are three: copy and unpack, run, copy back and remove."""

_END = """\
p=$(cat {where}/pid 2>/dev/null) && [ "$(readlink /proc/$p/cwd)" = "$(cd {where} && pwd -P)" ] && kill -9 $p
rm -rf {where}"""
"""Ends the program if it still runs: by its number, and only if that process works in the folder."""


class _Ssh:
    """A device: a temporary folder there gets everything, and goes at the end."""

    def __init__(self, words: tuple[str, ...]) -> None:
        own = [
            word
            for name, value in _SSH_OPTIONS.items()
            if not any(name.lower() in given.lower() for given in words)
            for word in ("-o", f"{name}={value}")
        ]
        self.words = (words[0], *own, *words[1:])
        self.shown = shlex.join(words)
        self.remote = ""

    def start(self, folder: Path) -> subprocess.Popen[str]:
        with io.BytesIO() as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, path.name, filter=_nobodys)
            made = self._call(_UNPACK, "copy the package there", packed.getvalue())
        self.remote = made.decode(errors="replace").removesuffix("\n")
        command = f"cd {shlex.quote(self.remote)} && echo $$ >pid && exec ./driver ."
        return _popen([*self.words, self._shell(command)])

    def fetch(self, folder: Path) -> None:
        where, names = shlex.quote(self.remote), " ".join(RESULTS)
        command = f"cd {where} && tar -c -f - $(ls -d {names} 2>/dev/null) && rm -rf {where}"
        packed = self._call(command, "copy the results back")
        self.remote = ""
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                for member in archive:
                    if member.isfile() and any(fnmatch.fnmatchcase(member.name, name) for name in RESULTS):
                        data = archive.extractfile(member)
                        assert data is not None
                        (folder / member.name).write_bytes(data.read())
        except tarfile.TarError as error:
            raise self._unusable("copy the results back", f"no archive: {error}") from None

    def leave(self) -> None:
        if not self.remote:
            return
        command = self._shell(_END.format(where=shlex.quote(self.remote)))
        self.remote = ""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*self.words, command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LEAVE_SECONDS,
                check=False,
            )

    def _shell(self, command: str) -> str:
        """The command for whatever shell the account has: fish and csh would read some of it otherwise."""
        return f"sh -c {shlex.quote(command)}"

    def _call(self, command: str, purpose: str, data: bytes = b"") -> bytes:
        words = [*self.words, self._shell(f"echo; echo {_MARK}; {command}")]
        try:
            done = subprocess.run(
                words, input=data, capture_output=True, timeout=TRANSFER_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._unusable(purpose, f"no answer in {TRANSFER_SECONDS:.0f} s") from None
        if done.returncode == 0:
            return done.stdout.partition(f"\n{_MARK}\n".encode())[2]
        why = done.stderr.decode(errors="replace").strip()[-400:] or f"exit status {done.returncode}"
        raise self._unusable(purpose, why)

    def _unusable(self, purpose: str, why: str) -> DeployccError:
        return DeployccError(
            Diagnostic(
                "DC804",
                f"the device could not be used: '{self.shown}' failed to {purpose}",
                got=why,
                need="a host that ssh reaches without a question, with mktemp and tar",
                help="try the same command by hand",
            )
        )


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without an owner: numbers of users here mean nothing there, and the oldest format has few digits."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _popen(command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """With a session of its own: what the command starts can then be ended with it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, **environment} if environment else None,
    )
