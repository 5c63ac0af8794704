"""Which operators keep rows apart: the axis whose extent depends on data is followed through the graph.

``follow`` knows where the rows of a node's results are, given those of its inputs, or refuses the node.
An operator that it does not know is refused: that each row of the result depends on the same row only is
what makes it right to compute all rows that there is memory for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from deploycc.counting import computing, moving
from deploycc.counting.node import Node
from deploycc.counting.sources import INVERSE, is_source
from deploycc.onnx_graph import DEFAULT_DOMAINS, GraphView, all_nodes, attributes, subgraphs, used_names
from deploycc.types import Rows

ELEMENTWISE = frozenset(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast "
    "CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or "
    "PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish "
    "Tan Tanh ThresholdedRelu Where Xor".split()
)

INDICES_KEPT = frozenset(
    "Cast Gather Identity Reshape Slice Squeeze Transpose Unsqueeze Concat Split".split()
)
"""Operators whose results hold no other values than their first input: indices stay indices."""

BATCHES = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool "
    "InstanceNormalization LRN LpPool MaxPool Resize SpaceToDepth".split()
)
"""Operators that keep the images of a batch apart."""


Rule = Callable[[Node], Rows | None]

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, computing.elementwise),
    **dict.fromkeys(computing.ALONG_AN_AXIS, computing.along_an_axis),
    **dict.fromkeys(BATCHES, computing.batches),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), computing.normalised),
    **dict.fromkeys(("Expand", "Pad", "Tile"), moving.repeated),
    **dict.fromkeys(("Shape", "Size"), moving.size),
    **dict.fromkeys(
        "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare".split(),
        computing.reduced,
    ),
    "Concat": moving.concat,
    "CumSum": computing.cumulated,
    "Flatten": moving.flatten,
    "Gather": moving.gather,
    "GatherElements": moving.gather_elements,
    "GatherND": moving.gather_nd,
    "Gemm": computing.gemm,
    "MatMul": computing.product,
    "Reshape": moving.reshape,
    "RoiAlign": computing.regions,
    "Slice": moving.sliced,
    "Split": moving.split,
    "Squeeze": moving.squeeze,
    "TopK": computing.top_k,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.unsqueeze,
}
"""By operator."""


def follow(node: NodeProto, view: GraphView, rows: dict[str, Rows], indices: set[str]) -> None:
    """Note in ``rows`` where the rows of the node's results are, and in ``indices`` which hold indices only.

    Raises ``Refused``.
    """
    this = Node(node, view, rows, indices)
    for inner in subgraphs(node):
        if any(is_source(deeper) for deeper in all_nodes(inner)):
            raise this.refused("it counts within a branch or a loop", "DC233")
    counted = [name for name in used_names(node) if name in rows]
    if is_source(node):
        indices.update(_index_outputs(node))
        if counted:
            _check_source(this)
            inverse = node.output[INVERSE] if len(node.output) > INVERSE else ""
            if inverse:
                rows[inverse] = Rows(0, rows[node.input[0]].extent)
        return
    if node.op_type in ("ArgMax", "ArgMin"):
        indices.update(node.output)
    if node.op_type == "TopK":
        indices.update(node.output[1:2])
    if node.op_type in INDICES_KEPT and node.input and _holds_indices(node, view, indices):
        indices.update(node.output)
    if not counted:
        return
    rule = RULES.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    if rule is None:
        raise this.refused("how its result depends on rows is not known")
    found = rule(this)
    if found is not None:
        for name in node.output:
            if name:
                rows[name] = found


def _holds_indices(node: NodeProto, view: GraphView, indices: set[str]) -> bool:
    values = node.input if node.op_type == "Concat" else node.input[:1]
    return all(
        name in indices
        or ((known := view.constant(name)) is not None and bool(np.all(np.greater_equal(known, 0))))
        for name in values
    ) and any(name in indices for name in values)


def _index_outputs(node: NodeProto) -> list[str]:
    return list({"NonZero": node.output, "NonMaxSuppression": node.output}.get(node.op_type, node.output[1:]))


def _check_source(this: Node) -> None:
    """Rows that are not there must not be counted: the routines are told how many there are."""
    node, first = this.node, this.rows(0)
    if node.op_type == "NonZero":
        return
    if node.op_type == "NonMaxSuppression":
        scores = this.rows(1)
        if (
            first is None
            or scores is None
            or first.extent != scores.extent
            or (first.axis, scores.axis) != (1, 2)
        ):
            raise this.refused("boxes and scores have other numbers of rows", "DC232")
        if any(this.rows(place) for place in (2, 3, 4)):
            raise this.refused("its limits have rows", "DC232")
        return
    axis = attributes(node).get("axis")
    rank = this.rank(0)
    along = axis.i % rank if axis is not None else (0 if rank == 1 else None)
    if node.op_type == "Compress":
        condition = this.rows(1)
        if first is not None and (along is None or first.axis != along):
            raise this.refused("its result would have two axes of which the data says the extent", "DC232")
        if (condition is None) != (first is None) or (
            condition and first and condition.extent != first.extent
        ):
            raise this.refused("condition and data have other numbers of rows", "DC232")
        return
    if first is None or along != first.axis:
        raise this.refused("it looks for equal ones along another axis", "DC232")
