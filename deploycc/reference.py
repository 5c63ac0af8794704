"""What a model must compute: random inputs, the reference's outputs, and how close is close enough.

The reference is ONNX Runtime on one thread, where the same model and inputs give the same
bytes every time on one machine.  Above the opset it knows, or for an operator it has no
kernel for, it is onnx's own (slow) reference evaluator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from deploycc.onnx_graph import Array, opset_of
from deploycc.types import DeployccError, Diagnostic, Golden, Model, TensorInfo

ORT_NEWEST_OPSET = 26
"""The newest default-domain opset ONNX Runtime 1.31.1 loads."""

ORT_NEWEST_IR = 13
"""The newest IR version ONNX Runtime 1.31.1 loads."""

RELATIVE_TOLERANCE: Mapping[str, float] = {
    "float16": 1e-2,
    "float32": 1e-4,
    "float64": 1e-6,
}
"""Largest absolute error allowed, as a share of the reference's largest finite absolute value.

float16 has 11 significant bits (one unit is 4.9e-4 of the value); 1e-2 leaves about twenty
units for what accumulates through a network.  Integers and booleans must be equal.
"""


@dataclass(frozen=True)
class Comparison:
    """How far ``got`` is from ``expected``: both in the tensor's own unit, ``bound`` the most allowed."""

    ok: bool
    max_abs_error: float
    bound: float
    reason: str = ""


def random_inputs(
    inputs: Sequence[TensorInfo],
    seed: int,
    hints: Mapping[str, tuple[float, float]] | None = None,
) -> list[Array]:
    """Random values for every input, the same for the same seed, names notwithstanding.

    Floats are standard normal.  ``uint8`` covers 0 to 255 (an image), other integers 0 to 3, so
    that they are safe as indices of most tables.  Booleans are fair coins.  ``hints`` gives a
    closed range for an input by name; floats are then uniform in it.
    """
    generator = np.random.default_rng(seed)
    return [_random(info, generator, (hints or {}).get(info.name)) for info in inputs]


def _random(info: TensorInfo, generator: np.random.Generator, hint: tuple[float, float] | None) -> Array:
    dtype = np.dtype(info.dtype)
    if dtype.kind == "f":
        if hint is not None:
            return np.asarray(generator.uniform(hint[0], hint[1], info.shape)).astype(dtype)
        return np.asarray(generator.standard_normal(info.shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(generator.integers(0, 1, info.shape, endpoint=True)).astype(dtype)
    low, high = hint if hint is not None else (0, 255 if dtype == np.uint8 else 3)
    return np.asarray(generator.integers(int(low), int(high), info.shape, endpoint=True)).astype(dtype)


class ReferenceFailed(Exception):
    """No reference engine could run the model; the message says what each of them said."""


def run(proto: ModelProto, inputs: Sequence[Array]) -> tuple[list[Array], str]:
    """Run ``proto`` on ``inputs`` (in the graph's order); the outputs and the engine's name and version.

    Raises ``ReferenceFailed`` where neither ONNX Runtime nor onnx's evaluator can run it.
    """
    feeds = dict(zip((info.name for info in proto.graph.input), inputs, strict=True))
    ort_reason = f"opset {opset_of(proto)} is newer than it knows"
    if opset_of(proto) <= ORT_NEWEST_OPSET:
        try:
            return _run_onnxruntime(proto, feeds), f"onnxruntime {ort.__version__}"
        except Exception as error:  # ORT raises many bare classes of its own C++ exceptions
            ort_reason = _first_line(error)
    try:
        outputs = ReferenceEvaluator(proto).run(None, feeds)
    except Exception as error:  # the evaluator is Python code run on an untrusted graph
        raise ReferenceFailed(
            f"onnxruntime: {ort_reason}; onnx.reference: {type(error).__name__}: {_first_line(error)}"
        ) from None
    return [np.asarray(value) for value in outputs], f"onnx.reference {onnx.__version__}"


def _first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()),
        type(error).__name__,
    )


def _run_onnxruntime(proto: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    session = ort.InferenceSession(_loadable(proto), options, providers=["CPUExecutionProvider"])
    values: list[Any] = session.run(None, dict(feeds))
    return [np.asarray(value) for value in values]


def _loadable(proto: ModelProto) -> bytes:
    if proto.ir_version <= ORT_NEWEST_IR:
        return proto.SerializeToString()
    lowered = ModelProto()
    lowered.CopyFrom(proto)
    lowered.ir_version = ORT_NEWEST_IR
    return lowered.SerializeToString()


def golden(model: Model, seed: int) -> Golden:
    """Reference inputs and outputs of ``model`` for a package.

    Raises ``DeployccError`` with DC160 where no reference engine can run the model.
    """
    inputs = random_inputs(model.inputs, seed)
    try:
        outputs, engine = run(model.proto, inputs)
    except ReferenceFailed as error:
        raise DeployccError(
            Diagnostic(
                "DC160",
                "the reference cannot run the model, so its results could not be checked",
                got=str(error)[:500],
                need="a model that ONNX Runtime or onnx.reference runs on random inputs",
                help="integer inputs are drawn from 0 to 3; a model that needs other values (indices, lengths) "
                "fails here",
            )
        ) from None
    return Golden(
        inputs=tuple(_bytes(value) for value in inputs),
        outputs=tuple(_bytes(value) for value in outputs),
        engine=engine,
        seed=seed,
    )


def _bytes(value: Array) -> bytes:
    little = value.dtype.newbyteorder("<")
    return np.ascontiguousarray(value, dtype=little).tobytes()


def compare(expected: Array, got: Array) -> Comparison:
    """Whether ``got`` is ``expected`` within ``RELATIVE_TOLERANCE`` of the dtype of ``expected``.

    NaN must meet NaN and an infinity the same infinity; the bound is taken from the largest
    finite magnitude of ``expected``.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        reason = f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
        return Comparison(False, float("inf"), 0.0, reason)
    if expected.dtype.kind != "f":
        wrong = int(np.count_nonzero(expected != got))
        reason = f"{wrong} of {expected.size} values differ" if wrong else ""
        return Comparison(wrong == 0, _integer_error(expected, got), 0.0, reason)
    want, have = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(want[~finite], have[~finite], equal_nan=True):
        return Comparison(
            False,
            float("inf"),
            0.0,
            "NaN or infinity where the reference has none, or the reverse",
        )
    share = RELATIVE_TOLERANCE[expected.dtype.name]
    magnitude = float(np.max(np.abs(want[finite]), initial=0.0))
    error = float(np.max(np.abs(want[finite] - have[finite]), initial=0.0))
    bound = share * magnitude
    ok = error <= bound
    reason = "" if ok else f"largest error {error:.3g}, allowed {bound:.3g} ({share:g} of {magnitude:.3g})"
    return Comparison(ok, error, bound, reason)


def _integer_error(expected: Array, got: Array) -> float:
    if expected.size == 0:
        return 0.0
    return float(np.max(np.abs(expected.astype(np.float64) - got.astype(np.float64))))
