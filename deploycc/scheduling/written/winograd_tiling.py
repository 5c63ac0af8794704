"""How ``schedules/conv_winograd.py`` cuts a convolution: strips of tiles, chunks and blocks of channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from deploycc.operators import Conv2d, Knobs
from deploycc.scheduling.written.winograd import Transform, transform_of

PARALLEL_TASKS = 8
"""Strips (or, with fewer of them, blocks of channels) from which on threads are kept busy."""


@dataclass(frozen=True)
class Tiling:
    """A strip is ``high`` x ``wide`` tiles of one image and group; of a tile ``down`` x ``along`` results.

    ``lanes`` output channels and ``chunk`` input channels make a vector, ``vectors`` of them a block.
    """

    conv: Conv2d
    down: Transform
    along: Transform
    high: int
    wide: int
    lanes: int
    chunk: int
    vectors: int
    rows: int

    @property
    def in_group(self) -> int:
        """Input channels of a group."""
        return self.conv.in_channels // self.conv.groups

    @property
    def out_group(self) -> int:
        """Output channels of a group."""
        return self.conv.out_channels // self.conv.groups

    @cached_property
    def strips_down(self) -> int:
        """Strips from top to bottom."""
        return -(-self.conv.out_height // (self.high * self.down.m))

    @cached_property
    def strips_along(self) -> int:
        """Strips from left to right."""
        return -(-self.conv.out_width // (self.wide * self.along.m))

    @property
    def strips(self) -> int:
        """Strips of all images and groups."""
        return self.conv.batch * self.conv.groups * self.strips_down * self.strips_along

    @property
    def tiles(self) -> int:
        """Tiles of a strip."""
        return self.high * self.wide

    @property
    def products(self) -> int:
        """Multiplications of a tile for each pair of channels."""
        return self.down.size * self.along.size

    @property
    def chunks(self) -> int:
        """Vectors of input channels (the last overlaps)."""
        return -(-self.in_group // self.chunk)

    @property
    def width(self) -> int:
        """Output channels of a block."""
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        """Blocks of output channels (the last is filled up with zeros)."""
        return -(-self.out_group // self.width)

    @property
    def out_vectors(self) -> int:
        """Vectors of output channels that hold any."""
        return -(-self.out_group // self.lanes)

    @property
    def depth(self) -> int:
        """Input channels of a tile in scratch: whole vectors."""
        return -(-self.in_group // self.chunk) * self.chunk

    @property
    def plane(self) -> int:
        """Elements from one transformed coefficient of all tiles to the next: an odd number of lines."""
        return self._odd_lines(self.tiles * self.depth)

    @property
    def out_plane(self) -> int:
        """The same for the products of one block."""
        return self._odd_lines(self.tiles * self.width)

    def _odd_lines(self, elements: int) -> int:
        # Coefficients a power of two apart would fall into the same sets of a cache.
        lines = -(-elements // self.lanes)
        return (lines + 1 - lines % 2) * self.lanes

    @property
    def in_block(self) -> int:
        """Pixels that are read at once."""
        return 1 if self.conv.data_layout == "NHWC" else _power(min(self.lanes, self.conv.width))

    @property
    def out_block(self) -> int:
        """Pixels that are written at once; the last strip has so many columns at least."""
        if self.conv.out_layout == "NHWC":
            return 1
        last = self.conv.out_width - (self.strips_along - 1) * self.wide * self.along.m
        return _power(min(self.lanes, self.wide * self.along.m, last))

    @property
    def margin(self) -> int:
        """Columns before and behind those that tiles read: what a block of pixels may overhang."""
        _, left, _, right = self.conv.pads
        return self.in_block + max(left, right, 2) if self.strips_along > 1 else 0

    @property
    def in_rows(self) -> int:
        """Rows that a strip reads."""
        return self.high * self.down.m + 2

    @property
    def in_columns(self) -> int:
        """Columns that a strip reads."""
        return self.wide * self.along.m + 2

    @property
    def pitch(self) -> int:
        """Pixels of a row in scratch."""
        return self.in_columns + 2 * self.margin

    @property
    def weight_bytes(self) -> int:
        """Of one group."""
        return self.products * self.in_group * self.blocks * self.width * 4

    @property
    def scratch_bytes(self) -> int:
        """What one strip keeps in cache beside weights."""
        image = self.in_rows * self.pitch * self.chunk + self.tiles * self.down.m * self.along.m * self.lanes
        return 4 * (self.products * (self.plane + self.out_plane) + image)


def strip_of(conv: Conv2d, down: int, along: int, most: int) -> tuple[int, int]:
    """Rows and columns of about equal strips of at most ``most`` tiles of ``down`` x ``along`` results."""
    rows, columns = -(-conv.out_height // down), -(-conv.out_width // along)
    if columns > most:
        return 1, -(-columns // -(-columns // most))
    return -(-rows // -(-rows // (most // columns))), columns


def tiling_of(conv: Conv2d, lanes: int, knobs: Knobs) -> Tiling:
    """The tiling that ``knobs`` stand for where a register holds ``lanes`` elements."""
    high, wide = strip_of(conv, knobs["tile_rows"], knobs["tile_columns"], knobs["strip"])
    return Tiling(
        conv,
        transform_of(knobs["tile_rows"]),
        transform_of(knobs["tile_columns"]),
        high,
        wide,
        lanes,
        _power(min(lanes, conv.in_channels // conv.groups)),
        knobs["vectors"],
        min(knobs["rows"], high * wide),
    )


def _power(value: int) -> int:
    """The largest power of two that is not above ``value``."""
    return 1 << (value.bit_length() - 1)
