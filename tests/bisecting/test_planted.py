"""Errors planted in a schedule, in a fusion and in a layout transform, of which the search knows nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploycc.bisect import Bisection, bisect
from deploycc.bisecting.reducing import read_arrays
from deploycc.reference import compare, run
from deploycc.running import Orders, open_package, place_of
from deploycc.running import run as run_package
from deploycc.scheduling import apply
from deploycc.tvm_api import ir, structural_map, tirx
from tests.bisecting.conftest import build_here

Change = Callable[[Any], Any]


def _stores(function: Any, change: Change) -> Any:
    return function.with_body(structural_map(function.body, (tirx.BufferStore, change), order="post"))


def plant(monkeypatch: pytest.MonkeyPatch, before: Change | None, after: Change | None, word: str) -> None:
    """Kernels with ``word`` in their name have stores changed before or after they are scheduled."""
    own = apply._schedule_kernel

    def schedule(name: str, function: Any, *others: Any) -> Any:
        if word not in name:
            return own(name, function, *others)
        scheduled, choice = own(name, _stores(function, before) if before else function, *others)
        return (_stores(scheduled, after) if after else scheduled), choice

    monkeypatch.setattr(apply, "_schedule_kernel", schedule)


def halved_minimum(store: Any) -> Any:
    """``max(min(x, 6), 0)`` in HardSwish becomes ``max(min(x, 3), 0)``."""
    value = store.value
    if isinstance(value, tirx.Max) and isinstance(value.a, tirx.Min):
        less = tirx.Min(value.a.a, tirx.FloatImm("float32", float(value.a.b.value) / 2))
        return tirx.BufferStore(store.buffer, tirx.Max(less, value.b), store.indices)
    return store


def shifted(store: Any) -> Any:
    """What a transpose reads is one off along the axis that it moves."""
    if "transpose" in store.buffer.name and isinstance(store.value, ir.TensorLoad):
        indices, shape = list(store.value.indices), [int(n) for n in store.value.source.ty.shape]
        axis = int(np.argmax(shape))
        indices[axis] = tirx.FloorMod(indices[axis] + 1, tirx.IntImm("int64", shape[axis]))
        return tirx.BufferStore(store.buffer, tirx.BufferLoad(store.value.source, indices), store.indices)
    return store


def lossy_sum(store: Any) -> Any:
    """A multiply-add that a schedule wrote loses a part of its product."""
    value = store.value
    if isinstance(value, tirx.Add) and isinstance(value.b, tirx.Mul):
        less = tirx.Mul(value.b, tirx.const(0.75, str(value.b.ty.dtype)))
        return tirx.BufferStore(store.buffer, tirx.Add(value.a, less), store.indices)
    return store


def search(net: Path, folder: Path) -> Bisection:
    """Build with the compiler as it is now, and search."""
    build_here(net, folder / "package")
    return bisect(folder / "package", net, output=folder / "reduced", builder=build_here)


def shows(folder: Path) -> bool:
    """Whether the reduced model is wrong, built by the compiler as it is now."""
    build_here(folder / "model.onnx", folder / "package")
    package = open_package(folder / "package")
    given, proto = read_arrays(folder / "inputs.npz"), onnx.load(folder / "model.onnx")
    inputs = [given[tensor["name"]] for tensor in package.manifest["inputs"]]
    got = run_package(package, place_of(None, package.manifest), inputs, Orders()).outputs
    return any(not compare(a, b).ok for a, b in zip(run(proto, inputs)[0], got, strict=True))


def test_a_sound_package_has_no_suspect(net: Path, sound: Path, in_process: None) -> None:
    found = bisect(sound, net, builder=build_here)
    assert found.suspect is None
    assert found.reduction is None
    assert all(output.ok for output in found.outputs)
    assert found.compared >= 4


def test_an_error_in_a_fusion(
    net: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        plant(planted, halved_minimum, None, "conv2d")
        found = search(net, tmp_path)
        assert found.suspect is not None
        assert found.suspect.nodes == ("second", "swished")
        assert found.suspect.node == "swished"
        assert found.suspect.certainty == "shown by a build"
        assert found.reduction is not None
        assert found.reduction.shown is not None
        assert "first" not in found.reduction.nodes
        assert found.chain[0].own > 1e-3
        assert all(link.own < 1e-5 < link.total for link in found.chain[1:])
        assert shows(tmp_path / "reduced")
    assert not shows(tmp_path / "reduced")


@pytest.mark.slow
def test_an_error_in_a_schedule(
    net: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        plant(planted, None, lossy_sum, "matmul")
        found = search(net, tmp_path)
        assert found.suspect is not None
        assert (found.suspect.node, found.suspect.op) == ("dense", "Gemm")
        assert found.suspect.schedule == "gemm"
        assert found.reduction is not None
        assert found.reduction.nodes == ("dense",)
        assert shows(tmp_path / "reduced")


@pytest.mark.slow
def test_an_error_in_a_layout_transform(
    net: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        plant(planted, shifted, None, "transpose")
        found = search(net, tmp_path)
        assert found.suspect is not None
        assert found.suspect.kind == "layout transform"
        assert found.suspect.node == "swished"  # whose result the layout pass has moved
        assert found.reduction is not None
        assert found.reduction.shown is not None
        assert shows(tmp_path / "reduced")
