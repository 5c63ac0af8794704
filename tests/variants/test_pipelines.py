"""``deploycc build pipeline.json``: what is read of an untrusted file, and what is built of a good one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from deploycc.cli.program import program
from deploycc.pipelines import build_pipeline
from deploycc.split import split
from deploycc.splitting.reading import read_pipeline
from deploycc.types import DeployccError
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool
from tests.splitting.networks import with_weights

NETWORK = """
g (float[1,3,8,8] image) => (float[1,4,8,8] result, float[1,4,8,8] alive)
{
  first = Conv<pads=[1,1,1,1]>(image, w1)
  alive = Relu(first)
  smooth = Asinh(alive)
  second = Conv<pads=[1,1,1,1]>(smooth, w2)
  third = Relu(second)
  result = Acosh(third)
}"""
"""Accelerator, CPU, accelerator, CPU: SNPE's converter takes neither Asinh nor Acosh."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parts, nothing of it compiled."""
    folder = tmp_path_factory.mktemp("pipelines")
    generator = np.random.default_rng(3)
    weights = {
        name: (np.abs(generator.standard_normal(shape)) + 0.1).astype(np.float32)
        for name, shape in (("w1", (4, 3, 3, 3)), ("w2", (4, 4, 3, 3)))
    }
    onnx.save(with_weights(NETWORK, weights), folder / "net.onnx")
    return split(folder / "net.onnx", "snpe:htp", folder / "parts", build_packages=False).path


