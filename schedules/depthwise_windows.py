"""Depthwise convolution, NCHW, rows of stride 1, read where they lie: a tile of rows x vectors in registers.

    for planes (parallel):                             # before:  for n, k, oh, ow:
      for tile:                                        #              for kh, kw: acc += x * w
        acc[rows][vectors * lanes] = 0                 #
        for kw: for each input row of the tile:        #
            for the output rows that it reaches:       #
              acc[row][:] += x[input row, kw + :] * w[k, kh, kw]
        y[k, tile] = epilogue(acc)

Nothing is packed.  Tiles at the border are written out apart: kernel rows that read padding only are left
out, lanes that fall on padding are replaced by zeros after a load that stays inside the tensor.
"""

from __future__ import annotations

from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.scheduling.written.planes import (
    axes_of,
    cut_axis,
    depthwise_of_planes,
    match_planes,
    registers_suffice,
    turned,
)
from deploycc.scheduling.written.writing import FusedKernel, Writer
from deploycc.tvm_api import tirx

KNOBS = {
    "rows": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14),
    "vectors": (1, 2, 3, 4, 5, 6, 7, 8),
}

UNROLLED = 800
"""Multiply-adds of one unrolled body; more and it leaves the cache of decoded instructions."""
WRITTEN = 2500
"""Multiply-adds of all bodies."""
TASKS = 16
"""Parallel tasks."""


def match(task, target):
    """Say which tasks are taken."""
    return match_planes(task, target)


def cut(match, knobs):
    """Tiles (inner and border ones) down and along, ``None`` where these knobs do not fit the image."""
    conv, lanes = match.operator, match.target.simd.lanes()
    across, along = axes_of(conv)
    rows, width = knobs["rows"], knobs["vectors"] * lanes
    if along.stride != 1 or min(along.out, along.extent) < lanes or rows > across.out:
        return None
    if width >= along.out + lanes or (width > along.out and along.out < lanes):
        return None
    columns = cut_axis(along, min(width, along.out), 0)
    # Vectors that begin left of a row or end right of it must not leave the tensor.
    return cut_axis(across, rows, 0 if columns.inside else 1), columns


def starts_of(match, knobs):
    """Where the vectors of a tile start, from its first column."""
    lanes, out = match.target.simd.lanes(), axes_of(match.operator)[1].out
    return [
        min(vector * lanes, min(out, knobs["vectors"] * lanes) - lanes) for vector in range(knobs["vectors"])
    ]


def cost(match, knobs):
    """Cycles: tiles x (multiply-adds or loads + epilogue)."""
    conv, target = match.operator, match.target
    tiles = cut(match, knobs)
    if tiles is None:
        return None
    down, columns = tiles
    across, along = axes_of(conv)
    accumulators = knobs["rows"] * knobs["vectors"]
    taps = across.taps * along.taps
    if not registers_suffice(target, accumulators, across.taps, taps) or accumulators * taps > UNROLLED:
        return None
    if accumulators * taps * down.bodies * columns.bodies > WRITTEN:
        return None
    rate = 1 if target.simd.fma else 2
    split = min(1.0, target.simd.bits / 8 / target.cache.line)  # a load across a line counts twice
    lines = {
        row * across.stride + kh * across.dilation
        for row in range(knobs["rows"])
        for kh in range(across.taps)
    }
    loads = len(lines) * along.taps * knobs["vectors"] * (1 + split) + taps
    body = max(accumulators * taps * rate / 2, loads / 2, 4 * rate * taps if taps > 9 else 0)
    if target.simd.fma_by_lane and taps > 9 and knobs["vectors"] > 1:
        # LLVM spills weights then: 5x5 at 14x14, 7 x 2 executes 2.2 instructions a multiply-add, 14 x 1 1.8.
        body *= 1.3
    tiles = down.tiles * columns.tiles
    return conv.batch * conv.out_channels * (tiles * (body + accumulators * 2 + 3) + 20)


