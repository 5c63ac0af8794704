"""How an NCHW image is cut for kernels that are vectorised over its pixels, and its input packed.

A *band* is some output rows.  Its input is packed with its padding into one line a channel: row phases x
column phases (the remainders by the stride) x rows x pitch, so that every tap of a convolution reads
contiguous memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploycc.operators import Conv2d
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS, round_up
from deploycc.scheduling.written.writing import Writer, row_vectors
from deploycc.tvm_api import tirx
from deploycc.types import Target

TASKS = 8
"""Bands x groups x images that a convolution worth threads is cut into at least, where it has the rows."""
HALO = 4
"""Bands are made lower for threads only while they have this many times the rows they share."""

PHASES = 16
"""Most remainders by the strides, rows times columns: each is packed by code of its own."""


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution: where its taps lie in the packed input."""

    extent: int
    out: int
    taps: int
    stride: int
    dilation: int
    before: int

    def phase(self, tap: int) -> int:
        """The remainder by the stride of the positions that ``tap`` reads."""
        return tap * self.dilation % self.stride

    def shift(self, tap: int) -> int:
        """How far along its phase ``tap`` reads."""
        return tap * self.dilation // self.stride

    def taps_of(self, phase: int) -> list[int]:
        """The taps of one phase; their shifts are an arithmetic progression."""
        return [tap for tap in range(self.taps) if self.phase(tap) == phase]

    @property
    def phases(self) -> list[int]:
        """The remainders that are read."""
        return sorted({self.phase(tap) for tap in range(self.taps)})

    @property
    def reach(self) -> int:
        """The largest shift."""
        return self.shift(self.taps - 1)


@dataclass(frozen=True)
class TapLoop:
    """``count`` steps of ``unrolled`` taps each; a step is ``taps`` taps and ``shift`` packed elements on."""

    unrolled: tuple[int, ...]
    count: int
    taps: int
    shift: int


@dataclass(frozen=True)
class Place:
    """Where a vector of output pixels starts: in the packed line of its band, and in the band's image."""

    packed: Any
    row: Any
    column: Any


