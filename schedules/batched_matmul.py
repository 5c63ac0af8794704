"""Products of two matrices that are both computed, one or a batch of them, as attention has them.

    for batch, column block, band (parallel):   # before:  for b, i, j: for k: acc += x[b,i,k] * w[b,k,j]
      for k: p[k][:] = w[b, k, block..]               # packed, transposed in registers where w is [b, j, k]
      for row tiles of the band:
        acc[tile][vectors * lanes] = 0
        for k:
          for t in tile (unrolled):
            acc[t][:] += x[b, row + t, k] * p[k][:]
        y[b, row.., block..] = epilogue(acc)

Columns that do not fill a block are a block of fewer vectors, whose last one overlaps the one before it; rows
are cut into tiles of nearly one size.  A right side whose rows are contiguous is read where it lies unless it
is long enough for the packed one to be worth its copy.  Where there are fewer blocks than threads want, rows
are cut into bands as well, of which the last may overlap and each packs for itself.
"""

from __future__ import annotations

import math

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel, child_blocks
from deploycc.scheduling.primitives import (
    PARALLEL_OPERATIONS,
    inline_elementwise,
    is_reduction,
    register_tile_cost,
    usable_lanes,
)
from deploycc.scheduling.written.pixels import TASKS, balanced
from deploycc.scheduling.written.rows import places_of
from deploycc.scheduling.written.strides import strides_of
from deploycc.scheduling.written.transposing import transposed, vector
from deploycc.scheduling.written.writing import FusedKernel, NotWritable, Writer
from deploycc.tvm_api import tirx

KNOBS = {
    "tile": tuple(range(1, 15)),
    "vectors": (1, 2, 3, 4),
    "packed": (0, 1),
    "steps": (1, 4),
}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if len(task.reductions) != 1 or not task.reductions[0].product:
        return Skip("not a product of two matrices")
    block = task.reductions[0]
    if len(block.reduction) != 1 or len(block.spatial) < 2:
        return Skip("a sum of products, but of no two matrices")
    if block.spatial[-1] < 2:
        return Skip("a matrix by a vector: every result is a sum along a row")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: tiles x steps of the reduction, the packing, and what memory that is not packed costs."""
    block = match.kernel.reductions[0]
    (inner,), (*batch, rows, columns) = block.reduction, block.spatial
    tile, vectors, steps = knobs["tile"], knobs["vectors"], knobs["steps"]
    lanes = _lanes(match.target, columns)
    if tile > rows or (vectors > 1 and (vectors - 1) * lanes >= columns):
        return None
    if steps > 1 and not (match.target.simd.fma_by_lane and inner >= steps == match.target.simd.lanes()):
        return None
    if not usable_lanes(match.target, lanes, columns):
        return None
    step = register_tile_cost(match.target, tile, vectors, lanes, steps)
    if step is None:
        return None
    width = vectors * lanes
    blocks = -(-columns // lanes) / vectors
    tiles = math.prod(batch) * -(-rows // tile) * blocks
    packing = math.prod(batch) * blocks * vectors * inner * 1.5 if knobs["packed"] else 0.0
    far = 1.0
    if not knobs["packed"] and 4 * inner * columns > match.target.cache.l1 and width < columns:
        far = 1.15  # pieces of long rows: a page and cache sets of their own each
    return tiles * (inner * step * far + 2 * tile * vectors + 20) + packing


def _lanes(target, columns):
    lanes = target.simd.lanes()
    while lanes > columns:
        lanes //= 2
    return lanes


def apply(sch, match, knobs):
    """Write the kernel."""
    inline_elementwise(sch)
    blocks = [block for block in child_blocks(sch) if is_reduction(sch, block)]
    if len(blocks) != 1:
        raise NotWritable("more than one reduction is left")
    node = sch.get(blocks[0])
    left, right = node.body.value.b.a, node.body.value.b.b
    kernel = FusedKernel.behind(sch, left.source, right.source, node, [node])
    product = _Product(kernel, node, left, right)
    writer = Writer(kernel)
    _Kernel(writer, product, match.target, knobs).write()
    return writer.finish()


class _Product:
    """Which of the result's axes are batches, rows and columns, and how the operands lie along them."""

    def __init__(self, kernel, node, left, right):
        self.kernel = kernel
        spatial = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.DataPar]
        (k,) = [v for v in node.iter_vars if v.iter_type != tirx.IterVar.DataPar]
        variables = [*(v.var for v in spatial), k.var]
        self.left, self.right = strides_of(left, variables), strides_of(right, variables)
        if self.left is None or self.right is None:
            raise NotWritable("an operand is not read with fixed strides")
        if {str(b.ty.dtype) for b in (left.source, right.source, kernel.accumulated)} != {"float32"}:
            raise NotWritable("not of float32")
        self.extents = [int(v.dom.extent) for v in spatial]
        self.inner = int(k.dom.extent)
        self.columns = len(spatial) - 1
        if self.left.strides[self.columns] != 0:
            raise NotWritable("the left side changes along the columns")
        rows = [a for a in range(self.columns) if self.left.strides[a] and not self.right.strides[a]]
        rows = rows or [a for a in range(self.columns) if self.extents[a] == 1] or [None]
        self.rows = max((a for a in rows if a is not None), key=lambda a: (self.extents[a], a), default=None)
        self.batches = [a for a in range(self.columns) if a != self.rows]
        self.height = 1 if self.rows is None else self.extents[self.rows]
        self.width = self.extents[self.columns]
        strides = self.right.strides
        if strides[self.columns] != 1 and strides[-1] != 1:
            raise NotWritable("the right side is contiguous along neither rows nor columns")
        self.transposed = strides[self.columns] != 1

    def place(self, access, batch, row, column, k):
        """The element of an operand."""
        place = tirx.IntImm("int64", access.offset)
        indices = dict(zip(self.batches, batch, strict=True))
        indices |= {self.columns: column, self.inner_axis: k}
        if self.rows is not None:
            indices[self.rows] = row
        for axis, stride in enumerate(access.strides):
            if stride:
                place = place + indices[axis] * stride
        return place

    @property
    def inner_axis(self):
        """The position of the reduction among the strides."""
        return len(self.extents)

    def result(self, batch, row, column):
        """The result's indices."""
        indices = dict(zip(self.batches, batch, strict=True)) | {self.columns: column}
        if self.rows is not None:
            indices[self.rows] = row
        return [indices[axis] for axis in range(len(self.extents))]


