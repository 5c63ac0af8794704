"""Computes single nodes whose inputs are known, as ONNX Runtime does."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, OperatorSetIdProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploycc.onnx_graph import Array
from deploycc.reference import ORT_NEWEST_OPSET

_KEPT = 512
"""Sessions kept: a loop's body is computed over and over, and making a session takes a millisecond."""

Engine = Any
"""A session of ONNX Runtime or onnx's evaluator: both have ``run(None, feeds)``."""


class Evaluator:
    """Runs one node at a time on known arrays."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._engines: dict[tuple[object, ...], Engine | None] = {}

    def run(self, node: NodeProto, inputs: Sequence[Array | None]) -> list[Array] | None:
        """The values of the outputs that ``node`` names; ``None`` where no reference engine can tell.

        ``inputs`` are in the node's order, ``None`` for one left out.
        """
        key = (
            node.op_type,
            node.domain,
            b"".join(attribute.SerializeToString() for attribute in node.attribute),
            tuple(None if value is None else (value.dtype.str, value.ndim) for value in inputs),
            tuple(bool(name) for name in node.output),
        )
        if key not in self._engines:
            if len(self._engines) >= _KEPT:
                self._engines.clear()
            self._engines[key] = self._engine(node, inputs)
        engine = self._engines[key]
        if engine is None:
            return None
        feeds = {f"i{index}": value for index, value in enumerate(inputs) if value is not None}
        try:
            found = [np.asarray(value) for value in engine.run(None, feeds)]
        except Exception:  # both engines raise classes of their own on an untrusted graph
            return None
        return found if all(value.dtype.kind in "biuf" for value in found) else None

    def _engine(self, node: NodeProto, inputs: Sequence[Array | None]) -> Engine | None:
        alone = NodeProto()
        alone.CopyFrom(node)
        del alone.input[:], alone.output[:]
        alone.input.extend("" if value is None else f"i{index}" for index, value in enumerate(inputs))
        alone.output.extend(f"o{index}" if name else "" for index, name in enumerate(node.output))
        infos = []
        for index, value in enumerate(inputs):
            if value is not None:
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                infos.append(helper.make_tensor_value_info(f"i{index}", kind, [None] * value.ndim))
        results = [onnx.ValueInfoProto(name=name) for name in alone.output if name]
        graph = helper.make_graph([alone], "alone", infos, results)
        opset: list[OperatorSetIdProto] = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        if self._opset <= ORT_NEWEST_OPSET:
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            with contextlib.suppress(Exception):  # no kernel for this type: the evaluator has most
                return ort.InferenceSession(
                    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
        with contextlib.suppress(Exception):
            return ReferenceEvaluator(model)
        return None


def as_tensor(value: Array, name: str) -> onnx.TensorProto:
    """The array as a stored tensor."""
    return numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
