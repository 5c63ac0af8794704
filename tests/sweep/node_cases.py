"""onnx's own node tests as a deployer's models: what an operator takes as a parameter is a constant."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from tests.sweep.case import Case

FOREIGN = ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
FIRST_PARAMETER = {
    **dict.fromkeys(
        "Reshape Expand Tile Slice Pad Resize Squeeze Unsqueeze TopK OneHot Split CumSum Clip Conv "
        "ConvTranspose ConvInteger BatchNormalization InstanceNormalization LayerNormalization "
        "GroupNormalization RMSNormalization QuantizeLinear DequantizeLinear LSTM GRU RNN PRelu Upsample "
        "CenterCropPad Trilu CumProd AffineGrid Col2Im Dropout QLinearMatMul QLinearConv MatMulInteger "
        "NonMaxSuppression Compress ReverseSequence".split(),
        1,
    ),
    **dict.fromkeys(
        "Range ConstantOfShape HannWindow HammingWindow BlackmanWindow MelWeightMatrix".split(), 0
    ),
    "Gemm": 1,
    "DFT": 1,
    "NonMaxSuppression": 2,
    "MaxUnpool": 2,
    "STFT": 1,
    "OneHot": 1,
}
"""From which input on a deployer's model has constants; every reduction's axes as well."""


def node_cases() -> list[Case]:
    """Every node test of dense, non-string tensors of the standard domain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    return [case for test in tests if (case := _case(test)) is not None]


def _case(test: object) -> Case | None:
    proto = onnx.ModelProto()
    proto.CopyFrom(test.model)  # type: ignore[attr-defined]
    inputs, outputs = test.data_sets[0]  # type: ignore[attr-defined]
    values = [*proto.graph.input, *proto.graph.output]
    if any(node.domain in FOREIGN for node in proto.graph.node):
        return None
    if any(
        not v.type.HasField("tensor_type") or v.type.tensor_type.elem_type == TensorProto.STRING
        for v in values
    ):
        return None
    arrays = [_array(value) for value in (*inputs, *outputs)]
    if any(array is None for array in arrays):
        return None
    feeds = dict(zip([info.name for info in proto.graph.input], arrays[: len(inputs)], strict=True))
    for name in _parameters(proto):
        if name in feeds:
            proto.graph.initializer.append(_tensor(inputs[list(feeds).index(name)], feeds[name], name))
    constant = {tensor.name for tensor in proto.graph.initializer}
    for info in [info for info in proto.graph.input if info.name in constant]:
        proto.graph.input.remove(info)
    kept = {name: value for name, value in feeds.items() if name not in constant}
    return Case(test.name, proto, kept, arrays[len(inputs) :])  # type: ignore[attr-defined, arg-type]


def _parameters(proto: onnx.ModelProto) -> list[str]:
    found = []
    for node in proto.graph.node:
        first = FIRST_PARAMETER.get(node.op_type)
        if first is None and node.op_type.startswith("Reduce"):
            first = 1
        if first is not None:
            found += [name for name in node.input[first:] if name]
    return found


def _array(value: object) -> np.ndarray | None:  # type: ignore[type-arg]
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind == "V" or "float8" in array.dtype.name or array.dtype.name not in np.sctypeDict:
            return np.frombuffer(
                array.tobytes(), np.uint8
            )  # float8 and the like, which nothing here can run or store
        return array if array.dtype.kind in "fiub" else None
    return None


def _tensor(value: object, array: np.ndarray, name: str) -> TensorProto:  # type: ignore[type-arg]
    if isinstance(value, TensorProto):
        made = TensorProto()
        made.CopyFrom(value)
        made.name = name
        return made
    return numpy_helper.from_array(array, name)
