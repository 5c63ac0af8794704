"""Which operators keep rows apart: the axis whose extent depends on data is followed through the graph.

``follow`` knows where the rows of a node's results are, given those of its inputs, or refuses the node.
An operator that it does not know is refused: that each row of the result depends on the same row only is
what makes it right to compute all rows that there is memory for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx import NodeProto

from deploycc.counting.sources import INVERSE, is_source
from deploycc.onnx_graph import DEFAULT_DOMAINS, Array, GraphView, all_nodes, attributes, subgraphs, used_names
from deploycc.types import Diagnostic, Extent, Rows


class Refused(Exception):
    """A node that would mix rows with those that are not there; ``diagnostic`` says so."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


ELEMENTWISE = frozenset(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast "
    "CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu "
    "Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh "
    "ThresholdedRelu Where Xor".split()
)

INDICES_KEPT = frozenset("Cast Gather Identity Reshape Slice Squeeze Transpose Unsqueeze Concat Split".split())
"""Operators whose results hold no other values than their first input: indices stay indices."""

ALONG_AN_AXIS = {
    "Softmax": -1,
    "LogSoftmax": -1,
    "Hardmax": -1,
    "LpNormalization": -1,
}
"""Operators that compute along ``axis`` (this unless given) and keep the shape."""

BATCHES = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool "
    "InstanceNormalization LRN LpPool MaxPool Resize SpaceToDepth".split()
)
"""Operators that keep the images of a batch apart."""


@dataclass(frozen=True)
class _Node:
    """A node with what is known of its inputs."""

    node: NodeProto
    view: GraphView
    known: dict[str, Rows]
    indices: set[str]

    def rows(self, place: int) -> Rows | None:
        return self.known.get(self.node.input[place]) if self.has(place) else None

    def has(self, place: int) -> bool:
        return place < len(self.node.input) and bool(self.node.input[place])

    def shape(self, name: str) -> tuple[int, ...]:
        kind = self.view.types.get(name)
        if kind is None or kind.shape is None or not kind.static:
            raise self.refused("a result without a shape that is known beforehand")
        return tuple(dim for dim in kind.shape if dim is not None)

    def rank(self, place: int) -> int:
        return len(self.shape(self.node.input[place]))

    def number(self, name: str, default: int) -> int:
        given = attributes(self.node).get(name)
        return default if given is None else int(given.i)

    def constant(self, place: int) -> Array | None:
        return self.view.constant(self.node.input[place]) if self.has(place) else None

    def refused(self, why: str, code: str = "DC231", help: str = "") -> Refused:
        counted = [(name, self.known[name]) for name in sorted(used_names(self.node)) if name in self.known]
        what = "; ".join(
            f"'{name}' with as many rows as '{rows.extent.source}' on axis {rows.axis}" for name, rows in counted
        )
        return Refused(
            Diagnostic(
                code,
                f"{self.node.op_type} does not keep rows apart whose number depends on data: {why}",
                node=self.node.name,
                op=self.node.op_type,
                tensor=counted[0][0] if counted else "",
                got=what or "rows whose number depends on data",
                need="operators that compute each row from the same row alone (docs/counted.md)",
                help=help
                or f"end the graph before it ('{counted[0][0] if counted else ''}' as an output is given with its "
                "number of rows) and do the rest in the app, or split the model",
                verdict="unsupported",
            )
        )

    def only_the_first(self) -> Rows:
        """The rows of the first input, where no other one has any."""
        first = self.rows(0)
        others = [name for name in self.node.input[1:] if name in self.known]
        if first is None or others:
            raise self.refused("rows meet there in an operand that all of the result depends on")
        return first


def follow(node: NodeProto, view: GraphView, rows: dict[str, Rows], indices: set[str]) -> None:
    """Note in ``rows`` where the rows of the node's results are, and in ``indices`` which hold indices only.

    Raises ``Refused``.
    """
    this = _Node(node, view, rows, indices)
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
        name in indices or ((known := view.constant(name)) is not None and bool((known >= 0).all()))
        for name in values
    ) and any(name in indices for name in values)


def _index_outputs(node: NodeProto) -> list[str]:
    return list({"NonZero": node.output, "NonMaxSuppression": node.output}.get(node.op_type, node.output[1:]))