class _Kernel:
    """Writes the blocks of columns, the packing and the tiles."""

    def __init__(self, writer, product, target, knobs):
        self.writer, self.product, self.knobs = writer, product, knobs
        self.lanes = _lanes(target, product.width)
        # By one register of results an instruction: what one thread needs to be worth its start.
        work = math.prod(product.extents) * product.inner // self.lanes
        self.kind = "parallel" if work >= PARALLEL_OPERATIONS else "serial"
        self.packed = bool(knobs["packed"]) or product.transposed

    def write(self):
        """All blocks."""
        product, lanes = self.product, self.lanes
        vectors = self.knobs["vectors"]
        whole, rest = divmod(product.width, lanes)
        starts = [number * lanes for number in range(whole)] + ([product.width - lanes] if rest else [])
        blocks = whole // vectors
        extents = [product.extents[axis] for axis in product.batches]
        batches = math.prod(extents)
        if blocks:
            band, bands = self.bands(batches * blocks)
            with self.writer.loop(batches * blocks * bands, "block", self.kind) as task:
                number = task // bands
                first = number % blocks * (vectors * lanes) if blocks > 1 else _int(0)
                columns = [first + vector * lanes for vector in range(vectors)]
                self.block(list(places_of(number // blocks, extents)), columns, task % bands, band)
        left = starts[blocks * vectors :]
        if left:
            band, bands = self.bands(batches)
            with self.writer.loop(batches * bands, "rest", self.kind) as task:
                batch = list(places_of(task // bands, extents))
                self.block(batch, [_int(start) for start in left], task % bands, band)

    def bands(self, pieces):
        """Rows of a band and how many bands there are: enough for threads, none lower than a tile."""
        height = self.product.height
        wanted = -(-TASKS // pieces) if self.kind == "parallel" else 1
        band = -(-height // max(1, min(wanted, height // self.knobs["tile"])))
        return band, -(-height // band)

    def block(self, batch, columns, band, height):
        """The rows of one band of one block of columns."""
        packed = None
        if self.packed:
            packed = self.writer.scratch("packed", (self.product.inner, len(columns) * self.lanes))
            self.pack(packed, batch, columns)
        start = tirx.min(band * height, self.product.height - height) if height < self.product.height else 0
        for first, size, count in balanced(height, self.knobs["tile"]):
            with self.writer.loop(count, "tile") as number:
                self.tile(batch, start + number * size + first, size, columns, packed)

    def pack(self, packed, batch, columns):
        """The block's columns, each step of the reduction one piece of memory."""
        writer, product, lanes = self.writer, self.product, self.lanes
        right = writer.flat(product.right.buffer)
        if not product.transposed:
            with writer.loop(product.inner, "k") as k:
                for number, column in enumerate(columns):
                    with writer.loop(lanes, "lane", "vectorized") as lane:
                        place = product.place(product.right, batch, _int(0), column + lane, k)
                        writer.store(packed, writer.load(right, place), k, number * lanes + lane)
            return
        piece = lanes
        while piece > product.inner:
            piece //= 2
        count, rest = divmod(product.inner, piece)
        with writer.loop(count, "k") as number:
            self.turn(packed, batch, columns, number * piece, piece)
        if rest:
            self.turn(packed, batch, columns, _int(product.inner - piece), piece)

    def turn(self, packed, batch, columns, k, piece):
        """Transpose ``piece`` steps of each vector of columns."""
        writer, product, lanes = self.writer, self.product, self.lanes
        right = writer.flat(product.right.buffer)
        for number, column in enumerate(columns):
            rows = [
                vector(
                    writer, right, product.place(product.right, batch, _int(0), column + lane, k), lanes=piece
                )
                for lane in range(lanes)
            ]
            turned = transposed(writer, rows, piece)
            for step in range(piece):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    writer.store(packed, writer.load(turned, step, lane), k + step, number * lanes + lane)

    def tile(self, batch, row, size, columns, packed):
        """One register tile."""
        writer, product, lanes = self.writer, self.product, self.lanes
        sums = writer.local("sums", (size, len(columns), lanes))
        for t in range(size):
            for number in range(len(columns)):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    writer.store(sums, 0.0, t, number, lane)
        steps = self.knobs["steps"] if product.left.strides[-1] == 1 else 1
        whole = product.inner // steps
        with writer.loop(whole, "k") as k:
            self.steps(sums, batch, row, size, columns, packed, k * steps, steps)
        with writer.loop(product.inner - whole * steps, "k") as k:
            if product.inner > whole * steps:
                self.steps(sums, batch, row, size, columns, packed, k + whole * steps, 1)
        for t in range(size):
            for number, column in enumerate(columns):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    indices = product.result(batch, row + t, column + lane)
                    writer.result(writer.load(sums, t, number, lane), *indices)

    def steps(self, sums, batch, row, size, columns, packed, k, steps):
        """Some steps of the reduction; their inputs are one load a row where there are several."""
        writer, product, lanes = self.writer, self.product, self.lanes
        left, right = writer.flat(product.left.buffer), writer.flat(product.right.buffer)
        places = [product.place(product.left, batch, row + t, _int(0), k) for t in range(size)]
        inputs = None
        if steps > 1:
            inputs = writer.local("inputs", (size, steps))
            for t in range(size):
                with writer.loop(steps, "lane", "vectorized") as lane:
                    writer.store(inputs, writer.load(left, places[t] + lane), t, lane)
        for step in range(steps):
            for t in range(size):  # outside, or LLVM holds the broadcast inputs of all rows in registers
                one = writer.load(inputs, t, step) if inputs is not None else writer.load(left, places[t])
                for number, column in enumerate(columns):
                    with writer.loop(lanes, "lane", "vectorized") as lane:
                        if packed is not None:
                            other = writer.load(packed, k + step, number * lanes + lane)
                        else:
                            place = product.place(product.right, batch, _int(0), column + lane, k + step)
                            other = writer.load(right, place)
                        before = writer.load(sums, t, number, lane)
                        writer.store(sums, before + one * other, t, number, lane)


def _int(value):
    return tirx.IntImm("int64", value)
