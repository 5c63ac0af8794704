"""Constant folding of our own, for where onnxsim cannot be had."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from deploycc.onnx_editor import Editor, attribute
from deploycc.onnx_graph import Array, dtype_name, subgraphs
from deploycc.reference import ReferenceFailed, run

MAX_FOLDED = 16 << 20
"""Bytes one folded tensor may have.  What onnxsim does not fold is rarely worth more."""

_NOT_FOLDED = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Dropout "
    "DequantizeLinear".split()
)
"""Different on every run, or so in training; and what quantised operators are known by."""


def fold_constants(editor: Editor) -> int:
    """Nodes whose inputs are all stored, and ``Shape`` and ``Size`` of static tensors, become initializers.

    Refuses control flow, random numbers, graph outputs, unknown output shapes, types numpy has
    not, and results of more than ``MAX_FOLDED`` bytes or what is left of the editor's budget.
    """
    folded = []
    for node in editor.nodes:
        values = _shape_value(editor, node) or _evaluated(editor, node)
        if values is None:
            continue
        named = [name for name in node.output if name]
        for name, value in zip(named, values, strict=True):
            editor.initializers[name] = onnx.numpy_helper.from_array(value, name)
            editor.budget -= value.nbytes
        folded.append(node)
    editor.remove(folded)
    return len(folded)


def _shape_value(editor: Editor, node: NodeProto) -> list[Array] | None:
    if node.op_type not in ("Shape", "Size") or node.domain or node.output[0] in editor.outputs:
        return None
    shape = editor.shape(node.input[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.array(math.prod(shape), np.int64)]
    return [np.array(shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))], np.int64)]


def _evaluated(editor: Editor, node: NodeProto) -> list[Array] | None:
    if node.domain or node.op_type in _NOT_FOLDED or any(subgraphs(node)):
        return None
    if any(name in editor.outputs for name in node.output) or not _small(editor, node):
        return None
    inputs = {name: editor.constant(name) for name in node.input if name}
    if not inputs and node.op_type not in ("Constant",):
        return None
    stored = {name: value for name, value in inputs.items() if value is not None}
    if len(stored) != len(inputs):
        return None
    try:
        values, _ = run(_alone(editor, node, stored), [])
    except ReferenceFailed:
        return None
    return values


def _small(editor: Editor, node: NodeProto) -> bool:
    total = 0
    for name in node.output:
        shape, dtype = editor.shape(name), editor.dtype(name)
        if not name:
            continue
        if shape is None or dtype not in np.sctypeDict:
            return False
        total += math.prod(shape) * np.dtype(dtype).itemsize
    return total <= min(MAX_FOLDED, editor.budget)


def _alone(editor: Editor, node: NodeProto, stored: dict[str, Array]) -> ModelProto:
    """A model of this one node, its inputs stored in it."""
    outputs = []
    for name in node.output:
        elem_type = next(n for n in range(1, 30) if dtype_name(n) == editor.dtype(name)) if name else 1
        outputs.append(helper.make_tensor_value_info(name, elem_type, None))
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph([node], "folded", [], [info for info in outputs if info.name], weights)
    opset = [helper.make_opsetid("", editor.opset)]
    return helper.make_model(graph, opset_imports=opset, ir_version=editor.model.ir_version)
