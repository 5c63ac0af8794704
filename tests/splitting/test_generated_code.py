"""The generated pipeline compiles without warnings whatever the names are, and plays back records."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from deploycc.linting import costs
from deploycc.onnx_graph import GraphView
from deploycc.split import split
from deploycc.splitting.cutting import Refused, cut
from deploycc.splitting.describing import write_records
from deploycc.splitting.generate_app import cmake, main
from deploycc.splitting.generate_header import header
from deploycc.splitting.generate_source import source
from deploycc.splitting.pipeline import GOLDEN, pipeline_of
from deploycc.splitting.running import check
from deploycc.splitting.worlds import Worlds
from tests.packaging.conftest import run, tool
from tests.splitting.networks import model_of, two_stage, with_weights

STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-Wconversion"]
ODD = [
    "image:0", 'a"quote', "*/ int main() {} /*", "// \\", "new\nline", "\u65e5\u672c", "class", "Inputs",
    "Outputs", "Span", "Tensor", "std", "tensor", "run", "0", "0 ", "??/", "Pipeline", "State", "state",
    "parts", "part0", "model_1", "a.b", "a/b", "a b", "%s", "@N@", "{brace}", "x" * 300, "errno", "inputs",
    "options", "value_type", "\t",
]  # fmt: skip


def renamed(proto: ModelProto) -> ModelProto:
    """The same network with odd names for all its tensors."""
    result = ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    names = [info.name for info in graph.input] + [name for node in graph.node for name in node.output]
    odd = ODD + [f"more {number}" for number in range(len(names))]
    new = dict(zip(names, odd, strict=False))
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for info in (*graph.input, *graph.output):
        info.name = new[info.name]
    del graph.value_info[:]
    return result


def generate(
    proto: ModelProto, accelerator: Collection[str], promised: dict[str, tuple[int, ...]], folder: Path
) -> str:
    """All files of a pipeline without parts on the CPU; the header."""
    model = model_of(proto)
    worlds = Worlds(model.proto, promised)
    nodes = model.proto.graph.node
    refused = Refused(
        frozenset(node.name for node in nodes if node.op_type not in accelerator),
        frozenset(node.name for node in nodes),
    )
    view = GraphView(worlds.bounded_model)
    found = cut(worlds, refused, {node.name: costs.macs(node, view) for node in nodes})
    agreement = check(found, model, seed=2)
    pipeline = pipeline_of("net", "snpe:htp", "x86-64", found)
    write_records(pipeline, agreement, folder / GOLDEN)
    text = header(pipeline)
    (folder / "pipeline.hpp").write_text(text, encoding="ascii")
    (folder / "pipeline.cpp").write_text(source(pipeline), encoding="ascii")
    (folder / "main.cpp").write_text(main(pipeline), encoding="ascii")
    (folder / "CMakeLists.txt").write_text(cmake(pipeline), encoding="ascii")
    return text


def compiled(folder: Path) -> Path:
    """The example as a program."""
    program = folder / "example"
    define = f'-DGOLDEN_FOLDER="{folder / GOLDEN}"'
    run([tool("g++"), *STRICT, define, folder / "pipeline.cpp", folder / "main.cpp", "-o", program])
    return program


def played(program: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """The outcome of an example, which may fail."""
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_any_tensor_names_and_any_number_of_boxes(tmp_path: Path) -> None:
    proto = renamed(onnx.load(two_stage(tmp_path / "two.onnx")))
    operators = {node.op_type for node in proto.graph.node} - {"Tanh", "Softmax"}
    boxes = next(node.input[1] for node in proto.graph.node if node.op_type == "RoiAlign")
    generate(proto, operators, {boxes: (40, 4)}, tmp_path)
    done = played(compiled(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.count(", ok\n")
    assert lines == done.stdout.count("max error") > 10
    assert "MISMATCH" not in done.stdout


HALVES = """
g (float16[2,3] x, bool[4] b, int8[3] i) => (float16[2,3] y, bool[4] c, int8[3] i, int64[1,k] where)
{ a = Relu(x)  y = Sigmoid(a)  c = Not(b)  where = NonZero(b) }"""


def test_halves_booleans_passed_on_inputs_and_open_outputs(tmp_path: Path) -> None:
    text = generate(with_weights(HALVES, {}), {"Relu"}, {}, tmp_path)
    assert "/// where: int64 1x?\n    ::net::Tensor<::std::int64_t> &where;" in text
    assert "::net::Span<const ::net::Float16> x{};" in text
    done = played(compiled(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"output i: 3 elements, max error 0, .* ok", done.stdout)


def test_what_the_app_gives_is_checked(tmp_path: Path) -> None:
    """A host part that returns another shape than it may is told by name."""
    generate(with_weights(HALVES, {}), {"Relu"}, {}, tmp_path)
    shape = next((tmp_path / GOLDEN).glob("*.shape"))
    rank, first, second = shape.read_text().split()
    shape.write_text(f"{rank} {second} {first}\n")
    done = played(compiled(tmp_path))
    assert done.returncode == 2
    assert f"net: 'where' has shape {second} {first} and {second} elements, may have 1 any" in done.stderr


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-stage detector with odd names, split for real: packages for this machine."""
    folder = tmp_path_factory.mktemp("detector")
    proto = renamed(onnx.load(two_stage(folder / "two.onnx")))
    onnx.save(proto, folder / "odd names.onnx")
    boxes = next(node.input[1] for node in proto.graph.node if node.op_type == "RoiAlign")
    result = split(
        folder / "odd names.onnx", "snpe:htp", folder / "parts", cpu_target="x86-64", shapes={boxes: (40, 4)}
    )
    places = [part["place"] for part in result.pipeline["parts"]]
    assert {"accelerator", "cpu", "host"} <= set(places)
    assert places[0] == places[-1] == "accelerator"
    assert result.pipeline["check"]["exact"]
    assert not [d for d in result.diagnostics if d.code == "DC788"]
    bounded = [tensor for tensor in result.pipeline["tensors"] if tensor["kind"] == "bounded"]
    extents = [{"axis": 0, "of": boxes, "of_axis": 0, "factor": 1, "most": 40}]
    assert len(bounded) > 2
    assert all(tensor["extents"] == extents for tensor in bounded)
    return folder / "parts"


@pytest.fixture(scope="module")
def program(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its example, built by CMake as a user would."""
    build = tmp_path_factory.mktemp("build")
    run([tool("cmake"), "-S", parts, "-B", build, "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)])
    run([tool("cmake"), "--build", build])
    return build / "odd_names_example"


@pytest.mark.slow
def test_a_split_detector_runs_from_end_to_end(program: Path) -> None:
    done = played(program)
    assert done.returncode == 0, done.stdout + done.stderr
    # What no package computed must come through bit for bit.
    exact = [line for line in done.stdout.splitlines() if line.startswith("output")]
    assert len(exact) == 3
    assert all("max error 0, " in line for line in exact)
    assert re.search(r"part \d reads .*: 64 elements, max error \S+, largest value 0\.\d+, ok", done.stdout)


def test_the_example_can_fail(program: Path, parts: Path, tmp_path: Path) -> None:
    """With other records of what the accelerator computed the package computes something else."""
    for path in (parts / GOLDEN).iterdir():
        data = path.read_bytes()
        zeros = path.suffix == ".bin" and len(data) == 4 * 64
        (tmp_path / path.name).write_bytes(bytes(len(data)) if zeros else data)
    done = played(program, tmp_path)
    assert done.returncode == 1
    assert "MISMATCH" in done.stdout
    assert played(program, tmp_path / "none").returncode == 2
