"""What schedules see: operators, matches and skips.

An *operator* describes one anchor of a network (a convolution or a matrix product) by its
numbers alone, without TVM objects, so that it can be a database key, a test parameter and a
line in a report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deploycc.types import Target

Knobs = Mapping[str, int]

Layout = Literal["NHWC", "NCHW"]
"""Order of an image's axes: channels last or channels first."""


@dataclass(frozen=True)
class Conv2d:
    """A 2-D convolution of an image in ``data_layout`` with constant HWIO weights, to one in ``out_layout``.

    ``height`` and ``width`` are the input's, before padding; ``pads`` are top, left, bottom,
    right; ``in_channels`` counts all groups.  The accumulator is float32; of ``dtype`` int16 it is int32,
    and so is the result.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    dtype: str
    data_layout: Layout = "NHWC"
    out_layout: Layout = "NHWC"

    @property
    def out_height(self) -> int:
        """Rows of the output: floor((H + pads - dilated kernel) / stride) + 1."""
        reach = self.dilation[0] * (self.kernel[0] - 1) + 1
        return (self.height + self.pads[0] + self.pads[2] - reach) // self.strides[0] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output, by the same formula as ``out_height``."""
        reach = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (self.width + self.pads[1] + self.pads[3] - reach) // self.strides[1] + 1

    @property
    def flops(self) -> int:
        """Floating-point operations of the products, two a multiply-add; padding counts as well."""
        taps = self.kernel[0] * self.kernel[1] * self.in_channels // self.groups
        return 2 * taps * self.batch * self.out_height * self.out_width * self.out_channels

    @property
    def pointwise(self) -> bool:
        """Whether this is a matrix product over all pixels: 1x1, stride 1, one group."""
        return self.kernel == self.strides == (1, 1) and self.groups == 1 and not any(self.pads)

    @property
    def depthwise(self) -> bool:
        """Whether every group has one input channel (a channel multiplier above 1 included)."""
        return self.groups > 1 and self.groups == self.in_channels


@dataclass(frozen=True)
class MatMul:
    """A product of the last axis of a tensor with a constant ``inner`` x ``columns`` matrix.

    ``leading`` are the tensor's other extents; every element of them is a row of the product.  Of ``dtype``
    int16 sums and result are int32.
    """

    leading: tuple[int, ...]
    inner: int
    columns: int
    dtype: str

    @property
    def flops(self) -> int:
        """Floating-point operations, two a multiply-add."""
        return 2 * math.prod(self.leading) * self.inner * self.columns


Operator = Conv2d | MatMul


@dataclass(frozen=True)
class Match:
    """A schedule takes the task: what it found and the target it will run on.

    ``operator`` is ``None`` for a schedule that works on any kernel of its class.  ``task`` is the
    operator's number in the program; a schedule with a ``compute`` writes it on its main block
    (``attrs={TASK_ANNOTATION: match.task}``) so that the fused kernel is recognised.  ``kernel`` is for
    a schedule without ``compute``: the ``Kernel`` it was asked about, if its ``cost`` needs it.
    """

    operator: Operator | None
    target: Target
    task: int = 0
    kernel: Any = None


@dataclass(frozen=True)
class Skip:
    """A schedule does not take the task, and why not (shown by ``inspect`` and the tuner)."""

    reason: str


@dataclass(frozen=True)
class Algorithm:
    """How a schedule computes an operator when that is not the operator's own loop nest.

    ``pads`` (top, left, bottom, right) are written around the input before the kernel;
    ``pack`` reorders the weights at build time (its input is HWIO, or K x N for a matrix
    product); ``define`` builds the tensor expression from the padded data and packed weights.
    Its result has the operator's own output shape.
    """

    pads: tuple[int, int, int, int]
    pack: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]
    define: Callable[[Any, Any], Any]
