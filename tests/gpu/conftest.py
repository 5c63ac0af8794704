"""The GPU of this machine, and packages for it; every test here is skipped where there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

import deploycc
from benchmarks.networks import networks
from deploycc.gpu_targets import ARCHITECTURES, gpu_names, load_gpu
from deploycc.tuning.tuner import devices_here

Devices = tuple[tuple[str, int, str], ...]


@pytest.fixture(scope="session")
def devices() -> Devices:
    """Architecture, processors and name of each GPU here."""
    found = devices_here()
    if not found:
        pytest.skip("no GPU here, or no driver")
    return found


@pytest.fixture(scope="session")
def target(devices: Devices) -> str:
    """The target of the first GPU: its own chip, else the newest architecture whose PTX it runs."""
    arch, processors, _ = devices[0]
    for name in gpu_names():
        gpu = load_gpu(name)
        if (gpu.arch, gpu.processors) == (arch, processors):
            return f"cuda:{name}"
    number = int(arch.removeprefix("sm_"))
    return f"cuda:{[one for one in ARCHITECTURES if int(one.removeprefix('sm_')) <= number][-1]}"


@pytest.fixture(scope="session")
def built(
    target: str, network: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """``built(network, precision, profile=False)``: a package folder, each built once."""
    root = tmp_path_factory.mktemp("packages")

    @functools.cache
    def build(name: str, precision: str = "fp32", profile: bool = False) -> Path:
        return deploycc.build(
            network(name),
            target,
            root / f"{name}-{precision}-{profile}",
            shapes=networks()[name].inputs,
            precision=precision,
            profile=profile,
        ).path

    return build
