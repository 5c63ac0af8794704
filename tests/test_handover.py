"""``deploycc build --target snpe``: a folder for the target's own converter, never a pretended library."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.reference import OnnxRuntime, largest_error
from deploycc import __version__
from deploycc.cli import main
from deploycc.diagnostics import CATALOGUE
from deploycc.handover import command_line, hand_over, is_handover, with_converter
from deploycc.lint_targets import external, external_names, load_lint_target
from deploycc.types import DeployccError, TensorInfo
from tests.models import write_small_net
from tests.splitting.networks import model_of, with_weights

SHAPES = {"input": (1, 3, 120, 160)}
FILES = ["README.txt", "convert.sh", "lint-report.json", "lint-report.txt", "manifest.json", "small.onnx"]


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hand-over of a small net whose height was open, and whose nodes say where they were exported."""
    folder = tmp_path_factory.mktemp("handed")
    path = write_small_net(folder / "small.onnx", height="H")
    proto = onnx.load(path)
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/somewhere/net.py"')
    onnx.save(proto, path)
    hand_over(path, "snpe:htp", folder / "out", shapes={"x": (1, 3, 13, 16)})
    return folder / "out"


def test_what_is_in_it(handed: Path, golden: Callable[[str, str], None]) -> None:
    assert sorted(path.name for path in handed.iterdir()) == FILES
    readme = (handed / "README.txt").read_text()
    golden("handover-small-README.txt", readme.replace(f"deploycc {__version__}", "deploycc VERSION"))
    manifest = json.loads((handed / "manifest.json").read_text())
    assert is_handover(handed)
    assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 13, 16]}]
    assert sorted(manifest["files"]) == sorted(set(FILES) - {"manifest.json"})
    assert manifest["findings"]["error"] == 0
    assert manifest["commands"][0][0] == external("snpe").command[0]
    report = json.loads((handed / "lint-report.json").read_text())
    assert "small" not in report
    for path in handed.iterdir():
        assert b"/somewhere" not in path.read_bytes(), f"{path.name} has a path of the exporting machine"


def test_the_network_in_it_is_static_and_computes_the_same(handed: Path, tmp_path: Path) -> None:
    proto = onnx.load(handed / "small.onnx")
    onnx.checker.check_model(proto, full_check=True)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 3, 13, 16]
    inputs = [np.random.default_rng(0).standard_normal((1, 3, 13, 16)).astype(np.float32)]
    want = OnnxRuntime(write_small_net(tmp_path / "small.onnx")).bind(inputs)
    assert largest_error(OnnxRuntime(handed / "small.onnx").bind(inputs), want) <= 1e-5


def test_the_script_calls_the_converter_in_its_folder(handed: Path, tmp_path: Path) -> None:
    """Every step of it; what only the user can know comes from the environment and is asked for."""
    commands = json.loads((handed / "manifest.json").read_text())["commands"]
    for program in {command[0] for command in commands}:
        (tmp_path / program).write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$0" "$@"\n')
        (tmp_path / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = [handed / "convert.sh", "--more"]
    given = {"INPUT_LIST": "a list.txt", "SOC": "sm8550"}
    done = subprocess.run(
        script, env={**environment, **given}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    values = {"{input_list}": str(tmp_path / "a list.txt"), "{soc}": "sm8550"}
    expected = []
    for number, (program, *words) in enumerate(commands):
        expected += [str(handed), str(tmp_path / program), *(values.get(word, word) for word in words)]
        expected += ["--more"] if number == 0 else []
    assert done.stdout.splitlines() == expected
    assert any("{input_list}" in command for command in commands)
    done = subprocess.run(script, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "INPUT_LIST" in done.stderr
    assert "raw input files to calibrate with" in done.stderr
    assert done.stdout == ""


def test_pnet(network: Callable[[str], Path], tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    """A real network: what SNPE's converter is told of MTCNN's first stage."""
    result = hand_over(network("mtcnn_pnet"), "snpe:htp", tmp_path / "out", shapes=SHAPES, name="pnet")
    assert result.report.coverage is not None
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == result.manifest
    for entry in ("files", "deploycc", "findings", "fixes"):
        del manifest[entry]
    golden("handover-pnet.json", json.dumps(manifest, indent=1) + "\n")
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "pnet.onnx"), full_check=True)


def test_what_the_converter_refuses_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(with_weights("g (float[2,3] x) => (float[2,3] y) { y = Asinh(x) }", {}), tmp_path / "m.onnx")
    with pytest.raises(SystemExit) as left:
        main(["build", str(tmp_path / "m.onnx"), "--target", "snpe:htp", "-o", str(tmp_path / "out")])
    assert left.value.code == 1
    text = capsys.readouterr().err
    assert "Asinh" in text
    assert "error[DC780]: the network cannot be handed over to 'snpe:htp' whole" in text
    assert "deploycc split m.onnx --target snpe:htp" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emit", "static"], "--emit cannot be followed"),
        (["--tune", "60s", "--records", "a.jsonl"], "--records, --tune cannot be followed"),
        (["--keep-kernels", "--seed", "1"], "--seed, --keep-kernels cannot be followed"),
        (["--debug-runtime", "--profile"], "--profile, --debug-runtime cannot be followed"),
    ],
)
def test_options_of_packages_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_small_net(tmp_path / "small.onnx")
    with pytest.raises(SystemExit) as left:
        main(["build", str(path), "--target", "snpe", "-o", str(tmp_path / "out"), *arguments])
    assert left.value.code == CATALOGUE["DC511"].exit_code == 2
    assert f"error[DC511]: the target 'snpe' is another compiler's: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main_of = ["build", str(write_small_net(tmp_path / "small.onnx")), "--target", "snpe:htp"]
    main(main_of)
    assert capsys.readouterr().out.splitlines() == [
        "small-snpe-htp: small.onnx, checked for snpe:htp, not compiled",
        "  next: sh small-snpe-htp/convert.sh, where the converter is",
    ]
    # An older hand-over is replaced, a package or anything else is not.
    main([*main_of, "-q"])
    assert capsys.readouterr().out == ""
    (tmp_path / "small-snpe-htp" / "manifest.json").write_text("{}")
    with pytest.raises(SystemExit) as left:
        main(main_of)
    assert left.value.code == 2
    assert "error[DC753]" in capsys.readouterr().err


