"""Operators that draw random numbers: those of the first run in ONNX Runtime, as constants.

A package has no state, so each of its runs draws the same numbers.  ONNX Runtime draws by C++'s
``minstd_rand0`` from the node's own seed, and what a node draws depends on its attributes and shape alone;
so it is asked, once.
Import gives a node without a seed one.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto, helper

from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import Array
from deploycc.reference import ReferenceFailed, run

SEEDED = frozenset(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"))
"""Operators whose result differs from run to run in ONNX Runtime, and follows from a seed here."""
DRAWING = SEEDED | {"Bernoulli"}
"""All whose result is drawn."""

_MOST = 1 << 24
"""Elements that are drawn at most: they become constants."""
_MODULUS, _FACTOR = 2147483647, 16807
"""Of ``minstd_rand0`` (C++ standard, [rand.predef])."""


def random_constants(editor: Editor) -> int:
    """``RandomNormal``, ``RandomUniform`` (``Like`` too) become constants, ``Multinomial`` a comparison.

    Refuses unknown shapes, nodes without a seed and more than 16 million numbers.
    """
    made = 0
    for node in list(editor.nodes):
        if node.domain or attribute(node, "seed") is None:
            continue
        if node.op_type.startswith(("RandomNormal", "RandomUniform")):
            made += _drawn(editor, node)
        elif node.op_type == "Multinomial":
            made += _chosen(editor, node)
    return made


def _drawn(editor: Editor, node: NodeProto) -> bool:
    like = node.op_type.endswith("Like")
    shape = editor.shape(node.input[0]) if like else tuple(attribute(node, "shape", ()))
    kind = attribute(node, "dtype")
    if kind is None:
        known = np.dtype(editor.dtype(node.input[0]) or "float32") if like else np.dtype("float32")
        kind = helper.np_dtype_to_tensor_dtype(known)
    if shape is None or math.prod(shape) > _MOST:
        return False
    names = ("high", "low") if "Uniform" in node.op_type else ("mean", "scale")
    given = {name: attribute(node, name) for name in (*names, "seed") if attribute(node, name) is not None}
    operator = node.op_type.removesuffix("Like")
    lone = helper.make_node(operator, [], ["drawn"], dtype=kind, shape=list(shape), **given)
    result = helper.make_tensor_value_info("drawn", kind, list(shape))
    graph = helper.make_graph([lone], "drawing", [], [result])
    # In the model's own opset: which engine can run it, and so draws, depends on that.
    opset = helper.make_opsetid("", editor.opset)
    try:
        (value,), _ = run(helper.make_model(graph, opset_imports=[opset], ir_version=10), [])
    except ReferenceFailed:
        return False
    _as_constant(editor, node, value)
    return True


def _as_constant(editor: Editor, node: NodeProto, value: Array) -> None:
    new = Rewrite(editor, node)
    new.add("Identity", new.constant(value), output=node.output[0])
    new.done()


def _chosen(editor: Editor, node: NodeProto) -> bool:
    """``count(cdf <= u * total)`` with the running sums ``cdf`` of ``exp(x - max x)`` in float64."""
    shape = editor.shape(node.input[0])
    count = int(attribute(node, "sample_size", 1))
    if shape is None or len(shape) != 2 or not 0 < shape[0] * count <= _MOST // max(shape[1], 1):
        return False
    numbers = _canonical(float(attribute(node, "seed")), shape[0] * count).reshape(shape[0], count, 1)
    new = Rewrite(editor, node)
    wide = new.add("Cast", node.input[0], to=TensorProto.DOUBLE)
    powers = new.add("Exp", new.add("Sub", wide, new.reduce("ReduceMax", wide, [1])))
    sums = new.unsqueeze(new.add("CumSum", powers, new.constant(np.int64(1))), [1])
    total = new.unsqueeze(new.reduce("ReduceSum", powers, [1]), [1])
    below = new.add("LessOrEqual", sums, new.add("Mul", new.constant(numbers), total))
    counted = new.add("Cast", below, to=attribute(node, "dtype", TensorProto.INT32))
    new.reduce("ReduceSum", counted, [2], keepdims=False, output=node.output[0])
    new.done()
    return True


def _canonical(seed: float, count: int) -> Array:
    """What ``std::generate_canonical<double, 53>`` draws: two steps of the generator for each number."""
    state = int(seed) % _MODULUS or 1
    drawn = np.empty(2 * count, np.float64)
    for index in range(2 * count):
        state = state * _FACTOR % _MODULUS
        drawn[index] = state - 1
    span = float(_MODULUS - 1)
    return np.asarray((drawn[::2] + drawn[1::2] * span) / (span * span))
