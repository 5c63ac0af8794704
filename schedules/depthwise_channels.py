"""Depthwise convolution, NHWC, vectorised over channels, a tile of output columns in registers.

    for n, band of rows, channel block (parallel):     # before:  for n, oh, ow, k:
      for oh in band: for ow_tile:                     #              for kh, kw: acc += x * w
        acc[tile][vectors * lanes] = 0                 #
        for kh that reads the image:                   #
          for each input column of the tile:           #
            for the columns of the tile it reaches:    #
              acc[t][:] += x[oh*s + kh, column, c] * w[kh, kw, c]
        y[oh, ow_tile, c] = epilogue(acc)

Every access is contiguous over channels, whatever the stride and kernel; a loaded vector serves all columns
of the tile that it reaches.  Padding is neither written nor read: kernel rows outside the image are no steps
of the loop, tiles at the left and right border are written out apart without the taps outside.  Where
channels do not fill whole vectors the last one overlaps the one before it.  With a channel multiplier the
sums of one vector of input channels are interleaved by shuffles.
"""

from __future__ import annotations

import math

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, dispatched
from deploycc.scheduling.written.planes import axes_of, cut_axis, turned
from deploycc.scheduling.written.writing import FusedKernel, Writer
from deploycc.tvm_api import te, tirx

KNOBS = {
    "tile": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14),
    "vectors": (1, 2, 3, 4),
    "lanes": (1, 2, 4, 8, 16, 32),
}

