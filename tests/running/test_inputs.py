"""Inputs in files: by name, in order, raw, as ONNX test data; what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import numpy_helper

from deploycc.running import Package
from deploycc.running.inputs import check_inputs, inputs_of, read_samples
from deploycc.types import DeployccError, Diagnostic

MANIFEST: dict[str, Any] = {
    "inputs": [
        {"name": "in/image", "identifier": "in_image", "dtype": "float32", "shape": [1, 2, 3], "bytes": 24},
        {"name": "size", "identifier": "size", "dtype": "int64", "shape": [], "bytes": 8},
    ],
    "outputs": [{"name": "y", "identifier": "y", "dtype": "float32", "shape": [2], "bytes": 8}],
}
IMAGE: npt.NDArray[Any] = np.random.default_rng().standard_normal((1, 2, 3)).astype(np.float32)
SIZE: npt.NDArray[Any] = np.asarray(7, np.int64)
OUTPUT: npt.NDArray[Any] = np.asarray([1, 2], np.float32)


def assert_read(path: Path, *, outputs: bool = False) -> None:
    [given] = read_samples(path, MANIFEST)
    np.testing.assert_array_equal(given.inputs[0], IMAGE)
    np.testing.assert_array_equal(given.inputs[1], SIZE)
    assert given.inputs[0].dtype == np.float32
    assert given.inputs[1].shape == ()
    assert (given.outputs is not None) == outputs


def findings(path: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(DeployccError) as caught:
        read_samples(path, MANIFEST)
    return caught.value.diagnostics


def test_an_archive_has_names_identifiers_or_an_order(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    arrays: Any = {"in/image": IMAGE, "size": SIZE}
    np.savez(path, **arrays)
    assert_read(path)
    np.savez_compressed(path, in_image=IMAGE.astype(">f4"), size=SIZE, y=OUTPUT)
    assert_read(path, outputs=True)
    np.savez(path, IMAGE, SIZE)
    assert_read(path)


def test_a_folder_has_arrays_bytes_or_onnx_tensors(tmp_path: Path) -> None:
    np.save(tmp_path / "in_image.npy", IMAGE)
    (tmp_path / "input_1.bin").write_bytes(SIZE.astype("<i8").tobytes())
    assert_read(tmp_path)
    (tmp_path / "in_image.npy").unlink()
    (tmp_path / "input_0.pb").write_bytes(numpy_helper.from_array(IMAGE).SerializeToString())
    (tmp_path / "output_0.pb").write_bytes(numpy_helper.from_array(OUTPUT).SerializeToString())
    assert_read(tmp_path, outputs=True)


def test_folders_of_onnx_test_data_are_sets(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"test_data_set_{number}"
        folder.mkdir()
        for at, array in enumerate((IMAGE + np.float32(number), SIZE)):
            (folder / f"input_{at}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    sets = read_samples(tmp_path, MANIFEST)
    assert [float(given.inputs[0].flat[0] - IMAGE.flat[0]) for given in sets] == pytest.approx(
        [0, 1, 2], abs=1e-5
    )


def test_everything_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, in_image=IMAGE.astype(np.float64), size=np.zeros(3, np.int64))
    first, second = findings(path)
    assert first.code == second.code == "DC813"
    assert (first.got, first.need) == ("float64 1x2x3", "float32 1x2x3")
    assert "astype(numpy.float32)" in first.help
    assert (second.got, second.need) == ("int64 3", "int64 scalar")
    assert "--shape" in second.help
    np.savez(path, image=IMAGE, size=SIZE)
    [missing] = findings(path)
    assert (missing.code, missing.got) == ("DC813", "image, size")
    assert "'in/image'" in missing.message


def test_bytes_of_another_length_are_told(tmp_path: Path) -> None:
    (tmp_path / "input_0.bin").write_bytes(bytes(20))
    (tmp_path / "input_1.bin").write_bytes(bytes(8))
    [found] = findings(tmp_path)
    assert (found.code, found.got) == ("DC813", "20 bytes")
    assert found.need.startswith("24 bytes")


def test_lists_of_arrays_are_checked() -> None:
    assert len(check_inputs([IMAGE, SIZE], MANIFEST, "the list")) == 2
    for arrays in ([IMAGE], [SIZE, IMAGE]):
        with pytest.raises(DeployccError, match="DC813"):
            check_inputs(arrays, MANIFEST, "the list")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY", b"text"])
@pytest.mark.parametrize("name", ["data.npz", "in_image.npy", "input_0.pb"])
def test_damaged_files_are_told(tmp_path: Path, name: str, content: bytes) -> None:
    if name == "input_0.pb" and not content:
        pytest.skip("an empty protobuf is a tensor without a type")
    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "size.npy", SIZE)
    found = findings(tmp_path / name if name == "data.npz" else tmp_path)
    assert found[0].code == "DC812"


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, in_image=np.asarray([{"a": 1}], object), size=SIZE)
    [found] = findings(path)
    assert found.code == "DC812"
    assert "allow_pickle" in found.got


def test_a_tensor_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(IMAGE)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    np.save(tmp_path / "size.npy", SIZE)
    [found] = findings(tmp_path)
    assert found.code == "DC812"
    assert "another file" in found.got


def test_nothing_there_is_told(tmp_path: Path) -> None:
    [found] = findings(tmp_path / "none.npz")
    assert (found.code, found.got) == ("DC812", "no such file or folder")
    assert [one.code for one in findings(tmp_path)] == ["DC813", "DC813"]


# ---- one set for a package ----


def test_random_inputs_have_the_packages_types(tmp_path: Path) -> None:
    names = ("float32", "float16", "int64", "uint8", "bool")
    tensors = [{"name": name, "identifier": name, "dtype": name, "shape": [2, 3]} for name in names]
    package = Package(tmp_path, {"inputs": tensors})
    arrays, told = inputs_of(package, "random", seed=7)
    assert [(array.dtype.name, array.shape) for array in arrays] == [(name, (2, 3)) for name in names]
    assert told == "random inputs, seed 7"
    again, _ = inputs_of(package, "random:7")
    other, _ = inputs_of(package, "random:8")
    assert np.array_equal(again[0], arrays[0])
    assert not np.array_equal(other[0], arrays[0])


def test_one_set_from_files_or_arrays(tmp_path: Path) -> None:
    package = Package(tmp_path, MANIFEST)
    np.savez(
        tmp_path / "in.npz", **{MANIFEST["inputs"][0]["name"]: IMAGE, MANIFEST["inputs"][1]["name"]: SIZE}
    )
    for source in (tmp_path / "in.npz", str(tmp_path / "in.npz"), [IMAGE, SIZE]):
        arrays, _ = inputs_of(package, source)
        assert np.array_equal(arrays[0], IMAGE)
    with pytest.raises(DeployccError, match="DC812"):
        inputs_of(package, "random:x")
