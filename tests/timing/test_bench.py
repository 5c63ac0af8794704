"""deploycc/bench.py: real packages and engines take turns, and what cannot be compared is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploycc.bench import bench
from deploycc.result_types import Benchmark
from deploycc.timing.contestants import EngineContestant, Setting
from deploycc.timing.peers import PEERS, Peer
from deploycc.timing.schedule import Effort
from deploycc.timing.statistics import TEST
from deploycc.types import DeployccError

QUICK = Effort(launches=8, runs=64)
ENGINES = list(PEERS)
VERDICTS = {"faster", "slower", "no difference seen"}


def codes(error: pytest.ExceptionInfo[DeployccError]) -> list[str]:
    return [diagnostic.code for diagnostic in error.value.diagnostics]


def plausible(benchmark: Benchmark) -> None:
    for timed in (benchmark.ours, *benchmark.peers):
        assert 0 < timed.low_us <= timed.median_us <= timed.high_us
        assert min(timed.cold_us, timed.load_us, timed.create_us) > 0
        assert timed.runs >= 64
        assert len(timed.launch_us) == 8
        assert timed.version
    for contest in benchmark.contests:
        assert 0 < contest.low <= contest.ratio <= contest.high
        assert contest.verdict in VERDICTS
        assert contest.test == TEST


@pytest.fixture(scope="module")
def beside_onnxruntime(small_package: Path, small_model: Path) -> Benchmark:
    """Beside ONNX Runtime and the same package under another name."""
    twin = small_package.with_name("twin")
    shutil.copytree(small_package, twin, symlinks=True)
    against = ("ort", str(twin))
    (found,) = bench(small_package, against=against, model=small_model, effort=QUICK, seed=1)
    return found


def test_a_package_is_timed_beside_onnxruntime_and_another_package(
    beside_onnxruntime: Benchmark, small_package: Path
) -> None:
    found = beside_onnxruntime
    plausible(found)
    twin = str(small_package.with_name("twin"))
    assert (found.package, found.place, found.threads, found.inputs) == ("small", "this machine", 1, "golden")
    assert [peer.name for peer in found.peers] == ["onnxruntime", twin]
    assert [contest.peer for contest in found.contests] == ["onnxruntime", twin]
    assert found.pinned
    assert "processors" in found.machine


def test_memory_is_counted_over_the_idle_process(beside_onnxruntime: Benchmark) -> None:
    """ONNX Runtime's library alone is larger than 4 MiB, our package smaller; Python counts for neither."""
    assert beside_onnxruntime.ours.peak_kib < 4096
    assert 4096 < beside_onnxruntime.peers[0].peak_kib < 256 << 10


def test_a_package_alone_with_numbers_of_threads(small_package: Path) -> None:
    told: list[dict[str, object]] = []
    effort = Effort(launches=2, runs=8)
    found = bench(
        small_package, threads=(1, 2), inputs="random", effort=effort, pin=False, on_event=told.append
    )
    assert [(one.threads, one.pinned, one.peers, one.contests) for one in found] == [
        (1, False, (), ()),
        (2, False, (), ()),
    ]
    assert [one.inputs for one in found] == ["random"] * 2
    assert [(event["threads"], event["number"], event["of"]) for event in told] == [
        (1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2),
    ]  # fmt: skip


def test_behind_a_runner_packages_are_compared_and_engines_refused(
    small_package: Path, small_model: Path
) -> None:
    """``env`` stands for an emulator: a program to put before another."""
    (found,) = bench(small_package, against=[str(small_package)], runner="env", effort=QUICK)
    plausible(found)
    assert (found.place, found.pinned) == ("env", False)
    assert found.machine.startswith("env on ")
    (asked,) = bench(small_package, runner="env", effort=Effort(1, runs=2), pin=True)
    assert asked.pinned
    with pytest.raises(DeployccError, match="times of two machines are not compared") as error:
        bench(small_package, against=["onnxruntime"], model=small_model, runner="env")
    assert codes(error) == ["DC832"]


