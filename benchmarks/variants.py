"""Several packages of one network against one another: built with other records, run in turns on one core."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.building import build
from benchmarks.library import PackageLibrary
from benchmarks.measuring import interleave, median_ms, pin
from benchmarks.networks import networks
from benchmarks.pinned import ROOT
from benchmarks.reference import OnnxRuntime, allowed_error, largest_error
from benchmarks.run import static_model


def build_variants(
    network: str, target: str, options: Mapping[str, Sequence[str]], keep: bool = False
) -> dict[str, Path]:
    """A package under ``out/variants`` for each variant: words for ``deploycc build`` by its name."""
    folder = ROOT / "out" / "variants" / target / network
    made = {name: folder / name for name in options}
    for name, words in options.items():
        if not (keep and made[name].is_dir()):
            build(network, target, made[name], words)
    return made


def time_variants(network: str, packages: Mapping[str, Path], rounds: int = 21) -> dict[str, float]:
    """Median ms of a run of each package, in a process of its own that is pinned to one core.

    Raises ``ValueError`` for a result that is not ONNX Runtime's.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_time, network, packages, rounds).result(timeout=900)


def _time(network: str, packages: Mapping[str, Path], rounds: int) -> dict[str, float]:
    pin(1)
    model = static_model(network)
    engine = OnnxRuntime(model)
    inputs = engine.random_inputs(networks()[network].inputs)
    want = engine.bind(inputs)
    libraries = {name: PackageLibrary(package) for name, package in packages.items()}
    for name, library in libraries.items():
        error = largest_error(library.bind(inputs), want)
        if error > allowed_error(model, inputs, want, error):
            raise ValueError(f"{network}, {name}: off by {error:.2g} of the largest value")
    times = interleave([library.run for library in libraries.values()], rounds, 0.02)
    return {name: median_ms(seconds) for name, seconds in zip(libraries, times, strict=True)}