def _check_source(this: _Node) -> None:
    """Rows that are not there must not be counted: the routines are told how many there are."""
    node, first = this.node, this.rows(0)
    if node.op_type == "NonZero":
        return
    if node.op_type == "NonMaxSuppression":
        scores = this.rows(1)
        if first is None or scores is None or first.extent != scores.extent or (first.axis, scores.axis) != (1, 2):
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
        if (condition is None) != (first is None) or (condition and first and condition.extent != first.extent):
            raise this.refused("condition and data have other numbers of rows", "DC232")
        return
    if first is None or along != first.axis:
        raise this.refused("it looks for equal ones along another axis", "DC232")


# ---- the rules: rows of the results, or Refused; None where they have none ----


def _elementwise(this: _Node) -> Rows:
    rank = len(this.shape(this.node.output[0]))
    found: Rows | None = None
    for place, name in enumerate(this.node.input):
        rows = this.rows(place)
        if rows is not None:
            moved = Rows(rows.axis + rank - len(this.shape(name)), rows.extent)
            if found is not None and moved != found:
                raise this.refused("two numbers of rows meet", "DC232")
            found = moved
    assert found is not None
    kind = this.view.types.get(this.node.output[0])
    if this.node.op_type in ("Div", "Mod") and this.rows(1) and "int" in (kind.dtype if kind else ""):
        raise this.refused("rows beyond the last one would be divided by 0", help="divide in a float type")
    for place, name in enumerate(this.node.input):
        if name and this.rows(place) is None and this.node.op_type != "CastLike":
            shape = this.shape(name)
            axis = found.axis - (rank - len(shape))
            if axis >= 0 and shape[axis] != 1:
                raise this.refused(f"'{name}' has a fixed extent of {shape[axis]} there", "DC232")
    return found


def _transpose(this: _Node) -> Rows:
    rows, rank = this.only_the_first(), this.rank(0)
    given = attributes(this.node).get("perm")
    order = list(given.ints) if given is not None else list(range(rank))[::-1]
    return Rows(order.index(rows.axis), rows.extent)


def _unsqueeze(this: _Node) -> Rows:
    rows, axes = this.only_the_first(), this.constant(1)
    if axes is None:
        raise this.refused("its axes are computed at run time")
    rank = this.rank(0) + axes.size
    added = {int(axis) % rank for axis in axes.reshape(-1)}
    return Rows([axis for axis in range(rank) if axis not in added][rows.axis], rows.extent)


def _squeeze(this: _Node) -> Rows:
    rows, axes, rank = this.only_the_first(), this.constant(1), this.rank(0)
    if axes is None:
        raise this.refused("without constant axes it also drops the axis of a single row")
    gone = {int(axis) % rank for axis in axes.reshape(-1)}
    if rows.axis in gone:
        raise this.refused("it needs exactly one row")
    return Rows([axis for axis in range(rank) if axis not in gone].index(rows.axis), rows.extent)


def _slice(this: _Node) -> Rows:
    rows, rank = this.only_the_first(), this.rank(0)
    starts, ends, axes, steps = (this.constant(place) for place in (1, 2, 3, 4))
    if starts is None or ends is None or any(this.has(p) and this.constant(p) is None for p in (3, 4)):
        raise this.refused("its bounds are computed at run time")
    where = [int(a) % rank for a in axes.reshape(-1)] if axes is not None else list(range(starts.size))
    if rows.axis not in where:
        return rows
    at = where.index(rows.axis)
    step = 1 if steps is None else int(steps.reshape(-1)[at])
    start, end = int(starts.reshape(-1)[at]), int(ends.reshape(-1)[at])
    if start != 0 or step != 1 or end < 1:
        raise this.refused(
            "of rows only the first few can be taken",
            help="take them with a Slice from 0 on, in steps of 1, to a positive end",
        )
    return Rows(rows.axis, Extent(rows.extent.source, min(rows.extent.cap, end)))


def _gather(this: _Node) -> Rows:
    data, picked = this.rows(0), this.rows(1)
    axis = this.number("axis", 0) % this.rank(0)
    if data is None:
        assert picked is not None
        return Rows(axis + picked.axis, picked.extent)
    if data.axis != axis:
        if picked is not None:
            raise this.refused("its result would have two axes of which the data says the extent", "DC232")
        return Rows(data.axis if data.axis < axis else data.axis + this.rank(1) - 1, data.extent)
    if picked is None or this.node.input[1] not in this.indices:
        raise this.refused("the rows that it picks may not be there")
    return Rows(axis + picked.axis, picked.extent)


def _gather_nd(this: _Node) -> Rows:
    data, picked = this.rows(0), this.rows(1)
    if this.number("batch_dims", 0) or picked is None or picked.axis == this.rank(1) - 1:
        raise this.refused("the coordinates that it looks up are no rows")
    if data is not None and (this.node.input[1] not in this.indices or data.axis >= this.shape(this.node.input[1])[-1]):
        raise this.refused("the rows that it picks may not be there")
    return picked


