"""What one strip of a Winograd convolution does: the kernel of ``schedules/conv_winograd.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploycc.scheduling.written.transposing import transposed, vector
from deploycc.scheduling.written.winograd import Matrix, Vector, linear, register
from deploycc.scheduling.written.winograd_tiling import Tiling
from deploycc.scheduling.written.writing import Index, Writer, row_vectors
from deploycc.tvm_api import tirx

AHEAD = 4096
"""Bytes of weights from their prefetch to their use."""

LINE = 64
"""Bytes of weights that one prefetch brings."""


class Strip:
    """Writes what one strip does: ``read`` every chunk, then ``multiply`` and ``write`` every block."""

    def __init__(self, writer: Writer, tiling: Tiling, strip: Index, steps: int) -> None:
        self.writer, self.tiling, self.steps = writer, tiling, steps
        self.column = strip % tiling.strips_along * (tiling.wide * tiling.along.m)
        strip = strip // tiling.strips_along
        self.row = strip % tiling.strips_down * (tiling.high * tiling.down.m)
        strip = strip // tiling.strips_down
        self.group, self.n = strip % tiling.conv.groups, strip // tiling.conv.groups
        self.transformed = writer.scratch("transformed", (tiling.products * tiling.plane,))
        self.products = writer.scratch("products", (tiling.products * tiling.out_plane,))

    def clear(self) -> Any:
        """Space for the pixels of one chunk, all zeros: reading overwrites what lies in the image."""
        writer, tiling = self.writer, self.tiling
        count = tiling.in_rows * tiling.pitch
        pixels = writer.scratch("pixels", (count * tiling.chunk,))
        with (
            writer.loop(count, "pixel") as pixel,
            writer.loop(tiling.chunk, "lane", "vectorized") as lane,
        ):
            writer.store(pixels, 0.0, pixel * tiling.chunk + lane)
        return pixels

    def read(self, pixels: Any, chunk: Index) -> None:
        """Copy one chunk of channels into ``pixels``, transform every tile of it."""
        writer, tiling, conv = self.writer, self.tiling, self.tiling.conv
        channel = chunk * tiling.chunk
        if tiling.in_group % tiling.chunk:
            channel = tirx.min(channel, tiling.in_group - tiling.chunk)
        with writer.loop(tiling.in_rows, "row") as row:
            y = self.row + row - conv.pads[0]
            with writer.when(tirx.all(y >= 0, y < conv.height)):
                self._copy_row(pixels, row, y, self.group * tiling.in_group + channel)
        with writer.loop(tiling.high, "tile_row") as high, writer.loop(tiling.wide, "tile_column") as wide:
            first = (high * tiling.down.m * tiling.pitch + wide * tiling.along.m) + tiling.margin
            place = (high * tiling.wide + wide) * tiling.depth + channel
            self._transform_tile(pixels, first, place)

    def _copy_row(self, pixels: Any, row: Index, y: Index, channel: Index) -> None:
        """One row of the image, as far as the strip reads it."""
        writer, tiling, conv = self.writer, self.tiling, self.tiling.conv
        left, block = conv.pads[1], tiling.in_block
        start = row * tiling.pitch + tiling.margin + left - self.column
        if tiling.strips_along == 1:
            cuts = row_vectors(conv.width, block)
        else:
            cuts = [(0, block, -(-tiling.in_columns // block))]
        for first, _, count in cuts:
            with writer.loop(count, "block") as number:
                x = first + number * block
                if tiling.strips_along > 1:
                    x = tirx.max(0, tirx.min(self.column - left + x, conv.width - block))
                if conv.data_layout == "NHWC":
                    with writer.loop(tiling.chunk, "lane", "vectorized") as lane:
                        value = writer.load(writer.kernel.data, self.n, y, x, channel + lane)
                        writer.store(pixels, value, (start + x) * tiling.chunk + lane)
                else:
                    rows = [
                        vector(writer, writer.kernel.data, self.n, channel + c, y, x, lanes=block)
                        for c in range(tiling.chunk)
                    ]
                    pixel = transposed(writer, rows, block)
                    for number in range(block):
                        with writer.loop(tiling.chunk, "lane", "vectorized") as lane:
                            value = writer.load(pixel, number, lane)
                            writer.store(pixels, value, (start + x + number) * tiling.chunk + lane)

    def _transform_tile(self, pixels: Any, first: Index, place: Index) -> None:
        """``transformed[:, place] = B pixels B'`` for one tile and a vector of channels."""
        tiling, lanes = self.tiling, self.tiling.chunk

        def pixel(i: int, j: int) -> Vector:
            return lambda lane: self.writer.load(pixels, (first + (i * tiling.pitch + j)) * lanes + lane)

        def store(i: int, j: int, value: Vector) -> None:
            coefficient = (i * tiling.along.size + j) * tiling.plane
            self._store(self.transformed, value, coefficient + place, lanes)

        self._transform(tiling.down.data, tiling.along.data, pixel, store, lanes)

    def _transform(
        self,
        down: Matrix,
        along: Matrix,
        load: Callable[[int, int], Vector],
        store: Callable[[int, int, Vector], None],
        lanes: int,
    ) -> None:
        """``down`` times a tile times ``along`` transposed."""
        columns: list[dict[int, Vector]] = []
        for j in range(along.shape[1]):
            inputs = [register(self.writer, lanes, load(i, j)) for i in range(down.shape[1])]
            column: dict[int, Vector] = {}

            def keep(i: int, value: Vector, column: dict[int, Vector] = column) -> None:
                column[i] = register(self.writer, lanes, value)

            linear(self.writer, down, inputs, keep, lanes)
            columns.append(column)
        for i in range(down.shape[0]):
            row = [column[i] for column in columns]

            def put(j: int, value: Vector, i: int = i) -> None:
                store(i, j, value)

            linear(self.writer, along, row, put, lanes)

    def _store(self, buffer: Any, value: Vector, place: Index, lanes: int) -> None:
        """``buffer[place:] = value``, a vector."""
        with self.writer.loop(lanes, "lane", "vectorized") as lane:
            self.writer.store(buffer, value(lane), place + lane)

    def multiply(self, block: Index) -> None:
        """The products of all tiles with one block of output channels, in a register tile."""
        writer, tiling = self.writer, self.tiling
        rows = tiling.rows
        row_tiles = -(-tiling.tiles // rows)
        with (
            writer.loop(tiling.products, "coefficient") as coefficient,
            writer.loop(row_tiles, "row_tile") as row_tile,
        ):
            first = row_tile * rows
            if tiling.tiles % rows:
                first = tirx.min(first, tiling.tiles - rows)
            total = writer.local("total", (rows * tiling.vectors, tiling.lanes))
            with writer.loop(tiling.lanes, "lane", "vectorized") as lane:
                for number in range(rows * tiling.vectors):
                    writer.store(total, 0.0, number, lane)
            with writer.loop(tiling.in_group // self.steps, "c") as c:
                self._multiply_channels(total, block, coefficient, first, c)
            for number in range(rows * tiling.vectors):
                with writer.loop(tiling.lanes, "lane", "vectorized") as lane:
                    row, column = divmod(number, tiling.vectors)
                    place = (first + row) * tiling.width + column * tiling.lanes + lane
                    value = writer.load(total, number, lane)
                    writer.store(self.products, value, coefficient * tiling.out_plane + place)

    def _multiply_channels(
        self, total: Any, block: Index, coefficient: Index, first: Index, c: Index
    ) -> None:
        """One step of the reduction, or as many as a vector of inputs serves."""
        writer, tiling, steps = self.writer, self.tiling, self.steps
        inputs = None
        for line in range(-(-steps * tiling.width * 4 // LINE)):
            # Nothing else fetches across a page in time: weights are read once and too fast.
            channel, column = divmod(line * LINE // 4, tiling.width)
            ahead = c * steps + channel + AHEAD // (tiling.width * 4)
            writer.prefetch(writer.kernel.weight, self.group, block, coefficient, ahead, column)
        start = coefficient * tiling.plane + first * tiling.depth
        if steps > 1:
            inputs = writer.local("inputs", (tiling.rows, steps))
            for row in range(tiling.rows):
                with writer.loop(steps, "step", "vectorized") as lane:
                    value = writer.load(self.transformed, start + row * tiling.depth + c * steps + lane)
                    writer.store(inputs, value, row, lane)
        for step in range(steps):
            channel = c * steps + step
            for number in range(tiling.rows * tiling.vectors):
                row, column = divmod(number, tiling.vectors)
                if inputs is None:
                    value = writer.load(self.transformed, start + row * tiling.depth + channel)
                else:
                    value = writer.load(inputs, row, step)
                with writer.loop(tiling.lanes, "lane", "vectorized") as lane:
                    place = column * tiling.lanes + lane
                    weight = writer.load(writer.kernel.weight, self.group, block, coefficient, channel, place)
                    writer.store(total, writer.load(total, number, lane) + value * weight, number, lane)

    def write(self, block: Index, number: Index) -> None:
        """Transform the products of one vector of output channels back, write the results."""
        writer, tiling, conv = self.writer, self.tiling, self.tiling.conv
        down, along, lanes = tiling.down, tiling.along, tiling.lanes
        channel = block * tiling.width + number * lanes
        pitch = tiling.wide * along.m
        image = writer.scratch("image", (tiling.tiles * down.m * along.m * lanes,))
        with writer.when(channel < tiling.out_group):
            with (
                writer.loop(tiling.high, "tile_row") as high,
                writer.loop(tiling.wide, "tile_column") as wide,
            ):
                first = high * (down.m * pitch) + wide * along.m
                place = (high * tiling.wide + wide) * tiling.width + number * lanes
                self._transform_back(image, first, pitch, place)
            with writer.loop(tiling.high * down.m, "row") as row:
                y = self.row + row
                with writer.when(y < conv.out_height):
                    whole, rest = tiling.out_group // lanes * lanes, tiling.out_group % lanes
                    with writer.when(channel < whole):
                        self._write_row(image, row * pitch, y, channel, lanes)
                    if rest:
                        with writer.when(channel >= whole):
                            self._write_row(image, row * pitch, y, whole, rest)

    def _transform_back(self, image: Any, first: Index, pitch: int, place: Index) -> None:
        """``image[tile] = A products[:, place] A'``."""
        tiling, lanes = self.tiling, self.tiling.lanes

        def product(i: int, j: int) -> Vector:
            plane = (i * tiling.along.size + j) * tiling.out_plane
            return lambda lane: self.writer.load(self.products, plane + place + lane)

        def store(i: int, j: int, value: Vector) -> None:
            self._store(image, value, (first + (i * pitch + j)) * lanes, lanes)

        self._transform(tiling.down.result, tiling.along.result, product, store, lanes)

    def _write_row(self, image: Any, start: Index, y: Index, channel: Index, channels: int) -> None:
        """One row of results of ``channels`` channels, the epilogue applied."""
        writer, tiling, conv = self.writer, self.tiling, self.tiling.conv
        block, lanes = tiling.out_block, tiling.lanes
        most = min(conv.out_width, tiling.wide * tiling.along.m)
        output = self.group * tiling.out_group + channel
        cuts = row_vectors(most, block) if tiling.strips_along == 1 else [(0, block, -(-most // block))]
        for first, _, count in cuts:
            with writer.loop(count, "block") as number:
                x = first + number * block
                if tiling.strips_along > 1:
                    x = tirx.min(tirx.min(x, most - block), conv.out_width - block - self.column)
                if conv.out_layout == "NHWC":
                    for k, width, times in row_vectors(channels, lanes):
                        with (
                            writer.loop(times, "vector") as part,
                            writer.loop(width, "lane", "vectorized") as lane,
                        ):
                            k_lane = k + part * width + lane
                            value = writer.load(image, (start + x) * lanes + k_lane)
                            writer.result(value, self.n, y, self.column + x, output + k_lane)
                else:
                    rows = [
                        vector(writer, image, (start + x + pixel) * lanes, lanes=lanes)
                        for pixel in range(block)
                    ]
                    of_channel = transposed(writer, rows, lanes)
                    for k in range(channels):
                        with writer.loop(block, "lane", "vectorized") as lane:
                            value = writer.load(of_channel, k, lane)
                            writer.result(value, self.n, output + k, y, self.column + x + lane)
