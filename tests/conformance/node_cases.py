"""onnx's own node tests as cases: as they are, and as a deployer's models have them.

The tests pass everything as a graph input.  A deployer's model has axes, shapes, weights and scales as
constants; ``deployer_cases`` makes them so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from tests.sweep.case import Array, Case

FIRST_PARAMETER = {
    **dict.fromkeys(
        "Reshape Expand Tile Slice Pad Resize Squeeze Unsqueeze TopK OneHot Split CumSum Clip Conv "
        "ConvTranspose ConvInteger BatchNormalization InstanceNormalization LayerNormalization "
        "GroupNormalization RMSNormalization QuantizeLinear DequantizeLinear LSTM GRU RNN PRelu Upsample "
        "CenterCropPad Trilu CumProd AffineGrid Col2Im Dropout QLinearMatMul QLinearConv MatMulInteger "
        "Compress ReverseSequence Gemm DFT STFT".split(),
        1,
    ),
    **dict.fromkeys(
        "Range ConstantOfShape HannWindow HammingWindow BlackmanWindow MelWeightMatrix".split(), 0
    ),
    "NonMaxSuppression": 2,
    "MaxUnpool": 2,
}
"""From which input on a deployer's model has constants; every reduction's axes as well."""


@cache
def given_cases() -> tuple[Case, ...]:
    """Every node test whose values are plain numpy arrays, as it is: no sequences, no packed types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    return tuple(case for test in tests if (case := _case(test)) is not None)


@cache
def deployer_cases() -> tuple[Case, ...]:
    """The same tests with what an operator takes as a parameter stored in the model."""
    written = {case.name: case for case in given_cases()}
    whole = (written.get(case.name.partition("_expanded")[0], case) for case in given_cases())
    return tuple(with_constants(case, one.proto) for case, one in zip(given_cases(), whole, strict=True))


def with_constants(case: Case, whole: onnx.ModelProto | None = None) -> Case:
    """The case with its parameters as weights; the case itself where it has none.

    ``whole`` is the test that the case is the expansion of: its operator says what is a parameter.
    """
    protos = [case.proto] if whole is None else [case.proto, whole]
    names = [name for proto in protos for name in _parameters(proto) if name in case.inputs]
    if not names:
        return case
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    for name in dict.fromkeys(names):
        proto.graph.initializer.append(numpy_helper.from_array(case.inputs[name], name))
    for info in [info for info in proto.graph.input if info.name in names]:
        proto.graph.input.remove(info)
    kept = {name: value for name, value in case.inputs.items() if name not in names}
    return replace(case, proto=proto, inputs=kept)


def operators(cases: Sequence[Case]) -> dict[str, str]:
    """The operator that each case tests: that of its one node, or of the test it is the expansion of."""
    by_name = {case.name: case.proto.graph.node[0].op_type for case in cases}

    def base(name: str) -> str:
        return name.partition("_expanded")[0]

    return {name: by_name.get(base(name), operator) for name, operator in by_name.items()}


def _case(test: Any) -> Case | None:
    inputs, outputs = test.data_sets[0]
    if not all(isinstance(value, np.ndarray | np.generic) for value in (*inputs, *outputs)):
        return None
    names = [info.name for info in test.model.graph.input]
    feeds = dict(zip(names, map(_array, inputs), strict=True))
    return Case(test.name, test.model, feeds, list(map(_array, outputs)))


def _array(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(str) if array.dtype.kind == "O" else array  # files hold no Python objects


def _parameters(proto: onnx.ModelProto) -> Iterator[str]:
    for node in proto.graph.node:
        first = FIRST_PARAMETER.get(node.op_type, 1 if node.op_type.startswith("Reduce") else None)
        if first is not None:
            yield from (name for name in node.input[first:] if name)
        elif node.op_type == "Loop":  # how often; its states are data
            yield from (name for name in node.input[:2] if name)
