"""``deploycc split`` from a file to a folder: what is in it, and what is refused with nothing left."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto

from deploycc import __version__
from deploycc.build import InternalError
from deploycc.cli.program import main, program
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import Report
from deploycc.onnx_graph import checker_complaint, infer_shapes
from deploycc.split import split
from deploycc.splitting.cutting import Refused, cut
from deploycc.splitting.running import check
from deploycc.splitting.worlds import Worlds
from deploycc.staging import staging
from deploycc.trace import Trace
from deploycc.types import DeployccError, Diagnostic, Package
from tests.models import write_small_net
from tests.splitting.networks import model_of, two_stage, with_weights

front = importlib.import_module("deploycc.split")
"""The module: the package has a function of that name."""

MIXED = """
g (float[1,3,8,8] image) => (float[1,4,8,8] result)
{
  first = Conv<pads=[1,1,1,1]>(image, w1)
  alive = Relu(first)
  smooth = Asinh(alive)
  second = Conv<pads=[1,1,1,1]>(smooth, w2)
  result = Relu(second)
}"""
"""``Asinh`` is an operator that the converter of SNPE does not take and that deploycc compiles."""


def mixed() -> ModelProto:
    generator = np.random.default_rng(0)
    weights = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in (("w1", (4, 3, 3, 3)), ("w2", (4, 4, 3, 3)))
    }
    return with_weights(MIXED, weights)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.onnx"
    onnx.save(mixed(), path)
    return path


def places(pipeline: Any) -> list[str]:
    return [part["place"] for part in pipeline["parts"]]


def test_what_is_written(model: Path, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    result = split(model, "snpe:htp", tmp_path / "out", build_packages=False)
    assert places(result.pipeline) == ["accelerator", "cpu", "accelerator"]
    text = (tmp_path / "out" / "pipeline.json").read_text()
    assert json.loads(text) == result.pipeline
    assert str(tmp_path) not in text
    golden("pipeline.json", _lasting(text))
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert {
        *("CMakeLists.txt", "main.cpp", "pipeline.cpp", "pipeline.hpp", "pipeline.json"),
        *("parts/00-accelerator.onnx", "parts/01-cpu.onnx", "parts/02-accelerator.onnx"),
        *("handover/00-accelerator/mixed_part0.onnx", "handover/02-accelerator/convert.sh"),
    } <= found
    assert "packages" not in found
    assert not [name for name in found if name.startswith(".")]
    golden("pipeline.hpp", (tmp_path / "out" / "pipeline.hpp").read_text())
    for part in result.pipeline["parts"]:
        proto = onnx.load(tmp_path / "out" / part["onnx"])
        assert checker_complaint(proto) == ""
        assert [info.name for info in proto.graph.input] == [tensor["name"] for tensor in part["inputs"]]
        assert [info.name for info in proto.graph.output] == [tensor["name"] for tensor in part["outputs"]]
    # The converter gets the part itself.
    handed = onnx.load(tmp_path / "out" / "handover" / "00-accelerator" / "mixed_part0.onnx")
    assert [node.op_type for node in handed.graph.node] == ["Conv", "Relu"]
    assert [len(part["node_names"]) for part in result.pipeline["parts"]] == [2, 1, 2]


def _lasting(text: str) -> str:
    """Without versions, and without the converter's command line, which is the target file's."""
    table = json.loads(text)
    assert table["deploycc"] == __version__
    assert table["check"]["engine"].startswith("onnxruntime ")
    table["deploycc"] = table["check"]["engine"] = "VERSION"
    for part in table["parts"]:
        if part["place"] == "accelerator":
            assert part["commands"]
            part["commands"] = ["..."]
    return json.dumps(table, indent=1) + "\n"


def test_a_network_that_is_taken_whole_is_one_part(tmp_path: Path) -> None:
    path = write_small_net(tmp_path / "small.onnx")
    result = split(path, "snpe:htp", tmp_path / "out")
    assert places(result.pipeline) == ["accelerator"]
    assert not (tmp_path / "out" / "packages").exists()


def test_a_network_that_is_not_taken_at_all_is_one_package(tmp_path: Path) -> None:
    onnx.save(
        with_weights("g (float[2,3] x) => (float[2,3] y) { y = Asinh(x) }", {}), tmp_path / "asinh.onnx"
    )
    arguments = ["split", str(tmp_path / "asinh.onnx"), "--target", "snpe", "--cpu-target", "x86-64"]
    done = CliRunner().invoke(program, [*arguments, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"{tmp_path}/out: asinh in 1 part"
    assert lines[1].split() == ["0", "x86-64", "1", "nodes", "100%", "of", "MACs", "packages/asinh_part0"]
    assert lines[2].startswith("  checked: 3 random inputs, the same bytes (onnxruntime ")
    assert (tmp_path / "out" / "packages" / "asinh_part0" / "include" / "asinh_part0.hpp").is_file()


def test_what_is_left_to_the_host_for_its_shape_is_told(tmp_path: Path) -> None:
    path = two_stage(tmp_path / "two.onnx")
    result = split(path, "snpe:htp", tmp_path / "out", build_packages=False)
    assert places(result.pipeline)[-1] == "host"
    told = [d for d in result.diagnostics if d.code == "DC788"]
    assert [d.message for d in told] == [
        "nodes behind 'boxes' are left to the host: only a run can tell its shape"
    ]
    assert told[0].help.startswith("--shape boxes=100x4, with the most")


def test_what_the_compiler_refuses_after_all_is_the_hosts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> Package:
        raise DeployccError(Diagnostic("DC403", "no kernel", node="Asinh_2"))

    monkeypatch.setattr(front, "build", refuse)
    result = split(model, "snpe:htp", tmp_path / "out")
    assert places(result.pipeline) == ["accelerator", "host", "accelerator"]
    assert sorted(path.name for path in (tmp_path / "out" / "parts").iterdir()) == [
        "00-accelerator.onnx",
        "01-host.onnx",
        "02-accelerator.onnx",
    ]


def test_a_fault_of_ours_in_a_package_says_how_to_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object, **options: object) -> Package:
        raise InternalError(Diagnostic("DC758", "lost", help="a file that is gone"), stage="plan", details="")

    monkeypatch.setattr(front, "build", crash)
    part = {"place": "cpu", "onnx": "parts/01-cpu.onnx", "package": "packages/a", "node_names": ["n"]}
    request = front.lint_request(tmp_path / "m.onnx", {}, front.Limits())
    with pytest.raises(InternalError) as raised:
        front._built({"parts": [part]}, tmp_path, "arm64", "shared", request, None)
    assert "m.onnx --no-build, then build parts/01-cpu.onnx" in raised.value.diagnostic.help


def test_a_fault_of_the_machine_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> Package:
        raise DeployccError(Diagnostic("DC710", "no compiler"))

    monkeypatch.setattr(front, "build", fail)
    part = {"place": "cpu", "onnx": "a.onnx", "package": "packages/a", "node_names": ["n"]}
    request = front.lint_request(tmp_path / "m.onnx", {}, front.Limits())
    with pytest.raises(DeployccError, match="DC710"):
        front._built({"parts": [part]}, tmp_path, "arm64", "shared", request, None)


def test_an_older_folder_of_parts_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "out"
    old.mkdir()
    (old / "pipeline.json").write_text('{"format": "deploycc-pipeline"}')
    with staging(old, front.is_split, "split network") as aside:
        (aside.folder / "new").write_text("")
        aside.commit()
    assert [path.name for path in old.iterdir()] == ["new"]


def test_a_part_that_is_refused_as_a_whole_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on graph inputs, say, is no node's fault: told, not cut away."""
    model = model_of(mixed())
    worlds = Worlds(model.proto, {})
    found = cut(worlds, Refused(frozenset({"Asinh_2"}), frozenset()), {})
    target, cpu = load_lint_target("snpe:htp"), load_lint_target("x86-64")
    request = front.lint_request(tmp_path / "m.onnx", {}, front.Limits())
    cutter = front._Cutter(request, target, cpu, Trace(None, lambda event: None), tmp_path, False)
    refusal = Diagnostic("DC402", "too many inputs")
    monkeypatch.setattr(front._Cutter, "_lint", lambda *arguments: Report((refusal,)))
    with pytest.raises(DeployccError) as raised:
        cutter._checked(found.parts[0])
    assert [d.code for d in raised.value.diagnostics] == ["DC402", "DC783"]
    assert raised.value.diagnostics[1].message == "the part 00-accelerator does not lint clean for 'snpe:htp'"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", "x86-64"], "DC786", "there is nothing to hand over for the target 'x86-64'"),
        (["--target", "snpe", "--cpu-target", "snpe"], "DC785", "the parts on the CPU cannot be for 'snpe'"),
        (["--target", "snpe", "--cpu-target", "z80"], "DC500", "there is no target 'z80'"),
        (["--target", "snpe:hpt"], "DC510", "the target 'snpe' has no unit 'hpt'"),
        (["--target", "snpe", "--shape", "alife=1x2"], "DC201", "--shape alife: the model has no input"),
        (
            ["--target", "snpe", "--shape", "alive=1x2"],
            "DC784",
            "--shape alive: the tensor has another shape",
        ),
        (["--target", "snpe", "--name", "3d"], "DC704", "'3d' cannot be the package's name"),
    ],
)
def test_wrong_usage_leaves_with_2_and_nothing(
    arguments: list[str],
    code: str,
    message: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["split", str(model), "-o", str(tmp_path / "out"), *arguments])
    assert left.value.code == 2
    assert f"error[{code}]: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_open_inputs_are_refused_with_what_to_pass(tmp_path: Path) -> None:
    path = write_small_net(tmp_path / "open.onnx", height="H")
    with pytest.raises(DeployccError, match="DC200") as raised:
        split(path, "snpe", tmp_path / "out", build_packages=False)
    assert raised.value.diagnostics[0].help == "pass --shape x=1x3x?x16 with the ? filled in"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.onnx"]