def compute(match, knobs):
    """Weights [k, kw, kh] and the tensor expression."""
    return depthwise_of_planes(match)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv = match.operator
    writer = Writer(FusedKernel.of(sch))
    planes = conv.batch * conv.out_channels
    operations = planes * conv.out_height * conv.out_width * conv.kernel[0] * conv.kernel[1]
    parallel = operations // match.target.simd.lanes() >= PARALLEL_OPERATIONS
    share = -(-planes // (TASKS if parallel else 1))
    tasks = -(-planes // share)
    down, columns = cut(match, knobs)
    outputs = conv.out_channels // conv.in_channels
    with writer.loop(tasks, "task", "parallel" if parallel else "serial") as task:
        mine = tirx.min(tirx.IntImm("int64", share), planes - task * share) if planes % share else share
        # One loop over output planes: of a loop over the outputs of a channel LLVM would move the loads of
        # border tiles out, into more registers than there are.
        with writer.loop(mine, "plane") as number:
            plane = task * share + number
            n, k = plane // conv.out_channels, plane % conv.out_channels
            kernel = _Kernel(writer, match, knobs, (n, k // outputs, k))
            for row_start, row_step, row_count in down.runs:
                with writer.loop(row_count, "down") as i:
                    for start, step, count in columns.runs:
                        with writer.loop(count, "along") as j:
                            y = row_start if row_count == 1 else row_start + i * row_step
                            x = start if count == 1 else start + j * step
                            kernel.tile(y, x)
    return writer.finish()


class _Kernel:
    """Writes what is done for one output plane."""

    def __init__(self, writer, match, knobs, indices):
        self.writer, self.conv = writer, match.operator
        self.n, self.channel, self.k = indices
        self.across, self.along = axes_of(match.operator)
        self.turned = turned(match.operator)
        self.lanes, self.rows = match.target.simd.lanes(), knobs["rows"]
        self.starts = starts_of(match, knobs)
        self.down, self.columns = cut(match, knobs)

    def at(self, row, column):
        """Indices of an input element."""
        return (self.n, self.channel, *((column, row) if self.turned else (row, column)))

    def tile(self, y, x):
        """One tile; ``y`` and ``x`` are numbers where it touches the border."""
        writer, across, along = self.writer, self.across, self.along
        total = writer.local("total", (self.rows, len(self.starts), self.lanes))
        for row in range(self.rows):
            for vector in range(len(self.starts)):
                with writer.loop(self.lanes, "lane", "vectorized") as lane:
                    writer.store(total, 0.0, row, vector, lane)
        places = {}
        for row in range(self.rows):
            for kh in range(across.taps):
                places.setdefault(row * across.stride + kh * across.dilation - across.before, []).append(
                    (row, kh)
                )
        for kw in range(along.taps):
            for place, uses in sorted(places.items()):
                line = y * across.stride + place
                if isinstance(y, int) and not 0 <= line < across.extent:
                    continue
                for vector, start in enumerate(self.starts):
                    value = self.window(line, x + start + kw * along.dilation - along.before)
                    if value is None:
                        continue
                    for row, kh in uses:
                        weight = writer.load(writer.kernel.weight, self.k, kw, kh)
                        with writer.loop(self.lanes, "lane", "vectorized") as lane:
                            product = writer.load(total, row, vector, lane) + value(lane) * weight
                            writer.store(total, product, row, vector, lane)
        for row in range(self.rows):
            for vector, start in enumerate(self.starts):
                with writer.loop(self.lanes, "lane", "vectorized") as lane:
                    place = (y + row, x + start + lane)
                    value = writer.load(total, row, vector, lane)
                    writer.result(value, self.n, self.k, *(reversed(place) if self.turned else place))

    def window(self, row, column):
        """A vector of row ``row`` from ``column`` on with zeros outside of it; ``None`` if it has no more."""
        writer, lanes, extent = self.writer, self.lanes, self.along.extent

        def whole(lane):
            return writer.load(writer.kernel.data, *self.at(row, column + lane))

        if not isinstance(column, int):
            return whole
        first, last = max(0, -column), min(lanes, extent - column)
        if last <= first:
            return None
        if last - first == lanes:
            return whole
        inside = writer.local("window", (lanes,))
        if isinstance(row, int) and (
            (first > 0 and row == 0) or (last < lanes and row == self.across.extent - 1)
        ):
            # The vector would begin before or end behind the tensor.
            begin = min(max(column, 0), extent - lanes)
            with writer.loop(lanes, "lane", "vectorized") as lane:
                writer.store(inside, writer.load(writer.kernel.data, *self.at(row, begin + lane)), lane)
            writer.shift(inside, lanes, column - begin)
        else:
            with writer.loop(lanes, "lane", "vectorized") as lane:
                valid = tirx.all(lane >= first, lane < last)
                writer.store(inside, tirx.Select(valid, whole(lane), tirx.const(0.0, "float32")), lane)
        return lambda lane: writer.load(inside, lane)
