"""Rows through operators that move elements: where their axis goes, and which rows can be picked."""

from __future__ import annotations

import math

from deploycc.counting.node import Node
from deploycc.onnx_graph import attributes
from deploycc.types import Extent, Rows


def transpose(this: Node) -> Rows:
    """The axis goes elsewhere."""
    rows, rank = this.only_the_first(), this.rank(0)
    given = attributes(this.node).get("perm")
    order = list(given.ints) if given is not None else list(range(rank))[::-1]
    return Rows(order.index(rows.axis), rows.extent)


def unsqueeze(this: Node) -> Rows:
    """Axes of extent 1 come in."""
    rows, axes = this.only_the_first(), this.constant(1)
    if axes is None:
        raise this.refused("its axes are computed at run time")
    rank = this.rank(0) + axes.size
    added = {int(axis) % rank for axis in axes.reshape(-1)}
    return Rows([axis for axis in range(rank) if axis not in added][rows.axis], rows.extent)


def squeeze(this: Node) -> Rows:
    """Axes of extent 1 go."""
    rows, axes, rank = this.only_the_first(), this.constant(1), this.rank(0)
    if axes is None:
        raise this.refused("without constant axes it also drops the axis of a single row")
    gone = {int(axis) % rank for axis in axes.reshape(-1)}
    if rows.axis in gone:
        raise this.refused("it needs exactly one row")
    return Rows([axis for axis in range(rank) if axis not in gone].index(rows.axis), rows.extent)


def sliced(this: Node) -> Rows:
    """The first few rows, or all of them."""
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
            advice="take them with a Slice from 0 on, in steps of 1, to a positive end",
        )
    taken = end if rows.extent.taken is None else min(rows.extent.taken, end)
    return Rows(rows.axis, Extent(rows.extent.source, min(rows.extent.cap, end), taken))


def gather(this: Node) -> Rows:
    """By rows of indices, or from each row."""
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


def gather_nd(this: Node) -> Rows:
    """By rows of coordinates."""
    data, picked = this.rows(0), this.rows(1)
    if this.number("batch_dims", 0) or picked is None or picked.axis == this.rank(1) - 1:
        raise this.refused("the coordinates that it looks up are no rows")
    if data is not None and (
        this.node.input[1] not in this.indices or data.axis >= this.shape(this.node.input[1])[-1]
    ):
        raise this.refused("the rows that it picks may not be there")
    return picked


def gather_elements(this: Node) -> Rows:
    """From each row, or by rows of indices."""
    data, picked = this.rows(0), this.rows(1)
    axis = this.number("axis", 0) % this.rank(0)
    if data is None and picked is not None:
        shapes = [this.shape(name)[picked.axis] for name in this.node.input[:2]]
        if picked.axis == axis or shapes[0] >= shapes[1]:
            return picked
    if data is None or data != picked or data.axis == axis:
        raise this.refused("the elements that it picks may not be there")
    return data


def concat(this: Node) -> Rows:
    """Along another axis, of tensors with the same rows."""
    found = [this.rows(place) for place in range(len(this.node.input))]
    rows = next(rows for rows in found if rows is not None)
    axis = this.number("axis", 0) % this.rank(0)
    if rows.axis == axis:
        raise this.refused("rows would follow rows that are not there")
    if any(other != rows for other in found):
        raise this.refused("two numbers of rows meet", "DC232")
    return rows


def reshape(this: Node) -> Rows:
    """The rows stay an axis, whose extent follows."""
    rows, target = this.only_the_first(), this.constant(1)
    if target is None:
        raise this.refused("its shape is computed at run time", "DC233")
    before, after = this.shape(this.node.input[0]), this.shape(this.node.output[0])
    zero_copies = not this.number("allowzero", 0)
    for place, extent in enumerate(target.reshape(-1)):
        follows = extent == -1 or (extent == 0 and zero_copies and place == rows.axis)
        same = after[place] == before[rows.axis] and math.prod(after[:place]) == math.prod(
            before[: rows.axis]
        )
        if follows and same:
            return Rows(place, rows.extent)
    raise this.refused(
        "the rows would be no axis of their own, or of a fixed extent",
        advice="give -1 as the extent of the rows",
    )


def flatten(this: Node) -> Rows:
    """The rows are one of the two axes."""
    rows, shape = this.only_the_first(), this.shape(this.node.input[0])
    axis = this.number("axis", 1)
    cut = axis + len(shape) if axis < 0 else axis
    before, after = math.prod(shape[:cut]), math.prod(shape[cut:])
    if rows.axis < cut and before == shape[rows.axis]:
        return Rows(0, rows.extent)
    if rows.axis >= cut and after == shape[rows.axis]:
        return Rows(1, rows.extent)
    raise this.refused("the rows would be no axis of their own")


def repeated(this: Node) -> Rows:
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


def split(this: Node) -> Rows:
    """Along another axis."""
    rows = this.only_the_first()
    if this.number("axis", 0) % this.rank(0) == rows.axis:
        raise this.refused("it cuts the rows apart")
    return rows


def size(this: Node) -> Rows | None:
    """Extents without the number of rows."""
    rows = this.only_the_first()
    if this.node.op_type == "Shape":
        rank = this.rank(0)
        start, end = this.number("start", 0), this.number("end", rank)
        if rows.axis not in range(rank)[start:end] or _only_others_read(
            this, rows.axis - range(rank)[start:end][0]
        ):
            return None
    raise this.refused(
        "the number of rows goes into the computation",
        "DC233",
        "give constants where sizes are computed (-1 in Reshape), or end the graph before it: an output is "
        "given with its number of rows",
    )


def _only_others_read(this: Node, place: int) -> bool:
    """Whether of these sizes only fixed ones are picked."""
    name = this.node.output[0]
    readers = this.view.consumers.get(name, [])
    for reader in readers:
        picked = this.view.constant(reader.input[1]) if reader.op_type == "Gather" else None
        size = this.shape(name)[0]
        if picked is None or (picked.reshape(-1) % size == place).any():
            return False
    return bool(readers) and name not in this.view.outputs
