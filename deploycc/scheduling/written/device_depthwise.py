"""Depthwise convolutions: a thread has some neighbouring pixels of a vector of channels.

In NHWC the pixels are neighbours in a row, and neighbouring threads have neighbouring channels; in NCHW they
are neighbours in a column, and neighbouring threads have neighbouring pixels of a row.  Either way memory is
read in whole lines, and what neighbouring pixels share is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

UNROLLED_TAPS = 9
"""Taps along the pixels whose weights a thread holds in registers."""


@dataclass(frozen=True)
class DepthwiseCut:
    """How a depthwise convolution is dealt out: ``pixels`` x ``vector`` channels a thread."""

    product: Product
    pixels: int
    vector: int
    threads: int

    @classmethod
    def of(cls, product: Product, knobs: Mapping[str, int]) -> DepthwiseCut:
        """As the knobs of a schedule say."""
        return cls(product, *(knobs[name] for name in ("pixels", "vector", "threads")))

    @cached_property
    def in_rows(self) -> bool:
        """Whether a thread's pixels are neighbours in a row (NHWC)."""
        return self.product.reads("NHWC")

    @cached_property
    def axis(self) -> int:
        """The axis of a thread's pixels: 0 for rows, 1 for columns of the image."""
        return 1 if self.in_rows else 0

    @cached_property
    def multiplier(self) -> int:
        """Output channels of an input channel."""
        return self.product.conv.out_channels // self.product.conv.in_channels

    @cached_property
    def along(self) -> int:
        """Taps along a thread's pixels."""
        return self.product.conv.kernel[self.axis]

    @cached_property
    def across(self) -> int:
        """Taps across them."""
        return self.product.conv.kernel[1 - self.axis]

    @cached_property
    def unrolled(self) -> bool:
        """Whether a thread holds the weights of all taps along its pixels."""
        return self.along <= UNROLLED_TAPS

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

    def positions(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Inputs along a thread's pixels by their distance from the first: (pixel, tap) that read each."""
        conv = self.product.conv
        stride, step = conv.strides[self.axis], conv.dilation[self.axis]
        found: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(self.pixels):
            for tap in range(self.along):
                found.setdefault(pixel * stride + tap * step, []).append((pixel, tap))
        yield from sorted(found.items())

    def pack(self, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """HWIO weights as [tap, channel]."""
        return np.ascontiguousarray(weight).reshape(-1)

    def weight_of(self, weight: Any, tap: Any, inner: Any, channel: Any) -> Any:
        """The element of packed weights; an expression."""
        return weight[tap * self.product.conv.out_channels + channel]


def write_depthwise(sch: Any, cut: DepthwiseCut) -> Any:
    """The kernel of ``cut``, with what is fused behind the operator; raises ``NotWritable``."""
    writer = DeviceWriter(FusedKernel.of(sch))
    with writer.launch((cut.blocks,), (cut.threads,)) as ((block,), (thread,)):
        number = block * cut.threads + thread
        with guarded(writer, number < cut.pieces if cut.pieces % cut.threads else None):
            _Piece(writer, cut, number).write()
    return writer.finish()


class _Piece:
    """Writes what one thread does."""

    def __init__(self, writer: DeviceWriter, cut: DepthwiseCut, number: Any) -> None:
        self.writer, self.cut, self.conv = writer, cut, cut.product.conv
        kernel = writer.kernel
        self.data, self.weight = writer.flat(kernel.data), writer.flat(kernel.weight)
        _, second, third, last = cut.extents
        # The image is 0 for one of them, so that the compiler sees no division.
        self.image = number // (second * third * last) if cut.extents[0] > 1 else tirx.const(0, "int64")
        rest = number % (second * third * last) if cut.extents[0] > 1 else number
        outer, middle, inner = rest // (third * last), rest // last % third, rest % last
        if cut.in_rows:
            self.channel, self.first, self.other = inner * cut.vector, middle * cut.pixels, outer
        else:
            self.channel, self.first, self.other = outer, middle * cut.pixels, inner

    def write(self) -> None:
        """All of it."""
        writer, cut, conv = self.writer, self.cut, self.conv
        accumulator = cut.product.accumulator
        self.acc = writer.local("acc", (cut.pixels * cut.vector,), accumulator)
        self.value = writer.local("value", (cut.vector,), str(self.data.ty.dtype))
        held = cut.along if cut.unrolled else 1
        self.factors = writer.local("factors", (held * cut.vector,), str(self.weight.ty.dtype))
        with writer.loop(cut.pixels * cut.vector, "i", "unrolled") as i:
            writer.store(self.acc, 0, i)
        axis = cut.axis
        start = self.first * conv.strides[axis] - conv.pads[axis]
        line = self.other * conv.strides[1 - axis] - conv.pads[1 - axis]
        kind = "unrolled" if cut.unrolled and cut.across <= 5 else "serial"
        with writer.loop(cut.across, "across", kind) as across:
            at = line + across * conv.dilation[1 - axis]
            with guarded(writer, self._inside(at, 1 - axis)):
                if cut.unrolled:
                    self._taps(start, at, across)
                else:
                    self._each_tap(start, at, across)
        for pixel in range(cut.pixels):
            place = self.first + pixel
            extent = (conv.out_height, conv.out_width)[axis]
            with guarded(writer, place < extent if extent % cut.pixels else None):
                y, x = (self.other, place) if cut.in_rows else (place, self.other)
                with writer.loop(cut.vector, "lane", "vectorized") as lane:
                    value = as_written(writer, writer.load(self.acc, pixel * cut.vector + lane))
                    channel = self.channel + lane
                    indices = (self.image, y, x, channel) if cut.in_rows else (self.image, channel, y, x)
                    writer.result(value, *indices)

    def _inside(self, place: Any, axis: int) -> Any | None:
        """The condition that a row or column is in the image, ``None`` where every one is."""
        conv = self.conv
        extent = (conv.height, conv.width)[axis]
        reach = (conv.kernel[axis] - 1) * conv.dilation[axis]
        result = (conv.out_height, conv.out_width)[axis]
        count = result
        if axis == self.cut.axis:
            count = -(-result // self.cut.pixels) * self.cut.pixels
        low = place >= 0 if conv.pads[axis] else None
        last = (count - 1) * conv.strides[axis] - conv.pads[axis] + reach
        return both(low, place < extent if last >= extent else None)

    def _read(self, along: Any, at: Any) -> None:
        """The vector of the image at a place along the pixels and across them."""
        writer, cut, conv = self.writer, self.cut, self.conv
        y, x = (at, along) if cut.in_rows else (along, at)
        channel = self.channel if cut.multiplier == 1 else self.channel // cut.multiplier
        if cut.in_rows:
            place = ((self.image * conv.height + y) * conv.width + x) * conv.in_channels + channel
        else:
            place = ((self.image * conv.in_channels + channel) * conv.height + y) * conv.width + x
        condition = self._inside(along, cut.axis)
        if condition is not None:
            zero = tirx.const(0, str(self.value.ty.dtype))
            whole = zero if cut.vector == 1 else tirx.Broadcast(zero, cut.vector)
            writer.store_vector(self.value, cut.vector, whole, 0)
        with guarded(writer, condition):
            writer.store_vector(self.value, cut.vector, writer.vector(self.data, cut.vector, place), 0)

    def _factor(self, across: Any, along: Any, place: int) -> None:
        """Read the weights of a tap."""
        writer, cut, conv = self.writer, self.cut, self.conv
        kh, kw = (across, along) if cut.in_rows else (along, across)
        at = (kh * conv.kernel[1] + kw) * conv.out_channels + self.channel
        writer.store_vector(
            self.factors, cut.vector, writer.vector(self.weight, cut.vector, at), place * cut.vector
        )

    def _multiply(self, pixel: int, factor: int) -> None:
        writer, cut = self.writer, self.cut
        accumulator = cut.product.accumulator
        with writer.loop(cut.vector, "lane", "unrolled") as lane:
            place = pixel * cut.vector + lane
            term = writer.load(self.value, lane).astype(accumulator)
            term = term * writer.load(self.factors, factor * cut.vector + lane).astype(accumulator)
            writer.store(self.acc, writer.load(self.acc, place) + term, place)

    def _taps(self, start: Any, at: Any, across: Any) -> None:
        """All taps of a line: each input is read once and used for every pixel that reads it."""
        for tap in range(self.cut.along):
            self._factor(across, tap, tap)
        for distance, uses in self.cut.positions():
            self._read(start + distance, at)
            for pixel, tap in uses:
                self._multiply(pixel, tap)

    def _each_tap(self, start: Any, at: Any, across: Any) -> None:
        """One tap after the other, for long kernels."""
        writer, cut, conv = self.writer, self.cut, self.conv
        with writer.loop(cut.along, "along") as along:
            self._factor(across, along, 0)
            for pixel in range(cut.pixels):
                distance = pixel * conv.strides[cut.axis]
                self._read(start + distance + along * conv.dilation[cut.axis], at)
                self._multiply(pixel, 0)
