"""Products through tiles in shared memory: the kernel of implicit GEMM convolutions and of matrix products.

A block walks down the sum in steps.  While its threads multiply the tiles of one step, they already read the
next one's from the device's memory into registers; then those go to the other half of shared memory.  Taps
outside the image are not read, their places hold zeros.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from deploycc.scheduling.written.device import DeviceWriter
from deploycc.scheduling.written.device_product import Cut
from deploycc.scheduling.written.writing import FusedKernel
from deploycc.tvm_api import tirx

SUMMING_THREADS = 128
"""Threads of a block that adds up slices."""


def write_product(sch: Any, cut: Cut) -> Any:
    """The kernel of ``cut``, with what is fused behind the operator; raises ``NotWritable``."""
    kernel = FusedKernel.of(sch)
    writer = DeviceWriter(kernel)
    grid = (cut.row_blocks, cut.column_blocks, cut.product.conv.groups * cut.slices)
    sums = None
    if cut.slices > 1:
        channels = cut.product.conv.out_channels
        sums = writer.scratch("sums", (cut.slices, cut.product.rows, channels), cut.product.accumulator)
    with writer.launch(grid, (cut.threads,)) as (blocks, (thread,)):
        _Tiles(writer, cut, blocks, thread, sums).write()
    if sums is not None:
        add_slices(writer, cut, sums)
    return writer.finish()


def add_slices(writer: DeviceWriter, cut: Cut, sums: Any) -> None:
    """A launch that adds up what the blocks of each slice left, a thread for each result."""
    rows, channels = cut.product.rows, cut.product.conv.out_channels
    total = rows * channels
    with writer.launch((-(-total // SUMMING_THREADS),), (SUMMING_THREADS,)) as ((block,), (thread,)):
        place = block * SUMMING_THREADS + thread
        with guarded(writer, place < total if total % SUMMING_THREADS else None):
            if cut.product.writes("NCHW"):
                row, channel = place % rows, place // rows
            else:
                row, channel = place // channels, place % channels
            acc = writer.local("acc", (1,), cut.product.accumulator)
            writer.store(acc, writer.load(sums, 0, row, channel), 0)
            for number in range(1, cut.slices):
                writer.store(acc, writer.load(acc, 0) + writer.load(sums, number, row, channel), 0)
            writer.result(as_written(writer, writer.load(acc, 0)), *cut.product.place(row, channel))


@contextlib.contextmanager
def guarded(writer: DeviceWriter, condition: Any | None) -> Iterator[None]:
    """What is written within happens where ``condition`` holds; ``None`` holds everywhere."""
    if condition is None:
        yield
    else:
        with writer.when(condition):
            yield


def as_written(writer: DeviceWriter, value: Any) -> Any:
    """A sum in the type in which the fused program takes it."""
    return value.astype(str(writer.kernel.accumulated.ty.dtype))


def both(*conditions: Any | None) -> Any | None:
    """All of the conditions; ``None`` stands for one that always holds."""
    present = [condition for condition in conditions if condition is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else tirx.all(*present)


def _div(value: Any, by: int) -> Any:
    return value if by == 1 else tirx.truncdiv(value, tirx.const(by, "int32"))


def _mod(value: Any, by: int) -> Any:
    return tirx.const(0, "int32") if by == 1 else tirx.truncmod(value, tirx.const(by, "int32"))


def _int32(value: Any) -> Any:
    return tirx.Cast("int32", value) if isinstance(value, tirx.Var) else tirx.const(int(value), "int32")


class _Tiles:
    """Writes one launch: the blocks of a product (or of its slices).

    Addresses are 32-bit numbers: 64-bit ones take two registers and several instructions each.
    """

    def __init__(
        self, writer: DeviceWriter, cut: Cut, blocks: tuple[Any, ...], thread: Any, sums: Any | None
    ) -> None:
        self.writer, self.cut, self.sums = writer, cut, sums
        product, conv = cut.product, cut.product.conv
        self.product, self.conv = product, conv
        self.kernel = writer.kernel
        self.data, self.weight = writer.flat(self.kernel.data), writer.flat(self.kernel.weight)
        row_block, column_block, last = blocks
        self.row_block, self.column_block = row_block, column_block
        self.group = last // cut.slices if cut.slices > 1 else last
        self.slice = last % cut.slices if cut.slices > 1 else 0
        number = _int32(thread)
        self.set = _div(number, cut.set_threads)
        self.member = _mod(number, cut.set_threads) if cut.split > 1 else number
        # Neighbouring threads write neighbouring elements of the result.
        place = thread % cut.set_threads if cut.split > 1 else thread
        if product.writes("NCHW"):
            self.down, self.along = place % cut.set_rows, place // cut.set_rows
        else:
            self.down, self.along = place // cut.set_columns, place % cut.set_columns
        self.group32 = _div(_int32(last), cut.slices)
        slice32 = _mod(_int32(last), cut.slices)
        self.first_step = (slice32 * cut.split + self.set) * cut.steps
        self.padded = any(conv.pads)
        self.first_row = _int32(row_block) * cut.block_rows
        self.row_vector = min(4, cut.thread_rows) if product.reads("NCHW") else 1
        self.column_vector = min(4, cut.thread_columns)

    def write(self) -> None:
        """The whole launch."""
        writer, cut = self.writer, self.cut
        accumulator = self.product.accumulator
        self.memory = writer.shared("tiles", (cut.shared_elements,), accumulator)
        self.sums_of_thread = writer.local("acc", (cut.thread_rows * cut.thread_columns,), accumulator)
        self.image = writer.local("image", (cut.image_loads * cut.vector,), str(self.kernel.data.ty.dtype))
        self.weights = writer.local("weights", (cut.weight_loads * 4,), str(self.kernel.weight.ty.dtype))
        with writer.loop(cut.thread_rows * cut.thread_columns, "i", "unrolled") as i:
            writer.store(self.sums_of_thread, 0, i)
        self._find_pixels()
        self._fetch(self.first_step)
        self._stash(tirx.const(0, "int32"))
        writer.sync()
        with writer.loop(cut.steps, "step") as step:
            number = _int32(step)
            half = _mod(number, 2) if cut.steps > 1 else tirx.const(0, "int32")
            if cut.steps > 1:
                with writer.when(number + 1 < cut.steps):
                    self._fetch(self.first_step + number + 1)
            self._multiply(half)
            if cut.steps > 1:
                with writer.when(number + 1 < cut.steps):
                    self._stash(1 - half)
                writer.sync()
        self._add_sets()

    # What is read of the image.

    def _image_place(self, load: int) -> tuple[Any, Any]:
        """Row of the tile and place down the step of a thread's load."""
        cut = self.cut
        number = self.member + load * cut.set_threads
        if self.product.reads("NCHW"):
            return _mod(number, cut.block_rows), _div(number, cut.block_rows)
        across = cut.depth // cut.vector
        if cut.set_threads % across == 0:  # the same place in every load, which the compiler cannot see
            row = _div(self.member, across) + load * (cut.set_threads // across)
            return row, _mod(self.member, across) * cut.vector
        return _div(number, across), _mod(number, across) * cut.vector

    def _image_is_whole(self) -> bool:
        cut = self.cut
        return cut.image_loads * cut.vector * cut.set_threads == cut.block_rows * cut.depth

    @property
    def _own_pixels(self) -> int:
        """Pixels that a thread reads for: in NCHW often the same one in all loads."""
        cut = self.cut
        if self.product.reads("NCHW") and cut.set_threads % cut.block_rows == 0:
            return 1
        return cut.image_loads

    def _find_pixels(self) -> None:
        """Where each of a thread's pixels lies: of its first tap the row, the column and the address."""
        writer, conv, product = self.writer, self.conv, self.product
        count = self._own_pixels
        self.base = writer.local("base", (count,), "int32")
        if self.padded:
            self.top = writer.local("top", (count,), "int32")
            self.left = writer.local("left", (count,), "int32")
        elif product.rows % self.cut.block_rows:
            self.there = writer.local("there", (count,), "int32")
        size = conv.out_height * conv.out_width
        for number in range(count):
            row = self.first_row + self._image_place(number)[0]
            image = _div(row, size) if conv.batch > 1 else tirx.const(0, "int32")
            pixel = _mod(row, size) if conv.batch > 1 else row
            y, x = (
                (tirx.const(0, "int32"), pixel)
                if conv.out_height == 1
                else (_div(pixel, conv.out_width), _mod(pixel, conv.out_width))
            )
            y, x = y * conv.strides[0] - conv.pads[0], x * conv.strides[1] - conv.pads[1]
            channels, plane = conv.in_channels, conv.height * conv.width
            if product.reads("NCHW"):
                base = (image * channels + self.group32 * product.inner) * plane + y * conv.width + x
            else:
                base = (image * plane + y * conv.width + x) * channels + self.group32 * product.inner
            writer.store(self.base, base, number)
            known = product.rows % self.cut.block_rows == 0
            if self.padded:
                # A row far above the image is outside with every tap.
                outside = tirx.const(-(1 << 24), "int32")
                writer.store(self.top, y if known else tirx.Select(row < product.rows, y, outside), number)
                writer.store(self.left, x, number)
            elif not known:
                inside = tirx.Select(row < product.rows, tirx.const(1, "int32"), tirx.const(0, "int32"))
                writer.store(self.there, inside, number)

    def _tap(self, step: Any, place: Any) -> tuple[Any, Any, Any | None]:
        """Tap and channel of a place down a step, and the condition under which there is such a product."""
        cut, product = self.cut, self.product
        if cut.by_taps:
            tap, channel = _div(step, cut.chunks), _mod(step, cut.chunks) * cut.depth + place
            inside = both(
                channel < product.inner if product.inner % cut.depth else None,
                tap < product.taps if cut.padded_steps > cut.whole_steps else None,
            )
            return tap, channel, inside
        line = step * cut.depth + place
        whole = cut.padded_steps * cut.depth == product.taps * product.inner
        tap, channel = _div(line, product.inner), _mod(line, product.inner)
        return tap, channel, None if whole else line < product.taps * product.inner

    def _fetch(self, step: Any) -> None:
        """Read the tiles of ``step`` into registers."""
        self._fetch_image(step)
        self._fetch_weights(step)

    def _weight_place(self, load: int) -> tuple[Any, Any]:
        """Place down the step and column of the block of a thread's load of weights."""
        cut = self.cut
        across = cut.block_columns // 4
        if cut.set_threads % across == 0:
            line = _div(self.member, across) + load * (cut.set_threads // across)
            return line, _mod(self.member, across) * 4
        number = self.member + load * cut.set_threads
        return _div(number, across), _mod(number, across) * 4

    def _fetch_weights(self, step: Any) -> None:
        writer, cut, product = self.writer, self.cut, self.product
        whole = product.taps * product.inner
        first = _int32(self.column_block) * cut.block_columns
        for load in range(cut.weight_loads):
            place, column = self._weight_place(load)
            if cut.by_taps:
                tap, channel, inside = self._tap(step, place)
                line = tap * product.inner + channel
            else:
                line = step * cut.depth + place
                inside = None if cut.padded_steps * cut.depth == whole else line < whole
            partial = (load + 1) * cut.set_threads * 4 > cut.weight_tile
            condition = both(
                inside,
                first + column < cut.width if cut.width % cut.block_columns else None,
                place < cut.depth if partial else None,
            )
            if condition is not None:
                zero = tirx.Broadcast(tirx.const(0, str(self.weights.ty.dtype)), 4)
                writer.store_vector(self.weights, 4, zero, load * 4)
            with guarded(writer, condition):
                at = (self.group32 * whole + line) * cut.width + first + column
                writer.store_vector(self.weights, 4, writer.vector(self.weight, 4, at), load * 4)

    def _fetch_image(self, step: Any) -> None:
        writer, cut, conv, product = self.writer, self.cut, self.conv, self.product
        kernel_columns = conv.kernel[1]
        lanes = cut.vector
        for load in range(cut.image_loads):
            pixel = min(load, self._own_pixels - 1)
            tile_row, place = self._image_place(load)
            tap, channel, inside = self._tap(step, place)
            kh, kw = _div(tap, kernel_columns), _mod(tap, kernel_columns)
            down, right = kh * conv.dilation[0], kw * conv.dilation[1]
            address = writer.load(self.base, pixel) + channel * (
                conv.height * conv.width if product.reads("NCHW") else 1
            )
            if product.taps > 1:
                each = 1 if product.reads("NCHW") else conv.in_channels
                address = address + (down * conv.width + right) * each
            conditions = [inside]
            if self.padded:
                y, x = writer.load(self.top, pixel), writer.load(self.left, pixel)
                if product.taps > 1:
                    y, x = y + down, x + right
                conditions += [y >= 0, y < conv.height, x >= 0, x < conv.width]
            elif product.rows % cut.block_rows:
                conditions.append(writer.load(self.there, pixel) != 0)
            if not self._image_is_whole() and load == cut.image_loads - 1:
                conditions.append(
                    tile_row < cut.block_rows if not product.reads("NCHW") else place < cut.depth
                )
            condition = both(*conditions)
            if condition is not None:
                zero = tirx.const(0, str(self.image.ty.dtype))
                value = zero if lanes == 1 else tirx.Broadcast(zero, lanes)
                writer.store_vector(self.image, lanes, value, load * lanes)
            with guarded(writer, condition):
                writer.store_vector(self.image, lanes, writer.vector(self.data, lanes, address), load * lanes)

    # Shared memory.

    def _image_tile(self, half: Any) -> Any:
        return (self.set * 2 + half) * (self.cut.image_tile + self.cut.weight_tile)

    def _weight_tile(self, half: Any) -> Any:
        return self._image_tile(half) + self.cut.image_tile

    def _stash(self, half: Any) -> None:
        """Write what was read to one half of shared memory."""
        writer, cut, accumulator = self.writer, self.cut, self.product.accumulator
        lanes = cut.vector
        start = self._image_tile(half)
        for load in range(cut.image_loads):
            row, place = self._image_place(load)
            partial = not self._image_is_whole() and load == cut.image_loads - 1
            nchw = self.product.reads("NCHW")
            at = place * cut.image_pitch + row if nchw else row * cut.image_pitch + place
            with guarded(writer, (place < cut.depth if nchw else row < cut.block_rows) if partial else None):
                value = widened(writer.vector(self.image, lanes, load * lanes), accumulator, lanes)
                writer.store_vector(self.memory, lanes, value, start + at)
        start = self._weight_tile(half)
        for load in range(cut.weight_loads):
            place, column = self._weight_place(load)
            partial = (load + 1) * cut.set_threads * 4 > cut.weight_tile
            with guarded(writer, place < cut.depth if partial else None):
                value = widened(writer.vector(self.weights, 4, load * 4), accumulator, 4)
                writer.store_vector(self.memory, 4, value, start + place * cut.block_columns + column)

    # The products.

    def row_of(self, i: int, down: Any) -> Any:
        """The row of the tile that a thread's row number ``i`` is."""
        vector, cut = self.row_vector, self.cut
        return down * vector + (i % vector + i // vector * (vector * cut.set_rows))

    def column_of(self, j: int, along: Any) -> Any:
        """The same for columns."""
        vector, cut = self.column_vector, self.cut
        return along * vector + (j % vector + j // vector * (vector * cut.set_columns))

    def _multiply(self, half: Any) -> None:
        """The products of one step, from one half of shared memory."""
        writer, cut = self.writer, self.cut
        rows, columns = cut.thread_rows, cut.thread_columns
        accumulator = self.product.accumulator
        image, weights = self._image_tile(half), self._weight_tile(half)
        down, along = self._threads32()
        deep = 1 if self.product.reads("NCHW") else 4
        left = writer.local("left", (rows * deep,), accumulator)
        right = writer.local("right", (columns,), accumulator)
        with writer.loop(cut.depth // deep, "k", "unrolled") as chunk:
            number = _int32(chunk)
            for i in range(0, rows, self.row_vector):
                if deep == 4:
                    at = image + self.row_of(i, down) * cut.image_pitch + number * 4
                    writer.store_vector(left, 4, writer.vector(self.memory, 4, at), i * 4)
                else:
                    at = image + number * cut.image_pitch + self.row_of(i, down)
                    lanes = self.row_vector
                    writer.store_vector(left, lanes, writer.vector(self.memory, lanes, at), i)
            for k in range(deep):
                line = weights + (number * deep + k) * cut.block_columns
                for j in range(0, columns, self.column_vector):
                    value = writer.vector(self.memory, self.column_vector, line + self.column_of(j, along))
                    writer.store_vector(right, self.column_vector, value, j)
                with writer.loop(rows, "i", "unrolled") as i, writer.loop(columns, "j", "unrolled") as j:
                    term = writer.load(left, i * deep + k) * writer.load(right, j)
                    place = i * columns + j
                    writer.store(self.sums_of_thread, writer.load(self.sums_of_thread, place) + term, place)

    def _threads32(self) -> tuple[Any, Any]:
        cut = self.cut
        if self.product.writes("NCHW"):
            return _mod(self.member, cut.set_rows), _div(self.member, cut.set_rows)
        return _div(self.member, cut.set_columns), _mod(self.member, cut.set_columns)

    # The results.

    def _add_sets(self) -> None:
        """Add up the sums of the block's sets; the first one writes the results."""
        writer, cut = self.writer, self.cut
        if cut.split == 1:
            self._write_results()
            return
        count = cut.thread_rows * cut.thread_columns
        size = count * cut.set_threads
        if cut.steps == 1:
            writer.sync()  # the tiles' memory is used anew
        with writer.when(self.set > 0), writer.loop(count, "i", "unrolled") as i:
            at = (self.set - 1) * size + _int32(i) * cut.set_threads + self.member
            writer.store(self.memory, writer.load(self.sums_of_thread, i), at)
        writer.sync()
        with writer.when(self.set < 1):
            for number in range(cut.split - 1):
                with writer.loop(count, "i", "unrolled") as i:
                    at = number * size + _int32(i) * cut.set_threads + self.member
                    value = writer.load(self.sums_of_thread, i) + writer.load(self.memory, at)
                    writer.store(self.sums_of_thread, value, i)
            self._write_results()

    def _write_results(self) -> None:
        writer, cut, product = self.writer, self.cut, self.product
        aligned = product.columns % self.column_vector == 0 and (
            self.sums is not None or product.writes("NHWC")
        )
        lanes = self.column_vector if aligned else 1
        for i in range(cut.thread_rows):
            row = self.row_block * cut.block_rows + self.row_of(i, self.down)
            with guarded(writer, row < product.rows if product.rows % cut.block_rows else None):
                for j in range(0, cut.thread_columns, lanes):
                    column = self.column_block * cut.block_columns + self.column_of(j, self.along)
                    outside = product.columns % cut.block_columns
                    with guarded(writer, column < product.columns if outside else None):
                        self._write(row, column, i * cut.thread_columns + j, lanes)

    def _write(self, row: Any, column: Any, place: int, lanes: int) -> None:
        writer, product = self.writer, self.product
        channel = self.group * product.columns + column
        if self.sums is not None:
            value = writer.vector(self.sums_of_thread, lanes, place)
            writer.store_vector(self.sums, lanes, value, self.slice, row, channel)
            return
        sums: Callable[[Any], Any] = lambda lane: writer.load(self.sums_of_thread, place + lane)  # noqa: E731
        with writer.loop(lanes, "lane", "vectorized") as lane:
            writer.result(as_written(writer, sums(lane)), *product.place(row, channel + lane))


def widened(value: Any, dtype: str, lanes: int) -> Any:
    """A vector in the type in which it is multiplied."""
    if str(value.ty.dtype).split("x")[0] == dtype:
        return value
    return value.astype(f"{dtype}x{lanes}" if lanes > 1 else dtype)
