"""Resizing of float32 images (nearest, linear, cubic), the columns of NCHW by shuffles of whole vectors.

    for planes, bands of rows (NCHW, parallel):        # before:  for n, c, y, x:
      for rows of the band: for vectors of columns:    #            y[y, x] = x at rows[:, y], columns[:, x]
        line[row][lanes] = x at rows[:, y] * weights   #                      times their weights
      for rows: for vectors of the result:             #
        v = line[row][first column and on]             #
        y[lanes] = f(shuffles of v * weights)          #
    for n, y (NHWC, parallel): for x: for vectors of channels:
      y[lanes] = f(x at rows[:, y], columns[:, x] * weights)

Which columns make a vector of the result is known when the kernel is written: they are shuffles with constant
masks and weights.  Vectors whose masks are alike, one after the other or every second, third and so on (as a
rational scale makes them), are a loop.  The nearest element needs no line: the image itself is shuffled.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, round_up
from deploycc.scheduling.resizing import read_resize
from deploycc.scheduling.written.writing import Writer, row_vectors
from deploycc.tvm_api import tirx

KNOBS = {}

SHUFFLED = 96
"""Vectors of a row that are written out; a row of more that are not alike reads its columns from tables."""
PERIOD = 8
"""Vectors after which masks are looked for that are alike."""
SPREAD = 4
"""Vectors of the image that one of the result may be shuffled from."""
BAND = 16
"""Rows of a band at most."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if not any(block.name.startswith("resample") for block in task.blocks):
        return Skip("no image is resized")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a vector in about one."""
    return sum(block.operations for block in match.kernel.blocks) / match.target.simd.lanes()


def apply(sch, match, knobs):
    """Write the kernel."""
    resize, kernel = read_resize(sch)
    writer = Writer(kernel)
    (_Channels if resize.resampling.last else _Pixels)(writer, resize, match.target).write()
    return writer.finish()


class _Kernel:
    """What both layouts have in common."""

    def __init__(self, writer, resize, target):
        self.writer, self.resize, self.target = writer, resize, target
        self.lanes = target.simd.lanes()
        self.data, self.taps = writer.kernel.data, len(resize.rows[0])
        self.height, self.width = (table[0].shape[1] for table in (resize.rows, resize.columns))
        shape = [int(extent) for extent in self.data.ty.shape]
        self.batch, self.channels = shape[0], shape[3] if resize.resampling.last else shape[1]

    def kind(self, operations):
        """Whether that many operations on an element of the result are worth threads."""
        elements = self.batch * self.channels * self.height * self.width
        return "parallel" if elements * operations // self.lanes >= PARALLEL_OPERATIONS else "serial"

    def index(self, axis, tap, place):
        """Which row (axis 0) or column of the image stands at ``place``."""
        return tirx.Cast("int64", self.writer.load(self.resize.indices[axis], tap, place))

    def weight(self, axis, tap, place):
        """And what it counts."""
        return self.writer.load(self.resize.weights[axis], tap, place)


class _Channels(_Kernel):
    """NHWC."""

    def write(self):
        """All of the kernel."""
        writer = self.writer
        with (
            writer.loop(self.batch * self.height, "row", self.kind(self.taps**2 + 1)) as row,
            writer.loop(self.width, "x") as x,
        ):
            n, y = row // self.height, row % self.height
            for begin, lanes, count in row_vectors(self.channels, self.lanes):
                with writer.loop(count, "vector") as i, writer.loop(lanes, "lane", "vectorized") as lane:
                    channel = begin + i * lanes + lane
                    writer.result(self.value(n, y, x, channel), n, y, x, channel)

    def value(self, n, y, x, channel):
        """One element of the result."""
        total = None
        for k in range(self.taps):
            for m in range(self.taps):
                place = (n, self.index(0, k, y), self.index(1, m, x), channel)
                value = self.writer.load(self.data, *place)
                if self.resize.weights is not None:
                    value = value * (self.weight(0, k, y) * self.weight(1, m, x))
                total = value if total is None else total + value
        return total


class _Pixels(_Kernel):
    """NCHW."""

    def __init__(self, writer, resize, target):
        super().__init__(writer, resize, target)
        self.columns = int(self.data.ty.shape[3])
        self.weighted = resize.weights is not None
        # A line may be read behind its end, the image may not.
        self.source = round_up(self.columns, self.lanes) if self.weighted else self.columns
        self.band = min(self.height, BAND, max(1, target.cache.l1 // 2 // (self.source * 4)))
        self.runs = self.shuffled()

    def shuffled(self):
        """Runs of vectors: (vectors of one period, how many, columns of the result and of the image on).

        ``None`` where there would be too many, or one would be shuffled from too many vectors.
        """
        vectors = [
            _Vector.of(self.resize.columns, begin + number * lanes, lanes, self.source, self.lanes)
            for begin, lanes, count in row_vectors(self.width, self.lanes)
            for number in range(count)
        ]
        if any(len(vector.loads) > SPREAD for vector in vectors):
            return None
        runs = []
        while vectors:
            best = max(((period, _repeats(vectors, period)) for period in range(1, PERIOD + 1)),
                       key=lambda found: found[0] * (found[1] - 1))  # fmt: skip
            period, count = best if best[1] > 1 else (1, 1)
            steps = (0, 0)
            if count > 1:
                one, other = vectors[0], vectors[period]
                steps = (other.start - one.start, other.first - one.first)
            runs.append((vectors[:period], count, *steps))
            vectors = vectors[period * count :]
        return runs if sum(len(vectors) for vectors, _, _, _ in runs) <= SHUFFLED else None

    def write(self):
        """All of the kernel."""
        writer = self.writer
        bands = -(-self.height // self.band)
        line = writer.scratch("line", (self.band, self.source)) if self.weighted else None
        units = self.batch * self.channels * bands
        with writer.loop(units, "unit", self.kind(2 * self.taps + 1)) as unit:
            plane, first = unit // bands, unit % bands * self.band
            if self.height % self.band:
                first = tirx.min(first, self.height - self.band)
            n, channel = plane // self.channels, plane % self.channels
            if line is not None:
                with writer.loop(self.band, "row") as row:
                    self.down(n, channel, first + row, line, row)
            with writer.loop(self.band, "row") as row:
                y = first + row
                if line is not None:
                    self.along(n, channel, y, lambda x, row=row: (line, row, x))
                else:
                    source = self.index(0, 0, y)
                    self.along(n, channel, y, lambda x, source=source: (self.data, n, channel, source, x))

    def down(self, n, channel, y, line, row):
        """All columns of the rows that make row ``y``, to a line."""
        writer = self.writer
        for begin, lanes, count in row_vectors(self.columns, self.lanes):
            with writer.loop(count, "vector") as i, writer.loop(lanes, "lane", "vectorized") as lane:
                x, total = begin + i * lanes + lane, None
                for k in range(self.taps):
                    value = writer.load(self.data, n, channel, self.index(0, k, y), x) * self.weight(0, k, y)
                    total = value if total is None else total + value
                writer.store(line, total, row, x)

    def along(self, n, channel, y, at):
        """One row of the result; ``at`` gives what to load for a column of what it is made of."""
        writer = self.writer
        if self.runs is None:
            for begin, lanes, count in row_vectors(self.width, self.lanes):
                with writer.loop(count, "vector") as i, writer.loop(lanes, "lane", "vectorized") as lane:
                    x, total = begin + i * lanes + lane, None
                    for tap in range(self.taps):
                        value = writer.load(*at(self.index(1, tap, x)))
                        if self.weighted:
                            value = value * self.weight(1, tap, x)
                        total = value if total is None else total + value
                    writer.result(total, n, channel, y, x)
            return
        for vectors, count, step, shift in self.runs:
            with writer.loop(count, "period") as i:
                for vector in vectors:
                    self.vector(n, channel, y, vector, i * step, i * shift, at)

    def vector(self, n, channel, y, vector, step, shift, at):
        """One vector of the result, ``step`` columns further on than it says."""
        writer, one, zero = self.writer, tirx.IntImm("int64", 1), tirx.IntImm("int64", 0)
        width = vector.width

        def whole(start, lanes):
            return tirx.Ramp(start, one, lanes) if lanes > 1 else start

        loaded = writer.local("loaded", (len(vector.loads), width))
        for number, start in enumerate(vector.loads):
            value = writer.load(*at(whole(shift + (vector.first + start), width)))
            writer.store(loaded, value, number, whole(zero, width))
        total = writer.local("total", (vector.lanes,))
        for tap, (places, weights) in enumerate(zip(vector.places, vector.weights, strict=True)):
            used = sorted({place // width for place in places})
            sources = [writer.load(loaded, number, whole(zero, width)) for number in used]
            mask = [used.index(place // width) * width + place % width for place in places]
            value = sources[0]
            if mask != list(range(width)):
                sources *= -(-len(mask) // (len(sources) * width))  # no fewer elements than are chosen
                value = tirx.Shuffle(sources, [tirx.IntImm("int32", place) for place in mask])
            if self.weighted:
                value = value * _constants(weights)
            if tap:
                value = writer.load(total, whole(zero, vector.lanes)) + value
            writer.store(total, value, whole(zero, vector.lanes))
        with writer.loop(vector.lanes, "lane", "vectorized") as lane:
            value = writer.load(total, lane)
            writer.result(value, n, channel, y, step + vector.start + lane)


class _Vector:
    """``lanes`` columns of the result from ``start`` on, and how they are made.

    ``loads`` are where vectors of ``width`` columns are loaded, counted from column ``first``; ``places``
    says for every tap which element of them each lane takes.
    """

    def __init__(self, start, lanes, first, width, loads, places, weights):
        self.start, self.lanes, self.first, self.width = start, lanes, first, width
        self.loads, self.places, self.weights = loads, places, weights

    @classmethod
    def of(cls, table, start, lanes, columns, most):
        """From ``columns`` of the image, in vectors of at most ``most``."""
        indices, weights = (part[:, start : start + lanes] for part in table)
        lowest, highest = int(indices.min()), int(indices.max())
        width = min(most, 1 << (columns.bit_length() - 1))
        first = min(lowest, columns - width)
        loads = []
        for place in range(first, highest + 1, width):
            loads.append(min(place, columns - width) - first)
        places = []
        for tap in indices:
            owners = [max(n for n, load in enumerate(loads) if load <= column - first) for column in tap]
            places.append(
                tuple(n * width + int(c) - first - loads[n] for n, c in zip(owners, tap, strict=True))
            )
        rows = tuple(tuple(float(weight) for weight in row) for row in weights)
        return cls(start, lanes, first, width, tuple(loads), tuple(places), rows)

    def alike(self, other):
        """Whether both are made the same way."""
        return (self.lanes, self.width, self.loads, self.places, self.weights) == (
            other.lanes, other.width, other.loads, other.places, other.weights,
        )  # fmt: skip


def _repeats(vectors, period):
    """How often the first ``period`` vectors come one after the other, at equal distances."""
    count = 1
    if len(vectors) < 2 * period:
        return count
    step = vectors[period].start - vectors[0].start
    shift = vectors[period].first - vectors[0].first
    while (count + 1) * period <= len(vectors):
        later = vectors[count * period : (count + 1) * period]
        for one, other in zip(vectors[:period], later, strict=True):
            if not one.alike(other):
                return count
            if (other.start, other.first) != (one.start + count * step, one.first + count * shift):
                return count
        count += 1
    return count


def _constants(values):
    """A vector of these numbers."""
    numbers = [tirx.const(value, "float32") for value in values]
    if len(numbers) == 1:
        return numbers[0]
    if len(set(values)) == 1:
        return tirx.Broadcast(numbers[0], len(numbers))
    return tirx.Shuffle(numbers, [tirx.IntImm("int32", lane) for lane in range(len(numbers))])
