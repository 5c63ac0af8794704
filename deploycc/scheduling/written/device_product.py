"""A convolution or matrix product as a GPU's blocks compute it: rows x columns, and steps down the sum.

Rows are pixels of all images, columns the output channels of a group, and the sum runs over the taps of the
kernel and the input channels of a group.  ``Product`` says what is computed, ``Cut`` how it is dealt out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from deploycc.operators import Algorithm, Conv2d, Layout, MatMul, Operator
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.tvm_api import te, tirx


@dataclass(frozen=True)
class Product:
    """What ``operator`` computes; a matrix product is a pointwise convolution of one row of pixels."""

    operator: Operator

    @cached_property
    def conv(self) -> Conv2d:
        """The operator as a convolution."""
        operator = self.operator
        if isinstance(operator, Conv2d):
            return operator
        rows, one, none = math.prod(operator.leading), (1, 1), (0, 0, 0, 0)
        sizes = (1, 1, rows, operator.inner, operator.columns)
        return Conv2d(*sizes, one, one, none, one, 1, operator.dtype)

    @cached_property
    def rows(self) -> int:
        """Pixels of the result, of all images."""
        return self.conv.batch * self.conv.out_height * self.conv.out_width

    @cached_property
    def columns(self) -> int:
        """Output channels of a group."""
        return self.conv.out_channels // self.conv.groups

    @cached_property
    def inner(self) -> int:
        """Input channels of a group."""
        return self.conv.in_channels // self.conv.groups

    @cached_property
    def taps(self) -> int:
        """Rows times columns of the kernel."""
        return self.conv.kernel[0] * self.conv.kernel[1]

    @property
    def accumulator(self) -> str:
        """Element type of the sums."""
        return "int32" if self.operator.dtype == "int16" else "float32"

    @property
    def written(self) -> str:
        """Element type of the operator's result."""
        return "int32" if self.operator.dtype == "int16" else self.operator.dtype

    def reads(self, layout: Layout) -> bool:
        """Whether the image that is read has this layout."""
        return self.conv.data_layout == layout

    def writes(self, layout: Layout) -> bool:
        """Whether the result has this layout."""
        return self.conv.out_layout == layout

    def place(self, row: Any, channel: Any) -> tuple[Any, ...]:
        """The indices of the result's element of ``row`` and ``channel`` (of all groups)."""
        if isinstance(self.operator, MatMul):
            indices: list[Any] = []
            for extent in reversed(self.operator.leading):
                indices.append(row if len(indices) + 1 == len(self.operator.leading) else row % extent)
                row = row // extent
            return (*reversed(indices), channel)
        conv = self.conv
        size = conv.out_height * conv.out_width
        image: Any = 0
        if conv.batch > 1:
            image, row = row // size, row % size
        y, x = (0, row) if conv.out_height == 1 else (row // conv.out_width, row % conv.out_width)
        return (image, channel, y, x) if self.writes("NCHW") else (image, y, x, channel)

    def algorithm(self, task: int, pack: Any, weight_of: Any) -> Algorithm:
        """The tensor expression; ``weight_of(weight, tap, inner, channel)`` an element of ``pack``'s weights.

        Nothing is padded: what lies outside is not read.
        """

        def define(data: Any, weight: Any) -> Any:
            total = self._product if isinstance(self.operator, MatMul) else self._convolution
            result = total(task, data, weight, weight_of)
            if self.accumulator == self.written:
                return result
            return te.compute(result.shape, lambda *i: result[i].astype(self.written), name="rounded")

        return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)

    def _product(self, task: int, data: Any, weight: Any, weight_of: Any) -> Any:
        k = te.reduce_axis((0, self.inner), "k")
        return te.compute(
            (*data.shape[:-1], self.columns),
            lambda *i: te.sum(
                self._wide(data[(*i[:-1], k)]) * self._wide(weight_of(weight, 0, k, i[-1])), axis=[k]
            ),
            name="product",
            attrs={TASK_ANNOTATION: task},
        )

    def _convolution(self, task: int, data: Any, weight: Any, weight_of: Any) -> Any:
        conv = self.conv
        names = zip((*conv.kernel, self.inner), ("kh", "kw", "ic"), strict=True)
        kh, kw, ic = (te.reduce_axis((0, extent), name) for extent, name in names)
        image = (conv.batch, conv.out_height, conv.out_width)

        def element(n: Any, y: Any, x: Any, o: Any) -> Any:
            row = y * conv.strides[0] + kh * conv.dilation[0] - conv.pads[0]
            column = x * conv.strides[1] + kw * conv.dilation[1] - conv.pads[1]
            channel = o // self.columns * self.inner + ic
            place = (n, channel, row, column) if self.reads("NCHW") else (n, row, column, channel)
            value = data[place]
            if any(conv.pads):
                inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
                value = tirx.if_then_else(inside, value, tirx.const(0, data.dtype))
            factor = weight_of(weight, kh * conv.kernel[1] + kw, ic, o)
            return te.sum(self._wide(value) * self._wide(factor), axis=[kh, kw, ic])

        if self.writes("NCHW"):
            shape = (image[0], conv.out_channels, *image[1:])
            return te.compute(
                shape,
                lambda n, o, y, x: element(n, y, x, o),
                name="conv",
                attrs={TASK_ANNOTATION: task},
            )
        return te.compute((*image, conv.out_channels), element, name="conv", attrs={TASK_ANNOTATION: task})

    def _wide(self, value: Any) -> Any:
        return value.astype(self.accumulator)


