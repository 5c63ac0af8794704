"""Small ONNX graphs for planning tests, their plain lowering, and ONNX Runtime's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deploycc.tvm_api import from_onnx, relax, transform, tvm
from deploycc.types import Program, Task, TensorInfo

Array = np.ndarray[Any, Any]
F, H, I64, B, U8 = "float32", "float16", "int64", "bool", "uint8"


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[str, Sequence[int]]],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A checked model of one graph."""

    def described(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
            for name, (dtype, shape) in tensors.items()
        ]

    initializers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", described(inputs), described(outputs), initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node with blank-separated tensor names (``_`` is an omitted input)."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def lower_plainly(proto: onnx.ModelProto) -> Program:
    """TVM's own front end and fusion, no schedules: loops as the operator definitions give them."""
    passes = relax.transform
    steps = transform.Sequential(
        [
            relax.backend.DispatchSortScan(),
            passes.LegalizeOps(),
            passes.AnnotateTIROpPattern(),
            passes.FoldConstant(),
            passes.FuseOps(),
            passes.FuseTIR(),
        ]
    )
    with tvm.target.Target("llvm"):
        module = steps(from_onnx(proto))
    tasks = tuple(
        Task(variable.name_hint, func, (variable.name_hint,))
        for variable, func in module.functions.items()
        if variable.name_hint != "main"
    )
    return Program(module, tasks, tensor_infos(proto.graph.input), tensor_infos(proto.graph.output))


def tensor_infos(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    """Names, dtypes and static shapes of graph inputs or outputs."""
    return tuple(
        TensorInfo(
            v.name,
            str(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)),
            tuple(d.dim_value for d in v.type.tensor_type.shape.dim),
        )
        for v in values
    )


def random_inputs(proto: onnx.ModelProto, seed: int = 0) -> list[Array]:
    """Inputs of the model's dtypes: normal floats, small integers, coin flips."""
    generator = np.random.default_rng(seed)
    arrays: list[Array] = []
    for info in tensor_infos(proto.graph.input):
        if info.dtype.startswith("float"):
            array = generator.standard_normal(info.shape).astype(info.dtype)
        elif info.dtype == "bool":
            array = generator.integers(0, 2, info.shape).astype(bool)
        else:
            array = generator.integers(0, 5, info.shape).astype(info.dtype)
        arrays.append(array)
    return arrays


