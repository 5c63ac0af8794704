"""How a plane is cut for depthwise kernels that are vectorised over its pixels.

A band of rows is packed without its padding into a buffer whose gaps stay zero: row phases x column
phases (the remainders by the stride) x rows x pitch, the padding right of a row being also that left of
the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.operators import Algorithm, Conv2d, Match, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.primitives import round_up
from deploycc.scheduling.written.pixels import Axis
from deploycc.tvm_api import te, tirx
from deploycc.types import Target

TAP_ROWS = 8
"""Kernel rows of one unrolled body where the kernel has more."""


@dataclass(frozen=True)
class Plane:
    """How the plane of one channel is cut and packed.

    Output pixel (y, x) of a band has the packed place y * pitch + x; a tap adds its ``offset``.
    ``band`` output rows are packed at a time.  A tile is ``rows`` x ``vectors``; its rows are ``merged``
    (at least 1) output rows apart.
    """

    across: Axis
    along: Axis
    lanes: int
    rows: int
    vectors: int
    merged: int
    through_buffer: bool
    pitch: int
    band: int

    @property
    def tile_height(self) -> int:
        """Output rows of a tile."""
        return self.rows * self.merged

    @property
    def bands(self) -> int:
        """Bands of the plane; the last may overlap."""
        return -(-self.across.out // self.band)

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles of a band: down and along."""
        along = 1 if self.through_buffer else -(-self.along.out // (self.vectors * self.lanes))
        return -(-self.band // self.tile_height), along

    @property
    def computed(self) -> int:
        """Output rows of a band that are computed, those dropped included."""
        return max(self.band, self.tiles[0] * self.tile_height if self.through_buffer else 0)

    @property
    def starts(self) -> list[int]:
        """Where the vectors of a tile start, from the first one's place."""
        starts = [vector * self.lanes for vector in range(self.vectors)]
        if not self.through_buffer:
            starts = [min(start, self.along.out - self.lanes) for start in starts]
        return starts

    @property
    def packed_rows(self) -> int:
        """Rows of one phase."""
        return self.computed + self.across.reach

    @property
    def phase_size(self) -> int:
        """Elements of one phase."""
        return round_up(
            self.packed_rows * self.pitch + 2 * self.lanes + self.along.reach
            + (self.vectors * self.lanes if self.through_buffer else 0),
            self.lanes,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Elements of a packed band."""
        return len(self.across.phases) * len(self.along.phases) * self.phase_size

    @property
    def line_size(self) -> int:
        """Elements of the buffer of results that rows are copied from."""
        return round_up(self.computed * self.pitch + self.vectors * self.lanes, self.lanes)

    def data(self, phase: int) -> tuple[int, int]:
        """First and last packed column (exclusive) of a row that hold data, for a phase of columns."""
        along = self.along
        first = -(-(along.before - phase) // along.stride)
        return max(0, first), -(-(along.before + along.extent - phase) // along.stride)

    def start(self, row_phase: int, column_phase: int) -> int:
        """Where a phase's first row starts; its first column with data is aligned."""
        number = self.across.phases.index(row_phase) * len(self.along.phases)
        number += self.along.phases.index(column_phase)
        return number * self.phase_size + -self.data(column_phase)[0] % self.lanes

    def useful(self, rows: RowLoop, y: Any) -> tuple[Any, Any]:
        """How many kernel rows from the first of ``rows`` on read padding only, above and below the image.

        ``y`` is the first output row of a tile.  What is returned are packed rows: the first to read, and
        the first not to read any more.
        """
        across = self.across
        above = across.before - (y + self.tile_height - 1) * across.stride - rows.taps[-1] * across.dilation
        below = across.before + across.extent - y * across.stride - rows.taps[0] * across.dilation
        return above, below

    def offset(self, kh: int, kw: int) -> int:
        """What a tap adds to an output's place."""
        start = self.start(self.across.phase(kh), self.along.phase(kw))
        return start + self.across.shift(kh) * self.pitch + self.along.shift(kw)


def turned(conv: Conv2d) -> bool:
    """Whether the image is one column, which lies in memory as a row does."""
    return conv.width == conv.kernel[1] == conv.out_width == 1 and not conv.pads[1] and not conv.pads[3]


def match_planes(task: Any, target: Target) -> Match | Skip:
    """Depthwise convolutions of float32 images in NCHW."""
    if not isinstance(task, Conv2d) or not task.depthwise:
        return Skip("not a depthwise convolution")
    if (task.data_layout, task.out_layout) != ("NCHW", "NCHW"):
        return Skip(f"reads {task.data_layout} and writes {task.out_layout}, not NCHW")
    if task.dtype != "float32":
        return Skip(f"{task.dtype}: only float32")
    return Match(task, target)


def depthwise_of_planes(match: Match) -> Algorithm:
    """A depthwise convolution of NCHW images, its weights packed as [k, kw, kh].

    Axes of a ``turned`` image are counted as if it lay the other way.
    """
    conv = match.operator
    assert isinstance(conv, Conv2d)
    (kernel_h, kernel_w), (stride_h, stride_w), (dil_h, dil_w) = conv.kernel, conv.strides, conv.dilation
    top, left, _, _ = conv.pads
    outputs = conv.out_channels // conv.in_channels

    def pack(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        plain = weight.astype(np.float32).reshape(kernel_h, kernel_w, conv.out_channels)
        return np.ascontiguousarray(plain.transpose(2, 0, 1) if turned(conv) else plain.transpose(2, 1, 0))

    def define(data: Any, weight: Any) -> Any:
        kh = te.reduce_axis((0, kernel_h), "kh")
        kw = te.reduce_axis((0, kernel_w), "kw")

        def pixel(n: Any, k: Any, y: Any, x: Any) -> Any:
            row, column = y * stride_h + kh * dil_h - top, x * stride_w + kw * dil_w - left
            inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
            row = tirx.max(0, tirx.min(row, conv.height - 1))
            column = tirx.max(0, tirx.min(column, conv.width - 1))
            value = data[n, k // outputs, row, column]
            return tirx.if_then_else(inside, value, tirx.const(0, "float32"))

        def product(n: Any, k: Any, y: Any, x: Any) -> Any:
            tap = (k, kh, kw) if turned(conv) else (k, kw, kh)
            return pixel(n, k, y, x) * weight[tap]

        return te.compute(
            (conv.batch, conv.out_channels, conv.out_height, conv.out_width),
            lambda *index: te.sum(product(*index), axis=[kh, kw]),
            name="depthwise",
            attrs={TASK_ANNOTATION: match.task},
        )

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def cut_plane(conv: Conv2d, target: Target, rows: int, vectors: int, merged: int) -> Plane | None:
    """Cut the planes of ``conv`` into tiles of ``rows`` x ``vectors``; ``None`` where that does not fit.

    ``merged`` output rows, padding included, make one row of the tile; with 0, rows are cut into vectors,
    the last of which overlaps, and results need no buffer.
    """
    lanes = target.simd.lanes()
    across, along = axes_of(conv)
    through_buffer, merged = merged > 0, max(1, merged)
    # The columns right of the data may be those left of the next row's.
    plain = Plane(across, along, lanes, rows, vectors, merged, through_buffer, 0, 0)
    pitch = max(
        max(plain.data(phase)[1], along.out + along.reach - plain.data(phase)[0]) for phase in along.phases
    )
    if through_buffer:
        pitch = max(pitch, along.out)
        if vectors != -(-((merged - 1) * pitch + along.out) // lanes):
            return None
        if merged > across.out or (rows - 1) * merged >= across.out:
            return None
    else:
        pitch = round_up(pitch, lanes)
        if along.out < lanes or vectors > -(-along.out // lanes) or rows > across.out:
            return None
        if vectors < -(-along.out // lanes) and along.out < vectors * lanes:
            return None
    band = across.out
    while True:
        plane = Plane(across, along, lanes, rows, vectors, merged, through_buffer, pitch, band)
        buffers = plane.size + (plane.line_size if through_buffer else 0)
        if buffers * 4 <= target.cache.l1 * 3 // 4 or band <= rows * merged:
            return plane
        band = max(rows * merged, min(band - 1, band // 2 // (rows * merged) * (rows * merged)))


@dataclass(frozen=True)
class RowLoop:
    """Kernel rows: ``count`` times those in ``taps``, each time ``step`` rows (``shift`` packed ones) on."""

    taps: tuple[int, ...]
    count: int = 1
    step: int = 0
    shift: int = 0


def axes_of(conv: Conv2d) -> tuple[Axis, Axis]:
    """Down and along the rows; the other way round for a ``turned`` image."""
    rows, columns = (
        Axis(conv.height, conv.out_height, conv.kernel[0], conv.strides[0], conv.dilation[0], conv.pads[0]),
        Axis(conv.width, conv.out_width, conv.kernel[1], conv.strides[1], conv.dilation[1], conv.pads[1]),
    )
    return (columns, rows) if turned(conv) else (rows, columns)


def row_loops(plane: Plane) -> list[RowLoop]:
    """Kernel rows in bodies short enough to be unrolled."""
    across = plane.across
    if across.taps <= TAP_ROWS:
        return [RowLoop(tuple(range(across.taps)))]
    loops = []
    for phase in across.phases:
        taps = across.taps_of(phase)
        size = -(-len(taps) // -(-len(taps) // TAP_ROWS))
        full = len(taps) // size
        step = taps[size] - taps[0] if full > 1 else 0
        shift = across.shift(taps[size]) - across.shift(taps[0]) if full > 1 else 0
        loops.append(RowLoop(tuple(taps[:size]), full, step, shift))
        if len(taps) % size:
            loops.append(RowLoop(tuple(taps[full * size :])))
    return loops


def mean_steps(plane: Plane, rows: RowLoop) -> float:
    """How many steps of ``rows`` a tile takes, those that read only padding left out."""
    if rows.count == 1:
        return 1.0
    apart, total = rows.step * plane.across.dilation, 0
    starts = range(0, plane.across.out, plane.tile_height)
    for start in starts:
        above, below = plane.useful(rows, min(start, max(0, plane.across.out - plane.tile_height)))
        lowest, highest = (max(0, min(rows.count, -(-value // apart))) for value in (above, below))
        total += max(0, highest - lowest)
    return total / len(starts)


def registers_suffice(target: Target, accumulators: int, rows: int, taps: int) -> bool:
    """Whether a tile's sums stay in registers beside the weights of ``rows`` kernel rows.

    LLVM keeps all weights of a small kernel in registers where it can.
    """
    weights = taps if taps <= 9 and target.simd.registers >= 32 else rows
    return accumulators + weights + 2 <= target.simd.registers


def reads(plane: Plane, taps: Sequence[int], kw: int) -> dict[int, list[tuple[int, int, int]]]:
    """The multiply-adds of kernel column ``kw`` by what they read: {offset: [(row, vector, kernel row)]}."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for row in range(plane.rows):
        for vector, start in enumerate(plane.starts):
            for kh in taps:
                place = row * plane.merged * plane.pitch + start + plane.offset(kh, kw)
                found.setdefault(place, []).append((row, vector, kh))
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Tiles:
    """One axis of the output cut into ``tiles`` tiles: runs of (start, step, how many).

    A tile that reads padding is a run of its own, so that its start is a number.  ``inside`` says that
    there is none.
    """

    runs: tuple[tuple[int, int, int], ...]
    inside: bool

    @property
    def tiles(self) -> int:
        """All tiles."""
        return sum(count for _, _, count in self.runs)

    @property
    def bodies(self) -> int:
        """How many pieces of code the tiles take."""
        return len(self.runs)


def cut_axis(axis: Axis, size: int, margin: int) -> Tiles:
    """Tiles of ``size`` of ``axis.out``; the last may overlap, those in ``margin`` of the end are apart."""
    starts = [min(start, axis.out - size) for start in range(0, axis.out, size)]

    def is_inside(start: int) -> bool:
        first = start * axis.stride - axis.before
        last = first + (size - 1) * axis.stride + (axis.taps - 1) * axis.dilation
        return first >= margin and last < axis.extent - margin

    runs: list[tuple[int, int, int]] = []
    for start in starts:
        if runs and is_inside(start) and is_inside(runs[-1][0]) and start - runs[-1][0] == size * runs[-1][2]:
            runs[-1] = (runs[-1][0], size, runs[-1][2] + 1)
        else:
            runs.append((start, size, 1))
    return Tiles(tuple(runs), all(map(is_inside, starts)))
