"""``deploycc profile``: what each layer of a package takes, where it runs.

The package's library runs in a program of its own (``deploycc.running``), here, under an emulator or on a
device.  Runs whose steps are timed take turns with runs that nobody watches, so the layers' sum can be
held against the whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deploycc.profiling import (
    chip_ceilings,
    device_ceilings,
    estimated_layers,
    layers_of,
    measured_ceilings,
    target_ceilings,
    timeline,
    why,
)
from deploycc.result_types import Ceilings, Layer, Profile
from deploycc.running import Orders, Package, Place, is_emulated, open_package, place_for, run
from deploycc.running.chips import is_for_gpus
from deploycc.running.inputs import inputs_of
from deploycc.types import DeployccError, Diagnostic

__all__ = ["FORMAT", "SECONDS", "profile", "profile_to_json", "why"]

FORMAT = "deploycc profile"
SECONDS = 2.0
"""About so long it measures, unless the number of runs is given."""
MOST_RUNS = 1000
_WARMUP = 3
_WATCHED_SINCE = 2
"""``NAME_observe`` is there since this version of packages' interface."""


def profile(
    package: str | Path,
    runner: str | None = None,
    *,
    threads: int = 1,
    runs: int | None = None,
    inputs: str | Path | Sequence[npt.NDArray[Any]] = "golden",
    ceilings: Literal["measured", "target"] = "measured",
    trace: str | Path | None = None,
    chip: str | None = None,
) -> Profile:
    """Run the package at ``package`` and return its layers' times and what they are worth.

    ``runner`` and ``chip`` are as for ``deploycc.running.place_for``.  ``threads`` counts the calling thread.
    ``runs`` timed ones; without it as many as ``SECONDS`` allow, between five and ``MOST_RUNS``.  ``inputs``
    are ``golden``, ``random``, arrays, or a file or folder (``running.inputs``).  ``ceilings`` are measured
    where the package runs, or ``target``: what its target's description tells, of all its cores.  ``trace``
    is a file that gets a timeline of some runs for Perfetto or chrome://tracing.

    A step's time is the median of the timed runs, less what one look at the clock costs there.

    Of a package for GPUs the steps are timed by the driver's events, which its library must have been built
    with (``--profile``).  Where the kernels run on the processor in place of a GPU nothing is timed: layers
    have what the chip's description allows at best.

    Raises ``DeployccError``: DC840, DC842, DC843, DC888, what ``open_package``, ``place_for`` and ``run``
    raise.
    """
    opened = open_package(package)
    _check_watchable(opened)
    arrays, _ = inputs_of(opened, inputs)
    opened, place = place_for(opened, runner, chip, kernels=False)
    on_gpu = is_for_gpus(opened.manifest)
    if is_emulated(place):
        estimate, step_ns = _estimated(opened, place, threads)
        if trace is not None:
            write(trace, json.dumps(timeline(estimate, step_ns), indent=1) + "\n")
        return estimate
    if on_gpu:
        _check_timers(opened)
    known = _ceilings(opened, place, threads, ceilings)
    orders = Orders(
        threads=threads,
        warmup=_WARMUP,
        runs=MOST_RUNS if runs is None else runs,
        seconds=SECONDS if runs is None else 0.0,
        steps=True,
    )
    measured = run(opened, place, arrays, orders)
    assert measured.step_ns is not None
    step_ns = np.maximum(measured.step_ns.astype(np.float64) - measured.timer_ns, 0.0)
    result = Profile(
        package=opened.name,
        place=f"{place.shown}, {measured.gpu}" if measured.gpu else place.shown,
        threads=measured.threads,
        runs=len(measured.run_us),
        method="timers" if opened.manifest["interface"].get("profile") else "observer",
        whole_us=float(np.median(measured.run_us)),
        timed_us=float(np.median(measured.observed_us)),
        ceilings=known,
        layers=layers_of(opened.manifest["calls"], step_ns, known, on_gpu),
        chip=opened.chip,
    )
    if trace is not None:
        write(trace, json.dumps(timeline(result, step_ns), indent=1) + "\n")
    return result


def _estimated(package: Package, place: Place, threads: int) -> tuple[Profile, npt.NDArray[np.floating[Any]]]:
    """What the chip's description allows at best, and the same as one row of nanoseconds."""
    ceilings = chip_ceilings(package.manifest)
    layers = estimated_layers(package.manifest["calls"], ceilings)
    found = Profile(
        package=package.name,
        place=place.shown,
        threads=threads,
        runs=0,
        method="estimates",
        whole_us=sum(layer.time_us for layer in layers),
        timed_us=0.0,
        ceilings=ceilings,
        layers=layers,
        chip=package.chip,
    )
    return found, np.array([[1e3 * layer.time_us for layer in layers]])


def _check_timers(package: Package) -> None:
    """An observer waits for the GPU after each step and copies its results: such times would mean nothing."""
    if not package.manifest["interface"].get("profile"):
        raise DeployccError(
            Diagnostic(
                "DC888",
                f"the package {package.name} has no timers, without which steps of a GPU cannot be timed",
                need="a library that was built with timers",
                help="build it with --profile",
            )
        )


def profile_to_json(profiled: Profile) -> dict[str, Any]:
    """JSON-able form, which ``result_types.from_json(Profile, ...)`` brings back; layers have ``why`` too."""
    table = {"format": FORMAT, "version": 1, **asdict(profiled)}
    table["layers"] = [_layer(layer, profiled.ceilings) for layer in profiled.layers]
    return table


def _layer(layer: Layer, ceilings: Ceilings | None) -> dict[str, Any]:
    return {**asdict(layer), "why": why(layer, ceilings)}


def write(path: str | Path, text: str) -> None:
    """The text as a file.  Raises ``DeployccError`` (DC843)."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DeployccError(
            Diagnostic(
                "DC843",
                f"the profile cannot be written to {path}",
                got=error.strerror or str(error),
                need="a file in a folder that is there and can be written to",
            )
        ) from None


def _check_watchable(package: Package) -> None:
    version = package.manifest["interface"].get("abi_version", 0)
    if version < _WATCHED_SINCE:
        raise DeployccError(
            Diagnostic(
                "DC840",
                f"the package {package.name} is from before runs could be watched",
                got=f"version {version} of the C interface",
                need=f"version {_WATCHED_SINCE} or newer",
                help="build the model again",
            )
        )


def _ceilings(
    package: Package, place: Place, threads: int, source: Literal["measured", "target"]
) -> Ceilings | None:
    if source == "target":
        return target_ceilings(package.manifest)
    if is_for_gpus(package.manifest):
        return device_ceilings(package.manifest, place)
    return measured_ceilings(package.manifest, place, threads)


def schema() -> dict[str, Any]:
    """The JSON schema of ``profile_to_json``'s table."""
    path = Path(__file__).parent / "reporting" / "schemas" / "profile-1.schema.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))
