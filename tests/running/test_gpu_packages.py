"""Packages for GPUs without a GPU: their PTX on the processor, what is launched, and what is refused."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import deploycc
from deploycc.bench import bench
from deploycc.bisect import bisect
from deploycc.cli.plan_table import plan_lines
from deploycc.diff import diff
from deploycc.profile import _check_timers, profile, profile_to_json, schema
from deploycc.report import report
from deploycc.result_types import Profile, from_json
from deploycc.running import Orders, Package, chips_to_run, open_package, place_for, run
from deploycc.running.chips import ptx_of
from deploycc.running.session import probe
from deploycc.types import DeployccError, Diagnostic
from deploycc.verify import verify, verify_package
from tests.running.gpu_net import write_net

CHIPS = ("sm_75", "sm_90")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="packages of this test are for x86-64")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had none."""
    monkeypatch.setattr("deploycc.running.devices.gpu_count", lambda: 0)


def refusal(do: Callable[[], Any]) -> Diagnostic:
    with pytest.raises(DeployccError) as caught:
        do()
    [diagnostic] = caught.value.diagnostics
    return diagnostic


def launched(log: Path) -> list[str]:
    return [line.split()[2] for line in log.read_text().splitlines() if line.startswith("run kernel")]


def planned(package: Package) -> list[str]:
    return [launch["function"] for call in package.manifest["calls"] for launch in call.get("launches", ())]


# ---- right, and as planned ----


def test_every_chip_is_verified_in_both_memories(net: Path) -> None:
    opened = open_package(net)
    assert chips_to_run(opened) == CHIPS
    for chip in CHIPS:
        found = verify_package(opened, chip=chip).verification
        assert found.ok, [(one.tensor, one.max_scaled, one.tolerance) for one in found.outputs]
        assert found.place == f"emulated {chip} (PTX on the processor)"
        assert found.inputs == "golden, seed 0; in the host's memory and in the GPU's"
        assert all(one.tolerance <= 1e-4 for one in found.outputs)


