"""Every kind of bad input of a build, from the command line: a code, an exit code, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models import write_small_net


def _save(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], opset: int = 17) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def no_file(path: Path) -> None:
    pass


def a_folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("this is no model\n" * 100)


def truncated(path: Path) -> None:
    write_small_net(path)
    path.write_bytes(path.read_bytes()[:-40])


def fails_the_checker(path: Path) -> None:
    _save(path, [helper.make_node("Add", ["x", "missing"], ["y"], name="add0")], [1, 4])


def unknown_operators(path: Path) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="com.acme"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Defenestrate", ["b"], ["y"], name="second", domain="com.acme"),
    ]
    _save(path, nodes, [1, 4])


def no_nodes(path: Path) -> None:
    graph = helper.make_graph(
        [],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def dynamic(path: Path) -> None:
    write_small_net(path, height="H")


def static(path: Path) -> None:
    write_small_net(path)


CASES: list[tuple[Callable[[Path], None], list[str], list[str]]] = [
    (no_file, [], ["error[DC100]", "model.onnx"]),
    (a_folder, [], ["error[DC101]"]),
    (empty, [], ["error[DC102]"]),
    (text, [], ["error[DC103]"]),
    (truncated, [], ["error[DC104]"]),
    (fails_the_checker, [], ["missing"]),
    (unknown_operators, [], ["Frobnicate", "'first'", "Defenestrate", "'second'"]),
    (no_nodes, [], ["error[DC111]"]),
    (dynamic, [], ["error[DC200]", "'H'", "--shape x=1x3x?x16"]),
    (static, ["--shape", "x=1x3x99x16"], ["--shape x", "1x3x13x16"]),
    (static, ["--shape", "image=1x3x13x16"], ["image", "'x'"]),
]


@pytest.mark.parametrize(("make", "options", "told"), CASES)
def test_refused_with_a_code_and_nothing_written(
    make: Callable[[Path], None], options: list[str], told: list[str], tmp_path: Path
) -> None:
    make(tmp_path / "model.onnx")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "deploycc", "build", "model.onnx", "--target", "arm64", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2), done.stderr
    assert "error[DC" in done.stderr
    assert [words for words in told if words not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_no_compiler(tmp_path: Path) -> None:
    static(tmp_path / "model.onnx")
    (tmp_path / "board.toml").write_text(
        'extends = "x86-64"\nname = "board"\n[linker]\ntoolchain = "./no-such-compiler"\n'
    )
    command = [
        sys.executable,
        "-m",
        "deploycc",
        "build",
        "model.onnx",
        "--target",
        "./board.toml",
        "-o",
        "out",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "error[DC710]" in done.stderr
    assert "no-such-compiler" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    static(tmp_path / "model.onnx")
    # /proc takes no new folders, not even from root.
    command = [
        sys.executable,
        "-m",
        "deploycc",
        "build",
        "model.onnx",
        "--target",
        "arm64",
        "-o",
        "/proc/out",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "error[DC731]: the output folder /proc/out cannot be written" in done.stderr
    if os.geteuid() != 0:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o555)
        done = subprocess.run(
            [*command[:-1], str(closed / "out")],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "Permission denied" in done.stderr