@functools.lru_cache(maxsize=64)
def product_of(operator: Operator) -> Product:
    """The product of an operator: of one object for all knobs, since what it works out it keeps."""
    return Product(operator)


@dataclass(frozen=True)
class Cut:
    """How a product is dealt out to blocks and threads.

    A block has ``block_rows`` x ``block_columns`` results; each of its ``split`` sets of threads sums up a
    part of the products, ``depth`` a step; each thread of a set has ``thread_rows`` x ``thread_columns``
    results.  Across blocks the sum is cut into ``slices``.
    """

    product: Product
    block_rows: int
    block_columns: int
    thread_rows: int
    thread_columns: int
    depth: int
    split: int
    slices: int

    KNOBS: ClassVar = (
        "block_rows", "block_columns", "thread_rows", "thread_columns", "depth", "split", "slices",
    )  # fmt: skip

    @classmethod
    def of(cls, product: Product, knobs: Mapping[str, int]) -> Cut:
        """As the knobs of a schedule say."""
        return cls(product, *(knobs[name] for name in cls.KNOBS))

    @cached_property
    def set_rows(self) -> int:
        """Threads of a set down the rows."""
        return self.block_rows // self.thread_rows

    @cached_property
    def set_columns(self) -> int:
        """Threads of a set along the columns."""
        return self.block_columns // self.thread_columns

    @cached_property
    def set_threads(self) -> int:
        """Threads of a set."""
        return self.set_rows * self.set_columns

    @cached_property
    def threads(self) -> int:
        """Threads of a block."""
        return self.set_threads * self.split

    @cached_property
    def by_taps(self) -> bool:
        """Whether a step is of one tap of the kernel, its channels filled up to whole steps.

        It is where that adds at most an eighth; else taps and channels are counted as one.
        """
        inner, taps = self.product.inner, self.product.taps
        padded = -(-inner // self.depth) * self.depth
        return taps == 1 or padded * 8 <= inner * 9

    @cached_property
    def chunks(self) -> int:
        """Steps of a tap."""
        return -(-self.product.inner // self.depth)

    @cached_property
    def whole_steps(self) -> int:
        """Steps that have products."""
        if self.by_taps:
            return self.product.taps * self.chunks
        return -(-self.product.taps * self.product.inner // self.depth)

    @cached_property
    def steps(self) -> int:
        """Steps of a set of threads: the last one's may be of zeros."""
        return -(-self.whole_steps // (self.split * self.slices))

    @cached_property
    def padded_steps(self) -> int:
        """Steps that there are weights for."""
        return self.steps * self.split * self.slices

    @cached_property
    def row_blocks(self) -> int:
        """Blocks down the rows."""
        return -(-self.product.rows // self.block_rows)

    @cached_property
    def column_blocks(self) -> int:
        """Blocks along the columns of a group."""
        return -(-self.product.columns // self.block_columns)

    @cached_property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return self.row_blocks * self.column_blocks * self.product.conv.groups * self.slices

    @cached_property
    def vector(self) -> int:
        """Elements that a thread reads of the image at once: neighbouring channels, in NCHW one."""
        if self.product.reads("NCHW"):
            return 1
        return next(lanes for lanes in (4, 2, 1) if self.product.inner % lanes == 0)

    @cached_property
    def image_loads(self) -> int:
        """Loads of a thread of the image in a step."""
        return -(-self.block_rows * self.depth // (self.vector * self.set_threads))

    @cached_property
    def weight_loads(self) -> int:
        """Loads of a thread (of four weights) in a step."""
        return -(-self.depth * self.block_columns // (4 * self.set_threads))

    @cached_property
    def image_pitch(self) -> int:
        """From a line of the image's tile in shared memory to the next; four more, for the banks."""
        return (self.block_rows if self.product.reads("NCHW") else self.depth) + 4

    @cached_property
    def image_tile(self) -> int:
        """Elements of the image's tile in shared memory."""
        return (self.depth if self.product.reads("NCHW") else self.block_rows) * self.image_pitch

    @cached_property
    def weight_tile(self) -> int:
        """Elements of the weights' tile."""
        return self.depth * self.block_columns

    @cached_property
    def shared_elements(self) -> int:
        """Elements of shared memory, four bytes each: two tiles of both a set, later the sets' sums."""
        tiles = 2 * self.split * (self.image_tile + self.weight_tile)
        return max(tiles, (self.split - 1) * self.block_rows * self.block_columns)

    @cached_property
    def width(self) -> int:
        """Packed columns of a group: whole vectors of four."""
        return -(-self.product.columns // 4) * 4

    def pack(self, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """HWIO (or K x N) weights as [group, tap and input channel, column], zeros added.

        No knob changes that: the chips of a package share one copy.
        """
        product, groups = self.product, self.product.conv.groups
        source = weight.reshape(product.taps * product.inner, groups, product.columns)
        packed = np.zeros((groups, product.taps * product.inner, self.width), weight.dtype)
        packed[..., : product.columns] = source.transpose(1, 0, 2)
        return packed.reshape(-1)

    def weight_of(self, weight: Any, tap: Any, inner: Any, channel: Any) -> Any:
        """The element of packed weights; an expression."""
        product = self.product
        group, column = channel // product.columns, channel % product.columns
        line = (group * product.taps + tap) * product.inner + inner
        return weight[line * self.width + column]
