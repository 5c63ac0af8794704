"""deploycc/timing/inputs.py, agreement.py: what contestants are given, and whether they agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploycc.running import open_package
from deploycc.timing.agreement import check_agreement
from deploycc.timing.inputs import inputs_for
from deploycc.types import DeployccError

SHAPE = (1, 3, 13, 16)


def test_golden_and_random_inputs(small_package: Path) -> None:
    package = open_package(small_package)
    (golden,) = inputs_for(package, "golden")
    assert np.array_equal(golden, package.golden("inputs")[0])
    (drawn,) = inputs_for(package, "random")
    assert (drawn.dtype, drawn.shape) == (np.float32, SHAPE)
    assert not np.array_equal(drawn, golden)


def test_inputs_from_files(small_package: Path, tmp_path: Path) -> None:
    package = open_package(small_package)
    x = np.random.default_rng().standard_normal(SHAPE, np.float32)
    np.savez(tmp_path / "a.npz", x=x)
    assert np.array_equal(inputs_for(package, str(tmp_path / "a.npz"))[0], x)
    for name, write in (("x.npy", np.save), ("input_0.npy", np.save)):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        write(folder / name, x)
        assert np.array_equal(inputs_for(package, str(folder))[0], x)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "x.bin").write_bytes(x.tobytes())
    assert np.array_equal(inputs_for(package, str(raw))[0], x)


def test_inputs_that_do_not_fit_are_told(small_package: Path, tmp_path: Path) -> None:
    package = open_package(small_package)
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    np.savez(tmp_path / "shape.npz", x=np.zeros((1, 3, 13, 17), np.float32))
    np.savez(tmp_path / "dtype.npz", x=np.zeros(SHAPE))
    np.savez(tmp_path / "object.npz", x=np.array([{}], object))
    np.save(tmp_path / "single.npy", np.zeros(SHAPE, np.float32))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "x.bin").write_bytes(b"abcd")
    said = {
        "other.npz": "there is no input 'x'",
        "shape.npz": "input 'x' does not fit the package",
        "dtype.npz": "input 'x' does not fit the package",
        "object.npz": "input 'x' cannot be read",
        "single.npy": "input 'x' cannot be read",
        "broken.npz": "input 'x' cannot be read",
        ".": "input 'x' cannot be read",
        "none.npz": "does not exist",
    }
    for name, message in said.items():
        with pytest.raises(DeployccError, match=message) as error:
            inputs_for(package, str(tmp_path / name))
        assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["DC839"]


def test_engines_may_drop_axes_and_widen_integers_but_not_differ() -> None:
    want = [np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.arange(3, dtype=np.int64)]
    close = want[0] * np.float32(1 + 1e-5)
    check_agreement({"a": [close.reshape(2, 3), want[1].astype(np.int32)]}, want, "engine", ["x", "y"])
    check_agreement({"a": [close, want[1].astype(np.float32)]}, want, "engine", ["x", "y"])
    wrong = {"a": [want[0] * 1.01, want[1] + 1], "b": [want[0].reshape(1, 3, 2), want[1].astype(np.int32)]}
    with pytest.raises(DeployccError, match="does not compute what engine does") as error:
        check_agreement(wrong, want, "engine", ["x", "y"])
    told = [(d.code, d.message.split()[0], d.node) for d in error.value.diagnostics]
    assert told == [("DC833", "a", "x"), ("DC833", "a", "y"), ("DC833", "b", "x")]


def test_nan_and_fractions_are_no_integers() -> None:
    want = [np.arange(3, dtype=np.int64)]
    for got in (np.array([0, 1, np.nan]), np.array([0, 1, 2.5])):
        with pytest.raises(DeployccError):
            check_agreement({"a": [got]}, want, "engine", ["y"])