def reference(proto: onnx.ModelProto, inputs: Sequence[Array]) -> list[Array]:
    """ONNX Runtime's outputs, one thread, without its own graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {value.name: array for value, array in zip(proto.graph.input, inputs, strict=True)}
    return [np.asarray(output) for output in session.run(None, feed)]


def _weights(*shape: int, seed: int = 1, dtype: str = F) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.2).astype(dtype)


def gemm_softmax() -> onnx.ModelProto:
    return model(
        [node("Gemm", "x w b", "a", transB=1, alpha=0.5), node("Relu", "a", "r"), node("Softmax", "r", "y")],
        {"x": (F, (3, 17))},
        {"y": (F, (3, 11))},
        {"w": _weights(11, 17), "b": _weights(11)},
    )


def split() -> onnx.ModelProto:
    return model(
        [
            node("Split", "x sizes", "a b c", axis=1),
            node("Mul", "a b", "d"),
            node("Concat", "c d", "y", axis=1),
            node("Neg", "b", "z"),
        ],
        {"x": (F, (2, 7, 5))},
        {"y": (F, (2, 4, 5)), "z": (F, (2, 3, 5)), "c": (F, (2, 1, 5))},
        {"sizes": np.array([3, 3, 1], np.int64)},
    )


def argmax() -> onnx.ModelProto:
    return model(
        [node("ArgMax", "x", "i", axis=2, keepdims=0), node("ReduceMax", "x", "m", axes=[1], keepdims=1)],
        {"x": (F, (2, 3, 13))},
        {"i": (I64, (2, 3)), "m": (F, (2, 1, 13))},
    )


def layernorm_erf() -> onnx.ModelProto:
    return model(
        [
            node("LayerNormalization", "x scale bias", "n", axis=-1, epsilon=1e-5),
            node("Mul", "n half", "h"),
            node("Erf", "h", "e"),
            node("Mul", "e n", "y"),
        ],
        {"x": (F, (5, 31))},
        {"y": (F, (5, 31))},
        {"scale": _weights(31), "bias": _weights(31, seed=2), "half": np.array(0.70710678, np.float32)},
    )


def transcendental() -> onnx.ModelProto:
    operators = ["Exp", "Tanh", "Sigmoid", "Softplus", "Sin", "Cos", "Atan", "Erf", "Softsign", "Elu"]
    nodes = [node(op, "x", f"y{i}") for i, op in enumerate(operators)]
    nodes += [node("Abs", "x", "a"), node("Add", "a one", "p"), node("Log", "p", "l"), node("Sqrt", "p", "s")]
    nodes += [node("Pow", "p e", "q"), node("Reciprocal", "p", "r")]
    names = [f"y{i}" for i in range(len(operators))] + ["l", "s", "q", "r"]
    return model(
        nodes,
        {"x": (F, (4, 37))},
        dict.fromkeys(names, (F, (4, 37))),
        {"one": np.array(1, np.float32), "e": np.array(2.5, np.float32)},
    )


def resize() -> onnx.ModelProto:
    return model(
        [
            node("Resize", "x _ up", "a", mode="linear", coordinate_transformation_mode="half_pixel"),
            node(
                "Resize", "x _ up", "b", mode="nearest", coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ),
            node("Add", "a b", "y"),
        ],
        {"x": (F, (1, 3, 5, 7))},
        {"y": (F, (1, 3, 10, 14))},
        {"up": np.array([1, 1, 2, 2], np.float32)},
    )  # fmt: skip


def aliased_outputs() -> onnx.ModelProto:
    """Outputs that are an input, a constant, a view, a view of an input, and one tensor twice."""
    return model(
        [
            node("Identity", "x", "same"),
            node("Identity", "k", "fixed"),
            node("Relu", "x", "r"),
            node("Reshape", "r shape", "flat"),
            node("Reshape", "x shape", "flat_input"),
            node("Identity", "r", "again"),
            node("Neg", "flat", "n"),
        ],
        {"x": (F, (2, 3, 4))},
        {
            "same": (F, (2, 3, 4)), "fixed": (F, (5,)), "r": (F, (2, 3, 4)), "flat": (F, (24,)),
            "flat_input": (F, (24,)), "again": (F, (2, 3, 4)), "n": (F, (24,)),
        },
        {"k": _weights(5), "shape": np.array([24], np.int64)},
    )  # fmt: skip


def gather() -> onnx.ModelProto:
    return model(
        [node("Gather", "table ids", "e", axis=0), node("ReduceMean", "e", "m", axes=[1], keepdims=0)],
        {"ids": (I64, (2, 6))},
        {"e": (F, (2, 6, 9)), "m": (F, (2, 9))},
        {"table": _weights(5, 9)},
    )


def cumsum_where() -> onnx.ModelProto:
    return model(
        [
            node("CumSum", "x axis", "c"),
            node("Greater", "c zero", "g"),
            node("Where", "g c x", "y"),
        ],
        {"x": (F, (3, 8))},
        {"y": (F, (3, 8)), "g": (B, (3, 8))},
        {"axis": np.array(1, np.int64), "zero": np.array(0, np.float32)},
    )


def concat() -> onnx.ModelProto:
    return model(
        [
            node("Relu", "a", "r"),
            node("Concat", "r b w", "c", axis=1),
            node("Pad", "c pads value", "p"),
            node("Transpose", "p", "t", perm=[0, 2, 1]),
            node("Slice", "t starts ends axes", "y"),
        ],
        {"a": (F, (1, 3, 5)), "b": (F, (1, 1, 5))},
        {"y": (F, (1, 5, 6))},
        {
            "w": _weights(1, 2, 5), "pads": np.array([0, 1, 0, 0, 1, 2], np.int64), "value": np.array(3, F),
            "starts": np.array([1, 1], np.int64), "ends": np.array([6, 7], np.int64),
            "axes": np.array([1, 2], np.int64),
        },
    )  # fmt: skip


def integers() -> onnx.ModelProto:
    return model(
        [
            node("Add", "i one", "j"),
            node("Mod", "j three", "m"),
            node("Equal", "m one", "q"),
            node("And", "q b", "both"),
            node("Not", "both", "n"),
            node("Cast", "u", "f", to=TensorProto.FLOAT),
            node("Mul", "f scale", "g"),
            node("Cast", "g", "v", to=TensorProto.UINT8),
        ],
        {"i": (I64, (7,)), "b": (B, (7,)), "u": (U8, (13,))},
        {"m": (I64, (7,)), "n": (B, (7,)), "v": (U8, (13,))},
        {"one": np.array(1, I64), "three": np.array(3, I64), "scale": np.array(1.5, F)},
    )


def half_precision() -> onnx.ModelProto:
    return model(
        [node("MatMul", "x w", "a"), node("Add", "a b", "c"), node("Sigmoid", "c", "y")],
        {"x": (H, (4, 64))},
        {"y": (H, (4, 8))},
        {"w": _weights(64, 8, dtype=H), "b": _weights(8, dtype=H)},
    )


def pooling() -> onnx.ModelProto:
    return model(
        [
            node("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Relu", "c", "r"),
            node("MaxPool", "r", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("AveragePool", "r", "a", kernel_shape=[2, 2], strides=[2, 2]),
            node("GlobalAveragePool", "m", "g"),
        ],
        {"x": (F, (1, 3, 19, 17))},
        {"m": (F, (1, 5, 5, 5)), "a": (F, (1, 5, 5, 4)), "g": (F, (1, 5, 1, 1))},
        {"w": _weights(5, 3, 3, 3), "b": _weights(5)},
    )


def transposed() -> onnx.ModelProto:
    return model(
        [
            node("ConvTranspose", "x w b", "c", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Transpose", "c", "y", perm=[0, 2, 3, 1]),
        ],
        {"x": (F, (1, 3, 5, 6))},
        {"y": (F, (1, 9, 11, 4))},
        {"w": _weights(3, 4, 3, 3), "b": _weights(4)},
    )


def residual() -> onnx.ModelProto:
    """A chain with skips, so that the arena holds several tensors at once, with equal layers and weights."""
    nodes = [node("Conv", "x w", "t0", kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
    for i in range(4):
        nodes += [
            node("Conv", f"t{i} w", f"u{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", f"u{i}", f"v{i}"),
            node("Add", f"v{i} t{i}", f"t{i + 1}"),
        ]
    nodes += [node("MatMul", "t4 m", "y"), node("Flatten", "y", "z")]
    return model(
        nodes,
        {"x": (F, (1, 4, 9, 9))},
        {"y": (F, (1, 4, 9, 9)), "z": (F, (1, 324))},
        {"w": _weights(4, 4, 3, 3), "m": _weights(9, 9)},
    )


def depthwise() -> onnx.ModelProto:
    return model(
        [
            node("Conv", "x w", "c", kernel_shape=[3, 3], group=6, pads=[1, 1, 1, 1]),
            node("BatchNormalization", "c s b mean var", "n"),
            node("Clip", "n low high", "k"),
            node("Conv", "k w2 b2", "y", kernel_shape=[1, 1]),
        ],
        {"x": (F, (1, 6, 7, 11))},
        {"y": (F, (1, 13, 7, 11))},
        {
            "w": _weights(6, 1, 3, 3), "s": _weights(6) + 1, "b": _weights(6), "mean": _weights(6, seed=3),
            "var": np.abs(_weights(6, seed=4)) + 1, "low": np.array(0, F), "high": np.array(6, F),
            "w2": _weights(13, 6, 1, 1), "b2": _weights(13),
        },
    )  # fmt: skip


def scalars() -> onnx.ModelProto:
    """Extents of 1, a scalar result and a constant that two operators share."""
    return model(
        [node("Add", "x k", "a"), node("Mul", "a k", "m"), node("ReduceSum", "m", "s", keepdims=0)],
        {"x": (F, (1, 1))},
        {"m": (F, (1, 1)), "s": (F, ())},
        {"k": np.array([[2.5]], F)},
    )


def odd_inputs() -> onnx.ModelProto:
    """An input nobody reads, one that is read twice by one node, and an output without elements."""
    return model(
        [node("Mul", "b b", "y"), node("Slice", "b start start axes", "empty")],
        {"a": (F, (3,)), "b": (F, (2, 5))},
        {"y": (F, (2, 5)), "empty": (F, (2, 0))},
        {"start": np.array([2], np.int64), "axes": np.array([1], np.int64)},
    )


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        gemm_softmax, split, argmax, layernorm_erf, transcendental, resize, aliased_outputs, gather,
        cumsum_where, concat, integers, half_precision, pooling, transposed, residual, depthwise, scalars,
        odd_inputs,
    )
}  # fmt: skip
