"""Rows through operators that compute: where they keep rows apart."""

from __future__ import annotations

from deploycc.counting.node import Node
from deploycc.onnx_graph import attributes
from deploycc.types import Rows

ALONG_AN_AXIS = {
    "Softmax": -1,
    "LogSoftmax": -1,
    "Hardmax": -1,
    "LpNormalization": -1,
}
"""Operators that compute along ``axis`` (this unless given) and keep the shape."""

SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")
"""Reductions to which zeros add nothing, and which are 0 of no rows at all."""


def elementwise(this: Node) -> Rows:
    """Operands are broadcast against the rows, which meet only the same rows."""
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
        raise this.refused("rows beyond the last one would be divided by 0", advice="divide in a float type")
    for place, name in enumerate(this.node.input):
        if name and this.rows(place) is None and this.node.op_type != "CastLike":
            shape = this.shape(name)
            axis = found.axis - (rank - len(shape))
            if axis >= 0 and shape[axis] != 1:
                raise this.refused(f"'{name}' has a fixed extent of {shape[axis]} there", "DC232")
    return found


def along_an_axis(this: Node) -> Rows:
    """Along another axis."""
    rows = this.only_the_first()
    axis = this.number("axis", ALONG_AN_AXIS[this.node.op_type]) % this.rank(0)
    if axis == rows.axis:
        raise this.refused("it computes along the rows")
    return rows


def normalised(this: Node) -> Rows:
    """Over the axes from ``axis`` on, in front of which the rows are."""
    rows = this.only_the_first()
    if rows.axis >= this.number("axis", -1) % this.rank(0):
        raise this.refused("it computes along the rows")
    return rows


def reduced(this: Node) -> Rows | None:
    """Over axes without the rows; sums also along them, with zeros in those that are not there."""
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
        if this.node.op_type in SUMS:
            return None
        raise this.refused(
            "it computes along the rows",
            advice="sum instead, or mask with Where in place of selecting rows",
        )
    return rows if keep else Rows([a for a in range(rank) if a not in gone].index(rows.axis), rows.extent)


def top_k(this: Node) -> Rows:
    """Along another axis."""
    rows = this.only_the_first()
    if this.number("axis", -1) % this.rank(0) == rows.axis:
        raise this.refused(
            "it sorts the rows", advice="sort before rows are left out: TopK, then NonZero or Compress"
        )
    return rows


def cumulated(this: Node) -> Rows:
    """A sum up to a row needs only the rows before it."""
    rows, axis = this.only_the_first(), this.constant(1)
    if axis is None or (int(axis.reshape(-1)[0]) % this.rank(0) == rows.axis and this.number("reverse", 0)):
        raise this.refused("it adds from the last row on")
    return rows


def product(this: Node) -> Rows:
    """Rows of the left operand, or columns of the right one."""
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


def gemm(this: Node) -> Rows:
    """Rows of the left operand."""
    rows = this.rows(0)
    if rows is None or this.rows(1) or this.rows(2) or rows.axis != this.number("transA", 0):
        raise this.refused("it adds up over rows, or multiplies rows with rows")
    if this.has(2):
        bias = this.shape(this.node.input[2])
        if len(bias) == 2 and bias[0] != 1:
            raise this.refused("its bias has a fixed number of rows", "DC232")
    return Rows(0, rows.extent)


def batches(this: Node) -> Rows:
    """Rows are images of a batch."""
    rows = this.only_the_first()
    if rows.axis != 0 or (this.node.op_type == "BatchNormalization" and len(this.node.output) > 1):
        raise this.refused("rows are images of a batch there, or nothing")
    return rows


def regions(this: Node) -> Rows:
    """``RoiAlign``: a box is a row."""
    boxes, batch = this.rows(1), this.rows(2)
    if this.rows(0) or boxes is None or boxes.axis != 0 or batch != boxes:
        raise this.refused("it needs boxes and the numbers of their images with the same rows", "DC232")
    if this.node.input[2] not in this.indices:
        raise this.refused("the numbers of images are computed, and may be none in rows beyond the last one")
    return boxes
