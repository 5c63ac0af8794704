"""The way to a GPU of this machine, as if there were one: the emulated driver in the place of NVIDIA's."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from deploycc.bench import bench
from deploycc.emulating import build_module
from deploycc.emulating.driver import emulated_driver, emulated_environment
from deploycc.profile import profile, profile_to_json, schema
from deploycc.report import report
from deploycc.running import Package, chips_to_run, open_package, place_for
from deploycc.running.chips import library_of, ptx_of
from deploycc.timing.schedule import Effort
from deploycc.types import DeployccError
from deploycc.verify import verify

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="packages of this test are for x86-64")


@pytest.fixture(scope="session")
def timed(net: Path) -> Package:
    """The package, opened."""
    return open_package(net)


@pytest.fixture
def gpu_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Package, int], None]:
    """A function that puts a GPU into this machine: of the package's chip of that number."""

    def put(package: Package, chip: int) -> None:
        texts = ptx_of(library_of(package.path, package.manifest), package.manifest, chip)
        environment = emulated_environment(
            emulated_driver(),
            arch=package.manifest["target"]["gpus"][chip]["arch"],
            modules=[build_module(text) for text in texts],
            base=os.environ,
        )
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("deploycc.running.devices.gpu_count", lambda: 1)

    return put


def test_the_chip_that_fits_is_verified(timed: Package, gpu_here: Callable[[Package, int], None]) -> None:
    gpu_here(timed, 1)
    assert chips_to_run(timed) == (None,)
    package, place = place_for(timed)
    assert (package.chip, place.shown) == ("sm_90", "this machine")
    found = verify(timed.path)
    assert found.ok
    assert found.place == "this machine, Emulated GPU 0 (sm_90)"
    assert place_for(timed, chip="sm_75")[1].shown == "emulated sm_75 (PTX on the processor)"


def test_steps_are_timed_by_events(timed: Package, gpu_here: Callable[[Package, int], None]) -> None:
    gpu_here(timed, 1)
    found = profile(timed.path, runs=5)
    jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(profile_to_json(found))))
    assert (found.method, found.runs, found.chip) == ("timers", 5, "sm_90")
    assert not any(layer.estimated for layer in found.layers)
    assert sum(layer.time_us for layer in found.layers) > 0
    assert found.ceilings is not None
    assert "h100 (sm_90), fp32" in found.ceilings.source
    assert all(layer.roofline is None for layer in found.layers if layer.runs_on != "gpu")


def test_a_package_is_timed_as_a_whole(timed: Package, gpu_here: Callable[[Package, int], None]) -> None:
    gpu_here(timed, 0)
    [found] = bench(timed.path, effort=Effort(launches=1, seconds=0.05))
    assert found.place == "this machine"
    assert found.ours.median_us > 0


def test_a_device_behind_ssh(
    timed: Package, fake_ssh: Path, gpu_here: Callable[[Package, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = f"{fake_ssh} device"
    with pytest.raises(DeployccError, match=r"DC805") as caught:
        verify(timed.path, runner=runner)  # no driver there
    assert "the NVIDIA driver is not installed here" in caught.value.diagnostics[0].got
    gpu_here(timed, 1)
    monkeypatch.setattr("deploycc.running.devices.gpu_count", lambda: 0)  # here is none, and there is one
    found = verify(timed.path, runner=runner)
    assert found.ok
    assert found.place == f"{runner}, Emulated GPU 0 (sm_90)"


def test_a_page_has_no_times_where_nothing_was_timed(
    timed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploycc.running.devices.gpu_count", lambda: 0)
    found = report(timed.path, tmp_path / "page.html")
    assert found.profile is None
    assert found.unmeasured["profile"] == "nothing was timed: emulated sm_75 (PTX on the processor)"
    assert found.verification is not None
    assert found.verification.ok
