"""Convolutions that nobody tuned for: shapes drawn at random as networks have them, odd extents included."""

from __future__ import annotations

import random
from collections.abc import Mapping

from benchmarks.convs import Conv

LEAST, MOST = 2e5, 4e8
"""Operations of a drawn convolution: from a few microseconds on, at most some milliseconds."""


def drawn(count: int, seed: int) -> Mapping[str, Conv]:
    """``count`` convolutions by name; the same for the same ``seed``."""
    generator = random.Random(seed)
    found: dict[str, Conv] = {}
    while len(found) < count:
        conv = _draw(generator, f"drawn{seed}_{len(found):02}")
        if min(conv.output) > 0 and LEAST <= conv.flop <= MOST:
            found[conv.name] = conv
    return found


def _draw(generator: random.Random, name: str) -> Conv:
    kind = generator.choice(["dense", "dense", "pointwise", "depthwise", "grouped", "row", "first", "last"])
    kernel_h = generator.choice((1, 2, 3, 3, 3, 4, 5, 7, 9))
    kernel_w = kernel_h if generator.random() < 0.7 else generator.choice((1, 3, 5, 7))
    stride = generator.choice((1, 1, 1, 2, 2, 3, 4))
    height = generator.randint(5, 160)
    width = height if generator.random() < 0.4 else generator.randint(5, 200)
    channels, out, group = _channels(generator), _channels(generator), 1
    if kind == "pointwise":
        kernel_h = kernel_w = 1
        stride = generator.choice((1, 1, 1, 2))
    elif kind == "depthwise":
        group, out = channels, channels * generator.choice((1, 1, 1, 2, 3))
    elif kind == "grouped":
        group = generator.choice((2, 3, 4, 5, 8, 16, 32))
        channels, out = group * generator.randint(2, 24), group * generator.randint(1, 24)
    elif kind == "row":
        kernel_h, height, width = 1, 1, generator.randint(40, 2000)
    elif kind == "first":
        channels = generator.choice((1, 3, 4))
    elif kind == "last":
        out = generator.choice((1, 2, 3, 4, 6))
    dilation = generator.choice((1, 1, 1, 1, 2, 3)) if stride == 1 else 1
    reach = (dilation * (kernel_h - 1), dilation * (kernel_w - 1))
    before, after = (reach[0] // 2, reach[1] // 2), (reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
    pads = generator.choice(((*before, *after), (*before, *after), (0, 0, 0, 0), (*after, *before)))
    strides = (1, stride) if kind == "row" else (stride, stride)
    return Conv(
        name,
        (1, channels, height, width),
        out,
        (kernel_h, kernel_w),
        strides,
        pads,
        (dilation, dilation),
        group,
    )


def _channels(generator: random.Random) -> int:
    if generator.random() < 0.5:
        return generator.choice((8, 16, 24, 32, 48, 64, 96, 128, 160, 256, 384, 512))
    return generator.randint(2, 300)