@pytest.mark.parametrize("memory", ["host", "device"])
def test_the_driver_sees_the_planned_launches_and_one_graph_a_run(
    net: Path, memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("DEPLOYCC_EMULATED_LOG", str(log))
    package, place = place_for(open_package(net), chip="sm_90")
    run(package, place, package.golden("inputs"), Orders(runs=2, device=memory == "device"))
    assert launched(log) == planned(package) * 3  # two, and the first
    lines = log.read_text().splitlines()
    assert sum(line.startswith("cuGraphLaunch") for line in lines) == 3
    assert not any(line.startswith("cuLaunchKernel") for line in lines)
    assert lines[-1].startswith("end memory=0 host=0")


def test_without_a_graph_each_kernel_is_launched(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("DEPLOYCC_EMULATED_LOG", str(log))
    package, place = place_for(open_package(net), chip="sm_75")
    measured = run(package, place, package.golden("inputs"), Orders(plain=True))
    assert launched(log) == planned(package)
    lines = log.read_text().splitlines()
    assert sum(line.startswith("cuLaunchKernel") for line in lines) == len(planned(package))
    assert not any(line.startswith("cuGraphLaunch") for line in lines)
    assert "sm_75" in measured.gpu
    for got, want in zip(measured.outputs, package.golden("outputs"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_the_chip_that_is_there_is_found_by_asking(net: Path) -> None:
    package, place = place_for(open_package(net), chip="sm_90")
    found = probe(package, place)
    assert (found.chip, found.code) == (1, "cubin sm_90")
    assert package.chip == "sm_90"
    assert package.manifest["calls"] == package.manifest["chips"][1]["calls"]


def test_layers_are_looked_at_on_the_gpu_and_beside_it(net: Path) -> None:
    found = bisect(net, net.parent / "net.onnx")
    assert found.suspect is None
    assert found.compared >= 5  # both convolutions, the mean, and what is sorted on the processor
    assert all(one.ok for one in found.outputs)


@pytest.mark.slow
def test_bisect_finds_the_convolution_with_other_weights(net: Path, tmp_path: Path) -> None:
    def no_builds(model: Path, package: Path) -> None:
        raise DeployccError(Diagnostic("DC450", "not built in this test"))

    other = write_net(tmp_path / "net.onnx", spoiled=True)
    assert not verify(net, other, chip="sm_75").ok
    found = bisect(net, other, output=tmp_path / "reduced", builder=no_builds, chip="sm_75")
    assert found.suspect is not None
    assert found.suspect.node == "second"


# ---- nothing is timed ----


def test_profile_counts_and_estimates(net: Path, tmp_path: Path) -> None:
    found = profile(net, chip="sm_90", trace=tmp_path / "trace.json")
    table = json.loads(json.dumps(profile_to_json(found)))
    jsonschema.Draft202012Validator(schema()).validate(table)
    assert from_json(Profile, table) == found
    assert (found.method, found.runs, found.chip) == ("estimates", 0, "sm_90")
    package, _ = place_for(open_package(net), chip="sm_90", kernels=False)
    assert sum(layer.launches for layer in found.layers) == len(planned(package))
    assert {layer.runs_on for layer in found.layers} == {"gpu", "processor", "copy"}
    assert found.ceilings is not None
    first = found.layers[0]
    memory = first.nbytes / (found.ceilings.gbs * 1e3)
    assert first.time_us == pytest.approx(max(memory, first.flops / (found.ceilings.gflops * 1e3)))
    assert all(layer.time_us == 0 for layer in found.layers if layer.runs_on != "gpu")
    assert "not timed" in table["layers"][0]["why"]
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_times_are_refused(net: Path) -> None:
    assert refusal(lambda: bench(net)).code == "DC885"
    opened = open_package(net)
    untimed = {**opened.manifest["interface"], "profile": False}
    without = replace(opened, manifest={**opened.manifest, "interface": untimed})
    assert refusal(lambda: _check_timers(without)).code == "DC888"
    same = diff(net, net, times=False)
    assert same.numbers is not None
    assert "emulated sm_75" in same.numbers.place_a
    assert refusal(lambda: diff(net, net, times=True)).code == "DC860"


# ---- what is refused ----


def test_a_chip_that_the_package_is_not_for(net: Path) -> None:
    unknown = refusal(lambda: place_for(open_package(net), chip="sm_87"))
    assert (unknown.code, unknown.got) == ("DC886", "--chip sm_87")
    assert "sm_75 (t4)" in unknown.need
    away = refusal(lambda: place_for(open_package(net), "ssh somewhere", "sm_75"))
    assert away.code == "DC886"


def test_ptx_that_is_not_the_manifests(net: Path) -> None:
    opened = open_package(net)
    library = (net / opened.manifest["library"]["file"]).read_bytes()
    [text] = ptx_of(library, opened.manifest, 1)
    assert ".target sm_90" in text
    target = json.loads(json.dumps(opened.manifest["target"]))
    for image in target["gpus"][0]["images"]:
        image["sha256"] = "0" * 64
    other = replace(opened, manifest={**opened.manifest, "target": target})
    assert refusal(lambda: place_for(other, chip="sm_75")).code == "DC887"


# ---- what is shown ----


def test_report_and_plan_show_chips_launches_and_the_processor(net: Path, tmp_path: Path) -> None:
    report(net, tmp_path / "page.html", measure=False)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "GPU chips" in page
    assert "cubin sm_90, ptx sm_90" in page
    lines = plan_lines(open_package(net).manifest["calls"], None, {})
    assert any(" processor " in line for line in lines)


# ---- public networks ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtcnn_onet", "ppocr_cls_v2"])
def test_public_networks_are_right_on_every_chip(
    name: str, network: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.networks import networks

    shapes = networks()[name].inputs
    path = deploycc.build(
        network(name), "cuda:sm_75,sm_87,sm_90", tmp_path / "package", shapes=shapes, profile=True
    ).path
    opened = open_package(path)
    assert chips_to_run(opened) == ("sm_75", "sm_87", "sm_90")
    for chip in chips_to_run(opened):
        log = tmp_path / f"log-{chip}"
        monkeypatch.setenv("DEPLOYCC_EMULATED_LOG", str(log))
        found = verify_package(opened, chip=chip).verification
        assert found.ok, [(one.tensor, one.max_scaled, one.tolerance) for one in found.outputs]
        package, _ = place_for(opened, chip=chip, kernels=False)
        assert launched(log) == planned(package) * 2  # in both memories
        assert log.read_text().count("cuGraphLaunch") == 2
        table = json.loads(json.dumps(profile_to_json(profile(path, chip=chip))))
        jsonschema.Draft202012Validator(schema()).validate(table)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("qemu-aarch64-static") is None or not Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists(),
    reason="no qemu-aarch64-static or libc6-arm64-cross",
)
def test_a_jetson_package_runs_under_an_emulator_of_both(tmp_path: Path) -> None:
    write_net(tmp_path / "net.onnx")
    path = deploycc.build(tmp_path / "net.onnx", "jetson-orin", tmp_path / "net", verify=True).path
    found = verify(path)
    assert found.ok
    assert found.place.startswith("emulated sm_87 (PTX on the processor under qemu-aarch64")
