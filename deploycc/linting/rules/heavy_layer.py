"""A layer with much of the network's arithmetic, on a target whose peak is not known.

Without the processor's peak there is no time to tell, but a share of the multiply-adds is the same
everywhere: whatever makes this layer smaller makes the network faster by that much.

Instead: fewer channels there, a stride before it, a depthwise and a 1x1 convolution in place of a dense one
(`nn.Conv2d(c, c, 3, groups=c)` and `nn.Conv2d(c, d, 1)`; in ONNX two `Conv`s).  All are other networks and
need training.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.subject import Subject
from deploycc.linting.wording import count_text, percent_text, shape_text
from deploycc.types import Diagnostic

CODE = "DC534"

_SHARE = 0.25
_LEAST_NODES = 8
"""In a network of few nodes a quarter is what each has."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node with a quarter of the multiply-adds of a network of eight nodes and more."""
    if subject.target.peak is not None:
        return
    view = subject.view
    macs = {name: count for name, (count, _) in subject.costs.items()}
    total = sum(macs.values())
    if len(macs) < _LEAST_NODES or not total:
        return
    for node in view.model.graph.node:
        share = macs[node.name] / total
        if share >= _SHARE:
            yield Diagnostic(
                CODE,
                "much of the network's arithmetic is in one layer",
                node=node.name,
                op=node.op_type,
                got=f"{percent_text(share)} of {count_text(total)} multiply-adds, "
                f"result {shape_text(costs.extents(node.output[0], view))}",
                need="less than a quarter in one layer",
                help="fewer channels or a smaller map there",
                severity="info",
                verdict="info",
                source="the graph itself",
            )
