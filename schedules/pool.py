"""Maximum and average pools of float32 images, rows first and then columns, so that a window costs kh + kw.

    for planes (NCHW, parallel):                       # before:  for n, c, oh, ow:
      for tiles of output rows:                        #              for kh, kw: acc = max(acc, x)
      for vectors of input columns:                    #              y = epilogue(acc)
        v[rows][lanes] = max over kh of x              #
        line[rows][phases of the stride] = v           #
      for rows: for vectors of output columns:         #
        y[lanes] = epilogue(max over kw of line)       #
    for n, oh (NHWC, parallel): for tiles of output columns: for vectors of channels:
      for input columns of the tile:
        v[lanes] = max over kh of x
        for the output columns that it reaches: acc[column][lanes] = max(acc, v)
      y[columns][lanes] = epilogue(acc)

A loaded row serves all rows of the tile that it reaches.  Lines are padded once and stay in the level-1
cache; where windows do not reach beyond their stride, there is no line and everything stays in registers.
Averages are the same with sums, times reciprocals of the elements counted, from a table of rows and one of
columns where they differ.  A row is added up before the next, so the order of sums differs.
"""

from __future__ import annotations

from deploycc.operators import Match, Skip
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.primitives import round_up
from deploycc.scheduling.written.planes import cut_axis
from deploycc.scheduling.written.pool_kernel import PoolKernel
from deploycc.scheduling.written.pooling import read_pool
from deploycc.scheduling.written.writing import Writer, row_vectors
from deploycc.tvm_api import tirx

KNOBS = {}
PRIORITY = 1

UNROLLED = 400
"""Operations of all unrolled code of a plane; more, and rows are gathered in a loop."""
TAPS = 16
"""Columns of a window that are unrolled."""
TASKS = 16
"""Parallel tasks; few, since each writes its padding once."""


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    windows = [b for b in task.reductions if (len(b.spatial), len(b.reduction)) == (4, 2)]
    if len(task.reductions) != 1 or not windows or not windows[0].name.startswith("pool_"):
        return Skip("not a pool over rows and columns")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """One way only: nothing to estimate."""
    return 0.0


def apply(sch, match, knobs):
    """Write the kernel."""
    pool, kernel = read_pool(sch)
    writer = Writer(kernel)
    (_Channels if pool.last else _Pixels)(writer, pool, match.target).write()
    return writer.finish()


