"""What only a GPU can show: right results from machine code, streams, several devices, times, tuning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from benchmarks.networks import networks
from deploycc.bench import bench
from deploycc.profile import profile, profile_to_json, schema
from deploycc.running import chips_to_run, is_emulated, open_package, place_for
from deploycc.timing.schedule import Effort
from deploycc.tuning import tune
from deploycc.verify import verify
from tests.gpu.apps import compile_streams, run_streams
from tests.gpu.conftest import Devices

pytestmark = pytest.mark.gpu

SMALL = "mtcnn_onet"


def test_this_machine_is_where_packages_run(built: Callable[..., Path]) -> None:
    package = open_package(built(SMALL))
    assert chips_to_run(package) == (None,)
    assert not is_emulated(place_for(package)[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", list(networks()))
def test_public_networks_match_onnx_runtime(
    name: str, precision: str, built: Callable[..., Path], network: Callable[[str], Path]
) -> None:
    path = built(name, precision)
    for model in (None, network(name)):  # golden inputs, then random ones
        found = verify(path, model, seed=5)
        shown = [(one.tensor, one.max_scaled, one.tolerance, one.reason) for one in found.outputs]
        assert found.ok, f"{name} in {precision} on {found.place}, {found.inputs}: {shown}"


def test_pointers_and_stream_of_the_caller(built: Callable[..., Path], tmp_path: Path) -> None:
    package = open_package(built(SMALL))
    done = run_streams(compile_streams(package, tmp_path / "streams"), package, [0])
    assert (done.returncode, done.stderr) == (0, "")


def test_two_devices_at_once(built: Callable[..., Path], devices: Devices, tmp_path: Path) -> None:
    if len(devices) < 2:
        pytest.skip("one GPU")
    package = open_package(built(SMALL))
    done = run_streams(compile_streams(package, tmp_path / "streams"), package, [0, 1])
    assert (done.returncode, done.stderr) == (0, "")


def test_under_compute_sanitizer(built: Callable[..., Path], tmp_path: Path) -> None:
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        pytest.skip("no compute-sanitizer (it comes with the CUDA toolkit)")
    package = open_package(built(SMALL))
    program = compile_streams(package, tmp_path / "streams")
    for check in ("memcheck", "racecheck", "synccheck"):
        done = run_streams(program, package, [0], before=[tool, "--tool", check, "--error-exitcode", "9"])
        assert done.returncode == 0, f"{check}: {done.stdout[-2000:]}"


def test_layers_are_timed_by_events(built: Callable[..., Path]) -> None:
    found = profile(built(SMALL, profile=True))
    jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(profile_to_json(found))))
    assert found.method == "timers"
    assert all(layer.time_us > 0 for layer in found.layers if layer.launches)
    assert 0.3 < sum(layer.time_us for layer in found.layers) / found.whole_us < 1.5
    assert found.ceilings is not None
    assert "measured" in found.ceilings.source


def test_a_package_is_benchmarked(built: Callable[..., Path]) -> None:
    [found] = bench(built(SMALL), effort=Effort(launches=2, seconds=1.0))
    assert 0 < found.ours.median_us < 1e5


def test_twenty_seconds_of_tuning(target: str, network: Callable[[str], Path], tmp_path: Path) -> None:
    shapes = networks()[SMALL].inputs
    found = tune(network(SMALL), target, "20s", shapes=shapes, database=tmp_path / "records.jsonl")
    assert found.trials > 0
    assert found.failures < found.trials
    assert not [one for one in found.diagnostics if one.code == "DC606"]
