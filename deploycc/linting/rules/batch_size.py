"""A batch larger than the target takes.

Quantised networks on this target run one sample at a time.  The converter refuses other batches, or the
runtime does when it loads the network.

Instead: export with batch 1 (`torch.onnx.export(model, torch.randn(1, 3, 224, 224), ...)`) and call the
network once for each sample; in ONNX set the first extent to 1 and infer shapes again.  Each sample's
result stays the same, unless the network mixes samples.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC211"

_IMAGE_RANKS = (4, 5)
"""Of images the first extent is the batch; of a state or a sequence it need not be."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every graph input of rank 4 or 5 whose first extent is above the target's `batch`.

    Silent where all operators are among `any_batch_operators`; a warning where the unit runs float
    networks as well (`quantised` is `either`).
    """
    limit = subject.limit("batch")
    if limit is None:
        return
    view = subject.view
    free = subject.limit("any_batch_operators")
    if free is not None and {node.op_type for node in view.model.graph.node} <= set(free.value):
        return
    quantised = subject.limit("quantised")
    # A unit that runs float networks as well takes other batches of those.
    sure = quantised is None or quantised.value != "either"
    for info in view.model.graph.input:
        kind = view.types.get(info.name)
        if kind is None or kind.shape is None or len(kind.shape) not in _IMAGE_RANKS:
            continue
        batch = kind.shape[0]
        if batch is not None and batch > limit.value:
            one = shape_text((limit.value, *kind.shape[1:]))
            yield Diagnostic(
                CODE,
                f"input '{info.name}' has a batch of {batch}"
                + ("" if sure else ", which a quantised network must not have"),
                tensor=info.name,
                got=shape_text(kind.shape),
                need=one,
                help=f"export with batch {limit.value} and call the network for each sample",
                severity="error" if sure else "warning",
                verdict="unsupported" if sure else "info",
                source=limit.source,
            )
