"""How a convolution is cut for kernels that are vectorised over output channels.

A tile is some neighbouring output pixels.  Taps that fall on padding are known tile by tile, so that they can
be left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from deploycc.operators import Conv2d
from deploycc.scheduling.written.pixels import balanced, is_pointwise
from deploycc.types import Target

UNROLLED = 400
"""Multiply-adds of one unrolled body; more and it leaves the cache of decoded instructions."""

EDGES = 12
"""Most tiles of a row that lack taps of their own, each with code of its own."""


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution: ``extent`` of the image, and how taps lie on it."""

    extent: int
    out: int
    taps: int
    stride: int
    dilation: int
    before: int
    step: int
    """Elements from one input to the next along this axis."""

    @property
    def whole(self) -> bool:
        """Whether no tap ever lies outside the image."""
        last = (self.out - 1) * self.stride + (self.taps - 1) * self.dilation - self.before
        return self.before == 0 and last < self.extent

    def inside(self, position: int, tap: int) -> bool:
        """Whether ``tap`` of the output at ``position`` lies in the image."""
        return 0 <= position * self.stride + tap * self.dilation - self.before < self.extent

    def valid_taps(self) -> int:
        """Taps in the image, summed over all outputs."""
        return sum(self.inside(position, tap) for position in range(self.out) for tap in range(self.taps))


@dataclass(frozen=True)
class Tiles:
    """``count`` tiles of ``pixels`` from ``start`` on; ``taps`` says for each tap which pixels have it."""

    start: int
    pixels: int
    count: int
    taps: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Form:
    """A convolution cut up: its axes, the tiles of a row and the blocks of output channels."""

    along: Axis
    across: Axis
    down: bool
    merged: bool
    lanes: int
    vectors: int
    tiles: tuple[Tiles, ...]
    taps: int
    """Taps of one body along the row."""
    channel_step: int

    def starts(self, channels: int) -> int:
        """Vectors of the output channels of a group."""
        return -(-channels // self.lanes)

    def blocks(self, channels: int) -> int:
        """Blocks of the output channels of a group."""
        return -(-self.starts(channels) // self.vectors)


def cut_channels(conv: Conv2d, target: Target, pixels: int, vectors: int, together: bool) -> Form | None:
    """Cut ``conv`` for tiles of ``pixels`` x ``vectors``, taps of a row in one body or not.

    ``None`` where that does not fit its shape, or ``together`` changes nothing.
    """
    out_group = conv.out_channels // conv.groups
    lanes = target.simd.lanes()
    while lanes > out_group:
        lanes //= 2
    nchw = conv.data_layout == "NCHW"
    column = 1 if nchw else conv.in_channels
    row = conv.width * column
    channel_step = conv.height * conv.width if nchw else 1
    top, left, _, _ = conv.pads
    pointwise = is_pointwise(conv)
    merged = pointwise and conv.height > 1 and conv.width > 1
    if merged:
        extent = conv.height * conv.width
        along, across = Axis(extent, extent, 1, 1, 1, 0, column), Axis(1, 1, 1, 1, 1, 0, row)
    else:
        (kernel_h, kernel_w), (stride_h, stride_w) = conv.kernel, conv.strides
        along = Axis(conv.width, conv.out_width, kernel_w, stride_w, conv.dilation[1], left, column)
        across = Axis(conv.height, conv.out_height, kernel_h, stride_h, conv.dilation[0], top, row)
    down = along.out == 1 and across.out > 1
    if down:
        along, across = across, along
    if pixels > along.out or vectors > -(-out_group // lanes):
        return None
    tiles = _tiles(along, pixels)
    if tiles is None:
        return None
    taps = 1
    if together:
        most = UNROLLED // (pixels * vectors)
        taps = max([n for n in range(1, along.taps + 1) if along.taps % n == 0 and n <= most], default=1)
        if taps == 1:
            return None
    return Form(along, across, down, merged, lanes, vectors, tiles, taps, channel_step)


@functools.cache
def _tiles(along: Axis, pixels: int) -> tuple[Tiles, ...] | None:
    if along.whole:  # every tile has every tap: a long row need not be walked
        return tuple(
            Tiles(first, size, count, (tuple(range(size)),) * along.taps)
            for first, size, count in balanced(along.out, pixels)
        )
    tiles: list[Tiles] = []
    for first, size, count in balanced(along.out, pixels):
        for number in range(count):
            start = first + number * size
            taps = tuple(
                tuple(p for p in range(size) if along.inside(start + p, tap)) for tap in range(along.taps)
            )
            last = tiles[-1] if tiles else None
            if last and (last.pixels, last.taps) == (size, taps):
                tiles[-1] = Tiles(last.start, size, last.count + 1, taps)
            else:
                tiles.append(Tiles(start, size, 1, taps))
            if len(tiles) > EDGES:
                return None
    return tuple(tiles)
