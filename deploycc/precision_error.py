"""What a GPU's precision costs: how far a network that rounds so is from one in fp32, on the golden inputs.

ONNX Runtime runs a copy of the graph that rounds where the GPU does: with ``fp16`` and ``bf16`` weights and
every tensor between two nodes, with ``tf32`` both factors of products.  Sums are in float32, as on the GPU.
That is a little more than the GPU rounds: it stores nothing between nodes that are fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploycc.onnx_graph import Array
from deploycc.types import Diagnostic, Golden, OutputError, Precision

PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
"""Operators whose factors tensor cores multiply."""

COSTLY = 0.05
"""An error above this share of an output's largest magnitude is told."""

_TF32_SPLIT = 8193.0
"""2**13 + 1: by Veltkamp's splitting x*c - (x*c - x) keeps 24 - 13 = 11 significant bits, those of tf32."""

_STORED = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def rounding_like(proto: ModelProto, precision: Precision) -> ModelProto | None:
    """A copy of ``proto`` that rounds as ``precision`` does; ``None`` for a model with subgraphs.

    Element types are read from ``proto``'s inferred types.
    """
    made = ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    kinds = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    if any(attribute.type in kinds for node in graph.node for attribute in node.attribute):
        return None
    floats = _float_names(graph)
    if precision == "tf32":
        _round_factors(graph, floats)
    elif precision in _STORED:
        _round_tensors(graph, floats, precision)
    return made


def measured(expected: Sequence[Array], got: Sequence[Array]) -> tuple[OutputError, ...]:
    """How far each output is off; all 0 for those that are no floats."""
    return tuple(_error(*pair) for pair in zip(expected, got, strict=True))


def findings(golden: Golden, names: Sequence[str], precision: Precision) -> tuple[Diagnostic, ...]:
    """DC526 for each output that ``precision`` costs much, or all of whose meaning."""
    found = []
    for name, error in zip(names, golden.rounding, strict=False):
        if error.finite and error.max_scaled <= COSTLY:
            continue
        got = f"an error of {error.max_scaled:.2g} of its largest magnitude on the golden inputs"
        found.append(
            Diagnostic(
                "DC526",
                f"{precision} costs the output {name} much of its meaning",
                got=got if error.finite else "NaN or infinity where fp32 has numbers",
                need=f"an error of at most {COSTLY:g}",
                severity="warning",
                help="bf16 has the range of fp32 and fp16 three bits more of each number; tf32 has both",
            )
        )
    return tuple(found)


def _error(expected: Array, got: Array) -> OutputError:
    if expected.dtype.kind != "f" or expected.shape != got.shape:
        return OutputError()
    want, have = expected.astype(np.float64), got.astype(np.float64)
    known = np.isfinite(want)
    finite = bool(
        np.array_equal(want[~known], have[~known], equal_nan=True) and np.isfinite(have[known]).all()
    )
    known &= np.isfinite(have)
    off = np.abs(want[known] - have[known])
    largest = float(np.max(np.abs(want[known]), initial=0.0))
    most = float(np.max(off, initial=0.0))
    rms = float(np.sqrt(np.mean(off**2))) if off.size else 0.0
    return OutputError(most, most / largest if largest else most, rms, finite)


def _float_names(graph: GraphProto) -> set[str]:
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _round_tensors(graph: GraphProto, floats: set[str], precision: str) -> None:
    """Weights, and what a node gives to another."""
    for tensor in graph.initializer:
        if tensor.name in floats and sum(extent > 1 for extent in tensor.dims) > 1:
            _replace(tensor, _rounded(numpy_helper.to_array(tensor), precision))
    results = {info.name for info in graph.output}
    nodes = list(graph.node)
    del graph.node[:]
    renamed: dict[str, str] = {}
    for number, node in enumerate(nodes):
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        graph.node.append(node)
        for place, name in enumerate(node.output):
            if name not in floats or node.op_type == "Constant":
                continue
            stored = f"deploycc_stored_{number}_{place}"
            # A result of the graph is not rounded, but what others read of it may be.
            renamed[name] = f"{stored}_wide"
            graph.node.extend(
                [
                    helper.make_node("Cast", [name], [stored], to=_STORED[precision]),
                    helper.make_node("Cast", [stored], [renamed[name]], to=TensorProto.FLOAT),
                ]
            )
    assert all(name not in renamed.values() for name in results)


def _round_factors(graph: GraphProto, floats: set[str]) -> None:
    """Both factors of products, to the 11 significant bits of tf32."""
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    made: dict[str, str] = {}
    graph.initializer.append(numpy_helper.from_array(np.array(_TF32_SPLIT, np.float32), "deploycc_split"))
    for node in nodes:
        if node.op_type in PRODUCTS:
            for place, name in enumerate(node.input[:2]):
                if name not in floats:
                    continue
                if name not in made:
                    made[name] = f"deploycc_tf32_{len(made)}"
                    if name in arrays:
                        values = _rounded(numpy_helper.to_array(arrays[name]), "tf32")
                        graph.initializer.append(numpy_helper.from_array(values, made[name]))
                    else:
                        graph.node.extend(_split(name, made[name]))
                node.input[place] = made[name]
        graph.node.append(node)


def _split(name: str, result: str) -> list[NodeProto]:
    scaled, rest = f"{result}_scaled", f"{result}_rest"
    return [
        helper.make_node("Mul", [name, "deploycc_split"], [scaled]),
        helper.make_node("Sub", [scaled, name], [rest]),
        helper.make_node("Sub", [scaled, rest], [result]),
    ]


def _rounded(values: Array, precision: str) -> Array:
    """float32 values rounded to nearest: a product's factor, or what is stored."""
    import ml_dtypes  # with TVM and onnx; what only reads packages does not need it

    if precision == "tf32":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
        kept = np.where(special, bits, (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000))
        result: Array = kept.view(np.float32).reshape(values.shape)
        return result
    kind: Any = np.float16 if precision == "fp16" else ml_dtypes.bfloat16
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(kind).astype(np.float32))


def _replace(tensor: TensorProto, values: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
