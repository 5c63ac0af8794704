"""Transposition, with elementwise operators before and behind it, in square tiles transposed in registers.

    for outer, rows of tiles (parallel):               # before:  for outer, p, c:
      for tiles of the row:                            #            y[p, c] = f(x[c, p], z[p, c])
        for c in tile: v[c][:] = x[c, p..]             #
        v = transposed(v)                              #
        for p in tile: y[p, c..] = f(v[p][:], z[p, c..])

``c`` is the result's innermost axis and ``p`` the operand's; neighbours that lie as one in all operands (rows
and columns of an image) are one axis.  A tile is a cache line in both directions.  At an edge the last tile
overlaps the one before it; an axis shorter than a cache line gets tiles of the next smaller power of two.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, bits_of
from deploycc.scheduling.written.strided_kernel import StridedKernel
from deploycc.scheduling.written.transposing import transposed, vector
from deploycc.scheduling.written.writing import NotWritable, Writer
from deploycc.tvm_api import tirx

KNOBS = {}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if task.reductions:
        return Skip("the kernel reduces")
    if not any(block.strided for block in task.blocks):
        return Skip("nothing is transposed: no operand is read across its innermost axis")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: shuffles and stores of a tile, and what is missing in the level-1 cache."""
    return (0.4 + 4 / match.target.simd.lanes() / 4) * match.kernel.blocks[-1].operations


def apply(sch, match, knobs):
    """Write the kernel."""
    kernel = StridedKernel.of(sch)
    across = {number for access in kernel.accesses for number in _innermost(access)}
    if len(across) != 1:
        raise NotWritable(f"operands have {len(across)} innermost axes that are not the result's")
    # Padding reads only where a condition holds; tiles are loaded whole, whatever it says.
    if any(access.leaves(kernel.extents) for access in kernel.accesses):
        raise NotWritable("an operand is read beyond its ends but for a condition")
    writer = Writer(kernel)
    _Transposition(writer, kernel, across.pop(), match.target).write()
    return writer.finish()


def _innermost(access):
    """The axis along which ``access`` is contiguous, if it is one that has to be transposed."""
    if access.strides[-1] in (0, 1):
        return []
    return [number for number, stride in enumerate(access.strides) if stride == 1]


class _Transposition:
    """Writes the loops around the tiles, and the tile."""

    def __init__(self, writer, kernel, across, target):
        self.writer, self.kernel, self.across = writer, kernel, across
        self.outer = [number for number in range(len(kernel.extents) - 1) if number != across]
        bits = max(bits_of(str(access.buffer.ty.dtype)) for access in kernel.accesses)
        self.lanes = target.simd.lanes(bits)
        self.edges = tuple(_edge(kernel.extents[axis], 16) for axis in (across, -1))
        self.strides = kernel.output_strides()

    def write(self):
        """All of the kernel."""
        # Along the shorter axis first: what is begun of a cache line is then finished while it is there.
        sideways = self.kernel.extents[-1] > self.kernel.extents[self.across]
        writer, kernel, (edge_p, edge_c) = self.writer, self.kernel, self.edges
        tiles = [-(-kernel.extents[self.across] // edge_p), -(-kernel.extents[-1] // edge_c)]
        first, second = tiles if not sideways else tiles[::-1]
        elements = math.prod(kernel.extents)
        kind = "parallel" if elements // self.lanes >= PARALLEL_OPERATIONS else "serial"
        count = math.prod(kernel.extents[number] for number in self.outer) * first
        with writer.loop(count, "row", kind) as row, writer.loop(second, "tile") as tile:
            rest, indices = row // first, {}
            for number in reversed(self.outer):
                indices[number] = rest % kernel.extents[number]
                rest = rest // kernel.extents[number]
            p, c = (row % first, tile) if not sideways else (tile, row % first)
            indices[self.across] = _start(p, edge_p, kernel.extents[self.across])
            indices[len(kernel.extents) - 1] = _start(c, edge_c, kernel.extents[-1])
            self.tile([indices[number] for number in range(len(kernel.extents))])

    def tile(self, corner):
        """One tile, in squares of a register each way."""
        rows, columns = (min(self.lanes, edge) for edge in self.edges)
        for c in range(0, self.edges[1], columns):
            for p in range(0, self.edges[0], rows):
                self.square([*corner], p, c, rows, columns)

    def square(self, corner, p, c, rows, columns):
        """``rows`` along the operands' innermost axis, ``columns`` along the result's."""
        writer, kernel = self.writer, self.kernel
        corner[self.across] += p
        corner[-1] += c
        held = []
        for access in kernel.accesses:
            if access.strides[-1] in (0, 1) or access.strides[self.across] != 1:
                continue
            vectors = []
            for column in range(columns):
                start = self.place(access, [*corner[:-1], corner[-1] + column])
                vectors.append(vector(writer, writer.flat(access.buffer), start, lanes=rows))
            held.append((access, transposed(writer, vectors, rows, str(access.buffer.ty.dtype))))
        for row in range(rows):
            with writer.loop(columns, "lane", "vectorized") as lane:
                indices = [*corner[:-1], corner[-1] + lane]
                indices[self.across] = corner[self.across] + row

                def read(access, row=row, lane=lane, indices=indices):
                    for other, tile in held:
                        if other.same_as(access):
                            return writer.load(tile, row, lane)
                    return writer.load(writer.flat(access.buffer), self.place(access, indices))

                place = sum(index * stride for index, stride in zip(indices, self.strides, strict=True))
                writer.store(writer.flat(kernel.output), kernel.element(read, indices), place)

    def place(self, access, indices):
        """The element of ``access`` at ``indices``."""
        place = tirx.IntImm("int64", access.offset)
        for index, stride in zip(indices, access.strides, strict=True):
            if stride:
                place = place + index * stride
        return place


def _edge(extent, most):
    """The largest power of two that is at most ``extent`` and ``most``."""
    return min(1 << (extent.bit_length() - 1), most)


def _start(number, edge, extent):
    """Where tile ``number`` starts: the last one ends with the axis."""
    return tirx.min(number * edge, extent - edge) if extent % edge else number * edge