def _gather_elements(this: _Node) -> Rows:
    data, picked = this.rows(0), this.rows(1)
    axis = this.number("axis", 0) % this.rank(0)
    if data is None and picked is not None:
        shapes = [this.shape(name)[picked.axis] for name in this.node.input[:2]]
        if picked.axis == axis or shapes[0] >= shapes[1]:
            return picked
    if data is None or data != picked or data.axis == axis:
        raise this.refused("the elements that it picks may not be there")
    return data


def _concat(this: _Node) -> Rows:
    found = [this.rows(place) for place in range(len(this.node.input))]
    rows = next(rows for rows in found if rows is not None)
    axis = this.number("axis", 0) % this.rank(0)
    if rows.axis == axis:
        raise this.refused("rows would follow rows that are not there")
    if any(other != rows for other in found):
        raise this.refused("two numbers of rows meet", "DC232")
    return rows


def _reshape(this: _Node) -> Rows:
    rows, target = this.only_the_first(), this.constant(1)
    if target is None:
        raise this.refused("its shape is computed at run time", "DC233")
    before, after = this.shape(this.node.input[0]), this.shape(this.node.output[0])
    zero_copies = not this.number("allowzero", 0)
    for place, extent in enumerate(target.reshape(-1)):
        follows = extent == -1 or (extent == 0 and zero_copies and place == rows.axis)
        same = after[place] == before[rows.axis] and math.prod(after[:place]) == math.prod(before[: rows.axis])
        if follows and same:
            return Rows(place, rows.extent)
    raise this.refused(
        "the rows would be no axis of their own, or of a fixed extent", help="give -1 as the extent of the rows"
    )


def _flatten(this: _Node) -> Rows:
    rows, shape = this.only_the_first(), this.shape(this.node.input[0])
    axis = this.number("axis", 1)
    cut = axis + len(shape) if axis < 0 else axis
    before, after = math.prod(shape[:cut]), math.prod(shape[cut:])
    if rows.axis < cut and before == shape[rows.axis]:
        return Rows(0, rows.extent)
    if rows.axis >= cut and after == shape[rows.axis]:
        return Rows(1, rows.extent)
    raise this.refused("the rows would be no axis of their own")


def _along_an_axis(this: _Node) -> Rows:
    rows = this.only_the_first()
    axis = this.number("axis", ALONG_AN_AXIS[this.node.op_type]) % this.rank(0)
    if axis == rows.axis:
        raise this.refused("it computes along the rows")
    return rows


def _normalised(this: _Node) -> Rows:
    rows = this.only_the_first()
    if rows.axis >= this.number("axis", -1) % this.rank(0):
        raise this.refused("it computes along the rows")
    return rows


def _reduced(this: _Node) -> Rows:
    rows, rank = this.only_the_first(), this.rank(0)
    keep = this.number("keepdims", 1)
    if this.node.op_type in ("ArgMax", "ArgMin"):
        axes = [this.number("axis", 0)]
    else:
        known, given = this.constant(1), attributes(this.node).get("axes")
        if this.has(1) and known is None:
            raise this.refused("its axes are computed at run time")
        axes = [int(a) for a in known.reshape(-1)] if known is not None else list(given.ints if given else [])
        if not axes and not this.number("noop_with_empty_axes", 0):
            axes = list(range(rank))
    gone = {axis % rank for axis in axes}
    if rows.axis in gone:
        raise this.refused("it computes along the rows")
    return rows if keep else Rows([a for a in range(rank) if a not in gone].index(rows.axis), rows.extent)


def _top_k(this: _Node) -> Rows:
    rows = this.only_the_first()
    if this.number("axis", -1) % this.rank(0) == rows.axis:
        raise this.refused("it sorts the rows", help="sort before rows are left out: TopK, then NonZero or Compress")
    return rows


def _cumulated(this: _Node) -> Rows:
    rows, axis = this.only_the_first(), this.constant(1)
    if axis is None or (int(axis.reshape(-1)[0]) % this.rank(0) == rows.axis and this.number("reverse", 0)):
        raise this.refused("it adds from the last row on")
    return rows


