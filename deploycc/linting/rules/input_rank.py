"""An input that is no image.

The documents of this target's SDK describe inputs of four dimensions, batch first.  Others are taken by
some releases and not by others, and tools around the network (quantiser, input lists, sample apps) expect
four.

Instead: add the missing dimensions outside and take them off inside: export a wrapper whose `forward`
begins with `x = x.reshape(...)`; in ONNX, a `Reshape` behind the input.  Values stay the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import counted, shape_text
from deploycc.types import Diagnostic

CODE = "DC214"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every graph input with another rank than the target's `input_rank`."""
    limit = subject.limit("input_rank")
    if limit is None:
        return
    view = subject.view
    for info in view.model.graph.input:
        kind = view.types.get(info.name)
        if kind is None or kind.shape is None or len(kind.shape) == limit.value:
            continue
        padded = (*(1,) * (limit.value - len(kind.shape)), *kind.shape)
        yield Diagnostic(
            CODE,
            f"input '{info.name}' has {counted(len(kind.shape), 'dimension')}",
            tensor=info.name,
            got=shape_text(kind.shape),
            need=shape_text(padded) if len(kind.shape) < limit.value else f"rank {limit.value}",
            help="reshape at the network's edge, or try the release that you use",
            severity="warning",
            verdict="info",
            source=limit.source,
        )
