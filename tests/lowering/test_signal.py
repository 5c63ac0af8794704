"""Fourier transforms: as matrix products and as a routine, beside ONNX Runtime and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploycc.lowering.converters import signal
from deploycc.types import DeployccError
from tests.lowering.lines import check_line, given, normal, through
from tests.planning.harness import ARM64, X86_64, run_plan
from tests.scheduling.graphs import SEED, Case, Graph, build


def dft(length: int, axis: int = 1, shape: tuple[int, ...] = (2, 0, 3, 1), **attributes: Any) -> Case:
    """A transform along ``axis``, whose extent in ``shape`` is 0; ``cut`` is another length."""
    cut = attributes.pop("cut", None)

    def add(graph: Graph) -> str:
        extents = [length if place == axis else extent for place, extent in enumerate(shape)]
        size = "" if cut is None else graph.constant(np.array(cut, np.int64))
        data = normal(graph, *extents, dtype=attributes.get("dtype", "float32"))
        numbers = {key: value for key, value in attributes.items() if key != "dtype"}
        return str(graph.add("DFT", data, size, graph.constant(np.array(axis, np.int64)), **numbers))

    return Case(f"dft {length} {axis} {shape} {cut} {attributes}", add)


def stft(signal_length: int, frame: int, step: int, window: str = "", **attributes: Any) -> Case:
    """Frames of a signal; ``window`` is absent, a constant or an input."""
    complex_signal = attributes.pop("complex_signal", False)

    def add(graph: Graph) -> str:
        values = graph.rng.standard_normal(frame).astype(np.float32)
        shape = {"": "", "constant": graph.constant(values)}.get(window) or given(graph, values)
        return str(
            graph.add(
                "STFT",
                normal(graph, 2, signal_length, 1 + complex_signal),
                graph.constant(np.array(step, np.int64)),
                shape if window else "",
                graph.constant(np.array(frame, np.int64)),
                **attributes,
            )
        )

    return Case(f"stft {signal_length} {frame} {step} {window} {attributes}", add)


SMALL = [
    *(dft(length, onesided=1) for length in (1, 2, 7, 16, 37)),
    *(dft(length, shape=(2, 0, 3, 2), inverse=1) for length in (1, 5, 12)),
    *(dft(length, shape=(2, 0, 3, 2), inverse=1, onesided=1) for length in (2, 7, 10)),
    dft(9, axis=0, shape=(0, 4, 2)),
    dft(9, axis=2, shape=(2, 3, 0, 1), cut=5),
    dft(9, axis=-2, shape=(2, 3, 9, 1), cut=14, onesided=1),
    dft(6, axis=1, shape=(1, 0, 2), inverse=1, onesided=1, cut=11),
    stft(40, 16, 8),
    stft(41, 7, 3, "constant", onesided=0),
    stft(33, 33, 1, "input"),
    stft(40, 12, 5, "constant", onesided=0, complex_signal=True),
]


@pytest.mark.parametrize("products", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_short_transforms(products: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not products:
        monkeypatch.setattr(signal, "LONGEST_PRODUCT", 0)
    check_line(SMALL, tmp_path)


def test_the_routine_on_arm64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "LONGEST_PRODUCT", 0)
    # ONNX Runtime's own error grows with the length: of an inverse one of 60 it was seen at 1.1e-5.
    check_line([dft(37, onesided=1), dft(20, shape=(1, 0, 2), inverse=1)], tmp_path, ARM64)


LENGTHS = (1021, 1024, 1000, 961, 4096, 2 * 509)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_long_transforms_are_as_good_as_their_type(dtype: str, tmp_path: Path) -> None:
    cases = [dft(length, shape=(2, 0, 1), onesided=1, dtype=dtype) for length in LENGTHS]
    cases += [dft(length, shape=(1, 0, 2), inverse=1, dtype=dtype) for length in LENGTHS]
    built = build(cases, SEED, 20)
    planned = through(built.model.proto, tmp_path)
    feeds = [built.feeds[info.name] for info in planned.inputs]
    for data, got in zip(feeds, run_plan(planned, feeds, X86_64), strict=True):
        exact = data.astype(np.float64)
        want = (
            np.fft.rfft(exact[..., 0])
            if data.shape[-1] == 1
            else np.fft.ifft(exact.view(np.complex128)[..., 0])
        )
        error = np.abs(got.astype(np.float64).view(np.complex128)[..., 0] - want).max() / np.abs(want).max()
        assert error < {"float32": 3e-7, "float64": 1e-14}[dtype], (SEED, data.shape)


def test_roots_of_unity_on_the_axes_are_exact() -> None:
    for length in (1, 2, 4, 12, 1024):
        roots = signal.roots_of_unity(length)
        assert roots[0] == 1
        if length % 4 == 0:
            assert (roots[length // 4], roots[length // 2], roots[3 * length // 4]) == (-1j, -1, 1j)


def test_a_length_known_only_at_run_time_is_refused(tmp_path: Path) -> None:
    def add(graph: Graph) -> str:
        length = graph.add("Size", normal(graph, 4))
        hidden = graph.add("Where", given(graph, np.array(True)), length, length)
        return str(graph.add("DFT", normal(graph, 1, 8, 1), hidden))

    with pytest.raises(DeployccError) as refused:
        check_line([Case("runtime length", add)], tmp_path)
    assert {d.code for d in refused.value.diagnostics} & {"DC402", "DC207"}
