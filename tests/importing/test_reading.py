"""Files that are no models, and weights that lie outside the model file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from deploycc.importing import reading
from deploycc.types import DeployccError
from tests.importing.models import load_file, refused_file, serialised, text

GRAPH = "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"


def test_reads_a_model_and_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(serialised(GRAPH))
    model = load_file(path)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(i.name, i.dtype, i.shape) for i in model.inputs] == [("x", "float32", (1, 4))]
    assert [(o.name, o.dtype, o.shape) for o in model.outputs] == [("y", "float32", (1, 4))]
    assert model.opset == 18


def test_missing_names_the_models_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    found = refused_file(tmp_path / "nett.onnx")
    assert (found.code, found.message) == ("DC100", "the model file does not exist")
    assert found.help == f"in {tmp_path} there is: net.onnx"
    assert "no folder" in refused_file(tmp_path / "no" / "net.onnx").help


def test_folder(tmp_path: Path) -> None:
    found = refused_file(tmp_path)
    assert (found.code, found.message) == ("DC101", "the model is a folder, not a file")
    assert found.help == f"there is no .onnx file in {tmp_path}"


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.touch()
    found = refused_file(path)
    assert (found.code, found.message) == ("DC102", "the model file is empty")


@pytest.mark.parametrize(
    ("content", "got", "advice"),
    [
        (b"PK\x03\x04 archive", "a zip archive", "deploycc export"),
        (b"\x89HDF\r\n\x1a\n....", "an HDF5 file", "tf2onnx"),
        (b"\x1c\x00\x00\x00TFL3....", "a TensorFlow Lite model", "tf2onnx"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>", "an HTML page", "the file that was exported"),
        (b"hello there", "11 bytes that do not parse as one", "the file that was exported"),
        (b"\x12\x03abc", "5 bytes that do not parse as one", "the file that was exported"),
        (bytes(range(200)), "200 bytes", "the file that was exported"),
    ],
)
def test_not_onnx(tmp_path: Path, content: bytes, got: str, advice: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    found = refused_file(path)
    assert (found.code, found.message) == ("DC103", "the file is not an ONNX model")
    assert got in found.got
    assert advice in found.help


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    whole = serialised(GRAPH)
    path = tmp_path / "a.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    found = refused_file(path)
    assert (found.code, found.message) == ("DC104", "the model file is truncated or damaged")


@pytest.mark.parametrize("place", [b"Relu", b"g", b"x"])
def test_names_that_are_no_text(tmp_path: Path, place: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(serialised(GRAPH).replace(place, b"\xff" * len(place), 1))
    found = refused_file(path)
    assert (found.code, found.got) == ("DC104", f"{path}: a name in it is no UTF-8 text")


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    found = refused_file(path)
    assert (found.code, found.message) == ("DC105", "the model is too large")
    assert found.got == f"{3 << 30} bytes"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(serialised(GRAPH))

    def denied(_: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reading.os, "open", denied)
    found = refused_file(path)
    assert (found.code, found.message) == ("DC106", "the model file cannot be read")
    assert found.got == f"{path}: Permission denied"


def test_no_regular_file() -> None:
    found = refused_file(Path("/dev/null"))
    assert (found.code, found.message) == ("DC106", "the model is not a regular file")


def test_name_with_a_zero_byte() -> None:
    found = refused_file(Path("a\0b.onnx"))
    assert found.code == "DC106"


# ---- external data ----


def with_external(location: str, offset: str = "0", length: str = "16") -> ModelProto:
    proto = text("g (float[4] x) => (float[4] y) { y = Add(x, w) }")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    return proto


def write(folder: Path, proto: ModelProto) -> Path:
    path = folder / "a.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_is_embedded(tmp_path: Path) -> None:
    values = np.array([1, 2, 3, 4], np.float32)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"pad!" + values.tobytes())
    path = write(tmp_path, with_external("sub/w.bin", offset="4"))
    model = load_file(path)
    (tensor,) = model.proto.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), values)
    digest = hashlib.sha256(path.read_bytes() + (tmp_path / "sub" / "w.bin").read_bytes())
    assert model.sha256 == digest.hexdigest()


def test_external_data_as_onnx_writes_it(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Add(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"))
    path = tmp_path / "a.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="a.data", size_threshold=0)
    (tensor,) = load_file(path).proto.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), np.arange(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/passwd", "its path is absolute"),
        ("../w.bin", "its path climbs out of the folder"),
        ("sub/../../w.bin", "its path climbs out of the folder"),
        ("..\\w.bin", "its path climbs out of the folder"),
        ("C:\\w.bin", "its path is absolute"),
        ("link.bin", "it is a link, or a folder on its way is one"),
        ("linked/w.bin", "it is a link, or a folder on its way is one"),
        ("inside.bin", "it is a link, or a folder on its way is one"),
        ("loop", "it is a link, or a folder on its way is one"),
    ],
)
def test_external_data_outside_the_folder(tmp_path: Path, location: str, reason: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "own.bin").write_bytes(bytes(16))
    (folder / "inside.bin").symlink_to("own.bin")
    (folder / "loop").symlink_to("loop")
    found = refused_file(write(folder, with_external(location)))
    assert found.code == "DC120"
    assert found.message == f"external data outside the model's folder: {reason}"
    assert found.got == f"tensor 'w' points to '{location}'"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("none.bin", "there is no such file"),
        ("", "it names no file"),
        ("folder", "it is not a regular file"),
        (".", "it names no file"),
        ("folder/", "it is not a regular file"),
        ("w.bin/more", "there is no such file"),
        ("pipe", "it is not a regular file"),
        ("l" * 300, "it cannot be read: File name too long"),
    ],
)
def test_external_data_missing(tmp_path: Path, location: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    os.mkfifo(tmp_path / "pipe")  # opening one as usual would wait for a writer
    found = refused_file(write(tmp_path, with_external(location)))
    assert found.code == "DC121"
    assert found.message == f"external data is missing: {reason}"


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        ("8", "16"),
        ("-4", "16"),
        ("0", "17"),
        ("x", "16"),
        ("0", "-1"),
        ("99", ""),
        (" 0", "16"),
        ("0", "1_6"),
        ("0", "١٦"),
        ("9" * 19, "16"),
        ("9" * 5000, "16"),
    ],
)
def test_external_data_short(tmp_path: Path, offset: str, length: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    found = refused_file(write(tmp_path, with_external("w.bin", offset, length)))
    assert found.code == "DC121"
    assert found.message == "external data is shorter than the model says"
    assert "16 bytes" in found.got


def test_external_data_too_large(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(3 << 30)
    assert refused_file(write(tmp_path, with_external("w.bin"))).code == "DC105"


def test_a_small_file_claimed_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor within the file, all together beyond what a message can hold."""
    monkeypatch.setattr(reading, "MAX_BYTES", 1 << 20)
    (tmp_path / "w.bin").write_bytes(bytes(64 << 10))
    proto = with_external("w.bin", length="")
    for number in range(40):
        proto.graph.initializer.append(proto.graph.initializer[0])
        proto.graph.initializer[-1].name = f"w{number}"
    assert refused_file(write(tmp_path, proto)).code == "DC105"
    assert refused_file(write(tmp_path, with_external("w.bin", length=str(2**62)))).code == "DC105"


