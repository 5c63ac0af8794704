"""A fully connected layer that is wider than the target takes.

The GPU keeps inputs and outputs of the layer as rows of an image, which have an end.  The layer is nearly
always the one behind a `Flatten` of a whole feature map.

Instead: `nn.AdaptiveAvgPool2d(1)` before the layer and train again, or cut the layer along its inputs and
add the parts: `a(x[:, :k]) + b(x[:, k:])`; in ONNX, `Split`, two `Gemm`s and `Add`.  The sum is taken in
another order, so the result differs by rounding only; pooling first is another network.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.layers import fully_connected
from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC218"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Gemm` or `MatMul` with stored weights above the target's `fc_extent` in one direction."""
    limit = subject.limit("fc_extent")
    if limit is None:
        return
    for layer in fully_connected(subject.view):
        if max(layer.inputs, layer.outputs) > limit.value:
            yield Diagnostic(
                CODE,
                "a fully connected layer is wider than the target takes",
                node=layer.node.name,
                op=layer.node.op_type,
                got=f"{layer.inputs} inputs, {layer.outputs} outputs",
                need=f"at most {limit.value} of each",
                help="pool before the layer, or cut it into layers whose results are added",
                severity="warning",
                verdict="info",
                source=limit.source,
            )
