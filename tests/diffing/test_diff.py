"""``deploycc diff`` on packages that were built, and run."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycc import build
from deploycc.diff import Difference, diff, failures
from deploycc.timing.schedule import Effort
from deploycc.types import DeployccError
from tests.cli.test_cli import deploycc

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the packages are for x86-64")

SEED = int(np.random.default_rng().integers(1 << 31))


def write_net(path: Path, wrong: bool = False) -> Path:
    """Three convolutions; with ``wrong`` one weight of the second is another."""
    rng = np.random.default_rng(SEED)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (4, 8, 1, 1)}
    values = {name: rng.standard_normal(shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    if wrong:
        values["w2"][3, 2, 1, 1] += 2.0
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c1"], ["s1"], name="gate"),
        helper.make_node("Conv", ["s1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c2"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w3"], ["y"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 14])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 7])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages ``before`` and ``wrong`` for x86-64, and the models of both."""
    root = tmp_path_factory.mktemp("diff")
    for name in ("before", "wrong"):
        build(write_net(root / f"{name}.onnx", name == "wrong"), "x86-64", root / name, name="net")
    return root


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Difference:
    """The two compared, with the model of the first."""
    return diff(folder / "before", folder / "wrong", model=folder / "before.onnx")


def test_a_package_beside_itself_is_alike_and_takes_the_same_time(folder: Path) -> None:
    effort = Effort(launches=8, seconds=0.2)
    found = diff(folder / "before", folder / "before", times=True, effort=effort)
    assert found.alike
    assert found.left_out == ()
    assert found.numbers is not None
    assert [pair.difference.tensor for pair in found.numbers.outputs] == ["y"]
    assert {pair.difference.tensor for pair in found.numbers.tensors} >= {"s1", "c2", "p"}
    assert found.times is not None
    assert (found.times.place, found.times.launches) == ("this machine", 8)
    assert found.times.low <= found.times.ratio <= found.times.high
    for layer in found.layers:
        assert layer.times is not None
        assert layer.times.a_us >= 0.0
    assert failures(found, ("numbers", "layers", "sizes")) == []


def test_the_first_tensor_that_differs_is_the_altered_layers(faulty: Difference) -> None:
    numbers = faulty.numbers
    assert numbers is not None
    assert numbers.engine.startswith("onnxruntime")
    by_name = {pair.difference.tensor: pair for pair in (*numbers.tensors, *numbers.outputs)}
    assert by_name["s1"].bitwise
    assert numbers.first_wrong is not None
    assert numbers.first_wrong.difference.tensor == "c2"
    assert "second" in numbers.first_wrong.nodes
    assert not numbers.ok
    assert failures(faulty, ("numbers",)) == ["numbers: y differ by more than the tolerance"]


def test_the_model_says_which_of_the_two_is_wrong(faulty: Difference) -> None:
    assert faulty.numbers is not None
    (output,) = faulty.numbers.outputs
    assert output.from_model is not None
    of_a, of_b = output.from_model
    assert of_a.ok
    assert not of_b.ok
    assert {fact.name for fact in faulty.facts if not fact.same} >= {"sha256"}
    assert all(layer.kind == "same" for layer in faulty.layers)


def test_inputs_that_are_given(folder: Path, tmp_path: Path) -> None:
    x = np.zeros((1, 3, 12, 14), np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    of_file = diff(folder / "before", folder / "wrong", inputs=tmp_path / "x.npz")
    of_arrays = diff(folder / "before", folder / "wrong", inputs=[x])
    assert of_file.numbers is not None
    assert of_arrays.numbers is not None
    assert of_file.numbers.outputs == of_arrays.numbers.outputs
    drawn = diff(folder / "before", folder / "wrong", inputs="random:7")
    assert drawn.numbers is not None
    assert drawn.numbers.inputs == "random inputs, seed 7"
    assert drawn.numbers.outputs != of_file.numbers.outputs
    with pytest.raises(DeployccError) as refusal:
        diff(folder / "before", folder / "wrong", inputs=[x[:, :2]])
    assert refusal.value.diagnostics[0].code == "DC813"


def test_a_model_of_neither(folder: Path, tmp_path: Path) -> None:
    other = onnx.load(folder / "before.onnx")
    other.doc_string = "another file"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(DeployccError) as refusal:
        diff(folder / "before", folder / "wrong", model=tmp_path / "other.onnx")
    (found,) = refusal.value.diagnostics
    assert found.code == "DC861"
    assert found.message == "other.onnx is not the model that the packages were built from"


def other_inputs(folder: Path, tmp_path: Path) -> Path:
    """A package that says it takes another image; nobody gets as far as running it."""
    copy = tmp_path / "other"
    shutil.copytree(folder / "before", copy, symlinks=True)
    path = copy / "share" / "net" / "manifest.json"
    table = json.loads(path.read_text())
    table["inputs"][0]["shape"] = [1, 3, 14, 12]
    path.write_text(json.dumps(table))
    return copy


def test_packages_of_other_inputs_say_what_was_left_out(folder: Path, tmp_path: Path) -> None:
    copy = other_inputs(folder, tmp_path)
    found = diff(folder / "before", copy)
    assert found.numbers is None
    assert found.left_out == (
        "numbers: the packages do not take the same inputs",
        "times: not asked for (--times)",
    )
    with pytest.raises(DeployccError) as refusal:
        diff(folder / "before", copy, numbers=True)
    assert refusal.value.diagnostics[0].code == "DC860"


def test_on_the_command_line(folder: Path) -> None:
    done = deploycc("diff", "before", "wrong", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "They differ first in 'c2' of second (step 1 of A, 1 of B), by more than the tolerance."
        in done.stdout
    )
    failed = deploycc("diff", "before", "wrong", "--fail-on", "numbers", "--json", "-", cwd=folder)
    assert failed.returncode == 1
    assert failed.stderr == "failed: numbers: y differ by more than the tolerance\n"
    assert json.loads(failed.stdout)["numbers"]["outputs"][0]["difference"]["ok"] is False
    page = deploycc(
        "diff", "before", "before", "--no-run", "--format", "markdown", "--json", "d.json", cwd=folder
    )
    assert page.stdout.startswith("## deploycc diff: `before` → `before`\n")
    assert json.loads((folder / "d.json").read_text())["left_out"] == [
        "numbers and times: the packages were not to be run"
    ]
    wrong = deploycc("diff", "before", "wrong", "--no-run", "--fail-on", "times", cwd=folder)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error[DC860]")
    missing = deploycc("diff", "before", "nowhere", cwd=folder)
    assert missing.returncode == 2
    assert "DC700" in missing.stderr


@pytest.mark.slow
def test_packages_of_two_machines(folder: Path) -> None:
    if shutil.which("qemu-aarch64-static") is None and shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu for arm64 is not installed (Debian: apt install qemu-user-static)")
    if not Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists():
        pytest.skip("glibc for arm64 is not installed (Debian: apt install libc6-arm64-cross)")
    build(folder / "before.onnx", "arm64", folder / "arm", name="net")
    found = diff(folder / "before", folder / "arm", numbers=True)
    assert found.numbers is not None
    assert found.numbers.ok
    assert found.numbers.place_a != found.numbers.place_b
    assert found.matched_by == "nodes"
    with pytest.raises(DeployccError) as refusal:
        diff(folder / "before", folder / "arm", times=True)
    assert refusal.value.diagnostics[0].code == "DC860"
