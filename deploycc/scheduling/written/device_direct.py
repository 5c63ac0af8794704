"""Direct convolutions: a thread has some neighbouring pixels of a vector of output channels.

Nothing goes through shared memory: neighbouring threads read the same inputs or neighbouring ones, and the
same weights or neighbouring ones, and the first cache serves what they share.  That pays where a group has
few channels, so that tiles of a matrix product would be mostly empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.scheduling.written.device import DeviceWriter
from deploycc.scheduling.written.device_product import Product
from deploycc.scheduling.written.device_tiles import as_written, both, guarded
from deploycc.scheduling.written.writing import FusedKernel
from deploycc.tvm_api import tirx

UNROLLED_PRODUCTS = 1024
"""Products of a thread that are written out one by one."""


@dataclass(frozen=True)
class DirectCut:
    """How a convolution is dealt out: ``pixels`` x ``vector`` output channels (of one group) a thread.

    In an NHWC result the pixels are neighbours in a row and neighbouring threads have neighbouring channels,
    in NCHW they are neighbours in a column and threads have neighbouring pixels.
    """

    product: Product
    pixels: int
    vector: int
    threads: int

    @classmethod
    def of(cls, product: Product, knobs: Mapping[str, int]) -> DirectCut:
        """As the knobs of a schedule say."""
        return cls(product, *(knobs[name] for name in ("pixels", "vector", "threads")))

    @cached_property
    def in_rows(self) -> bool:
        """Whether a thread's pixels are neighbours in a row."""
        return self.product.writes("NHWC")

    @cached_property
    def axis(self) -> int:
        """The axis of a thread's pixels: 0 for rows, 1 for columns of the image."""
        return 1 if self.in_rows else 0

    @cached_property
    def deep(self) -> int:
        """Input channels that are read at once."""
        if self.product.reads("NCHW"):
            return 1
        return next(lanes for lanes in (4, 2, 1) if self.product.inner % lanes == 0)

    @cached_property
    def extents(self) -> tuple[int, int, int, int]:
        """Pieces of the result that threads have, the last axis neighbours."""
        conv = self.product.conv
        channels = conv.out_channels // self.vector
        if self.in_rows:
            return conv.batch, conv.out_height, -(-conv.out_width // self.pixels), channels
        return conv.batch, channels, -(-conv.out_height // self.pixels), conv.out_width

    @cached_property
    def pieces(self) -> int:
        """Threads that are needed."""
        a, b, c, d = self.extents
        return a * b * c * d

    @cached_property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return -(-self.pieces // self.threads)

    @cached_property
    def products(self) -> int:
        """Products of a thread."""
        return self.product.taps * self.product.inner * self.pixels * self.vector

    def pack(self, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """HWIO weights as they are."""
        return np.ascontiguousarray(weight).reshape(-1)

    def weight_of(self, weight: Any, tap: Any, inner: Any, channel: Any) -> Any:
        """The element of packed weights; an expression."""
        return weight[(tap * self.product.inner + inner) * self.product.conv.out_channels + channel]


def write_direct(sch: Any, cut: DirectCut) -> Any:
    """The kernel of ``cut``, with what is fused behind the operator; raises ``NotWritable``."""
    writer = DeviceWriter(FusedKernel.of(sch))
    with writer.launch((cut.blocks,), (cut.threads,)) as ((block,), (thread,)):
        number = block * cut.threads + thread
        with guarded(writer, number < cut.pieces if cut.pieces % cut.threads else None):
            _Piece(writer, cut, number).write()
    return writer.finish()


class _Piece:
    """Writes what one thread does."""

    def __init__(self, writer: DeviceWriter, cut: DirectCut, number: Any) -> None:
        self.writer, self.cut, self.conv = writer, cut, cut.product.conv
        kernel = writer.kernel
        self.data, self.weight = writer.flat(kernel.data), writer.flat(kernel.weight)
        batch, second, third, last = cut.extents
        # The image is 0 for one of them, so that the compiler sees no division.
        self.image = number // (second * third * last) if batch > 1 else tirx.const(0, "int64")
        rest = number % (second * third * last) if batch > 1 else number
        outer, middle, inner = rest // (third * last), rest // last % third, rest % last
        if cut.in_rows:
            self.channel, self.first, self.other = inner * cut.vector, middle * cut.pixels, outer
        else:
            self.channel, self.first, self.other = outer * cut.vector, middle * cut.pixels, inner
        groups = self.conv.groups
        group = self.channel // cut.product.columns if groups > 1 else tirx.const(0, "int64")
        self.source = group * cut.product.inner

    def write(self) -> None:
        """All of it."""
        writer, cut, conv = self.writer, self.cut, self.conv
        axis, accumulator = cut.axis, cut.product.accumulator
        self.acc = writer.local("acc", (cut.pixels * cut.vector,), accumulator)
        self.values = writer.local("values", (cut.pixels * cut.deep,), str(self.data.ty.dtype))
        self.factors = writer.local("factors", (cut.deep * cut.vector,), str(self.weight.ty.dtype))
        with writer.loop(cut.pixels * cut.vector, "i", "unrolled") as i:
            writer.store(self.acc, 0, i)
        chunks = cut.product.inner // cut.deep
        each = cut.deep * cut.pixels * cut.vector
        inside = chunks * each <= UNROLLED_PRODUCTS
        row = chunks * each * conv.kernel[1] <= UNROLLED_PRODUCTS
        known = (cut.products <= UNROLLED_PRODUCTS, row, inside)
        kinds = ["unrolled" if one else "serial" for one in known]
        loops = zip(conv.kernel, ("kh", "kw"), kinds, strict=False)
        down, right = (writer.loop(*loop) for loop in loops)
        with down as kh, right as kw:
            taps = (kh, kw)
            start = self.first * conv.strides[axis] - conv.pads[axis] + taps[axis] * conv.dilation[axis]
            line = self.other * conv.strides[1 - axis] - conv.pads[1 - axis]
            at = line + taps[1 - axis] * conv.dilation[1 - axis]
            with guarded(writer, self._inside(at, 1 - axis)), writer.loop(chunks, "ic", kinds[2]) as chunk:
                for pixel in range(cut.pixels):
                    self._read(start + pixel * conv.strides[axis], at, chunk * cut.deep, pixel)
                for step in range(cut.deep):
                    inner = (kh * conv.kernel[1] + kw) * cut.product.inner + chunk * cut.deep + step
                    self._factors(inner * conv.out_channels + self.channel, step * cut.vector)
                self._multiply()
        for pixel in range(cut.pixels):
            self._write(pixel)

    def _inside(self, place: Any, axis: int) -> Any | None:
        """The condition that a row or column is in the image, ``None`` where every one is."""
        conv = self.conv
        extent = (conv.height, conv.width)[axis]
        reach = (conv.kernel[axis] - 1) * conv.dilation[axis]
        count = (conv.out_height, conv.out_width)[axis]
        if axis == self.cut.axis:
            count = -(-count // self.cut.pixels) * self.cut.pixels
        last = (count - 1) * conv.strides[axis] - conv.pads[axis] + reach
        return both(place >= 0 if conv.pads[axis] else None, place < extent if last >= extent else None)

    def _read(self, along: Any, at: Any, inner: Any, pixel: int) -> None:
        """Some input channels of a tap of a pixel."""
        writer, cut, conv = self.writer, self.cut, self.conv
        y, x = (at, along) if cut.in_rows else (along, at)
        channel, deep = self.source + inner, cut.deep
        if cut.product.reads("NHWC"):
            place = ((self.image * conv.height + y) * conv.width + x) * conv.in_channels + channel
        else:
            place = ((self.image * conv.in_channels + channel) * conv.height + y) * conv.width + x
        condition = self._inside(along, cut.axis)
        if condition is not None:
            zero = tirx.const(0, str(self.values.ty.dtype))
            whole = zero if deep == 1 else tirx.Broadcast(zero, deep)
            writer.store_vector(self.values, deep, whole, pixel * deep)
        with guarded(writer, condition):
            writer.store_vector(self.values, deep, writer.vector(self.data, deep, place), pixel * deep)

    def _factors(self, at: Any, place: int) -> None:
        """The weights of an input channel."""
        writer, cut = self.writer, self.cut
        lanes = 1 if cut.vector == 3 else cut.vector
        for first in range(0, cut.vector, lanes):
            value = writer.vector(self.weight, lanes, at + first)
            writer.store_vector(self.factors, lanes, value, place + first)

    def _multiply(self) -> None:
        writer, cut = self.writer, self.cut
        accumulator = cut.product.accumulator
        for step in range(cut.deep):
            with writer.loop(cut.pixels, "i", "unrolled") as i, writer.loop(cut.vector, "j", "unrolled") as j:
                term = writer.load(self.values, i * cut.deep + step).astype(accumulator)
                term = term * writer.load(self.factors, step * cut.vector + j).astype(accumulator)
                place = i * cut.vector + j
                writer.store(self.acc, writer.load(self.acc, place) + term, place)

    def _write(self, pixel: int) -> None:
        writer, cut, conv = self.writer, self.cut, self.conv
        place, extent = self.first + pixel, (conv.out_height, conv.out_width)[cut.axis]
        lanes = cut.vector if cut.in_rows and cut.vector != 3 else 1  # in NCHW the channels are far apart
        with guarded(writer, place < extent if extent % cut.pixels else None):
            y, x = (self.other, place) if cut.in_rows else (place, self.other)
            for first in range(0, cut.vector, lanes):
                with writer.loop(lanes, "lane", "vectorized") as lane:
                    value = as_written(writer, writer.load(self.acc, pixel * cut.vector + first + lane))
                    channel = self.channel + first + lane
                    indices = (self.image, y, x, channel) if cut.in_rows else (self.image, channel, y, x)
                    writer.result(value, *indices)
