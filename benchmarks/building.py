"""Packages of the pinned networks, built the way a user builds them: by the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.networks import Network, fetch, networks
from benchmarks.pinned import ROOT


class BuildFailed(Exception):
    """``deploycc build`` refused or failed; the text is what it said."""


@dataclass(frozen=True)
class Built:
    """A package folder, and the wall seconds its build took (0 where an old one was kept)."""

    network: Network
    package: Path
    seconds: float


def package_folder(name: str, target: str) -> Path:
    """Where the package of a network lies: ``out/networks/TARGET/NAME`` of the checkout."""
    return ROOT / "out" / "networks" / target / name


def build(
    name: str,
    target: str,
    folder: Path | None = None,
    options: Sequence[str] = (),
    limit_seconds: float = 1800,
) -> Built:
    """Build network ``name`` for ``target`` into ``folder``; a package that lies there is replaced.

    ``options`` are more words for ``deploycc build``.  Raises ``BuildFailed`` and ``FileUnavailable``.
    """
    network = networks()[name]
    model = fetch(name)
    folder = folder or package_folder(name, target)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "deploycc", "build", str(model), "--target", target, "--name", name]
    command += ["-o", str(folder), *network.shape_arguments, *options]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=limit_seconds, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{name} for {target}: took over {limit_seconds:.0f} s") from None
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise BuildFailed(f"{name} for {target}: exit status {done.returncode}\n{said}")
    return Built(network, folder, seconds)


def build_or_keep(name: str, target: str, keep: bool, options: Sequence[str] = ()) -> Built:
    """``build``, or with ``keep`` the package that an earlier call left."""
    folder = package_folder(name, target)
    if keep and folder.is_dir():
        return Built(networks()[name], folder, 0.0)
    return build(name, target, options=options)
