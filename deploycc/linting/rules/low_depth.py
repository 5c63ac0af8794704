"""A convolution whose channels are no multiple of what the hardware computes at once.

The NPU works on blocks of channels and pads what does not fill one with zeros: a layer of 8 channels takes
the time of one with 32.  In a grouped convolution each group is padded by itself.  First layers on 3
channels and late decoder layers suffer most.

Instead: choose multiples of the block (32, 64, 96) when training.  For the first layer move pixels into
channels: `nn.PixelUnshuffle(2)` and a convolution of half the stride (YOLO's Focus); in ONNX `SpaceToDepth`
and `Conv`.  Focus written as four `Slice`s and a `Concat` equals a 2x2 `Conv` of stride 2 with one-hot
weights bit by bit; changing the number of channels is another network and needs training.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.layers import Convolution, convolutions
from deploycc.linting.subject import Subject
from deploycc.linting.wording import percent_text
from deploycc.types import Diagnostic

CODE = "DC422"

_SHARE = 0.05
"""A layer with less of the network's padded arithmetic is told as info."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every convolution less than half of whose padded arithmetic is of use; see `channel_multiple`.

    A warning from 5 % of the network's padded arithmetic on.
    """
    limit = subject.limit("channel_multiple")
    if limit is None:
        return
    view = subject.view
    padded = {c.node.name: _padded(c, subject.costs[c.node.name][0], limit.value) for c in convolutions(view)}
    rest = sum(macs for name, (macs, _) in subject.costs.items() if name not in padded)
    total = sum(padded.values()) + rest or 1
    for layer in convolutions(view):
        useful, spent = subject.costs[layer.node.name][0], padded[layer.node.name]
        if not spent or 2 * useful > spent:
            continue
        heavy = spent / total >= _SHARE
        channels = f"{layer.channels_in} to {layer.channels_out} channels"
        yield Diagnostic(
            CODE,
            "a convolution of too few channels for the hardware",
            node=layer.node.name,
            op=layer.node.op_type,
            got=f"{percent_text(useful / spent)} of the arithmetic is of use: {channels}"
            + (f" in {layer.group} groups" if layer.group > 1 else "")
            + f", {percent_text(spent / total)} of the network's arithmetic as padded",
            need=f"multiples of {limit.value}" + (" in each group" if layer.group > 1 else ""),
            help="move pixels into channels before it (SpaceToDepth)"
            if layer.channels_in <= 4
            else f"train with multiples of {limit.value} channels",
            severity="warning" if heavy else "info",
            verdict="slow" if heavy else "info",
            source=limit.source,
        )


def _padded(layer: Convolution, macs: int, multiple: int) -> int:
    """The arithmetic with the channels of each group rounded up; a depthwise layer's are one axis."""

    def factor(channels: int) -> float:
        return -(-channels // multiple) * multiple / max(channels, 1)

    if layer.depthwise:
        return round(macs * factor(layer.channels_in))
    inside, outside = layer.channels_in // layer.group, layer.channels_out // layer.group
    return round(macs * factor(inside) * factor(outside))
