"""``deploycc build --shape`` with ranges, from the file to a package whose every variant is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from deploycc.build import build
from deploycc.cli.build_command import summary
from deploycc.cli.program import program
from deploycc.running import open_package
from deploycc.types import DeployccError, Package
from deploycc.verify import verify
from tests.models import write_small_net
from tests.packaging.conftest import STRICT, run, tool


def write_net(path: Path) -> Path:
    """Images of any batch and size, and a vector that depends on neither."""
    generator = np.random.default_rng(4)
    weights = {
        "w": generator.standard_normal((5, 3, 3, 3)).astype(np.float32),
        "g": generator.standard_normal((64, 7)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["mean"]),
            helper.make_node("Add", ["r", "mean"], ["y"]),
            helper.make_node("MatMul", ["z", "g"], ["h"]),
            helper.make_node("Sigmoid", ["h"], ["k"]),
        ],
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", 11]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 64]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "k")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_net(tmp_path_factory.mktemp("variants") / "net.onnx")


@pytest.fixture(scope="module")
def package(net: Path) -> Path:
    events: list[str] = []
    made = build(
        net,
        "host",
        net.parent / "package",
        shapes={"x": ((1, 3), 3, "7,17", 11)},
        runtime="shared",
        verify=True,
        on_event=lambda event: events.append(event["name"]),
    )
    assert [name for name in events if name.startswith("x=")] == [
        "x=1x3x7x11",
        "x=1x3x17x11",
        "x=3x3x7x11",
        "x=3x3x17x11",
    ]
    return made.path


@pytest.mark.slow
def test_every_variant_computes_what_onnx_runtime_does(net: Path, package: Path) -> None:
    for number in range(4):
        assert verify(f"{package}@{number}", net, "random", seed=number).ok
    shapes = [open_package(f"{package}@{number}").manifest["outputs"][0]["shape"] for number in range(4)]
    assert shapes == [[1, 5, 7, 11], [1, 5, 17, 11], [3, 5, 7, 11], [3, 5, 17, 11]]


@pytest.mark.slow
def test_the_summary_lists_the_variants(package: Path) -> None:
    manifest = json.loads((package / "share" / "net" / "manifest.json").read_text())
    lines = summary(Package(package, manifest), 1.0)
    assert "  variant 3 inputs x float32 3x3x17x11, z float32 2x64" in lines
    assert "  variant 1 outputs y float32 1x5x17x11, k float32 2x7" in lines


@pytest.mark.slow
def test_what_is_equal_is_there_once(package: Path) -> None:
    manifest = open_package(package).manifest
    tables = json.loads((package / "share" / "net" / "manifest.json").read_text())["variants"]
    symbols = [{call["symbol"] for call in one["calls"]} for one in tables]
    assert set.intersection(*symbols)  # the product does not depend on the shapes of x
    # Its weights are most of all; each variant may want those of the convolution packed in its own way.
    assert manifest["memory"]["weight_bytes"] < 2 * 64 * 7 * 4
    library = (package / manifest["library"]["file"]).stat().st_size
    assert library == manifest["library"]["bytes"]


@pytest.mark.slow
def test_the_example_and_the_tools_take_it(net: Path, package: Path, tmp_path: Path) -> None:
    build_folder = tmp_path / "build"
    flags = "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)
    run([tool("cmake"), "-S", package / "example", "-B", build_folder, flags])
    run([tool("cmake"), "--build", build_folder])
    assert run([build_folder / "net_example"]).stdout.count(", ok") == 2
    for words in (
        ["profile", f"{package}@3", "--runs", "5"],
        ["bench", f"{package}@1", "--runs", "3", "--launches", "2"],
        ["bench", f"{package}@1", "--model", str(net), "--against", "onnxruntime", "--runs", "2"],
        ["diff", f"{package}@0", f"{package}@1"],
        ["verify", f"{package}@2", "--model", str(net), "--bisect"],
        ["report", f"{package}@2", "-o", str(tmp_path / "page.html")],
        ["inspect", str(package), "--kernel", "0"],
    ):
        result = CliRunner().invoke(program, words)
        assert result.exit_code == 0, f"{words}: {result.output} {result.exception}"
    assert "3x5x7x11" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_one_extent_gives_the_package_that_it_always_gave(tmp_path: Path) -> None:
    net = write_small_net(tmp_path / "small.onnx", height="H")
    plain = build(net, "x86-64", tmp_path / "plain", shapes={"x": (1, 3, 5, 16)})
    ranged = build(net, "x86-64", tmp_path / "ranged", shapes={"x": (range(1, 2), 3, "5", 16)})
    assert plain.manifest["files"] == ranged.manifest["files"]


@pytest.mark.slow
def test_for_arm64_and_static(net: Path, tmp_path: Path) -> None:
    tool("qemu-aarch64-static")
    shapes = {"x": (1, 3, (5, 6), 11)}
    made = build(net, "arm64-musl", tmp_path / "arm", shapes=shapes, emit="static", arena="smallest")
    for number in range(2):
        assert verify(f"{made.path}@{number}", net, "random", "qemu-aarch64-static", seed=number).ok
    assert [one["inputs"][0]["shape"][2] for one in made.manifest["variants"]] == [5, 6]


@pytest.mark.slow
def test_kernels_of_all_variants_are_kept(net: Path, tmp_path: Path) -> None:
    made = build(
        net,
        "x86-64",
        tmp_path / "kept",
        shapes={"x": ("1,2", 3, 5, 11)},
        keep_kernels=True,
        dump_dir=tmp_path / "dump",
    )
    numbers = {
        int(found[1])
        for one in made.manifest["variants"]
        for call in one["calls"]
        if (found := re.search(r"_k(\d+)_", call["symbol"]))
    }
    for number in numbers:
        words = ["inspect", f"{made.path}@1", "--kernel", str(number), "--asm"]
        wanted = any(f"_k{number:03d}_" in call["symbol"] for call in made.manifest["variants"][1]["calls"])
        assert CliRunner().invoke(program, words).exit_code == (0 if wanted else 1)
    assert (tmp_path / "dump" / "variant-1" / "50-schedule.py").is_file()


@pytest.mark.slow
def test_a_variant_that_does_not_fit_is_named(tmp_path: Path) -> None:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", infos, [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "two.onnx")
    with pytest.raises(DeployccError, match=r"DC206.*\(variant a=2x3, b=3x3\)"):
        build(tmp_path / "two.onnx", "x86-64", tmp_path / "out", shapes={"a": ("2,3", 3), "b": ("2,3", 3)})
    assert not (tmp_path / "out").exists()