def _product(this: _Node) -> Rows:
    left, right = this.rows(0), this.rows(1)
    ranks = this.rank(0), this.rank(1)
    rank = len(this.shape(this.node.output[0]))
    if left is not None and right is None and left.axis != ranks[0] - 1 and ranks[1] > 1:
        moved = left.axis + rank - ranks[0]
        other = moved - (rank - ranks[1])
        if left.axis == ranks[0] - 2 or other < 0 or this.shape(this.node.input[1])[other] == 1:
            return Rows(moved, left.extent)
    if right is not None and left is None and right.axis == ranks[1] - 1 and min(ranks) > 1:
        return Rows(rank - 1, right.extent)
    raise this.refused("it adds up over rows, or multiplies rows with rows")


def _gemm(this: _Node) -> Rows:
    rows = this.rows(0)
    if rows is None or this.rows(1) or this.rows(2) or rows.axis != this.number("transA", 0):
        raise this.refused("it adds up over rows, or multiplies rows with rows")
    if this.has(2):
        bias = this.shape(this.node.input[2])
        if len(bias) == 2 and bias[0] != 1:
            raise this.refused("its bias has a fixed number of rows", "DC232")
    return Rows(0, rows.extent)


def _repeated(this: _Node) -> Rows:
    """``Expand``, ``Tile`` and ``Pad``: the rows' own extent must stay as it is."""
    rows, values = this.only_the_first(), this.constant(1)
    if values is None:
        raise this.refused("how often or how far is computed at run time", "DC233")
    numbers, rank = [int(value) for value in values.reshape(-1)], this.rank(0)
    if this.node.op_type == "Expand":
        moved = rows.axis + max(len(numbers) - rank, 0)
        place = moved - (max(len(numbers), rank) - len(numbers))
        if place < 0 or numbers[place] == 1:
            return Rows(moved, rows.extent)
    elif this.node.op_type == "Tile" and numbers[rows.axis] == 1:
        return rows
    elif this.node.op_type == "Pad":
        axes = this.constant(3)
        where = [int(a) % rank for a in axes.reshape(-1)] if axes is not None else list(range(rank))
        if not this.has(3) or axes is not None:
            at = where.index(rows.axis) if rows.axis in where else None
            if at is None or (numbers[at] == 0 and numbers[at + len(where)] == 0):
                return rows
    raise this.refused("there would be other rows")


def _split(this: _Node) -> Rows:
    rows = this.only_the_first()
    if this.number("axis", 0) % this.rank(0) == rows.axis:
        raise this.refused("it cuts the rows apart")
    return rows


def _batches(this: _Node) -> Rows:
    rows = this.only_the_first()
    if rows.axis != 0 or (this.node.op_type == "BatchNormalization" and len(this.node.output) > 1):
        raise this.refused("rows are images of a batch there, or nothing")
    return rows


def _regions(this: _Node) -> Rows:
    boxes, batch = this.rows(1), this.rows(2)
    if this.rows(0) or boxes is None or boxes.axis != 0 or batch != boxes:
        raise this.refused("it needs boxes and the numbers of their images with the same rows", "DC232")
    if this.node.input[2] not in this.indices:
        raise this.refused("the numbers of images are computed, and may be none in rows beyond the last one")
    return boxes


def _size(this: _Node) -> Rows | None:
    rows = this.only_the_first()
    if this.node.op_type == "Shape":
        rank = this.rank(0)
        start, end = this.number("start", 0), this.number("end", rank)
        if rows.axis not in range(rank)[start:end] or _only_others_read(this, rows.axis - range(rank)[start:end][0]):
            return None
    raise this.refused(
        "the number of rows goes into the computation",
        "DC233",
        "give constants where sizes are computed (-1 in Reshape), or end the graph before it: an output is given "
        "with its number of rows",
    )


def _only_others_read(this: _Node, place: int) -> bool:
    """Whether of these sizes only fixed ones are picked."""
    name = this.node.output[0]
    readers = this.view.consumers.get(name, [])
    for reader in readers:
        picked = this.view.constant(reader.input[1]) if reader.op_type == "Gather" else None
        size = this.shape(name)[0]
        if picked is None or (picked.reshape(-1) % size == place).any():
            return False
    return bool(readers) and name not in this.view.outputs


Rule = Callable[[_Node], Rows | None]

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(ALONG_AN_AXIS, _along_an_axis),
    **dict.fromkeys(BATCHES, _batches),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalised),
    **dict.fromkeys(("Expand", "Pad", "Tile"), _repeated),
    **dict.fromkeys(("Shape", "Size"), _size),
    **dict.fromkeys(
        "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare".split(),
        _reduced,
    ),
    "Concat": _concat,
    "CumSum": _cumulated,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "MatMul": _product,
    "Reshape": _reshape,
    "RoiAlign": _regions,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By operator.  Reductions along the rows are not here: they would need what is neutral in rows beyond."""
