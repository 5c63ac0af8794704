"""What a model must compute: random inputs, the reference's outputs, and how close is close enough.

The reference is ONNX Runtime on one thread, where the same model and inputs give the same
bytes every time on one machine.  Above the opset it knows, or for an operator it has no
kernel for, it is onnx's own (slow) reference evaluator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from deploycc.counting.padding import padded
from deploycc.double_precision import WITHOUT_DOUBLE, in_double
from deploycc.onnx_graph import Array, opset_of
from deploycc.operator_files import references
from deploycc.precision_error import measured, rounding_like
from deploycc.recurrent_cells import GATES
from deploycc.tolerances import RELATIVE_TOLERANCE, SHARP
from deploycc.types import DeployccError, Diagnostic, Golden, Model, OutputError, Precision, TensorInfo

# What ONNX Runtime has to say comes as an exception; its warnings about old operators are noise here.
ort.set_default_logger_severity(4)

ORT_NEWEST_OPSET = 26
"""The newest default-domain opset ONNX Runtime 1.31.1 loads."""

ORT_NEWEST_IR = 13
"""The newest IR version ONNX Runtime 1.31.1 loads."""

_MOST_WITHOUT_DOUBLE = 12
"""How many more types of operators are found to have no kernels in double precision."""


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


def run(proto: ModelProto, inputs: Sequence[Array], *, plain: bool = False) -> tuple[list[Array], str]:
    """Run ``proto`` on ``inputs`` (in the graph's order); the outputs and the engine's name and version.

    With ``plain`` ONNX Runtime fuses and reorders nothing: a part of a network then computes the bits
    that the whole does.

    Raises ``ReferenceFailed`` where neither ONNX Runtime nor onnx's evaluator can run it.
    """
    feeds = _feeds(proto, inputs)
    ort_reason = f"opset {opset_of(proto)} is newer than it knows"
    if opset_of(proto) <= ORT_NEWEST_OPSET:
        try:
            values = _run_onnxruntime(proto, feeds, "none" if plain else "all")
            return values, f"onnxruntime {ort.__version__}"
        except Exception as error:  # ORT raises many bare classes of its own C++ exceptions
            ort_reason = _first_line(error)
    try:
        outputs = ReferenceEvaluator(proto, new_ops=references()).run(None, feeds)
    except Exception as error:  # the evaluator is Python code run on an untrusted graph
        raise ReferenceFailed(
            f"onnxruntime: {ort_reason}; onnx.reference: {type(error).__name__}: {_first_line(error)}"
        ) from None
    return [np.asarray(value) for value in outputs], f"onnx.reference {onnx.__version__}"


def _feeds(proto: ModelProto, inputs: Sequence[Array]) -> dict[str, Array]:
    return dict(zip((info.name for info in proto.graph.input), inputs, strict=True))


def _first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()),
        type(error).__name__,
    )


def _run_onnxruntime(
    proto: ModelProto, feeds: Mapping[str, Array], optimise: Literal["all", "extended", "none"] = "all"
) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "none": levels.ORT_DISABLE_ALL,
    }[optimise]
    loadable = ModelProto()
    loadable.CopyFrom(proto)
    loadable.ir_version = min(proto.ir_version, ORT_NEWEST_IR)
    session = ort.InferenceSession(loadable.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values: list[Any] = session.run(None, dict(feeds))
    return [np.asarray(value) for value in values]


@dataclass(frozen=True)
class Sample:
    """Inputs on which the reference is sharp, and what it computes on them."""

    inputs: list[Array]
    outputs: list[Array]
    engine: str


SPREADS = (10.0, 3.0)
"""Standard deviations of float inputs tried after 1, in this order, until the reference is sharp."""

INTEGER_RANGES = ((0, 3), (0, 1), (0, 0))
"""Closed ranges of integer inputs tried in this order until the model runs: they may be indices."""


def sample(proto: ModelProto, inputs: Sequence[TensorInfo], seed: int) -> Sample:
    """Random inputs the model runs on, with the reference's outputs.

    ``random_inputs``, with integers from a smaller range where the model refuses those; lengths of sequences
    from 1 to the number of steps.

    Raises ``ReferenceFailed`` with the first refusal where no range will do.
    """
    integers = [info.name for info in inputs if np.dtype(info.dtype).kind == "i"]
    lengths = _lengths(proto)
    refusal: ReferenceFailed | None = None
    for bounds in INTEGER_RANGES if integers else INTEGER_RANGES[:1]:
        values = random_inputs(inputs, seed, {**dict.fromkeys(integers, bounds), **lengths})
        try:
            outputs, engine = run(proto, values)
        except ReferenceFailed as error:
            refusal = refusal or error
        else:
            return Sample(values, outputs, engine)
    assert refusal is not None
    raise refusal


def _lengths(proto: ModelProto) -> dict[str, tuple[float, float]]:
    """Ranges of the lengths of recurrent layers: of others ONNX Runtime reads foreign memory."""
    infos = (*proto.graph.input, *proto.graph.value_info)
    extents = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in infos}
    found: dict[str, tuple[float, float]] = {}
    for node in proto.graph.node:
        if node.op_type in GATES and len(node.input) > 4 and node.input[4]:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "layout"), 0)
            shape = extents.get(node.input[0], [])
            steps = max(1, shape[axis]) if axis < len(shape) else 1
            found[node.input[4]] = (1, min(steps, found.get(node.input[4], (1, steps))[1]))
    return found


def sharp_sample(proto: ModelProto, inputs: Sequence[TensorInfo], seed: int) -> Sample:
    """A ``sample`` on which a tolerance means something.

    White noise drives some networks into a corner where every output is a saturated sigmoid
    of about 1e-5: ONNX Runtime then agrees with itself, optimised and not, to three digits
    only.  So float inputs are scaled by each of ``SPREADS`` until the two agree within
    ``SHARP`` of the tolerance (``own_error``); where none is sharp, the sharpest is taken.

    Raises ``ReferenceFailed`` where the model cannot be run.
    """
    first = sample(proto, inputs, seed)
    if not first.engine.startswith("onnxruntime"):
        return first
    best = (_blur(proto, first), first)
    if all(value.dtype.kind != "f" for value in first.inputs):
        return first
    for spread in SPREADS:
        if best[0] <= SHARP:
            break
        values = [x * np.asarray(spread, x.dtype) if x.dtype.kind == "f" else x for x in first.inputs]
        outputs, engine = run(proto, values)
        spread_out = Sample(values, outputs, engine)
        blur = _blur(proto, spread_out)
        if blur < best[0]:
            best = (blur, spread_out)
    return best[1]


def _blur(proto: ModelProto, taken: Sample) -> float:
    """The reference's own error as a share of the tolerance, over all outputs."""
    shares = zip(taken.outputs, own_error(proto, taken.inputs, taken.outputs), strict=True)
    return max((error / RELATIVE_TOLERANCE.get(x.dtype.name, 1.0) for x, error in shares), default=0.0)


def own_error(proto: ModelProto, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
    """About how far the reference's ``outputs`` may be from exact ones, as shares of their magnitudes.

    The largest of these differences: to ONNX Runtime with fewer optimisations, which adds in another order;
    to the model in double precision (``deploycc.double_precision``), which shows what kernels approximate
    and what the network amplifies; of a model with quantised tensors, to ONNX Runtime that computes in floats
    what lies between ``DequantizeLinear`` and ``QuantizeLinear``, which shows what one step is.  0 for
    outputs that are no floats, and where none can be run.
    """
    feeds = _feeds(proto, inputs)
    found = [0.0] * len(outputs)
    others = [_or_none(lambda: _run_onnxruntime(proto, feeds, "extended")), _run_in_double(proto, feeds)]
    if any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
        others.append(_or_none(lambda: _run_onnxruntime(proto, feeds, "none")))
    for other in others:
        for place, (want, have) in enumerate(zip(outputs, other or (), strict=False)):
            if want.dtype.kind == "f":
                error = compare(want, have.astype(want.dtype))
                magnitude = np.max(np.abs(want), initial=0.0, where=np.isfinite(want))
                if error.max_abs_error and np.isfinite(error.max_abs_error):
                    found[place] = max(found[place], error.max_abs_error / float(magnitude or 1.0))
    return found


def _or_none(values: Callable[[], list[Array]]) -> list[Array] | None:
    try:
        return values()
    except Exception:  # as in ``run``; what cannot be run another way has no second opinion
        return None


def _run_in_double(proto: ModelProto, feeds: Mapping[str, Array]) -> list[Array] | None:
    """The outputs in double precision where ONNX Runtime has kernels for it."""
    wide_feeds = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in feeds.items()
    }
    without = set(WITHOUT_DOUBLE)
    for _ in range(_MOST_WITHOUT_DOUBLE):
        wide = in_double(proto, without)
        if wide is None:
            return None
        try:
            return _run_onnxruntime(wide, wide_feeds, "extended")
        except Exception as error:  # as in ``run``
            missing = re.search(r"implementation for (\w+)\(", str(error))
            if missing is None or missing[1] in without:
                return None
            without.add(missing[1])
    return None


def precision_error(
    proto: ModelProto, inputs: Sequence[Array], outputs: Sequence[Array], precision: Precision
) -> tuple[OutputError, ...]:
    """How far each output is off where everything is rounded as ``precision`` does (``precision_error``).

    Empty for fp32, and where ONNX Runtime cannot run the rounding model.
    """
    copy = None if precision == "fp32" else rounding_like(proto, precision)
    if copy is None:
        return ()
    got = _or_none(lambda: _run_onnxruntime(copy, _feeds(proto, inputs), "none"))
    return () if got is None else measured(outputs, got)


def golden(model: Model, seed: int, precision: Precision = "fp32") -> Golden:
    """Reference inputs and outputs of ``model`` for a package (``sharp_sample``'s).

    Outputs whose size depends on data are padded with zeros, and followed by their numbers of rows.

    Raises ``DeployccError`` with DC160 where no reference engine can run the model.
    """
    try:
        taken = sharp_sample(model.proto, model.inputs, seed)
    except ReferenceFailed as error:
        raise DeployccError(
            Diagnostic(
                "DC160",
                "the reference cannot run the model, so its results could not be checked",
                got=str(error)[:500],
                need="a model that ONNX Runtime or onnx.reference runs on random inputs",
                help="integer inputs are drawn from 0 to 3, then 0 to 1, then as 0; others cannot be tried",
            )
        ) from None
    errors = own_error(model.proto, taken.inputs, taken.outputs)
    rounding = precision_error(model.proto, taken.inputs, taken.outputs, precision)
    counts = len(model.outputs) - len(errors)
    return Golden(
        inputs=tuple(_bytes(value) for value in taken.inputs),
        outputs=tuple(_bytes(value) for value in padded(taken.outputs, model.outputs)),
        engine=taken.engine,
        seed=seed,
        own_error=(*errors, *[0.0] * counts),
        rounding=(*rounding, *[OutputError()] * counts) if rounding else (),
    )


def _bytes(value: Array) -> bytes:
    data: bytes = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
    return data


def compare(expected: Array, got: Array, slack: float = 1.0) -> Comparison:
    """Whether ``got`` is ``expected`` within ``RELATIVE_TOLERANCE`` of the dtype of ``expected``.

    ``slack`` widens the tolerance: a wrong rewrite is off by far more than rounding.

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
    share = slack * RELATIVE_TOLERANCE[expected.dtype.name]
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
