"""Direct convolution, vectorised over output channels, a tile of output pixels in registers, any layouts.

    for n, group, band, oc_block (parallel):           # before:  for n, oc, oh, ow:
      for oh in band:                                  #              for kh, kw, ic: acc += x * w
        for pixel_tile of the row:                     #
          acc[pixels][vectors * lanes] = 0
          for kh that lie in the image:
            for ic:
              for kw, pixels that lie in the image (unrolled):
                acc[pixel][:] += x[pixel * stride + kw, ic] * w[oc_block, kh, ic, kw, :]
          y[pixel_tile, oc_block] = epilogue(acc)

Inputs are single elements, broadcast, so it does not matter how they lie: nothing is packed, padded or
transposed on the way in.  Padding is left out instead of multiplied: rows of the kernel that lie outside by
the bounds of a loop, columns by tiles of their own at the edges.  For an NCHW result accumulators are
transposed in registers.  Channels that do not fill whole vectors get a last vector that overlaps the one
before it, and a last block that overlaps likewise.  Where a row is one pixel wide the tile runs down it;
all pixels of a pointwise convolution are one row.
"""

from __future__ import annotations

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, step_cycles
from deploycc.scheduling.written.channels import Form, Tiles, cut_channels
from deploycc.scheduling.written.pixels import TASKS
from deploycc.scheduling.written.transposing import transposed, vector
from deploycc.scheduling.written.writing import FusedKernel, Writer, row_vectors
from deploycc.tvm_api import te, tirx

KNOBS = {
    "pixels": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16),
    "vectors": (1, 2, 3, 4, 5, 6, 8),
    "taps": (0, 1),
}
"""``taps``: whether the taps of a row are one unrolled body, or each has a loop over input channels."""

