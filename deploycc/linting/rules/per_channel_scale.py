"""Scales for each channel where the target takes one for the whole tensor.

Weights of convolutions may have a scale for each output channel.  Elsewhere, and on activations, the target
has one scale for a tensor; it refuses others or quantises again with one scale, and loses accuracy that the
float model does not show.

Instead: quantise those tensors per tensor: `per_channel=False` in `onnxruntime.quantization`, or
`nodes_to_exclude`; in PyTorch a `QConfig` with `per_tensor_symmetric` weights for these modules.  In ONNX
the scale of `DequantizeLinear` is then a scalar.  The values change by rounding of the coarser scale, so
the network must be calibrated and compared again.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.costs import extents
from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC311"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every (de)quantisation with several scales, unless of stored weights of `per_channel_operators`."""
    limit = subject.limit("per_channel_operators")
    if limit is None:
        return
    view = subject.view
    for node in view.model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.domain:
            continue
        scale = extents(node.input[1], view)
        count = scale[0] if scale and len(scale) == 1 else 1
        if count < 2:
            continue
        readers = {reader.op_type for reader in view.consumers.get(node.output[0], ())}
        if view.is_constant(node.input[0]) and readers <= set(limit.value):
            continue
        what = (
            "weights of " + ", ".join(sorted(readers)) if view.is_constant(node.input[0]) else "activations"
        )
        yield Diagnostic(
            CODE,
            f"{what} have a scale for each channel",
            node=node.name,
            op=node.op_type,
            tensor=node.input[0],
            got=f"{count} scales",
            need=f"one scale; several only for weights of {', '.join(limit.value)}",
            help="quantise this tensor per tensor",
            severity="warning",
            verdict="info",
            source=limit.source,
        )