def test_engines_that_are_none_or_not_there_are_told_together(
    small_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = Peer("ghost", "Ghost", "ghost-engine", "ghost_engine", "")
    monkeypatch.setitem(PEERS, "ghost", ghost)
    with pytest.raises(DeployccError, match="no engine 'tensorflow'") as error:
        bench(small_package, against=["tensorflow", "ghost", "onnxruntime"])
    assert codes(error) == ["DC830", "DC830", "DC831"]
    assert error.value.diagnostics[1].message == "Ghost is not installed"
    assert error.value.diagnostics[1].help == "pip install ghost-engine"
    assert "--model" in error.value.diagnostics[2].help


def test_fewer_launches_than_a_verdict_needs_are_refused(small_package: Path) -> None:
    with pytest.raises(ValueError, match="a verdict needs 8"):
        bench(small_package, against=[str(small_package)], effort=Effort(launches=7))


def test_a_model_that_computes_something_else_is_not_timed(
    small_package: Path, small_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_model)
    weights = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.05)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(DeployccError, match="so nothing was timed") as error:
        bench(small_package, against=["onnxruntime"], model=tmp_path / "other.onnx")
    assert codes(error) == ["DC833"]
    assert error.value.diagnostics[0].message.startswith("onnxruntime does not compute what onnxruntime 1.")


def test_a_model_with_other_inputs_or_outputs_is_refused(
    small_package: Path, small_model: Path, tmp_path: Path
) -> None:
    def changed(name: str, old: str, new: str) -> Path:
        model = onnx.load(small_model)
        values = [*model.graph.input, *model.graph.output]
        next(value for value in values if value.name == old).name = new
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    fixed = onnx.load(small_model)
    fixed.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 14
    onnx.save(fixed, tmp_path / "fixed.onnx")
    models = (changed("i.onnx", "x", "z"), changed("o.onnx", "y", "z"), tmp_path / "fixed.onnx")
    for model, role in zip(models, ("inputs", "outputs", "inputs"), strict=True):
        with pytest.raises(DeployccError, match=f"has other {role} than the package") as error:
            bench(small_package, against=["onnxruntime"], model=model)
        assert codes(error) == ["DC835"]


def test_a_package_with_another_interface_is_refused(small_package: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(small_package, other, symlinks=True)
    path = other / "share" / "small" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["outputs"][0]["name"] = "z"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DeployccError, match="has other outputs") as error:
        bench(small_package, against=[str(other)])
    assert codes(error) == ["DC835"]
    assert error.value.diagnostics[0].got == "z float32 1x8x13x16"


@pytest.mark.parametrize(
    ("model", "limit", "said"), [(b"broken", 60.0, "Protobuf parsing failed"), (b"", 0.01, "stopped after")]
)
def test_an_engine_that_fails_is_told_with_what_it_said(
    model: bytes, limit: float, said: str, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(model)
    engine = EngineContestant(PEERS["onnxruntime"], tmp_path / "model.onnx", (0,), (0,), limit)
    with (
        pytest.raises(DeployccError, match="does not run the model") as error,
        engine.launch(Setting([np.zeros(1, np.float32)], 1)) as launched,
    ):
        launched.ask(0)
    assert codes(error) == ["DC834"]
    assert said in error.value.diagnostics[0].got
    assert "leave onnxruntime out" in error.value.diagnostics[0].help


@pytest.mark.parametrize("name", ENGINES[1:])
def test_other_engines_take_part_where_they_are_installed(
    name: str, small_package: Path, small_model: Path
) -> None:
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].title} is not installed (extra: bench)")
    (found,) = bench(small_package, against=[name], model=small_model, effort=QUICK, inputs="random")
    plausible(found)
    assert found.peers[0].name == name


def test_a_process_that_measures_starts_without_what_it_does_not_use() -> None:
    """Else it would count as idle memory and every launch would wait for it."""
    check = (
        "import sys, deploycc.timing.peer_worker; "
        "print(sorted({'onnx', 'onnxruntime', 'tvm', 'openvino', 'ncnn', 'MNN'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
