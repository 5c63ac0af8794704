"""A float network for a part of the chip that computes in integers only.

This unit runs quantised networks.  The converter's quantiser makes one of the float model, for which it
needs inputs to measure ranges on; how good it is depends on them.

Instead: give the quantiser some hundred real inputs (the SDK's input list), or export a network that was
quantised and tested before, in QDQ form (`torch.ao.quantization`, `onnxruntime.quantization`): in ONNX,
`QuantizeLinear` and `DequantizeLinear` around the operators.  Eight bits change results by about one part
in a hundred; compare on real inputs before trusting it.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import counted
from deploycc.types import Diagnostic

CODE = "DC312"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, where the target's `quantised` is `always` (or true) and the graph has no quantisation."""
    limit = subject.limit("quantised")
    if limit is None or limit.value not in (True, "always"):
        return
    nodes = subject.view.model.graph.node
    if any("Quantize" in node.op_type or node.op_type.startswith("QLinear") for node in nodes):
        return
    yield Diagnostic(
        CODE,
        "the network is in float and this unit runs quantised ones only",
        tensor=subject.view.model.graph.input[0].name if subject.view.model.graph.input else "",
        got=f"{counted(len(nodes), 'node')}, none of them QuantizeLinear",
        need="a quantised network, or inputs to calibrate with",
        help="have the converter's quantiser calibrate on real inputs, then compare results",
        severity="info",
        verdict="info",
        source=limit.source,
    )
