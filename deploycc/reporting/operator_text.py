"""A convolution or product in a few words."""

from __future__ import annotations

import math

from deploycc.operators import Conv2d
from deploycc.records import operator_of


def operator_text(text: str) -> str:
    """``conv 3x3 stride 2, 16 to 24 channels at 320x320`` for a record key; anything else stays as it is."""
    try:
        operator = operator_of(text)
    except ValueError:
        return text
    if not isinstance(operator, Conv2d):
        return (
            f"product {math.prod(operator.leading)}x{operator.inner} by {operator.inner}x{operator.columns}"
        )
    depthwise = operator.groups == operator.in_channels > 1
    words = ["depthwise" if depthwise else "conv", "x".join(map(str, operator.kernel))]
    if operator.strides != (1, 1):
        words.append(f"stride {_same(operator.strides)}")
    if operator.dilation != (1, 1):
        words.append(f"dilation {_same(operator.dilation)}")
    channels = f"{operator.in_channels} to {operator.out_channels} channels"
    if depthwise:
        channels = f"{operator.in_channels} channels"
    elif operator.groups > 1:
        channels += f" in {operator.groups} groups"
    batch = f", batch {operator.batch}" if operator.batch > 1 else ""
    return f"{' '.join(words)}, {channels} at {operator.height}x{operator.width}{batch}"


def _same(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