WRITTEN = 1600
"""Multiply-adds of all bodies."""
TASKS = 8
"""Bands x blocks x images that a convolution worth threads is cut into at least, where it has the rows."""
PAGE = 4096
"""Bytes apart at which lines share a set of the level-1 cache, on most processors."""
LOADED = 7
"""Registers for inputs where every operand is loaded to one (no multiply-add reads memory): LLVM loads ahead
and interleaves the vectors of a tile, so that the weights of all of them are held at once.  With fewer left
free 3x3 and 5x5 kernels of strides 1 and 2 were seen to spill."""
MULTIPLIER = 4
"""The largest channel multiplier; sums of more are not worth interleaving."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d) or not task.depthwise:
        return Skip("not a depthwise convolution")
    if (task.data_layout, task.out_layout) != ("NHWC", "NHWC"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NHWC")
    if task.out_channels > MULTIPLIER * task.in_channels:
        return Skip(f"a channel multiplier above {MULTIPLIER} is a grouped convolution (conv_direct)")
    return Match(task, target)


def column_reads(along, tile):
    """The multiply-adds of a kernel row by the column they read: {column: [(column of the tile, kw)]}."""
    found = {}
    for t in range(tile):
        for kw in range(along.taps):
            found.setdefault(t * along.stride + kw * along.dilation - along.before, []).append((t, kw))
    return dict(sorted(found.items()))


def bands_of(match, knobs):
    """Bands of rows: so many that a band's input fits the level-2 cache and threads have work."""
    conv, (across, along) = match.operator, axes_of(match.operator)
    row = along.extent * conv.in_channels * 4
    fitting = match.target.cache.l2 // 2 // row - across.reach * across.stride
    bands = -(-across.out * across.stride // max(fitting, across.stride))
    blocks = -(-conv.in_channels // (knobs["vectors"] * knobs["lanes"]))
    if _operations(conv) // knobs["lanes"] >= PARALLEL_OPERATIONS:
        bands = max(bands, -(-TASKS // (conv.batch * blocks)))
    return min(across.out, bands)


def _operations(conv):
    pixels = conv.batch * conv.out_height * conv.out_width
    return pixels * conv.out_channels * conv.kernel[0] * conv.kernel[1]


def cost(match, knobs):
    """Cycles: tiles x (kernel rows x (multiply-adds or loads) + epilogue)."""
    conv, target = match.operator, match.target
    tile, vectors, lanes = knobs["tile"], knobs["vectors"], knobs["lanes"]
    across, along = axes_of(conv)
    multiplier = conv.out_channels // conv.in_channels
    blocks = -(-conv.in_channels // (vectors * lanes))
    if tile > along.out or lanes > min(target.simd.lanes(), conv.in_channels):
        return None
    if vectors * lanes >= conv.in_channels + lanes:
        return None
    accumulators = tile * vectors * multiplier
    weights = multiplier * min(along.taps, tile)
    if target.simd.fma_by_lane:
        weights = vectors * weights + LOADED
    if accumulators + weights + 2 > target.simd.registers:
        return None
    columns = cut_axis(along, tile, 0)
    if accumulators * along.taps * columns.bodies > WRITTEN:
        return None
    rate = 1 if target.simd.fma else 2
    split = 1.0 if conv.in_channels % lanes == 0 else 1 + min(1.0, lanes * 4 / target.cache.line)
    line, width = far_line(match, knobs), vectors * lanes * 4
    cycles, rows = 0.0, kernel_rows(across)
    reads = column_reads(along, tile)
    for start, _, count in columns.runs:
        begin = start * along.stride
        uses = [len(use) for place, use in reads.items() if count > 1 or 0 <= begin + place < along.extent]
        loads = (len(uses) + multiplier * along.taps) * vectors
        operations = sum(uses) * vectors * multiplier * rate
        step = max(
            operations / 2, loads * split / 2, loads * line, operations / (tile * vectors * multiplier) * 4
        )
        if target.simd.fma_by_lane:
            step = max(step, dispatched(operations, 1.5 * loads + 4))
        epilogue = accumulators * (1.2 if multiplier == 1 else 2) + 2
        cycles += count * (rows * (step + 0.5) + across.out * epilogue)
    # Every line of input and output passes the level-2 cache once; pairs of lines do so faster.
    touched = width / target.cache.line + (0.25 if conv.in_channels * 4 % target.cache.line else 0)
    pixels = across.extent * along.extent + across.out * along.out * multiplier
    return (
        conv.batch
        * blocks
        * max(cycles, pixels * max(1.0, touched) * (2.7 if width > target.cache.line else 3.0))
    )


def far_line(match, knobs):
    """Cycles that a line of the level-2 cache takes, 0 where what a row of tiles reads stays in the level-1.

    Pixels that lie a multiple of some power of two apart share few sets of the cache.
    """
    conv, cache = match.operator, match.target.cache
    across, along = axes_of(conv)
    width = knobs["vectors"] * knobs["lanes"] * 4
    rows = min(across.extent, (across.taps - 1) * across.dilation + 1)
    taps = across.taps * along.taps * (conv.out_channels // conv.in_channels)
    apart = math.gcd(conv.in_channels * 4, PAGE)
    held = cache.l1 * min(1.0, max(width, cache.line) / apart)
    if rows * along.extent * max(width, cache.line) + taps * width <= held:
        return 0.0
    return 1.2 if width > cache.line else 1.6


def kernel_rows(across):
    """Kernel rows that read the image, of all output rows together."""
    return sum(
        0 <= row * across.stride + kh * across.dilation - across.before < across.extent
        for row in range(across.out)
        for kh in range(across.taps)
    )


def compute(match, knobs):
    """Weights [block, kh, kw, output of the channel, channel of the block] and the tensor expression."""
    conv = match.operator
    lanes, vectors = knobs["lanes"], knobs["vectors"]
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    top, left, _, _ = conv.pads
    multiplier = conv.out_channels // conv.in_channels

    def pack(weight):
        parts = weight.astype(np.float32).reshape(kernel_h, kernel_w, conv.in_channels, multiplier)
        parts = parts.transpose(1, 0, 3, 2) if turned(conv) else parts.transpose(0, 1, 3, 2)
        blocks = [
            np.concatenate(
                [parts[..., start : start + lanes] for start in starts_of(conv, knobs, block)], axis=-1
            )
            for block in range(-(-conv.in_channels // (vectors * lanes)))
        ]
        return np.stack(blocks)

    def define(data, weight):
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")

        def pixel(n, y, x, k):
            row, column = y * stride_h + kh * dil_h - top, x * stride_w + kw * dil_w - left
            inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            row = tirx.max(0, tirx.min(row, conv.height - 1))
            column = tirx.max(0, tirx.min(column, conv.width - 1))
            value = data[n, row, column, k // multiplier].astype("float32")
            return tirx.if_then_else(inside, value, tirx.const(0, "float32"))

        def product(n, y, x, k):
            tap = (kw, kh) if turned(conv) else (kh, kw)
            channel = k // multiplier
            vector = channel // lanes
            lane = channel - tirx.min(vector * lanes, conv.in_channels - lanes)
            place = vector % vectors * lanes + lane
            return pixel(n, y, x, k) * weight[(vector // vectors, *tap, k % multiplier, place)]

        image = (conv.batch, conv.out_height, conv.out_width, conv.out_channels)
        accumulated = te.compute(
            image,
            lambda *index: te.sum(product(*index), axis=[kh, kw]),
            name="depthwise",
            attrs={TASK_ANNOTATION: match.task},
        )
        return te.compute(image, lambda *index: accumulated[index].astype(conv.dtype), name="depthwise_out")

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv = match.operator
    across, _ = axes_of(conv)
    writer = Writer(FusedKernel.of(sch))
    lanes, vectors = knobs["lanes"], knobs["vectors"]
    blocks, bands = -(-conv.in_channels // (vectors * lanes)), bands_of(match, knobs)
    band = -(-across.out // bands)
    parallel = _operations(conv) // lanes >= PARALLEL_OPERATIONS
    units = conv.batch * bands * blocks
    with writer.loop(units, "unit", "parallel" if parallel else "serial") as unit:
        n, block = unit // (bands * blocks), unit % blocks
        first = unit // blocks % bands * band
        if across.out % band:
            first = tirx.min(first, across.out - band)
        kernel = _Kernel(writer, conv, knobs, n, block)
        with writer.loop(band, "row") as row:
            kernel.row(first + row)
    return writer.finish()


def starts_of(conv, knobs, block):
    """The first channel of each vector of a block."""
    vectors, lanes = knobs["vectors"], knobs["lanes"]
    starts = [(block * vectors + vector) * lanes for vector in range(vectors)]
    if conv.in_channels % (vectors * lanes) == 0:
        return starts
    smallest = min if isinstance(block, int) else tirx.min
    return [smallest(start, conv.in_channels - lanes) for start in starts]


class _Kernel:
    """Writes what one task does."""

    def __init__(self, writer, conv, knobs, n, block):
        self.writer, self.conv, self.n, self.block = writer, conv, n, block
        self.channels = starts_of(conv, knobs, block)
        self.across, self.along = axes_of(conv)
        self.tile, self.lanes = knobs["tile"], knobs["lanes"]
        self.multiplier = conv.out_channels // conv.in_channels
        self.reads = column_reads(self.along, self.tile)

    def at(self, row, column):
        """The place of a pixel in the image's own order of axes."""
        return (column, row) if turned(self.conv) else (row, column)

    def row(self, y):
        """One row of the output."""
        writer, across = self.writer, self.across
        begin = y * across.stride - across.before

        def up(value):
            return tirx.floordiv(value + (across.dilation - 1), across.dilation)

        reach = (across.out - 1) * across.stride + (across.taps - 1) * across.dilation
        whole = across.before == 0 and reach < across.extent
        lowest = 0 if across.before == 0 else tirx.max(0, tirx.min(across.taps, up(-begin)))
        count = (
            across.taps if whole else tirx.max(0, tirx.min(across.taps, up(across.extent - begin)) - lowest)
        )
        for start, step, times in cut_axis(self.along, self.tile, 0).runs:
            with writer.loop(times, "tile") as i:
                x = start if times == 1 else start + i * step
                total = writer.local("total", (self.tile, len(self.channels), self.multiplier, self.lanes))
                self.each(total, lambda *place, total=total: writer.store(total, 0.0, *place))
                with writer.loop(count, "kh") as kh:
                    self.accumulate(total, begin, lowest + kh, x)
                self.write(total, y, x)

    def each(self, total, body):
        """``body`` of every element of the tile."""
        for t in range(self.tile):
            for vector in range(len(self.channels)):
                for output in range(self.multiplier):
                    with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
                        body(t, vector, output, lane)

    def accumulate(self, total, begin, kh, x):
        """One kernel row."""
        writer, along = self.writer, self.along
        row = begin + kh * self.across.dilation
        for vector, channel in enumerate(self.channels):
            for place, uses in self.reads.items():
                column = x * along.stride + place
                if isinstance(column, int) and not 0 <= column < along.extent:
                    continue
                for t, kw in uses:
                    for output in range(self.multiplier):
                        with writer.loop(self.lanes, "lane", "vectorized") as lane:
                            pixel = writer.load(
                                writer.kernel.data, self.n, *self.at(row, column), channel + lane
                            )
                            place = (self.block, kh, kw, output, vector * self.lanes + lane)
                            weight = writer.load(writer.kernel.weight, *place)
                            product = pixel.astype("float32") * weight
                            value = writer.load(total, t, vector, output, lane) + product
                            writer.store(total, value, t, vector, output, lane)

    def write(self, total, y, x):
        """The tile's results, the outputs of a channel side by side."""
        writer, lanes = self.writer, self.lanes
        for t in range(self.tile):
            for vector, channel in enumerate(self.channels):
                values = total
                if self.multiplier > 1:
                    values = writer.interleaved(total, (t, vector), self.multiplier, lanes)
                for part in range(self.multiplier):
                    with writer.loop(lanes, "lane", "vectorized") as lane:
                        if self.multiplier > 1:
                            value = writer.load(values, part * lanes + lane)
                        else:
                            value = writer.load(total, t, vector, 0, lane)
                        k = channel * self.multiplier + part * lanes + lane
                        writer.result(value, self.n, *self.at(y, x + t), k)
