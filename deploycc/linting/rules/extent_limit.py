"""A tensor that is longer in one dimension than the target takes.

Loop counters and strides of the hardware have so many bits; a longer dimension is refused.

Instead: fold or cut the long dimension: `x.reshape(1, c, h, w)` instead of `x.reshape(1, c, h * w)`, or
process it in pieces (`torch.chunk`); in ONNX, `Reshape` or `Split`.  Values stay the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC216"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that makes a tensor with an extent above the target's `max_extent`."""
    limit = subject.limit("max_extent")
    if limit is None:
        return
    view = subject.view
    for node in view.model.graph.node:
        for name in node.output:
            kind = view.types.get(name)
            known = [dim for dim in kind.shape or () if dim is not None] if kind else []
            if max(known, default=0) > limit.value and not view.is_constant(name):
                yield Diagnostic(
                    CODE,
                    "a tensor is longer than the target takes",
                    node=node.name,
                    op=node.op_type,
                    tensor=name,
                    got=f"{max(known)} ({shape_text(kind.shape if kind else None)})",
                    need=f"extents of at most {limit.value}",
                    help="reshape the long dimension into two, or work on it in pieces",
                    verdict="unsupported",
                    source=limit.source,
                )
                break