class _Pixels(PoolKernel):
    """NCHW."""

    def __init__(self, writer, pool, target):
        super().__init__(writer, pool, target)
        across, along = pool.across, pool.along
        self.direct = along.before == 0 and along.reach == 0 and along.out * along.stride <= along.extent
        # What stands right of the last window is not read.
        self.columns = min(along.extent, (along.out - 1) * along.stride + (along.taps - 1) * along.dilation
                           + 1 - along.before)  # fmt: skip
        self.chunk = self.lanes
        while self.chunk > 1 and self.chunk * along.stride > self.columns:
            self.chunk //= 2
        self.parts = min(along.stride, self.columns)
        self.pitch = round_up(
            self.lanes + max((self.columns - 1 + along.before) // along.stride + 1, along.out + along.reach),
            self.lanes,
        )
        line = len(along.phases) * self.pitch * 4
        most = max(1, (target.simd.registers - 2) // self.parts - 1)
        self.sharing = min(across.out, 4, most)
        rows = max(self.sharing, -(-16 // -(-along.out // self.lanes)))
        self.rows = min(across.out, rows, max(self.sharing, target.cache.l1 // 2 // line))
        bodies = cut_axis(across, self.rows, 0).bodies
        self.unrolled = bodies * self.rows * across.taps * self.parts <= UNROLLED

    def write(self):
        """All of the kernel."""
        writer, pool = self.writer, self.pool
        planes, kind = pool.batch * pool.channels, self.kind()
        share = -(-planes // (TASKS if kind == "parallel" else 1))
        if not self.direct:
            self.line = writer.scratch("line", (self.rows * len(pool.along.phases) * self.pitch,))
        with writer.loop(-(-planes // share), "task", kind) as task:
            self.fill_tables()
            if not self.direct:
                size = self.rows * len(pool.along.phases) * self.pitch
                self.fill(self.line, 0, [float(pool.identity.value)] * size)
            mine = tirx.min(tirx.IntImm("int64", share), planes - task * share) if planes % share else share
            with writer.loop(mine, "plane") as number:
                plane = task * share + number
                self.plane(plane // pool.channels, plane % pool.channels)

    def plane(self, n, channel):
        """All rows of one plane."""
        across = self.pool.across
        if self.unrolled:
            tiles = self.tiles(across, self.rows)
        else:
            count = -(-across.out // self.rows)
            tiles = [(count, lambda i: tirx.min(i * self.rows, across.out - self.rows))]
        for count, start in tiles:
            with self.writer.loop(count, "tile") as i:
                self.tile(n, channel, start(i))

    def tile(self, n, channel, y):
        """The rows of one tile."""
        if self.unrolled:
            for first in range(0, self.rows, self.sharing):
                size = min(self.sharing, self.rows - first)
                reads = self.reads(self.pool.across, y, first, size)
                self.down(n, channel, y, first, size, reads)
        else:
            with self.writer.loop(self.rows, "row") as row:
                self.down(n, channel, y, row, 1, None)
        if not self.direct:
            with self.writer.loop(self.rows, "row") as row:
                self.along(n, channel, y + row, row)

    def down(self, n, channel, y, first, size, reads):
        """Gather the rows of ``size`` windows, for all columns."""
        writer, stride = self.writer, self.pool.along.stride
        if self.direct:
            for begin, lanes, count in row_vectors(self.pool.along.out, self.lanes):
                with writer.loop(count, "vector") as i:
                    x = begin + i * lanes
                    rows = self.gathered(n, channel, y, first, size, reads, x * stride, stride, lanes)
                    for row in range(size):
                        self.reduce(n, channel, y + first + row, x, rows, row, lanes)
            return
        width = self.parts * self.chunk
        with writer.loop(self.columns // width, "chunk") as i:
            rows = self.gathered(n, channel, y, first, size, reads, i * width, self.parts, self.chunk)
            for row in range(size):
                self.keep(rows, row, first + row, 0, i * (width // stride))
        if self.columns % width:
            start = self.columns - width
            rows = self.gathered(n, channel, y, first, size, reads, start, self.parts, self.chunk)
            for row in range(size):
                self.keep(rows, row, first + row, start, 0)

    def gathered(self, n, channel, y, first, size, reads, column, parts, lanes):
        """A local buffer [rows, parts, lanes]: what the windows' rows have from ``column`` on."""
        writer, across, data = self.writer, self.pool.across, self.writer.kernel.data
        rows = writer.local("gathered", (size, parts, lanes))

        def vectors(body):
            for part in range(parts):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    body(part, lane, column + part * lanes + lane)

        def start(row):
            vectors(lambda part, lane, x: writer.store(rows, self.pool.identity, row, part, lane))

        if reads is None:
            start(0)
            lowest, highest = self.useful(across, y + first)
            with writer.loop(highest - lowest, "tap") as tap:
                place = (y + first) * across.stride - across.before + (lowest + tap) * across.dilation
                vectors(
                    lambda part, lane, x: self.gather(
                        rows, writer.load(data, n, channel, place, x), True, 0, part, lane
                    )
                )
            return rows
        begun = set()
        for place, outputs in reads.items():
            row = y * across.stride + place
            line = writer.local("loaded", (parts, lanes))
            vectors(
                lambda part, lane, x, line=line, row=row: writer.store(
                    line, writer.load(data, n, channel, row, x), part, lane
                )
            )
            for output in outputs:
                vectors(
                    lambda part, lane, x, line=line, output=output: self.gather(
                        rows, writer.load(line, part, lane), output in begun, output, part, lane
                    )
                )
                begun.add(output)
        for output in range(size):
            if output not in begun:
                start(output)
        return rows

    def chosen(self, rows, row, elements):
        """Some of the columns of a gathered row as one value."""
        _, parts, lanes = (int(extent) for extent in rows.ty.shape)
        zero, one = tirx.IntImm("int64", 0), tirx.IntImm("int64", 1)
        vectors = [
            self.writer.load(rows, row, part, tirx.Ramp(zero, one, lanes) if lanes > 1 else 0)
            for part in range(parts)
        ]
        if len(vectors) == 1 and list(elements) == list(range(lanes)):
            return vectors[0]
        return tirx.Shuffle(vectors, [tirx.IntImm("int32", element) for element in elements])

    def vector_store(self, buffer, value, place, lanes):
        """A value of that many lanes."""
        one = tirx.IntImm("int64", 1)
        self.writer.store(buffer, value, tirx.Ramp(place, one, lanes) if lanes > 1 else place)

    def keep(self, rows, row, line, start, shift):
        """A gathered row's columns from ``start`` on to the phases of line ``line``, ``shift`` on in each."""
        along = self.pool.along
        for phase in along.phases:
            first = (phase - start - along.before) % along.stride
            elements = range(first, self.parts * self.chunk, along.stride)
            if elements:
                place = (start + first + along.before) // along.stride + shift
                place = place + self.line_place(line, phase)
                self.vector_store(self.line, self.chosen(rows, row, elements), place, len(elements))

    def line_place(self, line, phase):
        """Where a phase of a line starts; its first column that is not padding is aligned."""
        along = self.pool.along
        number = along.phases.index(phase)
        lead = -max(0, -(-(along.before - phase) // along.stride)) % self.lanes
        return line * (len(along.phases) * self.pitch) + (number * self.pitch + lead)

    def reduce(self, n, channel, y, x, rows, row, lanes):
        """The columns of windows that lie in registers."""
        writer, along = self.writer, self.pool.along
        total = writer.local("total", (lanes,))
        whole = tirx.Ramp(tirx.IntImm("int64", 0), tirx.IntImm("int64", 1), lanes) if lanes > 1 else 0
        for tap in range(along.taps):
            elements = [tap * along.dilation + lane * along.stride for lane in range(lanes)]
            self.gather(total, self.chosen(rows, row, elements), tap > 0, whole)
        with writer.loop(lanes, "lane", "vectorized") as lane:
            value = self.scaled(writer.load(total, lane), y, x + lane)
            writer.result(value, n, channel, y, x + lane)

    def along(self, n, channel, y, line):
        """The columns of all windows of a row, from its line."""
        writer, along = self.writer, self.pool.along
        for begin, lanes, count in row_vectors(along.out, self.lanes):
            with writer.loop(count, "vector") as i:
                x = begin + i * lanes
                total = writer.local("total", (lanes,))
                if along.taps <= TAPS:
                    for tap in range(along.taps):
                        place = self.line_place(line, along.phase(tap)) + along.shift(tap) + x
                        with writer.loop(lanes, "lane", "vectorized") as lane:
                            value = writer.load(self.line, place + lane)
                            self.gather(total, value, tap > 0, lane)
                else:
                    self.along_many(total, line, x, lanes)
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    value = self.scaled(writer.load(total, lane), y, x + lane)
                    writer.result(value, n, channel, y, x + lane)

    def along_many(self, total, line, x, lanes):
        """The same for windows with many columns, by loops."""
        writer, along = self.writer, self.pool.along
        with writer.loop(lanes, "lane", "vectorized") as lane:
            writer.store(total, self.pool.identity, lane)
        for phase in along.phases:
            taps = along.taps_of(phase)
            step = along.shift(taps[1]) - along.shift(taps[0]) if len(taps) > 1 else 0
            with writer.loop(len(taps), "tap") as tap, writer.loop(lanes, "lane", "vectorized") as lane:
                place = self.line_place(line, phase) + along.shift(taps[0]) + tap * step + x
                self.gather(total, writer.load(self.line, place + lane), True, lane)


class _Channels(PoolKernel):
    """NHWC."""

    def __init__(self, writer, pool, target):
        super().__init__(writer, pool, target)
        self.unrolled = pool.across.taps <= TAPS // 2
        self.columns = 1
        if pool.along.taps <= TAPS:
            most = min(pool.along.out, 8, target.simd.registers // 2 - 1)
            self.columns = min(range(1, most + 1), key=self.loads)

    def loads(self, columns):
        """Columns that are loaded for a row with tiles of so many; long code costs too."""
        along = self.pool.along
        positions = len(self.reads(along, None, 0, columns))
        return -(-along.out // columns) * (positions + 0.25 * columns + 1)

    def write(self):
        """All of the kernel."""
        writer, pool = self.writer, self.pool
        across = pool.across
        self.fill_tables()
        with writer.loop(pool.batch * across.out, "row", self.kind()) as row:
            n, y = row // across.out, row % across.out
            first = y * across.stride - across.before
            inside = tirx.all(first >= 0, first + (across.taps - 1) * across.dilation < across.extent)
            if not self.unrolled:
                self.row(n, y, False)
                return
            with writer.when(inside):
                self.row(n, y, True)
            with writer.when(tirx.Not(inside)):
                self.row(n, y, False)

    def row(self, n, y, inside):
        """One row; with ``inside`` its windows have no row in the padding."""
        writer, pool = self.writer, self.pool
        rows = None if inside else self.useful(pool.across, y)
        if pool.along.taps > TAPS:
            tiles = [(pool.along.out, lambda i: i)]
        else:
            tiles = self.tiles(pool.along, self.columns)
        for count, start in tiles:
            with writer.loop(count, "tile") as i:
                x = start(i)
                for begin, lanes, many in row_vectors(pool.channels, self.lanes):
                    with writer.loop(many, "vector") as vector:
                        self.tile(n, y, x, begin + vector * lanes, lanes, rows)

    def tile(self, n, y, x, channel, lanes, rows):
        """A tile of output columns and a vector of channels."""
        writer, along = self.writer, self.pool.along
        total = writer.local("total", (self.columns, lanes))
        column = writer.local("column", (lanes,))

        def each(body):
            with writer.loop(lanes, "lane", "vectorized") as lane:
                body(lane)

        begun = set()
        if along.taps > TAPS:
            begun.add(0)
            each(lambda lane: writer.store(total, self.pool.identity, 0, lane))
            lowest, highest = self.useful(along, x)
            with writer.loop(highest - lowest, "tap") as tap:
                place = x * along.stride - along.before + (lowest + tap) * along.dilation
                self.down(column, n, y, place, channel, lanes, rows)
                each(lambda lane: self.gather(total, writer.load(column, lane), True, 0, lane))
        else:
            for place, outputs in self.reads(along, x, 0, self.columns).items():
                self.down(column, n, y, x * along.stride + place, channel, lanes, rows)
                for output in outputs:
                    each(
                        lambda lane, output=output: self.gather(
                            total, writer.load(column, lane), output in begun, output, lane
                        )
                    )
                    begun.add(output)
        for output in range(self.columns):
            if output not in begun:
                each(lambda lane, output=output: writer.store(total, self.pool.identity, output, lane))

        def write(lane, output):
            value = self.scaled(writer.load(total, output, lane), y, x + output)
            writer.result(value, n, y, x + output, channel + lane)

        for output in range(self.columns):
            each(lambda lane, output=output: write(lane, output))

    def down(self, column, n, y, x, channel, lanes, rows):
        """Gather one input column of a window; ``rows`` are the first and last of its rows in the image."""
        writer, across = self.writer, self.pool.across

        def load(tap, lane):
            row = y * across.stride - across.before + tap * across.dilation
            return writer.load(writer.kernel.data, n, row, x, channel + lane)

        if rows is None:
            for tap in range(across.taps):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    self.gather(column, load(tap, lane), tap > 0, lane)
            return
        with writer.loop(lanes, "lane", "vectorized") as lane:
            writer.store(column, self.pool.identity, lane)
        lowest, highest = rows
        with writer.loop(highest - lowest, "tap") as tap, writer.loop(lanes, "lane", "vectorized") as lane:
            self.gather(column, load(lowest + tap, lane), True, lane)