def test_another_folder_is_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DeployccError, match="DC753") as raised:
        split(model, "snpe", tmp_path / "out", build_packages=False)
    assert raised.value.diagnostics[0].need == "a new or empty folder, or an older split network"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_inspect_says_what_a_folder_of_parts_is(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text('{"format": "deploycc-pipeline"}')
    with pytest.raises(DeployccError, match="DC787") as raised:
        program.main(["inspect", str(tmp_path)], standalone_mode=False)
    assert raised.value.diagnostics[0].message == f"{tmp_path} is a network in parts, no package"


def test_folding_that_changes_a_result_is_noted() -> None:
    model = model_of(mixed())
    other = ModelProto()
    other.CopyFrom(model.proto)
    other.graph.node[0].attribute[0].ints[:] = [0, 0, 2, 2]
    changed = replace(model, original=infer_shapes(other))
    found = cut(Worlds(model.proto, {}), Refused(frozenset({"Asinh_2"}), frozenset()), {})
    assert check(found, model, 0).diagnostics == ()
    (note,) = check(found, changed, 0).diagnostics
    assert (note.code, note.severity) == ("DC789", "warning")
    assert note.message == "folding constants changes 'result' on a random input"


def test_a_part_that_cannot_be_run_is_told() -> None:
    model = model_of(mixed())
    found = cut(Worlds(model.proto, {}), Refused(frozenset({"Asinh_2"}), frozenset()), {})
    broken = ModelProto()
    broken.CopyFrom(found.parts[1].proto)
    broken.graph.node[0].op_type = "NoSuch"
    parts = (found.parts[0], replace(found.parts[1], proto=broken), found.parts[2])
    with pytest.raises(DeployccError, match="the part 01-cpu cannot be run by itself"):
        check(replace(found, parts=parts), model, 0)
    wrong = ModelProto()
    wrong.CopyFrom(found.parts[1].proto)
    wrong.graph.node[0].op_type = "Softplus"
    parts = (found.parts[0], replace(found.parts[1], proto=wrong), found.parts[2])
    with pytest.raises(DeployccError, match="the parts run in order compute another 'result' than the whole"):
        check(replace(found, parts=parts), model, 0)
