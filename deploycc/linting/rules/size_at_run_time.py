"""A tensor whose size depends on the data.

`NonZero`, `Unique`, `Compress` and `NonMaxSuppression` put out as many rows as they find, `RoiAlign` as
many as it is given boxes.  A target that lays out memory beforehand cannot hold them, and everything behind
them has an open shape as well.

Instead: keep the size and mask what does not count: `torch.where(mask, x, 0)` or `x * mask` for `x[mask]`,
`torch.topk(scores, k)` with a constant `k` for a selection by threshold; in ONNX `Where`, `Mul`, `TopK`. Or
cut the network there: `deploycc split` makes the part before, a part for the app, and the part behind. A
mask gives the same values in other places, so it is left to you.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC219"
applies = external_only

_INSTEAD = {
    "NonZero": "mask with Where or Mul",
    "Unique": "do it in the app",
    "Compress": "mask with Where or Mul, or Gather with constant indices",
    "RoiAlign": "give the second stage a fixed number of boxes",
    "NonMaxSuppression": "end the network at boxes and scores and suppress in the app",
}


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every such node whose output is still open after folding, where the target's shapes are static."""
    limit = subject.limit("static_shapes")
    if limit is None or not limit.value:
        return
    view = subject.view
    for node in view.model.graph.node:
        if node.op_type not in _INSTEAD or node.domain:
            continue
        kind = view.types.get(node.output[0])
        if kind is not None and kind.static:
            continue
        yield Diagnostic(
            CODE,
            f"how much {node.op_type} puts out depends on the data",
            node=node.name,
            op=node.op_type,
            tensor=node.output[0],
            got=shape_text(kind.shape if kind else None),
            need="a size that is known beforehand",
            help=f"{_INSTEAD[node.op_type]}; or make two networks of it: deploycc split",
            verdict="unsupported",
            source=limit.source,
        )