def test_inspect_says_what_the_folder_is(handed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["inspect", str(handed)])
    assert left.value.code == 2
    text = capsys.readouterr().err
    assert f"error[DC787]: {handed} is a hand-over to another compiler, no package" in text
    assert "read manifest.json, lint-report.txt and README.txt" in text


def test_targets_without_a_converter_are_told() -> None:
    with pytest.raises(DeployccError, match="DC786") as raised:
        with_converter("arm64")
    assert raised.value.diagnostics[0].got == "deploycc compiles for it itself"
    for name in external_names():
        if not external(name).command:
            with pytest.raises(DeployccError, match="DC512"):
                with_converter(name)


@pytest.mark.parametrize("name", external_names())
def test_every_converters_command_line_can_be_filled_in(name: str) -> None:
    model = model_of(with_weights("g (float[2,3] x, float[2] z) => (float[2,3] y) { y = Relu(x) }", {}))
    family = external(name)
    for unit in ("", *family.units):
        commands = [command_line(words, "net", model) for words in family.commands(unit)]
        left = {word for command in commands for word in command if "{" in word or "}" in word}
        assert left <= {"{input_list}", "{soc}"}
        assert not family.command or any("net.onnx" in word for word in commands[0])


def test_what_has_an_exact_rewrite_is_rewritten_first(tmp_path: Path) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { a = Mish(x)  y = Relu(a) }"
    onnx.save(with_weights(text, {}), tmp_path / "mish.onnx")
    result = hand_over(tmp_path / "mish.onnx", "snpe:htp", tmp_path / "out")
    assert result.manifest["fixes"] == ["mish-to-tanh"]
    assert result.manifest["findings"]["error"] == 0
    handed = onnx.load(tmp_path / "out" / "mish.onnx")
    assert "Mish" not in {node.op_type for node in handed.graph.node}
    inputs = [np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)]
    want = OnnxRuntime(tmp_path / "mish.onnx").bind(inputs)
    assert largest_error(OnnxRuntime(tmp_path / "out" / "mish.onnx").bind(inputs), want) <= 1e-5
    assert "rewrote what it does not take (mish-to-tanh)" in (tmp_path / "out" / "README.txt").read_text()


def test_options_about_inputs_are_there_once_for_each() -> None:
    model = model_of(with_weights("g (float[2,3] x, float[2] z) => (float[2,3] y) { y = Relu(x) }", {}))
    odd = replace(model, inputs=(TensorInfo("a {b} 'c'", "float32", (2, 3)), *model.inputs[1:]))
    words = [
        "convert",
        "{model}",
        "-d",
        "{input_name}",
        "{input_shape}",
        "--out",
        "{output_name}",
        "-o",
        "{name}.d",
    ]
    assert command_line(words, "net", odd) == (
        *("convert", "net.onnx", "-d", "a {b} 'c'", "2,3", "-d", "z", "2", "--out", "y", "-o", "net.d"),
    )
    with pytest.raises(KeyError):
        command_line(["convert", "{modle}"], "net", model)


def test_a_target_as_an_object(tmp_path: Path) -> None:
    assert with_converter(load_lint_target("snpe")).name == "snpe"
