"""ONNX Runtime as the other side of every comparison: same inputs, chosen thread count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest absolute error allowed, as a share of the largest absolute value of that output."""

ROUNDING_CAP = 1e-3
"""The tolerance never gets larger than this; see ``allowed_error``."""

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}
Array = NDArray[Any]


class OnnxRuntime:
    """A session with ``threads`` threads whose inputs and outputs stay bound between runs."""

    def __init__(self, model: Path, threads: int = 1, *, optimised: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._binding: Any = None

    def random_inputs(self, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> list[Array]:
        """One array per graph input: floats in [-1, 1), integers in [0, 255], 8-bit ones in [0, 127]."""
        generator = np.random.default_rng(seed)
        arrays: list[Array] = []
        for value in self.session.get_inputs():
            dtype, shape = np.dtype(_DTYPES[value.type]), shapes.get(value.name, tuple(value.shape))
            if dtype.kind == "f":
                arrays.append(generator.uniform(-1, 1, shape).astype(dtype))
            elif dtype.kind == "b":
                arrays.append(generator.integers(0, 2, shape).astype(dtype))
            else:
                high = 256 if dtype.itemsize > 1 else 128
                arrays.append(generator.integers(0, high, shape).astype(dtype))
        return arrays

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return the outputs they give."""
        feeds = dict(zip((value.name for value in self.session.get_inputs()), inputs, strict=True))
        outputs: list[Array] = self.session.run(None, feeds)
        self._binding = self.session.io_binding()
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        for value, array in zip(self.session.get_outputs(), outputs, strict=True):
            self._binding.bind_ortvalue_output(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return outputs

    def run(self) -> None:
        """One run on the bound inputs, without copies into Python."""
        self.session.run_with_iobinding(self._binding)


def relative_error(got: Array, want: Array) -> float:
    """max |got - want| / max |want|; infinite where shapes differ or ``got`` is not finite."""
    if got.shape != want.shape:
        return float("inf")
    if want.size == 0:
        return 0.0
    error = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    scale = np.abs(want.astype(np.float64)).max()
    if not np.isfinite(error):
        return float("inf")
    return float(error / scale) if scale > 0 else float(error)


def largest_error(got: Sequence[Array], want: Sequence[Array]) -> float:
    """The worst ``relative_error`` over all outputs."""
    return max(relative_error(a, b) for a, b in zip(got, want, strict=True))


def allowed_error(model: Path, inputs: Sequence[Array], want: Sequence[Array], error: float) -> float:
    """How far from ``want`` (ONNX Runtime's outputs) a right result may be; ``error`` is how far it is.

    ``TOLERANCE`` is enough for nearly every network.  Where it is not, ONNX Runtime runs once more with
    its graph optimisations off, which is the same arithmetic in another order: what the two differ by is
    rounding that this network amplifies, and it is allowed too, up to ``ROUNDING_CAP``.
    """
    if error <= TOLERANCE:
        return TOLERANCE
    again = OnnxRuntime(model, optimised=False).bind(inputs)
    return min(max(TOLERANCE, largest_error(again, want)), ROUNDING_CAP)
