"""Depthwise convolution, NCHW, vectorised over output pixels, a tile of rows x vectors in registers.

    for planes, bands of rows (parallel):              # before:  for n, k, oh, ow:
      x[rows, columns] = the plane's band, padded      #              for kh, kw: acc += x * w
      for k of the channel's outputs, tile:            #
        acc[rows][vectors * lanes] = 0                 #
        for kw: for each input row of the tile:        #
            for the output rows that it reaches:       #
              acc[row][:] += x[input row, kw + :] * w[k, kh, kw]
        y[k, tile] = epilogue(acc)

A loaded vector serves all rows of the tile that it reaches.  The packed band stays in the level-1 cache;
columns (and rows) of a stride above 1 are packed apart by their remainder, so that every tap reads
contiguous memory, and the padding right of a row is also that left of the next.  Where rows are narrow,
``merged`` of them, padding included, are one line of whole vectors; the lanes that fall on padding are
computed and dropped, by way of a buffer from which rows are copied.
"""

from __future__ import annotations

import math

from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.scheduling.written.planes import (
    cut_plane,
    depthwise_of_planes,
    match_planes,
    mean_steps,
    reads,
    registers_suffice,
    row_loops,
    turned,
)
from deploycc.scheduling.written.writing import FusedKernel, Writer, row_vectors
from deploycc.tvm_api import tirx

KNOBS = {
    "rows": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14),
    "vectors": (1, 2, 3, 4, 6, 8),
    "merged": (0, 1, 2, 3, 4, 6, 8),
}

UNROLLED = 400
"""Multiply-adds of one unrolled body; more and it leaves the cache of decoded instructions."""
TASKS = 16
"""Parallel tasks; few, since each clears its padding once."""


def match(task, target):
    """Say which tasks are taken."""
    return match_planes(task, target)


def cut(match, knobs):
    """How the plane is cut, ``None`` where these knobs do not fit it."""
    return cut_plane(match.operator, match.target, knobs["rows"], knobs["vectors"], knobs["merged"])