@dataclass(frozen=True)
class Cut:
    """An image cut into ``bands`` (the last may overlap), a band into tiles of vectors.

    A band is ``band`` output rows; of a pointwise convolution, whose rows and columns are one axis, it is
    ``along.out`` of ``pixels``.  A packed channel has ``plane`` elements.  ``flat`` counts a band's rows as
    one line, padding included; its results go through a buffer of ``line`` elements a channel unless the
    line is the result's own (``merged``).
    """

    across: Axis
    along: Axis
    lanes: int
    vectors: int
    band: int
    pitch: int
    plane: int
    packed: bool
    flat: bool
    merged: bool
    pixels: int = 0

    @property
    def bands(self) -> int:
        """Bands of the image."""
        whole, part = self._cut_axis
        return -(-whole // part)

    @property
    def _cut_axis(self) -> tuple[int, int]:
        return (self.pixels, self.along.out) if self.pixels else (self.across.out, self.band)

    @property
    def packed_rows(self) -> int:
        """Rows of a packed channel, of all phases."""
        return len(self.across.phases) * len(self.along.phases) * (self.band + self.across.reach)

    @property
    def through_buffer(self) -> bool:
        """Whether results must be copied row by row."""
        return self.flat and not self.merged

    @property
    def extent(self) -> int:
        """Elements of a line: of the band where it is flat, else of a row."""
        return (self.band - 1) * self.pitch + self.along.out if self.flat else self.along.out

    @property
    def row_vectors(self) -> int:
        """Vectors of a line, the last one partly filled."""
        return -(-self.extent // self.lanes)

    @property
    def line(self) -> int:
        """Elements of the buffer for one output channel."""
        return self.row_vectors * self.lanes

    @property
    def slack(self) -> int:
        """Elements behind the last packed channel that vectors may read."""
        return self.lanes + self.across.reach * self.pitch + self.along.reach if self.flat else self.lanes

    @property
    def most_vectors(self) -> int:
        """The largest tile that makes sense."""
        return self.row_vectors if self.flat else self.row_vectors * self.band

    @property
    def tile_rows(self) -> int:
        """Rows of one tile."""
        return 1 if self.flat else max(1, min(self.band, self.vectors // self.row_vectors))

    @property
    def bytes_of_channel(self) -> int:
        """Bytes of one channel of a band."""
        return self.plane * 4

    def parts(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Rows and vectors cut into tiles: (first, size, how many) of each size."""
        rows = 1 if self.flat else self.band
        return balanced(rows, self.tile_rows), balanced(self.row_vectors, min(self.vectors, self.row_vectors))

    def tiles(self) -> list[tuple[int, int]]:
        """(vectors, how many) of a band's tiles."""
        rows, columns = self.parts()
        return [(r[1] * c[1], r[2] * c[2]) for r in rows for c in columns]

    def lines(self, vectors: int) -> int:
        """Cache lines of one input channel that a tile reads."""
        rows = (1 if self.flat else max(1, vectors // self.row_vectors)) + self.across.reach
        return (
            rows
            * len(self.across.phases)
            * len(self.along.phases)
            * (min(vectors, self.row_vectors) * self.lanes * 4 // 64 + 1)
        )

    def offset(self, kh: int, kw: int) -> int:
        """Where a tap's first element lies in a packed channel."""
        across, along = self.across, self.along
        phase = across.phases.index(across.phase(kh)) * len(along.phases) + along.phases.index(
            along.phase(kw)
        )
        return (phase * (self.band + across.reach) + across.shift(kh)) * self.pitch + along.shift(kw)

    def first(self, band: Any) -> Any:
        """The first output row of a band, or its first pixel where the image is one line."""
        whole, part = self._cut_axis
        if whole == part:
            return tirx.IntImm("int64", 0)
        return tirx.min(band * part, whole - part) if whole % part else band * part

    def tap_loops(self, operations: int, most: int) -> list[TapLoop]:
        """How to loop over kernel rows of ``operations`` each when a body should have at most ``most``."""
        taps = self.across.taps
        if operations * taps <= most or taps == 1:
            return [TapLoop(tuple(range(taps)), 1, 0, 0)]
        loops = []
        for phase in self.across.phases:
            of_phase = self.across.taps_of(phase)
            step = of_phase[1] - of_phase[0] if len(of_phase) > 1 else 0
            shift = (self.across.shift(of_phase[1]) - self.across.shift(of_phase[0])) if step else 0
            loops.append(TapLoop((of_phase[0],), len(of_phase), step, shift * self.pitch))
        return loops


def balanced(total: int, most: int) -> list[tuple[int, int, int]]:
    """Cut ``total`` into parts of at most ``most``, nearly equal: (first, size, how many) of both sizes."""
    parts = -(-total // most)
    size, larger = divmod(total, parts)
    cuts = [(0, size + 1, larger), (larger * (size + 1), size, parts - larger)]
    return [cut for cut in cuts if cut[2]]


def cut_image(conv: Conv2d, target: Target, vectors: int, flat: bool, packed: bool) -> Cut | None:
    """Cut the image of ``conv`` for tiles of ``vectors``; ``None`` where that does not fit its shape.

    Bands are as tall as half of the level-2 cache allows, lower where threads need more of them.
    """
    lanes = target.simd.lanes()
    top, left, _, right = conv.pads
    if is_pointwise(conv):
        pixels = conv.height * conv.width
        if flat or pixels < lanes:
            return None
        # The packed channels of one tile lie one behind the other; what is read where it lies is cut only
        # where it is too much for the cache.
        whole = not packed and 4 * pixels * (conv.in_channels // conv.groups) <= target.cache.l2 // 2
        extent = pixels if whole else min(pixels, vectors * lanes)
        across, along = Axis(1, 1, 1, 1, 1, 0), Axis(extent, extent, 1, 1, 1, 0)
        plane = round_up(extent, lanes)
        return Cut(across, along, lanes, vectors, 1, plane, plane, packed, False, True, pixels)
    across = Axis(conv.height, conv.out_height, conv.kernel[0], conv.strides[0], conv.dilation[0], top)
    along = Axis(conv.width, conv.out_width, conv.kernel[1], conv.strides[1], conv.dilation[1], left)
    phases = len(across.phases) * len(along.phases)
    if not packed or phases > PHASES or (not flat and along.out < lanes):
        return None
    if flat and along.stride == 1:
        pitch = max(along.extent + max(left, right), along.out)
    else:
        pitch = along.out + along.reach
    in_group = conv.in_channels // conv.groups
    bands = 1
    if conv.flops // 2 // lanes >= PARALLEL_OPERATIONS:
        enough_rows = max(1, HALO * across.reach)
        bands = max(1, min(-(-TASKS // (conv.batch * conv.groups)), across.out // enough_rows))
    while True:
        band = -(-across.out // bands)
        plane = round_up(phases * (band + across.reach) * pitch + (left if flat else 0), lanes)
        if band == 1 or in_group * plane * 4 <= target.cache.l2 // 2:
            break
        bands += 1
    line = (band - 1) * pitch + along.out
    merged = flat and pitch == along.out and line >= lanes
    return Cut(across, along, lanes, vectors, band, pitch, plane, True, flat, merged)


def is_pointwise(conv: Conv2d) -> bool:
    """Whether rows and columns can be one axis: 1x1, stride 1, no padding."""
    return conv.kernel == conv.strides == (1, 1) and not any(conv.pads)


def positions(writer: Writer, image: Cut) -> Iterator[Any]:
    """A context manager for each kind of tile of a band; it gives the places of the tile's vectors."""
    rows, columns = image.parts()
    for row_part in rows:
        for column_part in columns:
            yield _tile(writer, image, row_part, column_part)


@contextlib.contextmanager
def _tile(
    writer: Writer, image: Cut, rows: tuple[int, int, int], columns: tuple[int, int, int]
) -> Iterator[list[Place]]:
    first_row, row_size, row_count = rows
    first_column, column_size, column_count = columns
    with writer.loop(row_count, "tile_row") as tile_row, writer.loop(column_count, "tile") as tile:
        places = []
        for r in range(row_size):
            for c in range(column_size):
                row = first_row + tile_row * row_size + r
                column = (first_column + tile * column_size + c) * image.lanes
                last = first_column + column_size * column_count == image.row_vectors and c == column_size - 1
                if last and not image.through_buffer and image.extent % image.lanes:
                    column = tirx.min(column, image.extent - image.lanes)
                places.append(Place(row * image.pitch + column, row, column))
        yield places


def pack_rows(
    writer: Writer, conv: Conv2d, image: Cut, packed: Any, n: Any, channel: Any, channels: int, first_row: Any
) -> None:
    """Fill ``packed`` with the input of the band that starts at output row ``first_row``, padding included.

    ``first_row`` is the first pixel of a pointwise convolution.  ``channels`` input channels from ``channel``
    on; what vectors may read behind the last one is zeroed: any number would do, but denormal
    ones slow multiply-adds down.
    """
    across, along, source = image.across, image.along, writer.kernel.data
    if image.pixels:
        source = writer.merged(source)
        with writer.loop(channels, "ic") as ic:
            for begin, lanes, count in row_vectors(along.out, image.lanes):
                with writer.loop(count, "vector") as vector, writer.loop(lanes, "lane", "vectorized") as lane:
                    pixel = begin + vector * lanes + lane
                    value = writer.load(source, n, channel + ic, first_row + pixel)
                    writer.store(packed, value, ic * image.plane + pixel)
        return
    rows = image.band + across.reach
    used = len(across.phases) * len(along.phases) * rows * image.pitch
    with writer.loop(channels, "ic") as ic:
        for row_number, row_phase in enumerate(across.phases):
            with writer.loop(rows, "row") as row:
                line = (first_row + row) * across.stride + (row_phase - across.before)
                inside = tirx.all(line >= 0, line < across.extent)
                for column_number, phase in enumerate(along.phases):
                    number = row_number * len(along.phases) + column_number
                    start = ic * image.plane + (number * rows + row) * image.pitch
                    whole = (
                        across.before == 0
                        and (across.out - 1 + across.reach) * across.stride + row_phase < across.extent
                    )
                    with contextlib.nullcontext() if whole else writer.when(inside):

                        def read(column: Any, line: Any = line, ic: Any = ic) -> Any:
                            return writer.load(source, n, channel + ic, line, column)

                        _copy_row(writer, image, packed, start, phase, read)
                    if not whole:
                        with writer.when(tirx.Not(inside)):
                            _zero(writer, packed, start, image.pitch, image.lanes)
        if image.plane > used:
            _zero(writer, packed, ic * image.plane + used, image.plane - used, image.lanes)
    _zero(writer, packed, channels * image.plane, image.slack, image.lanes)


def _copy_row(writer: Writer, image: Cut, packed: Any, start: Any, phase: int, read: Any) -> None:
    """One phase of one row: zeros, what lies inside the image, zeros."""
    along = image.along
    # Packed column p is column p * stride + phase - before of the image.
    first = max(0, -(-(along.before - phase) // along.stride))
    last = min(image.pitch, (along.extent - 1 - phase + along.before) // along.stride + 1)
    _zero(writer, packed, start, first, image.lanes)
    if last > first:
        if along.stride == 1:
            for begin, lanes, count in row_vectors(last - first, image.lanes):
                with writer.loop(count, "vector") as vector, writer.loop(lanes, "lane", "vectorized") as lane:
                    column = begin + vector * lanes + lane
                    writer.store(packed, read(column + first + phase - along.before), start + first + column)
        else:
            with writer.loop(last - first, "column") as column:
                place = (column + first) * along.stride + (phase - along.before)
                writer.store(packed, read(place), start + first + column)
    _zero(writer, packed, start + max(last, first), image.pitch - max(last, first), image.lanes)


def _zero(writer: Writer, packed: Any, start: Any, extent: int, lanes: int) -> None:
    if extent <= 0:
        return
    for begin, width, count in row_vectors(extent, lanes):
        with writer.loop(count, "vector") as vector, writer.loop(width, "lane", "vectorized") as lane:
            writer.store(packed, 0.0, start + begin + vector * width + lane)
