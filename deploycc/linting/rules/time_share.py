"""A layer that takes much of the time for little arithmetic.

The time is the roofline's: the larger of multiply-adds over the processor's peak and bytes over its
memory's (Williams, Waterman and Patterson, 2009), with what a compiler keeps in registers and caches left
out.  A layer that memory decides costs the same whatever it computes: large feature maps with few channels,
depthwise convolutions at full resolution, heads with one output channel, elementwise chains.  The estimate
is a lower bound; only a run on the board measures.

Instead: shrink before rather than behind the layer (stride in the first convolution), fewer channels at
full resolution, `nn.Upsample` after the last 1x1 convolution and not before it: a 1x1 `Conv` and a linear
`Resize` may change places with the same result up to rounding, in PyTorch and in ONNX.  Everything else is
another network and needs training.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting import costs
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, percent_text
from deploycc.types import Diagnostic

CODE = "DC530"

_SHARE = 0.10
_LEAST_SECONDS = 1e-3
_MEMORY_BOUND = 2.0
"""A layer is told from a tenth of the network's time on, and 1 ms, if memory takes twice its arithmetic."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node with a tenth of the estimated time that memory bounds, where the target's peak is known."""
    peak = subject.target.peak
    if peak is None:
        return
    view = subject.view
    times: list[tuple[NodeProto, int, int, float]] = []
    for node in view.model.graph.node:
        macs, moved = subject.costs[node.name]
        times.append((node, macs, moved, costs.seconds(macs, moved, peak) or 0.0))
    total = sum(seconds for *_, seconds in times) or 1.0
    arithmetic_all = sum(macs for _, macs, *_ in times) or 1
    for node, macs, moved, seconds in times:
        arithmetic = 2 * macs / peak.flops
        if seconds / total < _SHARE or seconds < max(_LEAST_SECONDS, _MEMORY_BOUND * arithmetic):
            continue
        yield Diagnostic(
            CODE,
            "a layer takes much of the time for little arithmetic",
            node=node.name,
            op=node.op_type,
            got=f"{1e3 * seconds:.2g} ms of {1e3 * total:.2g} ms ({percent_text(seconds / total)}) for "
            f"{bytes_text(moved)}; {1e3 * arithmetic:.2g} ms of arithmetic "
            f"({percent_text(macs / arithmetic_all)} of all)",
            need="a layer that arithmetic bounds",
            help="work on smaller maps or with more channels; measure it on the board",
            severity="warning",
            verdict="slow",
            source="roofline model (Williams, Waterman and Patterson, CACM 2009) over the target's peak",
        )
