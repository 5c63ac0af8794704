"""Tuning for a GPU: which machine it asks for, whose records count, and all of it on the emulated driver."""

from __future__ import annotations

import ctypes
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import deploycc
from deploycc import cuda_driver
from deploycc.build import resolve_request
from deploycc.emulating.driver import emulated_driver
from deploycc.operators import Conv2d
from deploycc.records import Record, Records, append, cache_key, code_key
from deploycc.resources import data_dir
from deploycc.running import open_package
from deploycc.scheduling.library import load_schedules
from deploycc.scheduling.recorded import load_records
from deploycc.targets import load_target
from deploycc.tuning import tuner
from deploycc.tuning.workload import tolerance_of
from deploycc.tvm_api import VERSION
from deploycc.types import DeployccError, Diagnostic, Target
from tests.running.gpu_net import write_net
from tests.tuning.schedules_for_tests import record

CONV = Conv2d(1, 9, 11, 16, 8, (3, 3), (1, 2), (1, 0, 1, 0), (1, 1), 1, "float32", "NHWC", "NHWC")
T4_HERE = (("sm_75", 40, "Tesla T4"),)
RUNNER = "tests.tuning.gpu_emulated:EmulatedDeviceRunner"


def chip_of(name: str, precision: str = "fp32") -> Target:
    return replace(load_target(f"cuda:{name}"), precision=precision)  # type: ignore[arg-type]


def of(target: Target) -> Record:
    return replace(record(), operator=repr(CONV), code=code_key(target), cache=cache_key(target))


def refusal(
    chips: str, monkeypatch: pytest.MonkeyPatch, here: tuple[tuple[str, int, str], ...]
) -> Diagnostic:
    monkeypatch.setattr(tuner, "devices_here", lambda: here)
    with pytest.raises(DeployccError) as caught:
        tuner.for_gpu_here(resolve_request("model.onnx", f"cuda:{chips}"))
    [diagnostic] = caught.value.diagnostics
    return diagnostic


# ---- whose records count ----


def test_records_are_of_a_chip_and_a_precision() -> None:
    assert code_key(chip_of("t4")) == "cuda sm_75 t4 40 fp32"
    assert cache_key(chip_of("t4")) == "64/4096"
    targets = [
        *(chip_of("t4"), chip_of("t4", "fp16"), chip_of("h100"), chip_of("h200")),
        load_target("x86-64"),
    ]
    layers = [[of(target) for target in targets]]
    for target in targets:
        counted = Records(layers, target, {"fake": 1}, VERSION)
        assert [one.code for one in counted.of(CONV)] == [code_key(target)]
        other = Records(layers, target, {"fake": 2}, VERSION)  # another version of the schedule
        assert (len(other), other.outdated) == (0, 1)


def test_a_build_reads_the_records_of_its_chip_alone(tmp_path: Path) -> None:
    database = tmp_path / "all.jsonl"
    target = chip_of("t4")
    schedules = load_schedules((data_dir("schedules"),), target)
    known = next(one for one in schedules if one.compute is not None)
    append(
        database,
        [
            replace(of(one), schedule=known.name, version=known.version)
            for one in (target, chip_of("h100"), load_target("x86-64"))
        ],
    )
    assert [one.code for one in load_records([database], target, schedules).of(CONV)] == [code_key(target)]


def test_a_candidate_is_held_to_the_precision_it_computes_in() -> None:
    bounds = [
        tolerance_of(CONV, chip_of("h100", precision)) for precision in ("fp32", "tf32", "fp16", "bf16")
    ]
    assert bounds[0] == tolerance_of(CONV, load_target("x86-64")) == 1e-4
    assert bounds == sorted(bounds)


# ---- which machine ----


def test_without_a_gpu_there_is_nothing_to_tune_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal("sm_90", monkeypatch, ())
    assert told.code == "DC623"
    assert "--merge" in told.help


def test_times_of_one_chip_are_not_taken_for_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    told = refusal("h100", monkeypatch, T4_HERE)
    assert (told.code, told.got) == ("DC624", "Tesla T4: sm_75, 40 processors")
    fewer = refusal("h100", monkeypatch, (("sm_90", 114, "NVIDIA H100 PCIe"),))
    assert fewer.code == "DC624"


def test_of_several_chips_the_one_here_is_tuned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "devices_here", lambda: T4_HERE)
    request, (told,) = tuner.for_gpu_here(resolve_request("model.onnx", "cuda:sm_75,sm_90"))
    assert [gpu.name for gpu in request.target.gpus] == ["t4"]
    assert (told.code, told.severity, told.got) == ("DC625", "info", "also for h100")
    alone, told_nothing = tuner.for_gpu_here(resolve_request("model.onnx", "cuda:sm_75"))
    assert (alone.target.gpu, told_nothing) == (request.target.gpu, ())


# ---- all of it ----


def test_the_emulated_driver_has_what_is_called() -> None:
    called = set(re.findall(r"\bcu[A-Z]\w+", Path(cuda_driver.__file__).read_text(encoding="utf-8")))
    library = ctypes.CDLL(str(emulated_driver() / cuda_driver.LIBRARY))
    assert sorted(name for name in called if not hasattr(library, name)) == []


@pytest.mark.slow
def test_a_session_on_the_emulated_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times mean nothing here; that candidates are loaded, checked, timed and used does."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(emulated_driver()))
    monkeypatch.setenv("DEPLOYCC_EMULATED_ARCH", "sm_75")
    monkeypatch.setattr(tuner, "ON_GPU", RUNNER)
    model, database = write_net(tmp_path / "net.onnx"), tmp_path / "records.jsonl"
    found = tuner.tune(model, "cuda:sm_75,sm_90", "6trials", database=database, workers=1)
    assert found.trials >= 6
    assert found.unit == "seconds"
    assert {diagnostic.code for diagnostic in found.diagnostics} >= {"DC625"}
    assert any(task["value"] for task in found.tasks)
    measured = [json.loads(line) for line in database.read_text().splitlines()]
    assert {one["code"] for one in measured} == {"cuda sm_75 t4 40 fp32"}
    right = [one for one in measured if one["status"] == "ok"]
    assert right
    assert all(0 <= one["error"] <= 1e-4 and one["value"] > 0 for one in right)
    monkeypatch.delenv("LD_LIBRARY_PATH")
    path = deploycc.build(model, "cuda:sm_75,sm_90", tmp_path / "package", records=[database]).path
    t4, h100 = open_package(path).manifest["chips"]
    assert any("measured_us" in call for call in t4["calls"])
    assert not any("measured_us" in call for call in h100["calls"])
