"""Where a package for GPUs runs: on this machine's GPU, on a device's, or with its PTX on the processor.

The third needs no GPU: the PTX in the package's library is translated to C (``deploycc.emulating``), and a
driver of our own, found in place of NVIDIA's, hands launches to what became of it.  So everything but the
machine code itself is what a GPU would get: the library, its launches, its copies, its memory.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from deploycc.running.chips import (
    arch_of,
    archs_of,
    is_for_gpus,
    library_of,
    number_of_chip,
    ptx_of,
    view_of_chip,
)
from deploycc.running.places import Place, is_remote, place_of, processor_of, with_environment
from deploycc.running.session import Package, probe
from deploycc.types import DeployccError, Diagnostic

_PROBE = """\
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
assert driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
print(count.value)
"""
_PROBE_SECONDS = 60.0


def place_for(
    package: Package, runner: str | None = None, chip: str | None = None, *, kernels: bool = True
) -> tuple[Package, Place]:
    """The place where ``package`` runs, and the package with the steps of the chip that it runs on there.

    Of a package without GPU kernels that is ``place_of``'s.  With ``chip`` (an architecture or a chip's
    name) that chip is emulated, whatever there is; without, and without a runner, this machine's GPU is
    taken, and where there is none the first of the package's chips is emulated.  Without ``kernels`` an
    emulated place is only named: nothing is translated, and nothing can run there.

    Raises ``DeployccError`` as ``place_of`` does; DC886 for a chip that the package has no kernels for, and
    for one beside a runner that leads elsewhere; DC887 for PTX that cannot be run here.
    """
    manifest = package.manifest
    if not is_for_gpus(manifest):
        if chip is not None:
            number_of_chip(manifest, chip, package.path.name)  # which says that there is none
        return package, place_of(runner, manifest)
    number = None if chip is None else number_of_chip(manifest, chip, package.path.name)
    place = place_of(runner, manifest)
    if is_remote(place) and chip is not None:
        raise DeployccError(
            Diagnostic(
                "DC886",
                "a chip is emulated on this machine alone",
                got=f"--chip {chip} and --runner '{runner}'",
                help="leave one of them out: a device runs the kernels of its own GPU",
            )
        )
    if number is None and not _emulates(package, place):
        if len(archs_of(manifest)) > 1:
            number = probe(package, place).chip
        return _as_chip(package, number or 0), place
    return emulated(package, place, number or 0, kernels)


def chips_to_run(
    package: Package, runner: str | None = None, chip: str | None = None
) -> tuple[str | None, ...]:
    """What ``place_for`` is to be asked for, one after the other, until all kernels were run that can be.

    That is each of the package's chips where they are emulated, else what is there alone.
    """
    if (
        chip is not None
        or not is_for_gpus(package.manifest)
        or not _emulates(package, place_of(runner, package.manifest))
    ):
        return (chip,)
    return archs_of(package.manifest)


def _emulates(package: Package, place: Place) -> bool:
    """Whether there is no GPU at a place.  Of a device that is left to be seen."""
    if is_remote(place):
        return False
    return processor_of(package.manifest) != platform.machine() or gpu_count() == 0


def is_emulated(place: Place) -> bool:
    """Whether the kernels of a GPU run on the processor there."""
    return place.shown.startswith(EMULATED)


EMULATED = "emulated "
"""How ``Place.shown`` begins where kernels of a GPU run on the processor."""


def emulated(package: Package, place: Place, number: int, kernels: bool) -> tuple[Package, Place]:
    """The package as its chip ``number``, and ``place`` (of this machine) with that chip emulated.

    Raises ``DeployccError`` (DC887, DC710 to DC712) where its PTX cannot be run on the processor.
    """
    package = _as_chip(package, number)
    arch = arch_of(package.manifest)
    shown = f"{EMULATED}{arch} (PTX on the processor{_besides(place)})"
    environment = _environment(package, arch, number) if kernels else {}
    return package, with_environment(place, environment, shown)


def _environment(package: Package, arch: str, number: int) -> dict[str, str]:
    from deploycc.emulating.building import build_module
    from deploycc.emulating.driver import emulated_driver, emulated_environment

    manifest = package.manifest
    texts = ptx_of(library_of(package.path, manifest), manifest, number)
    try:
        modules = [build_module(text, machine=processor_of(manifest)) for text in texts]
        driver = emulated_driver(manifest["target"]["linker_triple"])
    except DeployccError as error:
        raise _cannot_emulate(arch, error) from None
    log = os.environ.get(LOG)
    return emulated_environment(
        driver, arch=arch, modules=modules, log=None if log is None else Path(log), base=os.environ
    )


LOG = "DEPLOYCC_EMULATED_LOG"
"""Environment variable: a file that gets a line for each call of the emulated driver."""


@functools.cache
def gpu_count() -> int:
    """How many GPUs this machine's driver has; 0 without a driver.  Asked in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        return int(done.stdout) if done.returncode == 0 else 0
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def _as_chip(package: Package, number: int) -> Package:
    return replace(package, manifest=view_of_chip(package.manifest, number))


def _besides(place: Place) -> str:
    return "" if place.shown == "this machine" else f" under {place.shown}"


def _cannot_emulate(arch: str, error: DeployccError) -> DeployccError:
    first = error.diagnostics[0]
    return DeployccError(
        Diagnostic(
            "DC887",
            f"the kernels for {arch} cannot be run on the processor: {first.message}",
            got=first.got,
            need=first.need,
            help="run it where there is a GPU: --runner 'ssh HOST'",
        )
    )
