"""Convolutions and transposed convolutions at tile edges, primes and 1, as cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.scheduling.graphs import Case, Graph

Pair = Sequence[int]


def conv(
    channels: int,
    out: int,
    size: Pair,
    kernel: Pair,
    *,
    batch: int = 1,
    bias: bool = True,
    end: str = "Relu",
    **attributes: Any,
) -> Case:
    """Conv, with an activation behind it unless ``end`` is empty; pads are top, left, bottom, right."""

    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(batch, channels, *size), channels, out, kernel, bias, **attributes)
        return str(graph.add(end, y)) if end else y

    given = " ".join(f"{key}={value}" for key, value in attributes.items())
    return Case(f"conv {batch}x{channels}x{'x'.join(map(str, size))}->{out} {tuple(kernel)} {given}", build)


def same(kernel: Pair) -> list[int]:
    """Pads that keep the size at stride 1 for an odd kernel."""
    halves = [k // 2 for k in kernel]
    return [*halves, *halves]


def conv_transpose(
    channels: int, out: int, size: Pair, kernel: Pair, *, bias: bool = True, **attributes: Any
) -> Case:
    """ConvTranspose with constant weights."""

    def build(graph: Graph) -> str:
        group = attributes.get("group", 1)
        inputs = [graph.input(1, channels, *size), graph.weight(channels, out // group, *kernel)]
        inputs += [graph.weight(out)] if bias else []
        return str(graph.add("ConvTranspose", *inputs, kernel_shape=list(kernel), **attributes))

    given = " ".join(f"{key}={value}" for key, value in attributes.items())
    return Case(f"transposed {channels}x{'x'.join(map(str, size))}->{out} {tuple(kernel)} {given}", build)


CHANNELS = [
    conv(channels, out, (4, width), (3, 3), pads=same((3, 3)))
    for channels, width, out in [
        (1, 1, 1), (2, 3, 3), (3, 5, 5), (5, 7, 7), (7, 6, 8), (8, 9, 10), (10, 8, 15), (15, 11, 16),
        (16, 13, 17), (17, 10, 23), (23, 17, 31), (3, 16, 33), (4, 15, 37), (31, 2, 97), (3, 12, 131),
        (131, 4, 2), (97, 14, 5), (37, 16, 24), (33, 14, 64),
    ]
]  # fmt: skip
"""Output channels around the lanes of every target, widths 1 to 17."""

FORMS = [
    conv(3, 8, (9, 11), (1, 1), strides=[2, 2]),
    conv(5, 16, (7, 8), (1, 1), pads=[1, 2, 0, 1]),
    conv(5, 7, (9, 13), (2, 2), pads=[0, 0, 1, 1]),
    conv(4, 9, (12, 10), (2, 2), strides=[2, 2]),
    conv(6, 16, (11, 17), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    conv(6, 16, (10, 16), (3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
    conv(1, 24, (13, 10), (3, 3), strides=[3, 3], pads=[1, 1, 1, 1]),
    conv(3, 5, (14, 17), (5, 5), strides=[3, 1], pads=[2, 0, 1, 2]),
    conv(3, 20, (16, 13), (5, 5), strides=[2, 2], pads=[2, 2, 2, 2]),
    conv(2, 10, (9, 15), (7, 7), strides=[1, 2], pads=[3, 3, 3, 3]),
    conv(3, 13, (7, 7), (7, 7)),
    conv(12, 16, (5, 17), (1, 7), pads=[0, 3, 0, 3]),
    conv(12, 16, (17, 5), (7, 1), pads=[3, 0, 3, 0]),
    conv(8, 10, (6, 9), (3, 5), pads=[2, 1, 0, 3], strides=[2, 1]),
    conv(5, 8, (13, 12), (3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
    conv(5, 17, (15, 14), (3, 3), dilations=[3, 1], pads=[3, 1, 3, 1], strides=[2, 3]),
    conv(4, 6, (9, 11), (3, 2), dilations=[1, 5], pads=[0, 0, 0, 1]),
    conv(4, 6, (5, 5), (3, 3), dilations=[6, 6], pads=[6, 6, 6, 6]),
    conv(3, 9, (6, 7), (3, 3), batch=2, pads=[1, 1, 1, 1]),
    conv(3, 33, (6, 7), (3, 3), batch=2, strides=[2, 2], pads=[1, 0, 0, 1]),
    conv(3, 8, (6, 9), (3, 3), bias=False, end="", pads=[1, 1, 1, 1]),
    conv(3, 5, (6, 9), (3, 3), bias=False, end=""),
    conv(3, 16, (32, 32), (16, 16), strides=[16, 16]),
    conv(3, 8, (21, 21), (11, 11), strides=[4, 4], pads=[2, 2, 2, 2]),
    conv(5, 6, (8, 9), (3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv(5, 6, (8, 9), (2, 2), auto_pad="SAME_LOWER"),
    conv(5, 6, (8, 9), (3, 3), auto_pad="VALID"),
]
"""Kernels, strides, pads, dilations, batch."""

GROUPS = [
    conv(6, 10, (5, 9), (3, 3), group=2, pads=[1, 1, 1, 1]),
    conv(48, 48, (4, 13), (3, 3), group=2, pads=[1, 1, 1, 1]),
    conv(9, 21, (5, 8), (3, 3), group=3, pads=[1, 1, 1, 1]),
    conv(12, 51, (5, 7), (1, 1), group=3),
    conv(16, 16, (7, 7), (3, 3), group=8, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv(32, 32, (4, 14), (3, 3), group=4, pads=[1, 1, 1, 1]),
    conv(20, 40, (5, 11), (3, 3), group=5, pads=[1, 1, 1, 1]),
    conv(34, 34, (3, 9), (3, 3), group=17, pads=[1, 1, 1, 1]),
    conv(10, 5, (6, 6), (3, 3), group=5, pads=[1, 1, 1, 1]),
    conv(4, 128, (3, 14), (1, 1), group=2),
    conv(6, 240, (4, 9), (3, 3), group=3),
    conv(6, 240, (4, 9), (1, 1), group=3, end="HardSwish"),
    conv(8, 12, (5, 6), (3, 3), batch=2, group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
]
"""Groups of 1 to 24 channels that are not depthwise."""

DEPTHWISE = [
    conv(channels, channels, size, kernel, group=channels, **attributes)
    for channels, size, kernel, attributes in [
        (2, (5, 1), (3, 3), {"pads": [1, 1, 1, 1]}),
        (3, (5, 7), (3, 3), {"pads": [1, 1, 1, 1]}),
        (5, (4, 9), (3, 3), {"pads": [1, 1, 1, 1]}),
        (7, (6, 8), (5, 5), {"pads": [2, 2, 2, 2]}),
        (8, (6, 17), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (10, (7, 10), (3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        (15, (5, 6), (1, 9), {"pads": [0, 4, 0, 4]}),
        (16, (6, 13), (3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        (17, (5, 5), (3, 3), {}),
        (23, (9, 8), (3, 3), {"strides": [3, 1], "pads": [1, 2, 0, 1]}),
        (31, (7, 7), (7, 7), {"pads": [3, 3, 3, 3]}),
        (33, (4, 4), (2, 2), {"pads": [0, 0, 1, 1]}),
        (36, (8, 8), (5, 5), {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
        (37, (3, 12), (1, 1), {}),
        (97, (3, 11), (3, 3), {"pads": [1, 1, 1, 1]}),
        (131, (3, 3), (3, 3), {"pads": [1, 1, 1, 1]}),
        (24, (5, 16), (3, 3), {"batch": 2, "pads": [1, 1, 1, 1]}),
        (64, (4, 15), (3, 3), {"bias": False, "end": "", "pads": [1, 1, 1, 1]}),
    ]
] + [
    conv(5, 10, (5, 8), (3, 3), group=5, pads=[1, 1, 1, 1]),
    conv(12, 24, (5, 9), (3, 3), group=12, pads=[1, 1, 1, 1], strides=[2, 2]),
    conv(3, 12, (5, 9), (5, 5), group=3, pads=[2, 2, 2, 2]),
    conv(2, 34, (5, 6), (3, 3), group=2),
]  # fmt: skip
"""Depthwise with and without a channel multiplier."""

POINTWISE = [
    conv(channels, out, size, (1, 1), batch=batch)
    for channels, out, size, batch in [
        (1, 1, (1, 1), 1), (2, 3, (1, 5), 1), (3, 1, (4, 7), 1), (5, 7, (1, 1), 1), (7, 8, (3, 9), 1),
        (8, 10, (2, 13), 2),
        (10, 15, (3, 6), 1), (15, 17, (3, 11), 1), (16, 16, (4, 14), 1), (17, 31, (3, 17), 1),
        (131, 2, (5, 5), 1),
        (31, 33, (2, 15), 1), (33, 97, (3, 3), 1), (23, 131, (2, 12), 2), (97, 37, (7, 7), 1),
        (58, 58, (5, 28), 1),
        (64, 48, (8, 16), 1), (128, 1, (4, 16), 1),
    ]
]  # fmt: skip
"""1x1 convolutions: matrix products."""

ONE_DIMENSIONAL = [
    conv(5, 8, (13,), (3,), pads=[1, 1]),
    conv(8, 17, (16,), (9,), pads=[4, 4]),
    conv(7, 5, (17,), (3,), strides=[2], pads=[0, 1]),
    conv(6, 16, (23,), (3,), dilations=[4], pads=[4, 4]),
    conv(6, 6, (12,), (5,), group=6, pads=[2, 2]),
    conv(8, 12, (11,), (1,), batch=2),
    conv(3, 2, (1,), (1,)),
]

TRANSPOSED = [
    conv_transpose(3, 5, (4, 5), (2, 2), strides=[2, 2]),
    conv_transpose(8, 16, (5, 7), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    conv_transpose(5, 7, (6, 5), (4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
    conv_transpose(4, 3, (5, 6), (3, 3), strides=[1, 1], pads=[1, 1, 1, 1]),
    conv_transpose(4, 3, (5, 6), (5, 5), strides=[3, 3], pads=[2, 1, 0, 2], output_padding=[2, 1]),
    conv_transpose(2, 1, (3, 1), (2, 2), strides=[3, 3]),
    conv_transpose(2, 3, (3, 4), (1, 1), strides=[2, 2], output_padding=[1, 1]),
    conv_transpose(3, 8, (4, 5), (7, 3), strides=[2, 2], pads=[3, 0, 2, 1], bias=False),
    conv_transpose(3, 4, (4, 5), (3, 3), strides=[2, 1], pads=[1, 1, 1, 1]),
    conv_transpose(3, 4, (4, 5), (2, 5), strides=[1, 3], pads=[0, 2, 0, 1], output_padding=[0, 2]),
    conv_transpose(6, 4, (4, 5), (3, 3), strides=[2, 2], group=2, pads=[1, 1, 1, 1]),
    conv_transpose(6, 6, (4, 5), (4, 4), strides=[2, 2], group=6, pads=[1, 1, 1, 1]),
    conv_transpose(3, 4, (4, 5), (3, 3), strides=[2, 2], dilations=[2, 2]),
    conv_transpose(3, 4, (4, 5), (3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    conv_transpose(3, 4, (4, 5), (3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    conv_transpose(3, 4, (4, 5), (3, 3), strides=[2, 2], auto_pad="VALID"),
    conv_transpose(3, 5, (7,), (4,), strides=[2], pads=[1, 1]),
    conv_transpose(4, 8, (6,), (3,), strides=[3], output_padding=[2]),
    conv_transpose(4, 3, (6,), (3,), strides=[1], pads=[1, 0], bias=False),
    conv_transpose(4, 4, (6,), (3,), strides=[2], group=4, pads=[1, 1]),
]
