"""A fully connected layer on a tensor of more dimensions than its kernel takes.

A product with a stored matrix is converted to the fully connected layer, which takes fewer dimensions than
other operators and fails beyond them; even where it runs, extra dimensions around attention were seen to
cost up to three times the time.

Instead: fold the leading dimensions into one: `linear(x.reshape(-1, k)).reshape(...)`.  In ONNX, `Reshape`
to two dimensions, `Gemm` with `transB=1`, `Reshape` back.  Values stay the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.layers import fully_connected
from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC213"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `MatMul` or `Gemm` with stored weights whose data has more than `fc_max_rank` dimensions."""
    limit = subject.limit("fc_max_rank")
    if limit is None:
        return
    for layer in fully_connected(subject.view):
        if layer.rank > limit.value:
            kind = subject.view.types[layer.node.input[0]]
            yield Diagnostic(
                CODE,
                f"a fully connected layer reads a tensor of {layer.rank} dimensions",
                node=layer.node.name,
                op=layer.node.op_type,
                tensor=layer.node.input[0],
                got=f"rank {layer.rank} ({shape_text(kind.shape)})",
                need=f"rank {limit.value} or less",
                help="reshape to two dimensions before the product and back behind it",
                verdict="unsupported",
                source=limit.source,
            )
