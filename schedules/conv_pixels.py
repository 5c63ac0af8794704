"""Direct convolution, NCHW, vectorised over output pixels, a tile of output channels x vectors in registers.

    for n, band of rows, group (parallel):             # before:  for n, oc, oh, ow:
      x[ic, rows, columns] = the band, padded          #              for ic, kh, kw: acc += x * w
      for oc_block, pixel_tile:                        #
        acc[channels][vectors * lanes] = 0             #
        for ic, kh, kw:
          for k in channels (unrolled):
            acc[k][:] += w[oc_block, ic, kh, kw, k] * x[ic, pixel_tile + kh, kw, :]
        y[oc_block, pixel_tile] = epilogue(acc)

One vector of pixels serves all channels of the tile, one broadcast weight all its vectors: few channels,
small groups and single heads fill whole vectors as long as there are pixels.  Columns (and rows) of a
stride above 1 are packed apart by their remainder, so that every tap reads contiguous memory.  Two ways
to lay vectors over a band:

* by rows: each row is cut into vectors, the last one overlapping the one before it;
* flat: the rows of a band are one line, the padding between them included.  Lanes that fall on padding
  are computed and dropped, by way of a buffer from which whole rows are copied.

Where nothing is padded and no stride leaves gaps (pointwise), the input is read where it lies.
"""

from __future__ import annotations

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, step_cycles
from deploycc.scheduling.written.pixels import (
    TASKS,
    Cut,
    balanced,
    cut_image,
    pack_rows,
    positions,
)
from deploycc.scheduling.written.writing import FusedKernel, Writer, row_vectors
from deploycc.tvm_api import te, tirx

KNOBS = {
    "channels": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16),
    "vectors": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14),
    "flat": (0, 1),
    "packed": (0, 1),
}

UNROLLED = 400
"""Multiply-adds of one unrolled body; more and it leaves the cache of decoded instructions."""