def changed(parts: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the folder whose ``pipeline.json`` is another."""
    shutil.copytree(parts, folder)
    file = folder / "pipeline.json"
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))
    return file


def test_it_is_read_as_it_was_written(parts: Path) -> None:
    pipeline, table = read_pipeline(parts / "pipeline.json", "x86-64")
    assert [part.place for part in pipeline.cut.parts] == ["accelerator", "cpu", "accelerator", "cpu"]
    assert [part.stem for part in pipeline.cut.parts] == [Path(part["onnx"]).stem for part in table["parts"]]
    assert pipeline.identifiers == {one["name"]: one["identifier"] for one in table["tensors"]}
    assert {number: one.name for number, one in pipeline.packages.items()} == {
        1: "net_part1",
        3: "net_part3",
    }


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, key, value = path

    def change(table: dict[str, Any]) -> None:
        place: Any = table
        for step in way:
            place = place[step]
        place[key] = value

    return change


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format": (_set("format", "something"), 'no "format"'),
    "version": (_set("schema_version", 99), "schema version 99"),
    "name": (_set("name", "../../evil"), "evil"),
    "name missing": (lambda table: table.pop("name"), '"name" of the file is no text'),
    "no parts": (_set("parts", []), "0 parts"),
    "parts no list": (_set("parts", {"0": 1}), '"parts" of the file is no list'),
    "out of the folder": (_set("parts", 1, "onnx", "../../../etc/passwd"), "the file of part 1"),
    "absolute": (_set("parts", 1, "onnx", "/etc/passwd"), "the file of part 1"),
    "place": (_set("parts", 1, "place", "moon"), "to run on 'moon'"),
    "number": (_set("parts", 1, "number", 7), "part 1 has the number 7"),
    "operators": (_set("parts", 0, "operators", ["Conv\n#include </etc/passwd>"]), "operators of which"),
    "nodes": (_set("parts", 0, "node_names", [3]), "no list of names"),
    "macs": (_set("parts", 0, "macs", "many"), '"macs" of part 0'),
    "unknown tensor": (_set("parts", 1, "inputs", [{"name": "nobody"}]), "'nobody' among the inputs"),
    "order": (lambda table: _swap(table), "which no part before it computes"),
    "made twice": (_set("parts", 3, "outputs", [{"name": "alive"}]), "which is there already"),
    "output nobody makes": (lambda table: table["parts"][3].update(outputs=[]), "no part computes"),
    "dtype": (_set("tensors", 0, "dtype", "strings"), "elements of type strings"),
    "shape": (_set("tensors", 0, "shape", [1, "x"]), '"shape" of tensor'),
    "huge": (_set("tensors", 0, "shape", [1 << 20, 1 << 20]), "more than 2147483648 elements"),
    "open": (_set("tensors", 0, "shape", [1, 3, -1, 8]), "not among its open axes"),
    "open axis": (_set("tensors", 0, "open_axes", [9]), "is none of its 4"),
    "extents": (
        _set("tensors", 0, "extents", [{"axis": 0, "of": "image", "of_axis": 0, "factor": 1, "most": 1}]),
        "which is not open",
    ),
    "surrogate": (_set("tensors", 0, "name", "\ud800"), "no valid Unicode"),
}


def _swap(table: dict[str, Any]) -> None:
    table["parts"][1]["inputs"], table["parts"][3]["inputs"] = (
        table["parts"][3]["inputs"],
        table["parts"][1]["inputs"],
    )


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told_and_leaves_nothing(parts: Path, tmp_path: Path, case: str) -> None:
    change, told = BROKEN[case]
    file = changed(parts, tmp_path / "parts", change)
    with pytest.raises(DeployccError) as caught:
        build_pipeline(file, "x86-64", tmp_path / "out")
    found = caught.value.diagnostics[0]
    assert found.code == "DC766"
    assert told in found.got
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": null}'])
def test_what_is_no_json(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pipeline.json").write_bytes(text)
    with pytest.raises(DeployccError, match="DC766"):
        build_pipeline(tmp_path / "pipeline.json", "x86-64")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DeployccError, match="DC766"):
        build_pipeline(tmp_path / "none.json", "x86-64")


@pytest.mark.parametrize("linked", ["parts", "parts/01-cpu.onnx", "golden/00.bin"])
def test_links_are_not_followed(parts: Path, tmp_path: Path, linked: str) -> None:
    folder = tmp_path / "parts"
    shutil.copytree(parts, folder)
    (folder / linked).rename(tmp_path / "elsewhere")
    (folder / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeployccError, match="DC766") as caught:
        build_pipeline(folder / "pipeline.json", "x86-64", tmp_path / "out")
    assert "leads out of the folder or is a link" in caught.value.diagnostics[0].got
    assert not (tmp_path / "out").exists()


def test_a_missing_part(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path / "parts")
    (tmp_path / "parts" / "parts" / "03-cpu.onnx").unlink()
    with pytest.raises(DeployccError) as caught:
        build_pipeline(tmp_path / "parts" / "pipeline.json", "x86-64", tmp_path / "out")
    assert caught.value.diagnostics[0].got == "parts/03-cpu.onnx is missing"


@pytest.mark.parametrize(
    "words",
    [
        *(["--shape", "x=1x3"], ["--name", "other"], ["--emit", "static"], ["--tune", "5s"], ["--profile"]),
        *(["--op-dir", "."], ["--max", "y=3"], ["--debug-runtime"]),
    ],
)
def test_options_that_are_for_one_model(parts: Path, tmp_path: Path, words: list[str]) -> None:
    command = ["build", str(parts / "pipeline.json"), "-o", str(tmp_path / "out"), *words]
    result = CliRunner().invoke(program, command)
    assert isinstance(result.exception, DeployccError)
    found = result.exception.diagnostics[0]
    assert (found.code, found.got) == ("DC768", words[0])


def test_targets_and_folders_that_it_is_not_for(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployccError, match=r"DC768.*cannot be built in one go"):
        build_pipeline(parts / "pipeline.json", plans.UNLINKED, tmp_path / "out")
    with pytest.raises(DeployccError, match=r"DC768.*for the machine whose CPU"):
        build_pipeline(parts / "pipeline.json", "snpe:htp", tmp_path / "out")
    with pytest.raises(DeployccError, match=r"DC768.*is where the parts are read from"):
        build_pipeline(parts / "pipeline.json", plans.X86_64, parts)


@pytest.fixture(scope="module")
def built(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "pipeline"
    result = CliRunner().invoke(
        program, ["build", str(parts / "pipeline.json"), "--verify", "-o", str(folder)]
    )
    assert result.exit_code == 0, result.output
    assert "net, 4 parts" in result.output
    assert "packages/net_part3" in result.output
    return folder


@pytest.mark.slow
def test_the_example_of_the_whole(built: Path, tmp_path: Path) -> None:
    """The C++ front runs the parts on the golden inputs, and the results are those of the whole network."""
    build = tmp_path / "build"
    flags = "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)
    run([tool("cmake"), "-S", built, "-B", build, flags])
    run([tool("cmake"), "--build", build])
    said = run([build / "net_example"]).stdout
    assert "output result: 256 elements" in said
    assert said.count(", ok") == said.count("\n") == 4
    # Told apart from one that compares nothing: another record, another verdict.
    wrong = tmp_path / "golden"
    shutil.copytree(built / "golden", wrong)
    table = json.loads((built / "pipeline.json").read_text())
    file = next(one["golden"][0] for one in table["tensors"] if one["name"] == "result")
    values = np.fromfile(built / file, np.float32)
    values[17] += 1
    (wrong / Path(file).name).write_bytes(values.tobytes())
    with pytest.raises(AssertionError, match="MISMATCH"):
        run([build / "net_example", wrong])


@pytest.mark.slow
def test_from_c(built: Path, tmp_path: Path) -> None:
    """The other parts as callbacks; what they return comes out, and no exception does."""
    run([tool("cmake"), "-S", built, "-B", tmp_path / "build"])
    run([tool("cmake"), "--build", tmp_path / "build", "--target", "net_pipeline"])
    strict = ["-std=c99", *STRICT, f"-I{built}"]
    run([tool("gcc"), *strict, "-c", Path(__file__).with_name("pipeline.c"), "-o", tmp_path / "pipeline.o"])
    folders = [f"{built}/packages/{name}/lib" for name in ("net_part1", "net_part3")]
    libraries = [f"-L{folder}" for folder in folders]
    libraries += ["-lnet_part1", "-lnet_part3", "-ldeploycc_rt", "-o", tmp_path / "app"]
    run([tool("g++"), tmp_path / "pipeline.o", tmp_path / "build" / "libnet_pipeline.a", *libraries])
    table = json.loads((built / "pipeline.json").read_text())
    record = {one["name"]: Path(one["golden"][0]).stem for one in table["tensors"]}
    names = ["image", "alive", "third", "result"]
    words = [tmp_path / "app", built / "golden", *(record[name] for name in names)]
    run(words, env={"LD_LIBRARY_PATH": ":".join(folders)})


@pytest.mark.slow
def test_what_is_in_the_folder(built: Path) -> None:
    table = json.loads((built / "pipeline.json").read_text())
    assert table["built"]["packages"] == ["net_part1", "net_part3"]
    assert table["built"]["target"] == table["cpu_target"] == "host"
    source = (built / "pipeline.cpp").read_text()
    assert source.count("result.arena = arena;") == 2
    assert "handover/00-accelerator/convert.sh" in table["built"]["files"]
    for part in ("net_part1", "net_part3"):
        manifest = json.loads((built / f"packages/{part}/share/{part}/manifest.json").read_text())
        assert manifest["interface"]["runtime"] == "shared"


def test_an_older_one_is_replaced_and_another_folder_is_not(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DeployccError, match="DC753"):
        build_pipeline(parts / "pipeline.json", "x86-64", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_part_that_computes_something_else(built: Path, parts: Path, tmp_path: Path) -> None:
    """With the record of another run, what the packages compute is not the whole network's result."""
    from deploycc.pipelines import _verify
    from deploycc.types import Limits

    folder = tmp_path / "built"
    shutil.copytree(built, folder, symlinks=True)
    pipeline, table = read_pipeline(parts / "pipeline.json", "host")
    _verify(pipeline, folder, Limits())
    file = next(one["golden"][0] for one in table["tensors"] if one["name"] == "result")
    values = np.fromfile(folder / file, np.float32)
    values[5] *= 1.01
    values[5] += 0.1
    (folder / file).write_bytes(values.tobytes())
    with pytest.raises(DeployccError, match=r"DC769.*part 3 does not compute 'result'"):
        _verify(pipeline, folder, Limits())
    (folder / file).write_bytes(values.tobytes()[:-4])
    with pytest.raises(DeployccError, match=r"DC766.*is no record of 'result'"):
        _verify(pipeline, folder, Limits())


def test_a_part_of_another_network(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import deploycc.pipelines as front
    from deploycc.types import Package

    tensor = {"name": "alive", "dtype": "float32", "shape": [1, 4, 9, 9]}
    manifest = {"name": "net_part1", "inputs": [tensor], "outputs": []}
    monkeypatch.setattr(front, "build", lambda *given, **options: Package(tmp_path, manifest))
    with pytest.raises(DeployccError) as caught:
        build_pipeline(parts / "pipeline.json", "x86-64", tmp_path / "out")
    found = caught.value.diagnostics[0]
    assert (found.code, found.got) == ("DC767", "inputs alive float32 1x4x9x9")
    assert found.need == "alive float32 1x4x8x8"
    assert not (tmp_path / "out").exists()