def test_external_data_wherever_a_tensor_is(tmp_path: Path) -> None:
    """In lists, sparse tensors, branches, functions and their defaults: none is left for others to read."""
    outside = with_external("/etc/passwd").graph.initializer[0]
    listed = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSORS, tensors=[outside])
    sparse = onnx.AttributeProto(name="value", type=onnx.AttributeProto.SPARSE_TENSOR)
    sparse.sparse_tensor.values.CopyFrom(outside)
    branch = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
    branch.g.initializer.append(outside)
    for attribute in (listed, sparse, branch):
        proto = text(GRAPH)
        proto.graph.node[0].attribute.append(attribute)
        assert refused_file(write(tmp_path, proto)).code == "DC120"
        proto = text(GRAPH)
        proto.functions.add(name="f", domain="d").node.add(op_type="If").attribute.append(attribute)
        assert refused_file(write(tmp_path, proto)).code == "DC120"
        proto = text(GRAPH)
        proto.functions.add(name="f", domain="d").attribute_proto.append(attribute)
        assert refused_file(write(tmp_path, proto)).code == "DC120"


def test_all_external_faults_at_once(tmp_path: Path) -> None:
    proto = with_external("../a.bin")
    proto.graph.initializer.append(with_external("none.bin").graph.initializer[0])
    proto.graph.initializer[1].name = "v"
    with pytest.raises(DeployccError) as raised:
        reading.read_model(write(tmp_path, proto))
    assert [d.code for d in raised.value.diagnostics] == ["DC120", "DC121"]