WRITTEN = 2400
"""Multiply-adds of a row of taps, which is always unrolled, where every operand needs a register: LLVM's time
for AArch64 grows with their square (1x256 taps: 25 s for 6 x 4, 8 s for 14 vectors, 3 s for 8)."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d):
        return Skip("not a convolution")
    if (task.data_layout, task.out_layout) != ("NCHW", "NCHW"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NCHW")
    if task.dtype != "float32":
        return Skip(f"{task.dtype}: only float32")
    return Match(task, target)


def cut(match, knobs):
    """How the image is cut up, ``None`` where these knobs do not fit it."""
    return cut_image(
        match.operator, match.target, knobs["vectors"], bool(knobs["flat"]), bool(knobs["packed"])
    )


def cost(match, knobs):
    """Cycles: packing + tiles x (reduction steps x cost of a step + epilogue)."""
    conv, target = match.operator, match.target
    channels, vectors, lanes = knobs["channels"], knobs["vectors"], target.simd.lanes()
    in_group, out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    # As conv_channels has it; llvm-mca sees 9 x 3 and 14 x 2 spill on NEON, 6 x 4, 8 x 3 and 12 x 2 not.
    spare = 2 if target.simd.fma_by_lane else 0
    if channels > out_group or channels * vectors + vectors + 1 > target.simd.registers - spare:
        return None
    tile = channels * vectors
    if target.simd.fma_by_lane and tile > 1 and tile * conv.kernel[1] > WRITTEN:
        return None
    image = cut(match, knobs)
    if image is None or image.most_vectors < vectors:
        return None
    taps = conv.kernel[0] * conv.kernel[1]
    split = 1 + min(1.0, lanes * 4 / target.cache.line)  # a load across a line counts twice
    rate = 1 if target.simd.fma else 2
    pixels_once = in_group * image.bytes_of_channel <= target.cache.l1 // 2
    total = 0.0
    for _, rows, row_count in balanced(out_group, channels):
        weights_once = rows * in_group * taps * 4 <= target.cache.l1 // 2
        for size, count in image.tiles():
            step = max(rows * size / 2 * rate, (rows + size * split) / 2, 4.0 * rate)
            if target.simd.fma_by_lane:
                step = max(step, step_cycles(target, rows, size))
            far = (0 if weights_once else rows * 4 * taps) + (0 if pixels_once else image.lines(size) * 64)
            reduction = in_group * max(taps * step, far / 24)
            total += row_count * count * (reduction + rows * size * (6 if image.through_buffer else 2.5) + 20)
    if image.packed:
        total += (
            in_group * image.plane * (0.2 if conv.strides[1] == 1 else 0.8) + in_group * image.packed_rows * 4
        )
    return conv.batch * conv.groups * image.bands * total


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    conv = match.operator
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    top, left, _, _ = conv.pads
    in_group, out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    steps = in_group * kernel_h * kernel_w
    blocks = balanced(out_group, knobs["channels"])

    def pack(weight):
        # HWIO -> [group, block, ic, kh, kw, channel of the block], blocks of two sizes one after the other.
        grouped = weight.astype(np.float32).reshape(kernel_h, kernel_w, in_group, conv.groups, out_group)
        grouped = grouped.transpose(3, 2, 0, 1, 4).reshape(conv.groups, steps, out_group)
        parts = [
            grouped[:, :, start : start + size * count]
            .reshape(conv.groups, steps, count, size)
            .transpose(0, 2, 1, 3)
            for start, size, count in blocks
        ]
        return np.concatenate([part.reshape(conv.groups, -1) for part in parts], axis=1).reshape(-1)

    def define(data, weight):
        ic = te.reduce_axis((0, in_group), "ic")
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")

        def pixel(n, channel, y, x):
            row, column = y * stride_h + kh * dil_h - top, x * stride_w + kw * dil_w - left
            inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            clamped = (
                tirx.max(0, tirx.min(row, conv.height - 1)),
                tirx.max(0, tirx.min(column, conv.width - 1)),
            )
            value = data[n, channel // out_group * in_group + ic, clamped[0], clamped[1]]
            return tirx.if_then_else(inside, value, tirx.const(0, "float32")) if any(conv.pads) else value

        def weight_of(channel):
            group, inside, step = (
                channel // out_group,
                channel % out_group,
                (ic * kernel_h + kh) * kernel_w + kw,
            )
            places = [
                start * steps
                + (inside - start) // size * (size * steps)
                + step * size
                + (inside - start) % size
                for start, size, _ in blocks
            ]
            place = places[-1]
            if len(blocks) > 1:
                place = tirx.Select(inside < blocks[1][0], places[0], places[1])
            return weight[group * (steps * out_group) + place]

        return te.compute(
            (conv.batch, conv.out_channels, conv.out_height, conv.out_width),
            lambda n, o, y, x: te.sum(pixel(n, o, y, x) * weight_of(o), axis=[ic, kh, kw]),
            name="conv",
            attrs={TASK_ANNOTATION: match.task},
        )

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    conv, image = match.operator, cut(match, knobs)
    writer = Writer(FusedKernel.of(sch))
    blocks = balanced(conv.out_channels // conv.groups, knobs["channels"])
    tasks = conv.batch * conv.groups * image.bands
    worth = conv.flops // 2 // match.target.simd.lanes() >= PARALLEL_OPERATIONS
    # Images with few rows are packed once, and threads share their output channels.
    over_tasks, over_blocks = ("parallel", "serial") if tasks >= TASKS else ("serial", "parallel")
    with writer.loop(tasks, "task", over_tasks if worth else "serial") as task:
        band, rest = task % image.bands, task // image.bands
        group, n = rest % conv.groups, rest // conv.groups
        kernel = _Kernel(writer, conv, image, n, group, image.first(band))
        kernel.read()
        for start, size, count in blocks:
            with writer.loop(count, "block", over_blocks if worth else "serial") as block:
                kernel.block(start + block * size, size)
    return writer.finish()


class _Kernel:
    """Writes what one task does: one band of rows of one group of one image."""

    def __init__(self, writer, conv, image: Cut, n, group, row):
        self.writer, self.conv, self.image = writer, conv, image
        self.n, self.group, self.row = n, group, row
        self.in_group, self.out_group = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        self.taps = conv.kernel[0] * conv.kernel[1]
        self.pixels = None

    def read(self):
        """Pack the band's input, or leave it where it lies."""
        writer, image = self.writer, self.image
        if not image.packed:
            self.pixels = writer.merged(writer.kernel.data)
            return
        self.pixels = writer.scratch("pixels", (self.in_group * image.plane + image.slack,))
        pack_rows(
            writer, self.conv, image, self.pixels, self.n, self.group * self.in_group, self.in_group, self.row
        )

    def pixel(self, ic, kh, kw, place, lane):
        """One element of the packed input."""
        if not self.image.packed:
            return self.writer.load(
                self.pixels, self.n, self.group * self.in_group + ic, self.row + place + lane
            )
        return self.writer.load(self.pixels, ic * self.image.plane + self.image.offset(kh, kw) + place + lane)

    def block(self, first, channels):
        """All pixels of the band for ``channels`` output channels from ``first``."""
        writer, image, lanes = self.writer, self.image, self.image.lanes
        weights = self.group * (self.out_group * self.in_group * self.taps) + first * (
            self.in_group * self.taps
        )
        line = writer.scratch("line", (channels, image.line)) if image.through_buffer else None
        for tile in positions(writer, image):
            with tile as places:
                total = writer.local("total", (channels, len(places), lanes))
                self.accumulate(total, channels, places, weights)
                for k in range(channels):
                    for vector, place in enumerate(places):
                        with writer.loop(lanes, "lane", "vectorized") as lane:
                            value = writer.load(total, k, vector, lane)
                            channel = self.group * self.out_group + first + k
                            if line is not None:
                                writer.store(line, value, k, place.packed + lane)
                            elif image.merged:
                                line_start = self.row if image.pixels else self.row * self.conv.out_width
                                pixel = line_start + place.packed + lane
                                writer.result_of_pixels(value, self.n, channel, pixel)
                            else:
                                writer.result(
                                    value, self.n, channel, self.row + place.row, place.column + lane
                                )
        if line is not None:
            self.copy(line, channels, first)

    def copy(self, line, channels, first):
        """Whole rows from the line to the result, with the epilogue."""
        writer, image = self.writer, self.image
        with writer.loop(channels, "k") as k, writer.loop(image.band, "row") as row:
            for start, lanes, count in row_vectors(self.conv.out_width, image.lanes):
                with writer.loop(count, "vector") as vector, writer.loop(lanes, "lane", "vectorized") as lane:
                    column = start + vector * lanes + lane
                    value = writer.load(line, k, row * image.pitch + column)
                    channel = self.group * self.out_group + first + k
                    writer.result(value, self.n, channel, self.row + row, column)

    def accumulate(self, total, channels, places, weights):
        """The sum over input channels and taps, in registers."""
        writer, conv, lanes = self.writer, self.conv, self.image.lanes
        for k in range(channels):
            for vector in range(len(places)):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    writer.store(total, 0.0, k, vector, lane)
        with writer.loop(self.in_group, "ic") as ic:
            for kh_loop in self.image.tap_loops(channels * len(places) * conv.kernel[1], UNROLLED):
                with writer.loop(kh_loop.count, "kh") as step:
                    for kh in kh_loop.unrolled:
                        for kw in range(conv.kernel[1]):
                            self.multiply(total, channels, places, weights, ic, kh_loop, step, kh, kw)

    def multiply(self, total, channels, places, weights, ic, kh_loop, step, kh, kw):
        """One tap of one input channel."""
        writer, conv, image = self.writer, self.conv, self.image
        tap = (ic * conv.kernel[0] + kh + step * kh_loop.taps) * conv.kernel[1] + kw
        # Channels outside: few vectors of pixels stay in registers while the weights pass by one at a time.
        for k in range(channels):
            weight = writer.load(writer.kernel.weight, weights + tap * channels + k)
            for vector, place in enumerate(places):
                with writer.loop(image.lanes, "lane", "vectorized") as lane:
                    at = place.packed + step * kh_loop.shift
                    product = self.pixel(ic, kh, kw, at, lane) * weight
                    writer.store(total, writer.load(total, k, vector, lane) + product, k, vector, lane)
