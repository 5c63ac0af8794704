"""Runs the parts in order in ONNX Runtime, as the pipeline does, and compares with the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploycc.onnx_graph import Array
from deploycc.reference import ReferenceFailed, compare, run, sample
from deploycc.splitting.parts import Cut, CutTensor
from deploycc.types import DeployccError, Diagnostic, Model

SAMPLES = 3
"""Random inputs are drawn so many times."""

TOLERANCE = 1e-5
"""Largest difference of a float output, over its largest value.  Other types must be equal."""


@dataclass(frozen=True)
class Agreement:
    """How the parts in order compare with the whole.

    ``compared`` of ``samples`` random inputs were run (others gave more than was promised), ``exact``:
    every output had the same bytes each time, ``error``: the largest difference over the output's
    largest value.  ``recorded`` is the first run.
    """

    samples: int
    compared: int
    exact: bool
    error: float
    engine: str
    recorded: Values
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Values:
    """Tensors of one run by name: with their ``exact`` extents, and bounded ones ``padded`` to the most."""

    exact: dict[str, Array]
    padded: dict[str, Array]


class TooMany(Exception):
    """A tensor is larger than was promised: ``tensor``, its shape and the ``most`` there may be."""

    def __init__(self, tensor: CutTensor, shape: Sequence[int]) -> None:
        super().__init__(f"'{tensor.name}' is {_text(shape)}, at most {_text(tensor.shape)} was promised")


def check(cut: Cut, model: Model, seed: int) -> Agreement:
    """Run the whole and the parts on ``SAMPLES`` random inputs.

    The whole is what was cut, constants folded.  It also runs as it was read: DC789 among the diagnostics
    where folding changes an output by more than ``deploycc.reference`` allows on one of these inputs.

    Raises ``DeployccError``: DC160 where the whole cannot be run, DC782 where a part cannot be run, where an
    output differs by more than ``TOLERANCE``, or where every sample exceeded what was promised.
    """
    exact, worst, compared, engine = True, 0.0, 0, ""
    recorded: Values | None = None
    refusal = ""
    notes: list[Diagnostic] = []
    whole, inputs = model.proto, model.inputs
    for number in range(SAMPLES):
        try:
            values = sample(whole, inputs, seed + number).inputs
            want, engine = run(whole, values, plain=True)
            notes += _folding_differs(model, values, want)
        except ReferenceFailed as error:
            raise DeployccError(_cannot_run(str(error))) from None
        given = dict(zip((info.name for info in inputs), values, strict=True))
        try:
            got = run_in_order(cut, given)
        except TooMany as error:
            refusal = str(error)
            continue
        compared += 1
        recorded = recorded or got
        for name, expected in zip(cut.outputs, want, strict=True):
            error_here = _difference(expected, got.exact[name])
            if error_here > TOLERANCE:
                raise DeployccError(_differs(name, expected, got.exact[name], error_here))
            worst = max(worst, error_here)
            exact = exact and expected.tobytes() == got.exact[name].tobytes()
    if recorded is None:
        raise DeployccError(
            Diagnostic(
                "DC782",
                "the parts could not be compared with the whole: no random input keeps to what was promised",
                got=refusal,
                need="extents that some input keeps to",
                help="give more with --shape",
            )
        )
    return Agreement(SAMPLES, compared, exact, worst, engine, recorded, tuple(notes[:1]))


def _folding_differs(model: Model, values: Sequence[Array], got: Sequence[Array]) -> list[Diagnostic]:
    if model.original is None:
        return []
    try:
        original, _ = run(model.original, values, plain=True)
    except ReferenceFailed:
        return []
    return [
        Diagnostic(
            "DC789",
            f"folding constants changes '{info.name}' on a random input",
            tensor=info.name,
            got=result.reason,
            severity="warning",
            help="results that depend on a comparison of almost equal numbers do so",
        )
        for info, want, have in zip(model.outputs, original, got, strict=True)
        if not (result := compare(want, have)).ok
    ]


def run_in_order(cut: Cut, inputs: Mapping[str, Array]) -> Values:
    """Every tensor of the pipeline, from its inputs by name.

    Raises ``TooMany`` where a bounded tensor has more elements than was promised, ``DeployccError`` (DC782)
    where a part cannot be run.
    """
    exact = dict(inputs)
    padded: dict[str, Array] = {}
    for part in cut.parts:
        host = part.place == "host"
        for name in part.inputs:
            tensor = cut.tensors[name]
            if tensor.kind == "bounded" and host and name not in exact:
                exact[name] = cropped(cut.tensors[name], padded[name], exact)
            elif tensor.kind == "bounded" and not host and name not in padded:
                padded[name] = filled_up(tensor, exact[name])
        source = {
            name: padded[name] if cut.tensors[name].kind == "bounded" and not host else exact[name]
            for name in part.inputs
        }
        try:
            results, _ = run(part.proto, list(source.values()), plain=True)
        except ReferenceFailed as error:
            raise DeployccError(
                Diagnostic(
                    "DC782",
                    f"the part {part.stem} cannot be run by itself",
                    got=str(error)[:500],
                    help="cut the model by hand and split what is left",
                )
            ) from None
        for name, value in zip(part.outputs, results, strict=True):
            bounded = cut.tensors[name].kind == "bounded" and not host
            (padded if bounded else exact)[name] = value
    for name, value in padded.items():
        if name not in exact:
            exact[name] = cropped(cut.tensors[name], value, exact)
    return Values(exact, padded)


def filled_up(tensor: CutTensor, value: Array) -> Array:
    """``value`` in a corner of zeros of the tensor's largest shape."""
    if len(value.shape) != len(tensor.shape) or any(
        have > most for have, most in zip(value.shape, tensor.shape, strict=True)
    ):
        raise TooMany(tensor, value.shape)
    result = np.zeros(tensor.shape, value.dtype)
    result[tuple(slice(extent) for extent in value.shape)] = value
    return result