WIDE = 12
"""Pixels of a tile from which on it was measured to fall off, see ``cost``."""
LONG_ROWS = 5
"""Taps of a kernel's row from which on wide tiles were measured to fall off, see ``cost``."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if task.dtype != "float32":
        return Skip(f"{task.dtype}: only float32")
    if task.out_channels == task.groups:
        return Skip("one output channel a group: nothing to vectorise over")
    return Match(task, target)


def form(match, knobs):
    """How the convolution is cut up, ``None`` where these knobs do not fit it."""
    return cut_channels(match.operator, match.target, knobs["pixels"], knobs["vectors"], bool(knobs["taps"]))


def cost(match, knobs):
    """Cycles: tiles x (reduction steps x cost of a step + epilogue)."""
    conv, target = match.operator, match.target
    pixels, vectors = knobs["pixels"], knobs["vectors"]
    cut = form(match, knobs)
    if cut is None:
        return None
    # LLVM keeps inputs that several taps of one body read.
    shared = cut.taps > 1 and (cut.taps - 1) * cut.along.dilation >= cut.along.stride
    # Where inputs are loaded to be lanes, LLVM needs registers beyond them, else it spills or shuffles.
    spare = 2 if target.simd.fma_by_lane else 0
    if pixels * vectors + vectors + (4 if shared else 1) > target.simd.registers - spare:
        return None
    in_group, out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    rows, all_rows = cut.across.valid_taps(), cut.across.out
    total = 0.0
    for tile in cut.tiles:
        steps = sum(step_cycles(target, len(taps), vectors) for taps in tile.taps if taps)
        stores = tile.pixels * vectors * 2
        if conv.out_layout == "NCHW":
            chunks = sum(count for _, _, count in row_vectors(tile.pixels, cut.lanes))
            stores = chunks * vectors * cut.lanes * 3
        total += tile.count * (rows * in_group * steps + all_rows * (stores + 20))
    # Measured beside smaller tiles of the same shapes on AVX-512 (3x3, 1x3, 1x9, 7x7 and 11x11): wide tiles
    # take a third longer, over long rows of taps twice as long (why is not known), and few channels under
    # long rows a quarter longer.
    long_rows = cut.along.taps >= LONG_ROWS
    if pixels >= WIDE and len(cut.tiles) > 1 and cut.along.taps * cut.across.taps > 1:
        total *= 2 if long_rows else 1.3
    if long_rows and in_group < target.simd.lanes():
        total *= 1.25
    return conv.batch * conv.groups * cut.blocks(out_group) * total


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    conv, cut = match.operator, form(match, knobs)
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    top, left, _, _ = conv.pads
    in_group, out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    lanes, vectors, blocks = cut.lanes, cut.vectors, cut.blocks(out_group)
    last = cut.starts(out_group) - 1
    steps = in_group * kernel_h * kernel_w

    def pack(weight):
        # HWIO -> [group, block, across tap, taps of a body, ic, tap of the body, vector, lane]
        grouped = weight.astype(np.float32).reshape(kernel_h, kernel_w, in_group, conv.groups, out_group)
        if cut.down:
            grouped = grouped.transpose(1, 0, 2, 3, 4)
        grouped = grouped.reshape(cut.across.taps, -1, cut.taps, in_group, conv.groups, out_group)
        grouped = grouped.transpose(4, 0, 1, 3, 2, 5).reshape(conv.groups, steps, out_group)
        first = [min(block * vectors, last + 1 - vectors) for block in range(blocks)]
        starts = [[min((b + v) * lanes, out_group - lanes) for v in range(vectors)] for b in first]
        channels = (np.array(starts)[..., None] + np.arange(lanes)).reshape(blocks, vectors * lanes)
        return np.ascontiguousarray(grouped[:, :, channels].transpose(0, 2, 1, 3)).reshape(-1)

    def define(data, weight):
        ic = te.reduce_axis((0, in_group), "ic")
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")

        def pixel(n, channel, y, x):
            row, column = y * stride_h + kh * dil_h - top, x * stride_w + kw * dil_w - left
            inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            if not (cut.across.whole and cut.along.whole):
                row = tirx.max(0, tirx.min(row, conv.height - 1))
                column = tirx.max(0, tirx.min(column, conv.width - 1))
            source = channel // out_group * in_group + ic
            place = (n, source, row, column) if conv.data_layout == "NCHW" else (n, row, column, source)
            if cut.across.whole and cut.along.whole:
                return data[place]
            return tirx.if_then_else(inside, data[place], tirx.const(0, "float32"))

        def weight_of(channel):
            inner = channel % out_group
            number = tirx.min(inner // lanes, last)
            block = tirx.min(number // vectors, blocks - 1)
            lane = inner - tirx.min(number * lanes, out_group - lanes)
            in_block = number - tirx.min(block * vectors, last + 1 - vectors)
            across, along = (kw, kh) if cut.down else (kh, kw)
            step = (across * cut.along.taps + along // cut.taps * cut.taps) * in_group
            step = step + ic * cut.taps + along % cut.taps
            place = ((channel // out_group * blocks + block) * steps + step) * vectors + in_block
            return weight[place * lanes + lane]

        def total(n, o, y, x):
            return te.sum(pixel(n, o, y, x) * weight_of(o), axis=[kh, kw, ic])

        image = (conv.out_height, conv.out_width)
        nchw = conv.out_layout == "NCHW"
        return te.compute(
            (conv.batch, conv.out_channels, *image) if nchw else (conv.batch, *image, conv.out_channels),
            total if nchw else lambda n, y, x, o: total(n, o, y, x),
            name="conv",
            attrs={TASK_ANNOTATION: match.task},
        )

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv, cut = match.operator, form(match, knobs)
    writer = Writer(FusedKernel.of(sch))
    out_group = conv.out_channels // conv.groups
    blocks = cut.blocks(out_group)
    parallel = conv.flops // 2 // match.target.simd.lanes() >= PARALLEL_OPERATIONS
    pieces = conv.batch * conv.groups * blocks
    bands = min(cut.across.out, -(-TASKS // pieces)) if parallel else 1
    band = -(-cut.across.out // bands)
    bands = -(-cut.across.out // band)
    with writer.loop(pieces * bands, "task", "parallel" if parallel else "serial") as task:
        piece, block = task // bands // blocks, task // bands % blocks
        kernel = _Kernel(writer, conv, cut, piece // conv.groups, piece % conv.groups, block)
        first = tirx.min(task % bands * band, cut.across.out - band)
        with writer.loop(band, "row") as row:
            for tile in cut.tiles:
                with writer.loop(tile.count, "tile") as number:
                    kernel.tile(first + row, tile.start + number * tile.pixels, tile)
    return writer.finish()


class _Kernel:
    """Writes the tiles of one block of output channels."""

    def __init__(self, writer, conv, cut: Form, n, group, block):
        self.writer, self.conv, self.cut, self.n = writer, conv, cut, n
        self.in_group, self.out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        self.data, self.weights = writer.flat(writer.kernel.data), writer.kernel.weight
        self.group = group
        steps = self.in_group * cut.along.taps * cut.across.taps
        self.width = cut.vectors * cut.lanes
        self.first_weight = (group * cut.blocks(self.out_group) + block) * (steps * self.width)
        self.first_input = n * (conv.in_channels * conv.height * conv.width) + group * (
            self.in_group * cut.channel_step
        )
        vectors = cut.starts(self.out_group)
        first = tirx.min(block * cut.vectors, vectors - cut.vectors)
        self.channels = [
            group * self.out_group + tirx.min((first + v) * cut.lanes, self.out_group - cut.lanes)
            for v in range(cut.vectors)
        ]

    def tile(self, row, start, tile: Tiles):
        """The pixels of one tile."""
        writer, cut = self.writer, self.cut
        total = writer.local("total", (tile.pixels, cut.vectors, cut.lanes))
        for pixel in range(tile.pixels):
            for v in range(cut.vectors):
                with writer.loop(cut.lanes, "lane", "vectorized") as lane:
                    writer.store(total, 0.0, pixel, v, lane)
        self.accumulate(total, row, start, tile)
        if self.conv.out_layout == "NCHW":
            self.write_planes(total, row, start, tile.pixels)
        else:
            self.write_channels(total, row, start, tile.pixels)

    def accumulate(self, total, row, start, tile):
        """The sum over taps and input channels, in registers."""
        writer, cut, across, along = self.writer, self.cut, self.cut.across, self.cut.along
        low, count = 0, across.taps
        position = row * across.stride - across.before
        if not across.whole:
            low = tirx.max(0, (across.dilation - 1 - position) // across.dilation)
            high = tirx.min(across.taps, (across.extent - 1 - position) // across.dilation + 1)
            count = high - low
        with writer.loop(count, "kh") as step:
            tap = low + step
            line = self.first_input + (position + tap * across.dilation) * across.step
            line = line + (start * along.stride - along.before) * along.step
            weights = self.first_weight + tap * (along.taps * self.in_group * self.width)
            for first in range(0, along.taps, cut.taps):
                body = range(first, first + cut.taps)
                if not any(tile.taps[tap] for tap in body):
                    continue
                at = weights + first * (self.in_group * self.width)
                unrolled = self.unrolled(len(body) * tile.pixels * cut.vectors)
                with writer.loop(self.in_group // unrolled, "ic") as ic:
                    for inner in range(unrolled):
                        channel = ic * unrolled + inner
                        for along_tap in body:
                            self.multiply(
                                total,
                                line + channel * cut.channel_step + along_tap * along.dilation * along.step,
                                at + (channel * len(body) + along_tap - first) * self.width,
                                tile.taps[along_tap],
                            )

    def unrolled(self, operations):
        """How many input channels one body should take that has so many multiply-adds for one."""
        return next(n for n in (4, 2, 1) if self.in_group % n == 0 and (n == 1 or n * operations <= 112))

    def multiply(self, total, inputs, weights, pixels):
        """One tap of one input channel."""
        writer, along = self.writer, self.cut.along
        for pixel in pixels:
            value = writer.load(self.data, inputs + pixel * along.stride * along.step)
            for v in range(self.cut.vectors):
                with writer.loop(self.cut.lanes, "lane", "vectorized") as lane:
                    weight = writer.load(self.weights, weights + v * self.cut.lanes + lane)
                    writer.store(total, writer.load(total, pixel, v, lane) + value * weight, pixel, v, lane)

    def write_channels(self, total, row, start, pixels):
        """NHWC: vectors lie as they are."""
        writer, cut = self.writer, self.cut
        for pixel in range(pixels):
            for v, channel in enumerate(self.channels):
                with writer.loop(cut.lanes, "lane", "vectorized") as lane:
                    value = writer.load(total, pixel, v, lane)
                    y, x = self.image_place(row, start + pixel)
                    writer.result(value, self.n, y, x, channel + lane)

    def write_planes(self, total, row, start, pixels):
        """NCHW: vectors of pixels."""
        writer, cut = self.writer, self.cut
        for first, size, count in row_vectors(pixels, cut.lanes):
            for place in range(first, first + size * count, size):
                for v, channel in enumerate(self.channels):
                    rows = [vector(writer, total, place + p, v, 0, lanes=cut.lanes) for p in range(size)]
                    columns = transposed(writer, rows, cut.lanes)
                    for k in range(cut.lanes):
                        with writer.loop(size, "lane", "vectorized") as lane:
                            value = writer.load(columns, k, lane)
                            if cut.merged:
                                pixel = start + place + lane
                                writer.result_of_pixels(value, self.n, channel + k, pixel)
                            else:
                                y, x = self.image_place(row, start + place + lane)
                                writer.result(value, self.n, channel + k, y, x)

    def image_place(self, row, position):
        """Row and column of an output pixel."""
        if self.cut.merged:
            return position // self.conv.out_width, position % self.conv.out_width
        return (position, row) if self.cut.down else (row, position)
