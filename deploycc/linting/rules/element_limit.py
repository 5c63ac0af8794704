"""A tensor with more elements than the target can count.

Kernels count elements in 32 bits; a tensor beyond that is refused, whatever memory there is.  It takes a
very large image, or a batch of them with many channels.

Instead: work on the image in tiles (`x.unfold`, or a loop in the app), or on one sample of the batch at a
time; in ONNX, `Split` before and `Concat` behind.  Tiles that overlap by the receptive field give the same
values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from deploycc.linting.costs import extents
from deploycc.linting.subject import Subject
from deploycc.linting.wording import count_text, shape_text
from deploycc.types import Diagnostic

CODE = "DC221"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that makes a tensor with more elements than the target's `max_elements`."""
    limit = subject.limit("max_elements")
    if limit is None:
        return
    view = subject.view
    for node in view.model.graph.node:
        for name in node.output:
            dims = extents(name, view)
            if dims is None or math.prod(dims) <= limit.value:
                continue
            yield Diagnostic(
                CODE,
                "a tensor has more elements than the target can count",
                node=node.name,
                op=node.op_type,
                tensor=name,
                got=f"{count_text(math.prod(dims))} ({shape_text(dims)})",
                need=f"at most {limit.value}",
                help="work on tiles, or on one sample at a time",
                verdict="unsupported",
                source=limit.source,
            )
            break