def cropped(tensor: CutTensor, value: Array, exact: Mapping[str, Array]) -> Array:
    """The corner of ``value`` that was computed from true elements, not from what was filled up."""
    shape = list(tensor.shape)
    for axis, rows in (tensor.rows or {}).items():
        for row in rows:
            shape[axis] -= row.factor * (row.most - exact[row.tensor].shape[row.axis])
    return np.ascontiguousarray(value[tuple(slice(extent) for extent in shape)])


def _difference(expected: Array, got: Array) -> float:
    """The largest difference over the largest value, infinite where they cannot be compared."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return float("inf")
    if expected.dtype.kind not in "f":
        return 0.0 if np.array_equal(expected, got) else float("inf")
    want, have = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(want[~finite], have[~finite], equal_nan=True):
        return float("inf")
    error = float(np.max(np.abs(want[finite] - have[finite]), initial=0.0))
    largest = float(np.max(np.abs(want[finite]), initial=0.0))
    return error / largest if error else 0.0


def _differs(name: str, expected: Array, got: Array, error: float) -> Diagnostic:
    shapes = f"{got.dtype} {_text(got.shape)} instead of {expected.dtype} {_text(expected.shape)}"
    same = expected.shape == got.shape and expected.dtype == got.dtype
    return Diagnostic(
        "DC782",
        f"the parts run in order compute another '{name}' than the whole network",
        tensor=name,
        got=f"a difference of {error:.3g} of its largest value" if same else shapes,
        need=f"at most {TOLERANCE:g}; integers and booleans equal",
        help="if elements of a padded tensor depend on one another: leave its --shape out",
    )


def _cannot_run(why: str) -> Diagnostic:
    return Diagnostic(
        "DC160",
        "the reference cannot run the model, so its parts could not be compared with it",
        got=why[:500],
        need="a model that ONNX Runtime or onnx.reference runs on random inputs",
    )


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
