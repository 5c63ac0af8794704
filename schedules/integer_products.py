"""Convolution and matrix product of int16 with sums in int32, channels last, vectors over output channels.

    for n, group, block of channels, band of rows (parallel):   # before:  for n, y, x, o: for kh, kw, ic:
      for y, tile of pixels:                                    #            acc += x * w
        acc[pixels][vectors * lanes] = 0
        for run:                              # a row of taps, or a tap: inputs that lie side by side
          for pair of the run:                # single inputs where the machine has no instruction for pairs
            for p in pixels (unrolled):
              acc[p][:] += x[p, pair] * w[block, run, pair, :]
        y[tile, block] = epilogue(acc)

Depthwise convolutions have a vector of inputs for a vector of outputs instead.  Channels that do not fill
whole vectors get a last one that overlaps the one before, blocks and tiles of pixels likewise: some results
are computed twice.  All pixels of a pointwise convolution, and all rows of a product, are one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deploycc.operators import Algorithm, Conv2d, Match, MatMul, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.scheduling.written.integer_sums import (
    pair,
    pairwise,
    store_vector,
    takes_pairs,
    vector,
    widened,
)
from deploycc.scheduling.written.writing import FusedKernel, Writer
from deploycc.tvm_api import te, tirx

DTYPES = ("int16",)
KNOBS = {"pixels": tuple(range(1, 15)), "vectors": (1, 2, 3, 4)}

UNROLLED = 200
"""Products of one unrolled row of taps."""

TASKS = 16
"""Pieces to cut a kernel into that is worth several threads."""


@dataclass(frozen=True)
class Form:
    """How an operator is cut up.

    Each of ``rows`` has ``columns`` pixels; a tile is ``pixels`` of them by ``vectors`` of ``lanes`` output
    channels.  A result sums up ``runs`` of ``run`` neighbouring inputs each.
    """

    rows: int
    columns: int
    groups: int
    outputs: int
    """Output channels of a group; of a depthwise convolution all of them, in one group."""
    runs: int
    run: int
    pairs: bool
    depthwise: bool
    lanes: int
    vectors: int
    pixels: int

    @property
    def steps(self) -> int:
        """Steps of one run."""
        return -(-self.run // 2) if self.pairs else self.run

    @property
    def width(self) -> int:
        """Numbers of one step of the weights of a vector."""
        return self.lanes * (2 if self.pairs else 1)

    @property
    def count(self) -> int:
        """Vectors of a group's output channels."""
        return -(-self.outputs // self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks of a group's output channels."""
        return -(-self.count // self.vectors)

    def starts(self):
        """The first channel of each vector of each block."""
        first = [min(block * self.vectors, self.count - self.vectors) for block in range(self.blocks)]
        last = self.outputs - self.lanes
        return [[min((start + v) * self.lanes, last) for v in range(self.vectors)] for start in first]


def merged(conv):
    """Whether a row of taps reads neighbouring inputs."""
    return conv.groups == 1 and conv.dilation[1] == 1


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Conv2d | MatMul):
        return Skip("neither a convolution nor a matrix product")
    if task.dtype not in DTYPES:
        return Skip(f"{task.dtype}: only int16")
    if isinstance(task, Conv2d) and (task.data_layout, task.out_layout) != ("NHWC", "NHWC"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NHWC")
    return Match(task, target)


def form(match, knobs):
    """How the operator is cut up, ``None`` where the knobs do not fit it."""
    task, target = match.operator, match.target
    if isinstance(task, Conv2d):
        depthwise = task.depthwise and task.out_channels == task.in_channels
        rows, columns = task.batch * task.out_height, task.out_width
        if task.pointwise:
            rows, columns = 1, rows * columns
        groups = 1 if depthwise else task.groups
        outputs = task.out_channels // groups
        kernel_h, kernel_w = task.kernel
        inner = 1 if depthwise else task.in_channels // task.groups
        runs, run = (kernel_h, kernel_w * inner) if merged(task) else (kernel_h * kernel_w, inner)
    else:
        depthwise, rows, columns, groups = False, 1, math.prod(task.leading), 1
        outputs, runs, run = task.columns, 1, task.inner
    lanes = target.simd.lanes()
    while lanes > outputs:
        lanes //= 2
    pairs = not depthwise and takes_pairs(target, lanes)
    if knobs["pixels"] > columns or knobs["vectors"] > -(-outputs // lanes):
        return None
    return Form(
        rows, columns, groups, outputs, runs, run, pairs, depthwise, lanes, knobs["vectors"], knobs["pixels"]
    )


def cost(match, knobs):
    """Cycles: tiles x (steps x cost of a step + epilogue)."""
    cut, target = form(match, knobs), match.target
    if cut is None:
        return None
    tile = cut.pixels * cut.vectors
    if tile + cut.vectors + 3 > target.simd.registers:
        return None
    loads = cut.pixels * (cut.vectors if cut.depthwise else 1) + cut.vectors
    products = tile * (1.0 if cut.pairs or cut.depthwise else 0.5 if target.simd.fma_by_lane else 1.5)
    step = max(products, loads / 2, 1.0) + 0.15 * loads
    tiles = cut.groups * cut.blocks * cut.rows * -(-cut.columns // cut.pixels)
    return tiles * (cut.runs * (cut.steps * step + 2) + 6 * tile + 20)


def compute(match, knobs):
    """The packed weights and the tensor expression."""
    task, cut = match.operator, form(match, knobs)
    starts = np.array(cut.starts())
    channels = (starts[..., None] + np.arange(cut.lanes)).reshape(cut.blocks, cut.vectors, cut.lanes)
    last = cut.count - 1

    def pack(weight):
        # [run, input, group, output] -> [group, block, run, step, vector, lane, input of the step]
        each = 2 if cut.pairs else 1
        grouped = weight.reshape(cut.runs, cut.run, cut.groups, cut.outputs)
        padded = np.zeros((cut.runs, cut.steps * each, cut.groups, cut.outputs), np.int16)
        padded[:, : cut.run] = grouped
        chosen = padded.reshape(cut.runs, cut.steps, each, cut.groups, cut.outputs)[..., channels]
        return np.ascontiguousarray(chosen.transpose(3, 4, 0, 1, 5, 6, 2)).reshape(-1)

    def weight_of(weight, channel, run, inner):
        group, inside = channel // cut.outputs, channel % cut.outputs
        number = tirx.min(inside // cut.lanes, last)
        block = tirx.min(number // cut.vectors, cut.blocks - 1)
        lane = inside - tirx.min(number * cut.lanes, cut.outputs - cut.lanes)
        in_block = number - tirx.min(block * cut.vectors, cut.count - cut.vectors)
        each = 2 if cut.pairs else 1
        place = (group * cut.blocks + block) * cut.runs + run
        place = ((place * cut.steps + inner // each) * cut.vectors + in_block) * cut.lanes + lane
        return weight[place * each + inner % each].astype("int32")

    if not isinstance(task, Conv2d):

        def product(data, weight):
            k = te.reduce_axis((0, task.inner), "k")
            return te.compute(
                (*task.leading, task.columns),
                lambda *i: te.sum(
                    data[(*i[:-1], k)].astype("int32") * weight_of(weight, i[-1], 0, k), axis=[k]
                ),
                name="product",
                attrs={TASK_ANNOTATION: match.task},
            )

        return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=product)

    (stride_h, stride_w), (dil_h, dil_w) = task.strides, task.dilation
    inner = task.in_channels // task.groups

    def convolution(data, weight):
        kh = te.reduce_axis((0, task.kernel[0]), "kh")
        kw = te.reduce_axis((0, task.kernel[1]), "kw")
        ic = te.reduce_axis((0, inner), "ic")

        def total(n, y, x, o):
            source = o // (task.out_channels // task.groups) * inner + ic
            value = data[n, y * stride_h + kh * dil_h, x * stride_w + kw * dil_w, source].astype("int32")
            run, place = (kh, kw * inner + ic) if merged(task) else (kh * task.kernel[1] + kw, ic)
            return te.sum(value * weight_of(weight, o, run, place), axis=[kh, kw, ic])

        image = (task.batch, task.out_height, task.out_width, task.out_channels)
        return te.compute(image, total, name="conv", attrs={TASK_ANNOTATION: match.task})

    return Algorithm(pads=task.pads, pack=pack, define=convolution)


def apply(sch, match, knobs):
    """Write the kernel."""
    task, cut = match.operator, form(match, knobs)
    writer = Writer(FusedKernel.of(sch))
    parallel = task.flops // 2 // match.target.simd.lanes() >= PARALLEL_OPERATIONS
    tiles = -(-cut.columns // cut.pixels)
    pieces = cut.groups * cut.blocks
    lines = cut.rows if cut.rows > 1 else tiles
    bands = min(lines, -(-TASKS // pieces)) if parallel else 1
    band = -(-lines // bands)
    bands = -(-lines // band)
    with writer.loop(pieces * bands, "task", "parallel" if parallel else "serial") as number:
        kernel = _Kernel(writer, task, cut, number // bands // cut.blocks, number // bands % cut.blocks)
        first = tirx.min(number % bands * band, lines - band)
        with writer.loop(band, "line") as line:
            if cut.rows == 1:
                kernel.tile(0, tirx.min((first + line) * cut.pixels, cut.columns - cut.pixels))
            else:
                with writer.loop(tiles, "tile") as tile:
                    kernel.tile(first + line, tirx.min(tile * cut.pixels, cut.columns - cut.pixels))
    return writer.finish()


class _Kernel:
    """Writes the tiles of one block of output channels."""

    def __init__(self, writer, task, cut: Form, group, block):
        self.writer, self.task, self.cut, self.group = writer, task, cut, group
        self.data, self.weights = writer.flat(writer.kernel.data), writer.flat(writer.kernel.weight)
        size = cut.runs * cut.steps * cut.vectors * cut.width
        self.first_weight = (group * cut.blocks + block) * size
        first = tirx.min(block * cut.vectors, cut.count - cut.vectors)
        last = cut.outputs - cut.lanes
        self.channels = [
            group * cut.outputs + tirx.min((first + v) * cut.lanes, last) for v in range(cut.vectors)
        ]

    def tile(self, row, start):
        """``pixels`` results of a row from ``start`` on."""
        writer, cut = self.writer, self.cut
        total = writer.local("total", (cut.pixels * cut.vectors * cut.lanes,), "int32")
        zero = tirx.IntImm("int32", 0)
        for place in range(cut.pixels * cut.vectors):
            value = zero if cut.lanes == 1 else tirx.Broadcast(zero, cut.lanes)
            store_vector(writer, total, value, place * cut.lanes, cut.lanes)
        places = self.inputs(row, start)
        down, along = self.taps()
        unrolled = cut.steps == 1 and along * cut.pixels * cut.vectors <= UNROLLED
        with writer.loop(down, "kh") as kh:
            if unrolled:
                for kw in range(along):
                    self.run(total, places, kh, kw, along)
            else:
                with writer.loop(along, "kw") as kw:
                    self.run(total, places, kh, kw, along)
        for pixel in range(cut.pixels):
            place = self.output(row, start + pixel)
            for v, channel in enumerate(self.channels):
                with writer.loop(cut.lanes, "lane", "vectorized") as lane:
                    value = writer.load(total, (pixel * cut.vectors + v) * cut.lanes + lane)
                    writer.result(value, *place, channel + lane)

    def taps(self):
        """Runs down and along the kernel."""
        task, cut = self.task, self.cut
        if not isinstance(task, Conv2d) or merged(task):
            return cut.runs, 1
        return task.kernel

    def run(self, total, places, kh, kw, along):
        """All steps of one run."""
        writer, cut = self.writer, self.cut
        weights = self.first_weight + (kh * along + kw) * (cut.steps * cut.vectors * cut.width)
        inputs = [place + self.offset(kh, kw) for place in places]
        whole = cut.run // 2 if cut.pairs else cut.run
        with writer.loop(whole, "step") as step:
            self.multiply(total, inputs, weights, step, single=False)
        if whole < cut.steps:
            self.multiply(total, inputs, weights, whole, single=True)

    def multiply(self, total, inputs, weights, step, *, single):
        """One step of a run for all of the tile."""
        writer, cut = self.writer, self.cut
        lanes = cut.lanes
        size = cut.vectors * cut.width
        factors = []
        for v in range(cut.vectors):
            loaded = vector(writer, self.weights, weights + step * size + v * cut.width, cut.width)
            factors.append(loaded if cut.pairs else widened(loaded, lanes))
        for pixel, place in enumerate(inputs):
            if cut.pairs:
                value = pair(writer, self.data, place + step * 2, lanes, single=single)
            elif not cut.depthwise:
                value = widened(vector(writer, self.data, place + step, 1), 1)
                value = value if lanes == 1 else tirx.Broadcast(value, lanes)
            for v, factor in enumerate(factors):
                if cut.depthwise:
                    value = widened(vector(writer, self.data, place + self.channels[v], lanes), lanes)
                made = pairwise(factor, value, lanes) if cut.pairs else value * factor
                at = (pixel * cut.vectors + v) * lanes
                store_vector(writer, total, vector(writer, total, at, lanes) + made, at, lanes)

    def inputs(self, row, start):
        """Where the first input of each of the tile's pixels lies, of its group's channels."""
        task, cut = self.task, self.cut
        if not isinstance(task, Conv2d):
            return [(start + pixel) * task.inner for pixel in range(cut.pixels)]
        if task.pointwise:
            return [(start + pixel) * task.in_channels for pixel in range(cut.pixels)]
        width = task.width + task.pads[1] + task.pads[3]
        height = task.height + task.pads[0] + task.pads[2]
        line = row // task.out_height * height + row % task.out_height * task.strides[0]
        first = (line * width + start * task.strides[1]) * task.in_channels
        if not cut.depthwise:
            first = first + self.group * (task.in_channels // task.groups)
        return [first + pixel * (task.strides[1] * task.in_channels) for pixel in range(cut.pixels)]

    def offset(self, kh, kw):
        """From the first input of a pixel to that of a run."""
        task = self.task
        if not isinstance(task, Conv2d) or task.pointwise:
            return 0
        line = (task.width + task.pads[1] + task.pads[3]) * task.in_channels * task.dilation[0]
        return kh * line + kw * (task.dilation[1] * task.in_channels)

    def output(self, row, position):
        """The indices of a result but for its channel."""
        task = self.task
        if isinstance(task, Conv2d):
            if task.pointwise:
                row, position = position // task.width, position % task.width
            return row // task.out_height, row % task.out_height, position
        indices = []
        for extent in reversed(task.leading):
            indices.append(position % extent)
            position = position // extent
        return indices[::-1]