def cost(match, knobs):
    """Cycles: packing + tiles x (multiply-adds or loads + epilogue) + copying the rows of a buffer."""
    conv, target = match.operator, match.target
    plane = cut(match, knobs)
    if plane is None:
        return None
    loops = row_loops(plane)
    accumulators, taps = plane.rows * plane.vectors, plane.across.taps * plane.along.taps
    if not registers_suffice(target, accumulators, max(len(loop.taps) for loop in loops), taps):
        return None
    rate = 1 if target.simd.fma else 2
    split = min(1.0, plane.lanes * 4 / target.cache.line)  # a load across a line counts twice
    unrolled = accumulators * taps <= UNROLLED
    body = 0.0
    for loop in loops:
        steps = 0.0
        for phase in plane.along.phases:
            columns = plane.along.taps_of(phase)
            loads = len(reads(plane, loop.taps, columns[0])) * (1 + split) + len(loop.taps)
            step = max(accumulators * len(loop.taps) * rate / 2, loads / 2) + (0 if unrolled else 5)
            steps += len(columns) * step
        body += steps * mean_steps(plane, loop)
    down, along = plane.tiles
    outputs = conv.out_channels // conv.in_channels
    total = outputs * down * along * (max(body, 4 * rate * taps if taps > 9 else 0) + accumulators * 2 + 3)
    columns = len(plane.along.phases) * -(-plane.along.extent // (plane.along.stride * plane.lanes))
    packed_rows = min(plane.across.extent, (plane.band - 1) * plane.across.stride + plane.across.taps)
    total += packed_rows * (columns * (1.5 if plane.along.stride == 1 else 2) + 2.5)
    if plane.through_buffer:
        vectors = sum(count for _, _, count in row_vectors(plane.along.out, plane.lanes))
        total += outputs * (plane.band * (vectors * 2 + 1) + 10)
    return conv.batch * conv.in_channels * plane.bands * (total + 20)


def compute(match, knobs):
    """Weights [k, kw, kh] and the tensor expression."""
    return depthwise_of_planes(match)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv, plane = match.operator, cut(match, knobs)
    writer = Writer(FusedKernel.of(sch))
    units = conv.batch * conv.in_channels * plane.bands
    operations = conv.batch * conv.out_channels * conv.out_height * conv.out_width
    operations *= conv.kernel[0] * conv.kernel[1]
    parallel = operations // plane.lanes >= PARALLEL_OPERATIONS
    share = -(-units // (TASKS if parallel else 1))
    tasks = -(-units // share)
    with writer.loop(tasks, "task", "parallel" if parallel else "serial") as task:
        kernel = _Kernel(writer, conv, plane)
        kernel.clear()
        mine = tirx.min(tirx.IntImm("int64", share), units - task * share) if units % share else share
        with writer.loop(mine, "unit") as number:
            kernel.unit(task * share + number)
    return writer.finish()


class _Kernel:
    """Writes what one task does."""

    def __init__(self, writer, conv, plane):
        self.writer, self.conv, self.plane = writer, conv, plane
        self.turned = turned(conv)
        self.data = writer.merged(writer.kernel.data) if self.turned else writer.kernel.data
        self.packed = writer.scratch("packed", (plane.size,))
        self.line = writer.scratch("line", (plane.line_size,)) if plane.through_buffer else None

    def clear(self):
        """Zeros where no data will be written: the padding."""
        writer, lanes = self.writer, self.plane.lanes
        with (
            writer.loop(self.plane.size // lanes, "i") as i,
            writer.loop(lanes, "lane", "vectorized") as lane,
        ):
            writer.store(self.packed, 0.0, i * lanes + lane)

    def unit(self, unit):
        """One band of one channel, all outputs of it."""
        writer, conv, plane = self.writer, self.conv, self.plane
        band, image = unit % plane.bands, unit // plane.bands
        n, channel = image // conv.in_channels, image % conv.in_channels
        first = tirx.min(band * plane.band, plane.across.out - plane.band) if plane.bands > 1 else 0
        self.pack(n, channel, first)
        outputs = conv.out_channels // conv.in_channels
        with writer.loop(outputs, "output") as output:
            k = channel * outputs + output
            down, tiles = plane.tiles
            with writer.loop(down, "down") as i, writer.loop(tiles, "along") as j:
                y, x = i * plane.tile_height, j * (plane.vectors * plane.lanes)
                if not plane.through_buffer:
                    if plane.band % plane.tile_height:
                        y = tirx.min(y, plane.band - plane.tile_height)
                    if tiles > 1 and plane.along.out % (plane.vectors * plane.lanes):
                        x = tirx.min(x, plane.along.out - plane.vectors * plane.lanes)
                self.tile(n, k, first, y, x)
            if self.line is not None:
                self.copy(n, k, first)

    def result(self, value, n, k, y, x):
        self.writer.result(value, n, k, *((x, y) if self.turned else (y, x)))

    def pack(self, n, channel, first):
        """Copy the band that starts at output row ``first``, without the padding."""
        writer, plane, across = self.writer, self.plane, self.plane.across
        whole = plane.bands == 1
        for phase in across.phases:
            # Row i of a phase is row i * stride + phase of the padded band.
            begin, end = 0, (plane.band - 1) + max(across.shift(t) for t in range(across.taps)) + 1
            if whole:
                begin = max(0, -(-(across.before - phase) // across.stride))
                end = min(end, -(-(across.before + across.extent - phase) // across.stride))
            if end <= begin:
                continue
            with writer.loop(end - begin, "row") as i:
                row = (first + begin + i) * across.stride + (phase - across.before)
                if whole:
                    self.pack_row(n, channel, row, phase, begin + i)
                    continue
                inside = tirx.all(row >= 0, row < across.extent)
                with writer.when(inside):
                    self.pack_row(n, channel, row, phase, begin + i)
                with writer.when(tirx.Not(inside)):
                    for kernel_phase in plane.along.phases:
                        start, stop = plane.data(kernel_phase)
                        place = plane.start(phase, kernel_phase) + (begin + i) * plane.pitch + start
                        self.vectors(
                            stop - start, lambda at, place=place: writer.store(self.packed, 0.0, place + at)
                        )

    def vectors(self, extent, body):
        """``body`` of every element of a row of ``extent``, in vectors that may overlap."""
        writer = self.writer
        for begin, lanes, count in row_vectors(extent, self.plane.lanes):
            kind = "unrolled" if count <= 8 else "serial"
            with (
                writer.loop(count, "vector", kind) as vector,
                writer.loop(lanes, "lane", "vectorized") as lane,
            ):
                body(begin + vector * lanes + lane)

    def pack_row(self, n, channel, row, row_phase, i):
        """Row ``row`` of the image to row ``i`` of its phase."""
        writer, plane, along = self.writer, self.plane, self.plane.along
        data = self.data

        def at(column):
            return (n, channel, column) if self.turned else (n, channel, row, column)

        places = {phase: plane.start(row_phase, phase) + i * plane.pitch for phase in along.phases}
        if along.stride == 1:
            place = places[0] + along.before
            self.vectors(
                along.extent, lambda x: writer.store(self.packed, writer.load(data, *at(x)), place + x)
            )
            return
        lanes = plane.lanes
        while lanes > 1 and lanes * along.stride > along.extent:
            lanes //= 2
        width = lanes * along.stride
        starts = (
            [min(start, along.extent - width) for start in range(0, along.extent, width)]
            if width <= along.extent
            else []
        )
        for start in starts:
            self.deinterleave(places, at, start, lanes)
        if not starts:
            for column in range(along.extent):
                phase = (column + along.before) % along.stride
                if phase in places:
                    writer.store(
                        self.packed,
                        writer.load(data, *at(column)),
                        places[phase] + (column + along.before) // along.stride,
                    )

    def deinterleave(self, places, at, start, lanes):
        """``lanes`` columns of each phase from column ``start`` on, by shuffles of one wide vector."""
        writer, along = self.writer, self.plane.along
        for remainder in range(along.stride):
            column = start + remainder + along.before
            if column % along.stride not in places:
                continue
            place = places[column % along.stride] + column // along.stride
            writer.store_strided(self.packed, place, self.data, at(start), lanes, along.stride, remainder)

    def tile(self, n, k, first, y, x):
        """One tile: sum in registers, then the epilogue or the buffer."""
        writer, plane, lanes = self.writer, self.plane, self.plane.lanes
        total = writer.local("total", (plane.rows, plane.vectors, lanes))
        self.each(lambda row, vector, lane: writer.store(total, 0.0, row, vector, lane))
        place = y * plane.pitch + x
        unrolled = plane.rows * plane.vectors * plane.across.taps * plane.along.taps <= UNROLLED
        for rows in row_loops(plane):
            count, lowest = rows.count, 0
            if rows.count > 1:
                lowest, highest = self.useful(rows, first + y)
                count = highest - lowest
            with writer.loop(count, "kernel_rows") as step:
                step = (lowest + step) if rows.count > 1 else 0
                for columns, times, shift in self.column_loops(unrolled):
                    with writer.loop(times, "kernel_column") as c:
                        for kw in columns:
                            self.multiply(total, k, place, rows, step, kw, c, columns, shift)

        def write(row, vector, lane):
            value, start = writer.load(total, row, vector, lane), plane.starts[vector]
            if self.line is not None:
                writer.store(self.line, value, place + row * plane.merged * plane.pitch + start + lane)
            else:
                self.result(value, n, k, first + y + row, x + start + lane)

        self.each(write)

    def copy(self, n, k, first):
        """The rows of the buffer to the result, with the epilogue."""
        with self.writer.loop(self.plane.band, "row") as row:

            def write(x):
                value = self.writer.load(self.line, row * self.plane.pitch + x)
                self.result(value, n, k, first + row, x)

            self.vectors(self.plane.along.out, write)

    def each(self, body):
        for row in range(self.plane.rows):
            for vector in range(self.plane.vectors):
                with self.writer.loop(self.plane.lanes, "lane", "vectorized") as lane:
                    body(row, vector, lane)

    def column_loops(self, unrolled):
        """(kernel columns written out, how many times, packed columns from one time to the next)."""
        along = self.plane.along
        if unrolled:
            return [(tuple(range(along.taps)), 1, 0)]
        loops = []
        for phase in along.phases:
            taps = along.taps_of(phase)
            step = along.shift(taps[1]) - along.shift(taps[0]) if len(taps) > 1 else 0
            loops.append(((taps[0],), len(taps), step))
        return loops

    def useful(self, rows, y):
        """The steps of a loop over kernel rows that read the image and not only padding."""

        def step(value, apart):
            return tirx.max(0, tirx.min(rows.count, tirx.floordiv(value + (apart - 1), apart)))

        (above, below), apart = self.plane.useful(rows, y), rows.step * self.plane.across.dilation
        lowest = step(above, apart)
        return lowest, tirx.max(lowest, step(below, apart))

    def multiply(self, total, k, place, rows, step, kw, c, columns, shift):
        """One kernel column: every vector of the input that the tile reads, for all rows that it reaches."""
        writer, plane = self.writer, self.plane
        apart = math.gcd(*(tap - kw for tap in plane.along.taps_of(plane.along.phase(kw)))) if shift else 0
        for offset, uses in reads(plane, rows.taps, kw).items():
            at = place + offset + step * (rows.shift * plane.pitch) + c * shift
            for row, vector, kh in uses:
                weight = writer.load(writer.kernel.weight, k, kw + c * apart, kh + step * rows.step)
                with writer.loop(plane.lanes, "lane", "vectorized") as lane:
                    value = (
                        writer.load(total, row, vector, lane) + writer.load(self.packed, at + lane) * weight
                    )
                    writer.store(total, value, row, vector, lane)
